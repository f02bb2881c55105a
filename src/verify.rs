//! Is it true? The only place that says yes.
//!
//! [`Verifier::verify`] asks, in this order, and the first failing question answers:
//!
//! 1. Is the scheme still in use, and has the text the shape of a key, with the right checksum? Else 401, and no store was asked.
//! 2. Does the store know the key? A store that cannot tell is a 503.
//! 3. Is the key neither revoked nor expired, its environment the one it says, its owner in good standing? Else 401.
//! 4. Is the claimed user the owner? Else 401 `Invalid User`.
//! 5. Is the request within the key's restrictions? Else 403.
//! 6. Is a project named where one must be, and properly? Else 400. Is it the key's, may the owner access it? Else
//!    403.
//! 7. Does the owner's role, and the key's level, cover what the endpoint does? Else 403.
//!
//! Keys come first and users second: without a valid key, nothing can be learned about users.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{AccessClass, Role, Standing};
use crate::clock::{Clock, SystemClock};
use crate::credentials::{Claim, Credentials};
use crate::description::SchemeInfo;
use crate::endpoint::Endpoint;
use crate::error::{AuthError, AuthErrorKind, ConfigError};
use crate::key::{Environment, KeyDigest, KeyFormat, MAX_KEY_LEN, ProjectId};
use crate::principal::Principal;
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{Facts, Verdict};
use crate::store::{DEFAULT_DEADLINE, Directory, KeyStore, StoreError, in_time};

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
    accept_foreign_keys: bool,
    environment: Option<Environment>,
    clock: Arc<dyn Clock>,
    store_deadline: Duration,
}

/// A text that may be a key: what is left to ask the store.
struct Candidate {
    digest: KeyDigest,
    /// What the text says; `None` for keys of a foreign shape, which say nothing.
    environment: Option<Environment>,
}

/// A key that is known, active and of the environment it claims; its owner has not been looked at yet.
struct Known {
    key: Arc<KeyRecord>,
    project: Result<Option<ProjectId>, AuthErrorKind>,
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
            accept_foreign_keys: false,
            environment: None,
            clock: Arc::new(SystemClock),
            store_deadline: DEFAULT_DEADLINE,
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

    /// Accepts keys of one environment only (R55). Those of the other are refused with 401, like unknown ones. The
    /// default is both.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// The clock that expiry is judged by; the default is the system's.
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

    /// Turns credentials into a principal who may do what `endpoint` does.
    ///
    /// Nothing is known here about where they came from: keys with restrictions are refused. For those there is
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
        self.verify_by(credentials, endpoint, Facts::new).await
    }

    /// The same with what is known about the request, for the key's restrictions (R56).
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
        self.verify_by(credentials, endpoint, || *facts).await
    }

    /// The facts are found out only for keys with restrictions.
    pub(crate) async fn verify_by<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl FnOnce() -> Facts<'f>,
    ) -> Result<Principal, AuthError> {
        let refuse = |error| self.refuse(error, credentials);
        let candidate = self.candidate(credentials).map_err(refuse)?;
        let found = match self.keys.warm(&candidate.digest) {
            Some(found) => found,
            None => self.in_time(self.keys.find(&candidate.digest)).await.map_err(refuse)?,
        };
        let known = self.known(found, &candidate, credentials).map_err(refuse)?;
        let (owner, project) = known.asks_about();
        let standing = match self.directory.warm(owner, project) {
            Some(standing) => standing,
            None => self.in_time(self.directory.standing(owner, project)).await.map_err(refuse)?,
        };
        known.may(standing, credentials, endpoint, facts).map_err(refuse)
    }

    /// The same without waiting; `None` if a store must be asked.
    pub(crate) fn verify_warm<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl FnOnce() -> Facts<'f>,
    ) -> Option<Result<Principal, AuthError>> {
        self.try_warm(credentials, endpoint, facts)
            .map_err(|refusal| self.refuse(refusal, credentials))
            .transpose()
    }

    fn try_warm<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl FnOnce() -> Facts<'f>,
    ) -> Result<Option<Principal>, Refusal> {
        let candidate = self.candidate(credentials)?;
        let Some(found) = self.keys.warm(&candidate.digest) else { return Ok(None) };
        let known = self.known(found, &candidate, credentials)?;
        let (owner, project) = known.asks_about();
        let Some(standing) = self.directory.warm(owner, project) else { return Ok(None) };
        known.may(standing, credentials, endpoint, facts).map(Some)
    }

    /// Questions 1: asks no store.
    fn candidate(&self, credentials: &Credentials<'_>) -> Result<Candidate, Refusal> {
        if credentials.scheme().is_some_and(|scheme| self.is_over(scheme)) {
            return Err(AuthErrorKind::SchemeEnded.into());
        }
        let text = credentials.key();
        let environment = self.format.environment_of(text);
        let foreign = self.accept_foreign_keys && (1..=MAX_KEY_LEN).contains(&text.len());
        if environment.is_none() && !foreign {
            return Err(AuthErrorKind::MalformedKey.into());
        }
        Ok(Candidate { digest: KeyDigest::of(text), environment })
    }

    /// Questions 2 and 3, as far as the key goes.
    fn known(
        &self,
        found: Option<Arc<KeyRecord>>,
        candidate: &Candidate,
        credentials: &Credentials<'_>,
    ) -> Result<Known, Refusal> {
        // The store compared the digests; this is the second line, for stores whose comparison is not exact.
        let key =
            found.filter(|key| key.digest.matches(&candidate.digest)).ok_or(AuthErrorKind::UnknownKey)?;
        // The text's environment is part of the digest, so they can differ only if the record was tampered with.
        if candidate.environment.is_some_and(|environment| environment != key.environment) {
            return Err(StoreError::Corrupt("the environment of a key differs from its text").into());
        }
        if key.revoked_at.is_some() {
            return Err(AuthErrorKind::RevokedKey.into());
        }
        if key.expires_at.is_some_and(|end| self.clock.now() >= end) {
            return Err(AuthErrorKind::ExpiredKey.into());
        }
        if self.environment.is_some_and(|environment| environment != key.environment) {
            return Err(AuthErrorKind::WrongEnvironment.into());
        }
        let project = selected_project(&key.level, credentials.project());
        Ok(Known { key, project })
    }

    /// Whether a scheme's sunset is over.
    pub(crate) fn is_over(&self, scheme: &SchemeInfo) -> bool {
        scheme.deprecation().is_some_and(|deprecation| deprecation.is_over(self.clock.now()))
    }

    async fn in_time<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refusal> {
        Ok(in_time(self.store_deadline, question).await?)
    }

    fn refuse(&self, refusal: Refusal, credentials: &Credentials<'_>) -> AuthError {
        let error = AuthError::new(refusal.kind, credentials.scheme());
        match refusal.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// The project that a request is about. What is wrong with it is said later, after the owner was looked at.
fn selected_project(level: &KeyLevel, claim: &Claim<'_>) -> Result<Option<ProjectId>, AuthErrorKind> {
    let own = level.project();
    let Claim::Named(text) = claim else { return Ok(own.cloned()) };
    match own {
        Some(own) if own.as_str() == text => Ok(Some(own.clone())),
        Some(_) if crate::key::is_id(text) => Err(AuthErrorKind::ProjectMismatch),
        _ => ProjectId::new(text).map(Some).map_err(|_| AuthErrorKind::InvalidProject),
    }
}

impl Known {
    fn asks_about(&self) -> (&crate::key::UserId, Option<&ProjectId>) {
        (&self.key.owner, self.project.as_ref().ok().and_then(Option::as_ref))
    }

    /// Questions 3, as far as the owner goes, to 7.
    fn may<'f>(
        self,
        standing: Standing,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl FnOnce() -> Facts<'f>,
    ) -> Result<Principal, Refusal> {
        let Standing::Active { role } = standing else { return Err(AuthErrorKind::OwnerDisabled.into()) };
        let is_owner = match credentials.user() {
            Claim::NotAsked => true,
            Claim::Missing => false,
            Claim::Named(user) => user == self.key.owner.as_str(),
        };
        if !is_owner {
            return Err(AuthErrorKind::UserMismatch.into());
        }
        let restrictions = &self.key.restrictions;
        let verdict = if restrictions.is_none() { Verdict::default() } else { restrictions.judge(&facts()) };
        if !verdict.is_allowed() {
            return Err(Refusal { kind: AuthErrorKind::Restricted, source: Some(Box::new(verdict)) });
        }
        let project = self.project?;
        let scheme_wants_project = credentials.scheme().is_some_and(|scheme| scheme.needs_project());
        if project.is_none() && scheme_wants_project && !endpoint.project_optional {
            return Err(AuthErrorKind::ProjectRequired.into());
        }
        let role = role.ok_or(AuthErrorKind::Forbidden)?;
        if !role.allows(endpoint.class) {
            return Err(AuthErrorKind::ReadOnly.into());
        }
        let project_level = self.key.level != KeyLevel::User;
        if project_level && endpoint.class == AccessClass::Manage {
            return Err(AuthErrorKind::Forbidden.into());
        }
        // A key for one project decides nothing about the account, not even its owner's.
        let role = if project_level { role.min(Role::Full) } else { role };
        Ok(Principal::verified(self.key, project, role, verdict, credentials.scheme().cloned()))
    }
}

/// A refusal before it knows its scheme.
struct Refusal {
    kind: AuthErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl From<AuthErrorKind> for Refusal {
    fn from(kind: AuthErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<StoreError> for Refusal {
    fn from(source: StoreError) -> Self {
        let kind = match source {
            StoreError::Timeout => AuthErrorKind::StoreTimeout,
            _ => AuthErrorKind::StoreFailed,
        };
        Self { kind, source: Some(Box::new(source)) }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("format", &self.format)
            .field("accept_foreign_keys", &self.accept_foreign_keys)
            .field("store_deadline", &self.store_deadline)
            .finish_non_exhaustive()
    }
}
