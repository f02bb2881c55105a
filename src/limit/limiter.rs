//! [`Limiter`]: counts the requests of many keys against their rate limits.

use std::cmp::Reverse;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};

use super::gcra::{FullAt, Missing, Rate, Taken, Ticks};
use super::shards::{Evictable, Shards};
use super::{Limit, Limits, RateLimitStatus};
use crate::clock::Timestamp;

/// The largest number of buckets for one family. More would appear only if its limits were changed very often.
const MOST_BUCKETS: usize = 32;

/// Counts what keys spend of their rate limits. Evicting an entry is not neutral: the key gets a full budget back.
///
/// `K` identifies the keys that are counted together: a key's id, or the id of a family of rotated keys. Never use the
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
/// It remembers up to `capacity` keys, each until its buckets are full again. Beyond that, entries are evicted in
/// this order: first keys that have [ended](Self::end); then keys that have spent less than half of each of their
/// limits; then the others. Within each group, keys that spent the fewest requests go first, and among equals those
/// that would be remembered longest. So an attacker who wants another key's count evicted must spend as much as
/// that key has, with as many keys as the limiter holds. Make the capacity at least the number of active keys.
pub struct Limiter<K> {
    accounts: Shards<K, KeyBuckets>,
    /// Whether anything was ever counted. If no key has limits, the lock is never taken.
    used: AtomicBool,
}

/// What one key, or one family of keys, has spent.
#[derive(Default)]
struct KeyBuckets {
    buckets: Vec<Bucket>,
    ended: bool,
}

/// A bucket is identified by its period, so a limit that is raised or lowered keeps what was spent.
struct Bucket {
    window: u32,
    /// The size of the bucket when it was last used.
    count: u32,
    full_at: FullAt,
}

/// The order in which entries are evicted: see [`Limiter`].
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct EvictionRank {
    in_use: bool,
    missing: Missing,
    soonest: Reverse<FullAt>,
}

impl Evictable for KeyBuckets {
    type Rank = EvictionRank;

    fn expires_at(&self) -> FullAt {
        self.buckets.iter().map(|bucket| bucket.full_at).max().unwrap_or_default()
    }

    fn rank(&self, now: Ticks) -> EvictionRank {
        let missing = |bucket: &Bucket| Rate::new(bucket.count, bucket.window).spent(bucket.full_at, now);
        EvictionRank {
            in_use: !self.ended,
            missing: self.buckets.iter().map(missing).max().unwrap_or_default(),
            soonest: Reverse(self.expires_at()),
        }
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// Creates a limiter that remembers this many keys.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { accounts: Shards::new(capacity), used: AtomicBool::new(false) }
    }

    /// Counts one request against all limits, or against none if one of them refuses.
    pub fn take(&self, key: &K, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.accounts.update(key, now, |account| account.take(limits, now))
    }

    /// Returns what [`take`](Self::take) would return, without counting.
    pub fn peek(&self, key: &K, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        let kept = self.accounts.read(key, |account| account.tally(limits, now));
        kept.unwrap_or_else(|| KeyBuckets::default().tally(limits, now))
    }

    /// Whether anything was ever counted.
    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Marks this key and its family as ended, so that their entry is evicted first when there is no room. The next
    /// use of one of them removes the mark.
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

impl KeyBuckets {
    fn take(&mut self, limits: &Limits, now: Timestamp) -> RateLimitStatus {
        self.ended = false;
        let strictest = self.tally(limits, now);
        if strictest.is_allowed() {
            for limit in limits.iter() {
                if let Taken::Allowed { bucket, .. } = limit.0.rate.take(self.bucket(limit), now) {
                    self.put(limit, bucket);
                }
            }
            // Keys of one family may have different limits; each keeps what the others have spent.
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
