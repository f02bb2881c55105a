//! Queries about keys and their owners.

use std::collections::BTreeMap;

use crate::audit::AuditEntry;
use crate::key::{KeyId, UserId};
use crate::record::{KeyLevel, KeyRecord};
use crate::role::AccountStatus;
use crate::store::{KeyCount, KeyPage, KeyQuery, KeyRegistry, StoreError};

use super::error::KeyringError;
use super::keyring::Keyring;

impl Keyring {
    /// Returns the record of a key, ended or not.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, KeyringError> {
        Ok(self.read(self.registry.get(id)).await?)
    }

    /// Returns the keys of a user that a query selects; with the default query, all of them, oldest first. Pass the
    /// last id as [`KeyQuery::after`] to get the next ones.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`] if the cursor is not a key of this user, [`KeyringError::Store`].
    pub async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, KeyringError> {
        Ok(self.read(self.registry.list(owner, query)).await?)
    }

    /// Like [`list`](Self::list), in pages of a [limited size](crate::store::MAX_PAGE_LEN), which say whether more
    /// keys follow.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, KeyringError> {
        Ok(self.read(self.registry.page(owner, query)).await?)
    }

    /// Counts the keys of a user that a query selects, without its cursor and limit, up to a maximum; see
    /// [`KeyRegistry::count`].
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, KeyringError> {
        Ok(self.read(self.registry.count(owner, query, most)).await?)
    }

    /// Returns the audit log of a key, newest first, up to `limit` entries; empty for an unknown key.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`], with [`StoreError::NotKept`] if the registry keeps no audit log.
    pub async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, KeyringError> {
        let history =
            async { self.registry.audit_log().ok_or(StoreError::NotKept)?.history(id, limit).await };
        Ok(self.read(history).await?)
    }

    /// Counts the keys that are not revoked, by the kind of their digest: `sha256`, `hmac:2027`, ...
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn count_by_digest(&self) -> Result<BTreeMap<String, u64>, KeyringError> {
        let count =
            async { self.registry.inventory().ok_or(StoreError::NotKept)?.count_by_digest_method().await };
        Ok(self.read(count).await?)
    }

    /// Like [`count_by_digest`](Self::count_by_digest), only for the kinds that the keyring's digests do not
    /// include, because a pepper is missing or was removed too early (C7-07). No layer with these digests finds
    /// such keys. Call this at start, and report the result if it is not empty.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn missing_digests(&self) -> Result<BTreeMap<String, u64>, KeyringError> {
        let mut counts = self.count_by_digest().await?;
        counts.retain(|kind, _| !self.digests.knows(kind));
        Ok(counts)
    }

    /// Returns what a user may do now where a key of this level applies.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory failed.
    pub async fn account_status(&self, user: &UserId, level: &KeyLevel) -> Result<AccountStatus, StoreError> {
        self.standing_at(user, level.project()).await
    }

    /// Queries the application's own store on behalf of the user for whom this keyring [acts](Self::acting_as),
    /// within that user's share of concurrent queries and within the deadline.
    ///
    /// # Errors
    ///
    /// The error of the query, [`StoreError::Overloaded`] or [`StoreError::Timeout`].
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.read(question).await
    }
}
