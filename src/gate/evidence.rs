//! [`Principal`]: evidence of who makes a request, not a claim.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::clock::Timestamp;
use crate::key::{Environment, KeyId, ProjectId, UserId};
use crate::limit::{Limits, RateLimitStatus};
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{RestrictionKind, Restrictions, Verdict};
use crate::role::Role;
use crate::scheme_info::SchemeInfo;

/// Who makes a request, and what they may do: evidence that a key was verified.
///
/// Only [`Verifier::verify`](crate::Verifier::verify) makes one (and `test_util`, for tests of handlers). It shows the
/// effective rights, those of the key limited by those of its owner at the time of the request. Cloning is cheap.
#[derive(Clone)]
pub struct Principal {
    key: Arc<KeyRecord>,
    project: Option<ProjectId>,
    role: Role,
    verdict: Verdict,
    scheme: Option<SchemeInfo>,
    tally: Option<Arc<RateLimitStatus>>,
}

impl Principal {
    /// The only constructor. `checks.rs` calls it after the last check.
    pub(super) fn verified(
        key: Arc<KeyRecord>,
        project: Option<ProjectId>,
        role: Role,
        verdict: Verdict,
        scheme: Option<SchemeInfo>,
    ) -> Self {
        Self { key, project, role, verdict, scheme, tally: None }
    }

    /// For tests of handlers: no key was verified.
    #[cfg(feature = "test-util")]
    pub(crate) fn of_a_test(
        key: Arc<KeyRecord>,
        project: Option<ProjectId>,
        role: Role,
        scheme: Option<SchemeInfo>,
    ) -> Self {
        Self::verified(key, project, role, Verdict::default(), scheme)
    }

    /// Adds the state of the key's rate limits.
    pub(super) fn counted(self, tally: Option<Arc<RateLimitStatus>>) -> Self {
        Self { tally, ..self }
    }

    /// The id of the key. Use it in logs.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key.id
    }

    /// The name that the owner gave the key.
    #[must_use]
    pub fn key_name(&self) -> &str {
        &self.key.name
    }

    /// The owner of the key.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.key.owner
    }

    /// Whether the key is for everything its owner may do, or for one project.
    #[must_use]
    pub fn level(&self) -> &KeyLevel {
        &self.key.level
    }

    /// The project that this request is about: the one it named, or the key's; `None` if neither.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectId> {
        self.project.as_ref()
    }

    /// What the request may do in [`project`](Self::project), or in the account if there is none. A project-level
    /// key is at most [`Role::Full`], even if its owner owns the account.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Live or test.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.key.environment
    }

    /// The name of the scheme through which the key was sent; `None` if it did not come in a request.
    #[must_use]
    pub fn scheme(&self) -> Option<&'static str> {
        self.scheme.as_ref().map(SchemeInfo::name)
    }

    /// All scopes of the key.
    #[must_use]
    pub fn scopes(&self) -> &BTreeSet<String> {
        &self.key.scopes
    }

    /// Whether the key has this scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.key.scopes.contains(scope)
    }

    /// What the application stored with the key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.key.metadata
    }

    /// When the key expires; `None` if never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.key.expires_at
    }

    /// The restrictions of the key in [observe mode](crate::restriction::Mode::Observe) that would have refused
    /// this request.
    pub fn observed(&self) -> impl Iterator<Item = RestrictionKind> + use<> {
        self.verdict.observed()
    }

    /// The state of the key's most restrictive rate limit; `None` for a key without limits.
    #[must_use]
    pub fn rate_limit(&self) -> Option<&RateLimitStatus> {
        self.tally.as_deref()
    }

    /// The limits of the key.
    #[must_use]
    pub fn limits(&self) -> Option<&Limits> {
        self.key.limits.as_ref()
    }

    /// The restrictions of the key (R56). The enforced ones allow this request.
    #[must_use]
    pub fn restrictions(&self) -> &Restrictions {
        &self.key.restrictions
    }

    /// Makes a refusal for a handler which finds that this principal may not do what the request asks: 403
    /// `forbidden`, with the message of the scheme that was used. An axum handler returns it, and the layer renders
    /// it like its own.
    ///
    /// ```
    /// use tower_api_key::{AuthError, Principal};
    ///
    /// fn only_their_own(who: &Principal, user: &str) -> Result<(), AuthError> {
    ///     if who.user_id().as_str() == user { Ok(()) } else { Err(who.forbidden()) }
    /// }
    /// ```
    #[must_use]
    pub fn forbidden(&self) -> AuthError {
        self.refuse(AuthErrorKind::Forbidden)
    }

    /// Makes a refusal of any kind, with the message of the scheme that was used, for your own routes that refuse
    /// for one of the layer's reasons. [`forbidden`](Self::forbidden) is the usual one.
    ///
    /// ```
    /// use tower_api_key::{AuthError, AuthErrorKind, Principal, Role};
    ///
    /// fn only_owners(who: &Principal) -> Result<(), AuthError> {
    ///     if who.role() == Role::Owner { Ok(()) } else { Err(who.refuse(AuthErrorKind::ReadOnly)) }
    /// }
    /// ```
    #[must_use]
    pub fn refuse(&self, kind: AuthErrorKind) -> AuthError {
        let about = (self.key.id.clone(), self.key.environment);
        AuthError::new(kind, self.scheme.as_ref()).with_about(about)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The record of the key, for observers and response headers.
    pub(crate) fn record(&self) -> &KeyRecord {
        &self.key
    }

    pub(crate) fn scheme_info(&self) -> Option<&SchemeInfo> {
        self.scheme.as_ref()
    }

    pub(crate) fn tally(&self) -> Option<&Arc<RateLimitStatus>> {
        self.tally.as_ref()
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("key_id", &self.key.id)
            .field("user_id", &self.key.owner)
            .field("level", &self.key.level)
            .field("project", &self.project)
            .field("role", &self.role)
            .field("environment", &self.key.environment)
            .field("scheme", &self.scheme())
            .finish_non_exhaustive()
    }
}
