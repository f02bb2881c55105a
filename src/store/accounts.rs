//! People and projects of the built-in directory.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::error::{RegistryError, StoreError};
use crate::access::Role;
use crate::clock::Timestamp;
use crate::key::{ProjectId, UserId};

/// People and projects of the built-in directory: accounts with one owner each, members with a role and a list of
/// projects (R18 to R23).
///
/// Each user belongs to one account, and projects are named within their account: two accounts may both have a `p1`.
/// What changes here is seen by the next request.
///
/// Lists are ordered by id, byte by byte, and go on after the id of `after`. A page has at most `limit` entries, and at most a
/// thousand: a page without entries is the last. By default a list is [`StoreError::NotKept`].
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Makes an account with its owner.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Conflict`] if the account exists or the owner belongs to one, [`RegistryError::Invalid`] if
    /// `account` is not an id (1 to 128 of `A-Z a-z 0-9 . _ : @ -`), [`RegistryError::Store`].
    async fn create_account(&self, account: &str, owner: &UserId) -> Result<(), RegistryError>;

    /// Makes a project. Ids of deleted projects are not used again: their keys would come back.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] without the account, [`RegistryError::Conflict`] if the id is or was taken,
    /// [`RegistryError::Store`].
    async fn create_project(&self, account: &str, project: &Project) -> Result<(), RegistryError>;

    /// Deletes a project. Its keys stay and are refused with 403 (R26).
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Store`].
    async fn delete_project(&self, account: &str, project: &ProjectId) -> Result<(), RegistryError>;

    /// Adds a member to an account, or changes what a member may do: role and list of projects are replaced.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] without the account or a project, [`RegistryError::Conflict`] if the user is an owner or
    /// belongs to another account, [`RegistryError::Store`].
    async fn set_member(&self, account: &str, user: &UserId, access: &Member) -> Result<(), RegistryError>;

    /// Removes a member from an account, and in the same step revokes the keys of theirs that this store holds: those do
    /// not come back with the person.
    ///
    /// Keys in another store (`(registry, accounts)`) are not touched. They are refused while the person is in no account,
    /// and would work again if they join one: revoke them by the [`Keyring`](crate::keyring::Keyring).
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Conflict`] for the owner (transfer the account first),
    /// [`RegistryError::Store`].
    async fn remove_member(&self, account: &str, user: &UserId, now: Timestamp) -> Result<(), RegistryError>;

    /// Makes a member the owner; the owner before becomes a member with `access`.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if `to` is no member (the owner is none) or a project is not the account's,
    /// [`RegistryError::Store`].
    async fn transfer_account(
        &self,
        account: &str,
        to: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError>;

    /// Suspends an account, so that every key of its people is refused with 401, or lifts that.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Store`].
    async fn suspend_account(&self, account: &str, suspended: bool) -> Result<(), RegistryError>;

    /// A page of all accounts, suspended ones too.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotKept`], or the store could not tell.
    async fn list_accounts(&self, after: Option<&str>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let _ = (after, limit);
        Err(StoreError::NotKept)
    }

    /// A page of the projects of an account, without deleted ones.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] without the account, [`RegistryError::Store`] with [`StoreError::NotKept`], or if the store
    /// could not tell.
    async fn list_projects(
        &self,
        account: &str,
        after: Option<&ProjectId>,
        limit: u32,
    ) -> Result<Vec<Project>, RegistryError> {
        let _ = (account, after, limit);
        Err(StoreError::NotKept.into())
    }

    /// A page of the people of an account: its owner and its members.
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

    /// The account that a user belongs to, suspended or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotKept`], or the store could not tell.
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
    /// A project of that id and name.
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
    /// Whether every key of its people is refused.
    pub suspended: bool,
}

impl Account {
    /// An account that is not suspended.
    #[must_use]
    pub fn new(id: impl Into<String>, owner: UserId) -> Self {
        Self { id: id.into(), owner, suspended: false }
    }

    /// Suspended, or not.
    #[must_use]
    pub fn suspended(self, suspended: bool) -> Self {
        Self { suspended, ..self }
    }
}

/// Somebody who belongs to an account, as [`Accounts::list_people`] lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Person {
    /// Who it is.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// The projects that a member may access; of the owner none stand here, since all are theirs.
    pub projects: BTreeSet<ProjectId>,
}

impl Person {
    /// Somebody of that role, on those projects and no other.
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
    /// A member of that role, on those projects and no other.
    #[must_use]
    pub fn new(role: MemberRole, projects: impl IntoIterator<Item = ProjectId>) -> Self {
        Self { role, projects: projects.into_iter().collect() }
    }
}

/// The documents' `FULL` and `READONLY`.
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
