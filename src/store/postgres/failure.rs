//! What PostgreSQL's errors mean.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

pub(super) use super::super::failure::Failure;
use super::super::{LedgerError, StoreError};

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refused) = error.as_db_error() else { return StoreError::failed(Broken(error)).into() };
        let code = refused.code();
        if *code == SqlState::UNIQUE_VIOLATION {
            // Somebody else was quicker.
            return LedgerError::Conflict.into();
        }
        store_error(code, || Refused {
            code: code.code().to_owned(),
            // Names of the schema. Messages and details quote values, and are not kept.
            table: refused.table().map(str::to_owned),
            constraint: refused.constraint().map(str::to_owned),
        })
        .into()
    }
}

/// From a pool that gave no connection.
pub(super) fn no_connection(error: PoolError) -> StoreError {
    match error {
        PoolError::Timeout(_) => StoreError::Timeout,
        PoolError::Backend(error) => match error.as_db_error() {
            Some(refused) => {
                let code = refused.code();
                store_error(code, || NotLetIn {
                    code: code.code().to_owned(),
                    why: refused.message().to_owned(),
                })
            }
            None => StoreError::failed(error),
        },
        other => StoreError::failed(other),
    }
}

fn store_error<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    code: &SqlState,
    otherwise: impl FnOnce() -> E,
) -> StoreError {
    // The statement timeout and the lock timeout are over; an administrator's word is none of these.
    if [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code) {
        StoreError::Timeout
    } else if [SqlState::TOO_MANY_CONNECTIONS, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
        StoreError::Overloaded
    } else {
        StoreError::failed(otherwise())
    }
}

/// The server refused a statement.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL refused a statement: SQLSTATE {code}, table {table:?}, constraint {constraint:?}")]
struct Refused {
    code: String,
    table: Option<String>,
    constraint: Option<String>,
}

/// The server refused a connection; its reason names at most users and databases.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL refused a connection: SQLSTATE {code}: {why}")]
struct NotLetIn {
    code: String,
    why: String,
}

/// The connection failed, or a value was of another type than it must be: neither says which.
#[derive(Debug, thiserror::Error)]
#[error("the connection to PostgreSQL failed")]
struct Broken(#[source] tokio_postgres::Error);

/// A question that was begun and had no end: the runtime is shutting down, or a bug.
#[derive(Debug, thiserror::Error)]
#[error("what was asked of PostgreSQL gave no answer")]
pub(super) struct Gone;

/// What must not be asked of a copy that lags.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server is a standby in recovery; only a primary is asked: add `target_session_attrs=read-write`"
)]
pub(super) struct Standby;
