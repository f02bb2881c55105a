//! [`KeyThrottle`]: slows down clients that send wrong keys, by client address and key.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::client::Client;
use super::gcra::{FullAt, Ticks};
use super::shards::{Evictable, Shards};
use super::{Limit, Throttle};
use crate::clock::Timestamp;
use crate::key::KeyDigest;

/// How many wrong keys are remembered, each together with the client that sent it.
const WRONG_KEYS: usize = 65_536;
/// For this many seconds after its last look-up, a wrong key counts as a repeat and not as a new key.
const REPEAT_SECS: u32 = 60;
/// How many accepted keys are remembered, and for how many seconds.
const ACCEPTED: usize = 65_536;
const ACCEPTED_SECS: u32 = 3600;
/// How many full buckets a wrong key may owe for attempts that ran at the same time.
const OWED: u32 = 1;

/// Throttles clients that send wrong keys, without slowing down others (C7-09).
///
/// ```
/// use tower_api_key::limit::KeyThrottle;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::Verifier;
///
/// let throttle = KeyThrottle::default().repeats("10/min".parse()?).lookups("50/5s".parse()?);
/// let verifier = Verifier::new(MemoryStore::new()).throttle(throttle);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// A wrong key has the right shape but is refused with 401: it is unknown, revoked, expired, of the other
/// environment, of a disabled owner, or bound to other schemes. Failures are counted by the client's address, as
/// [`ApiKeyAuth::client_addr`](crate::ApiKeyAuth::client_addr) finds it; an IPv6 client is a /64.
///
/// - Repeats of one wrong key from one client are counted for that key alone: beyond [`repeats`](Self::repeats) it gets
///   429, and no other key does. This is typically a program that still uses an old key.
/// - Different wrong keys from one client share a budget of [`lookups`](Self::lookups): beyond it, keys that this
///   process has not accepted recently get 429 before the store is asked. This is typically somebody who guesses
///   keys.
///
/// Keys that this process accepted within the last hour (up to 65,536) are always looked up. If such a key is wrong
/// by now, it is refused and counted like any other. A good key that the store has
/// [cached](crate::store::KeyStore::find_cached) is always looked up too. All wrong keys are counted alike, so a 429 does
/// not tell which of them exist.
///
/// # What remains
///
/// There is one case in which other clients' failures cause a good key to be refused: this process has not accepted
/// the key within the last hour, the store must be asked about it, and new wrong keys come from the same address
/// faster than the budget allows. After a start, this is true of every key until its first use. If many clients
/// share an address, or all do because the proxy before them is not [listed](crate::client_addr), allow more
/// look-ups.
///
/// A client whose address is unknown is neither slowed down nor counted.
///
/// # Bounds
///
/// At most 65,536 wrong keys, 65,536 clients and 65,536 accepted keys are remembered, in about 25 MB. Beyond that,
/// wrong keys and clients with the fewest failures are evicted first, and the accepted keys that were used longest
/// ago.
pub struct KeyThrottle {
    repeats: Limit,
    wrong: Shards<(Client, [u8; 32]), WrongKey>,
    lookups: Throttle,
    self_revokes: Throttle,
    accepted: Shards<[u8; 32], FullAt>,
}

/// A wrong key of one client.
#[derive(Default)]
struct WrongKey {
    repeats: FullAt,
    /// Until when the next attempt counts as a repeat, however fast the bucket refills.
    until: FullAt,
}

impl WrongKey {
    /// Whether the entry is still valid at `now`, so that the key counts as a repeat.
    fn is_repeat(&self, now: Ticks) -> bool {
        now < self.expires_at().0
    }
}

impl Evictable for WrongKey {
    type Rank = (FullAt, FullAt);

    fn expires_at(&self) -> FullAt {
        self.repeats.max(self.until)
    }

    fn rank(&self, _: Ticks) -> (FullAt, FullAt) {
        (self.repeats, self.until)
    }
}

/// Why a key is not looked up, and how long the client must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// This key was wrong too often.
    Key(Duration),
    /// The same client sent too many other wrong keys.
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
    /// Sets how often one client may send the same wrong key; the default is `10/min`.
    #[must_use]
    pub fn repeats(mut self, limit: Limit) -> Self {
        self.repeats = limit;
        self
    }

    /// Sets how many different wrong keys one client may send; the default is `50/5s`: ten a second, and fifty at once.
    #[must_use]
    pub fn lookups(mut self, limit: Limit) -> Self {
        self.lookups = Throttle::new(limit);
        self
    }

    /// Sets how many keys, right or wrong, one client may send to the route by which a key revokes itself
    /// (`self_revoke` of `tower-api-key-manage`, by
    /// [`Keyring::revoke_by_secret`](crate::Keyring::revoke_by_secret)); the default is `50/5s`. Recently accepted
    /// keys are not counted, so a key in use can be revoked whatever else comes from its address.
    #[must_use]
    pub fn self_revokes(mut self, limit: Limit) -> Self {
        self.self_revokes = Throttle::new(limit);
        self
    }

    /// Whether this process has accepted the key recently.
    pub(crate) fn was_accepted(&self, key: &KeyDigest, now: Timestamp) -> bool {
        let now = Ticks::at(now);
        // The clock may have jumped back: an entry is never valid for longer than `ACCEPTED_SECS` from now.
        let latest = now.plus(Ticks::of_secs(ACCEPTED_SECS));
        self.accepted.read(key.as_bytes(), |until| now < until.0 && until.0 <= latest).unwrap_or(false)
    }

    /// Why the store is not asked about this key; `None` if it may be asked.
    pub(crate) fn throttled(&self, client: IpAddr, key: &KeyDigest, now: Timestamp) -> Option<Throttled> {
        let known = |wrong: &WrongKey| {
            wrong
                .is_repeat(Ticks::at(now))
                .then(|| self.repeats.0.rate.wait(wrong.repeats, now, OWED).map(Throttled::Key))
        };
        match self.wrong.read(&(client.into(), *key.as_bytes()), known).flatten() {
            Some(of_key) => of_key,
            None => self.lookups.retry_after(client, now).map(Throttled::Client),
        }
    }

    /// Records that a key was wrong: it no longer counts as recently accepted.
    pub(crate) fn is_wrong(&self, key: &KeyDigest) {
        self.accepted.forget(key.as_bytes());
    }

    /// Counts a wrong key of this client.
    pub(crate) fn refused(&self, client: IpAddr, key: &KeyDigest, now: Timestamp) {
        let is_new = self.wrong.update(&(client.into(), *key.as_bytes()), now, |wrong| {
            let ticks = Ticks::at(now);
            let is_new = !wrong.is_repeat(ticks);
            wrong.repeats = self.repeats.0.rate.force(wrong.repeats, now, OWED);
            wrong.until = FullAt(ticks.plus(Ticks::of_secs(REPEAT_SECS)));
            is_new
        });
        if is_new {
            self.lookups.failed(client, now);
        }
    }

    /// Records that a key was looked up and its request accepted.
    pub(crate) fn accepted(&self, key: &KeyDigest, now: Timestamp) {
        let until = FullAt(Ticks::at(now).plus(Ticks::of_secs(ACCEPTED_SECS)));
        self.accepted.update(key.as_bytes(), now, |kept| *kept = until);
    }

    /// Checks whether a client may revoke this key by its secret, and counts it; returns how long the client must
    /// wait if not. It counts right and wrong keys alike: if only failures counted, the answers would tell known
    /// keys from unknown.
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

    /// The size in bytes of an entry of each kind.
    #[cfg(test)]
    pub(super) const SIZES: [usize; 4] = [
        size_of::<((Client, [u8; 32]), WrongKey)>(),
        size_of::<(Client, FullAt)>(),
        size_of::<(Client, FullAt)>(),
        size_of::<([u8; 32], FullAt)>(),
    ];

    /// How many wrong keys, clients and accepted keys are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize, usize) {
        (self.wrong.len(), self.lookups.len(), self.accepted.len())
    }
}

impl Default for KeyThrottle {
    fn default() -> Self {
        Self {
            repeats: Limit::built_in("10/min", 10, 60, r#""10/min";q=10;w=60"#),
            wrong: Shards::new(WRONG_KEYS),
            lookups: Throttle::default(),
            self_revokes: Throttle::default(),
            accepted: Shards::new(ACCEPTED),
        }
    }
}

/// Uses this limit for [repeats](KeyThrottle::repeats), and the default for everything else.
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
