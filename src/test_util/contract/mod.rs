//! The contract suite: tests of what every store must guarantee, for your own stores.
//!
//! A store's own test module is a few lines:
//!
//! ```
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::test_util::contract;
//!
//! #[tokio::main]
//! async fn main() {
//!     contract::key_store_and_registry(async || MemoryStore::new()).await;
//!     contract::accounts(async || MemoryStore::new()).await;
//! }
//! ```
//!
//! [`key_store()`] checks a store that only finds keys, and [`directory()`] a directory that only knows people. You
//! pass them functions that put records and people into the application's own storage.
//!
//! Each check asks for a new store. It may be empty, or another handle to a database that other checks and earlier
//! runs have used, because no two checks use the same ids.
//!
//! The functions panic if a guarantee is broken, and the message says which. They need a Tokio runtime, because
//! they run concurrent tasks. A runtime with several threads finds more errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by panicking"
)]

mod access;
mod alone;
mod audit_log;
mod authority;
mod kit;
mod life;
mod list;
mod people;
mod policy;
mod rehash;
mod replacement;
mod restrict;
mod suites;

pub use self::suites::{accounts, directory, key_store, key_store_and_registry};
