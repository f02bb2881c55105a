//! Finds the client's IP address: the TCP peer's, or the one that a trusted proxy reports.
//!
//! # Format
//!
//! ```text
//! X-Forwarded-For: 192.0.2.7, 2001:db8::7, 192.0.2.7:80, [2001:db8::7]:80
//! Forwarded: for=192.0.2.7;proto=https, for="[2001:db8::7]:80"          (RFC 7239)
//! X-Forwarded-Proto: https
//! ```
//!
//! Every proxy appends to these headers, and a client can send them too, so only what trusted proxies wrote counts. The
//! entries are read from the right, over all header lines. The first address that is not a trusted proxy's is the
//! client's. Everything to the left of it is text from the client and is not read.
//!
//! The client's address is unknown if one of the entries read is not an address (`unknown`, `_hidden`, empty), if
//! there are more than 64 of them, or if a trusted proxy did not send the header. A key with an IP restriction is
//! then refused. The proxy's own address is never used in place of the client's.

mod forwarded_syntax;
mod proto;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use http::{HeaderMap, HeaderName};

use self::forwarded_syntax::{Hop, element, entries, node, proto_of};
use crate::body_budget::Sender;
use crate::config_error::ConfigError;
use crate::credentials::Head;
use crate::restriction::Network;

pub use self::proto::Proto;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED: HeaderName = http::header::FORWARDED;

/// The largest number of header entries that are read.
const MAX_ENTRIES: usize = 64;

/// Finds a client's IP address.
///
/// By default this is the address of the TCP peer, from the [`PeerAddr`] in the request's extensions or from axum's
/// `ConnectInfo<SocketAddr>`. `Router::into_make_service_with_connect_info::<SocketAddr>()` sets the latter. Plain
/// `axum::serve` sets neither, so every client's address is unknown.
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
/// List all of your proxies. Behind a proxy that is not listed, all clients share one address: IP restrictions and the
/// clients' shares of the [buffer for bodies](crate::scheme::JsonBody::buffer_cap) cannot tell them apart.
///
/// Only the header that your proxies write is read. Any other such header that they forward may come from the client.
/// `X-Real-IP`, `CF-Connecting-IP` and similar headers are never read.
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
#[non_exhaustive]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, together with `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The address of the TCP peer, for servers other than axum's. The server puts it into the request's extensions,
/// which a client cannot reach. It takes precedence over axum's `ConnectInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub IpAddr);

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self(address.ip())
    }
}

impl ClientAddr {
    /// Uses the peer's address and reads no header.
    #[must_use]
    pub fn peer() -> Self {
        Self::default()
    }

    /// Trusts proxies with these addresses: if the peer is one of them, `header` is read. Any other peer is the client.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Network`] with the text that is not a network and what to write instead.
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

    /// Trusts exactly this many proxies, whatever their addresses: the client is the `hops`th entry from the right.
    ///
    /// # Security
    ///
    /// Every connection must pass through all of these proxies. A client that reaches the server without them can
    /// claim any address.
    #[must_use]
    pub fn trusted_hops(hops: NonZeroUsize, header: ProxyHeader) -> Self {
        Self { trust: Trust::Hops(hops.get()), header }
    }

    /// Returns the client's address, or `None` if it is unknown. IPv4-mapped IPv6 addresses become IPv4 addresses.
    #[must_use]
    pub fn of(&self, head: &Head<'_>) -> Option<IpAddr> {
        let peer = peer(head);
        if self.believes(peer) { self.forwarded(head.headers).map(|hop| hop.address) } else { peer }
    }

    /// Returns the client to whom the body of this request is charged, for the clients' shares of the buffer for
    /// bodies. It is unknown if there is no address, or if the address seems to be that of an unlisted proxy, which
    /// stands for many clients.
    ///
    /// A peer on this machine or in a private network that sends a forwarding header counts as such a proxy. For other
    /// peers the header proves nothing, so each is a client of its own.
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

    /// Returns how the client reached the outermost trusted proxy, as that proxy reports it, or `None` if no
    /// trusted proxy reports it. In that case only the listener knows, and only if no trusted proxy is in between.
    ///
    /// With `Forwarded`, the `proto` beside the client's address counts. `X-Forwarded-Proto` is not tied to an
    /// address, so all its entries must agree, and proxies must overwrite it instead of passing it on.
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

    /// Whether the request came over TLS. A trusted proxy reports it; without one, the listener does so by a
    /// [`Proto`] in the request's extensions. If neither says so, the request counts as plain HTTP.
    #[must_use]
    pub fn is_secure(&self, head: &Head<'_>) -> bool {
        let proto = if self.is_behind_proxy(head) {
            self.forwarded_proto(head)
        } else {
            head.extensions.get::<Proto>().copied()
        };
        proto == Some(Proto::Https)
    }

    /// Whether the peer is a trusted proxy, so that the header is read.
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

    /// Returns the client's entry, counted from the right.
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

/// Whether an address belongs to this machine or a private network, and so to no client on the Internet.
fn is_nearby(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10 is for carrier-grade NAT, and also used inside clouds (RFC 6598).
            let shared = matches!(v4.octets(), [100, 64..128, ..]);
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
