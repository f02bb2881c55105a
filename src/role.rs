//! Access rights: the role of a user, the class of an endpoint, and whether the role allows the class.

/// What a user may do in one project, or in the account if no project is named (R18 to R20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// May read only: a write is refused with 403 (R20).
    ReadOnly,
    /// May read and write, and manage their own keys (R19). Whether they may change the account is for the application
    /// to check: compare with [`Owner`](Self::Owner).
    Full,
    /// Owns the account and every project in it (R18).
    Owner,
}

/// What a request to an endpoint does (R20).
///
/// If [`Endpoints`](crate::Endpoints) has no declaration, `GET` and `HEAD` read and every other method
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AccessClass {
    /// Changes nothing.
    Read,
    /// Changes something in a project.
    Write,
    /// Issues, rotates or revokes keys: only for user-level keys of people who may write (R40).
    Manage,
}

impl Role {
    /// `OWNER`, `FULL` or `READONLY`, as in the body document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "READONLY",
            Self::Full => "FULL",
            Self::Owner => "OWNER",
        }
    }

    /// Whether this role may use an endpoint of this class.
    #[must_use]
    pub fn allows(self, class: AccessClass) -> bool {
        self > Self::ReadOnly || class == AccessClass::Read
    }
}

/// The status of a user, as a [`Directory`](crate::store::Directory) reports it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccountStatus {
    /// The user is unknown, removed or suspended. Every key of this user is refused with 401, as if unknown.
    Disabled,
    /// The user is active.
    Active {
        /// The role in the requested project, or in the account if none was named. `None` means no access: 403.
        role: Option<Role>,
    },
}

impl AccountStatus {
    /// The status of a person in an account that is not suspended: the rule of the built-in directories (R18 to R20).
    /// The owner may access every project of the account, others those on their list.
    ///
    /// `project` is what is asked about, if anything: whether the account has it, and whether the person's list does.
    #[inline]
    pub(crate) fn of_person(
        role: Role,
        project: Option<(impl FnOnce() -> bool, impl FnOnce() -> bool)>,
    ) -> Self {
        let may = match project {
            None => true,
            Some((exists, is_listed)) => (role == Role::Owner || is_listed()) && exists(),
        };
        Self::Active { role: may.then_some(role) }
    }
}
