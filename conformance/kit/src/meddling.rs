//! A store in which something happens between two of its answers: at a chosen moment, before or after a call, access
//! is taken away, as if by another process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::{Accounts as _, KeyRegistry as _, MemberRole, MemoryStore, StoreError, Terms};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{Authority, Clock as _, KeyId, KeyQuery, KeyRecord, KeyUpdate, UserId};

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

/// The store in which the event happens.
pub type Meddling = Hooked<Meddler>;

/// The event, and its moment.
pub struct Meddler {
    store: MemoryStore,
    clock: ManualClock,
    event: Event,
    key: KeyId,
    owner: UserId,
    moment: usize,
    moments: AtomicUsize,
    /// All keys of the owner, as they were right after the event.
    after: Mutex<Option<BTreeMap<KeyId, String>>>,
}

impl Meddling {
    /// The store with `event` for a member of account A, or for a key of theirs. `moment` counts the moments before
    /// and after each call.
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
    /// Whether the event has happened. If not, there were fewer moments.
    pub async fn has_happened(&self) -> bool {
        self.after.lock().await.is_some()
    }

    /// All keys of the owner that were made or changed after the event, in their current state. Replaced keys are
    /// left out, because they can only end. A person who was removed becomes a member again.
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
            // The keys of these tests expire within an hour.
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
