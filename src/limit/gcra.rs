//! The arithmetic of one rate-limit bucket: the generic cell rate algorithm (GCRA).

use std::time::Duration;

use crate::clock::Timestamp;

/// A point or a span in time, in units of 2^-32 microseconds: precise enough that a bucket of 10^9 per second loses no
/// request to rounding. 128 bits hold every timestamp and every sum here; the arithmetic saturates nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(i128);

const TICKS_PER_MICRO: i128 = 1 << 32;

impl Ticks {
    pub(super) const ZERO: Self = Self(0);

    pub(super) fn at(time: Timestamp) -> Self {
        Self(i128::from(time.as_micros()).saturating_mul(TICKS_PER_MICRO))
    }

    pub(super) fn of_secs(secs: u32) -> Self {
        Self(i128::from(secs).saturating_mul(1_000_000).saturating_mul(TICKS_PER_MICRO))
    }

    pub(super) fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor.into()))
    }

    /// Rounds up, so that a client that waits this long is not too early.
    fn duration(self) -> Duration {
        let micros = self.0.max(0).saturating_add(TICKS_PER_MICRO - 1) / TICKS_PER_MICRO;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// When a bucket will be full again. This is all that is stored of a bucket; the earliest time means a full bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FullAt(pub(super) Ticks);

impl Default for FullAt {
    fn default() -> Self {
        Self(Ticks(i128::MIN))
    }
}

/// How large a bucket is and how fast it refills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// The time to refill one request.
    one: Ticks,
    /// The time to refill the whole bucket.
    all: Ticks,
}

/// The result of taking one request from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Allowed { bucket: FullAt, remaining: u32, reset: Duration },
    Refused { wait: Duration, reset: Duration },
}

/// What was spent of a bucket and is not refilled yet. It is ordered by how much forgetting it would give back: first
/// whether it is more than half of the bucket, then how many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    most: bool,
    count: u32,
}

impl Rate {
    pub(super) fn new(count: u32, window_secs: u32) -> Self {
        // `one` is rounded down by less than a tick, and `all` is a multiple of it, so that the bucket holds
        // exactly `count`.
        let one = Ticks((Ticks::of_secs(window_secs).0 / i128::from(count.max(1))).max(1));
        Self { one, all: one.times(count) }
    }

    /// Takes one request from the bucket, if one is left.
    pub(super) fn take(&self, bucket: FullAt, now: Timestamp) -> Taken {
        let now = Ticks::at(now);
        let start = self.clamped(bucket, now, Ticks::ZERO);
        let (after, latest) = (start.plus(self.one), now.plus(self.all));
        if after > latest {
            return Taken::Refused {
                wait: after.minus(latest).duration(),
                reset: start.minus(now).duration(),
            };
        }
        let remaining = latest.minus(after).0 / self.one.0.max(1);
        Taken::Allowed {
            bucket: FullAt(after),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: after.minus(now).duration(),
        }
    }

    /// Takes one request from the bucket even if it is empty. The bucket then owes, up to `owed` times its size.
    pub(super) fn force(&self, bucket: FullAt, now: Timestamp, owed: u32) -> FullAt {
        let now = Ticks::at(now);
        let debt = self.all.times(owed);
        let after = self.clamped(bucket, now, debt).plus(self.one);
        FullAt(after.min(now.plus(self.all).plus(debt)))
    }

    /// How long until the bucket holds a request; `None` if it does now.
    pub(super) fn wait(&self, bucket: FullAt, now: Timestamp, owed: u32) -> Option<Duration> {
        let now = Ticks::at(now);
        let after = self.clamped(bucket, now, self.all.times(owed)).plus(self.one);
        let latest = now.plus(self.all);
        (after > latest).then(|| after.minus(latest).duration())
    }

    /// How many requests are missing from the bucket, and whether that is more than half of it.
    pub(super) fn spent(&self, bucket: FullAt, now: Ticks) -> Missing {
        let missing = self.clamped(bucket, now, Ticks::ZERO).minus(now);
        let count = missing.0.saturating_add(self.one.0 - 1) / self.one.0.max(1);
        Missing { most: missing.times(2) >= self.all, count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// The time until the bucket is full, counted from now. After the clock has jumped back, the stored time may
    /// lie too far ahead, so it is limited to that of the emptiest possible bucket.
    fn clamped(&self, bucket: FullAt, now: Ticks, debt: Ticks) -> Ticks {
        bucket.0.max(now).min(now.plus(self.all).plus(debt))
    }
}
