//! Converts SQLite's errors to [`StoreError`] and [`RegistryError`].

use tower_api_key::UserId;
use tower_api_key::store::{RegistryError, StoreError};

/// A [`RegistryError`] made by `?` from every kind of error, which keeps the driver's errors out of the public API.
#[derive(Debug)]
pub(crate) struct Failure(RegistryError);

impl Failure {
    /// For reads, where every failure is a store error.
    pub(crate) fn into_store_error(self) -> StoreError {
        self.0.into_store_error()
    }

    /// The same, and if a row is corrupt, names the user whose rows were read.
    pub(crate) fn of_user(self, user: &UserId) -> Self {
        match self.0 {
            RegistryError::Store(error) => error.of_user(user).into(),
            other => Self(other),
        }
    }

    pub(crate) fn into_registry_error(self) -> RegistryError {
        self.0
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
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
            | rusqlite::Error::Utf8Error(..) => StoreError::corrupt("a value is of another type"),
            // The busy timeout has expired.
            other if matches!(other.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) => {
                StoreError::Timeout
            }
            other => StoreError::failed(other),
        };
        store_error.into()
    }
}
