//! [`KeyDigest`]: the hash under which a store keeps a key.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// The SHA-256 of a key's whole text, including the environment. Stores keep it and look keys up by it.
///
/// A fast hash is sufficient for secrets of 196 bits. There is no `==`: use [`matches`](Self::matches), which
/// compares in constant time. `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Computes the digest of a key's text.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Creates a digest from the 32 bytes that a store holds.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes, for a store's index.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    #[inline]
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        // By 64-bit words: each comparison is hidden from the optimizer, and four cost less than thirty-two.
        let (same, pairs) = (Choice::from(1), self.words().zip(other.words()));
        pairs.fold(same, |same, (one, other)| same & one.ct_eq(&other)).into()
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        self.0.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_makes_another_digest() {
        let digest = KeyDigest::of("sk_live_");
        assert!(digest.matches(&KeyDigest::of("sk_live_")));
        for bit in 0..256 {
            let mut bytes = *digest.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!digest.matches(&KeyDigest::from_bytes(bytes)), "bit {bit}");
        }
    }
}
