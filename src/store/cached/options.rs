//! How much a [`Cached`](super::Cached) remembers, and for how long.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::faults::Faults;
use super::follower;
use super::lease::Lease;
use super::memory::Memory;
use super::node::{Cached, Following};
use super::versioned::{CacheLimits, VersionedMap};
use crate::clock::{Clock, SystemClock};
use crate::config_error::ConfigError;
use crate::store::change_log::ChangeLog;
use crate::store::traits::{Directory, KeyStore};

/// How much a [`Cached`] remembers, and for how long it may.
///
/// ```
/// # fn f() -> Result<(), tower_api_key::ConfigError> {
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
///
/// use tower_api_key::store::CacheOptions;
///
/// const KEYS: NonZeroUsize = NonZeroUsize::new(1_000_000).unwrap();
/// let options = CacheOptions::new().lease(Duration::from_secs(1))?.keys(KEYS);
/// // let store = options.start(store);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheOptions {
    lease: Duration,
    keys: usize,
    bytes: Option<usize>,
    misses: usize,
    clock: Arc<dyn Clock>,
}

/// Enough for usual ones.
const BYTES_OF_A_KEY: usize = 1024;

/// What opens something is asked for anew after this long. Nothing depends on it while every change is in the log.
const OPEN_FOR: Duration = Duration::from_secs(600);
/// What opens nothing, after this.
const CLOSED_FOR: Duration = Duration::from_secs(5);

impl CacheOptions {
    /// A lease of two seconds; 100,000 keys, 1 KiB for each of them, and as many standings; 8192 misses of each.
    #[must_use]
    pub fn new() -> Self {
        let (lease, keys, misses) = (Duration::from_secs(2), 100_000, 8192);
        Self { lease, keys, bytes: None, misses, clock: Arc::new(SystemClock) }
    }

    /// How long answers may come from memory after the log was last read. That is what a change waits, at most and once,
    /// for a node that is gone; and how long a node must be without its database to ask it at each request. The log is
    /// read four times as often, or when the store hints that there is news.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Lease`] below 100 milliseconds and above a minute.
    pub fn lease(mut self, lease: Duration) -> Result<Self, ConfigError> {
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&lease) {
            return Err(ConfigError::Lease);
        }
        self.lease = lease;
        Ok(self)
    }

    /// How many keys are remembered, and how many standings of owners beside them. When there are more, those that were
    /// not asked for lately go first.
    #[must_use]
    pub fn keys(mut self, keys: NonZeroUsize) -> Self {
        let keys = keys.get();
        self.keys = keys;
        self
    }

    /// How many bytes of memory the remembered keys may take, and the standings beside them; by default 1 KiB for each of the
    /// [keys](Self::keys). A usual key takes two thirds of that, one with very many restrictions some thirty times as much.
    /// When it is more, keys that were not asked for lately go first.
    #[must_use]
    pub fn bytes(mut self, bytes: NonZeroUsize) -> Self {
        let bytes = bytes.get();
        self.bytes = Some(bytes);
        self
    }

    /// How many unknown keys, and standings that open nothing, are remembered beside them, for up to five seconds.
    /// Whoever tries keys at random fills this, and nothing else.
    #[must_use]
    pub fn misses(mut self, misses: NonZeroUsize) -> Self {
        let misses = misses.get();
        self.misses = misses;
        self
    }

    /// The wall clock that ends a lease beside the monotonic one, which stands still while a machine is suspended. The
    /// default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Begins to follow the log of `store`; see [`Cached::start`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start<S: KeyStore + Directory + ChangeLog>(&self, store: S) -> Cached<S> {
        self.start_with(store, Faults::default())
    }

    pub(super) fn start_with<S: KeyStore + Directory + ChangeLog>(
        &self,
        store: S,
        faults: Faults,
    ) -> Cached<S> {
        let room = CacheLimits {
            open: self.keys,
            closed: self.misses,
            bytes: self.bytes.unwrap_or(self.keys.saturating_mul(BYTES_OF_A_KEY)),
            open_for: OPEN_FOR,
            closed_for: CLOSED_FOR,
        };
        let store = Arc::new(store);
        let memory = Arc::new(Memory {
            keys: VersionedMap::new(room, faults.clone()),
            standings: VersionedMap::new(room, faults.clone()),
            lease: Lease::new(Arc::clone(&self.clock), faults.clone()),
            lease_for: self.lease,
            faults,
        });
        let (goes_on, stopped) = watch::channel(());
        let task = tokio::spawn(follower::follow(Arc::clone(&store), Arc::clone(&memory), stopped));
        let following = Following { goes_on: Some(goes_on), task };
        Cached::of(store, memory, following)
    }
}

impl<S: KeyStore + Directory + ChangeLog> Cached<S> {
    /// Begins to follow the log of `store`. Until it has caught up, a few milliseconds later, the store is asked at
    /// every request.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(store: S) -> Self {
        CacheOptions::new().start(store)
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions")
            .field("lease", &self.lease)
            .field("keys", &self.keys)
            .field("bytes", &self.bytes)
            .field("misses", &self.misses)
            .finish_non_exhaustive()
    }
}
