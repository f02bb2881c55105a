//! Tests with a broken random source, which cannot be made from outside.

use async_trait::async_trait;

use super::KeyringError;
use super::issued::Grace;
use super::new_key::NewKey;
use crate::ApiKeys;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyFormat, KeyId, ProjectId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyRecord};
use crate::role::{AccountStatus, Role};
use crate::store::AuditLog;
use crate::store::KeyInventory;
use crate::store::UsageLog;
use crate::store::{Directory, KeyQuery, KeyRegistry, RegistryError, StoreError};

/// A store with one key, which fails the test if anything is written.
struct ReadOnly;

#[async_trait]
impl KeyRegistry for ReadOnly {
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

    async fn insert(&self, _: KeyRecord, _: &crate::store::Terms) -> Result<(), RegistryError> {
        panic!("a key without randomness was written");
    }

    async fn replace(
        &self,
        _: &KeyId,
        _: FreshKey,
        _: Timestamp,
        _: &crate::store::Terms,
    ) -> Result<KeyRecord, RegistryError> {
        panic!("a key was replaced by one without randomness");
    }

    async fn end(
        &self,
        _: &KeyId,
        _: crate::audit::Revocation,
        _: Timestamp,
        _: &crate::store::Terms,
    ) -> Result<crate::store::Ended, RegistryError> {
        panic!("a key was revoked for one without randomness");
    }

    async fn update(
        &self,
        _: &KeyId,
        _: &KeyUpdate,
        _: Timestamp,
        _: &crate::store::Terms,
    ) -> Result<crate::store::Updated, RegistryError> {
        Err(StoreError::Overloaded.into())
    }

    async fn rehash(
        &self,
        _: &KeyId,
        _: &KeyDigest,
        _: &KeyDigest,
        _: &DigestMethod,
        _: Timestamp,
    ) -> Result<(), RegistryError> {
        Err(StoreError::Overloaded.into())
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(Some(KeyRecord::new(id.clone(), KeyDigest::of("x"), alice(), Timestamp::from_secs(0))))
    }

    async fn list(&self, _: &UserId, _: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Directory for ReadOnly {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        Ok(AccountStatus::Active { role: Some(Role::Owner) })
    }
}

fn alice() -> UserId {
    UserId::new("alice").unwrap()
}

#[tokio::test]
async fn c7_10_without_randomness_there_is_no_key_and_no_row() {
    let broken = KeyFormat::default().with_random_source(|_| Err(getrandom::Error::UNSUPPORTED));
    let keyring = ApiKeys::new(ReadOnly).key_format(broken).keyring();
    let issued = keyring.issue(NewKey::user_level(alice(), "a")).await;
    assert!(matches!(issued, Err(KeyringError::RandomSource(_))), "{issued:?}");
    let rotated = keyring.rotate(&KeyId::new("key_1").unwrap(), Grace::None).await;
    assert!(matches!(rotated, Err(KeyringError::RandomSource(_))), "{rotated:?}");
}
