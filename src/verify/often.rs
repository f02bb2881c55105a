//! How often: wrong keys by client, requests by key, and who may wait for a store.

use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::Verifier;
use super::asker::Asker;
use super::refusal::Refusal;
use crate::bulkhead::{Full, Turn};
use crate::error::{AuthErrorKind, Wait};
use crate::key::{KeyDigest, KeyId};
use crate::limit::{Limits, Tally};
use crate::observer::{Change, Observer};
use crate::record::KeyRecord;
use crate::restriction::Facts;
use crate::store::StoreError;

impl Verifier {
    /// Question 2, before a store is asked. Says whether anything was asked: of a key that was accepted lately, nothing is.
    pub(super) fn brake<'f>(&self, key: &KeyDigest, facts: &impl Fn() -> Facts<'f>) -> Result<bool, Refusal> {
        let Some(throttle) = &self.throttle else { return Ok(false) };
        let Some(client) = facts().client() else { return Ok(false) };
        let now = self.clock.now();
        if throttle.was_accepted(key, now) {
            return Ok(false);
        }
        match throttle.braked(client, key, now) {
            None => Ok(true),
            Some(braked) => Err(Wait::Failures(braked.wait()).into()),
        }
    }

    /// Counts a refusal, if it is one that counts. Where question 2 was not `asked`, because the answer was at hand or the key
    /// was accepted lately, it is still open, and has the answer that it would have had before: if it had another, a client
    /// could tell such keys from others.
    #[cold]
    pub(super) fn failed<'f>(
        &self,
        refusal: Refusal,
        key: &KeyDigest,
        facts: &impl Fn() -> Facts<'f>,
        asked: bool,
    ) -> Refusal {
        let counts = counts(refusal.kind);
        let Some(throttle) = self.throttle.as_ref().filter(|_| counts) else { return refusal };
        let Some(client) = facts().client() else { return refusal };
        let now = self.clock.now();
        throttle.is_wrong(key);
        if !asked && let Some(braked) = throttle.braked(client, key, now) {
            return Wait::Failures(braked.wait()).into();
        }
        throttle.refused(client, key, now);
        refusal
    }

    /// What a store answers, in turn: after question 2, and before the store has its say (A.8, 9). Who had to wait for the turn
    /// has only the rest of the time that a store may take.
    pub(super) async fn in_turn<T>(
        &self,
        turn: &mut Option<Turn<Asker>>,
        asker: impl FnOnce() -> Asker,
        question: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        if turn.is_some() {
            return question.await;
        }
        let came = Instant::now();
        let own = timeout(self.store_deadline, self.bulkhead.turn(&asker())).await;
        let own = turn.insert(own.unwrap_or(Err(Full)).map_err(|Full| AuthErrorKind::Overloaded)?);
        if !own.was_waited_for() {
            return question.await;
        }
        let rest = self.store_deadline.saturating_sub(came.elapsed());
        timeout(rest, question).await.unwrap_or_else(|_| Err(StoreError::Timeout.into()))
    }

    /// A key that has ended was sent: what its family has spent of its limits is the first to be forgotten, if none of the family
    /// works any more. A key that was replaced, or that came in the place of one which may be in its grace, ends nothing: whoever
    /// holds two of a family could forget what was spent, by sending the one that has ended.
    #[cold]
    pub(super) fn has_ended(&self, key: &KeyRecord) {
        if self.limiter.was_used() && key.has_ended_its_family(self.clock.now()) {
            self.limiter.end(&key.family);
        }
    }

    /// Question 9.
    pub(super) fn count(&self, family: &KeyId, limits: &Limits) -> Result<Arc<Tally>, Refusal> {
        let tally = Arc::new(self.limiter.take(family, limits, self.clock.now()).of_family(family));
        if tally.is_allowed() { Ok(tally) } else { Err(Wait::Limit(tally).into()) }
    }
}

/// As the [observer](crate::Keyring::observer) of a keyring, a verifier hears which keys were revoked: what they have spent of
/// their limits is the first to be forgotten when [there is no room](Verifier::limited_keys). Keys that replaced each other
/// are counted together, and that is heard when none of them works any more; if one is used after that, it is taken back.
impl Observer for Verifier {
    fn changed(&self, change: &Change<'_>) {
        if let Some(family) = change.ended_family {
            self.limiter.end(family);
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
