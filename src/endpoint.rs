//! What each endpoint asks for: who may come in, and whether a project must be named.

use std::collections::BTreeMap;

use http::Method;

use crate::access::AccessClass;
use crate::credentials::Head;
use crate::error::ConfigError;

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
///     .public(Method::GET, "/health");
/// ```
///
/// # Which path is compared
///
/// In axum, the pattern of the route that the whole router matched, nested prefixes included; the names of its parameters
/// do not matter. What the router did not match (fallbacks, nested services) matches no declaration.
///
/// Where no router has looked at a request yet (plain tower, or a layer around the router instead of inside), nothing
/// matches either, unless [`by_path`](Self::by_path) says that paths may be compared.
///
/// A request that cannot be compared is guarded like an undeclared one; if any `GET` or `HEAD` is declared to write or to
/// manage, it counts as a write, whatever its method. Queries and forwarding headers never count.
///
/// # Security
///
/// [`public`](Self::public) turns authentication off for an endpoint: no key is looked for, and no principal is
/// carried, whatever the request holds. [`project_optional`](Self::project_optional) does not.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    declared: Vec<(Method, String, Change)>,
    by_path: bool,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Class(AccessClass),
    ProjectOptional,
    Public,
}

impl Endpoints {
    /// Nothing declared: everything needs a key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This endpoint changes nothing, whatever its method (R20).
    #[must_use]
    pub fn read(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Class(AccessClass::Read))
    }

    /// This endpoint changes something, whatever its method.
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

    /// Anybody may come in here, without a key; see [Security](Self#security).
    #[must_use]
    pub fn public(self, method: Method, pattern: impl Into<String>) -> Self {
        self.declare(method, pattern, Change::Public)
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
        self.declared.push((method, pattern.into(), change));
        self
    }

    /// Checks the declarations, and arranges them for requests.
    pub(crate) fn build(self) -> Result<EndpointTable, ConfigError> {
        let mut table = EndpointTable { by_path: self.by_path, ..EndpointTable::default() };
        for (method, pattern, change) in self.declared {
            check_pattern(&pattern).map_err(|reason| ConfigError::Pattern {
                pattern: pattern.clone(),
                reason: reason.to_owned(),
            })?;
            let index = match table.by_pattern.get(&*pattern) {
                Some(index) => *index,
                None => {
                    let index = table.routes.len();
                    table.patterns.insert(pattern.clone(), index).map_err(|error| ConfigError::Pattern {
                        pattern: pattern.clone(),
                        reason: error.to_string(),
                    })?;
                    table.by_pattern.insert(pattern.clone().into(), index);
                    table.routes.push(Vec::new());
                    index
                }
            };
            let Some(route) = table.routes.get_mut(index) else { continue };
            let so_far = route.iter_mut().find(|(declared, _)| *declared == method);
            let declaration = match so_far {
                Some((_, declaration)) => declaration,
                None => {
                    route.push((method.clone(), Declaration::default()));
                    let Some((_, declaration)) = route.last_mut() else { continue };
                    declaration
                }
            };
            let contradiction = match change {
                Change::Class(class) => {
                    table.narrows_reads |= reads(&method) && class != AccessClass::Read;
                    declaration.public
                        || declaration.class.replace(class).is_some_and(|before| before != class)
                }
                Change::ProjectOptional => {
                    declaration.project_optional = true;
                    declaration.public
                }
                Change::Public => {
                    declaration.public = true;
                    declaration.project_optional || declaration.class.is_some()
                }
            };
            if contradiction {
                return Err(ConfigError::Contradiction { method: method.to_string(), pattern });
            }
        }
        Ok(table)
    }
}

/// As many as a router takes: one more, and it panics.
const MAX_PARAMETERS: usize = 25;

/// Whether a text is a route pattern in axum's syntax, or what is wrong with it.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'?' | b'#' | b'\\');
    if !pattern.starts_with('/') {
        Err("it must start with /")
    } else if !pattern.bytes().all(plain) {
        Err("it may hold visible ASCII only, and none of % ; ? # \\")
    } else if pattern.split('/').any(|segment| segment.starts_with([':', '*'])) {
        Err("parameters are written {name}, and {*name} for the rest of the path")
    } else if pattern.split('/').filter(|segment| segment.contains('{')).count() > MAX_PARAMETERS {
        Err("it may have at most 25 parameters")
    } else {
        Ok(())
    }
}

/// What an endpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What a request to it does.
    pub class: AccessClass,
    /// Whether a user-level key may leave the project out, even if its scheme wants one.
    pub project_optional: bool,
}

impl Endpoint {
    /// One that only reads and names no project: for [`Verifier::verify`](crate::verify::Verifier::verify) without
    /// HTTP.
    pub const READ: Self = Self { class: AccessClass::Read, project_optional: false };
    /// One that writes.
    pub const WRITE: Self = Self { class: AccessClass::Write, project_optional: false };
}

/// The declarations, arranged for requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointTable {
    /// A tree: patterns are few, and comparing costs less than hashing.
    by_pattern: BTreeMap<Box<str>, usize>,
    patterns: matchit::Router<usize>,
    routes: Vec<Vec<(Method, Declaration)>>,
    by_path: bool,
    /// Whether some `GET` or `HEAD` is declared to do more than read.
    narrows_reads: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Declaration {
    class: Option<AccessClass>,
    project_optional: bool,
    public: bool,
}

impl EndpointTable {
    /// What the endpoint of a request asks for; `None` if it is public.
    pub(crate) fn of(&self, head: &Head<'_>) -> Option<Endpoint> {
        self.at(head.method, || Target::of(head))
    }

    /// What a route asks for, as a document of the API writes it; `None` if it is public.
    #[cfg(feature = "openapi")]
    pub(crate) fn of_documented(&self, method: &Method, path: &str) -> Option<Endpoint> {
        // OpenAPI knows no rest of a path, and writes it like any other parameter.
        let plain = |path: &str| path.replace("{*", "{");
        let find = |same: &dyn Fn(&str) -> bool| self.by_pattern.keys().find(|pattern| same(pattern));
        let declared = find(&|pattern| same_route(pattern, path))
            .or_else(|| find(&|pattern| same_route(&plain(pattern), &plain(path))));
        self.at(method, || Target::Route(declared.map_or(path, |pattern| pattern)))
    }

    /// The same of a method and a target, which is found out only if there are declarations.
    #[inline]
    pub(crate) fn at<'r>(&self, method: &Method, target: impl FnOnce() -> Target<'r>) -> Option<Endpoint> {
        // A request that cannot be compared may be one that is declared to write.
        let (declared, comparable) = match self.route(target) {
            Some(route) => (route.and_then(|route| self.declaration(route, method)), true),
            None => (None, false),
        };
        let declared = declared.unwrap_or_default();
        if declared.public {
            return None;
        }
        let by_method = if reads(method) && (comparable || !self.narrows_reads) {
            AccessClass::Read
        } else {
            AccessClass::Write
        };
        let class = declared.class.unwrap_or(by_method);
        Some(Endpoint { class, project_optional: declared.project_optional })
    }

    /// Whether the paths of requests that no router has looked at may be compared.
    pub(crate) fn compares_paths(&self) -> bool {
        self.by_path
    }

    fn declaration(&self, route: usize, method: &Method) -> Option<Declaration> {
        let route = self.routes.get(route)?;
        let of =
            |method: &Method| route.iter().find(|(declared, _)| declared == method).map(|(_, found)| *found);
        of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None })
    }

    /// The route of a request if it is a declared one; `None` outside if that cannot be told.
    fn route<'r>(&self, target: impl FnOnce() -> Target<'r>) -> Option<Option<usize>> {
        if self.routes.is_empty() {
            return Some(None);
        }
        match target() {
            Target::Route(matched) => Some(self.by_pattern.get(matched).copied().or_else(|| {
                self.by_pattern
                    .iter()
                    .find(|(pattern, _)| same_route(pattern, matched))
                    .map(|(_, route)| *route)
            })),
            Target::Path(path) if self.by_path => Some(self.patterns.at(path).ok().map(|found| *found.value)),
            Target::Path(_) | Target::Unknown => None,
        }
    }
}

/// Whether a method reads where nothing else is declared.
fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether two patterns are of one route: the same but for the names of their parameters.
pub(crate) fn same_route(one: &str, other: &str) -> bool {
    let nameless = |segment: &'_ str| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
    {
        Some(name) if name.starts_with('*') => Some("*"),
        Some(name) if !name.starts_with('{') => Some(""),
        _ => None,
    };
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) if nameless(one).is_some() && nameless(one) == nameless(other) => {}
            _ => return false,
        }
    }
}

/// What of a request may be compared with patterns; see [`Endpoints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Target<'r> {
    /// The pattern of the route that the whole router matched: compared but for the names of parameters.
    #[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "only axum says what it matched"))]
    Route(&'r str),
    /// The path, which has only one spelling: matched.
    Path(&'r str),
    /// Nothing matches.
    #[default]
    Unknown,
}

impl<'r> Target<'r> {
    pub(crate) fn of(head: &Head<'r>) -> Self {
        #[cfg(feature = "axum")]
        {
            use axum::extract::{MatchedPath, OriginalUri};
            if let Some(matched) = head.extensions.get::<MatchedPath>() {
                return Self::Route(matched.as_str());
            }
            // Inside a router that matched nothing, the path may have been rewritten: it proves nothing.
            if head.extensions.get::<OriginalUri>().is_some() {
                return Self::Unknown;
            }
        }
        Self::path(head.uri.path())
    }

    /// A path that no router has looked at.
    pub(crate) fn path(path: &'r str) -> Self {
        if is_plain(path) { Self::Path(path) } else { Self::Unknown }
    }
}

/// Whether a path has only one spelling, so that a router behind us cannot read another into it.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'\\');
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.bytes().all(plain) && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        })
}
