//! Throttles wrong keys by client (check 2) and look-ups by client, and limits requests by key (check 9).

use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::asker::Asker;
use super::config::Gate;
use super::refusal::Refusal;
use crate::auth_error::{AuthErrorKind, Wait};
use crate::bulkhead::{Full, Permit};
use crate::key::{KeyDigest, KeyId};
use crate::limit::{Limits, RateLimitStatus};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::store::{StoreError, in_time};

impl Gate {
    /// Makes check 2, before a store is asked. Returns whether the check was made: it is skipped for a recently
    /// accepted key.
    pub(super) fn throttled<'f>(
        &self,
        key: &KeyDigest,
        facts: impl Fn() -> RequestContext<'f>,
    ) -> Result<bool, Refusal> {
        let Some(throttle) = &self.throttle else { return Ok(false) };
        let Some(client) = facts().client() else { return Ok(false) };
        let now = self.rules.clock.now();
        if throttle.was_accepted(key, now) {
            return Ok(false);
        }
        match throttle.throttled(client, key, now) {
            None => Ok(true),
            Some(throttled) => Err(Wait::Failures(throttled.wait()).into()),
        }
    }

    /// Counts a refusal for the throttle, if it is of a kind that counts. If check 2 was not `asked`, because the
    /// answer was cached or the key was recently accepted, it is made now with the answer that it would have given
    /// before. If such a key had another answer, a client could tell it from others.
    #[cold]
    pub(super) fn failed<'f>(
        &self,
        refusal: Refusal,
        key: &KeyDigest,
        facts: impl Fn() -> RequestContext<'f>,
        asked: bool,
    ) -> Refusal {
        if let (AuthErrorKind::RevokedKey | AuthErrorKind::ExpiredKey, Some(key)) =
            (refusal.kind, &refusal.key)
        {
            self.has_ended(key);
        }
        let Some(throttle) = self.throttle.as_ref().filter(|_| counts(refusal.kind)) else { return refusal };
        let Some(client) = facts().client() else { return refusal };
        let now = self.rules.clock.now();
        throttle.is_wrong(key);
        if !asked && let Some(throttled) = throttle.throttled(client, key, now) {
            let instead = Refusal::from(Wait::Failures(throttled.wait()));
            return Refusal { key: refusal.key, ..instead };
        }
        throttle.refused(client, key, now);
        refusal
    }

    /// Waits for a permit, then asks a store. The time that a request waits counts against the store's deadline.
    pub(super) async fn in_turn<T>(
        &self,
        turn: &mut Option<Permit<Asker>>,
        asker: impl FnOnce() -> Asker,
        question: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        if turn.is_some() {
            return question.await;
        }
        let came = Instant::now();
        let own = timeout(self.store_deadline, self.lookups.acquire(&asker())).await;
        let own = turn.insert(own.unwrap_or(Err(Full)).map_err(|Full| AuthErrorKind::Overloaded)?);
        if !own.was_waited_for() {
            return question.await;
        }
        let rest = self.store_deadline.saturating_sub(came.elapsed());
        timeout(rest, question).await.unwrap_or_else(|_| Err(StoreError::Timeout.into()))
    }

    pub(super) async fn in_time<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Refusal> {
        Ok(in_time(self.store_deadline, question).await?)
    }

    /// Called for a key that has ended. If no key of its family works any more, the family's rate-limit state may
    /// be evicted first. Nothing happens if the key was replaced, or replaced a key that may be in its grace
    /// period. Otherwise the holder of two keys of a family could reset the limits by sending the ended one.
    fn has_ended(&self, key: &KeyRecord) {
        if self.limiter.was_used() && key.has_ended_its_family(self.rules.clock.now()) {
            self.limiter.end(&key.family);
        }
    }

    /// Check 9: counts the request if it is within the limits.
    pub(super) fn count(&self, family: &KeyId, limits: &Limits) -> Arc<RateLimitStatus> {
        Arc::new(self.limiter.take(family, limits, self.rules.clock.now()).of_family(family))
    }
}

/// Whether a refusal counts for the throttle. All refusals that look the same to a client count, because otherwise the
/// client could tell them apart.
pub(crate) fn counts(kind: AuthErrorKind) -> bool {
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
