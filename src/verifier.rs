//! [`Verifier`]: the gate, with what observes and renews around it.

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

/// Decides whether credentials are true.
///
/// The layer holds one; by itself it is for credentials that do not come in the head of a request, such as the first
/// message of a WebSocket or an entry of a queue:
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
/// [`verify`](Self::verify) asks, in this order, and the first failing question answers:
///
/// 1. Is the scheme still in use, and has the text the shape of a key, with the right checksum? Else 401, and no store was
///    asked.
/// 2. Was this key wrong too often, or have too many other wrong keys come from the client's address? Then 429, where a
///    [throttle](Self::throttle) is set. A good key that is known without asking, or was accepted lately, works all
///    the same.
/// 3. Does the store know the key? A store that cannot tell is a 503, and so is no room to wait for it: of that each
///    client has a share of its own.
/// 4. Is the key neither revoked nor expired, its environment the one it says, its owner in good standing, and is it
///    bound to no other scheme? Else 401.
/// 5. Is the claimed user the owner? Else 401 `Invalid User`.
/// 6. Is the request within the key's restrictions? Else 403.
/// 7. Is a project named where one must be, and properly? Else 400. Is it the key's, may the owner access it? Else
///    403.
/// 8. Does the owner's role, and the key's level, cover what the endpoint does? Else 403.
/// 9. Is the request within the key's limits? Else 429. Here it is counted, and only here.
///
/// Keys come first and users second: without a valid key, nothing can be learned about users.
#[derive(Clone)]
pub struct Verifier {
    pub(crate) gate: Gate,
    rehasher: Option<Rehasher>,
    pub(crate) observers: Observers,
}

impl Verifier {
    /// Asks `store` for keys and account statuses. See [`ApiKeyAuth::new`](crate::ApiKeyAuth::new) for how to join two stores,
    /// and [`ApiKeys::verifier`](crate::ApiKeys::verifier) for another key format, other digests, clock or deadline.
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
    /// Every text of up to 512 bytes is then hashed and costs a look-up; without this, garbage costs neither.
    #[must_use]
    pub fn accept_foreign_keys(mut self) -> Self {
        self.gate.rules.accept_foreign_keys = true;
        self
    }

    /// Gives keys that are found by an older digest of the [digests](crate::ApiKeys::digests) the newest one, when a request with them was
    /// accepted. The default is that they keep what they have.
    ///
    /// It is done in the background, in the tokio runtime that the request is in, for a few keys at a time: no request waits
    /// for it or fails by it, and what has failed is tried again at the key's next use. The registry must be that of the
    /// store.
    #[must_use]
    pub fn renew_digests(mut self, registry: impl KeyRegistry) -> Self {
        self.rehasher = Some(Rehasher::new(registry));
        self
    }

    /// Accepts keys of one environment only (R55). Those of the other are refused with 401, like unknown ones. The
    /// default is both.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.gate.rules.environment = Some(environment);
        self
    }

    /// Slows down clients that send wrong keys: a [`KeyThrottle`], which says what it counts and what remains. A
    /// [`Limit`](crate::limit::Limit) such as `10/min` is for [how often](KeyThrottle::repeats) the same wrong key may come. The
    /// default is no brake.
    ///
    /// ```
    /// use tower_api_key::limit::KeyThrottle;
    /// use tower_api_key::{MemoryStore, Verifier};
    ///
    /// let verifier = Verifier::new(MemoryStore::new()).throttle(KeyThrottle::default());
    /// ```
    ///
    /// A client is what [`ApiKeyAuth::client_addr`](crate::ApiKeyAuth::client_addr) finds: behind a proxy that is not named
    /// there, all are one. A client whose address is unknown is not slowed down. Clones count together.
    #[must_use]
    pub fn throttle(mut self, throttle: impl Into<KeyThrottle>) -> Self {
        self.gate.throttle = Some(Arc::new(throttle.into()));
        self
    }

    /// How many keys with limits are remembered at once; the default is 65536. When there are more, those that have
    /// spent least are forgotten first, and start afresh: [`Limiter`] says in which order. Before all others go those whose keys
    /// have ended: a verifier sees that when one is sent that is revoked or expired, and hears it at once where it is an
    /// [observer](crate::Keyring::observer) of your keyring. Clones made before count apart.
    #[must_use]
    pub fn limited_keys(mut self, capacity: NonZeroUsize) -> Self {
        let capacity = capacity.get();
        self.gate.limiter = Arc::new(Limiter::new(capacity));
        self
    }

    /// Whether a text can be a key that is looked up: its shape is one of those that are accepted, and its checksum is right.
    /// No store is asked.
    #[must_use]
    pub fn may_be_key(&self, text: &str) -> bool {
        self.gate.may_be_key(text)
    }

    /// Tells the observers, once, if a body is read whose sender nobody knows: for routes of your own that read bodies.
    /// [`Warning::BodySenderUnknown`](crate::observer::Warning::BodySenderUnknown) says what to do then.
    pub fn observe_sender(&self, sender: &Sender) {
        if !sender.is_known() {
            self.observers.sender_is_unknown();
        }
    }

    /// Turns credentials into a principal who may do what `endpoint` does.
    ///
    /// Nothing is known here about where they came from: keys with restrictions are refused, and no failure counts for
    /// the [throttle](Self::throttle). For those there is
    /// [`verify_with`](Self::verify_with).
    ///
    /// Must run in a tokio runtime with its timer on, unless the stores answer [`find_cached`](KeyStore::find_cached).
    ///
    /// # Errors
    ///
    /// [`AuthError`], by [the order of the checks](Self#the-order-of-the-checks). Whether a store failed or said no can be
    /// told by its status: 503 or another.
    pub async fn verify(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
    ) -> Result<Principal, AuthError> {
        self.verify_with(credentials, endpoint, &RequestContext::new()).await
    }

    /// The same with what is known about the request, for the key's restrictions (R56) and the throttle.
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

    /// Decides by what is at hand. `Ok(Err(_))` if a store must be asked.
    #[inline(always)]
    pub(crate) fn now<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl Fn() -> RequestContext<'f>,
    ) -> Result<Result<Principal, Box<Paused>>, AuthError> {
        Ok(self.gate.now(credentials, endpoint, facts)?.map(|admission| self.admitted(admission)))
    }

    /// Goes on where [`now`](Self::now) has stopped.
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

    /// In the background, and only if there is room.
    #[cold]
    fn rehash(&self, key: &KeyRecord, outdated: Outdated) {
        if let Some(rehasher) = &self.rehasher {
            let Rules { clock, digests, .. } = &self.gate.rules;
            rehasher.rehash(key, outdated, digests.newest().method(), clock.now());
        }
    }

    /// Whether requests can be decided about: asks the store for a key that nobody has, and waits for the answer as long as
    /// [requests](crate::ApiKeys::lookup_deadline) do. For a readiness check, which should not be open to everybody: each call is a question to
    /// the store. A directory that stands beside the store is not asked.
    ///
    /// A node that answers from memory is as fast as it should be only with a lease: see `Cached::has_lease`.
    ///
    /// ```
    /// # use tower_api_key::{MemoryStore, Verifier};
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
    /// [`StoreError`], as a request would meet it.
    pub async fn ready(&self) -> Result<(), StoreError> {
        let mut nobodys = [0; 32];
        // Another one each time: what is remembered says nothing of the store.
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
