//! Questions about keys, and about their owners.

use std::collections::BTreeMap;

use crate::access::AccountStatus;
use crate::audit::AuditEntry;
use crate::key::{KeyId, UserId};
use crate::record::{KeyLevel, KeyRecord};
use crate::store::{KeyCount, KeyPage, KeyQuery, KeyRegistry, StoreError};

use super::error::KeyringError;
use super::keyring::Keyring;

impl Keyring {
    /// The record of a key, ended or not.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, KeyringError> {
        Ok(self.read(self.registry.get(id)).await?)
    }

    /// The keys of a user that a query selects: all of them, oldest first, if it says nothing else. Pass the last id as
    /// [`KeyQuery::after`] for those that follow.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`] if the cursor is not a key of this user, [`KeyringError::Store`].
    pub async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, KeyringError> {
        Ok(self.read(self.registry.list(owner, query)).await?)
    }

    /// The same, in pages that end early before they are [large](crate::store::MAX_PAGE_LEN), and say whether there is more.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, KeyringError> {
        Ok(self.read(self.registry.page(owner, query)).await?)
    }

    /// How many keys of a user a query selects, its cursor and limit aside, as far as
    /// [they are counted](KeyRegistry::count).
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, KeyringError> {
        Ok(self.read(self.registry.count(owner, query, most)).await?)
    }

    /// What became of a key, newest first, up to so many entries; nothing for a key that is not there.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`], with [`StoreError::NotKept`] if the registry keeps no
    /// trail.
    pub async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, KeyringError> {
        let history =
            async { self.registry.audit_log().ok_or(StoreError::NotKept)?.history(id, limit).await };
        Ok(self.read(history).await?)
    }

    /// How many keys that are not revoked were digested in which way: `sha256`, `hmac:2027`, ...
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn count_by_digest(&self) -> Result<BTreeMap<String, u64>, KeyringError> {
        let count =
            async { self.registry.inventory().ok_or(StoreError::NotKept)?.count_by_digest_method().await };
        Ok(self.read(count).await?)
    }

    /// Those among them that no layer with this keyring's ring finds: a pepper is missing, or was taken away too early
    /// (C7-07). Ask at start, and say so if there are any.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn missing_digests(&self) -> Result<BTreeMap<String, u64>, KeyringError> {
        let mut counts = self.count_by_digest().await?;
        counts.retain(|kind, _| !self.digests.knows(kind));
        Ok(counts)
    }

    /// What a user may do at the moment where a key of this level works.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if the directory could not tell.
    pub async fn account_status(&self, user: &UserId, level: &KeyLevel) -> Result<AccountStatus, StoreError> {
        self.standing_at(user, level.project()).await
    }

    /// Asks an application's own store something on behalf of the person for whom this keyring [acts](Self::acting_as): within
    /// their share of what is asked at once, and within the deadline.
    ///
    /// # Errors
    ///
    /// What the question says; [`StoreError::Overloaded`] and [`StoreError::Timeout`].
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.read(question).await
    }
}
