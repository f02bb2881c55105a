//! A brake on failed attempts, by the client's address.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Limit;
use super::client::Client;
use super::gcra::{FullAt, Ticks};
use super::shards::{Shards, Spent};
use crate::clock::Timestamp;

/// How many clients are remembered, unless told otherwise.
const CAPACITY: usize = 65_536;
/// How many full buckets a client may owe: those who fail many times at once pay for all of it.
const OWED: u32 = 10;

/// Slows down those whose attempts fail: by the client's address, never by account, so that nobody can lock an account
/// out from elsewhere (C7-09). All behind one address are slowed down together: it is for guesses of what people choose,
/// such as passwords. For keys there is [`KeyThrottle`](super::KeyThrottle).
///
/// An IPv4 client is an address, an IPv6 client a /64: whoever has one address of it has all.
///
/// Ask [`retry_after`](Self::retry_after) before an attempt is looked at, and tell [`failed`](Self::failed) of each that
/// was refused. Successes cost nothing. Between question and answer a client may
/// start as many attempts as fit; each failure counts, even beyond the limit, so that in the long run the limit holds.
///
/// ```
/// use tower_api_key::Timestamp;
/// use tower_api_key::limit::Throttle;
///
/// let throttle = Throttle::new("10/min".parse()?);
/// let (client, now) = ("192.0.2.7".parse().unwrap(), Timestamp::from_secs(0));
/// for _ in 0..10 {
///     assert_eq!(throttle.retry_after(client, now), None);
///     throttle.failed(client, now);
/// }
/// assert_eq!(throttle.retry_after(client, now).unwrap().as_secs(), 6);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// # Bounds
///
/// 65536 clients are remembered, unless [told otherwise](Self::with_capacity). When more fail, those who failed least
/// are forgotten first.
pub struct Throttle {
    limit: Limit,
    clients: Shards<Client, FullAt>,
}

/// Where all have one limit, who has spent most of it is the last to have a full bucket again.
impl Spent for FullAt {
    type Rank = Self;

    fn gone_at(&self) -> FullAt {
        *self
    }

    fn rank(&self, _: Ticks) -> Self {
        *self
    }
}

impl Throttle {
    /// Lets each client fail as often as `limit` says.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self::with_capacity(limit, CAPACITY)
    }

    /// The same, remembering this many clients.
    #[must_use]
    pub fn with_capacity(limit: Limit, capacity: usize) -> Self {
        Self { limit, clients: Shards::new(capacity) }
    }

    /// How long this client must wait; `None` if it may try now.
    #[must_use]
    pub fn retry_after(&self, client: IpAddr, now: Timestamp) -> Option<Duration> {
        let wait = |bucket: &FullAt| self.limit.0.rate.wait(*bucket, now, OWED);
        self.clients.read(&client.into(), wait).flatten()
    }

    /// An attempt of this client has failed.
    pub fn failed(&self, client: IpAddr, now: Timestamp) {
        self.clients.update(&client.into(), now, |bucket| {
            *bucket = self.limit.0.rate.force(*bucket, now, OWED);
        });
    }

    /// How many clients are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether no client is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Ten failures a second, and fifty at once: `50/5s`.
impl Default for Throttle {
    fn default() -> Self {
        Self::new(Limit::failures())
    }
}

impl From<Limit> for Throttle {
    fn from(limit: Limit) -> Self {
        Self::new(limit)
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("limit", &self.limit).finish_non_exhaustive()
    }
}
