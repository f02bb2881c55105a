//! What is known about a request, as far as restrictions look at it.

use std::net::IpAddr;

use http::header::{HeaderName, ORIGIN, REFERER};
use http::{HeaderMap, Method};

use super::RestrictionKind;
use crate::credentials::Head;
use crate::endpoint::Target;

/// What is known about a request, as far as [`Restrictions`](super::Restrictions) look at it.
///
/// What is not known is not allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestContext<'r> {
    pub(super) address: Option<IpAddr>,
    pub(super) referer: Line<'r>,
    pub(super) origin: Line<'r>,
    pub(super) endpoint: Option<(&'r Method, Target<'r>)>,
    pub(super) scheme: Option<&'r str>,
}

/// A header that must not be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Line<'r> {
    #[default]
    Absent,
    Once(&'r [u8]),
    Repeated,
}

impl<'r> Line<'r> {
    fn of(headers: &'r HeaderMap, name: HeaderName) -> Self {
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Absent,
            (Some(line), None) => Self::Once(line.as_bytes()),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

impl Line<'_> {
    fn seen(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Once(line) => Some(String::from_utf8_lossy(line).escape_debug().to_string()),
            Self::Repeated => Some("said more than once".into()),
        }
    }
}

impl<'r> RequestContext<'r> {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the head of a request says: `Referer`, `Origin`, and the endpoint, but neither the client's address nor the
    /// scheme.
    #[must_use]
    pub fn of(head: &Head<'r>) -> Self {
        Self {
            address: None,
            referer: Line::of(head.headers, REFERER),
            origin: Line::of(head.headers, ORIGIN),
            endpoint: Some((head.method, Target::of(head))),
            scheme: None,
        }
    }

    /// Without the endpoint, unless a router has matched it or paths `may` be compared.
    pub(crate) fn by_path(mut self, may: bool) -> Self {
        self.endpoint = self.endpoint.filter(|(_, target)| may || matches!(target, Target::Route(_)));
        self
    }

    /// The endpoint of a request that is described.
    pub(crate) fn at(mut self, method: &'r Method, target: Target<'r>) -> Self {
        self.endpoint = Some((method, target));
        self
    }

    /// What is known for a restriction, in words for those who manage a key.
    pub(crate) fn seen(&self, kind: RestrictionKind) -> String {
        match kind {
            RestrictionKind::Ip => {
                self.address.map_or_else(|| "unknown".into(), |ip| ip.to_canonical().to_string())
            }
            RestrictionKind::Referrer => match (self.referer.seen(), self.origin.seen()) {
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

    /// The client's address, as [`ClientAddr`](crate::client_addr::ClientAddr) finds it.
    #[must_use]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.address
    }

    /// A `Referer`.
    #[must_use]
    pub fn referrer(mut self, referrer: &'r str) -> Self {
        self.referer = Line::Once(referrer.as_bytes());
        self
    }

    /// An `Origin`.
    #[must_use]
    pub fn origin(mut self, origin: &'r str) -> Self {
        self.origin = Line::Once(origin.as_bytes());
        self
    }

    /// A method and a path that no router has looked at. It counts only in plain form; see
    /// [`Endpoints`](crate::endpoint::Endpoints).
    #[must_use]
    pub fn endpoint(mut self, method: &'r Method, path: &'r str) -> Self {
        self.endpoint = Some((method, Target::path(path)));
        self
    }

    /// The name of the scheme through which the key came. Credentials that a scheme has read know theirs, and that one
    /// counts.
    #[must_use]
    pub fn scheme(mut self, name: &'r str) -> Self {
        self.scheme = Some(name);
        self
    }
}
