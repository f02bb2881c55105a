//! The bulkhead for look-ups: which look-ups share a limit on concurrent queries to the store.

use crate::bulkhead::{Bulkhead, Capacity};
use crate::limit::Client;

/// One client may have at most a quarter of the concurrent queries. The total is what the queues of the built-in stores
/// hold.
const CAPACITY: Capacity = Capacity { permits: 1024, permits_per_key: 256, places: 32 * 1024 };

/// The key of the bulkhead: look-ups with the same value share a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// Requests of a client. Clients with an unknown address share one.
    Request(Option<Client>),
    /// Keys that revoke themselves, so that a flood of requests does not delay them.
    SelfRevoke(Option<Client>),
}

/// Creates the bulkhead, in which a client with very many requests delays only itself.
pub(super) fn lookups() -> Bulkhead<Asker> {
    Bulkhead::new(CAPACITY)
}
