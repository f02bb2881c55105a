//! What a layer does to an API, in its OpenAPI document: security schemes, what each operation asks for, and refusals.
//!
//! ```
//! use http::Method;
//! use tower_api_key::scheme::{ApiKeyHeader, Bearer};
//! use tower_api_key::{ApiKeyAuth, Endpoints, MemoryStore};
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
//! The layer is asked itself: what is public, what only reads, which headers are looked at. So document and layer cannot
//! disagree, as long as the document's paths are those that [`Endpoints`](tower_api_key::Endpoints) declares, prefixes included.
//!
//! # What is written
//!
//! - A security scheme per scheme of the layer, and on every guarded operation that any of them will do. Public operations
//!   say that nothing is needed, and those where a key is optional that nothing will do, too. Deprecated schemes say so.
//! - A key in the JSON body has no security scheme in OpenAPI. It is written as members of the operation's body, and the
//!   requirement that names no scheme at all stands for it.
//! - The layer's answers 400, 401, 403, 429 and 503, those about bodies if a scheme reads bodies, with their headers.
//!   An answer of yours for the same status stays, and the layer's stands beside it.
//! - Headers that name a project, and what an operation does, in words.
//!
//! # Caveat
//!
//! An answer that stands in your document as a reference (`$ref`) is left as it is. Several layers in one document each
//! write their own part: see [`AuthDoc::under`].

// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod answers;
mod auth_doc;
mod document;
mod routes;
mod schemes;

pub use self::auth_doc::AuthDoc;
pub use self::routes::{api_keys, explain, leaks, projects, self_revoke, validate};
