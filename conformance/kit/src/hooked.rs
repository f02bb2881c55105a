//! A store in memory with a hook around each call, which can count, fail, or never answer.

use std::sync::Arc;

use async_trait::async_trait;
use tower_api_key::store::{
    AuditLog, Directory, Ended, KeyInventory, KeyRegistry, KeyStore, MemoryStore, Project, ProjectDirectory,
    RegistryError, RegistryProxy, StoreError, Terms, Updated, UsageLog,
};
use tower_api_key::{
    AccountStatus, DigestMethod, FreshKey, KeyCount, KeyDigest, KeyId, KeyPage, KeyQuery, KeyRecord,
    KeyUpdate, ProjectId, Revocation, Timestamp, UserId,
};

/// The calls of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Find,
    AccountStatus,
    Projects,
    Insert,
    Replace,
    End,
    Update,
    Rehash,
    Get,
    List,
}

/// The hook.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Called before the store; if it fails, the store is not called.
    async fn before(&self, _call: Call) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called after the store has answered.
    async fn after(&self, _call: Call) {}
}

/// The store. It never answers from memory, and keeps no audit log, usage or inventory.
pub struct Hooked<H> {
    pub store: MemoryStore,
    pub hook: Arc<H>,
    is_directory: bool,
}

impl<H> Clone for Hooked<H> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), hook: Arc::clone(&self.hook), is_directory: self.is_directory }
    }
}

impl<H: Hook> Hooked<H> {
    pub fn new(store: &MemoryStore, hook: H) -> Self {
        Self { store: store.clone(), hook: Arc::new(hook), is_directory: false }
    }

    /// Sets whether it claims to be the directory of its owners.
    pub fn directory(self, is_directory: bool) -> Self {
        Self { is_directory, ..self }
    }

    async fn around<T, E: From<StoreError>>(
        &self,
        call: Call,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.hook.before(call).await?;
        let answer = ask.await;
        self.hook.after(call).await;
        answer
    }
}

#[async_trait]
impl<H: Hook> KeyStore for Hooked<H> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.around(Call::Find, self.store.find(digest)).await
    }
}

#[async_trait]
impl<H: Hook> Directory for Hooked<H> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.around(Call::AccountStatus, self.store.account_status(user, project)).await
    }
}

#[async_trait]
impl<H: Hook> ProjectDirectory for Hooked<H> {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.around(Call::Projects, self.store.projects(user)).await
    }
}

#[async_trait]
impl<H: Hook> RegistryProxy for Hooked<H> {
    type Inner = MemoryStore;

    fn inner(&self) -> &MemoryStore {
        &self.store
    }

    fn is_directory(&self) -> bool {
        self.is_directory
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

    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
        self.around(Call::Insert, KeyRegistry::insert(&self.store, key, terms)).await
    }

    async fn insert_all(
        &self,
        keys: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        self.around(Call::Insert, KeyRegistry::insert_all(&self.store, keys, terms)).await
    }

    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        self.around(Call::Replace, KeyRegistry::replace(&self.store, old, fresh, old_ends, terms)).await
    }

    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        self.around(Call::End, KeyRegistry::end(&self.store, id, why, now, terms)).await
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        self.around(Call::Update, KeyRegistry::update(&self.store, id, update, now, terms)).await
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.around(Call::Rehash, KeyRegistry::rehash(&self.store, id, from, to, method, now)).await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.around(Call::Get, KeyRegistry::get(&self.store, id)).await
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        self.around(Call::List, KeyRegistry::list(&self.store, owner, query)).await
    }

    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        self.around(Call::List, KeyRegistry::page(&self.store, owner, query)).await
    }

    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        self.around(Call::List, KeyRegistry::count(&self.store, owner, query, most)).await
    }
}
