//! Reports decisions to the observers.

use std::time::Instant;

use crate::auth_error::AuthError;
use crate::clock::Timestamp;
use crate::gate::Principal;
use crate::observer::{Decision, KeyChange, Observer, Outcome};
use crate::restriction::RequestContext;
use crate::verifier::Verifier;

impl Verifier {
    /// Adds an [`Observer`] of every decision, which is called after those added before; see
    /// [`observer`](crate::observer). The default is none.
    ///
    /// A layer with this verifier also reports the decisions that it makes by itself.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Reports the decision about a request that needed a key.
    #[cold]
    pub(crate) fn show<'f>(
        &self,
        started: Instant,
        warm: bool,
        result: Result<&Principal, &AuthError>,
        facts: impl FnOnce() -> RequestContext<'f>,
    ) {
        let took = started.elapsed();
        let at = self.gate.rules.clock.now();
        let decision = match result {
            Ok(who) => accepted(at, who),
            Err(error) => Decision::refused(at, error),
        };
        let decision = Decision { warm, took, ..decision };
        self.observers.decided(&decision);
        if decision.stopped_by_address() && facts().client().is_none() {
            self.observers.address_is_unknown();
        }
    }

    /// Reports a request that was accepted without a key, because it needed none.
    #[cold]
    pub(crate) fn show_open(&self, started: Instant, warm: bool) {
        let took = started.elapsed();
        let decision = Decision::new(self.gate.rules.clock.now(), Outcome::Open);
        self.observers.decided(&Decision { warm, took, ..decision });
    }

    /// Reports that a guard or handler refused a request that had been accepted.
    #[cold]
    pub(crate) fn show_guarded(&self, error: &AuthError) {
        if !self.observers.is_none() {
            let decision = Decision::refused(self.gate.rules.clock.now(), error);
            self.observers.decided(&Decision { outcome: Outcome::Guarded, ..decision });
        }
    }
}

fn accepted(at: Timestamp, who: &Principal) -> Decision<'_> {
    Decision {
        scheme: who.scheme(),
        key_id: Some(who.key_id()),
        environment: Some(who.environment()),
        verdict: who.verdict(),
        ..Decision::new(at, Outcome::Accepted)
    }
}

/// As the [observer](crate::Keyring::observer) of a keyring, a verifier learns which keys were revoked, and evicts
/// the state of their rate limits first when [there is no room](Verifier::limited_keys). Keys that replaced each
/// other share one state, which is marked when none of them is active any more. The mark is removed if one of them
/// is used after that.
impl Observer for Verifier {
    fn changed(&self, change: &KeyChange<'_>) {
        if let Some(family) = change.ended_family {
            self.gate.limiter.end(family);
        }
    }
}
