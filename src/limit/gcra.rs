//! The arithmetic of one bucket: the generic cell rate algorithm, on a time line of its own.

use std::time::Duration;

use crate::clock::Timestamp;

/// A point or a span in time, in 2^-32 microseconds: fine enough that a bucket of 10^9 per second loses nothing that
/// could be counted. 128 bits hold every timestamp and every sum of them here with room to spare; it saturates all
/// the same.
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

    /// Rounded up, so that nobody who waits this long comes too early.
    fn duration(self) -> Duration {
        let micros = self.0.max(0).saturating_add(TICKS_PER_MICRO - 1) / TICKS_PER_MICRO;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// When a bucket is full again: all that must be remembered of it. The beginning of time is a full bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FullAt(pub(super) Ticks);

impl Default for FullAt {
    fn default() -> Self {
        Self(Ticks(i128::MIN))
    }
}

/// How large a bucket is, and how fast it fills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// How long it takes to fill in one.
    one: Ticks,
    /// How long it takes to fill in all of them.
    all: Ticks,
}

/// What taking one out of a bucket comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Allowed { bucket: FullAt, remaining: u32, reset: Duration },
    Refused { wait: Duration, reset: Duration },
}

/// What was taken out of a bucket and is not filled in again, in the order of what it would mean to give it back: first
/// whether it is most of the bucket, then how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    most: bool,
    count: u32,
}

impl Rate {
    pub(super) fn new(count: u32, window_secs: u32) -> Self {
        // Rounded down by less than a tick; the bucket is cut to whole ones, so that it holds exactly `count`.
        let one = Ticks((Ticks::of_secs(window_secs).0 / i128::from(count.max(1))).max(1));
        Self { one, all: one.times(count) }
    }

    /// One out of the bucket, if there is one in it.
    pub(super) fn take(&self, bucket: FullAt, now: Timestamp) -> Taken {
        let now = Ticks::at(now);
        let start = self.sane(bucket, now, Ticks::ZERO);
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

    /// One out of the bucket, even if it is empty: it then owes, up to `owed` times what it holds.
    pub(super) fn force(&self, bucket: FullAt, now: Timestamp, owed: u32) -> FullAt {
        let now = Ticks::at(now);
        let debt = self.all.times(owed);
        let after = self.sane(bucket, now, debt).plus(self.one);
        FullAt(after.min(now.plus(self.all).plus(debt)))
    }

    /// How long until there is one in the bucket; `None` if there is.
    pub(super) fn wait(&self, bucket: FullAt, now: Timestamp, owed: u32) -> Option<Duration> {
        let now = Ticks::at(now);
        let after = self.sane(bucket, now, self.all.times(owed)).plus(self.one);
        let latest = now.plus(self.all);
        (after > latest).then(|| after.minus(latest).duration())
    }

    /// How many are missing from the bucket, and whether that is most of what it holds.
    pub(super) fn spent(&self, bucket: FullAt, now: Ticks) -> Missing {
        let missing = self.sane(bucket, now, Ticks::ZERO).minus(now);
        let count = missing.0.saturating_add(self.one.0 - 1) / self.one.0.max(1);
        Missing { most: missing.times(2) >= self.all, count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// When the bucket is full, counted from now on: a full one since now, and none emptier than it can be, as it
    /// would seem after the clock has jumped back.
    fn sane(&self, bucket: FullAt, now: Ticks, debt: Ticks) -> Ticks {
        bucket.0.max(now).min(now.plus(self.all).plus(debt))
    }
}
