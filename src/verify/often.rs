//! How often: failed attempts by client, requests by key.

use std::sync::Arc;

use super::Verifier;
use super::refusal::Refusal;
use crate::audit::KeyEvent;
use crate::error::{AuthErrorKind, Wait};
use crate::key::KeyId;
use crate::limit::{Limits, Tally};
use crate::observer::{Change, Observer};
use crate::restriction::Facts;

impl Verifier {
    /// Question 2, before a store is asked.
    pub(super) fn brake<'f>(&self, facts: &impl Fn() -> Facts<'f>) -> Result<(), Refusal> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let Some(client) = facts().client() else { return Ok(()) };
        match throttle.retry_after(client, self.clock.now()) {
            None => Ok(()),
            Some(wait) => Err(Wait::Failures(wait).into()),
        }
    }

    /// Counts a refusal, if it is one that counts. Where no store had to be `asked`, question 2 is still open, and has
    /// the answer that it would have had before.
    #[cold]
    pub(super) fn failed<'f>(
        &self,
        refusal: Refusal,
        facts: &impl Fn() -> Facts<'f>,
        asked: bool,
    ) -> Refusal {
        let counts = counts(refusal.kind);
        let Some(throttle) = self.throttle.as_ref().filter(|_| counts) else { return refusal };
        let Some(client) = facts().client() else { return refusal };
        let now = self.clock.now();
        if !asked && let Some(wait) = throttle.retry_after(client, now) {
            return Wait::Failures(wait).into();
        }
        throttle.failed(client, now);
        refusal
    }

    /// Question 9.
    pub(super) fn count(&self, family: &KeyId, limits: &Limits) -> Result<Arc<Tally>, Refusal> {
        let tally = Arc::new(self.limiter.take(family, limits, self.clock.now()).of_family(family));
        if tally.is_allowed() { Ok(tally) } else { Err(Wait::Limit(tally).into()) }
    }
}

/// As the [observer](crate::Keyring::observer) of a keyring, a verifier hears which keys were revoked: what they have spent of
/// their limits is the first to be forgotten when [there is no room](Verifier::limited_keys). Keys that replaced each other
/// are counted under the first one's id, and its end is the one that is heard; if another of them is used after that, it is
/// taken back.
impl Observer for Verifier {
    fn changed(&self, change: &Change<'_>) {
        if let KeyEvent::Revoked(_) = change.event {
            self.limiter.end(change.key);
        }
    }
}

/// Whether a refusal counts for the throttle: all that a client sees as one do. If some did not, it could tell them from
/// the others.
pub(super) fn counts(kind: AuthErrorKind) -> bool {
    matches!(
        kind,
        AuthErrorKind::UnknownKey
            | AuthErrorKind::RevokedKey
            | AuthErrorKind::ExpiredKey
            | AuthErrorKind::WrongEnvironment
            | AuthErrorKind::OwnerDisabled
            | AuthErrorKind::SchemeNotAllowed
    )
}
