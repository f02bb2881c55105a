//! [`ApiKeys`]: one place to say what layer, verifier and keyring must agree on.

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

/// A store of keys, and what everything that works on it must agree on: the format of keys, their digests, the clock, the
/// deadlines and the observers. The layer, the verifier and the keyring are made of it, so that they cannot disagree.
///
/// A keyring with other digests than the layer's would make keys that the layer does not know; said here, that cannot be
/// written. Cloning is cheap.
///
/// ```
/// use tower_api_key::scheme::{ApiKeyHeader, Bearer};
/// use tower_api_key::{ApiKeys, KeyFormat, MemoryStore, NewKey, UserId};
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
    /// Keys, people and projects are in `store`. `(keys, directory)` joins two stores, and
    /// [`NoProjects(keys)`](crate::store::NoProjects) says that there are no projects.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store: Arc::new(store), settings: Settings::default() }
    }

    /// The format of keys: what new ones look like, and what is let through to the store. The default is `sk_live_...`,
    /// `sk_test_...` (R37, R38).
    #[must_use]
    pub fn key_format(mut self, format: KeyFormat) -> Self {
        self.settings.format = format;
        self
    }

    /// The digests under which keys are kept and looked up; the default is SHA-256. More are for [peppers](crate::Pepper),
    /// and for keys that were [imported](crate::importing).
    #[must_use]
    pub fn digests(mut self, digests: Digests) -> Self {
        self.settings.digests = digests;
        self
    }

    /// The clock that dates keys and judges their expiry and limits; the default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Shows decisions and changes to an [`Observer`], after those that are already there. The default is nobody.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.settings.observers.add(observer);
        self
    }

    /// How long a store may take for one answer to a request before it is a 503; the default is one second.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn lookup_deadline(mut self, deadline: Duration) -> Result<Self, ConfigError> {
        self.settings.lookup_deadline = not_zero(deadline)?;
        Ok(self)
    }

    /// How long a store may take for one change or question of a keyring; the default is five seconds, longer than the
    /// built-in stores wait for a lock that somebody else holds.
    ///
    /// When it has passed, nobody knows: a change that still waits behind others is never begun, and one that was begun may
    /// be finished. The answer is [`KeyringError::OutcomeUnknown`](crate::KeyringError::OutcomeUnknown), also where a store
    /// says by itself that it took too long.
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

    /// A layer for one scheme; [`ApiKeyAuth::or`] adds others. For foreign keys, a throttle or one environment only, set up
    /// a [verifier](Self::verifier) and pass it to [`ApiKeyAuth::with_verifier`].
    pub fn layer<Sch: Describe>(&self, scheme: Sch) -> ApiKeyAuth<Sch>
    where
        S: KeyStore + Directory,
    {
        ApiKeyAuth::with_verifier(self.verifier(), scheme)
    }

    /// A verifier: what the layer decides with, for credentials that do not come in the head of a request, too.
    #[must_use]
    pub fn verifier(&self) -> Verifier
    where
        S: KeyStore + Directory,
    {
        Verifier::with_settings(Arc::clone(&self.store), &self.settings)
    }

    /// A keyring: issues, rotates, revokes and lists keys.
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
