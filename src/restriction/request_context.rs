//! [`RequestContext`]: the facts about a request that restrictions check.

use std::net::IpAddr;

use http::header::{HeaderName, ORIGIN, REFERER};
use http::{HeaderMap, Method};

use super::RestrictionKind;
use crate::credentials::Head;
use crate::endpoint::Target;

/// The facts about a request that [`Restrictions`](super::Restrictions) check.
///
/// An unknown fact is not allowed by a restriction of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestContext<'r> {
    pub(super) address: Option<IpAddr>,
    pub(super) referer: HeaderLine<'r>,
    pub(super) origin: HeaderLine<'r>,
    pub(super) endpoint: Option<(&'r Method, Target<'r>)>,
    pub(super) scheme: Option<&'r str>,
}

/// The value of a header that must occur at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HeaderLine<'r> {
    #[default]
    Absent,
    Once(&'r [u8]),
    Repeated,
}

impl<'r> HeaderLine<'r> {
    fn of(headers: &'r HeaderMap, name: HeaderName) -> Self {
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Absent,
            (Some(line), None) => Self::Once(line.as_bytes()),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

impl HeaderLine<'_> {
    fn describe(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Once(line) => Some(String::from_utf8_lossy(line).escape_debug().to_string()),
            Self::Repeated => Some("said more than once".into()),
        }
    }
}

impl<'r> RequestContext<'r> {
    /// Creates a context in which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `Referer`, `Origin` and the endpoint from the head of a request. The client's address and the scheme
    /// remain unknown.
    #[must_use]
    pub fn of(head: &Head<'r>) -> Self {
        Self {
            address: None,
            referer: HeaderLine::of(head.headers, REFERER),
            origin: HeaderLine::of(head.headers, ORIGIN),
            endpoint: Some((head.method, Target::of(head))),
            scheme: None,
        }
    }

    /// Forgets the endpoint unless a router has matched it or `may` allows comparing paths.
    pub(crate) fn by_path(mut self, may: bool) -> Self {
        self.endpoint = self.endpoint.filter(|(_, target)| may || matches!(target, Target::Route(_)));
        self
    }

    /// Sets the endpoint of a described request.
    pub(crate) fn at(mut self, method: &'r Method, target: Target<'r>) -> Self {
        self.endpoint = Some((method, target));
        self
    }

    /// Describes the fact that a restriction of this kind checks, for the people who manage a key.
    pub(crate) fn describe(&self, kind: RestrictionKind) -> String {
        match kind {
            RestrictionKind::Ip => {
                self.address.map_or_else(|| "unknown".into(), |ip| ip.to_canonical().to_string())
            }
            RestrictionKind::Referrer => match (self.referer.describe(), self.origin.describe()) {
                (None, None) => "unknown".into(),
                (Some(referer), None) => referer,
                (None, Some(origin)) => format!("unknown, with the Origin {origin}"),
                (Some(referer), Some(origin)) => format!("{referer}, with the Origin {origin}"),
            },
            RestrictionKind::Endpoint => match self.endpoint {
                Some((method, Target::Route(route) | Target::Path(route))) => format!("{method} {route}"),
                Some((method, Target::Unknown)) => format!("{method} of an unknown route"),
                None => "unknown".into(),
            },
            RestrictionKind::Scheme => self.scheme.unwrap_or("unknown").to_owned(),
        }
    }

    /// Sets the client's address, as [`ClientAddr`](crate::client_addr::ClientAddr) finds it.
    #[must_use]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.address
    }

    /// Sets the `Referer`.
    #[must_use]
    pub fn referrer(mut self, referrer: &'r str) -> Self {
        self.referer = HeaderLine::Once(referrer.as_bytes());
        self
    }

    /// Sets the `Origin`.
    #[must_use]
    pub fn origin(mut self, origin: &'r str) -> Self {
        self.origin = HeaderLine::Once(origin.as_bytes());
        self
    }

    /// Sets the method, and a path that no router has matched. The path counts only in plain form; see
    /// [`Endpoints`](crate::Endpoints).
    #[must_use]
    pub fn endpoint(mut self, method: &'r Method, path: &'r str) -> Self {
        self.endpoint = Some((method, Target::path(path)));
        self
    }

    /// Sets the name of the scheme through which the key was sent. Credentials that a scheme has read carry their
    /// own scheme name, which takes precedence.
    #[must_use]
    pub fn scheme(mut self, name: &'r str) -> Self {
        self.scheme = Some(name);
        self
    }
}
