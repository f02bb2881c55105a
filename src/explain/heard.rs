//! Hears every check of a request that somebody describes.

use std::sync::Arc;

use crate::auth_error::AuthErrorKind;
use crate::gate::{Check, Gate, Listener, Refusal};
use crate::limit::Throttled;
use crate::record::KeyRecord;
use crate::restriction::RequestContext;

/// Counted is by the newest digest of a text. Nobody has it here, and the one that the key is found by is the newest, or
/// will be when [it is renewed](crate::Verifier::renew_digests).
pub(super) fn throttled(gate: &Gate, key: &KeyRecord, facts: &RequestContext<'_>) -> Option<Throttled> {
    gate.throttle.as_ref()?.throttled(facts.client()?, &key.digest, gate.rules.clock.now())
}

/// Hears all, and stops only where nothing more can be asked.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) heard: Vec<(Check, Option<AuthErrorKind>)>,
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
