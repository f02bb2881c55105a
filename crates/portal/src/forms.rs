//! The forms as they were typed, their validation, and an error message for each field.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tower_api_key::keyring::{NewKeyError, NewKeyRequest};
use tower_api_key::limit::Limits;
use tower_api_key::restriction::{AllowList, ReferrerRestriction, RestrictionError, Restrictions};
use tower_api_key::store::Project;
use tower_api_key::{Grace, KeyRecord, KeyUpdate, NewKey, Timestamp, UserId};

use super::fields::Fields;
use super::response::CHANGED_MEANWHILE;
use super::time;

const NAME_ERROR: &str = "Give the key a name of 1 to 64 characters, without invisible ones.";

pub(super) const TOO_LONG: &str = "All restrictions of a key together may have at most 8 KiB of text: use broader entries, or create two keys.";

/// The form for a new key.
pub(super) struct KeyForm {
    pub(super) name: String,
    pub(super) level: String,
    pub(super) project: String,
    pub(super) environment: String,
    pub(super) expires: String,
    pub(super) expires_on: String,
    pub(super) restrictions: RestrictionsForm,
    pub(super) errors: KeyErrors,
    /// Whether it was filled in from a draft.
    pub(super) is_back: bool,
}

/// The errors, by field.
#[derive(Default)]
pub(super) struct KeyErrors {
    pub(super) form: Option<&'static str>,
    pub(super) name: Option<&'static str>,
    pub(super) level: Option<&'static str>,
    pub(super) project: Option<&'static str>,
    pub(super) environment: Option<&'static str>,
    pub(super) expires: Option<&'static str>,
}

impl KeyErrors {
    pub(super) fn any(&self) -> bool {
        let all = [self.form, self.name, self.level, self.project, self.environment, self.expires];
        all.iter().any(Option::is_some)
    }

    fn say(&mut self, error: NewKeyError) {
        match error {
            NewKeyError::Name => self.name = Some(NAME_ERROR),
            NewKeyError::Level => self.level = Some("Choose a level."),
            NewKeyError::NoProject => self.project = Some("Choose the project that the key is for."),
            NewKeyError::ProjectOfUserLevel => {
                self.project =
                    Some("A user-level key is for all projects. Choose project level, or “No project” here.");
            }
            NewKeyError::Environment => self.environment = Some("Choose an environment."),
            // A later version may add errors about values that this form does not have.
            _ => self.form = Some("This key cannot be created."),
        }
    }
}

impl KeyForm {
    pub(super) fn blank() -> Self {
        Self {
            name: String::new(),
            level: "USER".to_owned(),
            project: String::new(),
            environment: "live".to_owned(),
            expires: "never".to_owned(),
            expires_on: String::new(),
            restrictions: RestrictionsForm::of(&Restrictions::none()),
            errors: KeyErrors::default(),
            is_back: false,
        }
    }

    pub(super) fn read(fields: &mut Fields) -> Self {
        Self {
            name: fields.take("name"),
            level: fields.take("level"),
            project: fields.take("project_id"),
            environment: fields.take("environment"),
            expires: fields.take("expires"),
            expires_on: fields.take("expires_on"),
            restrictions: RestrictionsForm::read(fields),
            errors: KeyErrors::default(),
            is_back: false,
        }
    }

    /// Marks that it was filled in from a draft.
    pub(super) fn back(mut self) -> Self {
        self.is_back = true;
        self
    }

    /// Validates the form. Returns the new key, or sets an error for each invalid field. The owner is not part of
    /// the form.
    pub(super) fn understand(
        &mut self,
        owner: &UserId,
        projects: &[Project],
        now: Timestamp,
    ) -> Option<NewKey> {
        let asked = self.asked(projects).for_owner(owner.clone());
        let errors = &mut self.errors;
        if let Err(wrong) = &asked {
            wrong.iter().for_each(|error| errors.say(error));
        }
        let end = match &*self.expires {
            "never" => Some(None),
            "30" => Some(Some(in_days(now, 30))),
            "90" => Some(Some(in_days(now, 90))),
            "365" => Some(Some(in_days(now, 365))),
            "on" => time::end_of_day(&self.expires_on).filter(|end| *end > now).map(Some),
            _ => None,
        };
        if end.is_none() {
            errors.expires = Some(if self.expires == "on" {
                "Choose today or a later day: year, month and day, such as 2030-12-31."
            } else {
                "Choose how long the key is to work."
            });
        }
        let restrictions = self.restrictions.understand();
        let long = |restrictions: &Restrictions| restrictions.text_len() > KeyRecord::MAX_RESTRICTIONS_LEN;
        if restrictions.as_ref().is_some_and(long) {
            self.restrictions.error = Some(TOO_LONG);
            return None;
        }
        if self.errors.any() {
            return None;
        }
        let new = asked.ok()?.restrictions(restrictions?);
        Some(match end? {
            Some(end) => new.expires_at(end),
            None => new,
        })
    }

    /// Ignores a project that the owner cannot access.
    fn asked(&self, projects: &[Project]) -> NewKeyRequest {
        let of_project = self.level.eq_ignore_ascii_case("PROJECT");
        let known = || projects.iter().any(|project| project.id.as_str() == self.project);
        let named = !self.project.is_empty() && (!of_project || known());
        let mut asked = NewKeyRequest::default();
        asked.name = Some(self.name.clone());
        asked.level = Some(self.level.clone());
        asked.project = named.then(|| self.project.clone());
        asked.environment = Some(self.environment.clone());
        asked
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.errors.any() || self.restrictions.is_wrong()
    }
}

fn in_days(now: Timestamp, days: u64) -> Timestamp {
    now.saturating_add(Duration::from_secs(days * time::DAY_SECS.unsigned_abs()))
}

/// The form for the name and the rate limits of a key.
pub(super) struct SettingsForm {
    pub(super) name: String,
    pub(super) limits: String,
    /// A digest of what the page showed, so that a page that was open for long does not undo later changes.
    pub(super) seen: String,
    pub(super) is_back: bool,
    /// An error about the whole form.
    pub(super) error: Option<&'static str>,
    pub(super) name_error: Option<&'static str>,
    pub(super) limits_error: Option<String>,
}

impl SettingsForm {
    pub(super) fn of(key: &KeyRecord) -> Self {
        let limits = key.limits.as_ref().map(ToString::to_string).unwrap_or_default();
        let seen = digest(&[&key.name, &limits]);
        let name = key.name.clone();
        Self { name, limits, seen, is_back: false, error: None, name_error: None, limits_error: None }
    }

    pub(super) fn read(fields: &mut Fields) -> Self {
        Self {
            name: fields.take("name"),
            limits: fields.take("limits"),
            seen: fields.take("seen"),
            is_back: false,
            error: None,
            name_error: None,
            limits_error: None,
        }
    }

    /// Marks that it was filled in from a draft.
    pub(super) fn back(mut self) -> Self {
        self.is_back = true;
        self
    }

    /// If the key is no longer as the page showed it, returns the form with its current values.
    pub(super) fn outdated(&self, key: &KeyRecord) -> Option<Self> {
        let now = Self::of(key);
        (self.seen != now.seen).then_some(Self { error: Some(CHANGED_MEANWHILE), ..now })
    }

    /// Validates the form. Returns the update, which may be empty; or `None`, with an error for each invalid field.
    pub(super) fn understand(&mut self, key: &KeyRecord) -> Option<KeyUpdate> {
        // An imported key may have no name, and need not get one.
        let name = NewKey::valid_name(&self.name).or((self.name == key.name).then_some(&*self.name));
        if name.is_none() {
            self.name_error = Some(NAME_ERROR);
        }
        let limits = match self.limits.trim() {
            "" => Ok(None),
            text => text.parse::<Limits>().map(Some),
        };
        if let Err(error) = &limits {
            self.limits_error = Some(error.to_string());
        }
        let (name, limits) = (name?, limits.ok()?);
        let mut update = KeyUpdate::new();
        if *name != key.name {
            update = update.name(name);
        }
        if limits != key.limits {
            update = update.limits(limits);
        }
        Some(update)
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.error.is_some() || self.name_error.is_some() || self.limits_error.is_some()
    }
}

/// The form for the restrictions of an existing key.
pub(super) struct ChangeForm {
    pub(super) restrictions: RestrictionsForm,
    /// A digest of what the page showed, as in [`SettingsForm`].
    pub(super) seen: String,
    pub(super) is_back: bool,
    /// An error about the whole form.
    pub(super) error: Option<&'static str>,
}

impl ChangeForm {
    pub(super) fn of(key: &KeyRecord) -> Self {
        Self {
            restrictions: RestrictionsForm::of(&key.restrictions),
            seen: digest(&[&key.restrictions.to_string()]),
            is_back: false,
            error: None,
        }
    }

    pub(super) fn read(fields: &mut Fields) -> Self {
        let restrictions = RestrictionsForm::read(fields);
        Self { restrictions, seen: fields.take("seen"), is_back: false, error: None }
    }

    /// Marks that it was filled in from a draft.
    pub(super) fn back(mut self) -> Self {
        self.is_back = true;
        self
    }

    /// As [`SettingsForm::outdated`].
    pub(super) fn outdated(&self, key: &KeyRecord) -> Option<Self> {
        let now = Self::of(key);
        (self.seen != now.seen).then_some(Self { error: Some(CHANGED_MEANWHILE), ..now })
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.error.is_some() || self.restrictions.is_wrong()
    }
}

/// A digest of a key's state, to notice changes.
fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The fields for restrictions, of new and of existing keys.
pub(super) struct RestrictionsForm {
    pub(super) ip: ListForm,
    pub(super) referrer: ListForm,
    pub(super) origin: bool,
    pub(super) endpoints: ListForm,
    pub(super) schemes: ListForm,
    /// An error about all restrictions together.
    pub(super) error: Option<&'static str>,
}

/// The fields for one restriction: its mode, and its entries, one per line.
pub(super) struct ListForm {
    /// `off`, `observe` or `enforce`.
    pub(super) mode: String,
    pub(super) text: String,
    pub(super) error: Option<String>,
}

impl RestrictionsForm {
    pub(super) fn of(restrictions: &Restrictions) -> Self {
        let referrer = restrictions.get_referrer();
        Self {
            ip: ListForm::of(restrictions.get_ip()),
            referrer: ListForm::of(referrer),
            origin: referrer.is_some_and(ReferrerRestriction::accepts_origin),
            endpoints: ListForm::of(restrictions.get_endpoints()),
            schemes: ListForm::of(restrictions.get_schemes()),
            error: None,
        }
    }

    pub(super) fn read(fields: &mut Fields) -> Self {
        Self {
            ip: ListForm::read(fields, "ip_mode", "ip"),
            referrer: ListForm::read(fields, "referrer_mode", "referrer"),
            origin: !fields.take("referrer_origin").is_empty(),
            endpoints: ListForm::read(fields, "endpoints_mode", "endpoints"),
            schemes: ListForm::read(fields, "schemes_mode", "schemes"),
            error: None,
        }
    }

    pub(super) fn understand(&mut self) -> Option<Restrictions> {
        let ip = self.ip.understand();
        let referrer = self.referrer.understand();
        let endpoints = self.endpoints.understand();
        let schemes = self.schemes.understand();
        let mut restrictions = Restrictions::none();
        if let Some(ip) = ip? {
            restrictions = restrictions.ip(ip);
        }
        if let Some(referrer) = referrer? {
            restrictions =
                restrictions.referrer(if self.origin { referrer.accept_origin() } else { referrer });
        }
        if let Some(endpoints) = endpoints? {
            restrictions = restrictions.endpoints(endpoints);
        }
        if let Some(schemes) = schemes? {
            restrictions = restrictions.schemes(schemes);
        }
        Some(restrictions)
    }

    fn lists(&self) -> [&ListForm; 4] {
        [&self.ip, &self.referrer, &self.endpoints, &self.schemes]
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.error.is_some() || self.lists().iter().any(|list| list.error.is_some())
    }

    /// Whether anything was typed, so that the fields are shown open.
    pub(super) fn is_used(&self) -> bool {
        self.lists().iter().any(|list| list.mode != "off" || list.error.is_some())
    }
}

impl ListForm {
    fn of<R: fmt::Display>(list: Option<&AllowList<R>>) -> Self {
        let mode = list.map_or("off", |list| list.mode().as_str()).to_owned();
        let lines: Vec<String> = list.iter().flat_map(|list| list.rules()).map(ToString::to_string).collect();
        Self { mode, text: lines.join("\n"), error: None }
    }

    fn read(fields: &mut Fields, mode: &str, list: &str) -> Self {
        let mode = fields.take(mode);
        let mode = if mode.is_empty() { "off".to_owned() } else { mode };
        Self { mode, text: fields.take(list), error: None }
    }

    /// Validates the field. Returns `None`, with an error, if it is invalid.
    fn understand<R>(&mut self) -> Option<Option<AllowList<R>>>
    where
        R: FromStr<Err = RestrictionError> + PartialEq,
    {
        let lines: Vec<&str> = self.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let made = match (&*self.mode, lines.is_empty()) {
            ("off", true) => return Some(None),
            // Entries are not ignored silently, and an empty list is not taken as "everything".
            ("off", false) => Err("There are entries here, but the choice is “Not restricted”.".to_owned()),
            ("observe" | "enforce", true) => {
                Err("Write at least one entry, or choose “Not restricted”.".to_owned())
            }
            ("enforce", false) => AllowList::allow(lines).map_err(|error| error.to_string()),
            ("observe", false) => {
                AllowList::allow(lines).map(AllowList::observe).map_err(|error| error.to_string())
            }
            _ => Err("Choose one of the three.".to_owned()),
        };
        match made {
            Ok(made) => Some(Some(made)),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

/// Parses how long the old key works beside the new one.
pub(super) fn grace(choice: &str) -> Option<Grace> {
    let hours = |hours: u64| Grace::For(Duration::from_secs(hours * 60 * 60));
    match choice {
        "none" => Some(Grace::None),
        "1h" => Some(hours(1)),
        "1d" => Some(hours(24)),
        "7d" => Some(hours(7 * 24)),
        "30d" => Some(hours(30 * 24)),
        _ => None,
    }
}
