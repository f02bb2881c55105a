//! Gives keys that were found by an older digest the newest one.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::clock::Timestamp;
use crate::gate::Outdated;
use crate::key::DigestMethod;
use crate::record::KeyRecord;
use crate::store::{KeyRegistry, in_time};

/// How many keys may be on their way at once. What is more waits for the key's next use.
const AT_ONCE: usize = 32;
/// How long one may take. Nobody waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// The registry that they are written to.
#[derive(Clone)]
pub(crate) struct Rehasher {
    registry: Arc<dyn KeyRegistry>,
    places: Arc<Semaphore>,
}

impl Rehasher {
    pub(crate) fn new(registry: impl KeyRegistry) -> Self {
        Self { registry: Arc::new(registry), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// In the background, and only if there is room: a request neither waits for it nor fails by it. If it fails,
    /// the key's next use is as good an occasion. Of several that race, the registry lets one win.
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
