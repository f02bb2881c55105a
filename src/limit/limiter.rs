//! Rate limits of many keys.

use std::fmt;
use std::hash::Hash;

use super::bucket::{FullAt, Taken, Ticks};
use super::shards::{Shards, Spent};
use super::{Limit, Limits, Tally};
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
/// It remembers as many as its capacity says, each until its buckets are full again. Beyond that, those who have spent
/// least are forgotten first: so let it hold as many as there are active keys.
pub struct Limiter<K> {
    accounts: Shards<K, Account>,
}

/// The buckets of one key, by their period: a limit that is raised or lowered keeps what was spent.
#[derive(Default)]
struct Account(Vec<(u32, FullAt)>);

impl Spent for Account {
    fn gone_at(&self) -> FullAt {
        self.0.iter().map(|(_, bucket)| *bucket).max().unwrap_or_default()
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// With room for this many keys.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { accounts: Shards::new(capacity) }
    }

    /// Counts one request by all limits, or by none if one of them refuses.
    pub fn take(&self, key: &K, limits: &Limits, now: Timestamp) -> Tally {
        self.accounts.update(key, now, |account| account.take(limits, now))
    }

    /// What [`take`](Self::take) would say, without counting.
    pub fn peek(&self, key: &K, limits: &Limits, now: Timestamp) -> Tally {
        let kept = self.accounts.read(key, |account| account.tally(limits, now));
        kept.unwrap_or_else(|| Account::default().tally(limits, now))
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
    fn take(&mut self, limits: &Limits, now: Timestamp) -> Tally {
        let strictest = self.tally(limits, now);
        if strictest.is_allowed() {
            for limit in limits.iter() {
                if let Taken::Allowed { bucket, .. } = limit.0.rate.take(self.bucket(limit), now) {
                    self.put(limit, bucket);
                }
            }
            // Keys of one family may have different limits: each keeps what the others have spent.
            let now = Ticks::at(now);
            self.0.retain(|(_, bucket)| bucket.0 > now);
            if self.0.len() > MOST_BUCKETS {
                self.0.retain(|(window, _)| limits.iter().any(|limit| limit.0.window == *window));
            }
        }
        strictest
    }

    fn tally(&self, limits: &Limits, now: Timestamp) -> Tally {
        let tally = |limit: &Limit| Tally::of(limit, limit.0.rate.take(self.bucket(limit), now));
        let stricter =
            |one: Tally, other: Tally| if one.strictness() < other.strictness() { other } else { one };
        limits.rest.iter().map(tally).fold(tally(&limits.first), stricter)
    }

    fn bucket(&self, limit: &Limit) -> FullAt {
        let found = self.0.iter().find(|(window, _)| *window == limit.0.window);
        found.map(|(_, bucket)| *bucket).unwrap_or_default()
    }

    fn put(&mut self, limit: &Limit, bucket: FullAt) {
        match self.0.iter_mut().find(|(window, _)| *window == limit.0.window) {
            Some((_, place)) => *place = bucket,
            None => self.0.push((limit.0.window, bucket)),
        }
    }
}

impl<K> fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}
