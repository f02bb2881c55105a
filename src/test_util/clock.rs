//! [`ManualClock`]: a clock that only moves when a test sets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// A [`Clock`] that is set by hand. Clones show the same time.
///
/// ```
/// use std::time::Duration;
///
/// use tower_api_key::test_util::ManualClock;
/// use tower_api_key::{Clock as _, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_secs(100));
/// let layers = clock.clone();
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(layers.now(), Timestamp::from_secs(101));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Creates a clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_micros())))
    }

    /// Sets the time, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Advances the time.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
