//! [`Pepper`]: a secret outside the store, without which a stolen store cannot be searched and a key cannot be forged.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::KeyDigest;
use super::method::{DigestMethod, PepperId};
use crate::config_error::ConfigError;

/// The shortest pepper in bytes: the output length of HMAC-SHA-256 (RFC 2104 section 3).
const MIN_LEN: usize = 32;

/// A secret that is mixed into the digests of keys and kept outside the store, so that somebody who can write to
/// the store cannot add a key of their own (C7-06).
///
/// Digests are HMAC-SHA-256. The store records the pepper's id beside each digest, so that several peppers can be
/// in use. Never change the secret of an id.
///
/// ```
/// use tower_api_key::Pepper;
/// # fn secret_from_your_vault() -> Vec<u8> { vec![7; 32] }
///
/// let pepper = Pepper::new("2027", secret_from_your_vault())?;
/// assert_eq!(format!("{pepper:?}"), r#"Pepper { id: "2027", secret: *** }"#);
/// assert!(Pepper::new("2027", "too short").is_err());
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// # Deployment caveat
///
/// Keep a pepper as long as keys need it ([`Keyring::missing_digests`](crate::Keyring::missing_digests)): if you
/// lose it, all keys under it stop working. This type overwrites its own copy on drop, but not the value that you
/// pass in.
#[derive(Clone)]
pub struct Pepper {
    id: PepperId,
    /// An HMAC that already contains the secret, so that the secret itself need not be kept.
    keyed: Hmac<Sha256>,
    may_issue: bool,
}

impl Pepper {
    /// Creates a pepper of at least 32 bytes, which must be random: `openssl rand 32`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pepper`] if it is shorter, or the id is not 1 to 32 of `A-Z a-z 0-9 . _ -`.
    pub fn new(id: &str, secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        if secret.as_ref().len() < MIN_LEN {
            return Err(ConfigError::Pepper("it has fewer than 32 bytes: make one with `openssl rand 32`"));
        }
        Self::of_any_length(id, secret.as_ref(), true)
    }

    /// Creates a pepper from the secret with which another service made HMAC-SHA-256 digests of imported keys. It
    /// may be shorter, and cannot issue keys.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pepper`] if it is empty, or the id is not 1 to 32 of `A-Z a-z 0-9 . _ -`.
    pub fn from_elsewhere(id: &str, secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        if secret.as_ref().is_empty() {
            return Err(ConfigError::Pepper("it is empty"));
        }
        Self::of_any_length(id, secret.as_ref(), false)
    }

    fn of_any_length(id: &str, secret: &[u8], may_issue: bool) -> Result<Self, ConfigError> {
        let id =
            PepperId::new(id).ok_or(ConfigError::Pepper("its id is not 1 to 32 of A-Z a-z 0-9 . _ -"))?;
        let keyed = Hmac::new_from_slice(secret);
        // HMAC accepts secrets of any length, so this cannot fail.
        Ok(Self { id, keyed: keyed.map_err(|_| ConfigError::Pepper("its length is not valid"))?, may_issue })
    }

    /// The id, which is not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    pub(super) fn may_issue(&self) -> bool {
        self.may_issue
    }

    pub(super) fn method(&self) -> DigestMethod {
        DigestMethod::Hmac(self.id.clone())
    }

    pub(super) fn digest(&self, text: &str) -> KeyDigest {
        let mut keyed = self.keyed.clone();
        keyed.update(text.as_bytes());
        KeyDigest::from_bytes(keyed.finalize().into_bytes().into())
    }
}

impl Drop for Pepper {
    fn drop(&mut self) {
        if let Ok(blank) = Hmac::new_from_slice(&[]) {
            self.keyed = blank;
        }
        // Prevents the compiler from removing the writes to memory that is about to be freed.
        std::hint::black_box(&self.keyed);
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("id", &self.id).field("secret", &format_args!("***")).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1, 2 and 6.
    #[test]
    fn digests_are_hmac_sha_256() {
        for (secret, text, digest) in [
            (&[0x0b; 20][..], "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            let pepper = Pepper::from_elsewhere("x", secret).unwrap();
            let expected = data_encoding::HEXLOWER.decode(digest.as_bytes()).unwrap();
            assert_eq!(pepper.digest(text).as_bytes()[..], expected);
        }
    }
}
