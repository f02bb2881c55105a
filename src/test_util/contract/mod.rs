//! What every store promises, as tests of anybody's store.
//!
//! A store's own test module is a few lines:
//!
//! ```
//! use tower_api_key::MemoryStore;
//! use tower_api_key::test_util::contract;
//!
//! #[tokio::main]
//! async fn main() {
//!     contract::key_store_and_registry(async || MemoryStore::new()).await;
//!     contract::accounts(async || MemoryStore::new()).await;
//! }
//! ```
//!
//! A store that only finds keys, and a directory that only knows people, are checked alone: [`key_store()`] and
//! [`directory()`] are told how to put records and people into the application's own storage.
//!
//! Each check asks for a store of its own. It may be empty, or one more handle to a database that other checks, and
//! earlier runs, have used: no two checks use the same ids.
//!
//! The functions panic where a promise is broken, and say which. They need a Tokio runtime, because they let tasks
//! race; one with several threads finds more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by panicking"
)]

mod access;
mod alone;
mod authority;
mod kit;
mod life;
mod list;
mod people;
mod policy;
mod rehash;
mod restrict;
mod suites;
mod trail;

pub use self::suites::{accounts, directory, key_store, key_store_and_registry};
