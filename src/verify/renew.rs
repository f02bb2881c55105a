//! Keys that were found by an older digest get the newest one.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Verifier;
use crate::key::KeyDigest;
use crate::record::KeyRecord;
use crate::store::{KeyLedger, in_time};

/// How many renewals may be on their way at once. What is more waits for the key's next use.
const AT_ONCE: usize = 32;
/// How long one may take. Nobody waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where renewals go to.
#[derive(Clone)]
pub(super) struct Renewer {
    ledger: Arc<dyn KeyLedger>,
    places: Arc<Semaphore>,
}

impl Renewer {
    pub(super) fn new(ledger: impl KeyLedger) -> Self {
        Self { ledger: Arc::new(ledger), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// A key was found by an older digest than this one.
pub(super) struct Outdated {
    pub(super) newest: KeyDigest,
    /// What is let go once the key has the newest.
    pub(super) turn: Option<Turn>,
}

/// The place and the turn of a slow check: the next is let in when the key is fast.
pub(super) type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Verifier {
    /// In the background, and only if there is room: a request neither waits for it nor fails by it. If it fails, the key's
    /// next use is as good an occasion. Of several that race, the ledger lets one win.
    #[cold]
    pub(super) fn renew(&self, key: &KeyRecord, outdated: Outdated) {
        let Some(Renewer { ledger, places }) = self.renewer.clone() else { return };
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), places.try_acquire_owned()) else { return };
        let (id, from, method) = (key.id.clone(), key.digest, self.digests.newest().method());
        let now = self.clock.now();
        runtime.spawn(async move {
            let Outdated { newest, turn } = outdated;
            drop(in_time(DEADLINE, ledger.rehash(&id, &from, &newest, &method, now)).await);
            drop((turn, place));
        });
    }
}
