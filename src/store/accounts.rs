//! [`Accounts`]: management of the people and projects of the built-in directory.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::error::{RegistryError, StoreError};
use crate::clock::Timestamp;
use crate::key::{ProjectId, UserId};
use crate::role::Role;

/// Manages the people and projects of the built-in directory: accounts with one owner each, and members with a role
/// and a list of projects (R18 to R23).
///
/// Each user belongs to at most one account. Project ids are unique within an account only: two accounts may both
/// have a `p1`. A change applies to the next request.
///
/// Lists are ordered by id, byte by byte, and start after the id `after`. A page has at most `limit` entries, and
/// at most a thousand. An empty page is the end of the list. The default implementations of the lists return
/// [`StoreError::NotKept`].
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Creates an account with its owner.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Conflict`] if the account exists or the owner belongs to one, [`RegistryError::Invalid`] if
    /// `account` is not an id (1 to 128 of `A-Z a-z 0-9 . _ : @ -`), [`RegistryError::Store`].
    async fn create_account(&self, account: &str, owner: &UserId) -> Result<(), RegistryError>;

    /// Creates a project. The id of a deleted project cannot be used again, because its old keys would work again.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if there is no such account, [`RegistryError::Conflict`] if the id is or was in
    /// use, [`RegistryError::Store`].
    async fn create_project(&self, account: &str, project: &Project) -> Result<(), RegistryError>;

    /// Deletes a project. Its keys stay and are refused with 403 (R26).
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Store`].
    async fn delete_project(&self, account: &str, project: &ProjectId) -> Result<(), RegistryError>;

    /// Adds a member to an account, or replaces the role and the list of projects of a member.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if there is no such account or project, [`RegistryError::Conflict`] if the user
    /// is an owner or belongs to another account, [`RegistryError::Store`].
    async fn set_member(&self, account: &str, user: &UserId, access: &Member) -> Result<(), RegistryError>;

    /// Removes a member from an account, and revokes all keys of the member in this store, so that they do not work
    /// again if the member returns.
    ///
    /// The first transaction removes the membership, which ends access. If the member has very many keys, the rest of
    /// them is revoked in further short transactions, so that other changes need not wait; all are revoked when this
    /// returns. If it fails or is cancelled in between, all keys are refused nevertheless. The remaining keys are
    /// revoked before the user can join an account again, or by calling this once more.
    ///
    /// Keys in a separate store (`(registry, accounts)`) are not revoked. They are refused while the user belongs
    /// to no account, but would work again if the user joins one: revoke them with the
    /// [`Keyring`](crate::Keyring).
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Conflict`] for the owner (transfer the account first),
    /// [`RegistryError::Store`].
    async fn remove_member(&self, account: &str, user: &UserId, now: Timestamp) -> Result<(), RegistryError>;

    /// Makes a member the owner. The previous owner becomes a member with `access`.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if `to` is not a member (the owner is not one), or if a project is not the
    /// account's, [`RegistryError::Store`].
    async fn transfer_account(
        &self,
        account: &str,
        to: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError>;

    /// Suspends an account, so that every key of its people is refused with 401, or resumes it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Store`].
    async fn suspend_account(&self, account: &str, suspended: bool) -> Result<(), RegistryError>;

    /// Returns a page of all accounts, including suspended ones.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotKept`], or another error of the store.
    async fn list_accounts(&self, after: Option<&str>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let _ = (after, limit);
        Err(StoreError::NotKept)
    }

    /// Returns a page of the projects of an account, without deleted ones.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if there is no such account, [`RegistryError::Store`] with
    /// [`StoreError::NotKept`] or another error of the store.
    async fn list_projects(
        &self,
        account: &str,
        after: Option<&ProjectId>,
        limit: u32,
    ) -> Result<Vec<Project>, RegistryError> {
        let _ = (account, after, limit);
        Err(StoreError::NotKept.into())
    }

    /// Returns a page of the people of an account: its owner and its members.
    ///
    /// # Errors
    ///
    /// As [`list_projects`](Self::list_projects).
    async fn list_people(
        &self,
        account: &str,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Person>, RegistryError> {
        let _ = (account, after, limit);
        Err(StoreError::NotKept.into())
    }

    /// Returns the account to which a user belongs, suspended or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotKept`], or another error of the store.
    async fn account_of(&self, user: &UserId) -> Result<Option<String>, StoreError> {
        let _ = user;
        Err(StoreError::NotKept)
    }
}

/// A project, as [`ProjectDirectory::projects`](crate::store::ProjectDirectory::projects) lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name, for people.
    pub name: String,
}

impl Project {
    /// Creates a project with this id and name.
    #[must_use]
    pub fn new(id: ProjectId, name: impl Into<String>) -> Self {
        Self { id, name: name.into() }
    }
}

/// An account, as [`Accounts::list_accounts`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Its id.
    pub id: String,
    /// Its one owner.
    pub owner: UserId,
    /// Whether the account is suspended, so that every key of its people is refused.
    pub suspended: bool,
}

impl Account {
    /// Creates an account that is not suspended.
    #[must_use]
    pub fn new(id: impl Into<String>, owner: UserId) -> Self {
        Self { id: id.into(), owner, suspended: false }
    }

    /// Sets whether it is suspended.
    #[must_use]
    pub fn suspended(self, suspended: bool) -> Self {
        Self { suspended, ..self }
    }
}

/// The owner or a member of an account, as [`Accounts::list_people`] lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Person {
    /// The user.
    pub user: UserId,
    /// The role.
    pub role: Role,
    /// The projects that a member may access; empty for the owner, who may access all.
    pub projects: BTreeSet<ProjectId>,
}

impl Person {
    /// Creates a person with this role, who may access exactly these projects.
    #[must_use]
    pub fn new(user: UserId, role: Role, projects: impl IntoIterator<Item = ProjectId>) -> Self {
        Self { user, role, projects: projects.into_iter().collect() }
    }
}

/// What a member of an account may do, and where (R19, R20).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Whether the member may write.
    pub role: MemberRole,
    /// The projects that the member may access.
    pub projects: BTreeSet<ProjectId>,
}

impl Member {
    /// Creates a member with this role, who may access exactly these projects.
    #[must_use]
    pub fn new(role: MemberRole, projects: impl IntoIterator<Item = ProjectId>) -> Self {
        Self { role, projects: projects.into_iter().collect() }
    }
}

/// The role of a member: `FULL` or `READONLY` in the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberRole {
    /// Reads and writes (R19).
    Full,
    /// Reads (R20).
    ReadOnly,
}

impl From<MemberRole> for Role {
    fn from(role: MemberRole) -> Self {
        match role {
            MemberRole::Full => Self::Full,
            MemberRole::ReadOnly => Self::ReadOnly,
        }
    }
}
