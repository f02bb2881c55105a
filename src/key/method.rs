//! How the text of a key becomes the digest that a store finds it by.

use std::fmt;
use std::str::FromStr;

/// How the text of a key became the digest under which a store holds it.
///
/// A store keeps its text, and parses it strictly: a method that is not known has no meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DigestMethod {
    /// SHA-256 over the whole text: right for secrets of 196 bits.
    #[default]
    Sha256,
    /// SHA-256 over the SHA-512 of the text, for keys from elsewhere whose SHA-512 is all that is known.
    Sha512,
}

impl DigestMethod {
    /// The method without what is particular to one key: what keys are counted by.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for DigestMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// A text is no digest method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is no digest method")]
pub struct DigestMethodError;

impl FromStr for DigestMethod {
    type Err = DigestMethodError;

    fn from_str(text: &str) -> Result<Self, DigestMethodError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestMethodError),
        }
    }
}
