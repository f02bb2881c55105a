//! Why a store gave no answer, or made no change.

use std::error::Error;

use super::corrupt::CorruptRow;
use crate::authority::Denied;
use crate::key::{KeyId, UserId};

/// The store could not tell. Not the same as "no".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store failed: connection, disk, permission, ...
    #[error("the store failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// The store has more to do than it can.
    #[error("the store is overloaded")]
    Overloaded,
    /// The store holds something that makes no sense. It is never read as default rights.
    #[error("the store holds a row that cannot be: {0}")]
    Corrupt(CorruptRow),
    /// The store did not answer in time.
    #[error("the store did not answer in time")]
    Timeout,
    /// The registry keeps no such thing: no trail, or no usage. It will not tomorrow either.
    #[error("the store does not keep this")]
    NotKept,
}

impl StoreError {
    /// From whatever a driver says.
    pub fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(source.into())
    }

    /// From what is wrong with a row; [`CorruptRow`] can also say whose row it is.
    #[must_use]
    pub fn corrupt(what: &'static str) -> Self {
        Self::Corrupt(CorruptRow::new(what))
    }

    /// The same error; where it is about a row, it names the key of that row.
    #[must_use]
    pub fn of_key(self, id: &KeyId) -> Self {
        match self {
            Self::Corrupt(row) => Self::Corrupt(row.of_key(id)),
            other => other,
        }
    }

    /// The same error; where it is about a row, it names the user of that row.
    #[must_use]
    pub fn of_user(self, user: &UserId) -> Self {
        match self {
            Self::Corrupt(row) => Self::Corrupt(row.of_user(user)),
            other => other,
        }
    }
}

/// Why a registry did not change anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no such key, account, project or member.
    #[error("there is no such entry")]
    NotFound,
    /// The key is revoked, expired or already replaced.
    #[error("the key has ended or was replaced")]
    Ended,
    /// The entry exists, or is in the way of another.
    #[error("the entry exists or stands in the way of another")]
    Conflict,
    /// The entry contradicts itself or the rules for ids: no store could read it back.
    #[error("the entry makes no sense: {0}")]
    Invalid(&'static str),
    /// The restrictions or the metadata of a new key are longer than they may be, or those of an old one would become longer.
    #[error("the entry is too long: {0}")]
    TooLong(&'static str),
    /// The user has as many active keys as the policy allows.
    #[error("the user has as many active keys as are allowed")]
    TooManyKeys,
    /// The policy allows one key at a time, and a replaced one no grace.
    #[error("the policy allows no grace")]
    NoGrace,
    /// The key was changed as often as it may be within an hour.
    #[error("the key was changed too often")]
    TooManyChanges,
    /// The one who asks may not make this change.
    #[error("the change is not allowed: {0}")]
    Denied(Denied),
    /// The store could not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistryError {
    /// For methods that only read and share code with those that write: there, every error is the store's.
    #[must_use]
    pub fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            other => StoreError::failed(other),
        }
    }
}
