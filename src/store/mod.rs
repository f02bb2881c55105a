//! The store traits, the built-in store in memory, and the cache.
//!
//! | trait | who calls it | methods |
//! |---|---|---|
//! | [`KeyStore`] | every request | [`find`](KeyStore::find) |
//! | [`Directory`] | every request | [`account_status`](Directory::account_status) |
//! | [`ProjectDirectory`] | the list of projects | [`projects`](ProjectDirectory::projects) |
//! | [`KeyRegistry`] | [`Keyring`](crate::Keyring) | insert (one or many), replace, revoke, update, rehash, get, list, count, owners; history and usage |
//! | [`Accounts`] | your application | people and projects of the built-in directory |
//!
//! [`MemoryStore`], `SqliteStore` (in `tower-api-key-sqlite`) and `PostgresStore` (in `tower-api-key-postgres`)
//! implement all of them. A store of your own needs only one method, and so does a directory of your own. Stores
//! return facts and never decisions, and know nothing of HTTP.
//!
//! If several processes share a store with a [`ChangeLog`], `Cached` (feature `cache`) answers from memory, and
//! still refuses a key as soon as its revocation has returned.
//!
//! `test_util::contract` (feature `test-util`) is a test suite for your own stores.

mod accounts;
#[cfg(feature = "cache")]
mod cached;
mod change_log;
pub mod codec;
mod compose;
mod corrupt;
mod deadline;
mod error;
pub(crate) mod key_policy;
pub(crate) mod key_query;
mod memory;
mod proxy;
mod terms;
mod traits;
mod with_directory;

pub use self::accounts::{Account, Accounts, Member, MemberRole, Person, Project};
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use self::cached::{CacheOptions, Cached};
pub use self::change_log::{Change, ChangeLog, Changes, Followers, NodeId, Position, outlived, settle};
pub use self::compose::NoProjects;
pub use self::corrupt::CorruptRow;
pub use self::error::{RegistryError, StoreError};
pub use self::key_policy::MakeRoom;
pub use self::key_query::{MAX_PAGE_LEN, MAX_SEARCHED};
pub use self::memory::MemoryStore;
pub use self::proxy::RegistryProxy;
pub use self::terms::{Ended, Terms, Updated, an_hour_before};
pub use self::traits::{
    AuditLog, CachedKey, Directory, KeyInventory, KeyRegistry, KeyStore, ProjectDirectory, UsageLog,
};
pub use self::with_directory::WithDirectory;
pub use crate::authority::{Denied, covers};

pub(crate) use self::deadline::in_time;
pub(crate) use self::key_policy::KeyPolicy;
pub(crate) use self::key_query::{KeyCount, KeyPage, KeyQuery};
