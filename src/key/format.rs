//! [`KeyFormat`]: generates keys, and recognizes their shape without asking a store.

use std::fmt;

use zeroize::Zeroizing;

use super::base62::{self, Fill};
use super::{ApiKey, Environment};
use crate::ascii;
use crate::config_error::ConfigError;

/// The longest text in bytes that may be a key. Longer texts are refused without hashing.
pub const MAX_KEY_LEN: usize = 512;

/// Whether a text of any shape can be a key: not too long, and without NUL. Some digests start with a tag and a NUL, so
/// that no key's text can produce the digest of another method.
pub(crate) fn can_be_key(text: &str) -> bool {
    (1..=MAX_KEY_LEN).contains(&text.len()) && !text.contains('\0')
}

const RANDOM_LEN: usize = 33;
const CHECKSUM_LEN: usize = 6;
/// With `_live_` and the rest this makes 55 bytes, which is one block of SHA-256.
const MAX_PREFIX_LEN: usize = 10;

/// The shape of the keys that an application issues: `{prefix}_{live|test}_`, 33 random characters, 6 of checksum.
///
/// The default prefix is `sk`, as in the source documents (R53, R54). Stripe uses it too: choose your own if secret
/// scanners have to tell your keys from Stripe's.
///
/// ```
/// use tower_api_key::{Environment, KeyFormat};
///
/// let format = KeyFormat::new("acme")?;
/// let key = format.generate(Environment::Test)?;
/// assert!(key.expose_secret().starts_with("acme_test_"));
/// assert_eq!(format.environment_of(key.expose_secret()), Some(Environment::Test));
/// assert_eq!(format.environment_of("acme_test_mistyped"), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeyFormat {
    live: Box<str>,
    test: Box<str>,
    fill: Fill,
}

impl Default for KeyFormat {
    fn default() -> Self {
        Self::unchecked("sk")
    }
}

impl KeyFormat {
    /// Keys start with `prefix`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::KeyPrefix`] unless it is 1 to 10 of `A-Z a-z 0-9 _`, starting with a letter and not ending
    /// with `_`.
    pub fn new(prefix: &str) -> Result<Self, ConfigError> {
        let sound = prefix.len() <= MAX_PREFIX_LEN
            && prefix.starts_with(|first: char| first.is_ascii_alphabetic())
            && !prefix.ends_with('_')
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if sound { Ok(Self::unchecked(prefix)) } else { Err(ConfigError::KeyPrefix) }
    }

    fn unchecked(prefix: &str) -> Self {
        let with = |environment: Environment| format!("{prefix}_{}_", environment.as_str()).into_boxed_str();
        Self { live: with(Environment::Live), test: with(Environment::Test), fill: getrandom::fill }
    }

    /// The public start of every key of an environment, such as `sk_live_` (R38).
    #[must_use]
    pub fn prefix(&self, environment: Environment) -> &str {
        match environment {
            Environment::Live => &self.live,
            Environment::Test => &self.test,
        }
    }

    /// Generates a new key.
    ///
    /// # Errors
    ///
    /// [`RandomSourceError`] if the operating system returns no random bytes.
    pub fn generate(&self, environment: Environment) -> Result<ApiKey, RandomSourceError> {
        let prefix = self.prefix(environment);
        let random = Zeroizing::new(base62::random::<RANDOM_LEN>(self.fill).map_err(RandomSourceError)?);
        // Allocated once with its final capacity: growing would leave a copy behind that is not overwritten.
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + RANDOM_LEN + CHECKSUM_LEN));
        text.push_str(prefix);
        text.extend(random.iter().map(|byte| char::from(*byte)));
        let checksum = base62::encode_u32(crc32fast::hash(text.as_bytes()));
        text.extend(checksum.iter().map(|byte| char::from(*byte)));
        Ok(ApiKey::new(text))
    }

    /// Returns the environment of a text with exactly the shape of a key of this format, including the checksum,
    /// and `None` for every other text.
    ///
    /// This does not ask a store and proves nothing, since anybody can compute the checksum. It refuses typos and
    /// garbage cheaply.
    #[must_use]
    pub fn environment_of(&self, text: &str) -> Option<Environment> {
        let (environment, rest) = if let Some(rest) = text.strip_prefix(&*self.live) {
            (Environment::Live, rest)
        } else {
            (Environment::Test, text.strip_prefix(&*self.test)?)
        };
        let (random, checksum) = rest.as_bytes().split_first_chunk::<RANDOM_LEN>()?;
        let body = text.as_bytes().get(..text.len() - checksum.len())?;
        let alphabetic = ascii::all(random, |byte| byte.is_ascii_alphanumeric());
        let sound = alphabetic && checksum == base62::encode_u32(crc32fast::hash(body));
        sound.then_some(environment)
    }

    /// The regular expression of a key of this format, for secret scanners.
    ///
    /// ```
    /// # use tower_api_key::KeyFormat;
    /// assert_eq!(KeyFormat::default().pattern(), r"\bsk_(live|test)_[0-9A-Za-z]{39}\b");
    /// ```
    #[must_use]
    pub fn pattern(&self) -> String {
        let prefix = self.live.strip_suffix("_live_").unwrap_or_default();
        format!(r"\b{prefix}_(live|test)_[0-9A-Za-z]{{{}}}\b", RANDOM_LEN + CHECKSUM_LEN)
    }

    #[cfg(test)]
    pub(crate) fn with_random_source(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }
}

impl fmt::Debug for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyFormat").field(&self.live).field(&self.test).finish()
    }
}

/// The operating system returned no random bytes, so no key was made. Try again; if it persists, the host is broken.
#[derive(Debug, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct RandomSourceError(#[source] pub(crate) getrandom::Error);
