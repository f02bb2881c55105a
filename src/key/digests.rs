//! [`Digests`]: the digest methods by which keys are issued and looked up.

use std::sync::Arc;

use sha2::{Digest as _, Sha256, Sha512};

use super::KeyDigest;
use super::method::DigestMethod;
use super::pepper::Pepper;
#[cfg(feature = "slow-hashes")]
use super::slow::SlowHashes;
use crate::config_error::ConfigError;

/// The methods that turn the text of a key into the digest that a store holds. New keys use the first; look-ups try
/// all.
///
/// The default is SHA-256 alone, which is sufficient for keys of 196 bits. Add others for [peppers](Pepper) and for
/// [imported](crate::importing) keys. [`ApiKeys::digests`](crate::ApiKeys::digests) sets them for the layer, the
/// verifier and the keyring.
///
/// ```
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{ApiKeys, Digests, Pepper};
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
/// The store is asked for one digest after the other, and for the newest again at the end, so an unknown key costs one
/// look-up for each method, and one more.
///
/// # Security
///
/// While [SHA-256 is accepted](Self::accept_sha256), somebody who can write to the store can add a key of their
/// own, whether there is a pepper or not. Remove it when
/// [`Keyring::count_by_digest`](crate::Keyring::count_by_digest) counts no such key any more.
#[derive(Clone, Debug)]
pub struct Digests {
    newest: Digester,
    older: Option<Arc<Older>>,
}

/// The methods after the first.
#[derive(Clone, Debug, Default)]
struct Older {
    /// Newest first.
    digesters: Vec<Digester>,
    #[cfg(feature = "slow-hashes")]
    slow: Option<SlowHashes>,
}

/// One method of turning a text into a digest.
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
    /// Uses SHA-256 alone: the default.
    #[must_use]
    pub fn sha256() -> Self {
        Self::default()
    }

    /// Issues keys under this pepper. By itself it accepts no key that was digested in another way.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pepper`] for a secret made by [`Pepper::from_elsewhere`].
    pub fn peppered(pepper: Pepper) -> Result<Self, ConfigError> {
        if !pepper.may_issue() {
            return Err(ConfigError::Pepper(
                "it is from elsewhere, for imported keys, and cannot issue keys",
            ));
        }
        Ok(Self { newest: Digester::Hmac(Arc::new(pepper)), older: None })
    }

    /// Also accepts keys under another pepper. Add the newest first.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pepper`] if a pepper with this id is already there.
    pub fn accept_pepper(self, pepper: Pepper) -> Result<Self, ConfigError> {
        let digester = Digester::Hmac(Arc::new(pepper));
        if self.knows(digester.method().kind()) {
            return Err(ConfigError::Pepper("two peppers have the same id"));
        }
        Ok(self.accept(digester))
    }

    /// Also accepts keys under the SHA-256 of their text, as issued without a pepper.
    #[must_use]
    pub fn accept_sha256(self) -> Self {
        self.accept(Digester::Sha256)
    }

    /// Also accepts keys that were imported with their SHA-512.
    #[must_use]
    pub fn accept_sha512(self) -> Self {
        self.accept(Digester::Sha512)
    }

    /// Also accepts keys of the form `id|secret` that were imported with the SHA-256 of their secret (Laravel Sanctum).
    #[must_use]
    pub fn accept_sanctum(self) -> Self {
        self.accept(Digester::Sanctum)
    }

    /// Also accepts keys that were imported with a slow hash, which are looked up by their public start.
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

    /// Whether keys whose method has this [kind](DigestMethod::kind) are accepted.
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

    /// The method for new keys.
    pub(crate) fn newest(&self) -> &Digester {
        &self.newest
    }

    /// Whether there is only one method.
    pub(crate) fn is_single(&self) -> bool {
        self.older.is_none()
    }

    /// The methods after the newest, oldest first. A rehash only ever moves a key to the newest method, so a
    /// look-up in this order that ends with the newest finds a key even if it moves meanwhile.
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

    /// The method that a store records beside the digest.
    pub(crate) fn method(&self) -> DigestMethod {
        match self {
            Self::Sha256 => DigestMethod::Sha256,
            Self::Sha512 => DigestMethod::Sha512,
            Self::Sanctum => DigestMethod::Sanctum,
            Self::Hmac(pepper) => pepper.method(),
        }
    }

    /// Whether a key was digested by this method.
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

/// The digest that a store holds for a key of which only the SHA-512 is known.
pub(crate) fn of_sha512(hash: &[u8; 64]) -> KeyDigest {
    KeyDigest::from_bytes(Sha256::digest(hash).into())
}

/// The digest that a store holds for `id|secret`, of which only the SHA-256 of the secret is known.
pub(crate) fn of_sanctum(id: &str, hash: &[u8; 32]) -> KeyDigest {
    let tagged =
        Sha256::new().chain_update("sanctum\0").chain_update(id).chain_update("|").chain_update(hash);
    KeyDigest::from_bytes(tagged.finalize().into())
}
