//! Rate limits of many keys.

use std::cmp::Reverse;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};

use super::gcra::{FullAt, Missing, Rate, Taken, Ticks};
use super::shards::{Shards, Spent};
use super::{Limit, Limits, RateLimitStatus};
use crate::clock::Timestamp;

/// Of one family. There are more only where its limits were changed very often.
const MOST_BUCKETS: usize = 32;

/// Counts what keys spend. It is no cache: what is forgotten here is given back.
///
/// `K` is whatever shares one account of limits: a key's id, or the id of a whole family of rotated keys. Never the
/// secret.
///
/// ```
/// use tower_api_key::limit::{Limiter, Limits};
/// use tower_api_key::Timestamp;
///
/// let (limiter, limits) = (Limiter::new(10_000), "2/min".parse::<Limits>()?);
/// let now = Timestamp::from_secs(0);
/// assert!(limiter.take(&"family", &limits, now).is_allowed());
/// assert!(limiter.take(&"family", &limits, now).is_allowed());
/// let refused = limiter.take(&"family", &limits, now);
/// assert_eq!(refused.retry_after().unwrap().as_secs(), 30);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// # Bounds
///
/// It remembers as many as its capacity says, each until its buckets are full again. Beyond that, what is forgotten is given
/// back, so it goes in this order: first those that have [ended](Self::end); then those that have spent less than half of
/// each of their limits; then the others. Within each, those go first that have spent the fewest requests, and of these the
/// ones that would be remembered longest. So whoever wants others forgotten must spend as much as they have, with as many
/// keys as it holds: let it hold as many as there are active keys.
pub struct Limiter<K> {
    accounts: Shards<K, Account>,
    /// Whether anything was ever counted: where no key has limits, nobody asks the accounts.
    used: AtomicBool,
}

/// What one key has spent.
#[derive(Default)]
struct Account {
    buckets: Vec<Bucket>,
    ended: bool,
}

/// By its period: a limit that is raised or lowered keeps what was spent.
struct Bucket {
    window: u32,
    /// As many as it held when it was last used.
    count: u32,
    full_at: FullAt,
}

/// In which order accounts are forgotten: see [`Limiter`].
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    in_use: bool,
    missing: Missing,
    soonest: Reverse<FullAt>,
}

impl Spent for Account {
    type Rank = Rank;

    fn gone_at(&self) -> FullAt {
        self.buckets.iter().map(|bucket| bucket.full_at).max().unwrap_or_default()
    }

    fn rank(&self, now: Ticks) -> Rank {
        let missing = |bucket: &Bucket| Rate::new(bucket.count, bucket.window).spent(bucket.full_at, now);
        Rank {
            in_use: !self.ended,
            missing: self.buckets.iter().map(missing).max().unwrap_or_default(),
            soonest: Reverse(self.gone_at()),
        }
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// With room for this many keys.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { accounts: Shards::new(capacity), used: AtomicBool::new(false) }
    }

    /// Counts one request by all limits, or by none if one of them refuses.
    pub fn take(&self, key: &K, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.accounts.update(key, now, |account| account.take(limits, now))
    }

    /// What [`take`](Self::take) would say, without counting.
    pub fn peek(&self, key: &K, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        let kept = self.accounts.read(key, |account| account.tally(limits, now));
        kept.unwrap_or_else(|| Account::default().tally(limits, now))
    }

    /// Whether anything was ever counted.
    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// This key has ended, and all of its family: what was spent is forgotten before all else when there is no room. If one of
    /// them is used again, that is taken back.
    pub fn end(&self, key: &K) {
        self.accounts.change(key, |account| account.ended = true);
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Account {
    fn take(&mut self, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        self.ended = false;
        let strictest = self.tally(limits, now);
        if strictest.is_allowed() {
            for limit in limits.iter() {
                if let Taken::Allowed { bucket, .. } = limit.0.rate.take(self.bucket(limit), now) {
                    self.put(limit, bucket);
                }
            }
            // Keys of one family may have different limits: each keeps what the others have spent.
            let now = Ticks::at(now);
            self.buckets.retain(|bucket| bucket.full_at.0 > now);
            if self.buckets.len() > MOST_BUCKETS {
                self.buckets.retain(|bucket| limits.iter().any(|limit| limit.0.window == bucket.window));
            }
        }
        strictest
    }

    fn tally(&self, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        let tally = |limit: &Limit| RateLimitStatus::of(limit, limit.0.rate.take(self.bucket(limit), now));
        let stricter = |one: RateLimitStatus, other: RateLimitStatus| {
            if one.strictness() < other.strictness() { other } else { one }
        };
        limits.rest.iter().map(tally).fold(tally(&limits.first), stricter)
    }

    fn bucket(&self, limit: &Limit) -> FullAt {
        let found = self.buckets.iter().find(|bucket| bucket.window == limit.0.window);
        found.map(|bucket| bucket.full_at).unwrap_or_default()
    }

    fn put(&mut self, limit: &Limit, full_at: FullAt) {
        let used = Bucket { window: limit.0.window, count: limit.0.count, full_at };
        match self.buckets.iter_mut().find(|bucket| bucket.window == used.window) {
            Some(bucket) => *bucket = used,
            None => self.buckets.push(used),
        }
    }
}

impl<K> fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}
