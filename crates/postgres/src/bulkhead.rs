//! How many may use the pool at once, and how many may wait for that, by what they are about.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use tower_api_key::store::StoreError;

/// Lets a few in at once, and a bounded number wait, for a bounded time.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    turns: Arc<Semaphore>,
    places: Semaphore,
}

impl Bulkhead {
    pub(crate) fn new(turns: usize, places: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), places: Semaphore::new(places) }
    }

    /// A turn, which ends when it is dropped.
    pub(crate) async fn turn(&self, wait: Duration) -> Result<OwnedSemaphorePermit, StoreError> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let _place = self.places.try_acquire().map_err(|_| StoreError::Overloaded)?;
        match timeout(wait, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(StoreError::Overloaded),
        }
    }
}

/// One for each kind of work: however much there is of one, the others have their share of the pool.
#[derive(Debug)]
pub(crate) struct Bulkheads {
    /// What requests ask.
    pub(crate) look_ups: Bulkhead,
    /// Answers that may be long.
    pub(crate) lists: Bulkhead,
    /// Changes that take nothing away, or may wait.
    pub(crate) changes: Bulkhead,
    /// Changes that may take access away: a flood of the others does not hold them up.
    pub(crate) ends: Bulkhead,
    /// Nodes that read the log and renew their leases, and changes that look at them.
    pub(crate) log: Bulkhead,
}

/// One connection for each kind of work.
pub(crate) const FEWEST: usize = 5;

impl Bulkheads {
    /// For a pool of `connections`, at least [`FEWEST`]: requests have half of it.
    pub(crate) fn of(connections: usize) -> Self {
        let share = (connections / 8).max(1);
        Self {
            look_ups: Bulkhead::new(connections.saturating_sub(4 * share).max(1), 1024),
            lists: Bulkhead::new(share, 256),
            changes: Bulkhead::new(share, 192),
            ends: Bulkhead::new(share, 192),
            log: Bulkhead::new(share, 256),
        }
    }
}
