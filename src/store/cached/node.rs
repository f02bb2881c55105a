//! [`Cached`]: one node, with a store and its cached answers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::memory::Memory;
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::AccountStatus;
use crate::store::ProjectDirectory;
use crate::store::accounts::Project;
use crate::store::change_log::ChangeLog;
use crate::store::error::StoreError;
use crate::store::proxy::RegistryProxy;
use crate::store::traits::CachedKey;
use crate::store::traits::{Directory, KeyRegistry, KeyStore};

/// Caches the answers of a store, and never returns an outdated one.
///
/// ```no_run
/// # #[cfg(feature = "test-util")]
/// # async fn f<S>(store: S) -> Result<(), tower_api_key::ConfigError>
/// # where S: tower_api_key::store::KeyStore + tower_api_key::store::Directory + tower_api_key::store::ChangeLog {
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
/// # Guarantee
///
/// After a call that revokes or rotates a key, removes or demotes a member, or tightens a restriction has returned
/// success, no request that is checked later is accepted on any node against that change.
/// [`lease_protocol`](crate::lease_protocol) explains how. Only facts about keys and people are cached, never a
/// decision: expiry, restrictions, environment and limits are checked at every request.
///
/// Without a lease (the database cannot be reached, or answers too slowly) the node asks the store at every
/// request, and returns its answer or its error.
///
/// # Deployment caveat
///
/// If a process stops without [`shutdown`](Self::shutdown), the next change waits once for a little more than a
/// [lease](super::CacheOptions::lease), whose default is two seconds.
///
/// It must be started in a tokio runtime with its timer enabled, in which it spawns a task. The task ends with the
/// last clone.
pub struct Cached<S> {
    store: Arc<S>,
    memory: Arc<Memory>,
    follower: Arc<Mutex<Option<Following>>>,
}

/// The task that follows the log. It stops when `goes_on` is dropped.
pub(super) struct Following {
    pub(super) goes_on: Option<watch::Sender<()>>,
    pub(super) task: JoinHandle<()>,
}

impl<S> Cached<S> {
    pub(super) fn of(store: Arc<S>, memory: Arc<Memory>, following: Following) -> Self {
        Self { store, memory, follower: Arc::new(Mutex::new(Some(following))) }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Whether the node has a lease, so that answers come from memory now.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.memory.lease.is_held()
    }

    /// The number of cached answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.keys.len() + self.memory.standings.len()
    }

    /// The approximate memory of the cached answers, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.memory.keys.bytes() + self.memory.standings.bytes()
    }

    /// Whether no answer is cached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops answering from memory, for all clones, and unregisters this node at the store, so that no change has
    /// to wait for it. Requests can continue: the store is asked for each.
    ///
    /// If this is called several times, each call returns when the shutdown is complete. If the future is dropped,
    /// the shutdown still continues.
    pub async fn shutdown(&self) {
        let mut follower = self.follower.lock().await;
        let Some(following) = &mut *follower else { return };
        following.goes_on = None;
        // The task ends the lease before it leaves. If its runtime has ended, it has not done so, but nobody grants
        // another lease.
        if (&mut following.task).await.is_err() {
            self.memory.lease.end();
        }
        *follower = None;
    }
}

impl<S: ChangeLog> Cached<S> {
    /// Drops the cached answers about a user, on every node. Call this after each change of what the user may do
    /// that the store does not make itself, such as one in an application's [own
    /// directory](super::super::WithDirectory). Report the change as done only after this has returned: no request
    /// that is checked later uses the earlier answer.
    ///
    /// This uses the same log as every other change, and takes as long: a few milliseconds, or once a lease if a
    /// node is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: call it again. Until then, nodes may use the earlier answer as long as it is cached.
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
