//! Tells observers what was decided.

use std::time::Instant;

use crate::auth_error::AuthError;
use crate::clock::Timestamp;
use crate::gate::Principal;
use crate::observer::{Decision, KeyChange, Observer, Outcome};
use crate::restriction::RequestContext;
use crate::verifier::Verifier;

impl Verifier {
    /// Shows every decision to an [`Observer`], after those that are already there; see
    /// [`observer`](crate::observer). The default is nobody.
    ///
    /// A layer with this verifier shows what it decides by itself, too.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Who was let in, or why not.
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

    /// Somebody who needed no key was let in without one.
    #[cold]
    pub(crate) fn show_open(&self, started: Instant, warm: bool) {
        let took = started.elapsed();
        let decision = Decision::new(self.gate.rules.clock.now(), Outcome::Open);
        self.observers.decided(&Decision { warm, took, ..decision });
    }

    /// Somebody who was let in was refused further inside.
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

/// As the [observer](crate::Keyring::observer) of a keyring, a verifier hears which keys were revoked: what they
/// have spent of their limits is the first to be forgotten when [there is no room](Verifier::limited_keys). Keys
/// that replaced each other are counted together, and that is heard when none of them works any more; if one is
/// used after that, it is taken back.
impl Observer for Verifier {
    fn changed(&self, change: &KeyChange<'_>) {
        if let Some(family) = change.ended_family {
            self.gate.limiter.end(family);
        }
    }
}
