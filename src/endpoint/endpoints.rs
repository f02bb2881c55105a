//! The declarations of an application.

use http::Method;

use super::declaration::{Change, Extent};
use super::table::EndpointTable;
use crate::access::AccessClass;
use crate::config_error::ConfigError;

/// Declares endpoints by method and route pattern; whatever is not declared is guarded.
///
/// An endpoint that nothing is declared for needs a key, names a project where its scheme wants one, and reads if its
/// method is `GET` or `HEAD`, and writes otherwise (R20). A declaration for `GET` holds for `HEAD` too, unless `HEAD`
/// has its own.
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
///
/// | declared | no key | a good key | a bad key |
/// |---|---|---|---|
/// | nothing of these | 401 | let in | 401 |
/// | [`optional`](Self::optional) | let in as nobody | let in | 401 |
/// | [`public`](Self::public) | let in as nobody | not looked at | not looked at |
///
/// [`project_optional`](Self::project_optional) is about the project alone: a key is needed all the same.
///
/// # Which path is compared
///
/// In axum, the pattern of the route that the whole router matched, nested prefixes included; the names of its parameters
/// do not matter. What the router did not match (fallbacks, nested services) matches no declaration.
///
/// Where no router has looked at a request yet (plain tower, or a layer around the router instead of inside), nothing
/// matches either, unless [`by_path`](Self::by_path) says that paths may be compared.
///
/// A request that matches no declaration is guarded. If it may be one that is declared to write or to manage, it counts
/// as such, whatever its method. That is so, where any `GET` or `HEAD` is declared to write or to manage,
///
/// - for every request that cannot be compared, and for every route with a catch-all before its end: that is another
///   router's pattern, and this one's after it;
///
/// and, where they are declared for the method of the request,
///
/// - if the route ends with what is declared: a prefix is missing there (`/export`, and not `/v1/export`), or another
///   router stands around this one;
/// - if the route or what is declared ends in a catch-all, and one may lie below the other;
/// - if the route has parameters, and the request's path is one that is declared: a router behind the layer may have a
///   route of its own for it.
///
/// [`ApiKeyAuth::undeclared`](crate::ApiKeyAuth::undeclared) finds, in a test, declarations that no route meets. Queries
/// and forwarding headers never count.
///
/// # Security
///
/// [`public`](Self::public) turns authentication off for an endpoint: no key is looked for, and no principal is
/// carried, whatever the request holds. [`optional`](Self::optional) lets in who sends no key, and looks at every key
/// that is sent. [`project_optional`](Self::project_optional) does neither.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    declared: Vec<(Method, String, Extent, Change)>,
    by_path: bool,
}

impl Endpoints {
    /// Nothing declared: everything needs a key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This endpoint changes nothing, whatever its method (R20).
    ///
    /// A pattern that ends in a catch-all is declared by [`read_subtree`](Self::read_subtree).
    #[must_use]
    pub fn read(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Class(AccessClass::Read))
    }

    /// The same for a pattern that ends in a catch-all, such as `/files/{*path}`. See
    /// [`public_subtree`](Self::public_subtree) for what else it stands for.
    #[must_use]
    pub fn read_subtree(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare_subtree(method, pattern, Change::Class(AccessClass::Read))
    }

    /// This endpoint changes something, whatever its method. After a pattern that ends in a catch-all, so do the routes
    /// below it that nothing is declared for.
    #[must_use]
    pub fn write(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Class(AccessClass::Write))
    }

    /// This endpoint manages keys: only for user-level keys of people who may write (R40).
    #[must_use]
    pub fn manage(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Class(AccessClass::Manage))
    }

    /// User-level keys need not name a project here (R45). If they do, it is checked as everywhere.
    #[must_use]
    pub fn project_optional(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::ProjectOptional)
    }

    /// Who sends no key is let in here as nobody, and who sends one must send a good one.
    ///
    /// A credential that is there and bad is refused as everywhere: 401 for a mistyped or revoked key, 400 for two, 503
    /// if the store cannot tell. It never falls back to nobody. A handler asks for `Option<Principal>` (with axum), or
    /// looks for a [`Principal`](crate::Principal) in the request's extensions; guards, and handlers that ask for a
    /// `Principal`, answer 401 `missing_api_key` to nobody.
    ///
    /// No credential is what no scheme of the layer looks at: another authentication scheme, a body of another type, a
    /// JSON object without the key's member. What a scheme looks at and cannot read is refused: a key's member that is
    /// `null`, empty or no string, or JSON that is broken, too large, too slow, or in another charset or a coding.
    ///
    /// Answers say by `Vary` that they depend on the key. Those to nobody are not marked as private, so that a cache may
    /// keep them.
    ///
    /// A pattern that ends in a catch-all is declared by [`optional_subtree`](Self::optional_subtree).
    #[must_use]
    pub fn optional(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Optional)
    }

    /// The same for a pattern that ends in a catch-all, such as `/files/{*path}`. See
    /// [`public_subtree`](Self::public_subtree) for what else it stands for.
    #[must_use]
    pub fn optional_subtree(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare_subtree(method, pattern, Change::Optional)
    }

    /// Anybody may come in here, without a key; see [Security](Self#security).
    ///
    /// A pattern that ends in a catch-all is declared by [`public_subtree`](Self::public_subtree).
    #[must_use]
    pub fn public(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Public)
    }

    /// The same for a pattern that ends in a catch-all, such as `/files/{*path}`.
    ///
    /// # Security
    ///
    /// It stands for more than one handler: whatever answers behind that route is public, if axum reports this pattern
    /// for it. If the route's service is a router of its own with the layer inside, that is its fallback, which axum
    /// cannot tell from the route around it. The inner router's own routes are not public: axum reports the outer pattern
    /// with theirs after it.
    #[must_use]
    pub fn public_subtree(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare_subtree(method, pattern, Change::Public)
    }

    /// Compares patterns, in axum's syntax (`/users/{id}`, `/files/{*path}`), with the paths of requests that no router
    /// has looked at: for hyper, tonic and plain tower. Only paths that have one spelling are compared: without `%`,
    /// `//`, `;`, `.` or `..` segments or a trailing slash.
    ///
    /// # Security
    ///
    /// This knows only the declared patterns, and not the routes: declared as public, `/{page}` makes `/admin` public,
    /// too. It takes the path for the whole path, which it is not where something outside has cut off a prefix. In axum,
    /// put the layer inside the router (`Router::layer`) instead.
    #[must_use]
    pub fn by_path(mut self) -> Self {
        self.by_path = true;
        self
    }

    fn declare(mut self, method: Method, pattern: impl Into<String>, change: Change) -> Self {
        self.declared.push((method, pattern.into(), Extent::Route, change));
        self
    }

    fn declare_subtree(mut self, method: Method, pattern: impl Into<String>, change: Change) -> Self {
        self.declared.push((method, pattern.into(), Extent::Subtree, change));
        self
    }

    /// Checks the declarations, and arranges them for requests.
    pub(crate) fn build(self) -> Result<EndpointTable, ConfigError> {
        EndpointTable::of_declarations(self.declared, self.by_path)
    }
}
