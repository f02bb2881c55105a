//! The commands on accounts, projects and members.

use serde_json::{Value, json};
use tower_api_key::store::{Account, Member, MemberRole, Person, Project, RegistryError};
use tower_api_key::{ProjectId, UserId};

use crate::args::{self, RoleArg};
use crate::error::CliError;
use crate::keys::{now, user};
use crate::show::{Out, table};
use crate::store::{Opened, Purpose, StoreOptions};

/// How many entries are queried at once.
const PAGE: u32 = 1000;

pub(crate) async fn account(
    at: &StoreOptions,
    out: &Out,
    what: args::AccountCommand,
) -> Result<(), CliError> {
    let at = at.with_directory()?;
    match what {
        args::AccountCommand::Create { account, owner } => {
            let (account, owner) = (account_id(account)?, user(&owner)?);
            at.with(Purpose::Begin, async |store| {
                match store.accounts.create_account(&account, &owner).await {
                    Err(RegistryError::Conflict) => return Err(in_the_way(store, &account, &owner).await?),
                    made => made?,
                }
                done(out, "made", &account)
            })
            .await
        }
        args::AccountCommand::Suspend { account } => suspend(at, out, account, true).await,
        args::AccountCommand::Resume { account } => suspend(at, out, account, false).await,
        args::AccountCommand::List => {
            at.with(Purpose::Read, async |store| list_accounts(store, out).await).await
        }
    }
}

async fn suspend(at: &StoreOptions, out: &Out, account: String, suspended: bool) -> Result<(), CliError> {
    let account = account_id(account)?;
    at.with(Purpose::Change, async |store| {
        match store.accounts.suspend_account(&account, suspended).await {
            Err(RegistryError::NotFound) => return Err(no_account(&account)),
            set => set?,
        }
        done(out, if suspended { "suspended" } else { "resumed" }, &account)
    })
    .await
}

fn done(out: &Out, done: &str, account: &str) -> Result<(), CliError> {
    out.done(format_args!("{done} account {account}"));
    out.answer(&json!({"account": account, "done": done}), String::new)
}

pub(crate) async fn project(
    at: &StoreOptions,
    out: &Out,
    what: args::ProjectCommand,
) -> Result<(), CliError> {
    let at = at.with_directory()?;
    let done = |account: &str, id: &ProjectId, done: &str| {
        out.done(format_args!("{done} project {id} of account {account}"));
        out.answer(&json!({"account": account, "project": id.as_str(), "done": done}), String::new)
    };
    match what {
        args::ProjectCommand::Create { account, project, name } => {
            let (account, id) = (account_id(account)?, project_id(&project)?);
            let project = Project::new(id.clone(), name.unwrap_or(project));
            at.with(Purpose::Change, async |store| {
                match store.accounts.create_project(&account, &project).await {
                    Err(RegistryError::NotFound) => return Err(no_account(&account)),
                    Err(RegistryError::Conflict) => {
                        return Err(CliError::refused(format!(
                            "account {account} has or had a project {id}: ids of projects are not used again"
                        )));
                    }
                    made => made?,
                }
                done(&account, &id, "made")
            })
            .await
        }
        args::ProjectCommand::Delete { account, project } => {
            let (account, id) = (account_id(account)?, project_id(&project)?);
            at.with(Purpose::Change, async |store| {
                match store.accounts.delete_project(&account, &id).await {
                    Err(RegistryError::NotFound) => return Err(no_project(store, &account, &[&id]).await?),
                    deleted => deleted?,
                }
                done(&account, &id, "deleted")
            })
            .await
        }
        args::ProjectCommand::List { account } => {
            let account = account_id(account)?;
            at.with(Purpose::Read, async |store| {
                let projects = projects_of(store, &account).await?;
                let json = projects.iter().map(|project| {
                    let (id, name) = (project.id.as_str(), &project.name);
                    json!({"account": account, "project": id, "name": name})
                });
                out.answer(&json.collect(), || {
                    let row = |project: &Project| vec![project.id.to_string(), project.name.clone()];
                    table(&["PROJECT", "NAME"], &projects.iter().map(row).collect::<Vec<_>>())
                })
            })
            .await
        }
    }
}

pub(crate) async fn member(at: &StoreOptions, out: &Out, what: args::MemberCommand) -> Result<(), CliError> {
    let at = at.with_directory()?;
    let done = |account: &str, who: &UserId, done: &str| {
        out.done(format_args!("{done} member {who} of account {account}"));
        out.answer(&json!({"account": account, "user": who.as_str(), "done": done}), String::new)
    };
    match what {
        args::MemberCommand::Set { account, user: who, role, projects } => {
            let (account, who) = (account_id(account)?, user(&who)?);
            let projects: Vec<ProjectId> =
                projects.iter().map(|id| project_id(id)).collect::<Result<_, _>>()?;
            let role = match role {
                RoleArg::Full => MemberRole::Full,
                RoleArg::Readonly => MemberRole::ReadOnly,
            };
            let member = Member::new(role, projects);
            at.with(Purpose::Change, async |store| {
                match store.accounts.set_member(&account, &who, &member).await {
                    Err(RegistryError::NotFound) => {
                        let named: Vec<_> = member.projects.iter().collect();
                        return Err(no_project(store, &account, &named).await?);
                    }
                    Err(RegistryError::Conflict) => return Err(belongs(store, &account, &who).await?),
                    set => set?,
                }
                done(&account, &who, "set")
            })
            .await
        }
        args::MemberCommand::Remove { account, user: who } => {
            let (account, who) = (account_id(account)?, user(&who)?);
            at.with(Purpose::Change, async |store| {
                match store.accounts.remove_member(&account, &who, now()).await {
                    Err(RegistryError::NotFound) => {
                        let there = exists(store, &account).await?;
                        return Err(if there {
                            CliError::refused(format!("{who} is no member of account {account}"))
                        } else {
                            no_account(&account)
                        });
                    }
                    Err(RegistryError::Conflict) => return Err(belongs(store, &account, &who).await?),
                    removed => removed?,
                }
                done(&account, &who, "removed")
            })
            .await
        }
        args::MemberCommand::List { account } => {
            let account = account_id(account)?;
            at.with(Purpose::Read, async |store| list_members(store, out, &account).await).await
        }
    }
}

async fn list_accounts(store: &Opened, out: &Out) -> Result<(), CliError> {
    let mut accounts: Vec<Account> = Vec::new();
    loop {
        let after = accounts.last().map(|account| &*account.id);
        let page = store.accounts.list_accounts(after, PAGE).await?;
        if page.is_empty() {
            break;
        }
        accounts.extend(page);
    }
    let json = accounts.iter().map(|account| {
        json!({"account": account.id, "owner": account.owner.as_str(), "suspended": account.suspended})
    });
    out.answer(&json.collect(), || {
        let row = |account: &Account| {
            let state = if account.suspended { "suspended" } else { "active" };
            vec![account.id.clone(), account.owner.to_string(), state.to_owned()]
        };
        table(&["ACCOUNT", "OWNER", "STATE"], &accounts.iter().map(row).collect::<Vec<_>>())
    })
}

async fn list_members(store: &Opened, out: &Out, account: &str) -> Result<(), CliError> {
    let mut people: Vec<Person> = Vec::new();
    loop {
        let after = people.last().map(|person| &person.user);
        match store.accounts.list_people(account, after, PAGE).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => people.extend(page),
            Err(RegistryError::NotFound) => return Err(no_account(account)),
            Err(error) => return Err(error.into()),
        }
    }
    let json = people.iter().map(|person| {
        let projects: Vec<_> = person.projects.iter().map(|project| project.as_str()).collect();
        let (user, role) = (person.user.as_str(), person.role.as_str());
        json!({"account": account, "user": user, "role": role, "projects": projects})
    });
    let json: Value = json.collect();
    out.answer(&json, || {
        let row = |person: &Person| {
            let projects: Vec<_> = person.projects.iter().map(|project| project.as_str()).collect();
            let projects = match person.role {
                tower_api_key::Role::Owner => "(all)".to_owned(),
                _ if projects.is_empty() => "-".to_owned(),
                _ => projects.join(" "),
            };
            vec![person.user.to_string(), person.role.as_str().to_owned(), projects]
        };
        table(&["USER", "ROLE", "PROJECTS"], &people.iter().map(row).collect::<Vec<_>>())
    })
}

async fn projects_of(store: &Opened, account: &str) -> Result<Vec<Project>, CliError> {
    let mut projects: Vec<Project> = Vec::new();
    loop {
        let after = projects.last().map(|project| &project.id);
        match store.accounts.list_projects(account, after, PAGE).await {
            Ok(page) if page.is_empty() => return Ok(projects),
            Ok(page) => projects.extend(page),
            Err(RegistryError::NotFound) => return Err(no_account(account)),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn exists(store: &Opened, account: &str) -> Result<bool, CliError> {
    match store.accounts.list_people(account, None, 0).await {
        Ok(_) => Ok(true),
        Err(RegistryError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Why an account cannot be created.
async fn in_the_way(store: &Opened, account: &str, owner: &UserId) -> Result<CliError, CliError> {
    if exists(store, account).await? {
        return Ok(CliError::refused(format!(
            "account {account} exists: `tower-api-key member list {account}` shows who belongs to it"
        )));
    }
    belongs(store, account, owner).await
}

/// Why a user cannot be added to an account or removed from it.
async fn belongs(store: &Opened, account: &str, who: &UserId) -> Result<CliError, CliError> {
    Ok(CliError::refused(match store.accounts.account_of(who).await? {
        Some(of) if of == account => {
            format!(
                "{who} is the owner of account {account}, and stays it until the account is transferred to a member"
            )
        }
        Some(of) => format!("{who} belongs to account {of}, and nobody belongs to two"),
        None => format!("another process is changing account {account}: try again"),
    }))
}

fn no_account(account: &str) -> CliError {
    CliError::refused(format!(
        "there is no account {account}: `tower-api-key account list` shows the existing ones"
    ))
}

/// Which of several projects does not exist; or that the account does not.
async fn no_project(store: &Opened, account: &str, named: &[&ProjectId]) -> Result<CliError, CliError> {
    let there = projects_of(store, account).await?;
    let missing = named.iter().find(|id| there.iter().all(|project| project.id != ***id));
    Ok(CliError::refused(match missing {
        Some(id) => format!(
            "account {account} has no project {id}: `tower-api-key project list {account}` shows the existing ones"
        ),
        None => format!("another process is changing account {account}: try again"),
    }))
}

/// An account id has the same form as a project id.
fn account_id(account: String) -> Result<String, CliError> {
    ProjectId::new(&account).map(|_| account).map_err(|_| {
        CliError::usage("the id of an account must be 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -")
    })
}

fn project_id(id: &str) -> Result<ProjectId, CliError> {
    ProjectId::new(id).map_err(CliError::usage)
}
