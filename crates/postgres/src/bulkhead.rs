//! [`Bulkheads`]: limits on the use of the connection pool, by kind of work.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use tower_api_key::store::StoreError;

/// Limits concurrency, and lets a bounded number of tasks wait for a bounded time.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    turns: Arc<Semaphore>,
    places: Semaphore,
}

impl Bulkhead {
    pub(crate) fn new(turns: usize, places: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), places: Semaphore::new(places) }
    }

    /// Waits for a permit, which is returned when dropped.
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

/// One bulkhead for each kind of work, so that no kind can take the connections of another.
#[derive(Debug)]
pub(crate) struct Bulkheads {
    /// Look-ups for requests.
    pub(crate) look_ups: Bulkhead,
    /// Queries with possibly long results.
    pub(crate) lists: Bulkhead,
    /// Changes that take no access away, or may wait.
    pub(crate) changes: Bulkhead,
    /// Changes that may take access away, so that a flood of other changes does not delay them.
    pub(crate) ends: Bulkhead,
    /// Reading the change log, renewing leases, and waiting for the nodes after a change.
    pub(crate) log: Bulkhead,
}

/// At least one connection for each kind of work.
pub(crate) const FEWEST: usize = 5;

impl Bulkheads {
    /// Divides a pool of `connections`, at least [`FEWEST`]. Requests get half of it.
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
