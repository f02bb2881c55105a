//! Reads the values of an SQLite row.

use std::ops::Range;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::failure::Failure;
use tower_api_key::store::StoreError;
use tower_api_key::store::codec::KeyRow;

/// A row that was copied out of its connection, so that the caller parses it and not the thread that reads for
/// everybody.
pub(crate) struct OwnedRow {
    columns: Vec<Cell>,
    bytes: Vec<u8>,
}

/// A value; the bytes of texts and blobs are stored separately.
enum Cell {
    Null,
    Integer(i64),
    Text(Range<usize>),
    Blob(Range<usize>),
    Real(f64),
}

impl OwnedRow {
    pub(crate) fn of(row: &Row<'_>) -> Result<Self, Failure> {
        let count = row.as_ref().column_count();
        let (mut columns, mut bytes) = (Vec::with_capacity(count), Vec::new());
        let mut copy = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        for column in 0..count {
            columns.push(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Integer(number),
                ValueRef::Text(text) => Cell::Text(copy(text)),
                ValueRef::Blob(blob) => Cell::Blob(copy(blob)),
                ValueRef::Real(number) => Cell::Real(number),
            });
        }
        Ok(Self { columns, bytes })
    }

    fn value(&self, column: usize) -> Option<ValueRef<'_>> {
        Some(match self.columns.get(column)? {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(*number),
            Cell::Real(number) => ValueRef::Real(*number),
            Cell::Text(at) => ValueRef::Text(self.bytes.get(at.clone())?),
            Cell::Blob(at) => ValueRef::Blob(self.bytes.get(at.clone())?),
        })
    }

    /// The total size in bytes of its texts and blobs.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads a boolean: zero or one, and nothing else.
pub(crate) fn truth(row: &BorrowedRow<'_, '_>, column: usize) -> Result<Option<bool>, StoreError> {
    match row.value(column) {
        Some(ValueRef::Integer(0)) => Ok(Some(false)),
        Some(ValueRef::Integer(1)) => Ok(Some(true)),
        Some(ValueRef::Null) => Ok(None),
        _ => Err(row.wrong(column, "what is true or false is neither")),
    }
}

/// A row that is still borrowed from the connection.
pub(crate) struct BorrowedRow<'r, 'c>(pub(crate) &'r Row<'c>);

impl BorrowedRow<'_, '_> {
    fn value(&self, column: usize) -> Option<ValueRef<'_>> {
        self.0.get_ref(column).ok()
    }
}

/// Implements `KeyRow` for both types of rows, through `value`.
macro_rules! key_row {
    (impl $row:ty; $this:ident.name($column:ident) => $name:expr) => {
        impl KeyRow for $row {
            fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
                match self.value(column) {
                    Some(ValueRef::Null) => Ok(None),
                    Some(ValueRef::Text(bytes)) => {
                        str::from_utf8(bytes).map(Some).map_err(|_| self.wrong(column, "a text is not UTF-8"))
                    }
                    _ => Err(self.wrong(column, "what stands there is no text")),
                }
            }

            fn number(&self, column: usize) -> Result<Option<i64>, StoreError> {
                match self.value(column) {
                    Some(ValueRef::Integer(number)) => Ok(Some(number)),
                    Some(ValueRef::Null) => Ok(None),
                    _ => Err(self.wrong(column, "what stands there is no whole number")),
                }
            }

            fn bytes(&self, column: usize) -> Option<&[u8]> {
                match self.value(column) {
                    Some(ValueRef::Blob(bytes)) => Some(bytes),
                    _ => None,
                }
            }

            fn name(&$this, $column: usize) -> &str {
                $name
            }
        }
    };
}

// Only rows of keys are copied.
key_row!(impl OwnedRow; self.name(column) => tower_api_key::key_columns!().split(", ").nth(column).unwrap_or_default());
key_row!(impl BorrowedRow<'_, '_>; self.name(column) => self.0.as_ref().column_name(column).unwrap_or_default());
