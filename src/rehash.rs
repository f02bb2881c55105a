//! [`Rehasher`]: replaces the digest of a key that was found by an older one with the newest.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::clock::Timestamp;
use crate::gate::Outdated;
use crate::key::DigestMethod;
use crate::record::KeyRecord;
use crate::store::{KeyRegistry, in_time};

/// How many keys may be rehashed at the same time. Further keys are rehashed at their next use.
const AT_ONCE: usize = 32;
/// The deadline of one rehash. No request waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Writes new digests to a registry.
#[derive(Clone)]
pub(crate) struct Rehasher {
    registry: Arc<dyn KeyRegistry>,
    places: Arc<Semaphore>,
}

impl Rehasher {
    pub(crate) fn new(registry: impl KeyRegistry) -> Self {
        Self { registry: Arc::new(registry), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Rehashes a key in the background, if a place is free. The request neither waits for it nor fails because of
    /// it. After a failure it is tried again at the key's next use. If several processes rehash the same key, the
    /// registry lets one succeed.
    pub(crate) fn rehash(&self, key: &KeyRecord, outdated: Outdated, method: DigestMethod, now: Timestamp) {
        let Self { registry, places } = self.clone();
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), places.try_acquire_owned()) else { return };
        let (id, from) = (key.id.clone(), key.digest);
        runtime.spawn(async move {
            let Outdated { newest, turn } = outdated;
            drop(in_time(DEADLINE, registry.rehash(&id, &from, &newest, &method, now)).await);
            drop((turn, place));
        });
    }
}
