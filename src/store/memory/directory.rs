//! The people and projects of a [`MemoryStore`](super::MemoryStore).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use foldhash::fast::RandomState;

use super::super::codec::row_limit as page;
use super::super::{Account, Member, Person, Project, RegistryError};
use crate::key::{ProjectId, UserId, is_id};
use crate::role::{AccountStatus, Role};

/// Accounts, and who belongs to which.
#[derive(Default)]
pub(super) struct People {
    /// Entries are never removed, so that a person can refer to one by its index.
    accounts: Vec<AccountEntry>,
    by_name: BTreeMap<Box<str>, usize>,
    /// Every request looks here, and ids of users may be chosen by strangers: the hash is fast, and seeded.
    by_user: HashMap<UserId, PersonEntry, RandomState>,
}

#[derive(Default)]
struct AccountEntry {
    suspended: bool,
    /// The projects with their names; `None` marks a deleted one, whose id stays taken.
    projects: BTreeMap<ProjectId, Option<String>>,
    people: BTreeSet<UserId>,
}

struct PersonEntry {
    account: usize,
    access: Membership,
}

/// The role of a person. A member's list contains only existing projects: deleting a project removes it from every
/// list.
enum Membership {
    Owner,
    Member(Member),
}

impl People {
    /// Takes one hash-map look-up, of the user.
    pub(super) fn account_status(&self, user: &UserId, project: Option<&ProjectId>) -> AccountStatus {
        let Some((person, account)) = self.active(user) else { return AccountStatus::Disabled };
        let (role, list) = match &person.access {
            Membership::Owner => (Role::Owner, None),
            Membership::Member(member) => (member.role.into(), Some(&member.projects)),
        };
        let asked = |project| {
            // A list names no project that the account does not have.
            let exists = move || list.is_some() || account.has(project);
            (exists, move || list.is_some_and(|list| list.contains(project)))
        };
        AccountStatus::of_person(role, project.map(asked))
    }

    pub(super) fn projects(&self, user: &UserId) -> Vec<Project> {
        let Some((person, account)) = self.active(user) else { return Vec::new() };
        let accessible = |id: &ProjectId| match &person.access {
            Membership::Owner => true,
            Membership::Member(member) => member.projects.contains(id),
        };
        let all = account.projects.iter().filter(|(id, _)| accessible(id));
        all.filter_map(named).collect()
    }

    pub(super) fn create_account(&mut self, account: &str, owner: &UserId) -> Result<(), RegistryError> {
        if !is_id(account) {
            return Err(RegistryError::Invalid("the name of an account is not an id"));
        }
        if self.by_name.contains_key(account) || self.by_user.contains_key(owner) {
            return Err(RegistryError::Conflict);
        }
        let index = self.accounts.len();
        self.accounts
            .push(AccountEntry { people: BTreeSet::from([owner.clone()]), ..AccountEntry::default() });
        self.by_name.insert(account.into(), index);
        self.by_user.insert(owner.clone(), PersonEntry { account: index, access: Membership::Owner });
        Ok(())
    }

    pub(super) fn create_project(&mut self, account: &str, project: &Project) -> Result<(), RegistryError> {
        let account = self.account_mut(self.index(account)?)?;
        if account.projects.contains_key(&project.id) {
            return Err(RegistryError::Conflict);
        }
        account.projects.insert(project.id.clone(), Some(project.name.clone()));
        Ok(())
    }

    pub(super) fn delete_project(&mut self, account: &str, project: &ProjectId) -> Result<(), RegistryError> {
        let index = self.index(account)?;
        let account = self.accounts.get_mut(index).ok_or(RegistryError::NotFound)?;
        let name = account.projects.get_mut(project).filter(|name| name.is_some());
        *name.ok_or(RegistryError::NotFound)? = None;
        for user in &account.people {
            if let Some(PersonEntry { access: Membership::Member(member), .. }) = self.by_user.get_mut(user) {
                member.projects.remove(project);
            }
        }
        Ok(())
    }

    pub(super) fn set_member(
        &mut self,
        account: &str,
        user: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError> {
        let index = self.index(account)?;
        self.check_access(index, access)?;
        let may = self.by_user.get(user).is_none_or(|person| person.account == index && !person.is_owner());
        if !may {
            return Err(RegistryError::Conflict);
        }
        self.account_mut(index)?.people.insert(user.clone());
        self.by_user
            .insert(user.clone(), PersonEntry { account: index, access: Membership::Member(access.clone()) });
        Ok(())
    }

    pub(super) fn remove_member(&mut self, account: &str, user: &UserId) -> Result<(), RegistryError> {
        let index = self.index(account)?;
        if self.person_in(index, user)?.is_owner() {
            return Err(RegistryError::Conflict);
        }
        self.account_mut(index)?.people.remove(user);
        self.by_user.remove(user);
        Ok(())
    }

    pub(super) fn transfer(
        &mut self,
        account: &str,
        to: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError> {
        let index = self.index(account)?;
        self.check_access(index, access)?;
        if self.person_in(index, to)?.is_owner() {
            return Err(RegistryError::NotFound);
        }
        let account = self.accounts.get(index).ok_or(RegistryError::NotFound)?;
        for user in &account.people {
            let Some(person) = self.by_user.get_mut(user) else { continue };
            if user == to {
                person.access = Membership::Owner;
            } else if person.is_owner() {
                person.access = Membership::Member(access.clone());
            }
        }
        Ok(())
    }

    pub(super) fn suspend(&mut self, account: &str, suspended: bool) -> Result<(), RegistryError> {
        self.account_mut(self.index(account)?)?.suspended = suspended;
        Ok(())
    }

    pub(super) fn list_accounts(&self, after: Option<&str>, limit: u32) -> Vec<Account> {
        let named = self.by_name.range::<str, _>((after_that(after), Bound::Unbounded));
        let listed = named.filter_map(|(name, index)| {
            let account = self.accounts.get(*index)?;
            let is_owner = |user: &&UserId| self.by_user.get(*user).is_some_and(PersonEntry::is_owner);
            let owner = account.people.iter().find(is_owner)?;
            Some(Account { suspended: account.suspended, ..Account::new(&**name, owner.clone()) })
        });
        listed.take(page(limit) as usize).collect()
    }

    pub(super) fn list_projects(
        &self,
        account: &str,
        after: Option<&ProjectId>,
        limit: u32,
    ) -> Result<Vec<Project>, RegistryError> {
        let account = self.accounts.get(self.index(account)?).ok_or(RegistryError::NotFound)?;
        let listed =
            account.projects.range::<ProjectId, _>((after_that(after), Bound::Unbounded)).filter_map(named);
        Ok(listed.take(page(limit) as usize).collect())
    }

    pub(super) fn list_people(
        &self,
        account: &str,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Person>, RegistryError> {
        let account = self.accounts.get(self.index(account)?).ok_or(RegistryError::NotFound)?;
        let people = account.people.range::<UserId, _>((after_that(after), Bound::Unbounded));
        let listed = people.filter_map(|user| {
            Some(match &self.by_user.get(user)?.access {
                Membership::Owner => Person::new(user.clone(), Role::Owner, []),
                Membership::Member(member) => {
                    Person::new(user.clone(), member.role.into(), member.projects.iter().cloned())
                }
            })
        });
        Ok(listed.take(page(limit) as usize).collect())
    }

    pub(super) fn account_of(&self, user: &UserId) -> Option<String> {
        let index = self.by_user.get(user)?.account;
        self.by_name.iter().find(|(_, at)| **at == index).map(|(name, _)| (**name).to_owned())
    }

    /// Returns a user and their account, unless it is suspended.
    fn active(&self, user: &UserId) -> Option<(&PersonEntry, &AccountEntry)> {
        let person = self.by_user.get(user)?;
        let account = self.accounts.get(person.account)?;
        (!account.suspended).then_some((person, account))
    }

    fn index(&self, account: &str) -> Result<usize, RegistryError> {
        self.by_name.get(account).copied().ok_or(RegistryError::NotFound)
    }

    fn account_mut(&mut self, index: usize) -> Result<&mut AccountEntry, RegistryError> {
        self.accounts.get_mut(index).ok_or(RegistryError::NotFound)
    }

    fn person_in(&self, account: usize, user: &UserId) -> Result<&PersonEntry, RegistryError> {
        self.by_user.get(user).filter(|person| person.account == account).ok_or(RegistryError::NotFound)
    }

    fn check_access(&self, account: usize, access: &Member) -> Result<(), RegistryError> {
        let account = self.accounts.get(account).ok_or(RegistryError::NotFound)?;
        let all = access.projects.iter().all(|project| account.has(project));
        if all { Ok(()) } else { Err(RegistryError::NotFound) }
    }
}

/// Returns a project, unless it is deleted.
fn named((id, name): (&ProjectId, &Option<String>)) -> Option<Project> {
    name.as_ref().map(|name| Project::new(id.clone(), name))
}

/// The lower bound of the ids of a page.
fn after_that<T: ?Sized>(after: Option<&T>) -> Bound<&T> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

impl AccountEntry {
    fn has(&self, project: &ProjectId) -> bool {
        self.projects.get(project).is_some_and(Option::is_some)
    }
}

impl PersonEntry {
    fn is_owner(&self) -> bool {
        matches!(self.access, Membership::Owner)
    }
}
