//! The decision about one request: the checks in their order, without input or output.
//!
//! Each step consumes the result of the previous one, so that no step can be skipped or reordered:
//!
//! ```text
//! Case::open -> Lookup -> Known -> Entitled -> Admission
//!     offline    the store's      the account    the rate
//!                records          status         limit
//! ```
//!
//! A [driver](super::drive) supplies what a step needs to know. A [`CheckListener`] receives the results: for requests
//! it stops at the first refusal, for explanations it goes on.

use std::sync::Arc;

use super::check_name::Check;
use super::config::Rules;
use super::evidence::Principal;
use super::lookup::{Found, Lookup, Outdated};
use super::refusal::Refusal;
use crate::auth_error::{AuthErrorKind, Wait};
use crate::credentials::{Claim, Claims};
use crate::endpoint::Endpoint;
use crate::key::{Environment, KeyId, ProjectId, UserId, can_be_key};
use crate::limit::{Limits, RateLimitStatus};
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{RequestContext, RestrictionKind, Verdict};
use crate::role::{AccessClass, AccountStatus, Role};
use crate::scheme_info::SchemeInfo;
use crate::store::StoreError;

/// Receives the results of the checks, and says whether to go on. The checks do not know their listener.
pub(crate) trait CheckListener {
    /// Why the remaining checks are skipped.
    type Stop;

    /// Receives a result that the later checks do not need.
    fn hear<E: Into<Refusal>>(&mut self, check: Check, answer: Result<(), E>) -> Result<(), Self::Stop>;

    /// Receives a result without which no later check can be made.
    fn need<T, E: Into<Refusal>>(&mut self, check: Check, answer: Result<T, E>) -> Result<T, Self::Stop>;

    /// Adds the key to a stop, once it is known.
    fn about(stop: Self::Stop, key: Arc<KeyRecord>) -> Self::Stop;
}

/// The listener for requests: the first refusal is the answer.
pub(super) struct FirstRefusal;

impl CheckListener for FirstRefusal {
    type Stop = Refusal;

    #[inline(always)]
    fn hear<E: Into<Refusal>>(&mut self, _: Check, answer: Result<(), E>) -> Result<(), Refusal> {
        answer.map_err(Into::into)
    }

    #[inline(always)]
    fn need<T, E: Into<Refusal>>(&mut self, _: Check, answer: Result<T, E>) -> Result<T, Refusal> {
        answer.map_err(Into::into)
    }

    fn about(refusal: Refusal, key: Arc<KeyRecord>) -> Refusal {
        refusal.of(key)
    }
}

#[inline(always)]
fn refuse_if(wrong: bool, kind: AuthErrorKind) -> Result<(), AuthErrorKind> {
    if wrong { Err(kind) } else { Ok(()) }
}

/// A request: what it claims, what it needs, and what is known about it.
pub(super) struct Case<'c, F> {
    pub(super) rules: &'c Rules,
    pub(super) claims: &'c Claims<'c>,
    pub(super) endpoint: Endpoint,
    /// Computed only for keys with restrictions, and for the throttle.
    pub(super) facts: F,
}

/// A key that exists, is in force and is of the environment in its text. Its owner has not been checked yet.
pub(super) struct Known {
    pub(super) key: Arc<KeyRecord>,
    /// The project that the request is about. An error in it is reported only after the owner has been checked.
    project: Result<Option<ProjectId>, AuthErrorKind>,
    outdated: Option<Box<Outdated>>,
}

/// A key whose owner may do what the request asks for. Its rate limits have not been checked yet.
pub(super) struct Entitled {
    known: Known,
    role: Role,
    verdict: Verdict,
}

/// A request that passed every check.
pub(crate) struct Admission {
    pub(crate) principal: Principal,
    /// Set if the key was found by a digest that is no longer the newest.
    pub(crate) outdated: Option<Box<Outdated>>,
}

impl<'f, F: Fn() -> RequestContext<'f>> Case<'_, F> {
    /// Makes checks 1, and computes the digests by which to look the key up. A text that cannot be a key causes no
    /// look-up.
    #[inline(always)]
    pub(super) fn open(&self, text: &str) -> Result<Lookup, Refusal> {
        let environment = self.rules.format.environment_of(text);
        let foreign = self.rules.accept_foreign_keys && environment.is_none() && can_be_key(text);
        self.offline(&mut FirstRefusal, environment, foreign)?;
        Ok(Lookup::new(self.rules.digests.newest().digest(text), environment))
    }

    /// Makes checks 1 for a text with these properties.
    #[inline(always)]
    pub(super) fn offline<L: CheckListener>(
        &self,
        listener: &mut L,
        environment: Option<Environment>,
        foreign: bool,
    ) -> Result<(), L::Stop> {
        let over = self.claims.scheme().is_some_and(|scheme| self.rules.is_over(scheme));
        listener.hear(Check::Sunset, refuse_if(over, AuthErrorKind::SchemeEnded))?;
        listener.hear(Check::Shape, refuse_if(environment.is_none() && !foreign, AuthErrorKind::MalformedKey))
    }

    /// Makes checks 3, and the part of checks 4 that is about the key. `said` is the environment in the key's text.
    #[inline(always)]
    pub(super) fn known<L: CheckListener>(
        &self,
        listener: &mut L,
        found: Option<Found>,
        said: Option<Environment>,
    ) -> Result<Known, L::Stop> {
        let found = found.ok_or_else(|| self.unknown());
        let found = found.and_then(|found| as_it_says(found, said));
        let Found { key, outdated } = listener.need(Check::Known, found)?;
        if let Err(stop) = self.rules.in_force(listener, &key) {
            return Err(L::about(stop, key));
        }
        let project = selected_project(&key.level, self.claims.selected_project());
        Ok(Known { key, project, outdated })
    }

    /// The refusal of an unknown key. It reads the clock, as the check of expiry does for a known key, so that both
    /// take the same time (C7-02).
    #[cold]
    fn unknown(&self) -> Refusal {
        let _ = self.rules.clock.now();
        AuthErrorKind::UnknownKey.into()
    }

    /// Makes the part of checks 4 that is about the owner, and checks 5 to 8.
    #[inline(always)]
    pub(super) fn entitled(&self, known: Known, standing: AccountStatus) -> Result<Entitled, Refusal> {
        match self.rights(&mut FirstRefusal, &known, standing) {
            Ok((role, verdict)) => Ok(Entitled { known, role, verdict }),
            Err(refusal) => Err(refusal.of(known.key)),
        }
    }

    /// The same for any listener.
    #[inline(always)]
    pub(super) fn rights<L: CheckListener>(
        &self,
        listener: &mut L,
        known: &Known,
        standing: AccountStatus,
    ) -> Result<(Role, Verdict), L::Stop> {
        let key = &*known.key;
        let role = match standing {
            AccountStatus::Active { role } => Ok(role),
            AccountStatus::Disabled => Err(AuthErrorKind::OwnerDisabled),
        };
        let role = listener.need(Check::Owner, role)?;
        let verdict = match self.claims.scheme() {
            _ if key.restrictions.is_none() => Verdict::default(),
            Some(scheme) => key.restrictions.judge(&(self.facts)().scheme(scheme.name())),
            None => key.restrictions.judge(&(self.facts)()),
        };
        // Through another scheme the key counts as unknown, so the refusal says nothing about its owner.
        let unbound = verdict.refuses(RestrictionKind::Scheme);
        listener.hear(
            Check::Restriction(RestrictionKind::Scheme),
            refuse_if(unbound, AuthErrorKind::SchemeNotAllowed),
        )?;
        let is_owner = match self.claims.claimed_user() {
            Claim::NotAsked => true,
            Claim::Missing => false,
            Claim::Named(user) => user == key.owner.as_str(),
        };
        listener.hear(Check::User, refuse_if(!is_owner, AuthErrorKind::UserMismatch))?;
        for kind in [RestrictionKind::Ip, RestrictionKind::Referrer, RestrictionKind::Endpoint] {
            let answer = if verdict.refuses(kind) { Err(verdict) } else { Ok(()) };
            listener.hear(Check::Restriction(kind), answer)?;
        }
        let wants_project = self.claims.scheme().is_some_and(SchemeInfo::needs_project);
        let project = match &known.project {
            Ok(None) if wants_project && !self.endpoint.project_optional => {
                Err(AuthErrorKind::ProjectRequired)
            }
            Ok(_) => Ok(()),
            Err(kind) => Err(*kind),
        };
        listener.need(Check::Project, project)?;
        let role = listener.need(Check::Access, role.ok_or(AuthErrorKind::Forbidden))?;
        listener.hear(Check::Role, refuse_if(!role.allows(self.endpoint.class), AuthErrorKind::ReadOnly))?;
        let project_level = key.level != KeyLevel::User;
        let manages = self.endpoint.class == AccessClass::Manage;
        listener.hear(Check::Level, refuse_if(project_level && manages, AuthErrorKind::Forbidden))?;
        // A project-level key cannot manage the account, not even the account owner's.
        Ok((if project_level { role.min(Role::Full) } else { role }, verdict))
    }

    /// Makes check 9, in which `take` counts the request. It is the last check, so that a request that another
    /// check refuses is not counted.
    #[inline(always)]
    pub(super) fn admit(
        &self,
        entitled: Entitled,
        take: impl FnOnce(&KeyId, &Limits) -> Arc<RateLimitStatus>,
    ) -> Result<Admission, Refusal> {
        let Entitled { known, role, verdict } = entitled;
        let tally = match &known.key.limits {
            None => None,
            Some(limits) => match take(&known.key.family, limits) {
                tally if tally.is_allowed() => Some(tally),
                tally => return Err(Refusal::from(Wait::Limit(tally)).of(known.key)),
            },
        };
        let Known { key, project, outdated } = known;
        let scheme = self.claims.scheme().cloned();
        let principal = Principal::verified(key, project?, role, verdict, scheme).counted(tally);
        Ok(Admission { principal, outdated })
    }
}

impl Rules {
    /// Whether a known key is in force.
    #[inline(always)]
    pub(super) fn in_force<L: CheckListener>(
        &self,
        listener: &mut L,
        key: &KeyRecord,
    ) -> Result<(), L::Stop> {
        listener.hear(Check::Revocation, refuse_if(key.revoked_at.is_some(), AuthErrorKind::RevokedKey))?;
        let expired = key.expires_at.is_some_and(|end| self.clock.now() >= end);
        listener.hear(Check::Expiry, refuse_if(expired, AuthErrorKind::ExpiredKey))?;
        let other = self.environment.is_some_and(|environment| environment != key.environment);
        listener.hear(Check::Environment, refuse_if(other, AuthErrorKind::WrongEnvironment))
    }
}

impl Known {
    /// What the directory must be asked: the owner, and the selected project if there is one.
    #[inline(always)]
    pub(super) fn owner(&self) -> (&UserId, Option<&ProjectId>) {
        (&self.key.owner, self.project.as_ref().ok().and_then(Option::as_ref))
    }
}

/// Returns the key if its environment is the one that its text `said`.
#[inline(always)]
fn as_it_says(found: Found, said: Option<Environment>) -> Result<Found, Refusal> {
    // The environment is part of the digested text, so they can differ only if the record was tampered with.
    if said.is_some_and(|environment| environment != found.key.environment) {
        return Err(torn(found.key));
    }
    Ok(found)
}

#[cold]
fn torn(key: Arc<KeyRecord>) -> Refusal {
    let torn = StoreError::corrupt("its environment differs from its text").of_key(&key.id);
    Refusal::from(torn).of(key)
}

#[inline(always)]
fn selected_project(level: &KeyLevel, claim: &Claim<'_>) -> Result<Option<ProjectId>, AuthErrorKind> {
    let own = level.project();
    let Claim::Named(text) = claim else { return Ok(own.cloned()) };
    match own {
        Some(own) if own.as_str() == text => Ok(Some(own.clone())),
        Some(_) if crate::key::is_id(text) => Err(AuthErrorKind::ProjectMismatch),
        _ => ProjectId::new(text).map(Some).map_err(|_| AuthErrorKind::InvalidProject),
    }
}
