//! What the pages show about a key: the only place where records become text.

use tower_api_key::restriction::{AllowList, Mode};
use tower_api_key::store::Project;
use tower_api_key::{AccountStatus, Environment, KeyLevel, KeyRecord, Timestamp};

use super::time::{Time, days_between, days_left};

/// From this age in days a key is called old (R41).
const OLD_DAYS: i64 = 90;
/// This many days before its expiry a key is said to end soon.
const SOON_DAYS: i64 = 14;

/// A key, as text.
pub(super) struct KeyView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: Option<ProjectView>,
    pub(super) environment: Environment,
    /// The public start and end of the key's text; empty for keys of a foreign shape.
    pub(super) prefix: String,
    pub(super) last4: String,
    pub(super) created: Time,
    pub(super) expires: Option<Time>,
    pub(super) ended: Option<Time>,
    pub(super) state: KeyState,
    pub(super) advice: Option<String>,
    pub(super) replaced_by: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) limits: Option<String>,
    pub(super) restricted: bool,
}

/// The project of a key. If its owner has lost access to it, only the id is known.
pub(super) struct ProjectView {
    pub(super) id: String,
    pub(super) name: String,
}

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    Active,
    /// Replaced, but still working in its grace period.
    InGrace,
    Replaced,
    Expired,
    Revoked,
}

impl KeyState {
    fn of(key: &KeyRecord, now: Timestamp) -> Self {
        match (key.is_active(now), key.replaced_by.is_some(), key.revoked_at.is_some()) {
            (true, false, _) => Self::Active,
            (true, true, _) => Self::InGrace,
            (false, true, _) => Self::Replaced,
            (false, false, true) => Self::Revoked,
            (false, false, false) => Self::Expired,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::InGrace => "Ending",
            Self::Replaced => "Replaced",
            Self::Expired => "Expired",
            Self::Revoked => "Revoked",
        }
    }

    /// The CSS class.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Active => "good",
            Self::InGrace => "soon",
            Self::Replaced | Self::Expired | Self::Revoked => "over",
        }
    }

    /// Whether it still works.
    pub(super) fn works(self) -> bool {
        matches!(self, Self::Active | Self::InGrace)
    }

    pub(super) fn is_active(self) -> bool {
        self == Self::Active
    }
}

impl KeyView {
    pub(super) fn of(key: &KeyRecord, projects: &[Project], now: Timestamp) -> Self {
        let state = KeyState::of(key, now);
        Self {
            id: key.id.as_str().to_owned(),
            name: if key.name.is_empty() { "Without a name".to_owned() } else { key.name.clone() },
            project: key.level.project().map(|id| {
                let known = projects.iter().find(|project| project.id == *id);
                let name = known.map_or(id.as_str(), |project| &*project.name);
                ProjectView { id: id.as_str().to_owned(), name: name.to_owned() }
            }),
            environment: key.environment,
            prefix: key.prefix.clone(),
            last4: key.last4.clone(),
            created: key.created_at.into(),
            expires: key.expires_at.map(Time::from),
            ended: key.revoked_at.map(Time::from),
            state,
            advice: advice(key, state, now),
            replaced_by: key.replaced_by.as_ref().map(|id| id.as_str().to_owned()),
            scopes: key.scopes.iter().cloned().collect(),
            limits: key.limits.as_ref().map(ToString::to_string),
            restricted: !key.restrictions.is_none(),
        }
    }

    pub(super) fn level(&self) -> &'static str {
        if self.project.is_some() { "Project" } else { "User" }
    }

    pub(super) fn environment(&self) -> &'static str {
        match self.environment {
            Environment::Live => "Live",
            Environment::Test => "Test",
            other => other.as_str(),
        }
    }
}

/// A hint to the owner of a working key.
fn advice(key: &KeyRecord, state: KeyState, now: Timestamp) -> Option<String> {
    let days = |count: i64| if count == 1 { "1 day".to_owned() } else { format!("{count} days") };
    let left = key.expires_at.map(|end| days_left(now, end));
    match (state, left) {
        (KeyState::Active, Some(0)) => Some("Ends within a day".to_owned()),
        (KeyState::Active, Some(left)) if left <= SOON_DAYS => Some(format!("Ends in {}", days(left))),
        (KeyState::Active, _) => {
            let age = days_between(key.created_at, now);
            (age >= OLD_DAYS).then(|| format!("{} old: rotate it", days(age)))
        }
        _ => None,
    }
}

/// What a key may do now, as one sentence.
pub(super) fn rights(key: &KeyRecord, standing: AccountStatus, state: KeyState) -> String {
    let place = match &key.level {
        KeyLevel::User => "in your account".to_owned(),
        KeyLevel::Project(project) => format!("on project {project}"),
        other => format!("at the level {}", other.as_str()),
    };
    match standing {
        _ if !state.works() => "None: the key has ended, and is refused with 401.".to_owned(),
        AccountStatus::Active { role: None } => {
            format!("None at the moment: you have no access {place}, and the key is refused with 403.")
        }
        AccountStatus::Active { role: Some(role) } => {
            let what = if role.allows(tower_api_key::AccessClass::Write) {
                "reads and writes"
            } else {
                "only reads"
            };
            format!("As much as you have {place}: {} ({what}).", role.as_str())
        }
        _ => "None at the moment: your account is not active, and the key is refused with 401.".to_owned(),
    }
}

/// The length of the restrictions, if they are longer than a new key's may be.
pub(super) fn too_long(key: &KeyRecord) -> Option<String> {
    let len = key.restrictions.text_len();
    (len > KeyRecord::MAX_RESTRICTIONS_LEN).then(|| format!("{} KiB", len.div_ceil(1024)))
}

/// A restriction, as text.
pub(super) struct RestrictionView {
    pub(super) title: &'static str,
    pub(super) observed: bool,
    pub(super) entries: Vec<String>,
}

pub(super) fn restrictions(key: &KeyRecord) -> Vec<RestrictionView> {
    fn one<R: std::fmt::Display>(
        title: &'static str,
        list: Option<&AllowList<R>>,
    ) -> Option<RestrictionView> {
        let list = list?;
        let entries = list.rules().iter().map(ToString::to_string).collect();
        Some(RestrictionView { title, observed: list.mode() == Mode::Observe, entries })
    }
    let these = &key.restrictions;
    let all = [
        one("Addresses", these.get_ip()),
        one("Pages", these.get_referrer()),
        one("Endpoints", these.get_endpoints()),
        one("Schemes", these.get_schemes()),
    ];
    all.into_iter().flatten().collect()
}
