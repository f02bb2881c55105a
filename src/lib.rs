//! A pluggable [`tower::Layer`] that turns a request carrying an API key into a [`Principal`], or refuses it.

#![cfg_attr(docsrs, feature(doc_cfg))]

// -- a request arrives
pub mod future;
pub mod layer;
pub mod service;
// -- what does the client claim?
pub mod credentials;
pub mod description;
pub mod scheme;
// -- is it true?
pub mod access;
pub mod clock;
pub mod endpoint;
pub mod key;
pub mod record;
pub mod store;
pub mod verify;
// -- who is it?
pub mod guard;
pub mod principal;
// -- when the answer is no
pub mod error;
pub mod render;
// -- keys are made, replaced and ended
pub mod keyring;
// -- edges
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub mod extract;
#[cfg(feature = "manage")]
#[cfg_attr(docsrs, doc(cfg(feature = "manage")))]
pub mod manage;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;

pub use crate::access::{AccessClass, Role, Standing};
pub use crate::clock::{Clock, SystemClock, Timestamp};
pub use crate::credentials::{Credentials, Head};
pub use crate::description::{Challenge, SchemeInfo, Words};
pub use crate::endpoint::{Endpoint, Endpoints};
pub use crate::error::{AuthError, AuthErrorKind, ConfigError};
pub use crate::key::{ApiKey, Environment, KeyDigest, KeyFormat, KeyId, ProjectId, UserId};
pub use crate::keyring::{Grace, IssuedKey, Keyring, KeyringError, NewKey};
pub use crate::layer::ApiKeyAuth;
pub use crate::principal::Principal;
pub use crate::record::{FreshKey, KeyLevel, KeyRecord};
pub use crate::render::{EmptyOrGrpc, Problem, RenderError};
pub use crate::store::{
    Accounts, Directory, KeyLedger, KeyPolicy, KeyQuery, KeyStore, MemoryStore, NoProjects,
};
pub use crate::verify::Verifier;
