//! Whose look-ups wait for a store together.

use crate::bulkhead::{Bulkhead, Capacity};
use crate::limit::Client;

/// A quarter of what asks a store at once may be of one client; as much is asked at once as the queues of the built-in
/// stores take.
const CAPACITY: Capacity = Capacity { permits: 1024, permits_per_key: 256, places: 32 * 1024 };

/// Whose look-ups share what.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// Requests of a client. Those whose address is not known are one.
    Request(Option<Client>),
    /// Keys that are to be ended by themselves: a flood of requests does not hold that up.
    SelfRevoke(Option<Client>),
}

/// One with very many requests keeps only itself waiting.
pub(super) fn lookups() -> Bulkhead<Asker> {
    Bulkhead::new(CAPACITY)
}
