//! A pluggable [`tower::Layer`] that turns a request carrying an API key into a [`Principal`], or refuses it.
//!
//! ```
//! use axum::{Router, routing::get};
//! use http::Method;
//! use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKeyAuth, Endpoints, Principal};
//!
//! async fn projects(who: Principal) -> String {
//!     format!("{} may {:?}", who.user_id(), who.role())
//! }
//!
//! # fn main() -> Result<(), tower_api_key::ConfigError> {
//! let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default()) // Authorization: Bearer sk_live_...
//!     .or(ApiKeyHeader::default()) // X-API-Key and X-Project-ID
//!     .or(JsonBody::default()) // {"apiKey", "userId", "projectId"}
//!     .endpoints(
//!         Endpoints::new()
//!             .project_optional(Method::GET, "/projects")
//!             .read(Method::POST, "/projects/status")
//!             .public(Method::GET, "/health"),
//!     )?;
//! let app: Router = Router::new().route("/projects", get(projects)).layer(auth);
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a request
//!
//! 1. [`ApiKeyAuth`] is the layer. It wraps your service in an [`service::ApiKeyService`].
//! 2. What does the client claim? A [scheme] reads the head or the body. It finds [`Credentials`], no credential,
//!    or a malformed one.
//! 3. Is the claim true? A [`Verifier`] makes its checks in a fixed order, and asks a [`store::KeyStore`]
//!    and a [`store::Directory`].
//! 4. Who is it? A [`Principal`] goes into the request's extensions, and the handler runs.
//! 5. If the request is refused, [`render`] builds the response with the scheme's own messages ([`problems`]). The
//!    [`AuthError`] is in the response's extensions, for outer layers.
//!
//! # Guarantees
//!
//! - "No" and "could not tell" are different answers: a store that is down or slow causes a 503, never a 401, and
//!   an error never lets a request in.
//! - Access is live: a key stores only its owner. What the owner may do is looked up for every request.
//! - Nothing leaks: no secret is in any `Debug` output, log or error, and unknown, revoked and expired keys get the
//!   same answer.
//! - The requirements of the documents are numbered in [`promises`].
//!
//! # Where things are
//!
//! Each item has one address. The root has what an application names to set up the layer and the keyring, and to work with
//! what they hand out: ids, keys, principals, endpoints, errors. A module has what is for one subject only: writing or
//! choosing a [store], writing a [scheme] or an [observer], rendering refusals ([`render`]), [limit]s and [restriction]s.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `axum` (default) | extractors, `MatchedPath` for [`Endpoints`], `ConnectInfo` for [`client_addr`], `JsonBody` on axum's body |
//! | `cache` | `Cached`: answers from memory under a [lease](lease_protocol), for stores that several processes share |
//! | `tracing` | decisions and changes as [events](observer) |
//! | `metrics` | decisions and changes as [numbers](observer) |
//! | `full` | all of these |
//! | `jiff` | conversions between [`Timestamp`] and `jiff::Timestamp` |
//! | `slow-hashes` | keys that were [imported](importing) with a bcrypt, Argon2 or PBKDF2 hash, until their first use |
//! | `test-util` | for your dev-dependencies: principals for handler tests, a clock set by hand, a contract suite for stores |

#![cfg_attr(docsrs, feature(doc_cfg))]
// Only the library must not panic; tests and examples may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// -- settings that layer, verifier and keyring share
mod api_keys;
mod settings;
// -- a request arrives
mod authenticate;
pub mod future;
mod layer;
mod layer_description;
pub mod service;
mod verifier;
// -- what does the client claim?
mod credentials;
mod deprecation;
pub mod scheme;
pub mod scheme_info;
// -- is it true?
mod ascii;
mod audit;
mod authority;
pub mod bulkhead;
pub mod client_addr;
mod clock;
mod endpoint;
pub mod key;
mod key_update;
pub mod limit;
mod record;
pub mod restriction;
mod role;
mod route_pattern;
mod serde_text;
pub mod store;
mod usage;
// -- who is it?
mod gate;
pub mod guard;
// -- bodies
pub mod body_budget;
pub mod unread_body;
// -- refusals
mod auth_error;
pub mod explain;
pub mod render;
mod response_headers;
mod response_notes;
// -- observability
mod observe;
pub mod observer;
// -- issuing, rotating and revoking keys
pub mod delivery;
pub mod keyring;
mod rehash;
// -- configuration errors, found at start
mod config_error;
// -- integrations
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub mod extract;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;

#[doc = include_str!("../docs/problems.md")]
pub mod problems {}

#[doc = include_str!("../docs/promises.md")]
pub mod promises {}

#[doc = include_str!("../docs/lease-protocol.md")]
pub mod lease_protocol {}

#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

#[doc = include_str!("../docs/migration.md")]
pub mod migration {}

#[doc = include_str!("../docs/importing.md")]
pub mod importing {}

pub use crate::api_keys::ApiKeys;
pub use crate::audit::{AuditEntry, KeyEvent, ParseKeyEventError, Revocation};
pub use crate::auth_error::{AuthError, AuthErrorKind};
pub use crate::authority::Authority;
pub use crate::clock::{Clock, ParseTimestampError, SystemClock, Timestamp};
pub use crate::config_error::ConfigError;
pub use crate::credentials::{Claims, Credentials, Head};
pub use crate::deprecation::Deprecation;
pub use crate::endpoint::{Declared, Endpoint, Endpoints, Undeclared};
pub use crate::gate::Principal;
pub use crate::key::api_key::ApiKey;
pub use crate::key::digest::KeyDigest;
pub use crate::key::digests::Digests;
pub use crate::key::environment::Environment;
pub use crate::key::format::KeyFormat;
pub use crate::key::id::{KeyId, ProjectId, UserId};
pub use crate::key::method::DigestMethod;
pub use crate::key::pepper::Pepper;
#[cfg(feature = "slow-hashes")]
#[cfg_attr(docsrs, doc(cfg(feature = "slow-hashes")))]
pub use crate::key::slow::SlowHashes;
pub use crate::key_update::KeyUpdate;
pub use crate::keyring::error::KeyringError;
pub use crate::keyring::issued::{Grace, IssuedKey};
pub use crate::keyring::keyring::Keyring;
pub use crate::keyring::new_key::NewKey;
pub use crate::layer::ApiKeyAuth;
pub use crate::layer_description::{LayerDescription, RefusalBody};
pub use crate::record::{FreshKey, KeyLevel, KeyRecord};
pub use crate::role::{AccessClass, AccountStatus, Role};
pub use crate::store::key_policy::KeyPolicy;
pub use crate::store::key_query::{KeyCount, KeyPage, KeyQuery};
pub use crate::usage::{ParseUsageChannelError, Usage, UsageChannel};
pub use crate::verifier::Verifier;

/// README's code compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
