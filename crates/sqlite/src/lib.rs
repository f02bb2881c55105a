//! [`SqliteStore`]: API keys, people and projects of [`tower_api_key`] in an SQLite file, for any number of processes.
//!
//! ```no_run
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::ApiKeyAuth;
//! use tower_api_key_sqlite::SqliteStore;
//!
//! # async fn f() -> Result<(), tower_api_key::store::StoreError> {
//! let auth = ApiKeyAuth::new(SqliteStore::open("keys.db").await?, Bearer::default());
//! # Ok(())
//! # }
//! ```
//!
//! The feature `bundled` (default) compiles SQLite; without it the system's library is used.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod audit_log;
mod directory;
mod failure;
mod import;
mod keys;
mod leaving;
mod open;
mod row;
mod store;
mod worker;

pub use crate::store::SqliteStore;
