//! [`Row`]: reads the values of a PostgreSQL row.

use tokio_postgres::types::FromSql;

use crate::failure::Standby;
use tower_api_key::store::StoreError;
use tower_api_key::store::codec::KeyRow;

/// A row of the driver. A newtype, because a trait of one crate cannot be implemented for a type of another.
pub(crate) struct Row(tokio_postgres::Row);

impl Row {
    pub(crate) fn new(row: tokio_postgres::Row) -> Self {
        Self(row)
    }
}

impl KeyRow for Row {
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        optional(self, column)
    }

    fn number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        optional(self, column)
    }

    fn bytes(&self, column: usize) -> Option<&[u8]> {
        self.0.try_get(column).ok()
    }

    fn free_text(&self, column: usize) -> Result<String, StoreError> {
        let text = self.text(column)?;
        serde_json::from_str(text).map_err(|_| self.wrong(column, "what people wrote is no JSON text"))
    }

    fn name(&self, column: usize) -> &str {
        self.0.columns().get(column).map_or("", |column| column.name())
    }
}

pub(crate) fn optional<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<Option<T>, StoreError> {
    row.0.try_get(column).map_err(|_| row.wrong(column, "a value is of another type"))
}

pub(crate) fn value<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, StoreError> {
    optional(row, column)?.ok_or_else(|| row.wrong(column, "a value is missing"))
}

/// Checks the column with `pg_is_in_recovery()`: an error if the server is a standby, whose data may lag (C9-04).
pub(crate) fn of_primary(row: &Row, column: usize) -> Result<(), StoreError> {
    if value(row, column)? { Err(StoreError::failed(Standby)) } else { Ok(()) }
}
