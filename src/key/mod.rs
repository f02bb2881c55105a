//! Keys: their text, their format, their ids and their digests.
//!
//! # Format
//!
//! ```text
//! sk_live_ 0123456789ABCDEFGHIJKLMNOPQRSTUVW XYZabc
//! prefix   33 characters of base62           6 characters of base62
//! and      drawn uniformly: 196 bits         CRC-32 over everything before
//! environment
//! ```

mod base62;
mod digest;
mod digests;
mod format;
mod id;
mod method;
mod pepper;
#[cfg(feature = "slow-hashes")]
mod slow;

use std::fmt;

use zeroize::Zeroizing;

pub use self::digest::KeyDigest;
pub use self::digests::Digests;
pub use self::format::{KeyFormat, MAX_KEY_LEN, RandomSourceError};
pub use self::id::{KeyId, ParseIdError, ProjectId, UserId};
pub use self::method::{DigestMethod, ParseDigestMethodError, PepperId, SlowHash};
pub use self::pepper::Pepper;
#[cfg(feature = "slow-hashes")]
#[cfg_attr(docsrs, doc(cfg(feature = "slow-hashes")))]
pub use self::slow::SlowHashes;

pub(crate) use self::digests::{Digester, of_sanctum, of_sha512};
pub(crate) use self::format::can_be_key;
pub use self::id::is_id;
#[cfg(feature = "slow-hashes")]
pub(crate) use self::slow::of_start;

/// The environment to which a key belongs (R53 to R55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Real transactions and data: `sk_live_`.
    Live,
    /// Development and testing: `sk_test_`.
    Test,
}

impl Environment {
    /// `live` or `test`, as in keys, responses and stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Parses the name that [`as_str`](Self::as_str) returns.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|environment| environment.as_str() == name)
    }
}

/// The text of a key: the secret.
///
/// It is shown once, when a key is issued, and never stored. It has no `Display` and no `PartialEq`, `Debug` does
/// not show it, its memory is overwritten on drop, and only [`expose_secret`](Self::expose_secret) returns it.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Returns the text. Show it to its owner once; do not log or store it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }

    /// Computes the digest that a store may keep.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}
