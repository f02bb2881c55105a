//! A listener that records the result of every check of a described request.

use std::sync::Arc;

use crate::auth_error::AuthErrorKind;
use crate::gate::{Check, CheckListener, Gate, Refusal};
use crate::limit::Throttled;
use crate::record::KeyRecord;
use crate::restriction::RequestContext;

/// Asks the throttle about the key. It counts by the newest digest of the text, and the text is unknown here. The
/// digest in the record is the newest, or [will be after a rehash](crate::Verifier::renew_digests).
pub(super) fn throttled(gate: &Gate, key: &KeyRecord, facts: &RequestContext<'_>) -> Option<Throttled> {
    gate.throttle.as_ref()?.throttled(facts.client()?, &key.digest, gate.rules.clock.now())
}

/// Records every result, and stops only if the next check cannot be made.
#[derive(Default)]
pub(super) struct RecordedChecks {
    pub(super) results: Vec<(Check, Option<AuthErrorKind>)>,
    /// The message of a store that failed.
    pub(super) failure: Option<String>,
}

impl RecordedChecks {
    /// Returns the recorded result of a check: `None` if it was not made, otherwise the refusal, if any.
    pub(super) fn of(&self, check: Check) -> Option<Option<AuthErrorKind>> {
        self.results.iter().find(|(made, _)| *made == check).map(|(_, refused)| *refused)
    }
}

/// No further check can be made.
pub(super) struct Stopped;

impl CheckListener for RecordedChecks {
    type Stop = Stopped;

    fn hear<E: Into<Refusal>>(&mut self, check: Check, answer: Result<(), E>) -> Result<(), Stopped> {
        // The result is recorded, and the checks continue.
        let _ = self.need(check, answer);
        Ok(())
    }

    fn need<T, E: Into<Refusal>>(&mut self, check: Check, answer: Result<T, E>) -> Result<T, Stopped> {
        let answer = answer.map_err(Into::into);
        let refused = answer.as_ref().err().map(|refusal: &Refusal| refusal.kind);
        self.results.push((check, refused));
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
