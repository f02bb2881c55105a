#![doc = include_str!("../../docs/seeing.md")]

#[cfg(feature = "metrics")]
mod metrics;
mod recorder;
#[cfg(feature = "tracing")]
mod tracing;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::audit::KeyEvent;
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{Environment, KeyId};
use crate::restriction::{RestrictionKind, Verdict};
use crate::store::StoreError;

#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use self::metrics::Metrics;
pub use self::recorder::UsageRecorder;
#[cfg(feature = "tracing")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
pub use self::tracing::Tracing;

/// Is notified of decisions about requests and of changes to keys.
///
/// Give it to a [`Verifier`](crate::Verifier::observer) for decisions, and to a
/// [`Keyring`](crate::Keyring::observer) for changes; share one by [`Arc`].
///
/// It is called while the request is handled: put slow work into a queue. A panic aborts the request.
///
/// ```
/// use tower_api_key::observer::{KeyChange, Decision, Observer, Outcome};
///
/// struct Audit;
///
/// impl Observer for Audit {
///     fn decided(&self, decision: &Decision<'_>) {
///         if decision.outcome != Outcome::Accepted {
///             println!("{} {:?} {:?}", decision.outcome.as_str(), decision.kind(), decision.key_id);
///         }
///     }
///
///     fn changed(&self, change: &KeyChange<'_>) {
///         println!("{} {} by {}", change.key, change.event, change.by);
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Called after a decision about a request.
    fn decided(&self, decision: &Decision<'_>) {
        let _ = decision;
    }

    /// Called after a keyring has changed a key, when its registry has returned.
    fn changed(&self, change: &KeyChange<'_>) {
        let _ = change;
    }

    /// Called for a problem that does not concern a single request.
    fn warned(&self, warning: Warning) {
        let _ = warning;
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn decided(&self, decision: &Decision<'_>) {
        (**self).decided(decision);
    }

    fn changed(&self, change: &KeyChange<'_>) {
        (**self).changed(change);
    }

    fn warned(&self, warning: Warning) {
        (**self).warned(warning);
    }
}

/// A decision about one request. It contains no secret, not what the request asked for, and not who owns the key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Decision<'d> {
    /// When, by the verifier's clock.
    pub at: Timestamp,
    /// The outcome.
    pub outcome: Outcome,
    /// Why the request was refused.
    pub error: Option<&'d AuthError>,
    /// The scheme that was used.
    pub scheme: Option<&'static str>,
    /// The key, if it is known; many refusals have one too.
    pub key_id: Option<&'d KeyId>,
    /// The key's environment.
    pub environment: Option<Environment>,
    /// Whether the decision was made at once, without asking a store or reading a body. Always false for direct
    /// calls of a [`Verifier`](crate::Verifier) without a layer.
    pub warm: bool,
    /// How long the decision took; zero for [`Outcome::Guarded`].
    pub took: Duration,
    pub(crate) verdict: Verdict,
}

impl<'d> Decision<'d> {
    pub(crate) fn new(at: Timestamp, outcome: Outcome) -> Self {
        Self {
            at,
            outcome,
            error: None,
            scheme: None,
            key_id: None,
            environment: None,
            warm: false,
            took: Duration::ZERO,
            verdict: Verdict::default(),
        }
    }

    pub(crate) fn refused(at: Timestamp, error: &'d AuthError) -> Self {
        let failed = error.status() == http::StatusCode::SERVICE_UNAVAILABLE;
        let outcome = if failed { Outcome::Failed } else { Outcome::Refused };
        Self {
            error: Some(error),
            scheme: error.scheme(),
            key_id: error.about().map(|(key, _)| key),
            environment: error.about().map(|(_, environment)| *environment),
            verdict: error.source().and_then(|source| source.downcast_ref()).copied().unwrap_or_default(),
            ..Self::new(at, outcome)
        }
    }

    /// Why the request was refused.
    #[must_use]
    pub fn kind(&self) -> Option<AuthErrorKind> {
        self.error.map(AuthError::kind)
    }

    /// The restrictions in [observe mode](crate::restriction::Mode::Observe) that would have refused the request.
    pub fn observed(&self) -> impl Iterator<Item = RestrictionKind> + use<> {
        self.verdict.observed()
    }

    /// The error of the store, if one failed.
    #[must_use]
    pub fn store_error(&self) -> Option<&'d StoreError> {
        self.error?.source()?.downcast_ref()
    }

    /// Whether the key's IP restriction refused the request.
    pub(crate) fn stopped_by_address(&self) -> bool {
        self.verdict.refused().chain(self.verdict.observed()).any(|kind| kind == RestrictionKind::Ip)
    }
}

/// The outcome of a request. Each request that a layer decides about has one. An [`Accepted`](Self::Accepted)
/// request may be followed by [`Guarded`](Self::Guarded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was accepted with a key.
    Accepted,
    /// It was accepted without a key: a public or optional endpoint, or a preflight.
    Open,
    /// It was refused.
    Refused,
    /// It could not be decided: 503.
    Failed,
    /// It had been accepted with a key, and then a guard or a handler refused it.
    Guarded,
}

impl Outcome {
    /// `accepted`, `open`, `refused`, `failed` or `guarded`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Guarded => "guarded",
        }
    }
}

/// A change that a [`Keyring`](crate::Keyring) has made. Effects on further keys (a policy that revokes older ones)
/// are only in the registry's audit log.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KeyChange<'c> {
    /// When, by the keyring's clock.
    pub at: Timestamp,
    /// The key.
    pub key: &'c KeyId,
    /// Who did it.
    pub by: &'c Authority,
    /// What happened.
    pub event: &'c KeyEvent,
    /// The [family](crate::KeyRecord::family) of a revoked key, if the key has limits and no key of the family is
    /// active any more. `None` if the registry [does not know](crate::store::Ended::family).
    pub ended_family: Option<&'c KeyId>,
}

impl<'c> KeyChange<'c> {
    pub(crate) fn new(at: Timestamp, key: &'c KeyId, by: &'c Authority, event: &'c KeyEvent) -> Self {
        Self { at, key, by, event, ended_family: None }
    }

    pub(crate) fn ending(self, ended_family: Option<&'c KeyId>) -> Self {
        Self { ended_family, ..self }
    }
}

/// A problem that does not concern a single request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Warning {
    /// A key with an IP restriction was used, and the client's address was unknown: the layer was not told
    /// [how to find it](crate::client_addr). Each verifier reports this once.
    ClientAddressUnknown,
    /// A body was read whose sender is unknown: there is no address, or the request came through a proxy of this
    /// network that is [not listed](crate::client_addr). One client can use up the budget of all. Each verifier
    /// reports this once.
    BodySenderUnknown,
    /// The usage of keys could not be written. It is kept, and written later.
    UsageNotWritten,
    /// The log by which the nodes of a store learn of changes cannot be shortened, and its oldest entry is an hour
    /// old or it has become too long. Either a write transaction was left open or prepared, in any database of the
    /// server, or a node is gone and no change has waited for it since. Decisions are still correct, but the server
    /// does extra work, and the nodes clear their caches each time the log is too long. Each process that finds it
    /// reports this at most once an hour.
    ChangeLogGrows,
}

impl Warning {
    /// `client_address_unknown`, `body_sender_unknown`, `usage_not_written` or `change_log_grows`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientAddressUnknown => "client_address_unknown",
            Self::BodySenderUnknown => "body_sender_unknown",
            Self::UsageNotWritten => "usage_not_written",
            Self::ChangeLogGrows => "change_log_grows",
        }
    }
}

/// The registered observers. Without any, no decision is assembled for them.
#[derive(Clone, Default)]
pub(crate) struct Observers {
    all: Vec<Arc<dyn Observer>>,
    warned_of_address: Arc<AtomicBool>,
    warned_of_sender: Arc<AtomicBool>,
}

impl Observers {
    pub(crate) fn add(&mut self, observer: impl Observer) {
        self.all.push(Arc::new(observer));
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.all.is_empty()
    }

    /// The start time of a decision, if an observer needs it.
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        if self.is_none() { None } else { Some(Instant::now()) }
    }

    pub(crate) fn decided(&self, decision: &Decision<'_>) {
        self.all.iter().for_each(|observer| observer.decided(decision));
    }

    pub(crate) fn changed(&self, change: &KeyChange<'_>) {
        self.all.iter().for_each(|observer| observer.changed(change));
    }

    pub(crate) fn warned(&self, warning: Warning) {
        self.all.iter().for_each(|observer| observer.warned(warning));
    }

    pub(crate) fn address_is_unknown(&self) {
        if !self.warned_of_address.swap(true, Ordering::Relaxed) {
            self.warned(Warning::ClientAddressUnknown);
        }
    }

    pub(crate) fn sender_is_unknown(&self) {
        if !self.warned_of_sender.swap(true, Ordering::Relaxed) {
            self.warned(Warning::BodySenderUnknown);
        }
    }
}
