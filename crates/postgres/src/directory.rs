//! SQL of accounts, people and projects.

use std::collections::{BTreeSet, HashMap};

use crate::failure::Failure;
use crate::row::{Row, of_primary, optional, value};
use crate::session::{Param, Session};
use tower_api_key::key::is_id;
use tower_api_key::store::codec::{
    self, KeyRow as _, json, project_id, role_name, role_of, row_limit as page, user_id,
};
use tower_api_key::store::{Account, Member, Person, Project, RegistryError, StoreError};
use tower_api_key::{AccountStatus, ProjectId, Role, UserId};

/// One row for each user and project that is asked for: NULLs for a user without an account.
macro_rules! standing {
    ($asked:literal, $user:literal, $project:literal, $more:literal) => {
        concat!(
            "SELECT people.user_id, people.role, accounts.suspended, projects.deleted, access.project IS NOT NULL, ",
            $more,
            " FROM ",
            $asked,
            " LEFT JOIN tower_api_key.people ON people.user_id = ",
            $user,
            " LEFT JOIN tower_api_key.accounts ON accounts.id = people.account
              LEFT JOIN tower_api_key.projects ON projects.account = people.account AND projects.id = ",
            $project,
            " LEFT JOIN tower_api_key.access
              ON access.user_id = people.user_id AND access.account = people.account AND access.project = ",
            $project
        )
    };
}

/// The last column says whether the server is a standby.
const STANDING: &str = standing!("(SELECT) AS always", "$1", "$2", "pg_is_in_recovery()");

/// Of many users at once; the last column says which of them it is.
const STANDINGS: &str = standing!(
    "unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (user_id, project, number)",
    "asked.user_id",
    "asked.project",
    "asked.number"
);

/// At least one row, because the last column is always needed.
const PROJECTS: &str = "
    SELECT people.role, projects.id, projects.name, pg_is_in_recovery()
    FROM (SELECT) AS always
    LEFT JOIN (tower_api_key.people
        JOIN tower_api_key.accounts ON accounts.id = people.account AND NOT accounts.suspended
        JOIN tower_api_key.projects ON projects.account = people.account AND NOT projects.deleted
        LEFT JOIN tower_api_key.access ON access.user_id = people.user_id AND access.account = people.account
            AND access.project = projects.id)
        ON people.user_id = $1 AND (people.role = 'OWNER' OR access.project IS NOT NULL)
    ORDER BY projects.id";

const LIST_ACCOUNTS: &str = "
    SELECT accounts.id, people.user_id, accounts.suspended
    FROM tower_api_key.accounts
    LEFT JOIN tower_api_key.people ON people.account = accounts.id AND people.role = 'OWNER'
    WHERE accounts.id > $1 ORDER BY accounts.id LIMIT $2";

const LIST_PROJECTS: &str = "
    SELECT id, name FROM tower_api_key.projects
    WHERE account = $1 AND NOT deleted AND id > $2 ORDER BY id LIMIT $3";

/// One row for each project of a member, and one for a member without any.
const LIST_PEOPLE: &str = "
    SELECT page.user_id, page.role, access.project
    FROM (SELECT user_id, role FROM tower_api_key.people
        WHERE account = $1 AND user_id > $2 ORDER BY user_id LIMIT $3) AS page
    LEFT JOIN tower_api_key.access ON access.user_id = page.user_id AND access.account = $1
    ORDER BY page.user_id, access.project";

/// Locks an account for a change.
const LOCK_ACCOUNT: &str = "SELECT 1 FROM tower_api_key.accounts WHERE id = $1 FOR NO KEY UPDATE";
/// A shared lock on an account.
const HOLD_ACCOUNT: &str = "
    SELECT 1 FROM tower_api_key.accounts
    WHERE id = (SELECT account FROM tower_api_key.people WHERE user_id = $1) FOR SHARE";
const HOLD_ACCOUNTS: &str = "
    SELECT 1 FROM tower_api_key.accounts
    WHERE id IN (SELECT account FROM tower_api_key.people WHERE user_id = ANY ($1::text[]))
    ORDER BY id FOR SHARE";
const ACCOUNT_EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.accounts WHERE id = $1)";
const ADD_ACCOUNT: &str = "INSERT INTO tower_api_key.accounts (id, suspended) VALUES ($1::text, false)";
const SUSPEND: &str = "UPDATE tower_api_key.accounts SET suspended = $2 WHERE id = $1";

const PROJECT_EVER_WAS: &str =
    "SELECT EXISTS (SELECT 1 FROM tower_api_key.projects WHERE account = $1 AND id = $2)";
const PROJECT_EXISTS: &str =
    "SELECT EXISTS (SELECT 1 FROM tower_api_key.projects WHERE account = $1 AND id = $2 AND NOT deleted)";
const ADD_PROJECT: &str = "
    INSERT INTO tower_api_key.projects (account, id, name, deleted) VALUES ($1::text, $2::text, $3::text, false)";
const DELETE_PROJECT: &str =
    "UPDATE tower_api_key.projects SET deleted = true WHERE account = $1 AND id = $2 AND NOT deleted";
const FORGET_PROJECT: &str = "DELETE FROM tower_api_key.access WHERE account = $1 AND project = $2";

const BELONGS: &str = "SELECT account, role FROM tower_api_key.people WHERE user_id = $1";
/// Does not change a user who has joined another account meanwhile.
const ADD_PERSON: &str = "
    INSERT INTO tower_api_key.people (user_id, account, role) VALUES ($1::text, $2::text, $3::text)
    ON CONFLICT (user_id) DO UPDATE SET role = excluded.role
        WHERE people.account = excluded.account AND people.role <> 'OWNER'";
const DEMOTE_OWNER: &str = "
    UPDATE tower_api_key.people SET role = $2::text WHERE account = $1 AND role = 'OWNER' RETURNING user_id";
const PROMOTE: &str = "UPDATE tower_api_key.people SET role = 'OWNER' WHERE user_id = $1";
const REMOVE_PERSON: &str = "DELETE FROM tower_api_key.people WHERE user_id = $1";

const FORGET_ACCESS: &str = "DELETE FROM tower_api_key.access WHERE user_id = $1";
const ADD_ACCESS: &str =
    "INSERT INTO tower_api_key.access (user_id, account, project) VALUES ($1::text, $2::text, $3::text)";

pub(crate) async fn account_status(
    session: &Session,
    user: &UserId,
    project: Option<&ProjectId>,
) -> Result<AccountStatus, Failure> {
    standing_of(session, user, project).await.map_err(|failure| failure.of_user(user))
}

async fn standing_of(
    session: &Session,
    user: &UserId,
    project: Option<&ProjectId>,
) -> Result<AccountStatus, Failure> {
    let project = project.map(ProjectId::as_str);
    let row = session.one(STANDING, &[&user.as_str(), &project]).await?;
    of_primary(&row, 5)?;
    standing_in(&row, project.is_some())
}

fn standing_in(row: &Row, of_project: bool) -> Result<AccountStatus, Failure> {
    if row.optional_text(0)?.is_none() {
        return Ok(AccountStatus::Disabled);
    }
    let (suspended, deleted, on_list) = (optional(row, 2)?, optional(row, 3)?, optional(row, 4)?);
    Ok(codec::account_status(row.text(1)?, suspended, of_project, deleted, on_list)?)
}

/// What each of these users may do on a project, or in their account. For changes only, which no standby makes.
pub(crate) async fn account_statuses<'k>(
    session: &Session,
    asked: &BTreeSet<(&'k UserId, Option<&'k ProjectId>)>,
) -> Result<HashMap<(&'k UserId, Option<&'k ProjectId>), AccountStatus>, Failure> {
    let asked: Vec<_> = asked.iter().copied().collect();
    let users: Vec<_> = asked.iter().map(|(user, _)| user.as_str()).collect();
    let projects: Vec<_> = asked.iter().map(|(_, project)| project.map(ProjectId::as_str)).collect();
    let mut standings = HashMap::with_capacity(asked.len());
    for row in &session.query(STANDINGS, &[&users, &projects]).await? {
        let number = usize::try_from(value::<i64>(row, 5)?).unwrap_or_default();
        if let Some(&(user, project)) = number.checked_sub(1).and_then(|index| asked.get(index)) {
            let standing = standing_in(row, project.is_some()).map_err(|failure| failure.of_user(user))?;
            standings.insert((user, project), standing);
        }
    }
    Ok(standings)
}

/// Keeps a user's rights unchanged until the transaction ends: a concurrent change of the account waits.
pub(crate) async fn hold(session: &Session, user: &UserId) -> Result<(), Failure> {
    session.query(HOLD_ACCOUNT, &[&user.as_str()]).await?;
    Ok(())
}

/// The same for many users, whose accounts are locked in the order of their ids.
pub(crate) async fn hold_all(session: &Session, users: &[&str]) -> Result<(), Failure> {
    session.query(HOLD_ACCOUNTS, &[&users]).await?;
    Ok(())
}

pub(crate) async fn projects(session: &Session, user: &UserId) -> Result<Vec<Project>, Failure> {
    projects_of(session, user).await.map_err(|failure| failure.of_user(user))
}

async fn projects_of(session: &Session, user: &UserId) -> Result<Vec<Project>, Failure> {
    let mut projects = Vec::new();
    for row in &session.query(PROJECTS, &[&user.as_str()]).await? {
        of_primary(row, 3)?;
        if let Some(id) = row.optional_text(1)? {
            role_of(row.text(0)?)?;
            projects.push(Project::new(project_id(id)?, row.free_text(2)?));
        }
    }
    Ok(projects)
}

pub(crate) async fn list_accounts(
    session: &Session,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Account>, Failure> {
    // PostgreSQL accepts no NUL, and no id contains one, so the rest of the text does not change the order.
    let after = after.unwrap_or_default().split('\0').next().unwrap_or_default();
    let found = session.query(LIST_ACCOUNTS, &[&after, &i64::from(page(limit))]).await?;
    let listed = found.iter().map(|row| {
        let account = row.text(0)?;
        Ok(account_of_row(row, account).map_err(|error| error.of_account(account))?)
    });
    listed.collect()
}

fn account_of_row(row: &Row, account: &str) -> Result<Account, StoreError> {
    Ok(Account::new(account, user_id(row.text(1)?)?).suspended(value(row, 2)?))
}

pub(crate) async fn list_projects(
    session: &Session,
    account: &str,
    after: Option<&ProjectId>,
    limit: u32,
) -> Result<Vec<Project>, Failure> {
    check_account(session, account).await?;
    let after = after.map_or("", ProjectId::as_str);
    let found = session.query(LIST_PROJECTS, &[&account, &after, &i64::from(page(limit))]).await?;
    let project = |row: &Row| Ok::<_, StoreError>(Project::new(project_id(row.text(0)?)?, row.free_text(1)?));
    found.iter().map(|row| Ok(project(row).map_err(|error| error.of_account(account))?)).collect()
}

pub(crate) async fn list_people(
    session: &Session,
    account: &str,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<Person>, Failure> {
    check_account(session, account).await?;
    let after = after.map_or("", UserId::as_str);
    let mut people = Vec::new();
    for row in &session.query(LIST_PEOPLE, &[&account, &after, &i64::from(page(limit))]).await? {
        codec::add_person(&mut people, account, row.text(0)?, row.text(1)?, row.optional_text(2)?)?;
    }
    Ok(people)
}

pub(crate) async fn account_of(session: &Session, user: &UserId) -> Result<Option<String>, Failure> {
    Ok(person(session, user).await?.map(|(account, _)| account))
}

async fn check_account(session: &Session, account: &str) -> Result<(), Failure> {
    // A text that is not an id cannot be an account, and PostgreSQL might not even accept it.
    if !is_id(account) || !session.ask(ACCOUNT_EXISTS, &[&account]).await? {
        return Err(RegistryError::NotFound.into());
    }
    Ok(())
}

pub(crate) async fn create_account(session: &Session, account: &str, owner: &UserId) -> Result<(), Failure> {
    if !is_id(account) {
        return Err(RegistryError::Invalid("the name of an account is not an id").into());
    }
    if session.ask(ACCOUNT_EXISTS, &[&account]).await? || person(session, owner).await?.is_some() {
        return Err(RegistryError::Conflict.into());
    }
    session.execute(ADD_ACCOUNT, &[&account]).await?;
    add_person(session, account, owner.as_str(), Role::Owner).await
}

pub(crate) async fn create_project(
    session: &Session,
    account: &str,
    project: &Project,
) -> Result<(), Failure> {
    lock_account(session, account).await?;
    let id = project.id.as_str();
    if session.ask(PROJECT_EVER_WAS, &[&account, &id]).await? {
        return Err(RegistryError::Conflict.into());
    }
    session.execute(ADD_PROJECT, &[&account, &id, &json(&project.name)?]).await?;
    Ok(())
}

pub(crate) async fn delete_project(
    session: &Session,
    account: &str,
    project: &ProjectId,
) -> Result<(), Failure> {
    lock_account(session, account).await?;
    let project: &[Param<'_>] = &[&account, &project.as_str()];
    if session.execute(DELETE_PROJECT, project).await? == 0 {
        return Err(RegistryError::NotFound.into());
    }
    session.execute(FORGET_PROJECT, project).await?;
    Ok(())
}

pub(crate) async fn set_member(
    session: &Session,
    account: &str,
    user: &UserId,
    access: &Member,
) -> Result<(), Failure> {
    lock_account(session, account).await?;
    check_projects(session, account, access).await?;
    add_person(session, account, user.as_str(), access.role.into()).await?;
    grant(session, account, user.as_str(), access).await
}

pub(crate) async fn remove_member(session: &Session, account: &str, user: &UserId) -> Result<(), Failure> {
    lock_account(session, account).await?;
    match person(session, user).await? {
        Some((of, Role::Owner)) if of == account => Err(RegistryError::Conflict.into()),
        Some((of, _)) if of == account => {
            // The member's list of projects is deleted by the foreign key.
            session.execute(REMOVE_PERSON, &[&user.as_str()]).await?;
            Ok(())
        }
        _ => Err(RegistryError::NotFound.into()),
    }
}

pub(crate) async fn transfer(
    session: &Session,
    account: &str,
    to: &UserId,
    access: &Member,
) -> Result<(), Failure> {
    lock_account(session, account).await?;
    let member = person(session, to).await?.is_some_and(|(of, role)| of == account && role != Role::Owner);
    if !member {
        return Err(RegistryError::NotFound.into());
    }
    check_projects(session, account, access).await?;
    // In this order, so that there is never more than one owner.
    let row = session.one(DEMOTE_OWNER, &[&account, &role_name(access.role.into())]).await?;
    grant(session, account, row.text(0)?, access).await?;
    session.execute(PROMOTE, &[&to.as_str()]).await?;
    session.execute(FORGET_ACCESS, &[&to.as_str()]).await?;
    Ok(())
}

pub(crate) async fn suspend(session: &Session, account: &str, suspended: bool) -> Result<(), Failure> {
    lock_account(session, account).await?;
    session.execute(SUSPEND, &[&account, &suspended]).await?;
    Ok(())
}

async fn add_person(session: &Session, account: &str, user: &str, role: Role) -> Result<(), Failure> {
    if session.execute(ADD_PERSON, &[&user, &account, &role_name(role)]).await? == 0 {
        return Err(RegistryError::Conflict.into());
    }
    Ok(())
}

/// Replaces a member's list of projects.
async fn grant(session: &Session, account: &str, user: &str, access: &Member) -> Result<(), Failure> {
    session.execute(FORGET_ACCESS, &[&user]).await?;
    for project in &access.projects {
        session.execute(ADD_ACCESS, &[&user, &account, &project.as_str()]).await?;
    }
    Ok(())
}

async fn lock_account(session: &Session, account: &str) -> Result<(), Failure> {
    // A text that is not an id cannot be an account, and PostgreSQL might not even accept it (NUL).
    if !is_id(account) || session.query(LOCK_ACCOUNT, &[&account]).await?.is_empty() {
        return Err(RegistryError::NotFound.into());
    }
    Ok(())
}

async fn check_projects(session: &Session, account: &str, access: &Member) -> Result<(), Failure> {
    for project in &access.projects {
        if !session.ask(PROJECT_EXISTS, &[&account, &project.as_str()]).await? {
            return Err(RegistryError::NotFound.into());
        }
    }
    Ok(())
}

/// The account to which a user belongs, and the role.
async fn person(session: &Session, user: &UserId) -> Result<Option<(String, Role)>, Failure> {
    let found = session.query(BELONGS, &[&user.as_str()]).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let role = role_of(row.text(1)?).map_err(|error| error.of_user(user))?;
    Ok(Some((value(row, 0)?, role)))
}
