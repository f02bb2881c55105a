//! [`Settings`]: what layer, verifier and keyring must agree on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::key::{Digests, KeyFormat};
use crate::observer::Observers;

/// The default deadline of a look-up.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(1);
/// The default deadline of a change: longer than the built-in stores wait for a lock.
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);

/// The settings that [`ApiKeys`](crate::ApiKeys) passes to verifier and keyring.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) format: KeyFormat,
    pub(crate) digests: Digests,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lookup_deadline: Duration,
    pub(crate) change_deadline: Duration,
    pub(crate) observers: Observers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: KeyFormat::default(),
            digests: Digests::default(),
            clock: Arc::new(SystemClock),
            lookup_deadline: LOOKUP_DEADLINE,
            change_deadline: CHANGE_DEADLINE,
            observers: Observers::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("format", &self.format)
            .field("lookup_deadline", &self.lookup_deadline)
            .field("change_deadline", &self.change_deadline)
            .finish_non_exhaustive()
    }
}
