//! [`Metrics`]: counts decisions with the crate `metrics`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use ::metrics::{Key, Label, Level, Metadata, counter, with_recorder};
use foldhash::fast::RandomState;

use super::{Decision, KeyChange, Observer, Outcome, Warning};
use crate::auth_error::AuthErrorKind;

/// Counts decisions, changes and warnings with the crate `metrics`; the table in [the module's
/// documentation](super) lists the series. No label contains text from a client, so the number of series is
/// bounded.
///
/// ```
/// use tower_api_key::observer::Metrics;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::Verifier;
///
/// let verifier = Verifier::new(MemoryStore::new()).observer(Metrics);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics;

/// What distinguishes the series of decisions. There are few of each, so the number of series is bounded.
type Labels = (Outcome, Option<AuthErrorKind>, Option<&'static str>);

/// The names of the series for some labels.
struct DecisionSeries {
    total: Key,
    seconds: Key,
}

/// Kept, because each request would have to put them together again. Only the names are kept and not the counters:
/// those belong to a recorder, which may be installed later.
static DECISIONS: LazyLock<RwLock<HashMap<Labels, Arc<DecisionSeries>, RandomState>>> =
    LazyLock::new(RwLock::default);

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl DecisionSeries {
    fn of(labels: Labels) -> Arc<Self> {
        if let Some(known) = DECISIONS.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            return Arc::clone(known);
        }
        let mut all = DECISIONS.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(labels).or_insert_with(|| Arc::new(Self::named(labels))))
    }

    fn named((outcome, kind, scheme): Labels) -> Self {
        let outcome = Label::from_static_parts("outcome", outcome.as_str());
        let kind = Label::from_static_parts("kind", kind.map_or("", AuthErrorKind::as_str));
        let scheme = Label::from_static_parts("scheme", scheme.unwrap_or(""));
        Self {
            seconds: Key::from_parts("api_key_decision_seconds", vec![outcome.clone()]),
            total: Key::from_parts("api_key_decisions_total", vec![outcome, kind, scheme]),
        }
    }
}

impl Observer for Metrics {
    fn decided(&self, decision: &Decision<'_>) {
        let series = DecisionSeries::of((decision.outcome, decision.kind(), decision.scheme));
        with_recorder(|recorder| {
            recorder.register_counter(&series.total, &METADATA).increment(1);
            if decision.outcome != Outcome::Guarded {
                recorder.register_histogram(&series.seconds, &METADATA).record(decision.took);
            }
        });
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
