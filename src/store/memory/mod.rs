//! [`MemoryStore`]: for tests, for trying things out, and for applications that load their keys at start.

mod audit_log;
mod directory;
mod keys;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;

use self::audit_log::Used;
use self::directory::People;
use self::keys::KeyTable;
use super::codec::PageBounds;
use super::{
    Account, Accounts, Directory, Ended, KeyCount, KeyPage, KeyQuery, KeyRegistry, KeyStore, Member, Person,
    Project, RegistryError, StoreError, Terms, Updated,
};
use crate::audit::{AuditEntry, KeyEvent, Revocation};
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, ProjectId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyLevel, KeyRecord};
use crate::role::AccountStatus;
use crate::store::AuditLog;
use crate::store::KeyInventory;
use crate::store::ProjectDirectory;
use crate::store::UsageLog;
use crate::store::traits::CachedKey;
use crate::usage::Usage;

/// Keys, people and projects in this process's memory.
///
/// Clones share one store, which is gone when the last clone is dropped. It answers
/// [`find_cached`](KeyStore::find_cached), so requests are decided without waiting. A revoked key is refused as
/// soon as the revocation has returned. The audit log keeps the newest hundred entries of each key.
///
/// # Deployment caveat
///
/// Two processes have two separate stores. A key that is revoked in one still works in the other.
#[derive(Clone, Default)]
pub struct MemoryStore {
    // One lock for keys and people, because removing a member also revokes keys.
    state: Arc<RwLock<MemoryState>>,
    // A separate lock for usage, which no request reads.
    used: Arc<Mutex<Used>>,
}

#[derive(Default)]
struct MemoryState {
    keys: KeyTable,
    people: People,
}

impl MemoryState {
    /// If the terms require it: checks whether the owner of a key of that level may have it made or changed.
    fn ask_owner(&self, owner: &UserId, level: &KeyLevel, terms: &Terms) -> Result<(), RegistryError> {
        if !terms.asks_owner() {
            return Ok(());
        }
        let standing = |project| self.people.account_status(owner, project);
        terms.allow_owner(standing(None), level.project().map(|project| standing(Some(project))))
    }
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    // The state is never half changed: every method makes its checks first, and its writes cannot fail. So a
    // poisoned lock (after a panic in the allocator, for example) is still used.

    fn read(&self) -> RwLockReadGuard<'_, MemoryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, MemoryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(self.read().keys.find(digest))
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        self.read().keys.find(digest).into()
    }
}

#[async_trait]
impl Directory for MemoryStore {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        Ok(self.read().people.account_status(user, project))
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        Some(self.read().people.account_status(user, project))
    }
}

#[async_trait]
impl ProjectDirectory for MemoryStore {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        Ok(self.read().people.projects(user))
    }
}

#[async_trait]
impl KeyRegistry for MemoryStore {
    fn is_directory(&self) -> bool {
        true
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        Some(self)
    }

    fn usage_log(&self) -> Option<&dyn UsageLog> {
        Some(self)
    }

    fn inventory(&self) -> Option<&dyn KeyInventory> {
        Some(self)
    }

    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
        let event = KeyEvent::of_new(&key);
        let mut state = self.write();
        state.ask_owner(&key.owner, &key.level, terms)?;
        state.keys.insert(key, terms, event)
    }

    async fn insert_all(
        &self,
        keys: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        let mut state = self.write();
        let mut one = |key: KeyRecord| {
            if key.is_active(terms.present(&key)) {
                state.ask_owner(&key.owner, &key.level, terms)?;
            }
            state.keys.insert(key, terms, KeyEvent::Imported)
        };
        Ok(keys.into_iter().map(&mut one).collect())
    }

    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        let mut state = self.write();
        let key = state.keys.allow_change(old, fresh.created_at, terms)?;
        state.ask_owner(&key.owner, &key.level, terms)?;
        state.keys.replace(old, &fresh, old_ends, terms)
    }

    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        self.write().keys.end(id, why, now, terms)
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        let mut state = self.write();
        let key = state.keys.allow_change(id, now, terms)?;
        if terms.asks_owner_to_amend() {
            state.ask_owner(&key.owner, &KeyLevel::User, terms)?;
        }
        state.keys.update(id, update, now, terms)
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.write().keys.rehash(id, from, to, method, now)
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.read().keys.get(id).cloned())
    }

    async fn get_all(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        let state = self.read();
        Ok(ids.iter().filter_map(|id| state.keys.get(id).cloned()).collect())
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        self.read().keys.page(owner, query, PageBounds::LIST).map(|page| page.keys)
    }

    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        self.read().keys.page(owner, query, PageBounds::PAGE)
    }

    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        self.read().keys.count(owner, query, most)
    }
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(self.read().keys.audit_log.of(id, limit))
    }
}

#[async_trait]
impl UsageLog for MemoryStore {
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
        self.used().add(batch);
        Ok(())
    }

    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
        Ok(self.used().of(keys))
    }
}

#[async_trait]
impl KeyInventory for MemoryStore {
    async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
        Ok(self.read().keys.owners(after, limit))
    }

    async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        Ok(self.read().keys.count_by_digest_method())
    }
}

#[async_trait]
impl Accounts for MemoryStore {
    async fn create_account(&self, account: &str, owner: &UserId) -> Result<(), RegistryError> {
        self.write().people.create_account(account, owner)
    }

    async fn create_project(&self, account: &str, project: &Project) -> Result<(), RegistryError> {
        self.write().people.create_project(account, project)
    }

    async fn delete_project(&self, account: &str, project: &ProjectId) -> Result<(), RegistryError> {
        self.write().people.delete_project(account, project)
    }

    async fn set_member(&self, account: &str, user: &UserId, access: &Member) -> Result<(), RegistryError> {
        self.write().people.set_member(account, user, access)
    }

    async fn remove_member(&self, account: &str, user: &UserId, now: Timestamp) -> Result<(), RegistryError> {
        let mut state = self.write();
        state.people.remove_member(account, user)?;
        state.keys.revoke_all_of(user, now);
        Ok(())
    }

    async fn transfer_account(
        &self,
        account: &str,
        to: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError> {
        self.write().people.transfer(account, to, access)
    }

    async fn suspend_account(&self, account: &str, suspended: bool) -> Result<(), RegistryError> {
        self.write().people.suspend(account, suspended)
    }

    async fn list_accounts(&self, after: Option<&str>, limit: u32) -> Result<Vec<Account>, StoreError> {
        Ok(self.read().people.list_accounts(after, limit))
    }

    async fn list_projects(
        &self,
        account: &str,
        after: Option<&ProjectId>,
        limit: u32,
    ) -> Result<Vec<Project>, RegistryError> {
        self.read().people.list_projects(account, after, limit)
    }

    async fn list_people(
        &self,
        account: &str,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Person>, RegistryError> {
        self.read().people.list_people(account, after, limit)
    }

    async fn account_of(&self, user: &UserId) -> Result<Option<String>, StoreError> {
        Ok(self.read().people.account_of(user))
    }
}
