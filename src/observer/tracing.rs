//! Decisions as events of the crate `tracing`.

use ::tracing::{Level, event};

use super::{Change, Decision, Observer, Warning};
use crate::error::AuthErrorKind;
use crate::store::StoreError;

/// Writes decisions, changes and warnings as `tracing` events of the target `tower_api_key`; the table in
/// [the module's documentation](super) says which, and their fields.
///
/// ```
/// use tower_api_key::observer::Tracing;
/// use tower_api_key::{MemoryStore, Verifier};
///
/// let verifier = Verifier::new(MemoryStore::new()).observer(Tracing);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Observer for Tracing {
    fn decided(&self, decision: &Decision<'_>) {
        let outcome = decision.outcome.as_str();
        let kind = decision.kind().map(AuthErrorKind::as_str);
        let scheme = decision.scheme;
        let key_id = decision.key_id.map(|key| key.as_str());
        // The level of an event is fixed where it is written.
        match (decision.store_error(), decision.kind()) {
            (Some(StoreError::Corrupt(row)), _) => {
                let key_id = key_id.or(row.key_id().map(|key| key.as_str()));
                event!(target: "tower_api_key", Level::WARN, outcome, kind, scheme, key_id, error = %row);
            }
            // Not its causes: a driver may quote what it was asked for.
            (Some(failure), _) => {
                event!(target: "tower_api_key", Level::ERROR, outcome, kind, scheme, key_id, error = %failure);
            }
            (None, Some(AuthErrorKind::StoreFailed | AuthErrorKind::StoreTimeout)) => {
                event!(target: "tower_api_key", Level::ERROR, outcome, kind, scheme, key_id);
            }
            (None, Some(AuthErrorKind::Restricted | AuthErrorKind::InsecureTransport)) => {
                event!(target: "tower_api_key", Level::INFO, outcome, kind, scheme, key_id);
            }
            _ => event!(target: "tower_api_key", Level::DEBUG, outcome, kind, scheme, key_id),
        }
    }

    fn changed(&self, change: &Change<'_>) {
        let (key_id, by, event) = (change.key.as_str(), change.by.to_string(), change.event.to_string());
        event!(target: "tower_api_key", Level::INFO, event, key_id, by);
    }

    fn warned(&self, warning: Warning) {
        event!(target: "tower_api_key", Level::WARN, warning = warning.as_str());
    }
}
