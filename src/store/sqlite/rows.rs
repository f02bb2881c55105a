//! What SQLite tells of a row.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::StoreError;
use super::super::rows::KeyRow;
use crate::record::KeyRecord;

/// The record in a row of `key_columns!()`.
pub(super) fn key(row: &Row<'_>) -> Result<KeyRecord, StoreError> {
    row.key()
}

pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, StoreError> {
    row.text(column)
}

/// Zero or one, and nothing else.
pub(super) fn truth(row: &Row<'_>, column: usize) -> Result<Option<bool>, StoreError> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(0)) => Ok(Some(false)),
        Ok(ValueRef::Integer(1)) => Ok(Some(true)),
        Ok(ValueRef::Null) => Ok(None),
        _ => Err(row.wrong(column, "what is true or false is neither")),
    }
}

impl KeyRow for Row<'_> {
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            Ok(ValueRef::Text(bytes)) => {
                str::from_utf8(bytes).map(Some).map_err(|_| self.wrong(column, "a text is not UTF-8"))
            }
            _ => Err(self.wrong(column, "what stands there is no text")),
        }
    }

    fn number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.get_ref(column) {
            Ok(ValueRef::Integer(number)) => Ok(Some(number)),
            Ok(ValueRef::Null) => Ok(None),
            _ => Err(self.wrong(column, "what stands there is no whole number")),
        }
    }

    fn bytes(&self, column: usize) -> Option<&[u8]> {
        match self.get_ref(column) {
            Ok(ValueRef::Blob(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn free_text(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    fn name(&self, column: usize) -> &str {
        self.as_ref().column_name(column).unwrap_or_default()
    }
}
