//! What SQLite tells of a row.

use std::ops::Range;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::StoreError;
use super::super::rows::{KeyRow, name_of_key_column};
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
    Other,
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
                ValueRef::Real(_) => Cell::Other,
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
    match row.get_ref(column) {
        Ok(ValueRef::Integer(0)) => Ok(Some(false)),
        Ok(ValueRef::Integer(1)) => Ok(Some(true)),
        Ok(ValueRef::Null) => Ok(None),
        _ => Err(row.wrong(column, "what is true or false is neither")),
    }
}

const NO_TEXT: &str = "what stands there is no text";
const NO_NUMBER: &str = "what stands there is no whole number";

fn utf8<'r>(row: &impl KeyRow, column: usize, bytes: &'r [u8]) -> Result<Option<&'r str>, StoreError> {
    str::from_utf8(bytes).map(Some).map_err(|_| row.wrong(column, "a text is not UTF-8"))
}

impl KeyRow for Row<'_> {
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            Ok(ValueRef::Text(bytes)) => utf8(self, column, bytes),
            _ => Err(self.wrong(column, NO_TEXT)),
        }
    }

    fn number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.get_ref(column) {
            Ok(ValueRef::Integer(number)) => Ok(Some(number)),
            Ok(ValueRef::Null) => Ok(None),
            _ => Err(self.wrong(column, NO_NUMBER)),
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

impl KeyRow for Copied {
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.columns.get(column) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(at)) => utf8(self, column, self.bytes.get(at.clone()).unwrap_or_default()),
            _ => Err(self.wrong(column, NO_TEXT)),
        }
    }

    fn number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.columns.get(column) {
            Some(Cell::Integer(number)) => Ok(Some(*number)),
            Some(Cell::Null) => Ok(None),
            _ => Err(self.wrong(column, NO_NUMBER)),
        }
    }

    fn bytes(&self, column: usize) -> Option<&[u8]> {
        match self.columns.get(column) {
            Some(Cell::Blob(at)) => self.bytes.get(at.clone()),
            _ => None,
        }
    }

    fn free_text(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    fn name(&self, column: usize) -> &str {
        name_of_key_column(column)
    }
}
