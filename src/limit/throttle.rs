//! [`Throttle`]: slows down failed attempts, such as sign-ins, by client address.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Limit;
use super::client::Client;
use super::gcra::{FullAt, Ticks};
use super::shards::{Evictable, Shards};
use crate::clock::Timestamp;

/// How many clients are remembered by default.
const CAPACITY: usize = 65_536;
/// How many full buckets a client may owe, so that many failures at the same time all count.
const OWED: u32 = 10;

/// Slows down clients whose attempts fail. It counts by the client's address and never by account, so that nobody can
/// lock an account from elsewhere (C7-09). All clients behind one address are slowed down together. Use it against
/// guessing of passwords and other secrets that people choose; for keys there is [`KeyThrottle`](super::KeyThrottle).
///
/// A client is an IPv4 address or an IPv6 /64, because the holder of one address in a /64 usually holds all of them.
///
/// Call [`retry_after`](Self::retry_after) before each attempt, and [`failed`](Self::failed) after each failure.
/// Successes cost nothing. Attempts that run at the same time may exceed the limit, but each failure counts, so the
/// limit holds in the long run.
///
/// ```
/// use tower_api_key::limit::Throttle;
/// use tower_api_key::Timestamp;
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
/// 65,536 clients are remembered by default (see [`with_capacity`](Self::with_capacity)). Beyond that, the clients with
/// the fewest failures are evicted first.
pub struct Throttle {
    limit: Limit,
    clients: Shards<Client, FullAt>,
}

/// All clients have the same limit, so the client that has spent most is the last to have a full bucket again.
impl Evictable for FullAt {
    type Rank = Self;

    fn expires_at(&self) -> FullAt {
        *self
    }

    fn rank(&self, _: Ticks) -> Self {
        *self
    }
}

impl Throttle {
    /// Allows each client as many failures as `limit` says.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self::with_capacity(limit, CAPACITY)
    }

    /// Like [`new`](Self::new), with room for this many clients.
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

    /// Counts a failed attempt of this client.
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

/// Allows ten failures a second, and fifty at once: `50/5s`.
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
