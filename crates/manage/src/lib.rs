//! axum routers for holders of keys: `/v1/api-keys`, `/validate`, `/projects`. They can be mounted under any path.
//!
//! ```
//! use axum::Router;
//! use http::Method;
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKeyAuth, Endpoints, Keyring};
//! use tower_api_key_manage as manage;
//!
//! let store = MemoryStore::new();
//! let endpoints = Endpoints::new()
//!     .project_optional(Method::GET, "/validate")
//!     .project_optional(Method::GET, "/projects");
//! let endpoints = manage::declare(endpoints, "/v1/api-keys");
//!
//! let app: Router = Router::new()
//!     .nest("/v1/api-keys", manage::api_keys(Keyring::new(store.clone())))
//!     .route("/validate", manage::validate())
//!     .route("/projects", manage::projects(store.clone()))
//!     .layer(ApiKeyAuth::new(store, Bearer::default()).endpoints(endpoints)?);
//! # Ok::<(), tower_api_key::ConfigError>(())
//! ```
//!
//! # What a key may do to other keys
//!
//! A key never grants more than it has (R40). These routes check that themselves, whatever is declared:
//!
//! | | project level | READONLY | others |
//! |---|---|---|---|
//! | list, show, and see how keys are used | 403 | keys of its user and environment | the same |
//! | create, change, rotate, revoke, explain | 403 | 403 | within the caller's rights |
//!
//! - A new key belongs to the caller's user and environment: another environment is a 403.
//! - A new key has exactly the caller's scopes and metadata.
//! - If the caller has restrictions, a new key has the same; otherwise the request may set `restrictions`. The
//!   request may set `limits`.
//! - A key with limits cannot make keys, and can change, rotate and revoke only keys of its own rotation family
//!   with the same limits. A key with restrictions cannot change restrictions, and one with limits cannot change
//!   limits.
//! - A new key expires no later than the caller. If the caller expires, the request must set `expires_at`, or it is
//!   a 403.
//! - A key with a scope that the caller lacks, with a later expiry, or without a restricted caller's restrictions,
//!   cannot be changed, rotated (which hands out its secret), revoked or explained: 403. A key may revoke and
//!   explain itself.
//! - If issuing a key ends older ones ([`KeyPolicy::Single { grace: false }`](tower_api_key::KeyPolicy::Single)),
//!   the older ones must be within the caller's rights too.
//! - Keys of other users or of the other environment, unknown ids and malformed ids all get the same 404.
//!
//! Rights that your application stores in metadata are not compared: use scopes for them.
//!
//! # Problems
//!
//! Refusals are those of the layer ([`problems`](tower_api_key::problems)), with the messages of the caller's
//! scheme. These routes add their own problems, in the format of [`ProblemDetails`](tower_api_key::render::ProblemDetails):
//!
//! | `error` | status | |
//! |---|---|---|
//! | `key_not_found` | 404 | the caller has no such key |
//! | `key_ended` | 409 | the key to be rotated is revoked, expired or already replaced, or the key to be changed is revoked |
//! | `too_many_keys` | 409 | the policy's number of keys is reached |
//! | `unknown_field` | 422 | the body contains an unknown member |
//! | `invalid_name`, `invalid_level`, `invalid_project_id`, `invalid_environment`, `invalid_expires_at` | 422 | what the member must be |
//! | `invalid_method`, `invalid_route`, `invalid_scheme`, `invalid_address`, `invalid_proto` | 422 | the same, for a request to be explained |
//! | `invalid_restrictions`, `invalid_limits` | 422 | the invalid entry, and what to write instead |
//! | `invalid_grace` | 422 | `grace` is not `1s` to `90d`, or the [policy](tower_api_key::KeyPolicy) allows none |
//! | `invalid_query` | 400 | `limit` is not 1 to 100, or `cursor` is not a cursor from a previous page |
//! | `not_a_key` | 400 | the text sent to `self-revoke` cannot be a key |
//! | `method_not_allowed` | 405 | the route does not have this method; `Allow` lists those that it has |
//! | `outcome_unknown` | 503 | the store did not confirm the change in time: list the keys |
//! | `invalid_signature` | 401 | a report of leaked keys has no valid signature |
//!
//! # Deployment caveat
//!
//! The routes must be inside [`ApiKeyAuth`](tower_api_key::ApiKeyAuth); without it they answer 500 and say so. A
//! body with credentials ([`JsonBody`](tower_api_key::scheme::JsonBody)) cannot create a key: its members are
//! unknown fields.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod api_keys;
mod body;
mod caller;
mod change;
mod explain;
#[cfg(feature = "leaks")]
mod leaks;
mod new_key_body;
mod path_key;
mod projects;
mod refusal;
mod rotation;
mod self_revoke;
mod time;
mod validate;

use http::Method;
use tower_api_key::Endpoints;

pub use self::api_keys::api_keys;
pub use self::explain::explain;
#[cfg(feature = "leaks")]
#[cfg_attr(docsrs, doc(cfg(feature = "leaks")))]
pub use self::leaks::{FetchedKeys, Leak, Leaks, PublicKey, PublicKeyError, PublicKeyList, PublicKeys};
pub use self::projects::projects;
pub use self::self_revoke::self_revoke;
pub use self::validate::validate;

/// Declares the routes of [`api_keys`] and [`explain`], nested at `at`: listing and showing are reads, the other
/// routes manage, and none needs a project.
///
/// Declare the routes of [`validate`] and [`projects`] with
/// [`project_optional(Method::GET, ..)`](Endpoints::project_optional).
#[must_use]
pub fn declare(endpoints: Endpoints, at: &str) -> Endpoints {
    let at = at.trim_end_matches('/');
    let one = format!("{at}/{{id}}");
    let (rotate, usage) = (format!("{one}/rotate"), format!("{one}/usage"));
    let explain = format!("{one}/explain");
    endpoints
        .read(Method::GET, at)
        .project_optional(Method::GET, at)
        .read(Method::GET, &*one)
        .project_optional(Method::GET, &*one)
        .read(Method::GET, &*usage)
        .project_optional(Method::GET, &*usage)
        .manage(Method::POST, at)
        .project_optional(Method::POST, at)
        .manage(Method::DELETE, &*one)
        .project_optional(Method::DELETE, &*one)
        .manage(Method::PATCH, &*one)
        .project_optional(Method::PATCH, &*one)
        .manage(Method::POST, &*rotate)
        .project_optional(Method::POST, &*rotate)
        .manage(Method::POST, &*explain)
        .project_optional(Method::POST, &*explain)
}
