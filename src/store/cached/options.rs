//! [`CacheOptions`]: how much a [`Cached`](super::Cached) keeps, and for how long.

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

/// How much a [`Cached`] keeps, and for how long.
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

/// The default number of bytes for one key, which is enough for most.
const BYTES_OF_A_KEY: usize = 1024;

/// After this long a cached answer that gives access is looked up again. Nothing depends on this if every change is
/// in the log.
const OPEN_FOR: Duration = Duration::from_secs(600);
/// The same for a cached answer that gives no access.
const CLOSED_FOR: Duration = Duration::from_secs(5);

impl CacheOptions {
    /// The defaults: a lease of two seconds, 100,000 keys of 1 KiB each, as many account statuses, and 8192
    /// negative answers of each.
    #[must_use]
    pub fn new() -> Self {
        let (lease, keys, misses) = (Duration::from_secs(2), 100_000, 8192);
        Self { lease, keys, bytes: None, misses, clock: Arc::new(SystemClock) }
    }

    /// Sets how long answers may come from memory after the log was last read. This is also the longest time that a
    /// change waits, once, for a node that is gone, and the time after which a node that cannot reach its database
    /// stops using the cache. The log is read four times per lease, and when the store hints at new changes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Lease`] if it is less than 100 milliseconds or more than a minute.
    pub fn lease(mut self, lease: Duration) -> Result<Self, ConfigError> {
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&lease) {
            return Err(ConfigError::Lease);
        }
        self.lease = lease;
        Ok(self)
    }

    /// Sets how many keys are cached, and how many account statuses in addition. If there are more, those that were
    /// not used recently are evicted first.
    #[must_use]
    pub fn keys(mut self, keys: NonZeroUsize) -> Self {
        let keys = keys.get();
        self.keys = keys;
        self
    }

    /// Sets how many bytes of memory the cached keys may take, and the account statuses in addition. The default is
    /// 1 KiB for each of the [keys](Self::keys). A typical key takes two thirds of that, a key with very many
    /// restrictions some thirty times as much. If it is more, keys that were not used recently are evicted first.
    #[must_use]
    pub fn bytes(mut self, bytes: NonZeroUsize) -> Self {
        let bytes = bytes.get();
        self.bytes = Some(bytes);
        self
    }

    /// Sets how many negative answers are cached in addition, for up to five seconds: unknown keys, and account
    /// statuses that give no access. A client that tries random keys can fill only this part.
    #[must_use]
    pub fn misses(mut self, misses: NonZeroUsize) -> Self {
        let misses = misses.get();
        self.misses = misses;
        self
    }

    /// Sets the wall clock. It ends a lease in addition to the monotonic clock, which may stop while the machine is
    /// suspended. The default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Starts to follow the log of `store`; see [`Cached::start`].
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
    /// Starts to follow the log of `store`. Until it has caught up, a few milliseconds later, the store is asked at
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
