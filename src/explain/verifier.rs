//! [`Verifier::explain`]: runs every check and describes the results.

use super::details::Scene;
use super::explanation::{CheckOutcome, Explanation, Finding};
use super::recorded_checks::{RecordedChecks, throttled};
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::credentials::Claims;
use crate::endpoint::Endpoint;
use crate::gate::{Check, counts};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::verifier::Verifier;

impl Verifier {
    /// Returns what [`verify_with`](Self::verify_with) would answer to a request with this key, with every check
    /// that leads to it, for example to support a user who gets a 403. It needs not the key's text but its record,
    /// which [`Keyring::get`](crate::Keyring::get) finds by its id.
    ///
    /// It makes the same checks with the same stores in the same order, to the end, and changes nothing: it counts
    /// nothing against the key's limits, and no failure for the [throttle](Self::throttle).
    ///
    /// It assumes that the client sends the complete, correct text of the key. For a layer, use
    /// [`ApiKeyAuth::explainer`](crate::ApiKeyAuth::explainer), which knows what the endpoint needs. Must run in a
    /// tokio runtime with its timer enabled, unless the stores answer through
    /// [`find_cached`](crate::store::KeyStore::find_cached).
    pub async fn explain(
        &self,
        key: &KeyRecord,
        claims: &Claims<'_>,
        endpoint: Endpoint,
        facts: &RequestContext<'_>,
    ) -> Explanation {
        let facts = &claims.scheme().map_or(*facts, |scheme| facts.scheme(scheme.name()));
        let mut recorded = RecordedChecks::default();
        let explained = self.gate.explaining(&mut recorded, key, claims, endpoint, facts).await;
        self.throttled_if_failed(&mut recorded, key, facts);
        let scene = Scene {
            gate: &self.gate,
            key: explained.key.as_deref().unwrap_or(key),
            claims,
            endpoint,
            facts,
            standing: explained.standing,
            tally: explained.tally.as_ref(),
            recorded: &recorded,
        };
        let finding = |check| Finding { check, outcome: scene.outcome(check), detail: scene.detail(check) };
        let findings: Vec<Finding> = Check::ALL.into_iter().map(finding).collect();
        let refused = findings.iter().find_map(|finding| match finding.outcome {
            CheckOutcome::Refused(kind) => Some(kind),
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

    /// Asks the throttle as the gate does after a failed check: if the key was cached or accepted recently, the
    /// throttle is asked only then.
    fn throttled_if_failed(
        &self,
        recorded: &mut RecordedChecks,
        key: &KeyRecord,
        facts: &RequestContext<'_>,
    ) {
        let first = recorded.results.iter().find_map(|(_, refused)| *refused);
        if first.is_some_and(counts) && throttled(&self.gate, key, facts).is_some() {
            for (check, refused) in &mut recorded.results {
                if *check == Check::Throttle {
                    *refused = Some(AuthErrorKind::RateLimited);
                }
            }
        }
    }
}
