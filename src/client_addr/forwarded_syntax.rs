//! Parses what proxies report: `Forwarded` (RFC 7239), `X-Forwarded-For` and `X-Forwarded-Proto`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

use super::proto::Proto;

/// What one proxy reports about the hop before it.
#[derive(Clone, Copy)]
pub(super) struct Hop {
    pub(super) address: IpAddr,
    pub(super) proto: Option<Proto>,
}

impl From<IpAddr> for Hop {
    fn from(address: IpAddr) -> Self {
        Self { address, proto: None }
    }
}

/// The trimmed entries of all header lines, from the right. An entry that is not visible ASCII is `None`.
pub(super) fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Option<&str>> {
    let lines = headers.get_all(name).iter().rev();
    lines.flat_map(|line| FromRight(Some(line.as_bytes()))).map(|entry| str::from_utf8(entry).ok())
}

/// Splits at commas outside of quotes, from the right, so that a quote opened by the client on the left cannot swallow
/// what a proxy wrote on the right.
pub(super) struct FromRight<'r>(Option<&'r [u8]>);

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

/// Parses one element of `Forwarded`.
pub(super) fn element(entry: &str) -> Option<Hop> {
    let (mut address, mut proto) = (None, None);
    // Proxies write no semicolon inside quotes, so quotes need no handling here.
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

pub(super) fn proto_of(text: Option<&str>) -> Option<Proto> {
    let text = text?;
    if text.eq_ignore_ascii_case("https") {
        Some(Proto::Https)
    } else if text.eq_ignore_ascii_case("http") {
        Some(Proto::Http)
    } else {
        None
    }
}

/// Parses an address that may be quoted and may have a port. IPv6 is in brackets, or `bare` where the header allows it.
pub(super) fn node(text: &str, bare: bool) -> Option<IpAddr> {
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

/// Returns the text of a token, or of a quoted string without escapes.
pub(super) fn unquoted(text: &str) -> Option<&str> {
    let inner = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    if inner.contains(['"', '\\']) { None } else { Some(inner) }
}
