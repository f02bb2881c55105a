//! Referrer restrictions: from which web pages a key may be used.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::request_context::HeaderLine;
use super::{AllowList, RequestContext, RestrictionError};

/// From which pages a key may be used.
///
/// # Security
///
/// A referrer is not authentication. Browsers send it truthfully, but any other client can send any value. The
/// restriction only keeps a key from being used by other people's web pages.
///
/// # Format
///
/// ```text
/// https://good.example            an origin: scheme, host and port
/// http://localhost:3000
/// https://*.good.example          every name below good.example, and not good.example itself
/// https://good.example/app        and below this path: /app, /app/x, but not /apple
/// ```
///
/// ASCII only (write a name in another script as `xn--...`), without user, query or fragment. Hosts are compared
/// case-insensitively, paths case-sensitively.
///
/// # What is read
///
/// One `Referer` line with an `http` or `https` URL in plain form. Anything else (no line, two lines, `null`, a user, a
/// backslash, a fragment) is refused. `Origin` replaces a missing `Referer` only if
/// [`accept_origin`](ReferrerRestriction::accept_origin) is set, and never for a rule with a path. If both are present,
/// they must agree.
pub type ReferrerRestriction = AllowList<ReferrerRule>;

impl AllowList<ReferrerRule> {
    /// Accepts `Origin` if there is no `Referer`, for pages that send none.
    #[must_use]
    pub fn accept_origin(mut self) -> Self {
        self.origin = true;
        self
    }

    /// Whether `Origin` replaces a missing `Referer`.
    #[must_use]
    pub fn accepts_origin(&self) -> bool {
        self.origin
    }

    pub(super) fn allows(&self, facts: &RequestContext<'_>) -> bool {
        match page(facts, self.origin) {
            Some(page) => self.rules.iter().any(|rule| rule.allows(&page)),
            None => false,
        }
    }
}

/// The page that sends the request, if its headers name exactly one.
fn page<'r>(facts: &RequestContext<'r>, accept_origin: bool) -> Option<Page<'r>> {
    let origin = match facts.origin {
        HeaderLine::Absent => None,
        HeaderLine::Repeated => return None,
        // An opaque origin (`null`) contradicts every referrer.
        HeaderLine::Once(text) => Some(Url::parse(text).ok().filter(|url| url.rest.is_empty())?.origin),
    };
    match facts.referer {
        HeaderLine::Repeated => None,
        HeaderLine::Absent if accept_origin => Some(Page { origin: origin?, path: None }),
        HeaderLine::Absent => None,
        HeaderLine::Once(text) => {
            let url = Url::parse(text).ok()?;
            if origin.is_some_and(|origin| !origin.is(&url.origin)) {
                return None;
            }
            let path = url.rest.split('?').next();
            Some(Page { origin: url.origin, path })
        }
    }
}

struct Page<'r> {
    origin: Origin<'r>,
    /// Empty or with a leading slash; `None` if unknown.
    path: Option<&'r str>,
}

/// An origin or all subdomains of a name, with an optional path: see [the format](ReferrerRestriction#format).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerRule {
    secure: bool,
    /// Lower-case, without `*.`.
    host: Box<str>,
    /// Whether the rule allows every subdomain of `host`, but not `host` itself.
    below: bool,
    port: u16,
    /// Empty, or `/`-separated segments with a leading and without a trailing slash.
    path: Box<str>,
}

impl ReferrerRule {
    /// How many bytes it allocates on the heap.
    #[cfg(feature = "cache")]
    pub(super) fn heap_len(&self) -> usize {
        self.host.len() + self.path.len()
    }

    fn allows(&self, page: &Page<'_>) -> bool {
        let Origin { secure, host, port } = page.origin;
        let host_fits = if self.below {
            let name = host.len().checked_sub(self.host.len()).and_then(|at| host.split_at_checked(at));
            name.is_some_and(|(name, base)| name.ends_with('.') && base.eq_ignore_ascii_case(&self.host))
        } else {
            host.eq_ignore_ascii_case(&self.host)
        };
        secure == self.secure && port == self.port && host_fits && self.covers(page.path)
    }

    fn covers(&self, path: Option<&str>) -> bool {
        if self.path.is_empty() {
            return true;
        }
        let Some(path) = path else { return false };
        let below =
            path.strip_prefix(&*self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        below && is_direct(path)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        // `*` is not valid in a host name: it is removed here and checked separately.
        let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.contains('*') {
            return Err("* stands only in front of a whole name, as in https://*.example.com");
        }
        let plain = format!("{scheme}://{rest}");
        let Url { origin, rest: path } = Url::parse(plain.as_bytes())?;
        let last_label = origin.host.rsplit('.').next().unwrap_or_default();
        let is_address = origin.host.starts_with('[') || last_label.bytes().all(|byte| byte.is_ascii_digit());
        if below && (is_address || !origin.host.contains('.')) {
            return Err("after *. stands a name of at least two parts, as in https://*.example.com");
        }
        if path.contains('?') {
            return Err("a query cannot be restricted: leave it out");
        }
        let path = if path == "/" { "" } else { path };
        if path.ends_with('/') {
            return Err("leave the / at the end of the path out: everything below it is allowed anyway");
        }
        if !is_direct(path) || path.contains("//") {
            return Err("a path has no empty, . or .. segments, and no %2e, %2f or %5c");
        }
        let host = origin.host.to_ascii_lowercase().into();
        Ok(Self { secure: origin.secure, host, below, port: origin.port, path: path.into() })
    }
}

/// Whether a path contains nothing that could lead up again or hide a slash, however it is encoded.
fn is_direct(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    !path.contains("%2f")
        && !path.contains("%5c")
        && !path.split('/').any(|segment| matches!(&*segment.replace("%2e", "."), "." | ".."))
}

#[derive(Clone, Copy)]
struct Origin<'r> {
    secure: bool,
    host: &'r str,
    port: u16,
}

impl Origin<'_> {
    fn is(&self, other: &Origin<'_>) -> bool {
        self.secure == other.secure && self.port == other.port && self.host.eq_ignore_ascii_case(other.host)
    }
}

/// An `http` or `https` URL, parsed so strictly that no other parser can find a different host in it.
struct Url<'r> {
    origin: Origin<'r>,
    /// Path and query: empty, or starting with `/` or `?`.
    rest: &'r str,
}

const SCHEME: &str = "it starts with https:// or http:// and a host";
const HOST: &str = "a host is a name of letters, digits and -, without a dot at its end, an IPv4 address, or an IPv6 \
                    address in brackets; names in other scripts are written xn--...";

impl<'r> Url<'r> {
    fn parse(text: &'r [u8]) -> Result<Self, &'static str> {
        const MAX_LEN: usize = 8192;
        if text.len() > MAX_LEN {
            return Err("it is too long");
        }
        let forbidden = |byte: &u8| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'#');
        if text.iter().any(forbidden) {
            return Err(
                "it may hold visible ASCII only, and no \\ or #; names in other scripts are written xn--...",
            );
        }
        let text = str::from_utf8(text).map_err(|_| SCHEME)?;
        let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return Err(SCHEME);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(SCHEME)?;
        if authority.contains('@') {
            return Err("leave the user before the @ out");
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colon is one of the address's own.
            Some(_) if authority.ends_with(']') => (authority, None),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if !is_host(host) {
            return Err(HOST);
        }
        let port = match port {
            None if secure => 443,
            None => 80,
            Some(digits) => port_number(digits).ok_or("a port is a number from 1 to 65535")?,
        };
        Ok(Self { origin: Origin { secure, host, port }, rest })
    }
}

/// Whether this is a name, an IPv4 address, or an IPv6 address in brackets, as browsers write them.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    // Browsers treat a host whose last part is a number as an IPv4 address, and write it in one way: 127.0.0.1, not
    // 127.1.
    let last = host.rsplit('.').next().unwrap_or_default();
    let number =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    host.len() <= 253 && host.split('.').all(label) && (!number || host.parse::<Ipv4Addr>().is_ok())
}

fn port_number(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

impl FromStr for ReferrerRule {
    type Err = RestrictionError;

    fn from_str(text: &str) -> Result<Self, RestrictionError> {
        Self::parse(text).map_err(|reason| RestrictionError::new(text, reason))
    }
}

impl fmt::Display for ReferrerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.secure { ("https", 443) } else { ("http", 80) };
        let star = if self.below { "*." } else { "" };
        write!(f, "{scheme}://{star}{}", self.host)?;
        if self.port != default {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests;
