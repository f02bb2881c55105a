//! A brake on wrong keys, by the client's address and the key.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::client::Client;
use super::gcra::{FullAt, Ticks};
use super::shards::{Shards, Spent};
use super::{Limit, Throttle};
use crate::clock::Timestamp;
use crate::key::KeyDigest;

/// How many wrong keys are remembered, each with the client that sent it.
const DEAD: usize = 65_536;
/// For so long after a wrong key was last looked up, it is the same one that comes again, and not a new one.
const DEAD_FOR: u32 = 60;
/// How many keys are remembered as accepted, and for how long.
const ACCEPTED: usize = 65_536;
const ACCEPTED_FOR: u32 = 3600;
/// How many full buckets a wrong key may owe for attempts that were under way together.
const OWED: u32 = 1;

/// Slows down those who send wrong keys, and nobody beside them (C7-09).
///
/// ```
/// use tower_api_key::limit::KeyThrottle;
/// use tower_api_key::{MemoryStore, Verifier};
///
/// let throttle = KeyThrottle::default().repeats("10/min".parse()?).lookups("50/5s".parse()?);
/// let verifier = Verifier::new(MemoryStore::new()).throttle(throttle);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// Wrong is a key of the right shape that is refused with 401: unknown, revoked, expired, of the other environment, of a
/// disabled owner, or bound to other schemes. Counted is by the client's address, as
/// [`ApiKeyAuth::client_addr`](crate::ApiKeyAuth::client_addr) finds it; an IPv6 client is a /64.
///
/// - A wrong key that comes again from the same client is counted by itself: beyond [`repeats`](Self::repeats) it gets 429,
///   and no other key does. That is the program that somebody forgot to give the new key.
/// - Different wrong keys of one client have a budget of [`lookups`](Self::lookups): beyond it, keys that this process has
///   not accepted lately get 429 before the store is asked. That is the one who tries keys.
///
/// The keys that this process has accepted within the last hour (65,536 of them) are looked up whatever was counted; they
/// are refused like any other if they are wrong by now, and that is counted then. So is a good key that the store has
/// [at hand](crate::KeyStore::find_cached). All wrong keys are counted alike, so a 429 does not tell which of them exist.
///
/// # What remains
///
/// A good key is refused because of what others do in one case: this process has not accepted it within the last hour, the
/// store must be asked about it, and wrong keys that were not sent before come from the same address faster than the
/// budget allows. After a start that is every key, until its first use. Where many clients share an address, or all do
/// because the proxy before them is not [named](crate::client_addr), allow more look-ups.
///
/// A client whose address is unknown is not slowed down, and slows down nobody.
///
/// # Bounds
///
/// 65,536 wrong keys, as many clients, and as many accepted keys are remembered: some 25 MB when all of that is full, and
/// little else. When there are more, those who failed least go first, and of the accepted keys those that were used
/// longest ago.
pub struct KeyThrottle {
    repeats: Limit,
    dead: Shards<(Client, [u8; 32]), Dead>,
    lookups: Throttle,
    self_revokes: Throttle,
    accepted: Shards<[u8; 32], FullAt>,
}

/// A wrong key of one client.
#[derive(Default)]
struct Dead {
    repeats: FullAt,
    /// Until when it is the same one that comes again, however fast the bucket fills.
    until: FullAt,
}

impl Dead {
    /// Whether it is remembered at `now`: then it is not a new one.
    fn is_same(&self, now: Ticks) -> bool {
        now < self.gone_at().0
    }
}

impl Spent for Dead {
    type Rank = (FullAt, FullAt);

    fn gone_at(&self) -> FullAt {
        self.repeats.max(self.until)
    }

    fn rank(&self, _: Ticks) -> (FullAt, FullAt) {
        (self.repeats, self.until)
    }
}

/// Why a key is not looked up, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// It was wrong too often.
    Key(Duration),
    /// Too many other wrong keys came from the same client.
    Client(Duration),
}

impl Throttled {
    pub(crate) fn wait(self) -> Duration {
        match self {
            Self::Key(wait) | Self::Client(wait) => wait,
        }
    }
}

impl KeyThrottle {
    /// How often the same wrong key may come from one client; the default is `10/min`.
    #[must_use]
    pub fn repeats(mut self, limit: Limit) -> Self {
        self.repeats = limit;
        self
    }

    /// How many different wrong keys may come from one client; the default is `50/5s`: ten a second, and fifty at once.
    #[must_use]
    pub fn lookups(mut self, limit: Limit) -> Self {
        self.lookups = Throttle::new(limit);
        self
    }

    /// How many keys one client may send to the route that ends them by themselves (`self_revoke` of
    /// `tower-api-key-manage`, by [`Keyring::revoke_by_secret`](crate::Keyring::revoke_by_secret)), right or wrong; the default
    /// is `50/5s`. Keys that were accepted lately are not counted: one that is in use can be ended whatever else comes from
    /// its address.
    #[must_use]
    pub fn self_revokes(mut self, limit: Limit) -> Self {
        self.self_revokes = Throttle::new(limit);
        self
    }

    /// Whether this process has accepted the key lately.
    pub(crate) fn was_accepted(&self, key: &KeyDigest, now: Timestamp) -> bool {
        let now = Ticks::at(now);
        // Not beyond what was said: the clock may have jumped back.
        let latest = now.plus(Ticks::of_secs(ACCEPTED_FOR));
        self.accepted.read(key.as_bytes(), |until| now < until.0 && until.0 <= latest).unwrap_or(false)
    }

    /// Why the store is not asked about a key; `None` if it may be.
    pub(crate) fn throttled(&self, client: IpAddr, key: &KeyDigest, now: Timestamp) -> Option<Throttled> {
        let known = |dead: &Dead| {
            dead.is_same(Ticks::at(now))
                .then(|| self.repeats.0.rate.wait(dead.repeats, now, OWED).map(Throttled::Key))
        };
        match self.dead.read(&(client.into(), *key.as_bytes()), known).flatten() {
            Some(of_key) => of_key,
            None => self.lookups.retry_after(client, now).map(Throttled::Client),
        }
    }

    /// A key was wrong: that it was accepted lately counts for nothing any more.
    pub(crate) fn is_wrong(&self, key: &KeyDigest) {
        self.accepted.forget(key.as_bytes());
    }

    /// A key of this client was wrong, and that is counted.
    pub(crate) fn refused(&self, client: IpAddr, key: &KeyDigest, now: Timestamp) {
        let is_new = self.dead.update(&(client.into(), *key.as_bytes()), now, |dead| {
            let ticks = Ticks::at(now);
            let is_new = !dead.is_same(ticks);
            dead.repeats = self.repeats.0.rate.force(dead.repeats, now, OWED);
            dead.until = FullAt(ticks.plus(Ticks::of_secs(DEAD_FOR)));
            is_new
        });
        if is_new {
            self.lookups.failed(client, now);
        }
    }

    /// A key was looked up, and its request let in.
    pub(crate) fn accepted(&self, key: &KeyDigest, now: Timestamp) {
        let until = FullAt(Ticks::at(now).plus(Ticks::of_secs(ACCEPTED_FOR)));
        self.accepted.update(key.as_bytes(), now, |kept| *kept = until);
    }

    /// A key is to be ended by itself: how long its client must wait for that, if it must. If not, it was counted, whatever
    /// will be found: if only failures were, the answers would tell known keys from unknown ones.
    pub(crate) fn self_revoke(&self, client: IpAddr, key: &KeyDigest, now: Timestamp) -> Option<Duration> {
        if self.was_accepted(key, now) {
            return None;
        }
        let wait = self.self_revokes.retry_after(client, now);
        if wait.is_none() {
            self.self_revokes.failed(client, now);
        }
        wait
    }

    /// How many bytes an entry of each kind takes.
    #[cfg(test)]
    pub(super) const SIZES: [usize; 4] = [
        size_of::<((Client, [u8; 32]), Dead)>(),
        size_of::<(Client, FullAt)>(),
        size_of::<(Client, FullAt)>(),
        size_of::<([u8; 32], FullAt)>(),
    ];

    /// How many wrong keys, clients and accepted keys are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize, usize) {
        (self.dead.len(), self.lookups.len(), self.accepted.len())
    }
}

impl Default for KeyThrottle {
    fn default() -> Self {
        Self {
            repeats: Limit::built_in("10/min", 10, 60, r#""10/min";q=10;w=60"#),
            dead: Shards::new(DEAD),
            lookups: Throttle::default(),
            self_revokes: Throttle::default(),
            accepted: Shards::new(ACCEPTED),
        }
    }
}

/// With this limit for [repeats](KeyThrottle::repeats), and the default for all else.
impl From<Limit> for KeyThrottle {
    fn from(repeats: Limit) -> Self {
        Self::default().repeats(repeats)
    }
}

impl fmt::Debug for KeyThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyThrottle")
            .field("repeats", &self.repeats)
            .field("lookups", &self.lookups)
            .field("self_revokes", &self.self_revokes)
            .finish_non_exhaustive()
    }
}
