//! Accounts, their projects and their members: as much as keys need.

use serde_json::json;
use tower_api_key::store::{Member, MemberRole, Project};
use tower_api_key::{ProjectId, UserId};

use crate::Failure;
use crate::args::{self, Role};
use crate::keys::{now, user};
use crate::show::Out;
use crate::store::Opened;

pub(crate) async fn account(store: &Opened, out: &Out, what: args::Account) -> Result<(), Failure> {
    let (account, done) = match what {
        args::Account::Create { account, owner } => {
            let owner: UserId = user(&owner)?;
            store.accounts.create_account(&account, &owner).await?;
            (account, "made")
        }
        args::Account::Suspend { account } => {
            store.accounts.suspend_account(&account, true).await?;
            (account, "suspended")
        }
        args::Account::Resume { account } => {
            store.accounts.suspend_account(&account, false).await?;
            (account, "resumed")
        }
    };
    out.done(format_args!("{done} account {account}"));
    out.answer(&json!({"account": account, "done": done}), String::new)
}

pub(crate) async fn project(store: &Opened, out: &Out, what: args::Project) -> Result<(), Failure> {
    let (account, id, done) = match what {
        args::Project::Create { account, project, name } => {
            let id = project_id(&project)?;
            let project = Project::new(id.clone(), name.unwrap_or(project));
            store.accounts.create_project(&account, &project).await?;
            (account, id, "made")
        }
        args::Project::Delete { account, project } => {
            let id = project_id(&project)?;
            store.accounts.delete_project(&account, &id).await?;
            (account, id, "deleted")
        }
    };
    out.done(format_args!("{done} project {id} of account {account}"));
    out.answer(&json!({"account": account, "project": id.as_str(), "done": done}), String::new)
}

pub(crate) async fn member(store: &Opened, out: &Out, what: args::Member) -> Result<(), Failure> {
    let (account, who, done) = match what {
        args::Member::Set { account, user: who, role, projects } => {
            let who = user(&who)?;
            let projects: Vec<ProjectId> =
                projects.iter().map(|id| project_id(id)).collect::<Result<_, _>>()?;
            let role = match role {
                Role::Full => MemberRole::Full,
                Role::Readonly => MemberRole::ReadOnly,
            };
            store.accounts.set_member(&account, &who, &Member::new(role, projects)).await?;
            (account, who, "set")
        }
        args::Member::Remove { account, user: who } => {
            let who = user(&who)?;
            store.accounts.remove_member(&account, &who, now()).await?;
            (account, who, "removed")
        }
    };
    out.done(format_args!("{done} member {who} of account {account}"));
    out.answer(&json!({"account": account, "user": who.as_str(), "done": done}), String::new)
}

fn project_id(id: &str) -> Result<ProjectId, Failure> {
    ProjectId::new(id).map_err(Failure::usage)
}
