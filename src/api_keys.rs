//! [`ApiKeys`]: one place for the settings that layer, verifier and keyring must agree on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config_error::ConfigError;
use crate::key::{Digests, KeyFormat};
use crate::keyring::Keyring;
use crate::layer::ApiKeyAuth;
use crate::observer::Observer;
use crate::scheme::Describe;
use crate::settings::Settings;
use crate::store::{Directory, KeyRegistry, KeyStore};
use crate::verifier::Verifier;

/// A store of keys, and the settings of everything that works on it: the format of keys, their digests, the clock,
/// the deadlines and the observers. Layer, verifier and keyring are made from it, so they always have the same
/// settings.
///
/// This prevents, for example, a keyring whose digests differ from the layer's: the layer would not find its keys.
/// Cloning is cheap.
///
/// ```
/// use tower_api_key::scheme::{ApiKeyHeader, Bearer};
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{ApiKeys, KeyFormat, NewKey, UserId};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = ApiKeys::new(MemoryStore::new()).key_format(KeyFormat::new("acme")?);
/// let auth = keys.layer(Bearer::default()).or(ApiKeyHeader::default());
/// let issued = keys.keyring().issue(NewKey::user_level(UserId::new("alice")?, "Build server")).await?;
/// assert!(issued.key().expose_secret().starts_with("acme_live_"));
/// # Ok(())
/// # }
/// ```
pub struct ApiKeys<S> {
    store: Arc<S>,
    settings: Settings,
}

impl<S> ApiKeys<S> {
    /// Uses `store` for keys, people and projects. `(keys, directory)` combines two stores.
    /// [`NoProjects(keys)`](crate::store::NoProjects) is for applications without projects.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store: Arc::new(store), settings: Settings::default() }
    }

    /// Sets the format of keys: what new keys look like, and which texts are looked up in the store. The default is
    /// `sk_live_...`, `sk_test_...` (R37, R38).
    #[must_use]
    pub fn key_format(mut self, format: KeyFormat) -> Self {
        self.settings.format = format;
        self
    }

    /// Sets the digests by which keys are stored and looked up. The default is SHA-256. Others are for
    /// [peppers](crate::Pepper) and for [imported](crate::importing) keys.
    #[must_use]
    pub fn digests(mut self, digests: Digests) -> Self {
        self.settings.digests = digests;
        self
    }

    /// Sets the clock by which keys are dated, expire and are rate-limited. The default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Adds an [`Observer`] of decisions and changes. Observers are called in the order in which they were added. By default there are none.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.settings.observers.add(observer);
        self
    }

    /// Sets how long a request waits for an answer of a store before it gets a 503. The default is one second.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn lookup_deadline(mut self, deadline: Duration) -> Result<Self, ConfigError> {
        self.settings.lookup_deadline = not_zero(deadline)?;
        Ok(self)
    }

    /// Sets how long a keyring waits for one change or query of the store. The default is five seconds, which is
    /// longer than the built-in stores wait for a lock.
    ///
    /// After a timeout it is unknown whether the change was made: a change that was still queued is never started,
    /// but one that was started may be finished. The error is
    /// [`KeyringError::OutcomeUnknown`](crate::KeyringError::OutcomeUnknown), also if the store itself reports the
    /// timeout.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn change_deadline(mut self, deadline: Duration) -> Result<Self, ConfigError> {
        self.settings.change_deadline = not_zero(deadline)?;
        Ok(self)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Creates a layer for one scheme; [`ApiKeyAuth::or`] adds others. For foreign keys, a throttle or one
    /// environment only, configure a [verifier](Self::verifier) and pass it to [`ApiKeyAuth::with_verifier`].
    pub fn layer<Sch: Describe>(&self, scheme: Sch) -> ApiKeyAuth<Sch>
    where
        S: KeyStore + Directory,
    {
        ApiKeyAuth::with_verifier(self.verifier(), scheme)
    }

    /// Creates a verifier, which can also verify credentials that do not come in an HTTP request.
    #[must_use]
    pub fn verifier(&self) -> Verifier
    where
        S: KeyStore + Directory,
    {
        Verifier::with_settings(Arc::clone(&self.store), &self.settings)
    }

    /// Creates a keyring, which issues, rotates, revokes and lists keys.
    #[must_use]
    pub fn keyring(&self) -> Keyring
    where
        S: KeyRegistry + Directory,
    {
        Keyring::with_settings(Arc::clone(&self.store), &self.settings)
    }
}

fn not_zero(deadline: Duration) -> Result<Duration, ConfigError> {
    if deadline.is_zero() { Err(ConfigError::Zero("the store's deadline")) } else { Ok(deadline) }
}

impl<S> Clone for ApiKeys<S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), settings: self.settings.clone() }
    }
}

impl<S> fmt::Debug for ApiKeys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("settings", &self.settings).finish_non_exhaustive()
    }
}
