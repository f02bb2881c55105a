//! Rows of a directory in SQL: the people of an account, their roles and projects.

use crate::key::{ProjectId, UserId};
use crate::role::{AccountStatus, Role};
use crate::store::accounts::Person;
use crate::store::error::StoreError;

/// Returns what a user may do, from the row of a user who belongs to an account.
///
/// `suspended` is NULL if the account does not exist. `deleted` and `on_list` are about the requested project:
/// whether it is deleted (NULL if it never existed), and whether it is on the user's list.
///
/// # Errors
///
/// [`StoreError::Corrupt`].
pub fn account_status(
    role: &str,
    suspended: Option<bool>,
    asked: bool,
    deleted: Option<bool>,
    on_list: Option<bool>,
) -> Result<AccountStatus, StoreError> {
    let role = role_of(role)?;
    let suspended =
        suspended.ok_or_else(|| StoreError::corrupt("the account that they belong to is not there"))?;
    if suspended {
        return Ok(AccountStatus::Disabled);
    }
    let project = asked.then_some((|| deleted == Some(false), || on_list == Some(true)));
    Ok(AccountStatus::of_person(role, project))
}

/// Adds a row of `user, role, project` to the people of the rows before, who belong to this account. Each person has
/// one row for each project.
///
/// # Errors
///
/// [`StoreError::Corrupt`], which names the user, or else the account.
pub fn add_person(
    people: &mut Vec<Person>,
    account: &str,
    user: &str,
    role: &str,
    project: Option<&str>,
) -> Result<(), StoreError> {
    if people.last().is_none_or(|last| last.user.as_str() != user) {
        let user = user_id(user).map_err(|error| error.of_account(account))?;
        let role = role_of(role).map_err(|error| error.of_user(&user))?;
        people.push(Person::new(user, role, []));
    }
    if let (Some(last), Some(project)) = (people.last_mut(), project) {
        let project = project_id(project).map_err(|error| error.of_user(&last.user))?;
        last.projects.insert(project);
    }
    Ok(())
}

/// Parses the id of a user.
///
/// # Errors
///
/// [`StoreError::Corrupt`].
pub fn user_id(id: &str) -> Result<UserId, StoreError> {
    UserId::new(id).map_err(|_| StoreError::corrupt("the id of a user does not parse"))
}

/// Parses the id of a project.
///
/// # Errors
///
/// [`StoreError::Corrupt`].
pub fn project_id(id: &str) -> Result<ProjectId, StoreError> {
    ProjectId::new(id).map_err(|_| StoreError::corrupt("the id of a project does not parse"))
}

/// The text of a role in a column.
#[must_use]
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "OWNER",
        Role::Full => "FULL",
        Role::ReadOnly => "READONLY",
    }
}

/// Parses the text that [`role_name`] returned.
///
/// # Errors
///
/// [`StoreError::Corrupt`].
pub fn role_of(name: &str) -> Result<Role, StoreError> {
    let roles = [Role::Owner, Role::Full, Role::ReadOnly];
    let role = roles.into_iter().find(|role| role_name(*role) == name);
    role.ok_or_else(|| StoreError::corrupt("the role is not OWNER, FULL or READONLY"))
}
