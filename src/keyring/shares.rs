//! Work for the store is shared out by the one on whose behalf it is done, before it is shared by all.

use crate::bulkhead::{Bulkhead, Capacity};
use crate::key::UserId;

/// How work is shared out among those on whose behalf it is done, in front of the store's own queues. Nobody fills those
/// that are everybody's, and each kind of work has room of its own.
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
