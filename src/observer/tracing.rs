//! [`Tracing`]: writes decisions as events of the crate `tracing`.

use std::error::Error as _;
use std::fmt;

use ::tracing::{Level, event};

use super::{Decision, KeyChange, Observer, Warning};
use crate::auth_error::AuthErrorKind;
use crate::store::StoreError;

/// Writes decisions, changes and warnings as `tracing` events with the target `tower_api_key`; the table in
/// [the module's documentation](super) lists the events and their fields.
///
/// ```
/// use tower_api_key::observer::Tracing;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::Verifier;
///
/// let verifier = Verifier::new(MemoryStore::new()).observer(Tracing);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Tracing {
    /// Like [`Tracing`], but if a store fails, `error` also contains the chain of causes, separated by colons:
    /// which statement was refused and why, which connection broke. This is not the default, because the text comes
    /// from the driver, which may quote values such as digests of keys and ids of users. The built-in stores quote
    /// none.
    ///
    /// ```
    /// use tower_api_key::observer::Tracing;
    /// use tower_api_key::store::MemoryStore;
    /// use tower_api_key::Verifier;
    ///
    /// let verifier = Verifier::new(MemoryStore::new()).observer(Tracing::with_causes());
    /// ```
    #[must_use]
    pub fn with_causes() -> impl Observer + Copy + fmt::Debug {
        WithCauses
    }
}

#[derive(Clone, Copy, Debug)]
struct WithCauses;

impl Observer for WithCauses {
    fn decided(&self, decision: &Decision<'_>) {
        match decision.store_error() {
            // The message of a corrupt row is complete and has no cause.
            None | Some(StoreError::Corrupt(_)) => Tracing.decided(decision),
            Some(failure) => failed(decision, &Causes(failure)),
        }
    }

    fn changed(&self, change: &KeyChange<'_>) {
        Tracing.changed(change);
    }

    fn warned(&self, warning: Warning) {
        Tracing.warned(warning);
    }
}

/// Writes an error and its causes.
struct Causes<'e>(&'e StoreError);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // An error that only wraps its cause would repeat its text.
            if text != last {
                write!(f, ": {text}")?;
                last = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

fn failed(decision: &Decision<'_>, error: &dyn fmt::Display) {
    let outcome = decision.outcome.as_str();
    let kind = decision.kind().map(AuthErrorKind::as_str);
    let scheme = decision.scheme;
    let key_id = decision.key_id.map(|key| key.as_str());
    event!(target: "tower_api_key", Level::ERROR, outcome, kind, scheme, key_id, error = %error);
}

impl Observer for Tracing {
    fn decided(&self, decision: &Decision<'_>) {
        let outcome = decision.outcome.as_str();
        let kind = decision.kind().map(AuthErrorKind::as_str);
        let scheme = decision.scheme;
        let key_id = decision.key_id.map(|key| key.as_str());
        // `tracing` needs a constant level for each event.
        match (decision.store_error(), decision.kind()) {
            (Some(StoreError::Corrupt(row)), _) => {
                let key_id = key_id.or(row.key_id().map(|key| key.as_str()));
                event!(target: "tower_api_key", Level::WARN, outcome, kind, scheme, key_id, error = %row);
            }
            // Without causes, because a driver may quote values.
            (Some(failure), _) => failed(decision, failure),
            (None, Some(AuthErrorKind::StoreFailed | AuthErrorKind::StoreTimeout)) => {
                event!(target: "tower_api_key", Level::ERROR, outcome, kind, scheme, key_id);
            }
            (None, Some(AuthErrorKind::Restricted | AuthErrorKind::InsecureTransport)) => {
                event!(target: "tower_api_key", Level::INFO, outcome, kind, scheme, key_id);
            }
            _ => event!(target: "tower_api_key", Level::DEBUG, outcome, kind, scheme, key_id),
        }
    }

    fn changed(&self, change: &KeyChange<'_>) {
        let (key_id, by, event) = (change.key.as_str(), change.by.to_string(), change.event.to_string());
        event!(target: "tower_api_key", Level::INFO, event, key_id, by);
    }

    fn warned(&self, warning: Warning) {
        event!(target: "tower_api_key", Level::WARN, warning = warning.as_str());
    }
}
