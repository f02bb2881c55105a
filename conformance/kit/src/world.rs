//! Two accounts with people, projects and keys, created at run time.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower_api_key::store::{
    Accounts as _, KeyRegistry as _, Member, MemberRole, MemoryStore, Project, Terms,
};
use tower_api_key::{
    ApiKey, Environment, KeyDigest, KeyFormat, KeyId, KeyLevel, KeyPolicy, KeyRecord, ProjectId, Timestamp,
    UserId,
};

use crate::Counted;

/// Account A: owner `u_own`, `u_full` FULL on p1 and p2, `u_ro` READONLY on p1, projects p1, p2, p3.
/// Account B: owner `u_b`, project q1.
pub struct World {
    pub store: MemoryStore,
    pub own: ApiKey,
    pub full: ApiKey,
    pub ro: ApiKey,
    /// Project level, p1, of `u_own`.
    pub p1: ApiKey,
    pub test: ApiKey,
    pub revoked: ApiKey,
    pub expired: ApiKey,
    pub b: ApiKey,
    /// Of a user without an account.
    pub stray: ApiKey,
    next_id: AtomicUsize,
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub fn project(id: &str) -> ProjectId {
    ProjectId::new(id).unwrap()
}

pub fn member(role: MemberRole, projects: &[&str]) -> Member {
    Member::new(role, projects.iter().map(|id| project(id)))
}

impl World {
    pub async fn new() -> Self {
        let store = MemoryStore::new();
        store.create_account("A", &user("u_own")).await.unwrap();
        store.create_account("B", &user("u_b")).await.unwrap();
        for (account, id) in [("A", "p1"), ("A", "p2"), ("A", "p3"), ("B", "q1")] {
            store.create_project(account, &Project::new(project(id), id.to_uppercase())).await.unwrap();
        }
        store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p1", "p2"])).await.unwrap();
        store.set_member("A", &user("u_ro"), &member(MemberRole::ReadOnly, &["p1"])).await.unwrap();
        let blank = || KeyFormat::default().generate(Environment::Live).unwrap();
        let mut world = Self {
            store,
            own: blank(),
            full: blank(),
            ro: blank(),
            p1: blank(),
            test: blank(),
            revoked: blank(),
            expired: blank(),
            b: blank(),
            stray: blank(),
            next_id: AtomicUsize::new(0),
        };
        world.own = world.key("u_own", |_| ()).await;
        world.full = world.key("u_full", |_| ()).await;
        world.ro = world.key("u_ro", |_| ()).await;
        world.p1 = world.key("u_own", |key| key.level = KeyLevel::Project(project("p1"))).await;
        world.test = world.key("u_own", |key| key.environment = Environment::Test).await;
        world.revoked = world.key("u_own", |key| key.revoked_at = Some(Timestamp::from_secs(2))).await;
        world.expired = world.key("u_own", |key| key.expires_at = Some(Timestamp::from_secs(2))).await;
        world.b = world.key("u_b", |_| ()).await;
        world.stray = world.key("u_nobody", |_| ()).await;
        world
    }

    /// Adds another key to the store.
    pub async fn key(&self, owner: &str, change: impl FnOnce(&mut KeyRecord)) -> ApiKey {
        let id = KeyId::new(format!("key_{}", self.next_id.fetch_add(1, Ordering::Relaxed))).unwrap();
        let placeholder = KeyDigest::from_bytes([0; 32]);
        let mut record = KeyRecord::new(id, placeholder, user(owner), Timestamp::from_secs(1));
        change(&mut record);
        let format = KeyFormat::default();
        let key = format.generate(record.environment).unwrap();
        record.digest = key.digest();
        record.prefix = format.prefix(record.environment).to_owned();
        record.last4 = key.expose_secret()[43..].to_owned();
        record.name = format!("{owner}'s");
        self.store
            .insert(
                record,
                &Terms::by(tower_api_key::Authority::System)
                    .policy(KeyPolicy::Multiple { max: NonZero::new(1000).unwrap() }),
            )
            .await
            .unwrap();
        key
    }

    /// Its store with a counter, which never answers from memory, so that the waiting path is tested.
    pub fn counted(&self) -> (Counted, Arc<AtomicUsize>) {
        let counted = Counted::new(self, false);
        let calls = Arc::clone(&counted.calls);
        (counted, calls)
    }
}
