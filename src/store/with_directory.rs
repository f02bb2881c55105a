//! [`WithDirectory`]: caches a store together with the application's own directory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::accounts::Project;
use super::change_log::{ChangeLog, Changes, NodeId, Position};
use super::error::StoreError;
use super::proxy::RegistryProxy;
use super::traits::{CachedKey, Directory, KeyRegistry, KeyStore, ProjectDirectory};
use crate::clock::Timestamp;
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::AccountStatus;

/// Combines a store that has a [`ChangeLog`] with a directory of the application's own, so that
/// [`Cached`](super::Cached) caches both.
///
/// The store does not know when the directory changes. So after each change of what a user may do, call
/// [`Cached::invalidate`](super::Cached::invalidate), and report the change as done only after that has returned. A
/// node sees a change that is not announced within ten minutes. If you cannot announce every change, do not cache
/// the directory: `(cached, directory)`.
///
/// ```no_run
/// # #[cfg(feature = "cache")]
/// # async fn f<S, D>(store: S, directory: D, alice: tower_api_key::UserId) -> Result<(), tower_api_key::store::StoreError>
/// # where S: tower_api_key::store::KeyStore + tower_api_key::store::ChangeLog, D: tower_api_key::store::Directory {
/// use tower_api_key::store::{Cached, WithDirectory};
///
/// let cached = Cached::start(WithDirectory::new(store, directory)); // the store such as PostgresStore
/// // ... the application takes a right from alice, in its own tables, and commits; then:
/// cached.invalidate(&alice).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WithDirectory<S, D> {
    store: S,
    directory: D,
}

impl<S, D> WithDirectory<S, D> {
    /// Uses `store` for keys, and `directory` for people and projects.
    #[must_use]
    pub fn new(store: S, directory: D) -> Self {
        Self { store, directory }
    }
}

#[async_trait]
impl<S: KeyStore, D: Send + Sync + 'static> KeyStore for WithDirectory<S, D> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.store.find(digest).await
    }

    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.store.find_at(digest, now).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        self.store.find_cached(digest)
    }
}

#[async_trait]
impl<S: Send + Sync + 'static, D: Directory> Directory for WithDirectory<S, D> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.directory.account_status(user, project).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        self.directory.account_status_cached(user, project)
    }
}

#[async_trait]
impl<S: Send + Sync + 'static, D: ProjectDirectory> ProjectDirectory for WithDirectory<S, D> {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.directory.projects(user).await
    }
}

impl<S: KeyRegistry, D: Send + Sync + 'static> RegistryProxy for WithDirectory<S, D> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.store
    }

    fn is_directory(&self) -> bool {
        false
    }
}

#[async_trait]
impl<S: ChangeLog, D: Send + Sync + 'static> ChangeLog for WithDirectory<S, D> {
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError> {
        self.store.join(node, lease).await
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        self.store.changes(after).await
    }

    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError> {
        self.store.acknowledge(node, position).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.store.leave(node).await
    }

    async fn announce(&self, user: &UserId) -> Result<(), StoreError> {
        self.store.announce(user).await
    }

    async fn hint(&self) {
        self.store.hint().await;
    }
}
