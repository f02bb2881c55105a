//! [`Rules`] and [`Gate`]: the settings of the checks, and the stores that they ask.

use std::sync::Arc;
use std::time::Duration;

use super::asker::{self, Asker};
use crate::bulkhead::Bulkhead;
use crate::clock::Clock;
use crate::key::{Digests, Environment, KeyFormat, KeyId};
use crate::limit::{KeyThrottle, Limiter};
use crate::scheme_info::SchemeInfo;
use crate::settings::Settings;
use crate::store::{Directory, KeyStore};

/// How many keys with limits are remembered by default.
const LIMITED_KEYS: usize = 65_536;

/// The settings of the checks.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) format: KeyFormat,
    pub(crate) digests: Digests,
    pub(crate) accept_foreign_keys: bool,
    pub(crate) environment: Option<Environment>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The rules, the stores, and the state of throttles and limits.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) rules: Rules,
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) store_deadline: Duration,
    pub(crate) throttle: Option<Arc<KeyThrottle>>,
    pub(crate) limiter: Arc<Limiter<KeyId>>,
    pub(super) lookups: Arc<Bulkhead<Asker>>,
}

impl Rules {
    /// Whether a scheme's sunset is over.
    pub(crate) fn is_over(&self, scheme: &SchemeInfo) -> bool {
        scheme.deprecation().is_some_and(|deprecation| deprecation.is_over(self.clock.now()))
    }
}

impl Gate {
    pub(crate) fn new<S: KeyStore + Directory>(store: Arc<S>, settings: &Settings) -> Self {
        let rules = Rules {
            format: settings.format.clone(),
            digests: settings.digests.clone(),
            accept_foreign_keys: false,
            environment: None,
            clock: Arc::clone(&settings.clock),
        };
        Self {
            rules,
            keys: Arc::clone(&store) as Arc<dyn KeyStore>,
            directory: store,
            store_deadline: settings.lookup_deadline,
            throttle: None,
            limiter: Arc::new(Limiter::new(LIMITED_KEYS)),
            lookups: Arc::new(asker::lookups()),
        }
    }
}
