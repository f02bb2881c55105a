//! What a person may do on a project, what an endpoint asks for, and whether one covers the other.

/// What a user may do on one project, or in the account where no project is named (R18 to R20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Reads only: a write is refused with 403 (R20).
    ReadOnly,
    /// Reads and writes, but decides nothing about the account (R19).
    Full,
    /// Owns the account: every project in it, and the account itself (R18).
    Owner,
}

/// What a request to an endpoint does (R20).
///
/// Where [`Endpoints`](crate::endpoint::Endpoints) declares nothing, `GET` and `HEAD` read and every other method
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AccessClass {
    /// Changes nothing.
    Read,
    /// Changes something in a project.
    Write,
    /// Makes, replaces or ends keys: only for user-level keys of people who may write (R40).
    Manage,
}

impl Role {
    /// `OWNER`, `FULL` or `READONLY`, as the body document says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "READONLY",
            Self::Full => "FULL",
            Self::Owner => "OWNER",
        }
    }

    /// Whether this role covers what an endpoint of `class` does.
    #[must_use]
    pub fn allows(self, class: AccessClass) -> bool {
        self > Self::ReadOnly || class == AccessClass::Read
    }
}

/// What a [`Directory`](crate::store::Directory) says about a user at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// The user is unknown, removed or suspended. Every key of this user is refused with 401, as if unknown.
    Disabled,
    /// The user is in good standing.
    Active {
        /// The role on the project asked for, or in the account where none was; `None` is no access: 403.
        role: Option<Role>,
    },
}
