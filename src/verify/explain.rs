//! The same questions about a request that somebody describes, asked to the end.

use std::sync::Arc;

use super::details::Scene;
use super::explanation::{Explanation, Finding, Outcome};
use super::lookup::Found;
use super::questions::{Judge, Known};
use super::refusal::Refusal;
use super::{Check, Verifier};
use crate::access::Standing;
use crate::credentials::Claims;
use crate::endpoint::Endpoint;
use crate::error::{AuthError, AuthErrorKind};
use crate::limit::{Braked, Tally};
use crate::record::KeyRecord;
use crate::restriction::Facts;

impl Verifier {
    /// What [`verify_with`](Self::verify_with) would answer to a request with this key, and every check by which it
    /// comes to that (what support needs when somebody says "403"). The key's text is not needed: its record will do, as
    /// [`Keyring::get`](crate::keyring::Keyring::get) finds it by its id.
    ///
    /// It asks the same questions of the same stores in the same order, to the end, and changes nothing: nothing is
    /// counted against the key's limits, and no failure for the [throttle](Self::throttle).
    ///
    /// Taken for granted is that the client sends the whole and right text of the key. Behind a layer, ask
    /// [`ApiKeyAuth::explainer`](crate::ApiKeyAuth::explainer), which knows what the endpoint asks for.
    ///
    /// Must run in a tokio runtime with its timer on, unless the stores answer [`warm`](crate::KeyStore::warm).
    pub async fn explain(
        &self,
        key: &KeyRecord,
        claims: &Claims<'_>,
        endpoint: Endpoint,
        facts: &Facts<'_>,
    ) -> Explanation {
        let facts = &claims.scheme().map_or(*facts, |scheme| facts.scheme(scheme.name()));
        let mut notes = Notes::default();
        // Where it stops is in the notes.
        let _ = self.walk(&mut notes, key, claims, endpoint, facts).await;
        self.brake_if_failed(&mut notes, key, facts);
        let scene = Scene {
            verifier: self,
            key: notes.key.as_deref().unwrap_or(key),
            claims,
            endpoint,
            facts,
            notes: &notes,
        };
        let finding = |check| Finding { check, outcome: scene.outcome(check), detail: scene.detail(check) };
        let findings: Vec<Finding> = Check::ALL.into_iter().map(finding).collect();
        let refused = findings.iter().find_map(|finding| match finding.outcome {
            Outcome::Refused(kind) => Some(kind),
            _ => None,
        });
        Explanation {
            key: key.id.clone(),
            owner: key.owner.clone(),
            error: refused.map(|kind| AuthError::new(kind, claims.scheme())),
            findings,
            optional: false,
        }
    }

    /// What `verify_by` does, but for the text, which nobody has.
    async fn walk(
        &self,
        notes: &mut Notes,
        key: &KeyRecord,
        claims: &Claims<'_>,
        endpoint: Endpoint,
        facts: &Facts<'_>,
    ) -> Result<(), Stopped> {
        let facts = || *facts;
        let ours = self.format.prefix(key.environment) == key.prefix;
        let environment = ours.then_some(key.environment);
        self.offline(notes, claims, environment, self.accept_foreign_keys)?;
        // The text would lead to this one of its digests, if the ring has it at all.
        let found = match self.keys.warm(&key.digest) {
            Some(found) => {
                notes.hear::<Refusal>(Check::Throttle, Ok(()))?;
                Ok(found)
            }
            None => {
                notes.hear(Check::Throttle, self.brake(&key.digest, &facts).map(drop))?;
                self.in_time(self.keys.find(&key.digest)).await
            }
        };
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return notes.need(Check::Known, Err(refusal)),
        };
        let is_it = |found: &Arc<KeyRecord>| {
            found.digest.matches(&key.digest) && self.digests.knows(found.digested_by.kind())
        };
        let known = self.known(notes, found.filter(is_it).map(Found::by_newest), environment, claims)?;
        notes.key = Some(Arc::clone(&known.key));
        let (owner, project) = known.asks_about();
        let standing = match self.directory.warm(owner, project) {
            Some(standing) => Ok(standing),
            None => self.in_time(self.directory.standing(owner, project)).await,
        };
        let rights = match standing {
            Ok(standing) => {
                notes.standing = Some(standing);
                known.rights(notes, standing, claims, endpoint, &facts).map(drop)
            }
            Err(refusal) => notes.need(Check::Owner, Err(refusal)),
        };
        // Known whatever the owner may do.
        self.limits(notes, &known)?;
        rights
    }

    /// Counted is by the newest digest of a text. Nobody has it here, and the one that the key is found by is the newest, or
    /// will be when [it is renewed](Self::renew_digests).
    pub(super) fn braked(&self, key: &KeyRecord, facts: &Facts<'_>) -> Option<Braked> {
        self.throttle.as_ref()?.braked(facts.client()?, &key.digest, self.clock.now())
    }

    fn limits(&self, notes: &mut Notes, known: &Known) -> Result<(), Stopped> {
        let Some(limits) = &known.key.limits else { return notes.hear::<Refusal>(Check::Limits, Ok(())) };
        let tally = self.limiter.peek(&known.key.family, limits, self.clock.now());
        let allowed = tally.is_allowed();
        notes.tally = Some(tally);
        let refusal = AuthErrorKind::RateLimited;
        notes.hear(Check::Limits, if allowed { Ok(()) } else { Err(refusal) })
    }

    /// What `failed` does: of a key that was at hand, or was accepted lately, the brake is asked only when it fails.
    fn brake_if_failed(&self, notes: &mut Notes, key: &KeyRecord, facts: &Facts<'_>) {
        let first = notes.heard.iter().find_map(|(_, refused)| *refused);
        if first.is_some_and(super::often::counts) && self.braked(key, facts).is_some() {
            for (check, refused) in &mut notes.heard {
                if *check == Check::Throttle {
                    *refused = Some(AuthErrorKind::RateLimited);
                }
            }
        }
    }
}

/// Hears all, and stops only where nothing more can be asked.
#[derive(Default)]
pub(super) struct Notes {
    heard: Vec<(Check, Option<AuthErrorKind>)>,
    /// What a store that failed said of itself.
    pub(super) failure: Option<String>,
    key: Option<Arc<KeyRecord>>,
    pub(super) standing: Option<Standing>,
    pub(super) tally: Option<Tally>,
}

impl Notes {
    /// What was heard of a check: nothing, or whether it refuses.
    pub(super) fn of(&self, check: Check) -> Option<Option<AuthErrorKind>> {
        self.heard.iter().find(|(heard, _)| *heard == check).map(|(_, refused)| *refused)
    }
}

/// Nothing more can be asked.
pub(super) struct Stopped;

impl Judge for Notes {
    type Stop = Stopped;

    fn hear<E: Into<Refusal>>(&mut self, check: Check, answer: Result<(), E>) -> Result<(), Stopped> {
        // What was heard is noted, and it goes on.
        let _ = self.need(check, answer);
        Ok(())
    }

    fn need<T, E: Into<Refusal>>(&mut self, check: Check, answer: Result<T, E>) -> Result<T, Stopped> {
        let answer = answer.map_err(Into::into);
        let refused = answer.as_ref().err().map(|refusal: &Refusal| refusal.kind);
        self.heard.push((check, refused));
        answer.map_err(|refusal| {
            if matches!(refusal.kind, AuthErrorKind::StoreFailed | AuthErrorKind::StoreTimeout) {
                self.failure = refusal.source.map(|source| source.to_string());
            }
            Stopped
        })
    }

    fn refuses(&mut self, _: &Verifier, _: &KeyRecord) {}
}
