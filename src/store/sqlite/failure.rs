//! How the work of a connection fails.

use super::super::{LedgerError, StoreError};

/// A [`LedgerError`] that `?` makes from whatever goes wrong; SQLite's errors stay out of the public API.
#[derive(Debug)]
pub(super) struct Failure(LedgerError);

impl Failure {
    /// For what only reads: there, every failure is the store's.
    pub(super) fn into_store_error(self) -> StoreError {
        match self.0 {
            LedgerError::Store(error) => error,
            other => StoreError::failed(other),
        }
    }

    pub(super) fn into_ledger_error(self) -> LedgerError {
        self.0
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};

        let store_error = match error {
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => StoreError::Corrupt("a value is of another type"),
            // The busy timeout is over.
            other if matches!(other.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) => {
                StoreError::Timeout
            }
            other => StoreError::failed(other),
        };
        store_error.into()
    }
}
