//! A store in memory that several nodes share through slow connections, with a change log. It takes the place of
//! PostgreSQL in tests of the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};
use tower_api_key::store::{
    Accounts, AuditLog, Change, ChangeLog, Changes, Directory, Followers, KeyInventory, KeyRegistry,
    KeyStore, Member, MemoryStore, NodeId, Position, Project, RegistryError, StoreError, UsageLog, settle,
};
use tower_api_key::{
    AccountStatus, DigestMethod, FreshKey, KeyDigest, KeyId, KeyPolicy, KeyQuery, KeyRecord, KeyUpdate,
    ProjectId, Timestamp, UserId,
};

#[derive(Clone)]
pub(crate) struct Logged {
    store: MemoryStore,
    /// Locked by one transaction at a time, so that a position is a length of the log.
    log: Arc<Mutex<Log>>,
    length: Arc<watch::Sender<usize>>,
    heard: Arc<Mutex<watch::Receiver<usize>>>,
}

#[derive(Default)]
struct Log {
    changes: Vec<Change>,
    people: BTreeSet<UserId>,
    nodes: BTreeMap<NodeId, (usize, Duration)>,
}

impl Log {
    /// A change that may affect everybody.
    fn everybody(&self) -> Vec<Change> {
        self.people.iter().cloned().map(Change::Owner).collect()
    }
}

/// Lets other tasks run.
async fn way() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

/// Sometimes takes so long that a whole change happens meanwhile.
async fn way_back() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(16) {
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    way().await;
}

impl Logged {
    pub(crate) fn new() -> Self {
        let (length, heard) = watch::channel(0);
        let heard = Arc::new(Mutex::new(heard));
        Self { store: MemoryStore::new(), log: Arc::default(), length: Arc::new(length), heard }
    }

    /// A connection for another node.
    pub(crate) fn connect(&self) -> Self {
        Self { heard: Arc::new(Mutex::new(self.length.subscribe())), ..self.clone() }
    }

    /// The entries of the log for these keys.
    async fn keys(&self, ids: &[&KeyId]) -> Vec<Change> {
        let mut changes = Vec::new();
        for id in ids {
            changes.extend(self.store.get(id).await.unwrap().map(|key| Change::Key(key.digest)));
        }
        changes
    }

    async fn keys_of(&self, owner: &UserId) -> Vec<Change> {
        let all = KeyQuery::default();
        let keys = self.store.list(owner, &all).await.unwrap();
        assert!(keys.len() < 100, "more than are logged");
        keys.into_iter().map(|key| Change::Key(key.digest)).collect()
    }

    /// One transaction: the change and its log entries become visible together, and the call returns when every node
    /// has seen them.
    async fn change<T>(
        &self,
        change: impl AsyncFnOnce(&MemoryStore, &mut Log) -> (T, Vec<Change>),
    ) -> Result<T, StoreError> {
        way().await;
        let mut log = self.log.lock().await;
        let (result, changes) = change(&self.store, &mut log).await;
        log.changes.extend(changes);
        let position = log.changes.len();
        drop(log);
        self.length.send_replace(position);
        settle(self, &position).await?;
        Ok(result)
    }
}

#[async_trait]
impl KeyStore for Logged {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        way().await;
        let found = self.store.find(digest).await;
        way_back().await;
        found
    }
}

#[async_trait]
impl Directory for Logged {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        way().await;
        let standing = self.store.account_status(user, project).await;
        way_back().await;
        standing
    }
}

fn number(position: &Position) -> usize {
    position.as_str().parse().unwrap()
}

#[async_trait]
impl ChangeLog for Logged {
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError> {
        let mut log = self.log.lock().await;
        log.nodes.insert(node.clone(), (0, lease));
        Ok(Position::new(log.changes.len().to_string()))
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        way().await;
        let log = self.log.lock().await;
        let changes = log.changes[number(after)..].to_vec();
        let position = Position::new(log.changes.len().to_string());
        drop(log);
        way().await;
        Ok(Changes { changes, position })
    }

    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError> {
        way().await;
        let mut log = self.log.lock().await;
        let Some((seen, _)) = log.nodes.get_mut(node) else { return Ok(false) };
        *seen = number(position);
        Ok(true)
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.log.lock().await.nodes.remove(node);
        Ok(())
    }

    async fn announce(&self, user: &UserId) -> Result<(), StoreError> {
        self.change(async |_, _| ((), vec![Change::Owner(user.clone())])).await
    }

    async fn hint(&self) {
        // The store lives longer than its nodes.
        let _ = self.heard.lock().await.changed().await;
    }
}

#[async_trait]
impl Followers for Logged {
    type Committed = usize;

    async fn behind(&self, change: &usize) -> Result<Option<Duration>, StoreError> {
        let log = self.log.lock().await;
        Ok(log.nodes.values().filter(|(seen, _)| seen < change).map(|(_, lease)| *lease).max())
    }

    async fn fence(&self, change: &usize, lease: Duration) -> Result<(), StoreError> {
        self.log.lock().await.nodes.retain(|_, (seen, of)| *seen >= *change || *of > lease);
        Ok(())
    }
}

#[async_trait]
impl KeyRegistry for Logged {
    fn is_directory(&self) -> bool {
        false
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        None
    }

    fn usage_log(&self) -> Option<&dyn UsageLog> {
        None
    }

    fn inventory(&self) -> Option<&dyn KeyInventory> {
        None
    }

    async fn insert(&self, key: KeyRecord, terms: &tower_api_key::store::Terms) -> Result<(), RegistryError> {
        self.change(async |store, _| {
            let (owner, digest) = (key.owner.clone(), key.digest);
            let result = store.insert(key, terms).await;
            let mut changes = vec![Change::Key(digest)];
            if matches!(terms.key_policy(), KeyPolicy::Single { .. }) {
                changes.extend(self.keys_of(&owner).await);
            }
            (result, changes)
        })
        .await?
    }

    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &tower_api_key::store::Terms,
    ) -> Result<KeyRecord, RegistryError> {
        self.change(async |store, _| {
            let id = fresh.id.clone();
            let result = store.replace(old, fresh, old_ends, terms).await;
            (result, self.keys(&[old, &id]).await)
        })
        .await?
    }

    async fn end(
        &self,
        id: &KeyId,
        why: tower_api_key::Revocation,
        now: Timestamp,
        terms: &tower_api_key::store::Terms,
    ) -> Result<tower_api_key::store::Ended, RegistryError> {
        self.change(async |store, _| (store.end(id, why, now, terms).await, self.keys(&[id]).await)).await?
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &tower_api_key::store::Terms,
    ) -> Result<tower_api_key::store::Updated, RegistryError> {
        self.change(async |store, _| (store.update(id, update, now, terms).await, self.keys(&[id]).await))
            .await?
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.change(async |store, _| {
            let result = store.rehash(id, from, to, method, now).await;
            (result, vec![Change::Key(*from), Change::Key(*to)])
        })
        .await?
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.store.get(id).await
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        self.store.list(owner, query).await
    }
}

#[async_trait]
impl Accounts for Logged {
    async fn create_account(&self, account: &str, owner: &UserId) -> Result<(), RegistryError> {
        self.change(async |store, log| {
            log.people.insert(owner.clone());
            (store.create_account(account, owner).await, vec![Change::Owner(owner.clone())])
        })
        .await?
    }

    async fn create_project(&self, account: &str, project: &Project) -> Result<(), RegistryError> {
        self.change(async |store, log| (store.create_project(account, project).await, log.everybody()))
            .await?
    }

    async fn delete_project(&self, account: &str, project: &ProjectId) -> Result<(), RegistryError> {
        self.change(async |store, log| (store.delete_project(account, project).await, log.everybody()))
            .await?
    }

    async fn set_member(&self, account: &str, user: &UserId, access: &Member) -> Result<(), RegistryError> {
        self.change(async |store, log| {
            log.people.insert(user.clone());
            (store.set_member(account, user, access).await, vec![Change::Owner(user.clone())])
        })
        .await?
    }

    async fn remove_member(&self, account: &str, user: &UserId, now: Timestamp) -> Result<(), RegistryError> {
        self.change(async |store, _| {
            let result = store.remove_member(account, user, now).await;
            let mut changes = self.keys_of(user).await;
            changes.push(Change::Owner(user.clone()));
            (result, changes)
        })
        .await?
    }

    async fn transfer_account(
        &self,
        account: &str,
        to: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError> {
        self.change(async |store, log| (store.transfer_account(account, to, access).await, log.everybody()))
            .await?
    }

    async fn suspend_account(&self, account: &str, suspended: bool) -> Result<(), RegistryError> {
        self.change(async |store, log| (store.suspend_account(account, suspended).await, log.everybody()))
            .await?
    }
}
