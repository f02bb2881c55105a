//! What SQLite tells of a row.

use std::ops::Range;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::StoreError;
use super::super::rows::{KeyRow, key_columns};
use super::failure::Failure;

/// A row that was copied out of its connection, so that the thread that reads for everybody parses nobody's row.
pub(super) struct Copied {
    columns: Vec<Cell>,
    bytes: Vec<u8>,
}

/// A value, and where its bytes stand.
enum Cell {
    Null,
    Integer(i64),
    Text(Range<usize>),
    Blob(Range<usize>),
    Real(f64),
}

impl Copied {
    pub(super) fn of(row: &Row<'_>) -> Result<Self, Failure> {
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

    /// How many bytes its texts are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, StoreError> {
    row.text(column)
}

/// Zero or one, and nothing else.
pub(super) fn truth(row: &Row<'_>, column: usize) -> Result<Option<bool>, StoreError> {
    match row.value(column) {
        Some(ValueRef::Integer(0)) => Ok(Some(false)),
        Some(ValueRef::Integer(1)) => Ok(Some(true)),
        Some(ValueRef::Null) => Ok(None),
        _ => Err(row.wrong(column, "what is true or false is neither")),
    }
}

/// What stands in the columns of a row, wherever that is.
trait Values {
    fn value(&self, column: usize) -> Option<ValueRef<'_>>;
    fn column(&self, column: usize) -> &str;
}

impl Values for Row<'_> {
    fn value(&self, column: usize) -> Option<ValueRef<'_>> {
        self.get_ref(column).ok()
    }

    fn column(&self, column: usize) -> &str {
        self.as_ref().column_name(column).unwrap_or_default()
    }
}

impl Values for Copied {
    fn value(&self, column: usize) -> Option<ValueRef<'_>> {
        Some(match self.columns.get(column)? {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(*number),
            Cell::Real(number) => ValueRef::Real(*number),
            Cell::Text(at) => ValueRef::Text(self.bytes.get(at.clone())?),
            Cell::Blob(at) => ValueRef::Blob(self.bytes.get(at.clone())?),
        })
    }

    /// Only keys are copied.
    fn column(&self, column: usize) -> &str {
        key_columns!().split(", ").nth(column).unwrap_or_default()
    }
}

impl<V: Values> KeyRow for V {
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

    fn free_text(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    fn name(&self, column: usize) -> &str {
        self.column(column)
    }
}
