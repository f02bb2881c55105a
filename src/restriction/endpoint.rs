//! Endpoint restrictions: at which endpoints a key may be used.

use std::fmt;
use std::str::FromStr;

use http::Method;

use super::{AllowList, RequestContext, RestrictionError};
use crate::endpoint::Target;
use crate::route_pattern::{check_pattern, same_route};

/// At which endpoints a key may be used. A request whose endpoint is unknown is refused.
///
/// # Format
///
/// ```text
/// GET /v1/users/{id}
/// POST /v1/files/{*path}
/// ```
///
/// A method, one space, and the pattern of a route, written exactly as the route is. In axum it is compared with
/// the pattern that the whole router matched, in the same way as
/// [`Endpoints`](crate::Endpoints#which-path-is-compared) does. `{*name}` is the only wildcard, and there
/// are no regular expressions.
///
/// `GET` allows `HEAD` too.
pub type EndpointRestriction = AllowList<EndpointRule>;

impl AllowList<EndpointRule> {
    pub(super) fn allows(&self, facts: &RequestContext<'_>) -> bool {
        let Some((method, target)) = facts.endpoint else { return false };
        self.rules.iter().any(|rule| rule.allows(method, target))
    }
}

/// One endpoint: see [the format](EndpointRestriction#format).
///
/// It stores only its text, and parses it at each comparison. This costs less than a compiled router for each rule.
#[derive(Clone)]
pub struct EndpointRule {
    method: Method,
    pattern: Box<str>,
}

impl EndpointRule {
    fn allows(&self, method: &Method, target: Target<'_>) -> bool {
        let method_fits = self.method == *method || (self.method == Method::GET && *method == Method::HEAD);
        method_fits
            && match target {
                Target::Route(pattern) => same_route(&self.pattern, pattern),
                Target::Path(path) => fits(&self.pattern, path),
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
        // These characters may occur in a path, but here they indicate a regular expression or a wildcard that
        // would never match.
        if pattern.replace("{*", "{").contains(|letter: char| r#"*+^$|()[]<>"`'"#.contains(letter)) {
            let reason = "it is a route, and no regular expression: parameters are written {name}, and {*name} for \
                          the rest of the path";
            return Err(reason.into());
        }
        Pieces::of(pattern).try_for_each(|piece| piece.map(drop))?;
        Ok(Self { method, pattern: pattern.into() })
    }

    /// How many bytes it allocates on the heap.
    #[cfg(feature = "cache")]
    pub(super) fn heap_len(&self) -> usize {
        self.pattern.len()
    }
}

/// One part of a pattern, as axum's router reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Exactly this byte.
    Literal(u8),
    /// `{name}`: at least one byte, up to the next slash.
    Parameter,
    /// `{*name}`: at least one byte, up to the end.
    Rest,
}

/// Iterates over the parts of a pattern, or returns what is wrong with it. `{{` and `}}` are escaped braces.
struct Pieces<'p>(&'p [u8]);

impl<'p> Pieces<'p> {
    fn of(pattern: &'p str) -> Self {
        Self(pattern.as_bytes())
    }

    /// Reads the rest of a parameter, after its opening brace.
    fn parameter(&mut self, from_name: &'p [u8]) -> Result<Piece, &'static str> {
        const NAME: &str = "a parameter is written {name} or {*name}, and the name holds no / and no *";
        let mut end = 0;
        let after = loop {
            match from_name.get(end..).ok_or(NAME)? {
                [] => return Err(NAME),
                [b'{', b'{', ..] | [b'}', b'}', ..] => end += 2,
                [b'}', after @ ..] => break after,
                _ => end += 1,
            }
        };
        let name = from_name.get(..end).ok_or(NAME)?;
        let (is_rest, more) = match name {
            [] | [b'}', ..] | [b'*'] => return Err(NAME),
            [b'*', more @ ..] => (true, more),
            [b'{', b'{', more @ ..] | [_, more @ ..] => (false, more),
        };
        if more.iter().any(|byte| matches!(byte, b'*' | b'/')) {
            return Err(NAME);
        }
        self.0 = after;
        match (after, is_rest) {
            ([], true) => Ok(Piece::Rest),
            (_, true) => Err("nothing follows {*name}, which is the rest of the path"),
            ([] | [b'/', ..], false) => Ok(Piece::Parameter),
            (_, false) => Err("a parameter goes up to the next / or to the end"),
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.0 {
            [] => return None,
            [brace @ b'{', b'{', rest @ ..] | [brace @ b'}', b'}', rest @ ..] => {
                self.0 = rest;
                Ok(Piece::Literal(*brace))
            }
            [b'{', name @ ..] => self.parameter(name),
            [b'}', ..] => Err("a } closes no parameter"),
            [byte, rest @ ..] => {
                self.0 = rest;
                Ok(Piece::Literal(*byte))
            }
        })
    }
}

/// Whether a path matches a pattern. It does not allocate, and reads each once.
fn fits(pattern: &str, path: &str) -> bool {
    let mut path = path.as_bytes();
    for piece in Pieces::of(pattern) {
        path = match (piece, path) {
            (Ok(Piece::Literal(byte)), [first, rest @ ..]) if byte == *first => rest,
            (Ok(Piece::Parameter), [first, ..]) if *first != b'/' => {
                let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
                path.get(end..).unwrap_or_default()
            }
            (Ok(Piece::Rest), [_, ..]) => return true,
            _ => return false,
        };
    }
    path.is_empty()
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
    use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq};

    use super::*;

    fn users() -> EndpointRestriction {
        EndpointRestriction::allow(["GET /v1/users/{id}"]).unwrap()
    }

    fn at(restriction: &EndpointRestriction, method: &str, path: &str) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        restriction.allows(&RequestContext::new().endpoint(&method, path))
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
            users().allows(&RequestContext {
                endpoint: Some((&Method::GET, Target::Route(pattern))),
                ..RequestContext::new()
            })
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
        assert!(users().allows(&RequestContext::of(&Head::of(&request))));
        request.extensions_mut().insert(axum::extract::OriginalUri("/admin/v1/users/x".parse().unwrap()));
        assert!(!users().allows(&RequestContext::of(&Head::of(&request))));
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

    /// The router that rules had each for itself, as the oracle of what has taken its place.
    fn by_router(pattern: &str, path: &str) -> Option<bool> {
        let mut router = matchit::Router::new();
        router.insert(pattern, ()).ok()?;
        Some(router.at(path).is_ok())
    }

    /// Texts of the characters that mean something.
    fn drawn(alphabet: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
        let pieces = proptest::collection::vec(proptest::sample::select(alphabet), 0..most);
        pieces.prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn c17_b2_rules_without_a_router_say_what_the_router_said(
            pattern in drawn(&["a", "b", "/", "/", "{", "}", "{{", "}}", "{x}", "/{y}", "/{*z}", "*", "x{n}"], 12),
            path in drawn(&["a", "b", "/a", "/b", "/", "{", "}", "x", "xa", "/a/b"], 8),
        ) {
            let read = Pieces::of(&pattern).all(|piece| piece.is_ok());
            let router = by_router(&pattern, &path);
            prop_assert_eq!(read, router.is_some(), "{}", &pattern);
            // Empty segments come to nobody, and a parameter of a router may be empty behind a prefix: here it is not.
            let is_prefixed =
                |segment: &str| segment.contains('{') && (!segment.starts_with('{') || segment.starts_with("{{"));
            let prefixed = pattern.split('/').any(is_prefixed);
            if read && !path.contains("//") {
                let ours = fits(&pattern, &path);
                prop_assert!(ours == router.unwrap_or(false) || (prefixed && !ours), "{} {}", pattern, path);
            }
        }
    }

    #[test]
    fn c17_b2_a_rule_is_its_text() {
        assert!(size_of::<EndpointRule>() <= 40, "{}", size_of::<EndpointRule>());
        for (pattern, path, fit) in [
            ("/img-{id}", "/img-7", true),
            ("/img-{id}", "/img-", false),
            ("/{{a}}", "/{a}", true),
            ("/{{a}}", "/{{a}}", false),
            ("/{a}/{b}", "/x/y", true),
            ("/{a}/{b}", "/x", false),
            ("/{a}/{b}", "/x/", false),
            ("/{a}/x", "/y/x/z", false),
            ("/f/{*rest}", "/f/a/b", true),
            ("/f/{*rest}", "/f/", false),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
            assert_eq!(by_router(pattern, path), Some(fit), "{pattern} {path}");
        }
    }

    #[test]
    fn c17_b3_as_many_parameters_as_a_router_takes_and_no_more() {
        let route = |count| (0..count).map(|number| format!("/{{p{number}}}")).collect::<String>();
        assert!(format!("GET {}", route(25)).parse::<EndpointRule>().is_ok());
        assert_eq!(by_router(&route(25), "/"), Some(false));
        for count in [26, 27, 100] {
            let refused = format!("GET {}", route(count)).parse::<EndpointRule>().unwrap_err();
            assert_eq!(refused.reason(), "it may have at most 25 parameters");
        }
    }

    #[test]
    fn nothing_listed_and_nothing_known() {
        assert!(!at(&EndpointRestriction::allow([""; 0]).unwrap(), "GET", "/"));
        assert!(!users().allows(&RequestContext::new()));
    }

    #[test]
    fn several_rules_are_alternatives() {
        let both = EndpointRestriction::allow(["GET /users/me", "POST /users/{id}"]).unwrap();
        assert!(at(&both, "GET", "/users/me"));
        assert!(at(&both, "POST", "/users/me"));
        assert!(!at(&both, "GET", "/users/you"));
    }
}
