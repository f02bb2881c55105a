//! Answers from memory in front of a store that several processes share, as true as the store's own.

mod clock_map;
mod faults;
mod follower;
mod lease;
mod single_flight;
#[cfg(test)]
mod tests;
mod versioned;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use self::faults::Faults;
use self::lease::Lease;
use self::versioned::{Room, VersionedMap};
use super::change_log::ChangeLog;
use super::{Directory, KeyStore, Project, StoreError};
use crate::access::Standing;
use crate::clock::{Clock, SystemClock};
use crate::config_error::ConfigError;
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;

/// Remembers what a store answered, and never says what is not true any more.
///
/// ```no_run
/// # #[cfg(feature = "test-util")]
/// # async fn f<S>(store: S) -> Result<(), tower_api_key::ConfigError>
/// # where S: tower_api_key::KeyStore + tower_api_key::Directory + tower_api_key::store::ChangeLog {
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::store::Cached;
/// use tower_api_key::ApiKeyAuth;
///
/// let store = Cached::start(store); // such as PostgresStore
/// let auth = ApiKeyAuth::new(store.clone(), Bearer::default());
/// // ... serve ...
/// store.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # What it promises
///
/// Once a call that revokes, rotates, removes or demotes a member, or tightens a restriction has returned success, no
/// request whose key is evaluated after that is accepted on any node. How, is in
/// [`lease_protocol`](crate::lease_protocol). It keeps what the store says about keys and people, never a decision:
/// expiry, restrictions, environment and limits are judged at every request.
///
/// Without a lease (the database is out of reach, or answers too slowly) it asks the store at every request: what the
/// store says then, an error included, is the answer.
///
/// # Deployment caveat
///
/// A process of it that stops without [`shutdown`](Self::shutdown) holds up the next change, once, by a little more than
/// a [lease](CacheOptions::lease): two seconds, if nothing else is said.
///
/// It must be started in a tokio runtime with its timer on, which then does its work in a task. That ends with the last
/// clone.
pub struct Cached<S> {
    store: Arc<S>,
    memory: Arc<Memory>,
    follower: Arc<Mutex<Option<Following>>>,
}

/// When `goes_on` is dropped, the follower stops.
struct Following {
    goes_on: Option<watch::Sender<()>>,
    task: JoinHandle<()>,
}

/// What is remembered, and until when it may be said.
struct Memory {
    keys: VersionedMap<[u8; 32], Option<Arc<KeyRecord>>>,
    standings: VersionedMap<(UserId, Option<ProjectId>), Standing>,
    lease: Lease,
    lease_for: Duration,
    faults: Faults,
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

impl<S> Cached<S> {
    /// What is behind it.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Whether answers come from memory at this moment.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.memory.lease.is_held()
    }

    /// How many answers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.keys.len() + self.memory.standings.len()
    }

    /// About how many bytes of memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.memory.keys.bytes() + self.memory.standings.bytes()
    }

    /// Whether no answer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops answering from memory, for all clones, and says so to the store, so that no change has to wait for this
    /// node. Requests may go on: the store is asked.
    ///
    /// Of several that call it, each returns when that is done. A call that is dropped has begun it all the same.
    pub async fn shutdown(&self) {
        let mut follower = self.follower.lock().await;
        let Some(following) = &mut *follower else { return };
        following.goes_on = None;
        // It ends the lease before it leaves. If its runtime has ended, it has not, and nobody grants another one.
        if (&mut following.task).await.is_err() {
            self.memory.lease.end();
        }
        *follower = None;
    }
}

impl<S> Clone for Cached<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            memory: Arc::clone(&self.memory),
            follower: Arc::clone(&self.follower),
        }
    }
}

impl<S> fmt::Debug for Cached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("lease", &self.memory.lease).finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: KeyStore> KeyStore for Cached<S> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.memory.keys.get(&self.memory.lease, digest, async || self.store.find(digest).await).await
    }

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        self.store.warm(digest).or_else(|| self.memory.keys.warm(&self.memory.lease, digest))
    }
}

#[async_trait]
impl<S: Directory> Directory for Cached<S> {
    async fn standing(&self, user: &UserId, project: Option<&ProjectId>) -> Result<Standing, StoreError> {
        let ask = async || self.store.standing(user, project).await;
        self.memory.standings.get(&self.memory.lease, (user, project), ask).await
    }

    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.store.projects(user).await
    }

    fn warm(&self, user: &UserId, project: Option<&ProjectId>) -> Option<Standing> {
        let remembered = || self.memory.standings.warm(&self.memory.lease, (user, project));
        Directory::warm(&*self.store, user, project).or_else(remembered)
    }
}

/// How much a [`Cached`] remembers, and for how long it may.
///
/// ```
/// # fn f() -> Result<(), tower_api_key::ConfigError> {
/// use std::time::Duration;
/// use tower_api_key::store::CacheOptions;
///
/// let options = CacheOptions::new().lease(Duration::from_secs(1))?.keys(1_000_000)?;
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
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn keys(mut self, keys: usize) -> Result<Self, ConfigError> {
        if keys == 0 {
            return Err(ConfigError::Zero("the number of cached keys"));
        }
        self.keys = keys;
        Ok(self)
    }

    /// How many bytes of memory the remembered keys may take, and the standings beside them; by default 1 KiB for each of the
    /// [keys](Self::keys). A usual key takes two thirds of that, one with very many restrictions some thirty times as much.
    /// When it is more, keys that were not asked for lately go first.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn bytes(mut self, bytes: usize) -> Result<Self, ConfigError> {
        if bytes == 0 {
            return Err(ConfigError::Zero("the bytes of cached keys"));
        }
        self.bytes = Some(bytes);
        Ok(self)
    }

    /// How many unknown keys, and standings that open nothing, are remembered beside them, for up to five seconds.
    /// Whoever tries keys at random fills this, and nothing else.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn misses(mut self, misses: usize) -> Result<Self, ConfigError> {
        if misses == 0 {
            return Err(ConfigError::Zero("the number of cached misses"));
        }
        self.misses = misses;
        Ok(self)
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

    fn start_with<S: KeyStore + Directory + ChangeLog>(&self, store: S, faults: Faults) -> Cached<S> {
        let room = Room {
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
        Cached { store, memory, follower: Arc::new(Mutex::new(Some(following))) }
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
