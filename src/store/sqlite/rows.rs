//! What SQLite tells of a row.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::StoreError;
use super::super::rows::KeyRow;
use crate::clock::Timestamp;
use crate::key::KeyDigest;
use crate::record::KeyRecord;

/// The record in a row of `key_columns!()`.
pub(super) fn key(row: &Row<'_>) -> Result<KeyRecord, StoreError> {
    row.key()
}

/// As much of it as a request at `now` needs, if it is of the key with this digest. Of another, as much is read and dropped.
pub(super) fn key_at(
    row: &Row<'_>,
    digest: &KeyDigest,
    now: Timestamp,
) -> Result<Option<KeyRecord>, StoreError> {
    if row.bytes(0).is_some_and(|bytes| bytes == digest.as_bytes()) {
        return row.key_at(now).map(Some);
    }
    // Whatever is wrong with that one is not asked.
    drop(row.ended_key());
    Ok(None)
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
        _ => Err(StoreError::Corrupt("what is true or false is neither")),
    }
}

impl KeyRow for Row<'_> {
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        const NO_TEXT: StoreError = StoreError::Corrupt("a text is none");
        match self.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            Ok(ValueRef::Text(bytes)) => str::from_utf8(bytes).map(Some).map_err(|_| NO_TEXT),
            _ => Err(NO_TEXT),
        }
    }

    fn number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.get_ref(column) {
            Ok(ValueRef::Integer(number)) => Ok(Some(number)),
            Ok(ValueRef::Null) => Ok(None),
            _ => Err(StoreError::Corrupt("a number is none")),
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
}
