//! [`Declared`]: whom an endpoint is for.

use super::Endpoint;

/// Whom an endpoint is for. Each of the three is said by name: there is no answer that lets somebody in because it says
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Anybody. No key is looked at.
    Public,
    /// Anybody who sends no credential, and anybody who sends a good one for this.
    Optional(Endpoint),
    /// Those who send a good credential for this.
    Required(Endpoint),
}
