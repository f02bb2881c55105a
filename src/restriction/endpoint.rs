//! At which endpoints a key may be used.
//!
//! # Format
//!
//! ```text
//! GET /v1/users/{id}
//! POST /v1/files/{*path}
//! ```
//!
//! A method, one space, and a route's pattern, written exactly as the route is: in axum, it is compared with the
//! pattern that the whole router matched. See [`Endpoints`](crate::endpoint::Endpoints#which-path-is-compared), which
//! compares in the same way. There are no wildcards but `{*name}`, and no regular expressions.
//!
//! `GET` allows `HEAD` too.

use std::fmt;
use std::str::FromStr;

use http::Method;

use super::{AllowList, Facts, RestrictionError};
use crate::endpoint::{Target, check_pattern, same_route};

/// At which endpoints a key may be used. A request whose endpoint is not known is refused.
pub type EndpointRestriction = AllowList<EndpointRule>;

impl AllowList<EndpointRule> {
    pub(super) fn allows(&self, facts: &Facts<'_>) -> bool {
        let Some((method, target)) = facts.endpoint else { return false };
        self.rules.iter().any(|rule| rule.allows(method, target))
    }
}

/// One endpoint: see [the format](self#format).
#[derive(Clone)]
pub struct EndpointRule {
    method: Method,
    pattern: Box<str>,
    /// The pattern, for paths that no router has looked at.
    matcher: matchit::Router<()>,
}

impl EndpointRule {
    fn allows(&self, method: &Method, target: Target<'_>) -> bool {
        let method_fits = self.method == *method || (self.method == Method::GET && *method == Method::HEAD);
        method_fits
            && match target {
                Target::Route(pattern) => same_route(&self.pattern, pattern),
                Target::Path(path) => self.matcher.at(path).is_ok(),
                Target::Unknown => false,
            }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (method, pattern) =
            text.split_once(' ').ok_or("an endpoint is a method and a route, such as GET /v1/users/{id}")?;
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            return Err("methods are written in capitals, one for each entry: GET, POST, ...".into());
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "that is no method")?;
        check_pattern(pattern)?;
        // All of these may stand in a path; here they are a regular expression or a wildcard that would match nothing.
        if pattern.replace("{*", "{").contains(|letter: char| r#"*+^$|()[]<>"`'"#.contains(letter)) {
            let reason = "it is a route, and no regular expression: parameters are written {name}, and {*name} for \
                          the rest of the path";
            return Err(reason.into());
        }
        let mut matcher = matchit::Router::new();
        matcher.insert(pattern, ()).map_err(|error| error.to_string())?;
        Ok(Self { method, pattern: pattern.into(), matcher })
    }
}

impl FromStr for EndpointRule {
    type Err = RestrictionError;

    fn from_str(text: &str) -> Result<Self, RestrictionError> {
        Self::parse(text).map_err(|reason| RestrictionError::new(text, reason))
    }
}

impl PartialEq for EndpointRule {
    fn eq(&self, other: &Self) -> bool {
        self.method == other.method && self.pattern == other.pattern
    }
}

impl Eq for EndpointRule {}

impl fmt::Display for EndpointRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.pattern)
    }
}

impl fmt::Debug for EndpointRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> EndpointRestriction {
        EndpointRestriction::allow(["GET /v1/users/{id}"]).unwrap()
    }

    fn at(restriction: &EndpointRestriction, method: &str, path: &str) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        restriction.allows(&Facts::new().endpoint(&method, path))
    }

    #[test]
    fn c4_10_one_route_with_get_and_head() {
        assert!(at(&users(), "GET", "/v1/users/x"));
        assert!(at(&users(), "HEAD", "/v1/users/x"));
        for method in ["POST", "DELETE", "OPTIONS", "get", "CONNECT"] {
            assert!(!at(&users(), method, "/v1/users/x"), "{method}");
        }
        for path in [
            "/v1/users/x/keys",
            "/v1/users",
            "/v1/users/",
            "/v1/users/x/",
            "//v1/users/x",
            "/v1//users/x",
            "/V1/users/x",
            "/v1/users/..",
            "/v1/users/.",
            "/v1/users/a%2fb",
            "/v1/users/x;a",
            "/x/../v1/users/x",
            "/v1/users\\x",
            "/v1/users/x\\",
            "*",
            "",
        ] {
            assert!(!at(&users(), "GET", path), "{path}");
        }
        let head_only = EndpointRestriction::allow(["HEAD /a"]).unwrap();
        assert!(at(&head_only, "HEAD", "/a"));
        assert!(!at(&head_only, "GET", "/a"));
        let rest = EndpointRestriction::allow(["GET /files/{*path}"]).unwrap();
        assert!(at(&rest, "GET", "/files/a/b"));
        assert!(!at(&rest, "GET", "/files"));
    }

    #[test]
    fn c4_10_a_route_is_compared_but_for_the_names_of_its_parameters() {
        let allows = |pattern| {
            users().allows(&Facts { endpoint: Some((&Method::GET, Target::Route(pattern))), ..Facts::new() })
        };
        assert!(allows("/v1/users/{id}"));
        assert!(allows("/v1/users/{name}"));
        assert!(!allows("/v1/users/{*rest}"));
        assert!(!allows("/v1/users/x"));
        assert!(!allows("/v1/users/{id}/keys"));
        assert!(!allows("/{*path}"));
    }

    #[cfg(feature = "axum")]
    #[test]
    fn c4_05_what_axum_did_not_match_is_not_compared() {
        use crate::credentials::Head;
        let mut request = http::Request::get("/v1/users/x").body(()).unwrap();
        assert!(users().allows(&Facts::of(&Head::of(&request))));
        request.extensions_mut().insert(axum::extract::OriginalUri("/admin/v1/users/x".parse().unwrap()));
        assert!(!users().allows(&Facts::of(&Head::of(&request))));
    }

    #[test]
    fn c4_11_regular_expressions_and_wildcards_are_refused() {
        for text in [
            "",
            " ",
            "GET",
            "GET ",
            "/v1/users",
            "GET  /v1",
            " GET /v1",
            "GET /v1 ",
            "GET\t/v1",
            "get /v1",
            "Get /v1",
            "* /v1",
            "GET,POST /v1",
            "GET|POST /v1",
            "GET *",
            "GET /*",
            "GET /v1/*",
            "GET /v1/a*",
            "GET /v1/**",
            "GET /v1/.*",
            "GET ^/v1$",
            "GET /v1/(a|b)",
            "GET /v1/[a-z]",
            "GET /v1/a+",
            "GET /v1/:id",
            "GET v1",
            "GET /v1?x=1",
            "GET /v1#x",
            "GET /v1%20",
            "GET /v1\\x",
            "GET /v1;a",
            "GET /ü",
            "GET /{",
            "GET /{}",
            "GET /a{b}c}",
            "GET /{a}{b}",
            "GET /{*a}/b",
            "GET https://a/b",
            "GET /a\0",
        ] {
            assert!(text.parse::<EndpointRule>().is_err(), "{text:?}");
        }
        let twice = EndpointRestriction::allow(["GET /a", "GET /a"]).unwrap_err();
        assert_eq!(twice.to_string(), r#""GET /a": it is listed twice: leave one out"#);
    }

    #[test]
    fn nothing_listed_and_nothing_known() {
        assert!(!at(&EndpointRestriction::allow([""; 0]).unwrap(), "GET", "/"));
        assert!(!users().allows(&Facts::new()));
    }

    #[test]
    fn several_rules_are_alternatives() {
        let both = EndpointRestriction::allow(["GET /users/me", "POST /users/{id}"]).unwrap();
        assert!(at(&both, "GET", "/users/me"));
        assert!(at(&both, "POST", "/users/me"));
        assert!(!at(&both, "GET", "/users/you"));
    }
}
