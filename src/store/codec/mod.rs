//! What stores in SQL databases share: how a row encodes a key, and where a page ends.
//!
//! A store of your own on another driver implements [`KeyRow`] for its rows, selects
//! [`key_columns!`](crate::key_columns), and reads a record by [`KeyRow::key`]. Rows are parsed strictly: a value
//! that cannot be parsed is [`StoreError::Corrupt`], and never a default. `tower-api-key-sqlite` and
//! `tower-api-key-postgres` use this module.
//!
//! [`StoreError::Corrupt`]: super::StoreError::Corrupt

mod columns;
mod directory;
mod page;
mod row;

pub use self::directory::{account_status, add_person, project_id, role_name, role_of, user_id};
pub use self::page::{MAX_ROWS, PageBounds, PageReader, PageStep, row_limit};
pub use self::row::{KeyRow, entry, json, limits_text, used};
pub use super::key_query::SearchedKey;
