//! [`Declared`]: whether an endpoint needs a key, and for what.

use crate::role::AccessClass;

/// What an endpoint does, and whether it needs a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What a request to it does: read, write or manage.
    pub class: AccessClass,
    /// Whether a user-level key may omit the project, even if its scheme requires one.
    pub project_optional: bool,
}

impl Endpoint {
    /// An endpoint that only reads and needs a project: for [`Verifier::verify`](crate::Verifier::verify) without HTTP.
    pub const READ: Self = Self { class: AccessClass::Read, project_optional: false };
    /// An endpoint that writes.
    pub const WRITE: Self = Self { class: AccessClass::Write, project_optional: false };
}

/// Whether an endpoint needs a key. All three cases have a name, so that no missing value can open an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Declared {
    /// Open to everybody. No key is looked at.
    Public,
    /// Open to requests without a credential, and to requests whose credential is valid for this endpoint.
    Optional(Endpoint),
    /// Open only to requests whose credential is valid for this endpoint.
    Required(Endpoint),
}
