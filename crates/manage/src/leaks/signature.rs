//! [`PublicKeys`]: checks that a report comes from a trusted scanner.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use data_encoding::BASE64;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde_json::Value;

/// Provides the public keys of a scanner. [`PublicKeyList`] is a fixed list; [`FetchedKeys`](super::FetchedKeys)
/// fetches and caches it; a closure `|identifier: &str| -> Option<PublicKey>` can read the application's own data.
///
/// GitHub changes its keys. An implementation that fetches them must not do so for each unknown identifier, because
/// anybody can send one.
#[async_trait]
pub trait PublicKeys: Send + Sync + 'static {
    /// Returns the current key with this identifier; `None` if it certainly does not exist.
    ///
    /// # Errors
    ///
    /// Any failure: the scanner gets 503 and repeats its report.
    async fn find(&self, identifier: &str) -> Result<Option<PublicKey>, Box<dyn Error + Send + Sync>>;
}

#[async_trait]
impl<F> PublicKeys for F
where
    F: Fn(&str) -> Option<PublicKey> + Send + Sync + 'static,
{
    async fn find(&self, identifier: &str) -> Result<Option<PublicKey>, Box<dyn Error + Send + Sync>> {
        Ok(self(identifier))
    }
}

/// The error if a text is not a public key, or not a list of public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyError(&'static str);

impl fmt::Display for PublicKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a public key: {}", self.0)
    }
}

impl Error for PublicKeyError {}

/// A public key on the curve P-256.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// [`PublicKeyError`] if it is not a public key on the curve P-256.
    pub fn from_pem(pem: &str) -> Result<Self, PublicKeyError> {
        VerifyingKey::from_public_key_pem(pem.trim())
            .map(Self)
            .map_err(|_| PublicKeyError("a key must be in PEM format and on the curve P-256"))
    }

    /// Whether the signature is valid for exactly this body.
    pub(super) fn signed(&self, body: &[u8], signature: &str) -> bool {
        let Ok(der) = BASE64.decode(signature.as_bytes()) else { return false };
        let Ok(signature) = DerSignature::from_bytes(&der) else { return false };
        self.0.verify(body, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(..)")
    }
}

/// Public keys by their identifiers, as a scanner publishes them.
#[derive(Clone, Debug, Default)]
pub struct PublicKeyList(BTreeMap<String, PublicKey>);

impl PublicKeyList {
    /// Parses `{"public_keys": [{"key_identifier": "...", "key": "-----BEGIN PUBLIC KEY-----...", "is_current":
    /// true}]}`. Keys that are not current are ignored.
    ///
    /// # Errors
    ///
    /// [`PublicKeyError`] if the text or one of its keys cannot be parsed.
    pub fn from_json(text: &str) -> Result<Self, PublicKeyError> {
        const SHAPE: &str = r#"the list is {"public_keys": [{"key_identifier", "key", "is_current"}]}"#;
        let shape = || PublicKeyError(SHAPE);
        let list: Value = serde_json::from_str(text).map_err(|_| shape())?;
        let entries = list.get("public_keys").and_then(Value::as_array).ok_or_else(shape)?;
        let mut keys = BTreeMap::new();
        for entry in entries {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).ok_or_else(shape);
            let is_current = entry.get("is_current").and_then(Value::as_bool).ok_or_else(shape)?;
            if is_current {
                keys.insert(text("key_identifier")?.to_owned(), PublicKey::from_pem(text("key")?)?);
            }
        }
        Ok(Self(keys))
    }

    /// Returns the current key with this identifier.
    #[must_use]
    pub fn get(&self, identifier: &str) -> Option<&PublicKey> {
        self.0.get(identifier)
    }
}

#[async_trait]
impl PublicKeys for PublicKeyList {
    async fn find(&self, identifier: &str) -> Result<Option<PublicKey>, Box<dyn Error + Send + Sync>> {
        Ok(self.get(identifier).cloned())
    }
}
