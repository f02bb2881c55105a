//! One node: a store, and what is remembered of it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::memory::Memory;
use crate::access::AccountStatus;
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::store::ProjectDirectory;
use crate::store::accounts::Project;
use crate::store::change_log::ChangeLog;
use crate::store::error::StoreError;
use crate::store::proxy::RegistryProxy;
use crate::store::traits::CachedKey;
use crate::store::traits::{Directory, KeyRegistry, KeyStore};

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
/// a [lease](super::CacheOptions::lease): two seconds, if nothing else is said.
///
/// It must be started in a tokio runtime with its timer on, which then does its work in a task. That ends with the last
/// clone.
pub struct Cached<S> {
    store: Arc<S>,
    memory: Arc<Memory>,
    follower: Arc<Mutex<Option<Following>>>,
}

/// When `goes_on` is dropped, the follower stops.
pub(super) struct Following {
    pub(super) goes_on: Option<watch::Sender<()>>,
    pub(super) task: JoinHandle<()>,
}

impl<S> Cached<S> {
    pub(super) fn of(store: Arc<S>, memory: Arc<Memory>, following: Following) -> Self {
        Self { store, memory, follower: Arc::new(Mutex::new(Some(following))) }
    }

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

impl<S: ChangeLog> Cached<S> {
    /// Forgets what was remembered of a user, on every node. Call it after each change of what the user may do that the store
    /// does not make itself, such as one in an application's [own directory](super::super::WithDirectory), and say that the change
    /// is made when this has returned: no request that is evaluated after that is accepted by what was before.
    ///
    /// It goes through the same log as every other change, and takes as long: a few milliseconds, and once a lease where a
    /// node is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: call it again. Until then, nodes may answer by what was before for as long as they remember it.
    pub async fn invalidate(&self, user: &UserId) -> Result<(), StoreError> {
        self.store.announce(user).await
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

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        match self.store.find_cached(digest) {
            CachedKey::Miss => {
                self.memory.keys.warm(&self.memory.lease, digest).map_or(CachedKey::Miss, CachedKey::from)
            }
            hit => hit,
        }
    }
}

#[async_trait]
impl<S: Directory> Directory for Cached<S> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let ask = async || self.store.account_status(user, project).await;
        self.memory.standings.get(&self.memory.lease, (user, project), ask).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        let remembered = || self.memory.standings.warm(&self.memory.lease, (user, project));
        Directory::account_status_cached(&*self.store, user, project).or_else(remembered)
    }
}

#[async_trait]
impl<S: ProjectDirectory> ProjectDirectory for Cached<S> {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.store.projects(user).await
    }
}

impl<S: KeyRegistry> RegistryProxy for Cached<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.store
    }
}
