//! Who may come in at an endpoint.

use super::Endpoint;

/// Who may come in at an endpoint. Each of the three is said by name: there is no answer that lets somebody in because
/// it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody. No key is looked at.
    Open,
    /// Whoever sends no credential, and whoever sends a good one for this.
    Optional(Endpoint),
    /// Whoever sends a good credential for this.
    Required(Endpoint),
}
