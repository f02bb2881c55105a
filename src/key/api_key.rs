//! [`ApiKey`]: the secret text of a key.

use std::fmt;

use zeroize::Zeroizing;

use super::digest::KeyDigest;

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
