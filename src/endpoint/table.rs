//! [`EndpointTable`]: finds the declaration for a request.

use std::collections::BTreeMap;

use http::Method;

use super::declaration::{Declaration, Extent, KeyRequirement, Setting};
use super::declared::{Declared, Endpoint};
use super::target::{Target, plain_paths};
use crate::config_error::ConfigError;
use crate::credentials::Head;
use crate::role::AccessClass;
use crate::route_pattern::{check_pattern, ends_with, has_inner_catch_all, may_be_below, same_route};

/// The declarations, indexed for requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointTable {
    /// A tree map: there are few patterns, and comparing them costs less than hashing.
    by_pattern: BTreeMap<Box<str>, usize>,
    patterns: matchit::Router<usize>,
    routes: Vec<Vec<(Method, Declaration)>>,
    by_path: bool,
    /// Whether any `GET` or `HEAD` is declared to do more than read.
    narrows_reads: bool,
    /// The patterns that are declared to do more than their method suggests.
    narrowed: Vec<(Box<str>, usize)>,
}

impl EndpointTable {
    /// Checks the declarations and builds the table.
    pub(super) fn of_declarations(
        declared: Vec<(Method, String, Extent, Setting)>,
        by_path: bool,
    ) -> Result<Self, ConfigError> {
        let mut table = Self { by_path, ..Self::default() };
        for (method, pattern, extent, change) in declared {
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
            if let Setting::Class(class) = change
                && class > by_method(&method)
            {
                table.narrows_reads |= reads(&method);
                table.narrowed.push((pattern.into(), index));
            }
        }
        Ok(table)
    }

    /// Returns what is declared for the endpoint of a request.
    pub(crate) fn of(&self, head: &Head<'_>) -> Declared {
        self.at(head.method, || Target::of(head), || plain_paths(head))
    }

    /// Returns what is declared for a route, written as in an OpenAPI document.
    pub(crate) fn of_documented(&self, method: &Method, path: &str) -> Declared {
        // OpenAPI has no catch-all, and writes it like any other parameter.
        let plain = |path: &str| path.replace("{*", "{");
        let find = |same: &dyn Fn(&str) -> bool| self.by_pattern.keys().find(|pattern| same(pattern));
        let declared = find(&|pattern| same_route(pattern, path))
            .or_else(|| find(&|pattern| same_route(&plain(pattern), &plain(path))));
        self.at(method, || Target::Route(declared.map_or(path, |pattern| pattern)), || [None; 2])
    }

    /// Returns what is declared for a method and a target. `paths` is called only if no declaration matches the target.
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
            KeyRequirement::Required => Declared::Required(endpoint),
            KeyRequirement::Optional => Declared::Optional(endpoint),
            KeyRequirement::Ignored => Declared::Public,
        }
    }

    /// The class of a request that matches no declaration, if it might be for one that is declared to do more than
    /// its method suggests; see [`Endpoints`].
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
                // A route without parameters has only one path, its own.
                let paths = if pattern.contains('{') { paths() } else { [None; 2] };
                let by_path = paths.into_iter().flatten();
                let by_path = by_path.filter_map(|path| class(*self.patterns.at(path).ok()?.value));
                outer.into_iter().chain(alike).chain(by_path).max().unwrap_or(AccessClass::Read)
            }
        }
    }

    /// Lists the routes without a declaration and the declarations without a route.
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

    /// Whether paths may be compared for requests that no router has seen.
    pub(crate) fn compares_paths(&self) -> bool {
        self.by_path
    }

    fn declaration(&self, route: usize, method: &Method) -> Option<Declaration> {
        let route = self.routes.get(route)?;
        let of =
            |method: &Method| route.iter().find(|(declared, _)| declared == method).map(|(_, found)| *found);
        of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None })
    }

    /// Finds the declared route of a request.
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

/// The routes without a declaration and the declarations without a route; from
/// [`ApiKeyAuth::undeclared`](crate::ApiKeyAuth::undeclared).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undeclared {
    /// The routes without a declaration for any method: they need a key, and their method decides whether they read
    /// or write.
    pub routes: Vec<String>,
    /// The declarations that match none of the routes, as a method and a pattern (`GET /export`). They have no
    /// effect. Usually the prefix of a nested router is missing, or a name is misspelt.
    pub declarations: Vec<String>,
}

/// Whether a method reads if nothing else is declared.
fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn by_method(method: &Method) -> AccessClass {
    if reads(method) { AccessClass::Read } else { AccessClass::Write }
}
