//! IP restrictions: from which addresses a key may be used.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::list::SEVERAL;
use super::{AllowList, RequestContext, RestrictionError};

/// From which addresses a key may be used.
///
/// An unknown address is refused. [`ClientAddr`](crate::client_addr::ClientAddr) decides which address counts.
///
/// # Format
///
/// ```text
/// 192.0.2.0/24        a network
/// 2001:db8::/32
/// 192.0.2.7           one address: /32, or /128
/// ```
///
/// Four decimal numbers without leading zeros, or the text form of RFC 4291 without a zone; then a prefix length in
/// decimal. Bits beyond the prefix must be zero: `192.0.2.7/24` could mean the network or the address, so it is
/// refused.
///
/// IPv4-mapped IPv6 addresses (`::ffff:192.0.2.7`, as dual-stack listeners see them) count as IPv4 addresses, in
/// rules and in requests, so `::/0` contains every IPv6 address and no IPv4 address. Other embeddings (NAT64, 6to4)
/// stay IPv6.
pub type IpRestriction = AllowList<Network>;

impl AllowList<Network> {
    pub(super) fn allows(&self, facts: &RequestContext<'_>) -> bool {
        facts.address.is_some_and(|address| self.rules.iter().any(|network| network.contains(address)))
    }
}

/// A network, or a single address: see [the format](IpRestriction#format).
///
/// ```
/// use tower_api_key::restriction::Network;
///
/// let network: Network = "192.0.2.0/24".parse()?;
/// assert!(network.contains("::ffff:192.0.2.7".parse().unwrap()));
/// assert_eq!("192.0.2.7".parse::<Network>()?.to_string(), "192.0.2.7/32");
/// assert!("010.0.0.0/8".parse::<Network>().is_err());
/// # Ok::<(), tower_api_key::restriction::RestrictionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Canonical: never an IPv4-mapped IPv6 address.
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the network contains the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()) & mask32(self.prefix) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()) & mask128(self.prefix) == 0
            }
            _ => false,
        }
    }

    /// Parses a network, or returns what is wrong with the text.
    fn parse(text: &str) -> Result<Self, String> {
        const ADDRESS: &str =
            "an address is written 192.0.2.7 or 2001:db8::7, without leading zeros or a zone";
        if text.contains(',') {
            return Err(SEVERAL.into());
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| ADDRESS.to_owned())?;
        let longest = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) => prefix_length(digits).filter(|prefix| *prefix <= longest).ok_or_else(|| {
                format!("after the / stands a number from 0 to {longest}, such as {longest}")
            })?,
        };
        let base = written.to_canonical();
        let mapped = written.is_ipv6() && base.is_ipv4();
        let (base, prefix) = match (mapped, prefix.checked_sub(96)) {
            (false, _) => (base, prefix),
            (true, Some(prefix)) => (base, prefix),
            // The prefix covers only part of the IPv4-mapped range, so bits beyond the prefix are set.
            (true, None) => (written, prefix),
        };
        let network = Self { base: network_of(base, prefix), prefix };
        if network.base != base {
            return Err(format!(
                "it has bits beyond the prefix: write {network} for the network, or {base} for one address"
            ));
        }
        Ok(network)
    }
}

/// Parses a decimal number without a sign or a leading zero.
fn prefix_length(digits: &str) -> Option<u8> {
    let plain =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

fn network_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & mask32(prefix)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & mask128(prefix)).into()),
    }
}

fn mask32(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

fn mask128(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

impl FromStr for Network {
    type Err = RestrictionError;

    fn from_str(text: &str) -> Result<Self, RestrictionError> {
        Self::parse(text).map_err(|reason| RestrictionError::new(text, reason))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn contains(text: &str, address: &str) -> bool {
        network(text).contains(address.parse().unwrap())
    }

    fn reason(text: &str) -> String {
        text.parse::<Network>().unwrap_err().reason().to_owned()
    }

    #[test]
    fn c5_01_networks_and_single_addresses() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.7", "198.51.100.1"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("2001:db8::7", "2001:db8::7", "2001:db8::8"),
            ("2001:db8::/127", "2001:db8::1", "2001:db8::2"),
        ] {
            assert!(contains(network, inside), "{inside} in {network}");
            assert!(!contains(network, outside), "{outside} in {network}");
        }
    }

    #[test]
    fn c5_08_mapped_addresses_are_ipv4_on_both_sides() {
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.7"));
        assert!(contains("::ffff:192.0.2.0/120", "192.0.2.7"));
        assert!(contains("::ffff:192.0.2.0/120", "::ffff:192.0.2.7"));
        assert_eq!(network("::ffff:192.0.2.0/120").to_string(), "192.0.2.0/24");
        assert_eq!(network("::ffff:0:0/96").to_string(), "0.0.0.0/0");
        for address in ["192.0.2.7", "::ffff:192.0.2.7"] {
            assert!(!contains("::/0", address), "{address}");
            assert!(!contains("::/80", address), "{address}");
        }
        assert!(contains("::/0", "2001:db8::1"));
        assert!(reason("::ffff:0:0/95").contains("beyond the prefix"));
        assert!(reason("::ffff:192.0.2.7/120").contains("write 192.0.2.0/24 for the network"));
    }

    #[test]
    fn c5_09_other_embeddings_are_not_ipv4() {
        for address in ["64:ff9b::192.0.2.7", "2002:c000:0207::", "::192.0.2.7"] {
            assert!(!contains("192.0.2.0/24", address), "{address}");
            assert!(!contains("0.0.0.0/0", address), "{address}");
        }
    }

    #[test]
    fn c5_10_bad_syntax_is_refused_with_the_fix() {
        for text in [
            "1.2.3.0/33",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/ 8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "10.0.0.0/00",
            "10.0.0.0/-1",
            "1.2.3/24",
            "1.2.3.4.5",
            "0x0a.0.0.0/8",
            "10/8",
            "2001:db8::/129",
            "2001:db8::1%eth0",
            "[2001:db8::1]",
            "1.2.3.4:80",
            "",
            "/",
            "/8",
            "*",
            "10.0.0.*",
            "localhost",
            "10.0.0.1-10.0.0.9",
            "10.0.0.0/255.0.0.0",
            "１0.0.0.0/8",
            "2001:db8::/３2",
            "10.0.0.0\\8",
            "1.2.3.4\0",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
        assert_eq!(
            reason("192.0.2.7/24"),
            "it has bits beyond the prefix: write 192.0.2.0/24 for the network, or 192.0.2.7 for one address"
        );
        assert!(reason("2001:db8::1/64").contains("write 2001:db8::/64"));
        assert!(reason("1.2.3.0/33").contains("0 to 32"));
    }

    #[test]
    fn c5_11_an_empty_list_is_nobody_and_unknown_is_refused() {
        let facts = RequestContext::new().address([192, 0, 2, 7]);
        assert!(!IpRestriction::allow([""; 0]).unwrap().allows(&facts));
        let all = IpRestriction::allow(["0.0.0.0/0", "::/0"]).unwrap();
        assert!(all.allows(&facts));
        assert!(!all.allows(&RequestContext::new()));
    }

    #[test]
    fn every_prefix_agrees_with_counting_bits() {
        let address = u32::from_be_bytes([203, 0, 113, 77]);
        for prefix in 0..=32_u8 {
            let base = IpAddr::V4((address & mask32(prefix)).into());
            let network = network(&format!("{base}/{prefix}"));
            for flipped in 0..32 {
                let other = IpAddr::V4((address ^ (1 << flipped)).into());
                assert_eq!(network.contains(other), flipped < 32 - u32::from(prefix), "{network} {other}");
            }
        }
        for prefix in 0..=128_u8 {
            assert_eq!(mask128(prefix).leading_ones(), u32::from(prefix));
            assert_eq!(mask128(prefix).count_ones(), u32::from(prefix));
        }
    }
}
