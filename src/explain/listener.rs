//! Hears every check of a request that somebody describes, and puts it in words.

use std::sync::Arc;

use super::details::Scene;
use super::explanation::{Explanation, Finding, Outcome};
use crate::credentials::Claims;
use crate::endpoint::Endpoint;
use crate::error::{AuthError, AuthErrorKind};
use crate::gate::{Check, Gate, Listener, Refusal, counts};
use crate::limit::Braked;
use crate::record::KeyRecord;
use crate::restriction::Facts;
use crate::verifier::Verifier;

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
        let mut heard = Heard::default();
        let explained = self.gate.explaining(&mut heard, key, claims, endpoint, facts).await;
        self.throttled_if_failed(&mut heard, key, facts);
        let scene = Scene {
            gate: &self.gate,
            key: explained.key.as_deref().unwrap_or(key),
            claims,
            endpoint,
            facts,
            standing: explained.standing,
            tally: explained.tally.as_ref(),
            heard: &heard,
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

    /// What the gate does when a check fails: of a key that was at hand, or was accepted lately, the throttle is asked only
    /// then.
    fn throttled_if_failed(&self, heard: &mut Heard, key: &KeyRecord, facts: &Facts<'_>) {
        let first = heard.heard.iter().find_map(|(_, refused)| *refused);
        if first.is_some_and(counts) && throttled(&self.gate, key, facts).is_some() {
            for (check, refused) in &mut heard.heard {
                if *check == Check::Throttle {
                    *refused = Some(AuthErrorKind::RateLimited);
                }
            }
        }
    }
}

/// Counted is by the newest digest of a text. Nobody has it here, and the one that the key is found by is the newest, or
/// will be when [it is renewed](Verifier::renew_digests).
pub(super) fn throttled(gate: &Gate, key: &KeyRecord, facts: &Facts<'_>) -> Option<Braked> {
    gate.throttle.as_ref()?.braked(facts.client()?, &key.digest, gate.rules.clock.now())
}

/// Hears all, and stops only where nothing more can be asked.
#[derive(Default)]
pub(super) struct Heard {
    heard: Vec<(Check, Option<AuthErrorKind>)>,
    /// What a store that failed said of itself.
    pub(super) failure: Option<String>,
}

impl Heard {
    /// What was heard of a check: nothing, or whether it refuses.
    pub(super) fn of(&self, check: Check) -> Option<Option<AuthErrorKind>> {
        self.heard.iter().find(|(heard, _)| *heard == check).map(|(_, refused)| *refused)
    }
}

/// Nothing more can be asked.
pub(super) struct Stopped;

impl Listener for Heard {
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

    fn about(stopped: Stopped, _: Arc<KeyRecord>) -> Stopped {
        stopped
    }
}
