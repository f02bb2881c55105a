//! SQL of accounts, people and projects.

use rusqlite::{Connection, Transaction, params};

use crate::failure::Failure;
use crate::row::{BorrowedRow, truth};
use tower_api_key::key::is_id;
use tower_api_key::store::codec::{
    self, KeyRow as _, project_id, role_name, role_of, row_limit as page, user_id,
};
use tower_api_key::store::{Account, Member, Person, Project, RegistryError, StoreError};
use tower_api_key::{AccountStatus, ProjectId, Role, UserId};

/// One row for a user who belongs to an account. The last two columns concern the requested project: whether it is
/// deleted (NULL if it never existed), and whether the user's list contains it.
const STANDING: &str = "
    SELECT people.role, accounts.suspended, projects.deleted, access.project IS NOT NULL
    FROM people
    LEFT JOIN accounts ON accounts.id = people.account
    LEFT JOIN projects ON projects.account = people.account AND projects.id = ?2
    LEFT JOIN access ON access.user = people.user AND access.account = people.account AND access.project = ?2
    WHERE people.user = ?1";

const PROJECTS: &str = "
    SELECT people.role, projects.id, projects.name
    FROM people
    JOIN accounts ON accounts.id = people.account AND accounts.suspended = 0
    JOIN projects ON projects.account = people.account AND projects.deleted = 0
    LEFT JOIN access
        ON access.user = people.user AND access.account = people.account AND access.project = projects.id
    WHERE people.user = ?1 AND (people.role = 'OWNER' OR access.project IS NOT NULL)
    ORDER BY projects.id";

const LIST_ACCOUNTS: &str = "
    SELECT accounts.id, people.user, accounts.suspended
    FROM accounts LEFT JOIN people ON people.account = accounts.id AND people.role = 'OWNER'
    WHERE accounts.id > ?1 ORDER BY accounts.id LIMIT ?2";

const LIST_PROJECTS: &str =
    "SELECT id, name FROM projects WHERE account = ?1 AND deleted = 0 AND id > ?2 ORDER BY id LIMIT ?3";

/// One row for each project of a member, and one for a member without any.
const LIST_PEOPLE: &str = "
    SELECT page.user, page.role, access.project
    FROM (SELECT user, role FROM people WHERE account = ?1 AND user > ?2 ORDER BY user LIMIT ?3) AS page
    LEFT JOIN access ON access.user = page.user AND access.account = ?1
    ORDER BY page.user, access.project";

const ACCOUNT_EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?1)";
const ADD_ACCOUNT: &str = "INSERT INTO accounts (id, suspended) VALUES (?1, 0)";
const SUSPEND: &str = "UPDATE accounts SET suspended = ?2 WHERE id = ?1";

const PROJECT_EVER_WAS: &str = "SELECT EXISTS (SELECT 1 FROM projects WHERE account = ?1 AND id = ?2)";
const PROJECT_EXISTS: &str =
    "SELECT EXISTS (SELECT 1 FROM projects WHERE account = ?1 AND id = ?2 AND deleted = 0)";
const ADD_PROJECT: &str = "INSERT INTO projects (account, id, name, deleted) VALUES (?1, ?2, ?3, 0)";
const DELETE_PROJECT: &str = "UPDATE projects SET deleted = 1 WHERE account = ?1 AND id = ?2 AND deleted = 0";
const FORGET_PROJECT: &str = "DELETE FROM access WHERE account = ?1 AND project = ?2";

const BELONGS: &str = "SELECT account, role FROM people WHERE user = ?1";
const ADD_PERSON: &str = "
    INSERT INTO people (user, account, role) VALUES (?1, ?2, ?3)
    ON CONFLICT (user) DO UPDATE SET role = excluded.role";
const DEMOTE_OWNER: &str = "UPDATE people SET role = ?2 WHERE account = ?1 AND role = 'OWNER' RETURNING user";
const PROMOTE: &str = "UPDATE people SET role = 'OWNER' WHERE user = ?1";
const REMOVE_PERSON: &str = "DELETE FROM people WHERE user = ?1";

const FORGET_ACCESS: &str = "DELETE FROM access WHERE user = ?1";
const ADD_ACCESS: &str = "INSERT INTO access (user, account, project) VALUES (?1, ?2, ?3)";

pub(crate) fn account_status(
    connection: &Connection,
    user: &UserId,
    project: Option<&ProjectId>,
) -> Result<AccountStatus, Failure> {
    standing_of(connection, user, project).map_err(|failure| failure.of_user(user))
}

fn standing_of(
    connection: &Connection,
    user: &UserId,
    project: Option<&ProjectId>,
) -> Result<AccountStatus, Failure> {
    let mut statement = connection.prepare_cached(STANDING)?;
    let mut found = statement.query(params![user.as_str(), project.map(ProjectId::as_str)])?;
    let Some(row) = found.next()?.map(BorrowedRow) else { return Ok(AccountStatus::Disabled) };
    let (suspended, deleted, on_list) = (truth(&row, 1)?, truth(&row, 2)?, truth(&row, 3)?);
    Ok(codec::account_status(row.text(0)?, suspended, project.is_some(), deleted, on_list)?)
}

pub(crate) fn projects(connection: &Connection, user: &UserId) -> Result<Vec<Project>, Failure> {
    projects_of(connection, user).map_err(|failure| failure.of_user(user))
}

fn projects_of(connection: &Connection, user: &UserId) -> Result<Vec<Project>, Failure> {
    let mut statement = connection.prepare_cached(PROJECTS)?;
    let mut found = statement.query(params![user.as_str()])?;
    let mut projects = Vec::new();
    while let Some(row) = found.next()?.map(BorrowedRow) {
        role_of(row.text(0)?)?;
        projects.push(Project::new(project_id(row.text(1)?)?, row.text(2)?));
    }
    Ok(projects)
}

pub(crate) fn list_accounts(
    connection: &Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Account>, Failure> {
    let mut statement = connection.prepare_cached(LIST_ACCOUNTS)?;
    let mut found = statement.query(params![after.unwrap_or_default(), page(limit)])?;
    let mut accounts = Vec::new();
    while let Some(row) = found.next()?.map(BorrowedRow) {
        let account = row.text(0)?;
        accounts.push(account_of_row(&row, account).map_err(|error| error.of_account(account))?);
    }
    Ok(accounts)
}

fn account_of_row(row: &BorrowedRow<'_, '_>, account: &str) -> Result<Account, StoreError> {
    let suspended = truth(row, 2)?.ok_or_else(|| row.wrong(2, "a value is missing"))?;
    Ok(Account::new(account, user_id(row.text(1)?)?).suspended(suspended))
}

pub(crate) fn list_projects(
    connection: &Connection,
    account: &str,
    after: Option<&ProjectId>,
    limit: u32,
) -> Result<Vec<Project>, Failure> {
    check_account(connection, account)?;
    let mut statement = connection.prepare_cached(LIST_PROJECTS)?;
    let mut found = statement.query(params![account, after.map_or("", ProjectId::as_str), page(limit)])?;
    let mut projects = Vec::new();
    while let Some(row) = found.next()?.map(BorrowedRow) {
        let id = project_id(row.text(0)?).map_err(|error| error.of_account(account))?;
        projects.push(Project::new(id, row.text(1)?));
    }
    Ok(projects)
}

pub(crate) fn list_people(
    connection: &Connection,
    account: &str,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<Person>, Failure> {
    check_account(connection, account)?;
    let mut statement = connection.prepare_cached(LIST_PEOPLE)?;
    let mut found = statement.query(params![account, after.map_or("", UserId::as_str), page(limit)])?;
    let mut people = Vec::new();
    while let Some(row) = found.next()?.map(BorrowedRow) {
        codec::add_person(&mut people, account, row.text(0)?, row.text(1)?, row.optional_text(2)?)?;
    }
    Ok(people)
}

pub(crate) fn account_of(connection: &Connection, user: &UserId) -> Result<Option<String>, Failure> {
    Ok(person(connection, user)?.map(|(account, _)| account))
}

pub(crate) fn create_account(
    transaction: &Transaction<'_>,
    account: &str,
    owner: &UserId,
) -> Result<(), Failure> {
    if !is_id(account) {
        return Err(RegistryError::Invalid("the name of an account is not an id").into());
    }
    if exists(transaction, ACCOUNT_EXISTS, params![account])? || person(transaction, owner)?.is_some() {
        return Err(RegistryError::Conflict.into());
    }
    execute(transaction, ADD_ACCOUNT, params![account])?;
    execute(transaction, ADD_PERSON, params![owner.as_str(), account, role_name(Role::Owner)])?;
    Ok(())
}

pub(crate) fn create_project(
    transaction: &Transaction<'_>,
    account: &str,
    project: &Project,
) -> Result<(), Failure> {
    check_account(transaction, account)?;
    if exists(transaction, PROJECT_EVER_WAS, params![account, project.id.as_str()])? {
        return Err(RegistryError::Conflict.into());
    }
    execute(transaction, ADD_PROJECT, params![account, project.id.as_str(), project.name])?;
    Ok(())
}

pub(crate) fn delete_project(
    transaction: &Transaction<'_>,
    account: &str,
    project: &ProjectId,
) -> Result<(), Failure> {
    if execute(transaction, DELETE_PROJECT, params![account, project.as_str()])? == 0 {
        return Err(RegistryError::NotFound.into());
    }
    execute(transaction, FORGET_PROJECT, params![account, project.as_str()])?;
    Ok(())
}

pub(crate) fn set_member(
    transaction: &Transaction<'_>,
    account: &str,
    user: &UserId,
    access: &Member,
) -> Result<(), Failure> {
    check_account(transaction, account)?;
    check_projects(transaction, account, access)?;
    if person(transaction, user)?.is_some_and(|(of, role)| of != account || role == Role::Owner) {
        return Err(RegistryError::Conflict.into());
    }
    execute(transaction, ADD_PERSON, params![user.as_str(), account, role_name(access.role.into())])?;
    grant(transaction, account, user.as_str(), access)
}

pub(crate) fn remove_member(
    transaction: &Transaction<'_>,
    account: &str,
    user: &UserId,
) -> Result<(), Failure> {
    match person(transaction, user)? {
        Some((of, Role::Owner)) if of == account => Err(RegistryError::Conflict.into()),
        Some((of, _)) if of == account => {
            // The member's list of projects is deleted by the foreign key.
            execute(transaction, REMOVE_PERSON, params![user.as_str()])?;
            Ok(())
        }
        _ => Err(RegistryError::NotFound.into()),
    }
}

pub(crate) fn transfer(
    transaction: &Transaction<'_>,
    account: &str,
    to: &UserId,
    access: &Member,
) -> Result<(), Failure> {
    let member = person(transaction, to)?.is_some_and(|(of, role)| of == account && role != Role::Owner);
    if !member {
        return Err(RegistryError::NotFound.into());
    }
    check_projects(transaction, account, access)?;
    // In this order, so that there is never more than one owner.
    let before: String = transaction
        .prepare_cached(DEMOTE_OWNER)?
        .query_row(params![account, role_name(access.role.into())], |row| row.get(0))?;
    grant(transaction, account, &before, access)?;
    execute(transaction, PROMOTE, params![to.as_str()])?;
    execute(transaction, FORGET_ACCESS, params![to.as_str()])?;
    Ok(())
}

pub(crate) fn suspend(transaction: &Transaction<'_>, account: &str, suspended: bool) -> Result<(), Failure> {
    if execute(transaction, SUSPEND, params![account, suspended])? == 0 {
        return Err(RegistryError::NotFound.into());
    }
    Ok(())
}

/// Replaces a member's list of projects.
fn grant(transaction: &Transaction<'_>, account: &str, user: &str, access: &Member) -> Result<(), Failure> {
    execute(transaction, FORGET_ACCESS, params![user])?;
    for project in &access.projects {
        execute(transaction, ADD_ACCESS, params![user, account, project.as_str()])?;
    }
    Ok(())
}

fn check_account(connection: &Connection, account: &str) -> Result<(), Failure> {
    if exists(connection, ACCOUNT_EXISTS, params![account])? {
        Ok(())
    } else {
        Err(RegistryError::NotFound.into())
    }
}

fn check_projects(transaction: &Transaction<'_>, account: &str, access: &Member) -> Result<(), Failure> {
    for project in &access.projects {
        if !exists(transaction, PROJECT_EXISTS, params![account, project.as_str()])? {
            return Err(RegistryError::NotFound.into());
        }
    }
    Ok(())
}

/// The account to which a user belongs, and the role.
fn person(connection: &Connection, user: &UserId) -> Result<Option<(String, Role)>, Failure> {
    let mut statement = connection.prepare_cached(BELONGS)?;
    let mut found = statement.query(params![user.as_str()])?;
    let Some(row) = found.next()?.map(BorrowedRow) else { return Ok(None) };
    let role = role_of(row.text(1)?).map_err(|error| error.of_user(user))?;
    Ok(Some((row.text(0)?.to_owned(), role)))
}

fn exists(
    connection: &Connection,
    question: &'static str,
    params: impl rusqlite::Params,
) -> Result<bool, Failure> {
    Ok(connection.prepare_cached(question)?.query_row(params, |row| row.get(0))?)
}

fn execute(
    connection: &Connection,
    statement: &'static str,
    params: impl rusqlite::Params,
) -> Result<usize, Failure> {
    Ok(connection.prepare_cached(statement)?.execute(params)?)
}
