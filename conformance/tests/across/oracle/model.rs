//! The right answers, written independently from the documents: the order of decisions (REQUIREMENTS A.8), what
//! people may do (R17 to R27), and the effect of each change (C9). It is straight-line code without a store, a cache,
//! a digest or anything else of the crate; it imports nothing.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) const SECOND: i64 = 1_000_000;
/// In microseconds since 1970.
pub(crate) const BEGIN: i64 = 1_700_000_000 * SECOND;
/// From this time on, the layer for live keys accepts nobody by `X-API-Key`.
pub(crate) const SUNSET: i64 = BEGIN + 3 * 3600 * SECOND;
/// The largest number of active keys of a user in one environment.
pub(crate) const MOST_KEYS: usize = 5;

pub(crate) type User = &'static str;
pub(crate) type Project = &'static str;
pub(crate) type Account = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    ReadOnly,
    Full,
    Owner,
}

/// The role and the projects of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) writes: bool,
    pub(crate) projects: BTreeSet<Project>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Bearer,
    Header,
    Body,
}

/// The endpoint of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Get,
    Post,
    /// A `POST` that is declared as a read.
    ReadByPost,
    /// A `GET` that needs no project.
    GetAnywhere,
    /// A `POST` that needs no project.
    PostAnywhere,
    Manage,
    /// A `GET` where a key is optional.
    OptionalGet,
    /// A `POST` where a key is optional.
    OptionalPost,
    Public,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Unknown,
    Office,
    Home,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    None,
    Ours,
    Theirs,
}

/// The allowed values, and whether the restriction only observes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<T> {
    pub(crate) observed: bool,
    pub(crate) allowed: Vec<T>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) clients: Option<List<Client>>,
    pub(crate) pages: Option<List<Page>>,
    pub(crate) places: Option<List<Place>>,
    pub(crate) schemes: Option<List<Scheme>>,
}

/// Number of requests, and period in seconds.
pub(crate) type Limits = Vec<(i64, i64)>;

/// What another service stored for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Sha256,
    Sha512,
    Hmac,
    Sanctum,
    Text,
}

/// The attributes of a new key.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) owner: User,
    pub(crate) project: Option<Project>,
    pub(crate) test: bool,
    pub(crate) ends: Option<i64>,
    pub(crate) rules: Rules,
    pub(crate) limits: Limits,
}

/// Keys are numbered from 0; the next key to be made has the next number.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Issue {
        wish: Wish,
        single: bool,
    },
    Import {
        wish: Wish,
        origin: Origin,
        revoked: bool,
    },
    ImportAgain {
        key: usize,
    },
    Rotate {
        key: usize,
        grace: i64,
    },
    EndGrace {
        key: usize,
    },
    Revoke {
        key: usize,
    },
    Amend {
        key: usize,
        rules: Option<Rules>,
        limits: Option<Limits>,
    },
    Rehash {
        key: usize,
        from_another: bool,
    },
    MakeProject {
        account: Account,
        project: Project,
    },
    DeleteProject {
        account: Account,
        project: Project,
    },
    SetMember {
        account: Account,
        user: User,
        member: Member,
    },
    RemoveMember {
        account: Account,
        user: User,
    },
    Transfer {
        account: Account,
        to: User,
        member: Member,
    },
    Suspend {
        account: Account,
        suspended: bool,
    },
    Clock {
        to: i64,
    },
    /// One node is restarted and remembers nothing.
    Restart {
        node: usize,
    },
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NotFound,
    Ended,
    Forbidden,
    Expiry,
    TooMany,
    Conflict,
    AlreadyThere,
    NotRenewed,
}

/// A mistake in how a credential is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    None,
    /// The header or the member of the body appears twice.
    Twice,
    /// In both headers.
    BothHeaders,
    /// A body that is not JSON.
    NoJson,
    /// A body with another content type.
    OtherType,
    /// No credential at all.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Key(usize),
    /// With the right format, but unknown.
    Unknown,
    /// Without the right format.
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Nothing,
    Project(Project),
    NoId,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// To the layer that accepts only live keys of our own format; the other layer accepts all.
    pub(crate) live_only: bool,
    pub(crate) scheme: Scheme,
    pub(crate) slip: Slip,
    pub(crate) text: Text,
    /// Only bodies name a user.
    pub(crate) user: Option<User>,
    pub(crate) project: Named,
    pub(crate) place: Place,
    pub(crate) client: Client,
    pub(crate) page: Page,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Accepted, without a principal.
    Open,
    Refused(u16, String),
    Accepted(Principal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) key: usize,
    pub(crate) user: String,
    pub(crate) key_project: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) role: Role,
    pub(crate) test: bool,
    pub(crate) scheme: String,
    pub(crate) observed: Vec<String>,
    pub(crate) remaining: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) wish: Wish,
    /// How it was imported, whether as a revoked key, and its expiry at that time.
    pub(crate) origin: Option<(Origin, bool, Option<i64>)>,
    pub(crate) family: usize,
    pub(crate) revoked: bool,
    pub(crate) replaced: bool,
    /// Whether it has the newest kind of digest.
    pub(crate) newest: bool,
}

#[derive(Clone, Debug)]
struct House {
    owner: User,
    members: BTreeMap<User, Member>,
    /// Whether the project still exists.
    projects: BTreeMap<Project, bool>,
    suspended: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) now: i64,
    pub(crate) keys: Vec<Key>,
    houses: BTreeMap<Account, House>,
    /// When a limit is fully restored, by node, family and period.
    full_at: BTreeMap<(usize, usize, i64), i64>,
}

enum AccountStatus {
    Disabled,
    NoAccess,
    Has(Role),
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { now: BEGIN, keys: Vec::new(), houses: BTreeMap::new(), full_at: BTreeMap::new() }
    }

    pub(crate) fn create_account(&mut self, account: Account, owner: User) {
        let (members, projects) = (BTreeMap::new(), BTreeMap::new());
        self.houses.insert(account, House { owner, members, projects, suspended: false });
    }

    /// The first rule that is violated decides. The numbers are those of A.8.
    pub(crate) fn decide(&mut self, node: usize, probe: &Probe) -> Verdict {
        // 2: public routes.
        if probe.place == Place::Public {
            return Verdict::Open;
        }
        // 3 and 4: repeated lines, two credentials.
        if probe.slip == Slip::BothHeaders || (probe.slip == Slip::Twice && probe.scheme != Scheme::Body) {
            return no(400, "conflicting_credentials");
        }
        // 5 and 6: a body is not read if the method has none, or if it has another content type.
        let is_get = matches!(probe.place, Place::Get | Place::GetAnywhere | Place::OptionalGet);
        let unread = probe.scheme == Scheme::Body && (is_get || probe.slip == Slip::OtherType);
        if probe.slip == Slip::Nothing || unread {
            return match probe.place {
                Place::OptionalGet | Place::OptionalPost => Verdict::Open,
                _ => no(401, "missing_api_key"),
            };
        }
        if matches!(probe.slip, Slip::Twice | Slip::NoJson) {
            return no(400, "malformed_body");
        }
        // 7 and 10: syntax, unknown, revoked, expired, other environment, owner disabled, sunset.
        if probe.live_only && probe.scheme == Scheme::Header && self.now >= SUNSET {
            return no(401, "invalid_api_key");
        }
        let Text::Key(number) = probe.text else { return no(401, "invalid_api_key") };
        let Some(key) = self.keys.get(number) else { return no(401, "invalid_api_key") };
        if key.revoked {
            return no(401, "invalid_api_key");
        }
        if key.wish.ends.is_some_and(|end| self.now >= end) {
            return no(401, "invalid_api_key");
        }
        if probe.live_only && (key.wish.test || key.is_foreign()) {
            return no(401, "invalid_api_key");
        }
        let wanted = match (probe.project, key.wish.project) {
            (Named::Project(named), _) => Some(named),
            (_, own) => own,
        };
        let standing = self.account_status(key.wish.owner, wanted);
        if matches!(standing, AccountStatus::Disabled) {
            return no(401, "invalid_api_key");
        }
        // 10, continued: restrictions by scheme.
        let (mut outside, mut observed) = (false, Vec::new());
        let rules = &key.wish.rules;
        judge(&rules.schemes, probe.scheme, "scheme", &mut outside, &mut observed);
        if outside {
            return no(401, "invalid_api_key");
        }
        // 11: the claimed user.
        if probe.scheme == Scheme::Body && probe.user != Some(key.wish.owner) {
            return no(401, "invalid_user");
        }
        // 12: restrictions.
        judge(&rules.clients, probe.client, "ip", &mut outside, &mut observed);
        judge(&rules.pages, probe.page, "referrer", &mut outside, &mut observed);
        judge(&rules.places, probe.place, "endpoint", &mut outside, &mut observed);
        if outside {
            return no(403, "restricted");
        }
        // 13: the project.
        if probe.project == Named::NoId {
            return no(400, "invalid_project");
        }
        let anywhere = matches!(probe.place, Place::GetAnywhere | Place::PostAnywhere);
        if wanted.is_none() && probe.scheme != Scheme::Bearer && !anywhere {
            return no(400, "project_required");
        }
        if key.wish.project.is_some() && wanted != key.wish.project {
            return no(403, "project_mismatch");
        }
        let AccountStatus::Has(role) = standing else { return no(403, "forbidden") };
        // 14: READONLY, and endpoints for user-level keys only.
        let reads = is_get || probe.place == Place::ReadByPost;
        if role == Role::ReadOnly && !reads {
            return no(403, "read_only");
        }
        if probe.place == Place::Manage && key.wish.project.is_some() {
            return no(403, "forbidden");
        }
        // 15: rate limits.
        let (limits, family, now) = (key.wish.limits.clone(), key.family, self.now);
        let mut after = Vec::new();
        for (count, seconds) in &limits {
            let window = seconds * SECOND;
            let full_at = self.full_at.get(&(node, family, *seconds)).copied().unwrap_or(now);
            // A limit cannot be more than used up, as it might seem after the clock was set back.
            let owed = (full_at - now).clamp(0, window) + window / count;
            if owed > window {
                return no(429, "rate_limited");
            }
            after.push((*seconds, owed, (window - owed) / (window / count)));
        }
        for (seconds, owed, _) in &after {
            self.full_at.insert((node, family, *seconds), now + owed);
        }
        if !limits.is_empty() {
            // A fully restored limit need not be stored.
            self.full_at.retain(|(at, of, _), full| *at != node || *of != family || *full > now);
        }
        // 16: accepted. The holder of a project-level key never has the role of an owner.
        let key = &self.keys[number];
        let role = if key.wish.project.is_some() && role == Role::Owner { Role::Full } else { role };
        Verdict::Accepted(Principal {
            key: number,
            user: key.wish.owner.to_owned(),
            key_project: key.wish.project.map(str::to_owned),
            project: wanted.map(str::to_owned),
            role,
            test: key.wish.test,
            scheme: probe.scheme.name().to_owned(),
            observed,
            remaining: after.iter().map(|(_, _, remaining)| *remaining).min(),
        })
    }

    /// Whether a user belongs to an account.
    pub(crate) fn is_anywhere(&self, user: User) -> bool {
        self.houses.values().any(|house| house.owner == user || house.members.contains_key(user))
    }

    /// The current rights of a user, for a project or in the account.
    fn account_status(&self, user: User, project: Option<Project>) -> AccountStatus {
        let Some(house) =
            self.houses.values().find(|house| house.owner == user || house.members.contains_key(user))
        else {
            return AccountStatus::Disabled;
        };
        if house.suspended {
            return AccountStatus::Disabled;
        }
        let there = |project| house.projects.get(project) == Some(&true);
        if house.owner == user {
            return if project.is_none_or(there) {
                AccountStatus::Has(Role::Owner)
            } else {
                AccountStatus::NoAccess
            };
        }
        let member = &house.members[user];
        if project.is_some_and(|project| !there(project) || !member.projects.contains(project)) {
            return AccountStatus::NoAccess;
        }
        AccountStatus::Has(if member.writes { Role::Full } else { Role::ReadOnly })
    }

    /// Whether this user may get a key of that level now.
    fn may_have(&self, user: User, project: Option<Project>) -> bool {
        match self.account_status(user, project) {
            AccountStatus::Disabled => false,
            AccountStatus::NoAccess => project.is_none(),
            AccountStatus::Has(_) => true,
        }
    }

    pub(crate) fn is_active(&self, key: &Key) -> bool {
        !key.revoked && key.wish.ends.is_none_or(|end| self.now < end)
    }

    /// Makes a change, or returns why it is refused.
    pub(crate) fn apply(&mut self, change: &Change) -> Outcome {
        match change.clone() {
            Change::Issue { wish, single } => {
                if wish.ends.is_some_and(|end| end <= self.now) {
                    return Outcome::Expiry;
                }
                if !self.may_have(wish.owner, wish.project) {
                    return Outcome::Forbidden;
                }
                let same = |key: &Key| key.wish.owner == wish.owner && key.wish.test == wish.test;
                if single {
                    self.keys.iter_mut().filter(|key| same(key)).for_each(|key| key.revoked = true);
                } else if self.keys.iter().filter(|key| same(key) && self.is_active(key)).count() >= MOST_KEYS
                {
                    return Outcome::TooMany;
                }
                self.add(wish, None);
            }
            Change::Import { wish, origin, revoked } => {
                let works = !revoked && wish.ends.is_none_or(|end| self.now < end);
                if works && !self.may_have(wish.owner, wish.project) {
                    return Outcome::Forbidden;
                }
                let ends = wish.ends;
                self.add(wish, Some((origin, revoked, ends)));
            }
            Change::ImportAgain { key } => {
                let key = &self.keys[key];
                let Some((_, revoked, ends)) = key.origin else { return Outcome::NotFound };
                let works = !revoked && ends.is_none_or(|end| self.now < end);
                if works && !self.may_have(key.wish.owner, key.wish.project) {
                    return Outcome::Forbidden;
                }
                return Outcome::AlreadyThere;
            }
            Change::Rotate { key: number, grace } => {
                let old = self.keys[number].clone();
                if !self.is_active(&old) || old.replaced {
                    return Outcome::Ended;
                }
                if !self.may_have(old.wish.owner, old.wish.project) {
                    return Outcome::Forbidden;
                }
                let before = &mut self.keys[number];
                before.replaced = true;
                if grace == 0 {
                    before.revoked = true;
                } else {
                    let end = self.now + grace;
                    before.wish.ends = Some(before.wish.ends.map_or(end, |own| own.min(end)));
                }
                let successor = Key { origin: None, revoked: false, replaced: false, newest: true, ..old };
                self.keys.push(successor);
            }
            Change::EndGrace { key } => {
                if !self.keys[key].replaced {
                    return Outcome::NotFound;
                }
                self.keys[key].revoked = true;
            }
            Change::Revoke { key } => self.keys[key].revoked = true,
            Change::Amend { key, rules, limits } => {
                let key = &mut self.keys[key];
                if key.revoked {
                    return Outcome::Ended;
                }
                if let Some(rules) = rules {
                    key.wish.rules = rules;
                }
                if let Some(limits) = limits {
                    key.wish.limits = limits;
                }
            }
            Change::Rehash { key, from_another } => {
                let key = &mut self.keys[key];
                if key.revoked || key.newest || from_another {
                    return Outcome::NotRenewed;
                }
                key.newest = true;
            }
            Change::MakeProject { account, project } => {
                let projects = &mut self.house(account).projects;
                if projects.contains_key(project) {
                    return Outcome::Conflict;
                }
                projects.insert(project, true);
            }
            Change::DeleteProject { account, project } => {
                let house = self.house(account);
                if house.projects.get(project) != Some(&true) {
                    return Outcome::NotFound;
                }
                house.projects.insert(project, false);
            }
            Change::SetMember { account, user, member } => {
                if !self.has_all(account, &member) {
                    return Outcome::NotFound;
                }
                let elsewhere = |(name, house): (&Account, &House)| {
                    house.owner == user || (*name != account && house.members.contains_key(user))
                };
                if self.houses.iter().any(elsewhere) {
                    return Outcome::Conflict;
                }
                self.house(account).members.insert(user, member);
            }
            Change::RemoveMember { account, user } => {
                let house = self.house(account);
                if house.owner == user {
                    return Outcome::Conflict;
                }
                if house.members.remove(user).is_none() {
                    return Outcome::NotFound;
                }
                self.keys.iter_mut().filter(|key| key.wish.owner == user).for_each(|key| key.revoked = true);
            }
            Change::Transfer { account, to, member } => {
                let all = self.has_all(account, &member);
                let house = self.house(account);
                if !all || !house.members.contains_key(to) {
                    return Outcome::NotFound;
                }
                house.members.remove(to);
                house.members.insert(house.owner, member);
                house.owner = to;
            }
            Change::Suspend { account, suspended } => self.house(account).suspended = suspended,
            Change::Clock { to } => self.now = to,
            Change::Restart { node } => self.full_at.retain(|(at, ..), _| *at != node),
        }
        Outcome::Done
    }

    fn add(&mut self, wish: Wish, origin: Option<(Origin, bool, Option<i64>)>) {
        let revoked = origin.is_some_and(|(_, revoked, _)| revoked);
        let newest = origin.is_none_or(|(origin, ..)| origin == Origin::Text);
        let family = self.keys.len();
        self.keys.push(Key { wish, origin, family, revoked, replaced: false, newest });
    }

    fn house(&mut self, account: Account) -> &mut House {
        self.houses.get_mut(account).unwrap()
    }

    fn has_all(&self, account: Account, member: &Member) -> bool {
        let projects = &self.houses[account].projects;
        member.projects.iter().all(|project| projects.get(project) == Some(&true))
    }
}

impl Key {
    /// Whether its text has a foreign format.
    pub(crate) fn is_foreign(&self) -> bool {
        self.origin.is_some_and(|(origin, ..)| origin != Origin::Text)
    }
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Header => "api-key-header",
            Self::Body => "json-body",
        }
    }
}

/// Checks one restriction. An unknown value is not allowed.
fn judge<T: PartialEq>(
    list: &Option<List<T>>,
    is: T,
    kind: &str,
    outside: &mut bool,
    observed: &mut Vec<String>,
) {
    let Some(list) = list else { return };
    if list.allowed.contains(&is) {
        return;
    }
    if list.observed {
        observed.push(kind.to_owned());
    } else {
        *outside = true;
    }
}

fn no(status: u16, code: &str) -> Verdict {
    Verdict::Refused(status, code.to_owned())
}
