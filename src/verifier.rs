//! [`Verifier`]: the gate, together with the observers and the rehashing of keys.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::auth_error::AuthError;
use crate::body_budget::Sender;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::{Admission, Gate, Outdated, Paused, Principal, Rules};
use crate::key::{Environment, KeyDigest};
use crate::limit::{KeyThrottle, Limiter};
use crate::observer::Observers;
use crate::record::KeyRecord;
use crate::rehash::Rehasher;
use crate::restriction::RequestContext;
use crate::settings::Settings;
use crate::store::{Directory, KeyRegistry, KeyStore, StoreError, in_time};

/// Verifies credentials.
///
/// The layer contains one. Use a verifier directly for credentials that do not come in an HTTP request, such as
/// those in the first message of a WebSocket or in an entry of a queue:
///
/// ```
/// use tower_api_key::{Credentials, Endpoint, Verifier};
/// # use tower_api_key::store::MemoryStore;
///
/// # async fn f(message: &str) -> Result<(), tower_api_key::AuthError> {
/// let verifier = Verifier::new(MemoryStore::new());
/// let principal = verifier.verify(&Credentials::new(message), Endpoint::READ).await?;
/// println!("{} came in", principal.user_id());
/// # Ok(())
/// # }
/// ```
///
/// # The order of the checks
///
/// [`verify`](Self::verify) makes these checks in this order. The first check that fails decides the answer:
///
/// 1. Is the scheme still accepted, and does the text have the shape of a key, with the right checksum? Otherwise
///    401, and no store is asked.
/// 2. If a [throttle](Self::throttle) is set: has the client's address sent this wrong key, or other wrong keys,
///    too often? Then 429. A valid key that is cached, or was accepted recently, is not throttled.
/// 3. Does the store know the key? If the store fails, or too many look-ups of the same client are waiting for it:
///    503.
/// 4. Is the key neither revoked nor expired, of an accepted environment, and allowed through this scheme, and is
///    its owner's account active? Otherwise 401.
/// 5. Is the claimed user the owner? Otherwise 401 `Invalid User`.
/// 6. Is the request within the key's restrictions? Otherwise 403.
/// 7. Is a valid project named where one is required? Otherwise 400. Does it match the key's project, and may the
///    owner access it? Otherwise 403.
/// 8. Do the owner's role and the key's level allow what the endpoint does? Otherwise 403.
/// 9. Is the request within the key's rate limits? Otherwise 429. Only this check counts the request.
///
/// The key is checked before the user, so that without a valid key nothing can be learned about users.
#[derive(Clone)]
pub struct Verifier {
    pub(crate) gate: Gate,
    rehasher: Option<Rehasher>,
    pub(crate) observers: Observers,
}

impl Verifier {
    /// Asks `store` for keys and account statuses. See [`ApiKeyAuth::new`](crate::ApiKeyAuth::new) for how to join
    /// two stores, and [`ApiKeys::verifier`](crate::ApiKeys::verifier) for another key format, other digests, clock
    /// or deadline.
    #[must_use]
    pub fn new<S: KeyStore + Directory>(store: S) -> Self {
        Self::with_settings(Arc::new(store), &Settings::default())
    }

    pub(crate) fn with_settings<S: KeyStore + Directory>(store: Arc<S>, settings: &Settings) -> Self {
        let observers = settings.observers.clone();
        Self { gate: Gate::new(store, settings), rehasher: None, observers }
    }

    /// Looks up keys of any shape, for keys that were imported from elsewhere (R52).
    ///
    /// # Security
    ///
    /// Every text of up to 512 bytes is then hashed and looked up. Without this setting, a text that is not a key
    /// costs neither.
    #[must_use]
    pub fn accept_foreign_keys(mut self) -> Self {
        self.gate.rules.accept_foreign_keys = true;
        self
    }

    /// Rehashes keys: when a request is accepted with a key that was found by an older one of the
    /// [digests](crate::ApiKeys::digests), the key gets the newest digest. By default keys keep the digest they
    /// have.
    ///
    /// This happens in the background, in the tokio runtime of the request, for a few keys at a time. No request
    /// waits for it or fails because of it. A failed rehash is tried again at the key's next use. `registry` must
    /// write to the same store.
    #[must_use]
    pub fn renew_digests(mut self, registry: impl KeyRegistry) -> Self {
        self.rehasher = Some(Rehasher::new(registry));
        self
    }

    /// Accepts only keys of one environment (R55). Keys of the other are refused with 401, like unknown keys. The
    /// default is to accept both.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.gate.rules.environment = Some(environment);
        self
    }

    /// Slows down clients that send wrong keys; see [`KeyThrottle`]. A [`Limit`](crate::limit::Limit) such as
    /// `10/min` limits [how often](KeyThrottle::repeats) the same wrong key may be sent. The default is no
    /// throttle.
    ///
    /// ```
    /// use tower_api_key::limit::KeyThrottle;
    /// use tower_api_key::store::MemoryStore;
    /// use tower_api_key::Verifier;
    ///
    /// let verifier = Verifier::new(MemoryStore::new()).throttle(KeyThrottle::default());
    /// ```
    ///
    /// Clients are told apart by the address that [`ApiKeyAuth::client_addr`](crate::ApiKeyAuth::client_addr)
    /// finds. Behind a proxy that is not configured there, all clients count as one. A client whose address is
    /// unknown is not throttled. Clones share their counts.
    #[must_use]
    pub fn throttle(mut self, throttle: impl Into<KeyThrottle>) -> Self {
        self.gate.throttle = Some(Arc::new(throttle.into()));
        self
    }

    /// Sets for how many keys the state of their rate limits is kept at once; the default is 65536. If there are
    /// more, the state of the keys that have used least of their limits is evicted first, and these keys start
    /// again with full limits; [`Limiter`] documents the order. The state of ended keys is evicted before all
    /// others. A verifier learns that a key has ended when the key is sent, or at once if the verifier is an
    /// [observer](crate::Keyring::observer) of your keyring. Clones made before this call have their own counts.
    #[must_use]
    pub fn limited_keys(mut self, capacity: NonZeroUsize) -> Self {
        let capacity = capacity.get();
        self.gate.limiter = Arc::new(Limiter::new(capacity));
        self
    }

    /// Whether a text can be a key: its shape is accepted, and its checksum is right. This asks no store.
    #[must_use]
    pub fn may_be_key(&self, text: &str) -> bool {
        self.gate.may_be_key(text)
    }

    /// For your own routes that read bodies: warns the observers, once, if the sender of a body is unknown.
    /// [`Warning::BodySenderUnknown`](crate::observer::Warning::BodySenderUnknown) says what to do about it.
    pub fn observe_sender(&self, sender: &Sender) {
        if !sender.is_known() {
            self.observers.sender_is_unknown();
        }
    }

    /// Verifies credentials, and returns a principal who may do what `endpoint` does.
    ///
    /// It is not known where the credentials came from. So keys with restrictions are refused, and no failure
    /// counts for the [throttle](Self::throttle). Use [`verify_with`](Self::verify_with) for these.
    ///
    /// Must run in a tokio runtime with its timer enabled, unless the stores answer through
    /// [`find_cached`](KeyStore::find_cached).
    ///
    /// # Errors
    ///
    /// The [`AuthError`] of the first check that fails; see [the order of the
    /// checks](Self#the-order-of-the-checks). Its status is 503 if a store failed, and another if the credentials
    /// are refused.
    pub async fn verify(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
    ) -> Result<Principal, AuthError> {
        self.verify_with(credentials, endpoint, &RequestContext::new()).await
    }

    /// Like [`verify`](Self::verify), with what is known about the request. The key's restrictions (R56) and the
    /// throttle need it.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub async fn verify_with(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: &RequestContext<'_>,
    ) -> Result<Principal, AuthError> {
        let started = self.observers.start();
        let result = match self.now(credentials, endpoint, || *facts) {
            Ok(Ok(principal)) => Ok(principal),
            Ok(Err(paused)) => self.asking(paused, credentials, || *facts).await,
            Err(error) => Err(error),
        };
        if let Some(started) = started {
            self.show(started, false, result.as_ref(), || *facts);
        }
        result
    }

    /// Decides from cached facts. Returns `Ok(Err(_))` if a store must be asked.
    #[inline(always)]
    pub(crate) fn now<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl Fn() -> RequestContext<'f>,
    ) -> Result<Result<Principal, Box<Paused>>, AuthError> {
        Ok(self.gate.now(credentials, endpoint, facts)?.map(|admission| self.admitted(admission)))
    }

    /// Continues where [`now`](Self::now) stopped.
    pub(crate) async fn asking<'f>(
        &self,
        paused: Box<Paused>,
        credentials: &Credentials<'_>,
        facts: impl Fn() -> RequestContext<'f>,
    ) -> Result<Principal, AuthError> {
        self.gate.asking(paused, credentials, facts).await.map(|admission| self.admitted(admission))
    }

    #[inline(always)]
    fn admitted(&self, Admission { principal, outdated }: Admission) -> Principal {
        if let Some(outdated) = outdated {
            self.rehash(principal.record(), *outdated);
        }
        principal
    }

    /// Rehashes the key in the background, if a place is free.
    #[cold]
    fn rehash(&self, key: &KeyRecord, outdated: Outdated) {
        if let Some(rehasher) = &self.rehasher {
            let Rules { clock, digests, .. } = &self.gate.rules;
            rehasher.rehash(key, outdated, digests.newest().method(), clock.now());
        }
    }

    /// For a readiness check: whether the key store answers. This looks up a random key, with the same
    /// [deadline](crate::ApiKeys::lookup_deadline) as a request. Do not open the check to everybody, since each
    /// call queries the store. A separate directory is not asked.
    ///
    /// A node with a cache answers from memory only while it has a lease; see `Cached::has_lease`.
    ///
    /// ```
    /// # use tower_api_key::store::MemoryStore;
    /// # use tower_api_key::Verifier;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let verifier = Verifier::new(MemoryStore::new());
    /// let status = if verifier.ready().await.is_ok() { 200 } else { 503 };
    /// # assert_eq!(status, 200);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The [`StoreError`] that a request would get.
    pub async fn ready(&self) -> Result<(), StoreError> {
        let mut nobodys = [0; 32];
        // A new digest each time, because a cached answer says nothing about the store.
        getrandom::fill(&mut nobodys).map_err(|error| StoreError::failed(error.to_string()))?;
        in_time(self.gate.store_deadline, self.gate.keys.find(&KeyDigest::from_bytes(nobodys)))
            .await
            .map(drop)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("format", &self.gate.rules.format)
            .field("digests", &self.gate.rules.digests)
            .field("accept_foreign_keys", &self.gate.rules.accept_foreign_keys)
            .field("store_deadline", &self.gate.store_deadline)
            .field("throttle", &self.gate.throttle)
            .finish_non_exhaustive()
    }
}
