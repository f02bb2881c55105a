//! [`RegistryProxy`]: a wrapper of a registry, which forwards what it does not override.

use async_trait::async_trait;

use super::error::{RegistryError, StoreError};
use super::key_query::{KeyCount, KeyPage, KeyQuery};
use super::terms::{Ended, Terms, Updated};
use super::traits::{AuditLog, KeyInventory, KeyRegistry, UsageLog};
use crate::audit::Revocation;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyRecord};

/// Wraps a [`KeyRegistry`], and implements that trait too: it forwards every method that it does not override,
/// including methods that a later release adds.
///
/// Where you call methods, import only one of the two traits, because their methods have the same names.
///
/// ```
/// use async_trait::async_trait;
/// use tower_api_key::store::{MemoryStore, RegistryError, RegistryProxy, Terms};
/// use tower_api_key::KeyRecord;
///
/// /// Takes no keys without a name.
/// struct Named(MemoryStore);
///
/// #[async_trait]
/// impl RegistryProxy for Named {
///     type Inner = MemoryStore;
///
///     fn inner(&self) -> &MemoryStore {
///         &self.0
///     }
///
///     async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
///         if key.name.is_empty() {
///             return Err(RegistryError::Invalid("it has no name"));
///         }
///         tower_api_key::store::KeyRegistry::insert(&self.0, key, terms).await
///     }
/// }
///
/// let registry: Box<dyn tower_api_key::store::KeyRegistry> = Box::new(Named(MemoryStore::new()));
/// assert!(registry.audit_log().is_some());
/// ```
#[async_trait]
pub trait RegistryProxy: Send + Sync + 'static {
    /// The wrapped registry.
    type Inner: KeyRegistry + ?Sized;

    /// The wrapped registry.
    fn inner(&self) -> &Self::Inner;

    /// [`KeyRegistry::is_directory`].
    fn is_directory(&self) -> bool {
        self.inner().is_directory()
    }

    /// [`KeyRegistry::audit_log`].
    fn audit_log(&self) -> Option<&dyn AuditLog> {
        self.inner().audit_log()
    }

    /// [`KeyRegistry::usage_log`].
    fn usage_log(&self) -> Option<&dyn UsageLog> {
        self.inner().usage_log()
    }

    /// [`KeyRegistry::inventory`].
    fn inventory(&self) -> Option<&dyn KeyInventory> {
        self.inner().inventory()
    }

    /// [`KeyRegistry::insert`].
    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
        self.inner().insert(key, terms).await
    }

    /// [`KeyRegistry::insert_all`].
    async fn insert_all(
        &self,
        keys: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        self.inner().insert_all(keys, terms).await
    }

    /// [`KeyRegistry::replace`].
    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        self.inner().replace(old, fresh, old_ends, terms).await
    }

    /// [`KeyRegistry::end`].
    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        self.inner().end(id, why, now, terms).await
    }

    /// [`KeyRegistry::update`].
    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        self.inner().update(id, update, now, terms).await
    }

    /// [`KeyRegistry::rehash`].
    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.inner().rehash(id, from, to, method, now).await
    }

    /// [`KeyRegistry::get`].
    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.inner().get(id).await
    }

    /// [`KeyRegistry::get_all`].
    async fn get_all(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        self.inner().get_all(ids).await
    }

    /// [`KeyRegistry::list`].
    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        self.inner().list(owner, query).await
    }

    /// [`KeyRegistry::page`].
    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        self.inner().page(owner, query).await
    }

    /// [`KeyRegistry::count`].
    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        self.inner().count(owner, query, most).await
    }
}

#[async_trait]
impl<P: RegistryProxy> KeyRegistry for P {
    fn is_directory(&self) -> bool {
        RegistryProxy::is_directory(self)
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        RegistryProxy::audit_log(self)
    }

    fn usage_log(&self) -> Option<&dyn UsageLog> {
        RegistryProxy::usage_log(self)
    }

    fn inventory(&self) -> Option<&dyn KeyInventory> {
        RegistryProxy::inventory(self)
    }

    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
        RegistryProxy::insert(self, key, terms).await
    }

    async fn insert_all(
        &self,
        keys: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        RegistryProxy::insert_all(self, keys, terms).await
    }

    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        RegistryProxy::replace(self, old, fresh, old_ends, terms).await
    }

    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        RegistryProxy::end(self, id, why, now, terms).await
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        RegistryProxy::update(self, id, update, now, terms).await
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        RegistryProxy::rehash(self, id, from, to, method, now).await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        RegistryProxy::get(self, id).await
    }

    async fn get_all(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        RegistryProxy::get_all(self, ids).await
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        RegistryProxy::list(self, owner, query).await
    }

    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        RegistryProxy::page(self, owner, query).await
    }

    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        RegistryProxy::count(self, owner, query, most).await
    }
}
