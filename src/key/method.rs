//! [`DigestMethod`]: how the digest that a store holds was computed from the key's text.

use std::fmt;
use std::str::FromStr;

/// The longest text of a method in bytes; stores accept no longer one.
const MAX_LEN: usize = 512;
const HMAC: &str = "hmac:";
const SLOW: &str = "slow";

/// How the digest that a store holds was computed from the key's text.
///
/// A store keeps its text and parses it strictly: an unknown method is an error. `Display` writes that text. For
/// [`Slow`](Self::Slow) it contains a hash and must not be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DigestMethod {
    /// SHA-256 of the whole text: sufficient for secrets of 196 bits.
    #[default]
    Sha256,
    /// SHA-256 of the SHA-512 of the text, for imported keys of which only the SHA-512 is known.
    Sha512,
    /// SHA-256 of both parts of `id|secret`, for imported keys of which only the SHA-256 of the secret is known.
    Sanctum,
    /// HMAC-SHA-256 of the text, with the [pepper](crate::Pepper) of this id.
    Hmac(PepperId),
    /// SHA-256 of the public start of the text. The text itself is checked against a slow hash.
    Slow(SlowHash),
}

impl DigestMethod {
    /// The method without the part that is specific to one key. Keys are counted by kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sanctum => "sanctum",
            Self::Hmac(pepper) => &pepper.0,
            Self::Slow(_) => SLOW,
        }
    }
}

impl fmt::Display for DigestMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Slow(hash) => write!(f, "${}", hash.0),
            _ => Ok(()),
        }
    }
}

/// The error for a text that is not a digest method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a known digest method")]
pub struct ParseDigestMethodError;

impl FromStr for DigestMethod {
    type Err = ParseDigestMethodError;

    fn from_str(text: &str) -> Result<Self, ParseDigestMethodError> {
        match text.split_once('$') {
            None => match text {
                "sha256" => Ok(Self::Sha256),
                "sha512" => Ok(Self::Sha512),
                "sanctum" => Ok(Self::Sanctum),
                _ => {
                    let id = text.strip_prefix(HMAC).ok_or(ParseDigestMethodError)?;
                    PepperId::new(id).map(Self::Hmac).ok_or(ParseDigestMethodError)
                }
            },
            Some((SLOW, hash)) => SlowHash::new(hash).map(Self::Slow).ok_or(ParseDigestMethodError),
            Some(_) => Err(ParseDigestMethodError),
        }
    }
}

/// The id of a [pepper](crate::Pepper), which is not secret: 1 to 32 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PepperId(Box<str>);

impl PepperId {
    const MAX_LEN: usize = 32;

    pub(super) fn new(id: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let sound = (1..=Self::MAX_LEN).contains(&id.len()) && id.bytes().all(plain);
        sound.then(|| Self([HMAC, id].concat().into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.strip_prefix(HMAC).unwrap_or_default()
    }
}

impl fmt::Debug for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A slow password hash, as another service wrote it. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlowHash(Box<str>);

impl SlowHash {
    /// Checks only whether a store can keep the text. The hash is parsed when a key is checked against it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let fits = (1..MAX_LEN - SLOW.len()).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.into()))
    }

    #[cfg(feature = "slow-hashes")]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SlowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_back_as_they_are_written() {
        let longest = format!("slow${}", "x".repeat(507));
        for text in ["sha256", "sha512", "sanctum", "hmac:2027-a.b_c", "slow$$2b$04$abc", &longest] {
            let method: DigestMethod = text.parse().unwrap();
            assert_eq!(method.to_string(), text);
            assert_eq!(method.kind(), text.split('$').next().unwrap());
        }
        assert_eq!(format!("{:?}", longest.parse::<DigestMethod>().unwrap()), "Slow(SlowHash(..))");
    }

    #[test]
    fn what_is_no_method_is_none() {
        let (id, hash) = (format!("hmac:{}", "x".repeat(33)), format!("slow${}", "x".repeat(508)));
        for text in [
            "",
            "SHA256",
            "sha256$",
            "sha256$x",
            "sha1",
            "hmac",
            "hmac:",
            "hmac:a b",
            "hmac:a$b",
            "slow",
            "slow$",
            "slow$a b",
            "slow$\u{e4}",
            "$slow",
            &id,
            &hash,
        ] {
            assert_eq!(text.parse::<DigestMethod>(), Err(ParseDigestMethodError), "{text}");
        }
    }
}
