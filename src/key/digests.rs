//! Which digests keys are looked up by.

use std::sync::Arc;

use sha2::{Digest as _, Sha256, Sha512};

use super::KeyDigest;
use super::method::DigestMethod;
use super::pepper::Pepper;
#[cfg(feature = "slow-hashes")]
use super::slow::SlowHashes;
use crate::config_error::ConfigError;

/// The ways in which the text of a key may have become the digest that a store holds: the first issues, all verify.
///
/// The default is SHA-256 alone, which is all that keys of 196 bits need. More are for [peppers](Pepper), and for keys that
/// were [imported](crate::importing). Give the [`Verifier`](crate::Verifier::digests) and the
/// [`Keyring`](crate::Keyring::digests) the same ring.
///
/// ```
/// use tower_api_key::{Digests, MemoryStore, Pepper, Verifier};
/// # fn secret(name: &str) -> Vec<u8> { vec![7; 32] }
///
/// let ring = Digests::peppered(Pepper::new("2027", secret("2027"))?)? // issues
///     .accept_pepper(Pepper::new("2026", secret("2026"))?)? // keys from last year
///     .accept_sha256(); // keys from before there were peppers
/// let store = MemoryStore::new();
/// let verifier = ApiKeys::new(store.clone()).digests(ring).verifier().renew_digests(store);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// A store is asked for one digest after the other, the newest first: an unknown key costs one look-up for each way, and one
/// more.
///
/// # Security
///
/// As long as a ring [accepts SHA-256](Self::accept_sha256), whoever can write to the store can put a key of their own into it,
/// pepper or not. Take it out when [`Keyring::count_by_digest`](crate::Keyring::count_by_digest) counts no such key any more.
#[derive(Clone, Debug)]
pub struct Digests {
    newest: Digester,
    older: Option<Arc<Older>>,
}

/// All but the first.
#[derive(Clone, Debug, Default)]
struct Older {
    /// Newest first.
    digesters: Vec<Digester>,
    #[cfg(feature = "slow-hashes")]
    slow: Option<SlowHashes>,
}

/// One way from a text to a digest.
#[derive(Clone, Debug)]
pub(crate) enum Digester {
    Sha256,
    Sha512,
    Sanctum,
    Hmac(Arc<Pepper>),
}

impl Default for Digests {
    fn default() -> Self {
        Self { newest: Digester::Sha256, older: None }
    }
}

impl Digests {
    /// SHA-256 alone: the default.
    #[must_use]
    pub fn sha256() -> Self {
        Self::default()
    }

    /// A pepper that issues. By itself it closes the door for everything that was digested in another way.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pepper`] for a secret [from elsewhere](Pepper::from_elsewhere).
    pub fn peppered(pepper: Pepper) -> Result<Self, ConfigError> {
        if !pepper.may_issue() {
            return Err(ConfigError::Pepper("it is for keys from elsewhere, and issues none"));
        }
        Ok(Self { newest: Digester::Hmac(Arc::new(pepper)), older: None })
    }

    /// Also finds keys under another pepper. Add the newest first.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pepper`] if there is one of that id already.
    pub fn accept_pepper(self, pepper: Pepper) -> Result<Self, ConfigError> {
        let digester = Digester::Hmac(Arc::new(pepper));
        if self.knows(digester.method().kind()) {
            return Err(ConfigError::Pepper("there are two of one id"));
        }
        Ok(self.accept(digester))
    }

    /// Also finds keys under the SHA-256 of their text, as all are that were issued without a pepper.
    #[must_use]
    pub fn accept_sha256(self) -> Self {
        self.accept(Digester::Sha256)
    }

    /// Also finds keys that were imported with their SHA-512.
    #[must_use]
    pub fn accept_sha512(self) -> Self {
        self.accept(Digester::Sha512)
    }

    /// Also finds keys of the shape `id|secret` that were imported with the SHA-256 of their secret (Laravel Sanctum).
    #[must_use]
    pub fn accept_sanctum(self) -> Self {
        self.accept(Digester::Sanctum)
    }

    /// Also finds keys that were imported with a slow hash, by their public start.
    #[cfg(feature = "slow-hashes")]
    #[cfg_attr(docsrs, doc(cfg(feature = "slow-hashes")))]
    #[must_use]
    pub fn accept_slow(mut self, slow: SlowHashes) -> Self {
        Arc::make_mut(self.older.get_or_insert_default()).slow = Some(slow);
        self
    }

    fn accept(mut self, digester: Digester) -> Self {
        if !self.knows(digester.method().kind()) {
            Arc::make_mut(self.older.get_or_insert_default()).digesters.push(digester);
        }
        self
    }

    /// Whether keys of a method's [kind](DigestMethod::kind) are found.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        let older = self.older.iter().flat_map(|older| &older.digesters);
        std::iter::once(&self.newest).chain(older).any(|digester| digester.method().kind() == kind)
            || self.knows_slow(kind)
    }

    #[cfg(feature = "slow-hashes")]
    fn knows_slow(&self, kind: &str) -> bool {
        kind == "slow" && self.slow().is_some()
    }

    #[cfg(not(feature = "slow-hashes"))]
    fn knows_slow(&self, _: &str) -> bool {
        false
    }

    /// The one that issues.
    pub(crate) fn newest(&self) -> &Digester {
        &self.newest
    }

    /// Whether there is no other.
    pub(crate) fn is_single(&self) -> bool {
        self.older.is_none()
    }

    /// All but the newest, oldest first: keys only ever move to the newest, so that whoever asks in this order, and for the
    /// newest at the end, meets a key that moves meanwhile.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = &Digester> {
        self.older.iter().flat_map(|older| older.digesters.iter().rev())
    }

    #[cfg(feature = "slow-hashes")]
    pub(crate) fn slow(&self) -> Option<&SlowHashes> {
        self.older.as_ref()?.slow.as_ref()
    }
}

impl Digester {
    #[inline]
    pub(crate) fn digest(&self, text: &str) -> KeyDigest {
        match self {
            Self::Sha256 => KeyDigest::of(text),
            Self::Sha512 => of_sha512(&Sha512::digest(text).into()),
            Self::Sanctum => {
                // No key has an empty id.
                let (id, secret) = text.split_once('|').unwrap_or(("", text));
                of_sanctum(id, &Sha256::digest(secret).into())
            }
            Self::Hmac(pepper) => pepper.digest(text),
        }
    }

    /// What stands beside the digest in a store.
    pub(crate) fn method(&self) -> DigestMethod {
        match self {
            Self::Sha256 => DigestMethod::Sha256,
            Self::Sha512 => DigestMethod::Sha512,
            Self::Sanctum => DigestMethod::Sanctum,
            Self::Hmac(pepper) => pepper.method(),
        }
    }

    /// Whether this is how a key was digested.
    #[inline]
    pub(crate) fn made(&self, method: &DigestMethod) -> bool {
        match (self, method) {
            (Self::Sha256, DigestMethod::Sha256)
            | (Self::Sha512, DigestMethod::Sha512)
            | (Self::Sanctum, DigestMethod::Sanctum) => true,
            (Self::Hmac(pepper), DigestMethod::Hmac(id)) => pepper.id() == id.as_str(),
            _ => false,
        }
    }
}

/// What a store finds a key by whose SHA-512 is known.
pub(crate) fn of_sha512(hash: &[u8; 64]) -> KeyDigest {
    KeyDigest::from_bytes(Sha256::digest(hash).into())
}

/// What a store finds `id|secret` by, if it knows the SHA-256 of the secret.
pub(crate) fn of_sanctum(id: &str, hash: &[u8; 32]) -> KeyDigest {
    let tagged =
        Sha256::new().chain_update("sanctum\0").chain_update(id).chain_update("|").chain_update(hash);
    KeyDigest::from_bytes(tagged.finalize().into())
}
