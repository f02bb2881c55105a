//! What SQLite's errors mean.

use super::super::StoreError;
pub(super) use super::super::failure::Failure;

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};

        let store_error = match error {
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => StoreError::corrupt("a value is of another type"),
            // The busy timeout is over.
            other if matches!(other.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) => {
                StoreError::Timeout
            }
            other => StoreError::failed(other),
        };
        store_error.into()
    }
}
