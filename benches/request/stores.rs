//! The other stores of this project, each with the keys of a world.

use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower_api_key::store::{
    CacheOptions, Cached, ChangeLog, Changes, Directory, KeyStore, MemoryStore, NodeId, Position, StoreError,
};
use tower_api_key::{AccountStatus, KeyDigest, KeyRecord, ProjectId, UserId};
use tower_api_key_sqlite::SqliteStore;

use crate::world::{World, at_once, enter};

/// The runtime for the background work of a cache, on a thread of its own, which is not counted.
static BEHIND: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap());

/// A store that must be waited for, and whose contents never change.
pub struct Still(MemoryStore);

#[async_trait]
impl KeyStore for Still {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find(digest).await
    }
}

#[async_trait]
impl Directory for Still {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.0.account_status(user, project).await
    }
}

#[async_trait]
impl ChangeLog for Still {
    async fn join(&self, _: &NodeId, _: Duration) -> Result<Position, StoreError> {
        Ok(Position::new(""))
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        Ok(Changes { changes: Vec::new(), position: after.clone() })
    }

    async fn acknowledge(&self, _: &NodeId, _: &Position) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn leave(&self, _: &NodeId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn announce(&self, _: &UserId) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A cache that keeps its lease, so that it caches every answer.
pub fn cached(world: &World) -> Cached<Still> {
    let options = CacheOptions::new().lease(Duration::from_secs(60)).unwrap();
    let store = {
        let _entered = BEHIND.enter();
        options.start(Still(world.store.clone()))
    };
    while !store.has_lease() {
        thread::sleep(Duration::from_millis(1));
    }
    store
}

/// A database in a file of a temporary folder.
pub fn sqlite(world: &World) -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = at_once(SqliteStore::open(folder.path().join("keys.db"))).unwrap();
    for (index, key) in world.keys.iter().enumerate() {
        at_once(enter(&store, index, key, false));
    }
    (store, folder)
}
