//! Is it true? The only place that says yes.
//!
//! [`Verifier::verify`] asks, in this order, and the first failing question answers:
//!
//! 1. Is the scheme still in use, and has the text the shape of a key, with the right checksum? Else 401, and no store was
//!    asked.
//! 2. Was this key wrong too often, or have too many other wrong keys come from the client's address? Then 429, where a
//!    [throttle](Verifier::throttle) is set. A good key that is known without asking, or was accepted lately, works all
//!    the same.
//! 3. Does the store know the key? A store that cannot tell is a 503, and so is no room to wait for it: of that each
//!    client has a share of its own.
//! 4. Is the key neither revoked nor expired, its environment the one it says, its owner in good standing, and is it
//!    bound to no other scheme? Else 401.
//! 5. Is the claimed user the owner? Else 401 `Invalid User`.
//! 6. Is the request within the key's restrictions? Else 403.
//! 7. Is a project named where one must be, and properly? Else 400. Is it the key's, may the owner access it? Else
//!    403.
//! 8. Does the owner's role, and the key's level, cover what the endpoint does? Else 403.
//! 9. Is the request within the key's limits? Else 429. Here it is counted, and only here.
//!
//! Keys come first and users second: without a valid key, nothing can be learned about users.

mod asker;
mod check;
mod details;
mod explain;
mod explanation;
#[cfg(feature = "manage")]
mod exposed;
mod lookup;
mod often;
mod questions;
mod refusal;
mod renew;
mod seen;
#[cfg(feature = "slow-hashes")]
mod slow;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::check::Check;
pub use self::explanation::{Explanation, Finding, Outcome};

use self::asker::Asker;
use self::questions::Strict;
use self::refusal::Refusal;
use self::renew::Renewer;
use self::seen::about;
use crate::bulkhead::Bulkhead;
use crate::clock::{Clock, SystemClock};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{AuthError, ConfigError};
use crate::key::{DigestRing, Environment, KeyDigest, KeyFormat, KeyId};
use crate::limit::{KeyThrottle, Limiter};
use crate::observer::Observers;
use crate::principal::Principal;
use crate::restriction::Facts;
use crate::store::{DEFAULT_DEADLINE, Directory, KeyLedger, KeyStore, StoreError, in_time};

/// How many keys with limits are remembered, unless told otherwise.
const LIMITED_KEYS: usize = 65_536;

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
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<dyn KeyStore>,
    directory: Arc<dyn Directory>,
    format: KeyFormat,
    digests: DigestRing,
    renewer: Option<Renewer>,
    accept_foreign_keys: bool,
    environment: Option<Environment>,
    clock: Arc<dyn Clock>,
    store_deadline: Duration,
    throttle: Option<Arc<KeyThrottle>>,
    bulkhead: Arc<Bulkhead<Asker>>,
    limiter: Arc<Limiter<KeyId>>,
    observers: Observers,
}

impl Verifier {
    /// Asks `store` for keys and standings. See [`ApiKeyAuth::new`](crate::ApiKeyAuth::new) for how to join two.
    #[must_use]
    pub fn new<S: KeyStore + Directory>(store: S) -> Self {
        let store = Arc::new(store);
        Self {
            keys: Arc::clone(&store) as Arc<dyn KeyStore>,
            directory: store,
            format: KeyFormat::default(),
            digests: DigestRing::default(),
            renewer: None,
            accept_foreign_keys: false,
            environment: None,
            clock: Arc::new(SystemClock),
            store_deadline: DEFAULT_DEADLINE,
            throttle: None,
            bulkhead: Arc::new(asker::bulkhead()),
            limiter: Arc::new(Limiter::new(LIMITED_KEYS)),
            observers: Observers::default(),
        }
    }

    /// The shape of the keys that are let through to the store; the default is `sk_live_...`, `sk_test_...`.
    #[must_use]
    pub fn key_format(mut self, format: KeyFormat) -> Self {
        self.format = format;
        self
    }

    /// Looks up keys of any shape, for keys that were imported from elsewhere (R52).
    ///
    /// # Security
    ///
    /// Every text of up to 512 bytes is then hashed and costs a look-up; without this, garbage costs neither.
    #[must_use]
    pub fn accept_foreign_keys(mut self) -> Self {
        self.accept_foreign_keys = true;
        self
    }

    /// The digests that keys are looked up by; the default is SHA-256. More are for [peppers](crate::Pepper), and for keys that
    /// were [imported](crate::importing).
    #[must_use]
    pub fn digests(mut self, ring: DigestRing) -> Self {
        self.digests = ring;
        self
    }

    /// Gives keys that are found by an older digest of the [ring](Self::digests) the newest one, when a request with them was
    /// accepted. The default is that they keep what they have.
    ///
    /// It is done in the background, in the tokio runtime that the request is in, for a few keys at a time: no request waits
    /// for it or fails by it, and what has failed is tried again at the key's next use. The ledger must be that of the
    /// store.
    #[must_use]
    pub fn renew_digests(mut self, ledger: impl KeyLedger) -> Self {
        self.renewer = Some(Renewer::new(ledger));
        self
    }

    /// Accepts keys of one environment only (R55). Those of the other are refused with 401, like unknown ones. The
    /// default is both.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// The clock that expiry and limits are judged by; the default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How long a store may take for one answer before it is a 503; the default is one second.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn store_deadline(mut self, deadline: Duration) -> Result<Self, ConfigError> {
        if deadline.is_zero() {
            return Err(ConfigError::Zero("the store's deadline"));
        }
        self.store_deadline = deadline;
        Ok(self)
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
        self.throttle = Some(Arc::new(throttle.into()));
        self
    }

    /// How many keys with limits are remembered at once; the default is 65536. When there are more, those that have
    /// spent least are forgotten first, and start afresh: [`Limiter`] says in which order. Before all others go those whose keys
    /// have ended: a verifier sees that when one is sent that is revoked or expired, and hears it at once where it is an
    /// [observer](crate::Keyring::observer) of your keyring. Clones made before count apart.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn limited_keys(mut self, capacity: usize) -> Result<Self, ConfigError> {
        if capacity == 0 {
            return Err(ConfigError::Zero("the number of keys with limits"));
        }
        self.limiter = Arc::new(Limiter::new(capacity));
        Ok(self)
    }

    /// Turns credentials into a principal who may do what `endpoint` does.
    ///
    /// Nothing is known here about where they came from: keys with restrictions are refused, and no failure counts for
    /// the [throttle](Self::throttle). For those there is
    /// [`verify_with`](Self::verify_with).
    ///
    /// Must run in a tokio runtime with its timer on, unless the stores answer [`warm`](KeyStore::warm).
    ///
    /// # Errors
    ///
    /// [`AuthError`], by the order in [the module's documentation](self). Whether a store failed or said no can be
    /// told by its status: 503 or another.
    pub async fn verify(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
    ) -> Result<Principal, AuthError> {
        self.verify_with(credentials, endpoint, &Facts::new()).await
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
        facts: &Facts<'_>,
    ) -> Result<Principal, AuthError> {
        let started = self.started();
        let result = self.verify_by(credentials, endpoint, || *facts).await;
        if let Some(started) = started {
            self.show(started, false, result.as_ref(), || *facts);
        }
        result
    }

    /// The facts are found out only for keys with restrictions, and for the throttle.
    pub(crate) async fn verify_by<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl Fn() -> Facts<'f>,
    ) -> Result<Principal, AuthError> {
        let refuse = |refusal| self.refuse(refusal, credentials);
        let candidate = self.candidate(credentials).map_err(refuse)?;
        let asker = || Asker::Request(facts().client().map(Into::into));
        // Held until the stores have said all.
        let mut turn = None;
        let (found, asked) = match self.at_hand(&candidate) {
            Ok(None) => {
                let asked = self.brake(&candidate.digest, &facts).map_err(refuse)?;
                (self.in_turn(&mut turn, asker, self.find(&candidate, false)).await, asked)
            }
            at_hand => (at_hand.map(Option::flatten), false),
        };
        let noted = found.as_ref().ok().and_then(|found| self.note(found.as_ref()));
        let failed = |refusal| about(&noted, refuse(self.failed(refusal, &candidate.digest, &facts, asked)));
        let known = found
            .and_then(|found| self.known(&mut Strict, found, candidate.environment, credentials.claims()));
        let known = known.map_err(failed)?;
        let (owner, project) = known.asks_about();
        let standing = match self.directory.warm(owner, project) {
            Some(standing) => standing,
            None => {
                let standing = self.in_time(self.directory.standing(owner, project));
                self.in_turn(&mut turn, asker, standing).await.map_err(failed)?
            }
        };
        let may = known.may(self, standing, credentials.claims(), endpoint, &facts).map_err(failed)?;
        if turn.is_some()
            && let Some(throttle) = &self.throttle
        {
            throttle.accepted(&candidate.digest, self.clock.now());
        }
        Ok(may)
    }

    /// Whether requests can be decided about: asks the store for a key that nobody has, and waits for the answer as long as
    /// [requests](Self::store_deadline) do. For a readiness check, which should not be open to everybody: each call is a question to
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
        in_time(self.store_deadline, self.keys.find(&KeyDigest::from_bytes(nobodys))).await.map(drop)
    }

    /// The same without waiting; `None` if a store must be asked.
    pub(crate) fn verify_warm<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl Fn() -> Facts<'f>,
    ) -> Result<Option<Principal>, AuthError> {
        let refuse = |refusal| self.refuse(refusal, credentials);
        let candidate = self.candidate(credentials).map_err(refuse)?;
        let Some(found) = self.at_hand(&candidate).map_err(refuse)? else { return Ok(None) };
        let noted = self.note(found.as_ref());
        let failed = |refusal| about(&noted, refuse(self.failed(refusal, &candidate.digest, &facts, false)));
        let known =
            self.known(&mut Strict, found, candidate.environment, credentials.claims()).map_err(failed)?;
        let (owner, project) = known.asks_about();
        let Some(standing) = self.directory.warm(owner, project) else { return Ok(None) };
        known.may(self, standing, credentials.claims(), endpoint, &facts).map(Some).map_err(failed)
    }

    async fn in_time<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refusal> {
        Ok(in_time(self.store_deadline, question).await?)
    }

    #[cold]
    fn refuse(&self, refusal: Refusal, credentials: &Credentials<'_>) -> AuthError {
        let error = AuthError::new(refusal.kind, credentials.scheme());
        let error = match refusal.wait {
            Some(wait) => error.with_wait(wait),
            None => error,
        };
        match refusal.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("format", &self.format)
            .field("digests", &self.digests)
            .field("accept_foreign_keys", &self.accept_foreign_keys)
            .field("store_deadline", &self.store_deadline)
            .field("throttle", &self.throttle)
            .finish_non_exhaustive()
    }
}
