//! Whose address it is: the peer's, or the one that a trusted proxy names.
//!
//! # Format
//!
//! ```text
//! X-Forwarded-For: 192.0.2.7, 2001:db8::7, 192.0.2.7:80, [2001:db8::7]:80
//! Forwarded: for=192.0.2.7;proto=https, for="[2001:db8::7]:80"          (RFC 7239)
//! X-Forwarded-Proto: https
//! ```
//!
//! Every proxy appends to these, and a client can send them too: only what trusted proxies wrote counts. So they are
//! read from the right, over all lines, and the first address that is not a trusted proxy's is the client's. What
//! stands to the left of it is the client's own text, and is not looked at.
//!
//! An entry on that way that is no address (`unknown`, `_hidden`, nothing at all), more than 64 of them, or a header
//! that a trusted proxy did not send make the client unknown: a key with an IP restriction is refused then. The
//! proxy's own address never stands in for the client's.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::body_budget::Sender;
use crate::config_error::ConfigError;
use crate::credentials::Head;
use crate::restriction::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED: HeaderName = http::header::FORWARDED;

/// How many entries of a header are walked at most.
const MAX_ENTRIES: usize = 64;

/// Finds a client's address.
///
/// By default it is the peer's: of the [`PeerAddr`] in the request's extensions, or of axum's
/// `ConnectInfo<SocketAddr>`, which `Router::into_make_service_with_connect_info::<SocketAddr>()` puts there. Plain
/// `axum::serve` puts nothing there, and then every client is unknown.
///
/// ```
/// use tower_api_key::client_addr::{ClientAddr, ProxyHeader};
///
/// let behind = ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::XForwardedFor)?;
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// # Security
///
/// Name your proxies: where all requests come from an unnamed one, all clients are one, and neither restrictions nor shares
/// of the [room for bodies](crate::scheme::JsonBody::buffer_cap) tell them apart.
///
/// Only one header is read, the one that your proxies write: another that they pass on is the client's own text.
/// `X-Real-IP`, `CF-Connecting-IP` and their like are never read.
#[derive(Clone, Debug, Default)]
pub struct ClientAddr {
    trust: Trust,
    header: ProxyHeader,
}

#[derive(Clone, Debug, Default)]
enum Trust {
    #[default]
    Nobody,
    Proxies(Vec<Network>),
    Hops(usize),
}

/// The header that the trusted proxies write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` beside it.
    #[default]
    XForwardedFor,
    /// `Forwarded`, of RFC 7239.
    Forwarded,
}

/// The address of the peer, for servers other than axum's: put it into the request's extensions, where nobody else
/// than your server can. It comes before axum's `ConnectInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub IpAddr);

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self(address.ip())
    }
}

/// How a client reached the outermost trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl ClientAddr {
    /// The peer's address; no header is read.
    #[must_use]
    pub fn peer() -> Self {
        Self::default()
    }

    /// Behind proxies with these addresses: a peer that is one of them is believed what it writes into `header`, and
    /// any other peer is the client itself.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Network`] with the network and what to write instead.
    pub fn trusted_proxies<S: AsRef<str>>(
        networks: impl IntoIterator<Item = S>,
        header: ProxyHeader,
    ) -> Result<Self, ConfigError> {
        let parse = |text: S| {
            text.as_ref().parse().map_err(|error: crate::restriction::RestrictionError| {
                ConfigError::Network { network: error.entry().to_owned(), reason: error.reason().to_owned() }
            })
        };
        let networks: Result<_, _> = networks.into_iter().map(parse).collect();
        Ok(Self { trust: Trust::Proxies(networks?), header })
    }

    /// Behind exactly this many proxies, whatever their addresses: the client is the `hops`th entry from the right.
    ///
    /// # Security
    ///
    /// Every connection must come through all of them. A client that reaches the server past them can claim
    /// any address.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn trusted_hops(hops: usize, header: ProxyHeader) -> Result<Self, ConfigError> {
        if hops == 0 {
            return Err(ConfigError::Zero("the number of trusted proxies"));
        }
        Ok(Self { trust: Trust::Hops(hops), header })
    }

    /// The client's address; `None` if it is unknown. IPv4 addresses in IPv6 clothes are undressed.
    #[must_use]
    pub fn of(&self, head: &Head<'_>) -> Option<IpAddr> {
        let peer = peer(head);
        if self.believes(peer) { self.forwarded(head.headers).map(|hop| hop.address) } else { peer }
    }

    /// Who sends the body of a request, for the room that bodies share. It is unknown where no address is, and where the
    /// address is that of a proxy which the layer was not told of: then it stands for everybody.
    ///
    /// What looks like such a proxy is a peer of this machine or of a private network that says for whom it asks. Others
    /// write what they like, and are clients of their own.
    #[must_use]
    pub fn sender(&self, head: &Head<'_>) -> Sender {
        let speaks_for_others =
            || [X_FORWARDED_FOR, FORWARDED].iter().any(|name| head.headers.contains_key(name));
        match (self.of(head), &self.trust) {
            (None, _) => Sender::UNKNOWN,
            (Some(peer), Trust::Nobody) if is_nearby(peer) && speaks_for_others() => Sender::UNKNOWN,
            (Some(address), _) => Sender::at(address),
        }
    }

    /// How the client reached the outermost trusted proxy, as that proxy says; `None` if no trusted proxy says it. Then
    /// only the listener knows, and only if no trusted proxy is in between.
    ///
    /// With `Forwarded`, what stands beside the client's address counts. `X-Forwarded-Proto` belongs to no address:
    /// all its entries must agree, and proxies must overwrite it, not pass it on.
    #[must_use]
    pub fn forwarded_proto(&self, head: &Head<'_>) -> Option<Proto> {
        if !self.believes(peer(head)) {
            return None;
        }
        match self.header {
            ProxyHeader::Forwarded => self.forwarded(head.headers)?.proto,
            ProxyHeader::XForwardedFor => {
                let mut protos = entries(head.headers, X_FORWARDED_PROTO).map(proto_of);
                let first = protos.next()??;
                protos.take(MAX_ENTRIES).all(|proto| proto == Some(first)).then_some(first)
            }
        }
    }

    /// Whether a request came over TLS: as a trusted proxy says, or, where none is in between, as the listener says by a
    /// [`Proto`] in the request's extensions. What nobody says is no.
    #[must_use]
    pub fn is_secure(&self, head: &Head<'_>) -> bool {
        let proto = if self.is_behind_proxy(head) {
            self.forwarded_proto(head)
        } else {
            head.extensions.get::<Proto>().copied()
        };
        proto == Some(Proto::Https)
    }

    /// Whether the peer is believed what it writes into the header.
    #[must_use]
    pub fn is_behind_proxy(&self, head: &Head<'_>) -> bool {
        self.believes(peer(head))
    }

    fn believes(&self, peer: Option<IpAddr>) -> bool {
        match &self.trust {
            Trust::Nobody => false,
            Trust::Proxies(_) => peer.is_some_and(|peer| self.trusts(peer)),
            Trust::Hops(_) => true,
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        match &self.trust {
            Trust::Proxies(networks) => networks.iter().any(|network| network.contains(address)),
            Trust::Nobody | Trust::Hops(_) => false,
        }
    }

    /// The entry of the client, from the right.
    fn forwarded(&self, headers: &HeaderMap) -> Option<Hop> {
        let (name, hop_of): (_, fn(&str) -> Option<Hop>) = match self.header {
            ProxyHeader::XForwardedFor => (X_FORWARDED_FOR, |entry| node(entry, true).map(Hop::from)),
            ProxyHeader::Forwarded => (FORWARDED, element),
        };
        for (index, entry) in entries(headers, name).take(MAX_ENTRIES).enumerate() {
            let hop = hop_of(entry?)?;
            let is_client = match &self.trust {
                Trust::Hops(hops) => index.checked_add(1) == Some(*hops),
                Trust::Proxies(_) | Trust::Nobody => !self.trusts(hop.address),
            };
            if is_client {
                return Some(hop);
            }
        }
        None
    }
}

fn peer(head: &Head<'_>) -> Option<IpAddr> {
    let own = head.extensions.get::<PeerAddr>().map(|peer| peer.0);
    #[cfg(feature = "axum")]
    let own = own.or_else(|| {
        use axum::extract::ConnectInfo;
        head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
    });
    own.map(|peer| peer.to_canonical())
}

/// Whether an address is of this machine or of a private network: nobody's on the Internet.
fn is_nearby(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10 is shared by those behind one carrier, and used inside of clouds (RFC 6598).
            let shared = matches!(v4.octets(), [100, 64..128, ..]);
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// What one proxy says of the one before it.
#[derive(Clone, Copy)]
struct Hop {
    address: IpAddr,
    proto: Option<Proto>,
}

impl From<IpAddr> for Hop {
    fn from(address: IpAddr) -> Self {
        Self { address, proto: None }
    }
}

/// The entries of all lines from the right, without the spaces around them; `None` for one that is no text.
fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Option<&str>> {
    let lines = headers.get_all(name).iter().rev();
    lines.flat_map(|line| FromRight(Some(line.as_bytes()))).map(|entry| str::from_utf8(entry).ok())
}

/// Splits at commas outside of quotes, from the right: what a client wrote on the left cannot open a quote around what
/// a proxy wrote on the right.
struct FromRight<'r>(Option<&'r [u8]>);

impl<'r> Iterator for FromRight<'r> {
    type Item = &'r [u8];

    fn next(&mut self) -> Option<&'r [u8]> {
        let line = self.0.take()?;
        let mut quoted = false;
        let comma = line.iter().rposition(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        let (left, entry) = match comma.and_then(|comma| line.split_at_checked(comma)) {
            Some((left, [_, entry @ ..])) => (Some(left), entry),
            _ => (None, line),
        };
        self.0 = left;
        Some(entry.trim_ascii())
    }
}

/// One element of `Forwarded`.
fn element(entry: &str) -> Option<Hop> {
    let (mut address, mut proto) = (None, None);
    // What proxies write holds no semicolon in quotes, so that no quote must be followed here.
    for pair in entry.split(';') {
        let (name, value) = pair.trim_ascii().split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            if address.replace(node(value, false)?).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case("proto") && proto.replace(proto_of(unquoted(value))).is_some() {
            return None;
        }
    }
    Some(Hop { address: address?, proto: proto.flatten() })
}

fn proto_of(text: Option<&str>) -> Option<Proto> {
    let text = text?;
    if text.eq_ignore_ascii_case("https") {
        Some(Proto::Https)
    } else if text.eq_ignore_ascii_case("http") {
        Some(Proto::Http)
    } else {
        None
    }
}

/// An address, perhaps quoted, perhaps with a port. IPv6 stands in brackets, or `bare` where the header allows it.
fn node(text: &str, bare: bool) -> Option<IpAddr> {
    let text = unquoted(text)?;
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        (IpAddr::V6(address.parse().ok()?), port)
    } else if bare && text.bytes().filter(|byte| *byte == b':').count() > 1 {
        (IpAddr::V6(text.parse().ok()?), None)
    } else {
        match text.split_once(':') {
            Some((address, port)) => (IpAddr::V4(address.parse().ok()?), Some(port)),
            None => (IpAddr::V4(text.parse().ok()?), None),
        }
    };
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_none_or(is_port).then(|| address.to_canonical())
}

/// The text of a token, or of a quoted string that needs no quoting.
fn unquoted(text: &str) -> Option<&str> {
    let inner = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    if inner.contains(['"', '\\']) { None } else { Some(inner) }
}

#[cfg(test)]
mod tests;
