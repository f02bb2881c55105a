//! How the work of a connection fails.

use super::{LedgerError, StoreError};
use crate::key::UserId;

/// A [`LedgerError`] that `?` makes from whatever goes wrong; the errors of drivers stay out of the public API. How a
/// driver's error is read stands beside the store that uses it.
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

    /// The same, with the id of the user whose rows were read, if they make no sense.
    pub(super) fn of_user(self, user: &UserId) -> Self {
        match self.0 {
            LedgerError::Store(StoreError::Corrupt(row)) => StoreError::Corrupt(row.of_user(user)).into(),
            other => Self(other),
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
