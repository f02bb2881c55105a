//! [`PostgresStore`]: API keys, people and projects of [`tower_api_key`] in a PostgreSQL database, for any number of
//! processes on any number of machines.
//!
//! ```no_run
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::ApiKeyAuth;
//! use tower_api_key_postgres::PostgresStore;
//!
//! # async fn f() -> Result<(), tower_api_key::store::StoreError> {
//! let store = PostgresStore::connect("postgres://keys@db.internal/app").await?;
//! let auth = ApiKeyAuth::new(store, Bearer::default());
//! # Ok(())
//! # }
//! ```
//!
//! The feature `tls` encrypts connections with rustls.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod audit_log;
mod bulkhead;
mod change_log;
mod connection_string;
mod directory;
mod failure;
mod housekeeping;
mod import;
mod keys;
mod leaving;
mod listener;
mod open;
mod options;
mod row;
mod session;
mod store;

pub use crate::options::PostgresOptions;
pub use crate::store::PostgresStore;

/// The examples of docs/operations.md compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/operations.md")]
pub struct OperationsDoctests;
