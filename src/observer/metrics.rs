//! [`Metrics`]: counts decisions with the crate `metrics`.

use ::metrics::{counter, histogram};

use super::{Decision, KeyChange, Observer, Outcome, Warning};
use crate::auth_error::AuthErrorKind;

/// Counts decisions, changes and warnings with the crate `metrics`; the table in [the module's
/// documentation](super) lists the series. No label contains text from a client, so the number of series is
/// bounded.
///
/// ```
/// use tower_api_key::observer::Metrics;
/// use tower_api_key::{MemoryStore, Verifier};
///
/// let verifier = Verifier::new(MemoryStore::new()).observer(Metrics);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics;

impl Observer for Metrics {
    fn decided(&self, decision: &Decision<'_>) {
        let outcome = decision.outcome.as_str();
        let kind = decision.kind().map_or("", AuthErrorKind::as_str);
        let scheme = decision.scheme.unwrap_or("");
        counter!("api_key_decisions_total", "outcome" => outcome, "kind" => kind, "scheme" => scheme)
            .increment(1);
        if decision.outcome != Outcome::Guarded {
            histogram!("api_key_decision_seconds", "outcome" => outcome).record(decision.took);
        }
        for restriction in decision.observed() {
            counter!("api_key_observed_total", "restriction" => restriction.as_str()).increment(1);
        }
    }

    fn changed(&self, change: &KeyChange<'_>) {
        counter!("api_key_changes_total", "event" => change.event.name()).increment(1);
    }

    fn warned(&self, warning: Warning) {
        counter!("api_key_warnings_total", "warning" => warning.as_str()).increment(1);
    }
}
