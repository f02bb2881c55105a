//! axum routers for people who hold keys: `/v1/api-keys`, `/validate`, `/projects`. They stand under any path.
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
//! A key never gives anybody more than it has (R40). These routes check that themselves, whatever is declared:
//!
//! | | project level | READONLY | others |
//! |---|---|---|---|
//! | list, show, and see how keys are used | 403 | keys of its user and environment | the same |
//! | create, change, rotate, revoke, explain | 403 | 403 | within the caller's rights |
//!
//! - The owner of a new key is the caller's user, and its environment the caller's: another one is a 403.
//! - A new key carries exactly the caller's scopes and metadata.
//! - A new key of a restricted caller has the caller's restrictions; others choose them (`restrictions`), and limits.
//! - A key with limits makes no keys, and changes, rotates and revokes those of its own rotation family only that have
//!   the same ones. A restricted key leaves restrictions as they are, and a limited one limits.
//! - A new key ends no later than the caller. A caller that has an end must name one (`expires_at`): none is a 403.
//! - A key with a scope that the caller lacks, that ends later, or that is not restricted like a restricted caller, can
//!   neither be changed, nor rotated (that hands out its secret), nor revoked, nor explained: 403. A key may revoke and
//!   explain itself.
//! - Where issuing ends the keys before ([`KeyPolicy::Single { grace: false }`](tower_api_key::KeyPolicy::Single)), those must be within the
//!   caller's rights too.
//! - Keys of others, of the other environment, unknown ids and texts that are no ids are one and the same 404.
//!
//! Rights that your application reads from metadata are not compared: put them into scopes.
//!
//! # Problems
//!
//! Refusals are those of the layer ([`problems`](tower_api_key::problems)), in the words of the caller's scheme. These routes add
//! problems of their own, in the shape of [`ProblemDetails`](tower_api_key::ProblemDetails)'s default:
//!
//! | `error` | status | |
//! |---|---|---|
//! | `key_not_found` | 404 | there is no such key among the caller's |
//! | `key_ended` | 409 | the key to be rotated is revoked, expired or already replaced, or the one to be changed is revoked |
//! | `too_many_keys` | 409 | the policy's number is reached |
//! | `unknown_field` | 422 | the body holds a member that is none of those that are read |
//! | `invalid_name`, `invalid_level`, `invalid_project_id`, `invalid_environment`, `invalid_expires_at` | 422 | what that member must be |
//! | `invalid_method`, `invalid_route`, `invalid_scheme`, `invalid_address`, `invalid_proto` | 422 | the same, of a request that is to be explained |
//! | `invalid_restrictions`, `invalid_limits` | 422 | the entry, and what to write instead |
//! | `invalid_grace` | 422 | `grace` is not `1s` to `90d`, or the [policy](tower_api_key::KeyPolicy) allows none |
//! | `invalid_query` | 400 | `limit` is not 1 to 100, or `cursor` not an id that was given |
//! | `not_a_key` | 400 | what was sent to be revoked by itself can be no key |
//! | `method_not_allowed` | 405 | the route has no such method: `Allow` says which it has |
//! | `outcome_unknown` | 503 | the store did not say in time whether the change was made: list the keys |
//! | `invalid_signature` | 401 | a report of leaked keys is signed by nobody who is known |
//!
//! # Deployment caveat
//!
//! The routes need [`ApiKeyAuth`](tower_api_key::ApiKeyAuth) outside of them; without it they answer 500 and say so. A body that
//! carries credentials ([`JsonBody`](tower_api_key::scheme::JsonBody)) cannot create a key: its members are unknown fields.

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
mod new_key;
mod path_key;
mod projects;
mod refusal;
mod rotation;
mod self_revoke;
mod time;
mod validate;

use http::Method;
use tower_api_key::endpoint::Endpoints;

pub use self::api_keys::api_keys;
pub use self::explain::explain;
#[cfg(feature = "leaks")]
#[cfg_attr(docsrs, doc(cfg(feature = "leaks")))]
pub use self::leaks::{FetchedKeys, Leak, Leaks, PublicKey, PublicKeyList, PublicKeys};
pub use self::projects::projects;
pub use self::self_revoke::self_revoke;
pub use self::validate::validate;

/// Declares the routes of [`api_keys`] and [`explain`], which are nested at `at`: listing and showing reads, the others manage, none
/// needs a project.
///
/// Declare the routes of [`validate`] and [`projects`] by
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
