//! Writes what a layer does into an OpenAPI document: security schemes, the needs of each operation, and refusals.
//!
//! ```
//! use http::Method;
//! use tower_api_key::scheme::{ApiKeyHeader, Bearer};
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKeyAuth, Endpoints};
//! use tower_api_key_openapi::{self as openapi, AuthDoc};
//! use utoipa::{Modify, OpenApi};
//!
//! #[derive(OpenApi)]
//! #[openapi(info(title = "Projects"))]
//! struct Api;
//!
//! let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default())
//!     .or(ApiKeyHeader::default())
//!     .endpoints(Endpoints::new().public(Method::GET, "/health"))?;
//!
//! let mut document = Api::openapi();
//! document.merge(openapi::api_keys("/v1/api-keys"));
//! AuthDoc::of(&auth.description()).modify(&mut document);
//! println!("{}", document.to_json().unwrap());
//! # Ok::<(), tower_api_key::ConfigError>(())
//! ```
//!
//! The information comes from the layer itself: what is public, what only reads, which headers are read. So
//! document and layer cannot disagree, if the document's paths are those that
//! [`Endpoints`](tower_api_key::Endpoints) declares, including prefixes.
//!
//! # What is written
//!
//! - A security scheme for each scheme of the layer, and on every guarded operation the requirement of any of them.
//!   Public operations require nothing; operations with an optional key also allow no scheme. Deprecated schemes
//!   are marked.
//! - OpenAPI has no security scheme for a key in a JSON body. It is written as members of the operation's body,
//!   with the requirement without a scheme in its place.
//! - The layer's responses 400, 401, 403, 429 and 503, and those about bodies if a scheme reads bodies, with their
//!   headers. If your document has a response for the same status, it stays, and the layer's is added.
//! - Headers that name a project, and a text about what an operation does.
//!
//! # Caveat
//!
//! A response that is a reference (`$ref`) in your document is not changed. With several layers in one document,
//! each writes its own part: see [`AuthDoc::under`].

// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod answers;
mod auth_doc;
mod document;
mod routes;
mod schemes;

pub use self::auth_doc::AuthDoc;
pub use self::routes::{api_keys, explain, leaks, projects, self_revoke, validate};
