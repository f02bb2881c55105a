//! [`StoreError`] and [`RegistryError`]: why a store gave no answer or made no change.

use std::error::Error;

use super::corrupt::CorruptRow;
use crate::authority::Denied;
use crate::key::{KeyId, UserId};

/// The store failed to answer. This is not the same as "not found".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store failed: connection, disk, permission, ...
    #[error("the store failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// The store is overloaded.
    #[error("the store is overloaded")]
    Overloaded,
    /// A row in the store is corrupt. It is never read as some default right.
    #[error("the store contains a corrupt row: {0}")]
    Corrupt(CorruptRow),
    /// The store did not answer in time.
    #[error("the store did not answer in time")]
    Timeout,
    /// The registry does not keep this: no audit log, or no usage. Trying again does not help.
    #[error("the store does not keep this")]
    NotKept,
}

impl StoreError {
    /// Wraps the error of a driver.
    pub fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(source.into())
    }

    /// Creates an error for a corrupt row. A [`CorruptRow`] can also contain whose row it is.
    #[must_use]
    pub fn corrupt(what: &'static str) -> Self {
        Self::Corrupt(CorruptRow::new(what))
    }

    /// Adds the key to an error about a corrupt row.
    #[must_use]
    pub fn of_key(self, id: &KeyId) -> Self {
        match self {
            Self::Corrupt(row) => Self::Corrupt(row.of_key(id)),
            other => other,
        }
    }

    /// Adds the user to an error about a corrupt row.
    #[must_use]
    pub fn of_user(self, user: &UserId) -> Self {
        match self {
            Self::Corrupt(row) => Self::Corrupt(row.of_user(user)),
            other => other,
        }
    }

    /// The same error; where it is about a row, it names the account of that row.
    #[must_use]
    pub fn of_account(self, account: &str) -> Self {
        match self {
            Self::Corrupt(row) => Self::Corrupt(row.of_account(account)),
            other => other,
        }
    }
}

/// Why a registry changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no such key, account, project or member.
    #[error("there is no such entry")]
    NotFound,
    /// The key is revoked, expired or already replaced.
    #[error("the key has ended or was replaced")]
    Ended,
    /// The entry exists, or conflicts with another.
    #[error("the entry exists, or conflicts with another")]
    Conflict,
    /// The entry contradicts itself, or breaks the rules for ids, so that no store could read it back.
    #[error("the entry is not valid: {0}")]
    Invalid(&'static str),
    /// The restrictions or the metadata of a new key are too long, or an update would make restrictions that are
    /// too long even longer.
    #[error("the entry is too long: {0}")]
    TooLong(&'static str),
    /// The user has as many active keys as the policy allows.
    #[error("the user has as many active keys as are allowed")]
    TooManyKeys,
    /// The policy allows one key at a time, and no grace period for a replaced one.
    #[error("the policy allows no grace")]
    NoGrace,
    /// The key was changed too often within an hour.
    #[error("the key was changed too often")]
    TooManyChanges,
    /// The authority may not make this change.
    #[error("the change is not allowed: {0}")]
    Denied(Denied),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistryError {
    /// Converts to a [`StoreError`], for methods that only read but share code with methods that write.
    #[must_use]
    pub fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            other => StoreError::failed(other),
        }
    }
}
