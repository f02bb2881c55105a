//! [`Declared`]: whom an endpoint is for.

use crate::access::AccessClass;

/// What an endpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What a request to it does.
    pub class: AccessClass,
    /// Whether a user-level key may leave the project out, even if its scheme wants one.
    pub project_optional: bool,
}

impl Endpoint {
    /// One that only reads and names no project: for [`Verifier::verify`](crate::Verifier::verify) without
    /// HTTP.
    pub const READ: Self = Self { class: AccessClass::Read, project_optional: false };
    /// One that writes.
    pub const WRITE: Self = Self { class: AccessClass::Write, project_optional: false };
}

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
