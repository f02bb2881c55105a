//! The questions in their order, for whoever hears the answers: [`Strict`] for requests, and explanations.

use std::sync::Arc;

use super::lookup::Found;
use super::refusal::Refusal;
use super::renew::Outdated;
use super::{Check, Verifier};
use crate::access::{AccessClass, Role, Standing};
use crate::credentials::{Claim, Claims, Credentials};
use crate::description::SchemeInfo;
use crate::endpoint::Endpoint;
use crate::error::AuthErrorKind;
use crate::key::{Environment, KeyDigest, ProjectId, UserId, can_be_key};
use crate::principal::Principal;
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{Facts, RestrictionKind, Verdict};
use crate::store::StoreError;

/// Who hears the answers, and says whether to go on. Who asks does not know for whom: there is one order.
pub(super) trait Judge {
    /// Why the rest is not asked.
    type Stop;

    /// An answer that those after it do without.
    fn hear<E: Into<Refusal>>(&mut self, check: Check, answer: Result<(), E>) -> Result<(), Self::Stop>;

    /// An answer without which nothing after it can be asked.
    fn need<T, E: Into<Refusal>>(&mut self, check: Check, answer: Result<T, E>) -> Result<T, Self::Stop>;

    /// A key that is not in force was sent.
    fn refuses(&mut self, verifier: &Verifier, key: &KeyRecord);
}

/// The first failing question answers.
pub(super) struct Strict;

impl Judge for Strict {
    type Stop = Refusal;

    #[inline(always)]
    fn hear<E: Into<Refusal>>(&mut self, _: Check, answer: Result<(), E>) -> Result<(), Refusal> {
        answer.map_err(Into::into)
    }

    #[inline(always)]
    fn need<T, E: Into<Refusal>>(&mut self, _: Check, answer: Result<T, E>) -> Result<T, Refusal> {
        answer.map_err(Into::into)
    }

    #[cold]
    fn refuses(&mut self, verifier: &Verifier, key: &KeyRecord) {
        verifier.has_ended(key);
    }
}

/// No, if something is so.
#[inline(always)]
fn refuse_if(wrong: bool, kind: AuthErrorKind) -> Result<(), AuthErrorKind> {
    if wrong { Err(kind) } else { Ok(()) }
}

/// A text that may be a key: what is left to ask the store.
pub(super) struct Candidate<'c> {
    pub(super) text: &'c str,
    /// The newest that it has.
    pub(super) digest: KeyDigest,
    /// What the text says; `None` for keys of a foreign shape, which say nothing.
    pub(super) environment: Option<Environment>,
}

/// A key that is known, active and of the environment it claims; its owner has not been looked at yet.
pub(super) struct Known {
    pub(super) key: Arc<KeyRecord>,
    /// The project that the request is about. What is wrong with it is said later, after the owner was looked at.
    project: Result<Option<ProjectId>, AuthErrorKind>,
    outdated: Option<Box<Outdated>>,
}

impl Verifier {
    /// Questions 1: asks no store.
    pub(super) fn candidate<'c>(&self, credentials: &'c Credentials<'_>) -> Result<Candidate<'c>, Refusal> {
        let text = credentials.key();
        let environment = self.format.environment_of(text);
        let foreign = self.accept_foreign_keys && environment.is_none() && can_be_key(text);
        self.offline(&mut Strict, credentials.claims(), environment, foreign)?;
        Ok(Candidate { text, digest: self.digests.newest().digest(text), environment })
    }

    /// Questions 1, about a text that says this.
    #[inline(always)]
    pub(super) fn offline<J: Judge>(
        &self,
        judge: &mut J,
        claims: &Claims<'_>,
        environment: Option<Environment>,
        foreign: bool,
    ) -> Result<(), J::Stop> {
        let over = claims.scheme().is_some_and(|scheme| self.is_over(scheme));
        judge.hear(Check::Sunset, refuse_if(over, AuthErrorKind::SchemeEnded))?;
        judge.hear(Check::Shape, refuse_if(environment.is_none() && !foreign, AuthErrorKind::MalformedKey))
    }

    /// Questions 3 and 4, as far as the key goes.
    #[inline(always)]
    pub(super) fn known<J: Judge>(
        &self,
        judge: &mut J,
        found: Option<Found>,
        said: Option<Environment>,
        claims: &Claims<'_>,
    ) -> Result<Known, J::Stop> {
        let found = found.ok_or_else(|| self.unknown());
        let found = found.and_then(|found| as_it_says(found, said));
        let Found { key, outdated } = judge.need(Check::Known, found)?;
        self.in_force(judge, &key).inspect_err(|_| judge.refuses(self, &key))?;
        let project = selected_project(&key.level, claims.selected_project());
        Ok(Known { key, project, outdated })
    }

    /// A key that has expired is compared with the time. So that an unknown one takes as long to refuse, the clock is read for
    /// it, too (C7-02).
    #[cold]
    fn unknown(&self) -> Refusal {
        let _ = self.clock.now();
        AuthErrorKind::UnknownKey.into()
    }

    #[inline(always)]
    pub(super) fn in_force<J: Judge>(&self, judge: &mut J, key: &KeyRecord) -> Result<(), J::Stop> {
        judge.hear(Check::Revocation, refuse_if(key.revoked_at.is_some(), AuthErrorKind::RevokedKey))?;
        let expired = key.expires_at.is_some_and(|end| self.clock.now() >= end);
        judge.hear(Check::Expiry, refuse_if(expired, AuthErrorKind::ExpiredKey))?;
        let other = self.environment.is_some_and(|environment| environment != key.environment);
        judge.hear(Check::Environment, refuse_if(other, AuthErrorKind::WrongEnvironment))
    }

    /// Whether a scheme's sunset is over.
    pub(crate) fn is_over(&self, scheme: &SchemeInfo) -> bool {
        scheme.deprecation().is_some_and(|deprecation| deprecation.is_over(self.clock.now()))
    }
}

/// The key, if it is of the environment that its text `said`.
#[inline]
fn as_it_says(found: Found, said: Option<Environment>) -> Result<Found, Refusal> {
    // The text's environment is part of the digest, so they can differ only if the record was tampered with.
    if said.is_some_and(|environment| environment != found.key.environment) {
        let torn = StoreError::corrupt("its environment differs from its text");
        return Err(torn.of_key(&found.key.id).into());
    }
    Ok(found)
}

#[inline]
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
    pub(super) fn asks_about(&self) -> (&UserId, Option<&ProjectId>) {
        (&self.key.owner, self.project.as_ref().ok().and_then(Option::as_ref))
    }

    /// Questions 4, as far as the owner goes, to 9.
    pub(super) fn may<'f>(
        self,
        verifier: &Verifier,
        standing: Standing,
        claims: &Claims<'_>,
        endpoint: Endpoint,
        facts: &impl Fn() -> Facts<'f>,
    ) -> Result<Principal, Refusal> {
        let (role, verdict) = self.rights(&mut Strict, standing, claims, endpoint, facts)?;
        // Last: a request that is refused for anything else is not counted.
        let tally = match &self.key.limits {
            None => None,
            Some(limits) => Some(verifier.count(&self.key.family, limits)?),
        };
        let project = self.project?;
        if let Some(outdated) = self.outdated {
            verifier.renew(&self.key, *outdated);
        }
        let scheme = claims.scheme().cloned();
        Ok(Principal::verified(self.key, project, role, verdict, scheme).counted(tally))
    }

    /// Questions 4, as far as the owner goes, to 8.
    #[inline(always)]
    pub(super) fn rights<'f, J: Judge>(
        &self,
        judge: &mut J,
        standing: Standing,
        claims: &Claims<'_>,
        endpoint: Endpoint,
        facts: &impl Fn() -> Facts<'f>,
    ) -> Result<(Role, Verdict), J::Stop> {
        let role = judge.need(
            Check::Owner,
            match standing {
                Standing::Active { role } => Ok(role),
                Standing::Disabled => Err(AuthErrorKind::OwnerDisabled),
            },
        )?;
        let restrictions = &self.key.restrictions;
        let verdict = match claims.scheme() {
            _ if restrictions.is_none() => Verdict::default(),
            Some(scheme) => restrictions.judge(&facts().scheme(scheme.name())),
            None => restrictions.judge(&facts()),
        };
        // Through another scheme it is no key, and says nothing of its owner.
        let unbound = verdict.refuses(RestrictionKind::Scheme);
        judge.hear(
            Check::Restriction(RestrictionKind::Scheme),
            refuse_if(unbound, AuthErrorKind::SchemeNotAllowed),
        )?;
        let is_owner = match claims.claimed_user() {
            Claim::NotAsked => true,
            Claim::Missing => false,
            Claim::Named(user) => user == self.key.owner.as_str(),
        };
        judge.hear(Check::User, refuse_if(!is_owner, AuthErrorKind::UserMismatch))?;
        for kind in [RestrictionKind::Ip, RestrictionKind::Referrer, RestrictionKind::Endpoint] {
            let answer = if verdict.refuses(kind) { Err(verdict) } else { Ok(()) };
            judge.hear(Check::Restriction(kind), answer)?;
        }
        let wants_project = claims.scheme().is_some_and(SchemeInfo::needs_project);
        let project = match &self.project {
            Ok(None) if wants_project && !endpoint.project_optional => Err(AuthErrorKind::ProjectRequired),
            Ok(_) => Ok(()),
            Err(kind) => Err(*kind),
        };
        judge.need(Check::Project, project)?;
        let role = judge.need(Check::Access, role.ok_or(AuthErrorKind::Forbidden))?;
        judge.hear(Check::Role, refuse_if(!role.allows(endpoint.class), AuthErrorKind::ReadOnly))?;
        let project_level = self.key.level != KeyLevel::User;
        let manages = endpoint.class == AccessClass::Manage;
        judge.hear(Check::Level, refuse_if(project_level && manages, AuthErrorKind::Forbidden))?;
        // A key for one project decides nothing about the account, not even its owner's.
        Ok((if project_level { role.min(Role::Full) } else { role }, verdict))
    }
}
