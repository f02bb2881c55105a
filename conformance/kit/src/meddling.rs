//! A store in which something happens between two of its answers: at a chosen moment, before or after a call, access is
//! taken away, as another process would do it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tower_api_key::key_update::KeyUpdate;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::{
    Accounts as _, KeyQuery, KeyRegistry as _, MemberRole, MemoryStore, StoreError, Terms,
};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{Authority, Clock as _, KeyId, KeyRecord, UserId};

use crate::{Call, Hook, Hooked, member};

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

/// The store in which it happens.
pub type Meddling = Hooked<Meddler>;

/// What happens there, and when.
pub struct Meddler {
    store: MemoryStore,
    clock: ManualClock,
    event: Event,
    key: KeyId,
    owner: UserId,
    moment: usize,
    moments: AtomicUsize,
    /// Every key of the owner, as it was when it had happened.
    after: Mutex<Option<BTreeMap<KeyId, String>>>,
}

impl Meddling {
    /// `event` happens to a member of account A, or to a key of theirs, at this moment of those that there are: before and
    /// after each call.
    pub fn at(
        store: &MemoryStore,
        clock: &ManualClock,
        event: Event,
        (key, owner): (&KeyId, &UserId),
        moment: usize,
    ) -> Self {
        let meddler = Meddler {
            store: store.clone(),
            clock: clock.clone(),
            event,
            key: key.clone(),
            owner: owner.clone(),
            moment,
            moments: AtomicUsize::new(0),
            after: Mutex::new(None),
        };
        Self::new(store, meddler)
    }
}

impl Meddler {
    /// Whether it has happened: if not, there were not so many moments.
    pub async fn has_happened(&self) -> bool {
        self.after.lock().await.is_some()
    }

    /// Every key of the owner that was made or changed after it had happened, as it is now, save those that were replaced:
    /// these only end. A person who was removed is a member again.
    pub async fn made_since(&self) -> Vec<KeyRecord> {
        if self.event == Event::Remove {
            self.member(MemberRole::Full).await;
        }
        let after = self.after.lock().await;
        let after = after.as_ref().expect("it has happened");
        let same = |key: &KeyRecord| after.get(&key.id) == Some(&format!("{key:?}"));
        self.keys().await.into_iter().filter(|key| !same(key) && key.replaced_by.is_none()).collect()
    }

    async fn keys(&self) -> Vec<KeyRecord> {
        let mut all = KeyQuery::default();
        all.limit = u32::MAX;
        self.store.list(&self.owner, &all).await.unwrap()
    }

    async fn member(&self, role: MemberRole) {
        self.store.set_member("A", &self.owner, &member(role, &["p1", "p2"])).await.unwrap();
    }

    async fn moment(&self) {
        if self.moments.fetch_add(1, Ordering::SeqCst) != self.moment {
            return;
        }
        let (store, now) = (&self.store, self.clock.now());
        let operator = Terms::by(Authority::Operator);
        match self.event {
            Event::Revoke => drop(store.revoke(&self.key, now, &operator).await.unwrap()),
            // The keys of these tests end within the hour.
            Event::Expire => self.clock.advance(Duration::from_secs(3600)),
            Event::Narrow => {
                let office = Restrictions::none().ip(IpRestriction::allow(["192.0.2.0/24"]).unwrap());
                let narrow = KeyUpdate::new().restrictions(office);
                store.update(&self.key, &narrow, now, &operator).await.unwrap();
            }
            Event::Remove => store.remove_member("A", &self.owner, now).await.unwrap(),
            Event::Demote => self.member(MemberRole::ReadOnly).await,
        }
        let keys = self.keys().await;
        let keys = keys.into_iter().map(|key| (key.id.clone(), format!("{key:?}"))).collect();
        *self.after.lock().await = Some(keys);
    }
}

#[async_trait]
impl Hook for Meddler {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        self.moment().await;
        Ok(())
    }

    async fn after(&self, _: Call) {
        self.moment().await;
    }
}
