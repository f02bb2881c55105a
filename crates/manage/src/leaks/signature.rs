//! Who may say that a key leaked.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use data_encoding::BASE64;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde_json::Value;
use tower_api_key::config_error::ConfigError;

/// Knows the public keys of a scanner. [`PublicKeyList`] is a fixed one; [`FetchedKeys`](super::FetchedKeys) has the list
/// fetched and keeps it; a closure `|identifier: &str| -> Option<PublicKey>` looks into what the host keeps.
///
/// GitHub changes its keys. One of yours that fetches them must not do so each time that it is asked for an identifier which
/// it does not know: anybody can send one.
#[async_trait]
pub trait PublicKeys: Send + Sync + 'static {
    /// The current key of that identifier; `None` if there is certainly none.
    ///
    /// # Errors
    ///
    /// Whatever stood in the way: the scanner gets 503, and repeats its report.
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

/// A public key on the curve P-256.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::PublicKey`] if it is none, or one of another curve.
    pub fn from_pem(pem: &str) -> Result<Self, ConfigError> {
        VerifyingKey::from_public_key_pem(pem.trim())
            .map(Self)
            .map_err(|_| ConfigError::PublicKey("a key is written in PEM, and is one on the curve P-256"))
    }

    /// Whether the holder of the private key signed exactly this.
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
    /// Reads `{"public_keys": [{"key_identifier": "...", "key": "-----BEGIN PUBLIC KEY-----...", "is_current": true}]}`.
    /// Keys that are not current are left out.
    ///
    /// # Errors
    ///
    /// [`ConfigError::PublicKey`].
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        const SHAPE: &str = r#"the list is {"public_keys": [{"key_identifier", "key", "is_current"}]}"#;
        let shape = || ConfigError::PublicKey(SHAPE);
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

    /// The current key of that identifier.
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
