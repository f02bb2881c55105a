//! Converts PostgreSQL's errors to [`StoreError`] and [`RegistryError`].

use std::fmt;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

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

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refused) = error.as_db_error() else { return StoreError::failed(Broken(error)).into() };
        let code = refused.code();
        if *code == SqlState::UNIQUE_VIOLATION {
            // A concurrent change came first.
            return RegistryError::Conflict.into();
        }
        store_error(code, || Refused::new(code, refused.message(), refused.table(), refused.constraint()))
            .into()
    }
}

/// The error if the pool returns no connection.
pub(crate) fn no_connection(error: PoolError) -> StoreError {
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

/// Whether the server refused the startup parameters of a connection, as poolers without support for `options` do.
pub(crate) fn refuses_options(error: &StoreError) -> bool {
    let StoreError::Failed(cause) = error else { return false };
    let codes = [SqlState::PROTOCOL_VIOLATION, SqlState::FEATURE_NOT_SUPPORTED];
    cause
        .downcast_ref::<NotLetIn>()
        .is_some_and(|refused| codes.iter().any(|code| code.code() == refused.code))
}

fn store_error<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    code: &SqlState,
    otherwise: impl FnOnce() -> E,
) -> StoreError {
    // The statement or lock timeout has expired. A shutdown by an administrator is another code.
    if [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code) {
        StoreError::Timeout
    } else if [SqlState::TOO_MANY_CONNECTIONS, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
        StoreError::Overloaded
    } else {
        StoreError::failed(otherwise())
    }
}

/// Error classes whose messages concern connections, the schema's names and rights, and never quote a row:
/// connection, not supported, invalid transaction state, invalid prepared statement, authorization, unknown
/// database or schema, names and rights, resources, operator intervention, system error.
const SAID: [&str; 11] = ["08", "0A", "25", "26", "28", "3D", "3F", "42", "53", "57", "58"];

/// Errors behind a pooler that gives each transaction another connection: the prepared statement is missing, or
/// belongs to another client.
const POOLED: [SqlState; 2] = [SqlState::DUPLICATE_PSTATEMENT, SqlState::INVALID_SQL_STATEMENT_NAME];

/// The server refused a statement.
#[derive(Debug)]
struct Refused {
    code: String,
    /// Messages of other classes, and all details, quote values, so they are dropped.
    message: Option<String>,
    /// Names from the schema.
    table: Option<String>,
    constraint: Option<String>,
    pooled: bool,
}

impl Refused {
    fn new(code: &SqlState, message: &str, table: Option<&str>, constraint: Option<&str>) -> Self {
        let said = SAID.iter().any(|class| code.code().starts_with(class));
        Self {
            code: code.code().to_owned(),
            message: said.then(|| message.to_owned()),
            table: table.map(str::to_owned),
            constraint: constraint.map(str::to_owned),
            pooled: POOLED.contains(code),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL refused a statement: SQLSTATE {}", self.code)?;
        if let Some(table) = &self.table {
            write!(f, ", table {table}")?;
        }
        if let Some(constraint) = &self.constraint {
            write!(f, ", constraint {constraint}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if self.pooled {
            f.write_str(
                ". A pooler gives each transaction another connection: use a direct connection, or session mode",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// The server refused a connection; its message contains at most names of users and databases.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL refused a connection: SQLSTATE {code}: {why}")]
struct NotLetIn {
    code: String,
    why: String,
}

/// The connection failed, or a value had an unexpected type; neither message contains data.
#[derive(Debug, thiserror::Error)]
#[error("the connection to PostgreSQL failed")]
struct Broken(#[source] tokio_postgres::Error);

/// A query that ended without a result: the runtime is shutting down, or there is a bug.
#[derive(Debug, thiserror::Error)]
#[error("a PostgreSQL query ended without a result")]
pub(crate) struct NoResult;

/// A query after the store was closed.
#[derive(Debug, thiserror::Error)]
#[error("the store was closed")]
pub(crate) struct Closed;

/// The server is a standby, whose data may lag.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server is a standby in recovery; only a primary is asked: add `target_session_attrs=read-write`"
)]
pub(crate) struct Standby;

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn refused(code: &str, message: &str, table: Option<&str>) -> StoreError {
        let code = SqlState::from_code(code);
        store_error(&code, || Refused::new(&code, message, table, table.map(|_| "c")))
    }

    fn told(error: &StoreError) -> String {
        format!("{} {error:?}", error.source().map(ToString::to_string).unwrap_or_default())
    }

    #[test]
    fn c17_f2_the_servers_message_is_told_where_it_quotes_no_row() {
        for code in ["42501", "42P01", "26000", "28000", "28P01", "08P01", "08006", "25006", "57P01", "53100"]
        {
            let error = refused(code, "permission denied for table keys", None);
            let told = told(&error);
            assert!(told.contains(code) && told.contains("permission denied for table keys"), "{told}");
            assert!(!error.source().unwrap().to_string().contains("None"), "{told}");
        }
        let error = refused("42501", "permission denied", Some("keys"));
        let text = error.source().unwrap().to_string();
        assert_eq!(
            text,
            "PostgreSQL refused a statement: SQLSTATE 42501, table keys, constraint c: permission denied"
        );
    }

    #[test]
    fn c13_02_messages_that_may_quote_a_row_are_not_kept() {
        for code in ["22P02", "23514", "23502", "23505", "P0001", "XX000", "22001", "40001"] {
            let told = told(&refused(code, "canary", Some("keys")));
            assert!(told.contains(code) && told.contains("keys") && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn c17_f1_a_statement_that_a_pooler_has_lost_says_what_to_do() {
        for (code, pooled) in [("42P05", true), ("26000", true), ("42501", false), ("08P01", false)] {
            let text = refused(code, "prepared statement", None).source().unwrap().to_string();
            assert_eq!(text.contains("a direct connection, or session mode"), pooled, "{text}");
        }
    }

    #[test]
    fn what_is_in_time_and_what_is_too_much_are_told_apart() {
        for (code, is) in [
            ("57014", "the store did not answer in time"),
            ("55P03", "the store did not answer in time"),
            ("53300", "the store is overloaded"),
            ("40P01", "the store is overloaded"),
            ("57P01", "the store failed"),
            ("53100", "the store failed"),
            ("42501", "the store failed"),
        ] {
            assert_eq!(refused(code, "", None).to_string(), is, "{code}");
        }
    }

    #[test]
    fn c17_f1_a_pooler_that_takes_no_options_is_asked_without() {
        let not_let_in = |code: &str| {
            StoreError::failed(NotLetIn {
                code: code.to_owned(),
                why: "unsupported startup parameter".to_owned(),
            })
        };
        assert!(refuses_options(&not_let_in("08P01")) && refuses_options(&not_let_in("0A000")));
        assert!(!refuses_options(&not_let_in("28P01")) && !refuses_options(&StoreError::Timeout));
        assert!(!refuses_options(&refused("08P01", "", None)));
    }
}
