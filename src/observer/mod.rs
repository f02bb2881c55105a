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

/// Sees what is decided about requests and what becomes of keys.
///
/// Give it to a [`Verifier`](crate::Verifier::observer) for decisions, and to a [`Keyring`](crate::Keyring::observer) for
/// changes; an [`Arc`] of one for both.
///
/// It is called where the request is decided: what takes time belongs into a queue, and a panic ends the request.
///
/// ```
/// use tower_api_key::observer::{Change, Decision, Observer, Outcome};
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
///     fn changed(&self, change: &Change<'_>) {
///         println!("{} {} by {}", change.key, change.event, change.by);
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// A request was decided about.
    fn decided(&self, decision: &Decision<'_>) {
        let _ = decision;
    }

    /// A keyring has changed a key: its registry has returned.
    fn changed(&self, change: &Change<'_>) {
        let _ = change;
    }

    /// Something is not as it should be, and is not the matter of one request.
    fn warned(&self, warning: Warning) {
        let _ = warning;
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn decided(&self, decision: &Decision<'_>) {
        (**self).decided(decision);
    }

    fn changed(&self, change: &Change<'_>) {
        (**self).changed(change);
    }

    fn warned(&self, warning: Warning) {
        (**self).warned(warning);
    }
}

/// What was decided about one request. No part of it is secret, nor says what the request was for or whose key it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Decision<'d> {
    /// When, by the verifier's clock.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// Why the request was refused.
    pub error: Option<&'d AuthError>,
    /// The scheme that was used.
    pub scheme: Option<&'static str>,
    /// The key, if it is known: of many refusals, too.
    pub key_id: Option<&'d KeyId>,
    /// The key's environment.
    pub environment: Option<Environment>,
    /// Whether it was decided at once: no store was asked and no body read. What a [`Verifier`](crate::Verifier) is asked
    /// without a layer is never said to be.
    pub warm: bool,
    /// How long it took to decide. Nothing, for what was [`Outcome::Guarded`].
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

    /// The restrictions that are set to [observe](crate::restriction::Mode::Observe) and would have refused the request.
    pub fn observed(&self) -> impl Iterator<Item = RestrictionKind> + use<> {
        self.verdict.observed()
    }

    /// What a store said, where one failed.
    #[must_use]
    pub fn store_error(&self) -> Option<&'d StoreError> {
        self.error?.source()?.downcast_ref()
    }

    /// Whether the key's restriction to addresses said no.
    pub(crate) fn stopped_by_address(&self) -> bool {
        self.verdict.refused().chain(self.verdict.observed()).any(|kind| kind == RestrictionKind::Ip)
    }
}

/// What came of a request. Each that goes through a layer, and is decided about, has one; those that are let in may have
/// [`Guarded`](Self::Guarded) after [`Accepted`](Self::Accepted).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was let in with a key.
    Accepted,
    /// It was let in as anybody's: a public endpoint, or a preflight.
    Open,
    /// It was refused.
    Refused,
    /// It could not be told: 503.
    Failed,
    /// It had been let in with a key, and a guard or a handler inside said no.
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

/// A change that a [`Keyring`](crate::Keyring) has made. What happens to further keys by it (a policy that ends those
/// before) stands in the trail that the registry keeps.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Change<'c> {
    /// When, by the keyring's clock.
    pub at: Timestamp,
    /// The key.
    pub key: &'c KeyId,
    /// Who did it.
    pub by: &'c Authority,
    /// What happened.
    pub event: &'c KeyEvent,
    /// The [family](crate::KeyRecord::family) of a key that was revoked, if it has limits, and no key of the family works any
    /// more. `None` where the registry [cannot tell](crate::store::Ended::family).
    pub ended_family: Option<&'c KeyId>,
}

impl<'c> Change<'c> {
    pub(crate) fn new(at: Timestamp, key: &'c KeyId, by: &'c Authority, event: &'c KeyEvent) -> Self {
        Self { at, key, by, event, ended_family: None }
    }

    pub(crate) fn ending(self, ended_family: Option<&'c KeyId>) -> Self {
        Self { ended_family, ..self }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Warning {
    /// A key that is restricted to addresses was used, and the client's address was not known: nobody has said to the
    /// layer [whose address it is](crate::client_addr). Said once, by each verifier.
    ClientAddressUnknown,
    /// A body was read, and nobody knows whose share of the room for bodies it takes: no address is known, or it comes
    /// through a proxy of this network that the layer was [not told of](crate::client_addr). One client can take the room
    /// of all. Said once, by each verifier.
    BodySenderUnknown,
    /// When keys were used could not be written down. It is kept, and tried again.
    UsageNotWritten,
    /// The log by which the nodes of a store hear of changes cannot be shortened, and the oldest of it is an hour old or it
    /// has become too long: somebody has left a transaction open that writes, in this or another database of the server,
    /// or prepared one, or a node is gone and no change has waited for it since. Nothing wrong is accepted. The server does
    /// more than it must, and the nodes' memories are emptied each time the log is too long. Said once an hour at most, by
    /// each process that finds it.
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

/// Whoever looks on. Nobody, by default, and then nothing is put together for them.
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

    /// When a decision began, if anybody wants to know.
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        if self.is_none() { None } else { Some(Instant::now()) }
    }

    pub(crate) fn decided(&self, decision: &Decision<'_>) {
        self.all.iter().for_each(|observer| observer.decided(decision));
    }

    pub(crate) fn changed(&self, change: &Change<'_>) {
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
