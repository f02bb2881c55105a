//! What each endpoint asks for: who may come in, and whether a project must be named.

mod declared;

use std::collections::BTreeMap;

use http::Method;

pub use self::declared::Declared;
use crate::access::AccessClass;
use crate::config_error::ConfigError;
use crate::credentials::Head;

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

#[derive(Clone, Copy, Debug)]
enum Change {
    Class(AccessClass),
    ProjectOptional,
    Optional,
    Public,
}

/// What a pattern that ends in a catch-all is said to stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// One route.
    Route,
    /// A route, and whatever is behind it that no other declaration is for.
    Subtree,
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
        let mut table = EndpointTable { by_path: self.by_path, ..EndpointTable::default() };
        for (method, pattern, extent, change) in self.declared {
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
            change.suits(&pattern, extent).map_err(|reason| ConfigError::Pattern {
                pattern: pattern.clone(),
                reason: reason.to_owned(),
            })?;
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
            if !declaration.takes(change) {
                return Err(ConfigError::Contradiction { method: method.to_string(), pattern });
            }
            if let Change::Class(class) = change
                && class > by_method(&method)
            {
                table.narrows_reads |= reads(&method);
                table.narrowed.push((pattern.into(), index));
            }
        }
        Ok(table)
    }
}

impl Change {
    /// Whether this may be said of a pattern with that extent, or why not.
    fn suits(self, pattern: &str, extent: Extent) -> Result<(), &'static str> {
        let catches_all = pattern.rsplit('/').next().is_some_and(is_catch_all);
        match (extent, self) {
            (Extent::Subtree, _) if !catches_all => {
                Err("a subtree is declared by a pattern that ends in a catch-all, such as /files/{*path}")
            }
            (Extent::Route, Self::Public) if catches_all => {
                Err("it ends in a catch-all: say public_subtree, and read there what else it stands for")
            }
            (Extent::Route, Self::Optional) if catches_all => {
                Err("it ends in a catch-all: say optional_subtree, and read there what else it stands for")
            }
            (Extent::Route, Self::Class(AccessClass::Read)) if catches_all => {
                Err("it ends in a catch-all: say read_subtree, and read there what else it stands for")
            }
            _ => Ok(()),
        }
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
    /// One that only reads and names no project: for [`Verifier::verify`](crate::Verifier::verify) without
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
    /// The patterns that are declared to do more than their method says.
    narrowed: Vec<(Box<str>, usize)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Declaration {
    class: Option<AccessClass>,
    project_optional: bool,
    key: Key,
}

/// Who needs a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Required,
    Optional,
    /// None is looked at.
    Ignored,
}

impl Declaration {
    /// Adds to what is declared; false if it contradicts what was declared before.
    fn takes(&mut self, change: Change) -> bool {
        match change {
            Change::Class(class) => {
                let before = self.class.replace(class);
                self.key != Key::Ignored && before.is_none_or(|before| before == class) && self.is_sound()
            }
            Change::ProjectOptional => {
                self.project_optional = true;
                self.key != Key::Ignored
            }
            Change::Optional => {
                let before = std::mem::replace(&mut self.key, Key::Optional);
                before != Key::Ignored && self.is_sound()
            }
            Change::Public => {
                let before = std::mem::replace(&mut self.key, Key::Ignored);
                before != Key::Optional && !self.project_optional && self.class.is_none()
            }
        }
    }

    /// Nobody manages keys without one.
    fn is_sound(&self) -> bool {
        self.key == Key::Required || self.class != Some(AccessClass::Manage)
    }
}

impl EndpointTable {
    /// Who may come in at the endpoint of a request.
    pub(crate) fn of(&self, head: &Head<'_>) -> Declared {
        self.at(head.method, || Target::of(head), || plain_paths(head))
    }

    /// Who may come in at a route, as a document of the API writes it.
    pub(crate) fn of_documented(&self, method: &Method, path: &str) -> Declared {
        // OpenAPI knows no rest of a path, and writes it like any other parameter.
        let plain = |path: &str| path.replace("{*", "{");
        let find = |same: &dyn Fn(&str) -> bool| self.by_pattern.keys().find(|pattern| same(pattern));
        let declared = find(&|pattern| same_route(pattern, path))
            .or_else(|| find(&|pattern| same_route(&plain(pattern), &plain(path))));
        self.at(method, || Target::Route(declared.map_or(path, |pattern| pattern)), || [None; 2])
    }

    /// The same of a method, a target, and paths that are asked for if no declaration is for the target.
    #[inline]
    pub(crate) fn at<'r>(
        &self,
        method: &Method,
        target: impl FnOnce() -> Target<'r>,
        paths: impl FnOnce() -> [Option<&'r str>; 2],
    ) -> Declared {
        let by_method = by_method(method);
        if self.routes.is_empty() {
            return Declared::Required(Endpoint { class: by_method, project_optional: false });
        }
        let target = target();
        let declared = self.route(target).and_then(|route| self.declaration(route, method));
        let least = match declared {
            None if !self.narrowed.is_empty() => self.at_least(method, target, paths),
            _ => AccessClass::Read,
        };
        let Declaration { class, project_optional, key } = declared.unwrap_or_default();
        let endpoint = Endpoint { class: class.unwrap_or(by_method.max(least)), project_optional };
        match key {
            Key::Required => Declared::Required(endpoint),
            Key::Optional => Declared::Optional(endpoint),
            Key::Ignored => Declared::Public,
        }
    }

    /// What a request does at least that matches no declaration, as it may be one that is declared to do more than its
    /// method says; see [`Endpoints`].
    #[cold]
    fn at_least<'r>(
        &self,
        method: &Method,
        target: Target<'r>,
        paths: impl FnOnce() -> [Option<&'r str>; 2],
    ) -> AccessClass {
        let unclear =
            if reads(method) && self.narrows_reads { AccessClass::Write } else { AccessClass::Read };
        let class = |route: usize| self.declaration(route, method).and_then(|declared| declared.class);
        match target {
            Target::Path(_) if self.by_path => AccessClass::Read,
            Target::Path(_) | Target::Unknown => unclear,
            Target::Route(pattern) => {
                let outer = if has_inner_catch_all(pattern) { Some(unclear) } else { None };
                let alike = self
                    .narrowed
                    .iter()
                    .filter(|(narrowed, _)| ends_with(pattern, narrowed) || may_be_below(pattern, narrowed))
                    .filter_map(|(_, route)| class(*route));
                // A route without parameters has one path, and that is its own.
                let paths = if pattern.contains('{') { paths() } else { [None; 2] };
                let by_path = paths.into_iter().flatten();
                let by_path = by_path.filter_map(|path| class(*self.patterns.at(path).ok()?.value));
                outer.into_iter().chain(alike).chain(by_path).max().unwrap_or(AccessClass::Read)
            }
        }
    }

    /// Which routes and declarations do not meet.
    pub(crate) fn undeclared<P: AsRef<str>>(&self, routes: impl IntoIterator<Item = P>) -> Undeclared {
        let routes: Vec<String> = routes.into_iter().map(|route| route.as_ref().to_owned()).collect();
        let mut declarations = Vec::new();
        for (pattern, index) in &self.by_pattern {
            if !routes.iter().any(|route| same_route(pattern, route)) {
                let declared = self.routes.get(*index).into_iter().flatten();
                declarations.extend(declared.map(|(method, _)| format!("{method} {pattern}")));
            }
        }
        let is_declared = |route: &String| self.by_pattern.keys().any(|pattern| same_route(pattern, route));
        let routes = routes.into_iter().filter(|route| !is_declared(route)).collect();
        Undeclared { routes, declarations }
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

    /// The declared route that a request is for.
    fn route(&self, target: Target<'_>) -> Option<usize> {
        match target {
            Target::Route(matched) => self.by_pattern.get(matched).copied().or_else(|| {
                self.by_pattern
                    .iter()
                    .find(|(pattern, _)| same_route(pattern, matched))
                    .map(|(_, route)| *route)
            }),
            Target::Path(path) if self.by_path => self.patterns.at(path).ok().map(|found| *found.value),
            Target::Path(_) | Target::Unknown => None,
        }
    }
}

/// What routes and declarations do not meet; [`ApiKeyAuth::undeclared`](crate::ApiKeyAuth::undeclared) finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undeclared {
    /// The routes for which nothing is declared, whatever the method: they need a key, and read or write by their
    /// method.
    pub routes: Vec<String>,
    /// The declarations that are for none of the routes, as a method and a pattern (`GET /export`): they do nothing.
    /// Mostly the prefix of a nested router is missing, or a name is misspelt.
    pub declarations: Vec<String>,
}

/// Whether a method reads where nothing else is declared.
fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn by_method(method: &Method) -> AccessClass {
    if reads(method) { AccessClass::Read } else { AccessClass::Write }
}

/// What a segment of a pattern is if it is a parameter: `*` for the rest of the path, and nothing for one segment.
fn nameless(segment: &str) -> Option<&'static str> {
    match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) if name.starts_with('*') => Some("*"),
        Some(name) if !name.starts_with('{') => Some(""),
        _ => None,
    }
}

fn is_catch_all(segment: &str) -> bool {
    nameless(segment) == Some("*")
}

/// Whether a pattern goes on after the rest of the path: a router put another's pattern before its own.
fn has_inner_catch_all(pattern: &str) -> bool {
    pattern.rsplit('/').skip(1).any(is_catch_all)
}

/// Whether the end of a pattern, from a `/` on, is another.
fn ends_with(pattern: &str, end: &str) -> bool {
    let last = end.matches('/').count().saturating_sub(1);
    let from = pattern.rmatch_indices('/').nth(last).map(|(from, _)| from);
    from.and_then(|from| pattern.get(from..)).is_some_and(|tail| same_route(tail, end))
}

/// Whether one of two patterns ends in a catch-all that may stand for what the other does.
fn may_be_below(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some(one), Some(_)) if is_catch_all(one) => return true,
            (Some(_), Some(other)) if is_catch_all(other) => return true,
            (Some(one), Some(other))
                if one == other || nameless(one).is_some() || nameless(other).is_some() => {}
            _ => return false,
        }
    }
}

/// Whether two patterns are of one route: the same but for the names of their parameters.
pub(crate) fn same_route(one: &str, other: &str) -> bool {
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

/// The path of a request as it came, and as it is after what was cut off, where they have one spelling.
fn plain_paths<'r>(head: &Head<'r>) -> [Option<&'r str>; 2] {
    #[cfg(feature = "axum")]
    let original = head.extensions.get::<axum::extract::OriginalUri>().map(|uri| uri.path());
    #[cfg(not(feature = "axum"))]
    let original = None;
    plain([original, Some(head.uri.path())])
}

/// Those of some paths that have one spelling.
pub(crate) fn plain(paths: [Option<&str>; 2]) -> [Option<&str>; 2] {
    paths.map(|path| path.filter(|path| is_plain(path)))
}

/// Whether a path has only one spelling, so that a router behind us cannot read another into it.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'\\');
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.bytes().all(plain) && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        })
}
