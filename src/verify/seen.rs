//! Decisions, for those who look on.

use std::sync::Arc;
use std::time::Instant;

use super::Verifier;
use super::lookup::Found;
use crate::error::{AuthError, AuthErrorKind};
use crate::observer::{Decision, Observer, Outcome};
use crate::principal::Principal;
use crate::record::KeyRecord;
use crate::restriction::Facts;

impl Verifier {
    /// Shows every decision to an [`Observer`], after those that are already there; see [`observer`](crate::observer). The
    /// default is nobody.
    ///
    /// A layer with this verifier shows what it decides by itself, too.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// When a decision began, if anybody wants to know.
    #[inline]
    pub(crate) fn started(&self) -> Option<Instant> {
        self.observers.start()
    }

    /// Who was let in, or why not.
    #[cold]
    pub(crate) fn show<'f>(
        &self,
        started: Instant,
        warm: bool,
        result: Result<&Principal, &AuthError>,
        facts: impl FnOnce() -> Facts<'f>,
    ) {
        let took = started.elapsed();
        let at = self.clock.now();
        let decision = match result {
            Ok(who) => Decision::accepted(at, who),
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
        let decision = Decision::new(self.clock.now(), Outcome::Open);
        self.observers.decided(&Decision { warm, took, ..decision });
    }

    /// Somebody who was let in was refused further inside.
    #[cold]
    pub(crate) fn show_guarded(&self, error: &AuthError) {
        if self.started().is_some() {
            let decision = Decision::refused(self.clock.now(), error);
            self.observers.decided(&Decision { outcome: Outcome::Guarded, ..decision });
        }
    }

    /// Whose body is read is not known.
    #[cold]
    pub(crate) fn sender_is_unknown(&self) {
        self.observers.sender_is_unknown();
    }

    /// The record that was found, for the case that it is refused; only if anybody wants to know.
    #[inline]
    pub(super) fn note(&self, found: Option<&Found>) -> Option<Arc<KeyRecord>> {
        if self.observers.is_none() { None } else { found.map(|found| Arc::clone(&found.key)) }
    }
}

/// A refusal, with the key that it is about.
#[cold]
pub(super) fn about(noted: &Option<Arc<KeyRecord>>, error: AuthError) -> AuthError {
    match noted {
        // What is no answer to the question is not the key.
        Some(key) if error.kind() != AuthErrorKind::UnknownKey => {
            error.with_about((key.id.clone(), key.environment))
        }
        _ => error,
    }
}
