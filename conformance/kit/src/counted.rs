//! A store that counts its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use tower_api_key::store::{CachedKey, Directory, KeyStore, MemoryStore, Project, StoreError};
use tower_api_key::{AccountStatus, KeyDigest, KeyRecord, ProjectId, UserId};

use crate::World;
use tower_api_key::store::ProjectDirectory;

/// The store of a [`World`]. It counts its calls; a warm one answers at once what it can.
#[derive(Clone)]
pub struct Counted {
    pub store: MemoryStore,
    pub calls: Arc<AtomicUsize>,
    warm: bool,
}

impl Counted {
    pub fn new(world: &World, warm: bool) -> Self {
        Self { store: world.store.clone(), calls: Arc::default(), warm }
    }
}

#[async_trait]
impl KeyStore for Counted {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.calls.fetch_add(1, SeqCst);
        self.store.find(digest).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        if !self.warm {
            return CachedKey::Miss;
        }
        self.calls.fetch_add(1, SeqCst);
        KeyStore::find_cached(&self.store, digest)
    }
}

#[async_trait]
impl Directory for Counted {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.calls.fetch_add(1, SeqCst);
        self.store.account_status(user, project).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        if !self.warm {
            return None;
        }
        self.calls.fetch_add(1, SeqCst);
        Directory::account_status_cached(&self.store, user, project)
    }
}

#[async_trait]
impl ProjectDirectory for Counted {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.calls.fetch_add(1, SeqCst);
        self.store.projects(user).await
    }
}
