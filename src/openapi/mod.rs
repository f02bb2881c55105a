//! What a layer does to an API, in its OpenAPI document: security schemes, what each operation asks for, and refusals.
//!
//! ```
//! use http::Method;
//! use tower_api_key::scheme::{ApiKeyHeader, Bearer};
//! use tower_api_key::{ApiKeyAuth, Endpoints, MemoryStore, openapi};
//! use utoipa::{Modify, OpenApi};
//!
//! #[derive(OpenApi)]
//! #[openapi(info(title = "Projects"))]
//! struct Api;
//!
//! let endpoints = openapi_endpoints();
//! # fn openapi_endpoints() -> Endpoints { Endpoints::new() }
//! let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default())
//!     .or(ApiKeyHeader::default())
//!     .endpoints(endpoints.public(Method::GET, "/health"))?;
//!
//! let mut document = Api::openapi();
//! # #[cfg(feature = "manage")]
//! document.merge(openapi::api_keys("/v1/api-keys"));
//! auth.openapi().modify(&mut document);
//! println!("{}", document.to_json().unwrap());
//! # Ok::<(), tower_api_key::ConfigError>(())
//! ```
//!
//! The layer is asked itself: what is public, what only reads, which headers are looked at. So document and layer cannot
//! disagree, as long as the document's paths are those that [`Endpoints`](crate::Endpoints) declares, prefixes included.
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

mod answers;
#[cfg(feature = "manage")]
mod routes;
mod schemes;

use http::Method;
use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Components, OpenApi, Schema};

use self::answers::Answers;
use self::schemes::Schemes;
use crate::access::AccessClass;
use crate::description::SchemeInfo;
use crate::endpoint::{Declared, Endpoint, EndpointTable};

#[cfg(feature = "manage")]
#[cfg_attr(docsrs, doc(cfg(feature = "manage")))]
pub use self::routes::{api_keys, explain, leaks, projects, self_revoke, validate};

/// What a layer does to an API: made by [`ApiKeyAuth::openapi`](crate::ApiKeyAuth::openapi), written into a document by
/// [`modify`](Modify::modify). See [the module](self).
#[must_use = "it does nothing until it modifies a document"]
pub struct AuthDoc {
    schemes: Schemes,
    endpoints: EndpointTable,
    answers: Answers,
    under: String,
}

impl AuthDoc {
    pub(crate) fn new(
        (schemes, endpoints, https): (&[SchemeInfo], EndpointTable, bool),
        content_type: &str,
        body: Schema,
    ) -> Self {
        Self {
            answers: Answers::of(schemes, https, content_type, body),
            schemes: Schemes::of(schemes),
            endpoints,
            under: String::new(),
        }
    }

    /// Only for the paths from this prefix on (`/v1` is for `/v1` and `/v1/charges`, and not for `/v10`): for documents
    /// with several layers, and with routes outside of all.
    pub fn under(mut self, prefix: &str) -> Self {
        prefix.trim_end_matches('/').clone_into(&mut self.under);
        self
    }

    /// The schema of [`Problem`](crate::Problem), the default body of refusals.
    #[must_use]
    pub fn problem() -> Schema {
        answers::problem()
    }

    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.under).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn write(&self, document: &mut Document<'_>, path: &str, method: &Method, operation: &mut Operation) {
        let (endpoint, optional) = match self.endpoints.of_documented(method, path) {
            Declared::Public => {
                // Nothing, even where the document demands something of all operations.
                operation.security = Some(Vec::new());
                return;
            }
            Declared::Optional(endpoint) => (endpoint, true),
            Declared::Required(endpoint) => (endpoint, false),
        };
        operation.security = Some(self.schemes.requirements(document, method, optional));
        self.schemes.parameters(operation, endpoint);
        self.schemes.body(document, method, operation, optional);
        let said = in_words(endpoint, optional, self.schemes.in_words(method));
        operation.description = Some(match operation.description.take() {
            Some(before) => format!("{before}\n\n{said}"),
            None => said,
        });
        let reads_body = self.schemes.reads_body(method);
        self.answers.write(document, &mut operation.responses.responses, reads_body);
    }
}

impl Modify for AuthDoc {
    fn modify(&self, openapi: &mut OpenApi) {
        let knows_deprecation = openapi.openapi == utoipa::openapi::OpenApiVersion::Version32;
        let components = openapi.components.get_or_insert_with(Components::default);
        let mut document = Document { components, knows_deprecation };
        for (path, item) in &mut openapi.paths.paths {
            if self.covers(path) {
                for (method, operation) in operations(item) {
                    self.write(&mut document, path, &method, operation);
                }
            }
        }
    }
}

impl std::fmt::Debug for AuthDoc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthDoc")
            .field("endpoints", &self.endpoints)
            .field("under", &self.under)
            .finish_non_exhaustive()
    }
}

/// The parts of a document that operations refer to.
struct Document<'d> {
    components: &'d mut Components,
    /// Only from OpenAPI 3.2 on a security scheme can be marked as deprecated.
    knows_deprecation: bool,
}

/// Puts a component into its place, under a name of its own if another stands there; the name it got.
fn place<T: PartialEq>(into: &mut std::collections::BTreeMap<String, T>, name: &str, value: T) -> String {
    let mut number = 1;
    loop {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        match into.get(&name) {
            Some(there) if *there == value => return name,
            Some(_) => number += 1,
            None => {
                into.insert(name.clone(), value);
                return name;
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let fixed = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
        (Method::HEAD, &mut item.head),
        (Method::PATCH, &mut item.patch),
        (Method::TRACE, &mut item.trace),
    ];
    let fixed = fixed.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)));
    let query = item.query.as_mut().map(|operation| ("QUERY", operation));
    let others = item.additional_operations.iter_mut().map(|(name, operation)| (&**name, operation));
    let others = query.into_iter().chain(others);
    fixed.chain(others.filter_map(|(name, operation)| Some((name.parse().ok()?, operation))))
}

/// What an operation does, for people.
fn in_words(endpoint: Endpoint, optional: bool, schemes: String) -> String {
    let does = match endpoint.class {
        AccessClass::Read => "reads",
        AccessClass::Write => "writes: not for keys of people who may only read",
        AccessClass::Manage => {
            "manages keys: only for user-level keys, and not for those of people who may only read"
        }
    };
    let project = if endpoint.project_optional { " No project needs to be named." } else { "" };
    if optional {
        format!("Takes an API key ({schemes}) or none. With a key, which must be good, it {does}.{project}")
    } else {
        format!("Needs an API key ({schemes}), and {does}.{project}")
    }
}

/// Whatever names no scheme is met by anybody, as far as OpenAPI can tell.
fn unspoken() -> SecurityRequirement {
    SecurityRequirement::default()
}
