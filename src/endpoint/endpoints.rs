//! [`Endpoints`]: the application's declarations of its endpoints.

use http::Method;

use super::declaration::{Extent, Setting};
use super::table::EndpointTable;
use crate::config_error::ConfigError;
use crate::role::AccessClass;

/// Declares endpoints by method and route pattern. An endpoint without a declaration needs a key.
///
/// Without a declaration, an endpoint also needs a project if its scheme requires one; it counts as a read if its
/// method is `GET` or `HEAD`, and as a write otherwise (R20). A declaration for `GET` also applies to `HEAD`,
/// unless `HEAD` has its own.
///
/// ```
/// use http::Method;
/// use tower_api_key::Endpoints;
///
/// let endpoints = Endpoints::new()
///     .project_optional(Method::GET, "/projects")
///     .read(Method::POST, "/projects/status")
///     .optional(Method::GET, "/prices")
///     .public(Method::GET, "/health");
/// ```
///
/// # Without a key
/// | declared | no key | a valid key | an invalid key |
/// |---|---|---|---|
/// | neither | 401 | let in | 401 |
/// | [`optional`](Self::optional) | let in without a principal | let in | 401 |
/// | [`public`](Self::public) | let in without a principal | not looked at | not looked at |
///
/// [`project_optional`](Self::project_optional) concerns only the project: a key is still needed.
///
/// # Which path is compared
///
/// In axum, the declared pattern is compared with the pattern of the route that the whole router matched, including
/// prefixes of nested routers; the names of parameters do not matter. A request that the router did not match (a
/// fallback, a nested service) matches no declaration.
///
/// If no router has seen the request yet (plain tower, or a layer around the router instead of inside it), it
/// matches no declaration either, unless [`by_path`](Self::by_path) allows comparing paths.
///
/// A request that matches no declaration needs a key. If it might be for an endpoint that is declared to write or
/// to manage, it counts as such, whatever its method. If any `GET` or `HEAD` is declared to write or to manage,
/// this applies
///
/// - to every request that cannot be compared, and to every route with a catch-all before its end, which is another
///   router's pattern followed by this router's;
///
/// and, if the declaration is for the method of the request,
///
/// - if the route ends with the declared pattern: the declaration lacks a prefix (`/export` instead of
///   `/v1/export`), or another router encloses this one;
/// - if the route or the declared pattern ends in a catch-all, and one may lie below the other;
/// - if the route has parameters and the request's path itself is declared: a router behind the layer may have a
///   route of its own for it.
///
/// In a test, [`ApiKeyAuth::undeclared`](crate::ApiKeyAuth::undeclared) finds declarations that match no route.
/// Queries and forwarding headers are never compared.
///
/// # Security
///
/// [`public`](Self::public) turns authentication off for an endpoint: no key is read and the request carries no
/// principal, whatever it contains. [`optional`](Self::optional) accepts requests without a key, and checks every
/// key that is sent. [`project_optional`](Self::project_optional) does neither.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    declared: Vec<(Method, String, Extent, Setting)>,
    by_path: bool,
}

impl Endpoints {
    /// Declares nothing: every endpoint needs a key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares that this endpoint changes nothing, whatever its method (R20).
    ///
    /// For a pattern that ends in a catch-all, use [`read_subtree`](Self::read_subtree).
    #[must_use]
    pub fn read(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Setting::Class(AccessClass::Read))
    }

    /// Like [`read`](Self::read) for a pattern that ends in a catch-all, such as `/files/{*path}`. See
    /// [`public_subtree`](Self::public_subtree) for what else it covers.
    #[must_use]
    pub fn read_subtree(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare_subtree(method, pattern, Setting::Class(AccessClass::Read))
    }

    /// Declares that this endpoint changes something, whatever its method. If the pattern ends in a catch-all, this
    /// also covers the routes below it that have no declaration.
    #[must_use]
    pub fn write(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Setting::Class(AccessClass::Write))
    }

    /// Declares that this endpoint manages keys: only user-level keys of people who may write are accepted (R40).
    #[must_use]
    pub fn manage(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Setting::Class(AccessClass::Manage))
    }

    /// Declares that user-level keys need not name a project here (R45). If they do, it is checked as usual.
    #[must_use]
    pub fn project_optional(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Setting::ProjectOptional)
    }

    /// Declares that a key is optional: a request without one is let in without a principal; a key that is sent
    /// must be valid.
    ///
    /// An invalid credential is refused as usual: 401 for a mistyped or revoked key, 400 for two keys, 503 if the
    /// store cannot answer. The request is never treated as if it had none. A handler takes `Option<Principal>`
    /// (with axum), or looks for a [`Principal`](crate::Principal) in the request's extensions. Guards, and
    /// handlers that take a `Principal`, answer 401 `missing_api_key` to a request without one.
    ///
    /// A request has no credential if no scheme of the layer recognizes one: another authentication scheme, a body
    /// of another type, a JSON object without the key's member. What a scheme recognizes but cannot read is
    /// refused: a key's member that is `null`, empty or not a string, or JSON that is broken, too large, too slow,
    /// in another charset or compressed.
    ///
    /// Responses say by `Vary` that they depend on the key. Those to requests without a key are not marked as
    /// private, so that a cache may keep them.
    ///
    /// For a pattern that ends in a catch-all, use [`optional_subtree`](Self::optional_subtree).
    #[must_use]
    pub fn optional(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Setting::Optional)
    }

    /// Like [`optional`](Self::optional) for a pattern that ends in a catch-all, such as `/files/{*path}`. See
    /// [`public_subtree`](Self::public_subtree) for what else it covers.
    #[must_use]
    pub fn optional_subtree(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare_subtree(method, pattern, Setting::Optional)
    }

    /// Declares that everybody may call this endpoint, without a key; see [Security](Self#security).
    ///
    /// For a pattern that ends in a catch-all, use [`public_subtree`](Self::public_subtree).
    #[must_use]
    pub fn public(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Setting::Public)
    }

    /// Like [`public`](Self::public) for a pattern that ends in a catch-all, such as `/files/{*path}`.
    ///
    /// # Security
    ///
    /// It covers more than one handler: everything behind that route is public if axum reports this pattern for it.
    /// If the route's service is a router of its own with the layer inside, this includes its fallback, which axum
    /// cannot distinguish from the enclosing route. The inner router's own routes are not public: axum reports the
    /// outer pattern followed by theirs.
    #[must_use]
    pub fn public_subtree(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare_subtree(method, pattern, Setting::Public)
    }

    /// Also compares patterns, in axum's syntax (`/users/{id}`, `/files/{*path}`), with the paths of requests that
    /// no router has seen: for hyper, tonic and plain tower. Only paths with a single spelling are compared:
    /// without `%`, `//`, `;`, `.` or `..` segments or a trailing slash.
    ///
    /// # Security
    ///
    /// This knows only the declared patterns and not the routes: if `/{page}` is declared as public, `/admin` is
    /// public too. It assumes that it sees the whole path, which is wrong if an outer service has removed a prefix.
    /// In axum, put the layer inside the router (`Router::layer`) instead.
    #[must_use]
    pub fn by_path(mut self) -> Self {
        self.by_path = true;
        self
    }

    fn declare(mut self, method: Method, pattern: impl Into<String>, change: Setting) -> Self {
        self.declared.push((method, pattern.into(), Extent::Route, change));
        self
    }

    fn declare_subtree(mut self, method: Method, pattern: impl Into<String>, change: Setting) -> Self {
        self.declared.push((method, pattern.into(), Extent::Subtree, change));
        self
    }

    /// Checks the declarations and builds the table for requests.
    pub(crate) fn build(self) -> Result<EndpointTable, ConfigError> {
        EndpointTable::of_declarations(self.declared, self.by_path)
    }
}
