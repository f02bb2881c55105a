//! What stores in SQL databases share: how a key stands in a row, and where a page ends.
//!
//! A store of your own on another driver implements [`KeyRow`] for its rows, selects [`key_columns!`](crate::key_columns),
//! and reads a record by [`KeyRow::key`]. Rows are parsed strictly: what makes no sense is [`StoreError::Corrupt`], and never
//! a right. `tower-api-key-sqlite` and `tower-api-key-postgres` are written with it.
//!
//! [`StoreError::Corrupt`]: super::StoreError::Corrupt

mod columns;
mod page;
mod row;

pub use self::page::{MAX_ROWS, PageBounds, PageReader, PageStep, row_limit};
pub use self::row::{
    KeyRow, account_status, add_person, entry, json, limits_text, project_id, role_name, role_of, used,
    user_id,
};
pub use super::key_query::SearchedKey;
