//! A pluggable [`tower::Layer`] that turns a request carrying an API key into a [`Principal`], or refuses it.

#![cfg_attr(docsrs, feature(doc_cfg))]

// -- what does the client claim?
pub mod credentials;
pub mod description;
// -- is it true?
pub mod access;
pub mod clock;
pub mod key;
pub mod record;
pub mod store;
// -- who is it?
pub mod principal;
// -- when the answer is no
pub mod error;
// -- edges
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;

pub use crate::access::{AccessClass, Role, Standing};
pub use crate::credentials::{Credentials, Head};
pub use crate::description::{Challenge, SchemeInfo, Words};
pub use crate::error::{AuthError, AuthErrorKind, ConfigError};
pub use crate::key::{ApiKey, Environment, KeyDigest, KeyFormat, KeyId, ProjectId, UserId};
pub use crate::principal::Principal;
pub use crate::record::{FreshKey, KeyLevel, KeyRecord};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use crate::store::SqliteStore;
pub use crate::store::{Accounts, Directory, KeyLedger, KeyStore, MemoryStore, NoProjects};
