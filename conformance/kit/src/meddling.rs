//! A store in which something happens between two of its answers: at a chosen moment, before or after a call, access is
//! taken away, as another process would do it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tower_api_key::audit::Revocation;
use tower_api_key::key_update::KeyUpdate;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::AuditLog;
use tower_api_key::store::KeyInventory;
use tower_api_key::store::ProjectDirectory;
use tower_api_key::store::UsageLog;
use tower_api_key::store::{
    Accounts as _, Directory, KeyQuery, KeyRegistry, KeyStore, Member, MemberRole, MemoryStore, Project,
    RegistryError, StoreError, Terms, Updated,
};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    AccountStatus, Authority, DigestMethod, FreshKey, KeyDigest, KeyId, KeyRecord, ProjectId, Timestamp,
    UserId,
};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key is revoked.
    Revoke,
    /// The key expires.
    Expire,
    /// The key is restricted.
    Narrow,
    /// Its owner is removed from the account.
    Remove,
    /// Its owner is made READONLY.
    Demote,
}

pub const EVENTS: [Event; 5] = [Event::Revoke, Event::Expire, Event::Narrow, Event::Remove, Event::Demote];

/// The store, and when something happens in it.
#[derive(Clone)]
pub struct Meddling(Arc<Inner>);

struct Inner {
    store: MemoryStore,
    clock: ManualClock,
    /// Whether it says that it is the directory of its owners.
    directory: bool,
    event: Event,
    key: KeyId,
    owner: UserId,
    moment: usize,
    moments: AtomicUsize,
    /// Every key of the owner, as it was when it had happened.
    after: Mutex<Option<BTreeMap<KeyId, String>>>,
}

impl Meddling {
    /// `event` happens to a member of account A, or to a key of theirs, at this moment of those that there are.
    pub fn new(
        store: &MemoryStore,
        clock: &ManualClock,
        directory: bool,
        event: Event,
        (key, owner): (&KeyId, &UserId),
        moment: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            store: store.clone(),
            clock: clock.clone(),
            directory,
            event,
            key: key.clone(),
            owner: owner.clone(),
            moment,
            moments: AtomicUsize::new(0),
            after: Mutex::new(None),
        }))
    }

    /// Whether it has happened: if not, there were not so many moments.
    pub async fn has_happened(&self) -> bool {
        self.0.after.lock().await.is_some()
    }

    /// Every key of the owner that was made or changed after it had happened, as it is now, save those that were replaced:
    /// these only end. A person who was removed is a member again.
    pub async fn made_since(&self) -> Vec<KeyRecord> {
        if self.0.event == Event::Remove {
            self.member(MemberRole::Full).await;
        }
        let after = self.0.after.lock().await;
        let after = after.as_ref().expect("it has happened");
        let same = |key: &KeyRecord| after.get(&key.id) == Some(&format!("{key:?}"));
        self.keys().await.into_iter().filter(|key| !same(key) && key.replaced_by.is_none()).collect()
    }

    async fn keys(&self) -> Vec<KeyRecord> {
        let mut all = KeyQuery::default();
        all.limit = u32::MAX;
        self.0.store.list(&self.0.owner, &all).await.unwrap()
    }

    async fn member(&self, role: MemberRole) {
        let projects = [ProjectId::new("p1").unwrap(), ProjectId::new("p2").unwrap()];
        self.0.store.set_member("A", &self.0.owner, &Member::new(role, projects)).await.unwrap();
    }

    async fn moment(&self) {
        if self.0.moments.fetch_add(1, Ordering::SeqCst) != self.0.moment {
            return;
        }
        let (store, now) = (&self.0.store, tower_api_key::Clock::now(&self.0.clock));
        let operator = Terms::by(Authority::Operator);
        match self.0.event {
            Event::Revoke => drop(store.revoke(&self.0.key, now, &operator).await.unwrap()),
            // The keys of these tests end within the hour.
            Event::Expire => self.0.clock.advance(Duration::from_secs(3600)),
            Event::Narrow => {
                let office = Restrictions::none().ip(IpRestriction::allow(["192.0.2.0/24"]).unwrap());
                let narrow = KeyUpdate::new().restrictions(office);
                store.update(&self.0.key, &narrow, now, &operator).await.unwrap();
            }
            Event::Remove => store.remove_member("A", &self.0.owner, now).await.unwrap(),
            Event::Demote => self.member(MemberRole::ReadOnly).await,
        }
        let keys = self.keys().await;
        let keys = keys.into_iter().map(|key| (key.id.clone(), format!("{key:?}"))).collect();
        *self.0.after.lock().await = Some(keys);
    }

    /// One call, with a moment before it and one after.
    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        self.moment().await;
        let answer = call.await;
        self.moment().await;
        answer
    }
}

#[async_trait]
impl KeyStore for Meddling {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.around(self.0.store.find(digest)).await
    }
}

#[async_trait]
impl Directory for Meddling {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.around(self.0.store.account_status(user, project)).await
    }
}

#[async_trait]
impl ProjectDirectory for Meddling {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.around(self.0.store.projects(user)).await
    }
}

#[async_trait]
impl KeyRegistry for Meddling {
    fn is_directory(&self) -> bool {
        self.0.directory
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
        self.around(self.0.store.insert(key, terms)).await
    }

    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        self.around(self.0.store.replace(old, fresh, old_ends, terms)).await
    }

    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<tower_api_key::store::Ended, RegistryError> {
        self.around(self.0.store.end(id, why, now, terms)).await
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        self.around(self.0.store.update(id, update, now, terms)).await
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.around(self.0.store.rehash(id, from, to, method, now)).await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.around(self.0.store.get(id)).await
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        self.around(self.0.store.list(owner, query)).await
    }
}
