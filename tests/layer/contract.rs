//! The contract suite for the store in memory, and for an application's own store that can only find keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tower_api_key::store::{
    Accounts as _, Directory, KeyRegistry as _, KeyStore, Member, MemberRole, MemoryStore, Project,
    StoreError, Terms,
};
use tower_api_key::test_util::contract;
use tower_api_key::{AccountStatus, Authority, KeyDigest, KeyRecord, ProjectId, Role, Timestamp, UserId};

#[tokio::test(flavor = "multi_thread")]
async fn memory_keys() {
    contract::key_store_and_registry(async || MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_accounts() {
    contract::accounts(async || MemoryStore::new()).await;
}

/// An application's own directory and keys.
#[derive(Default)]
struct Own {
    keys: Mutex<HashMap<[u8; 32], Arc<KeyRecord>>>,
    people: Mutex<HashMap<UserId, (Role, Vec<ProjectId>)>>,
    /// Its defects.
    loses_restrictions: bool,
    forgives: bool,
}

#[async_trait]
impl KeyStore for Own {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(self.keys.lock().unwrap().get(digest.as_bytes()).cloned())
    }
}

#[async_trait]
impl Directory for Own {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let people = self.people.lock().unwrap();
        Ok(match people.get(user) {
            None => AccountStatus::Disabled,
            Some((role, own)) => {
                let may = project.is_none_or(|project| own.contains(project));
                AccountStatus::Active { role: may.then_some(*role) }
            }
        })
    }
}

async fn keep(own: &Own, mut record: KeyRecord) -> bool {
    if own.loses_restrictions {
        record.restrictions = tower_api_key::restriction::Restrictions::default();
    }
    own.keys.lock().unwrap().insert(*record.digest.as_bytes(), Arc::new(record));
    true
}

async fn meet(own: &Own, user: &UserId, role: Role, projects: &[ProjectId]) -> bool {
    own.people.lock().unwrap().insert(user.clone(), (role, projects.to_vec()));
    true
}

async fn part(own: &Own, user: &UserId) {
    if !own.forgives {
        own.people.lock().unwrap().remove(user);
    }
}

#[tokio::test]
async fn own_keys_and_people_alone() {
    contract::key_store(async || Own::default(), keep).await;
    contract::directory(async || Own::default(), meet, part).await;
}

#[tokio::test]
#[should_panic(expected = "restricted: the restrictions")]
async fn a_store_that_loses_restrictions_fails() {
    contract::key_store(async || Own { loses_restrictions: true, ..Own::default() }, keep).await;
}

#[tokio::test]
#[should_panic(expected = "who was removed is still there")]
async fn a_directory_that_keeps_removed_people_fails() {
    contract::directory(async || Own { forgives: true, ..Own::default() }, meet, part).await;
}

#[tokio::test]
async fn memory_alone() {
    let insert = async |store: &MemoryStore, record: KeyRecord| {
        store.insert(record, &Terms::by(Authority::System)).await.unwrap();
        true
    };
    contract::key_store(async || MemoryStore::new(), insert).await;

    let account = |user: &UserId| user.as_str().replace(['|', '+', '='], "_");
    let put = async |store: &MemoryStore, user: &UserId, role: Role, projects: &[ProjectId]| {
        let account = account(user);
        let owner =
            if role == Role::Owner { user.clone() } else { UserId::new(format!("{account}_owner")).unwrap() };
        store.create_account(&account, &owner).await.unwrap();
        for project in projects {
            store.create_project(&account, &Project::new(project.clone(), "A project")).await.unwrap();
        }
        let role = match role {
            Role::Owner => return true,
            Role::Full => MemberRole::Full,
            _ => MemberRole::ReadOnly,
        };
        store.set_member(&account, user, &Member::new(role, projects.to_vec())).await.unwrap();
        true
    };
    let remove = async |store: &MemoryStore, user: &UserId| {
        store.remove_member(&account(user), user, Timestamp::from_secs(1)).await.unwrap();
    };
    contract::directory(async || MemoryStore::new(), put, remove).await;
}
