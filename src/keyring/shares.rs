//! [`OwnerBulkheads`]: limits on the concurrent work of each owner, in front of the store's own queues.

use crate::bulkhead::{Bulkhead, Capacity};
use crate::key::UserId;

/// Bulkheads by owner, one for each kind of work, in front of the store's own queues. So no owner can fill these
/// queues, and no kind of work can delay another.
pub(super) struct OwnerBulkheads {
    pub(super) reads: Bulkhead<UserId>,
    pub(super) changes: Bulkhead<UserId>,
    pub(super) ends: Bulkhead<UserId>,
}

impl Default for OwnerBulkheads {
    fn default() -> Self {
        let room = || Bulkhead::new(Capacity { permits: 64, permits_per_key: 4, places: 2048 });
        Self { reads: room(), changes: room(), ends: room() }
    }
}
