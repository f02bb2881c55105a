//! The pages that change nothing.

use askama::Template;
use axum::extract::Query;
use http::StatusCode;

use super::answer::{self, Answer, Frame, Instead, page};
use super::fields::Fields;
use super::forms::{self, ChangeForm, KeyForm, RestrictionsForm, SettingsForm};
use super::past::{EntryView, Parting, UseView};
use super::posted::Visitor;
use super::tickets::Ticket;
use super::time;
use super::view::{self, KeyView, RestrictionView};
use crate::access::AccessClass;
use crate::audit::{AuditEntry, KeyEvent};
use crate::key::KeyId;
use crate::keyring::KeyringError;
use crate::record::KeyRecord;
use crate::store::{KeyQuery, Project, StoreError};

/// How many keys one page looks through. Few people have more, ended ones included.
const MAX_KEYS: u32 = 500;
/// How much of a key's trail is shown.
const MAX_ENTRIES: u32 = 50;

type Asked = Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>;

impl Visitor {
    pub(super) async fn projects(&self) -> Result<Vec<Project>, Instead> {
        let projects = self.keyring.projects(self.user.id()).await;
        projects.map_err(|_| self.say(answer::UNAVAILABLE))
    }

    pub(super) fn seal(&self) -> Result<Seal, Instead> {
        let ticket = Ticket::issue(&self.user, self.keyring.now());
        let ticket = ticket.map_err(|_| self.say(answer::UNAVAILABLE))?;
        let draft = self.portal.drafts.mark(self.user.id(), &ticket.text);
        Ok(Seal { ticket, draft })
    }

    /// What the ledger says, if it keeps such a thing.
    fn kept<T>(&self, answer: Result<T, KeyringError>) -> Result<Option<T>, Instead> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(KeyringError::Store(StoreError::NotKept)) => Ok(None),
            Err(_) => Err(self.say(answer::UNAVAILABLE)),
        }
    }

    async fn view(&self, key: &KeyRecord) -> Result<KeyView, Instead> {
        Ok(KeyView::of(key, &self.projects().await?, self.keyring.now()))
    }
}

/// What a form holds besides what is typed.
pub(super) struct Seal {
    ticket: Ticket,
    draft: String,
}

#[derive(Template)]
#[template(path = "portal/keys.html")]
struct KeysPage<'a> {
    frame: &'a Frame,
    keys: &'a [(KeyView, Option<UseView>)],
    /// Whether it is kept when keys are used.
    has_usage: bool,
    filter: &'a Filter,
    /// Whether there is any key at all, whatever the filter says.
    has_keys: bool,
    may_make: bool,
    /// Whether the visitor's own keys only read at the moment.
    only_reads: bool,
    next: Option<&'a str>,
}

/// Which keys to show.
struct Filter {
    text: String,
    /// `working`, `ended` or `all`.
    state: String,
    /// `live`, `test` or `all`.
    environment: String,
    after: Option<KeyId>,
}

impl Filter {
    fn read(asked: Asked) -> Option<Self> {
        let Query(pairs) = asked.ok()?;
        let mut fields = Fields::new(pairs)?;
        let one_of = |value: String, known: [&str; 3]| {
            known.iter().find(|known| **known == value).or(known.first()).map(ToString::to_string)
        };
        let after = fields.take("after");
        Some(Self {
            text: fields.take("q").trim().chars().take(64).collect(),
            state: one_of(fields.take("state"), ["working", "ended", "all"])?,
            environment: one_of(fields.take("environment"), ["all", "live", "test"])?,
            after: if after.is_empty() { None } else { Some(KeyId::new(after).ok()?) },
        })
    }

    fn selects(&self, key: &KeyView) -> bool {
        let state = match &*self.state {
            "working" => key.state.works(),
            "ended" => !key.state.works(),
            _ => true,
        };
        let environment = self.environment == "all" || self.environment == key.environment.as_str();
        state && environment && (self.text.is_empty() || key.mentions(&self.text))
    }

    /// Whether it asks for less than what is shown without it.
    fn is_used(&self) -> bool {
        !self.text.is_empty() || self.state != "working" || self.environment != "all"
    }
}

pub(super) async fn keys(visitor: Visitor, asked: Asked) -> Answer {
    let filter = Filter::read(asked).ok_or_else(|| visitor.say(answer::NO_SUCH_KEY))?;
    let mut query = KeyQuery { after: filter.after.clone(), ..KeyQuery::default() };
    query.limit = MAX_KEYS;
    let found = visitor.keyring.page(visitor.user.id(), &query).await;
    let found = found.map_err(|error| match error {
        KeyringError::NotFound => visitor.say(answer::NO_SUCH_KEY),
        _ => visitor.say(answer::UNAVAILABLE),
    })?;
    let (records, more) = (found.keys, found.more);
    let next = more.then(|| records.last()).flatten();
    let projects = visitor.projects().await?;
    let now = visitor.keyring.now();
    // The newest first: that is what people come for.
    let keys = records.iter().rev().map(|key| (key.id.clone(), KeyView::of(key, &projects, now)));
    let (ids, keys): (Vec<_>, Vec<_>) = keys.filter(|(_, key)| filter.selects(key)).unzip();
    let usage = visitor.kept(visitor.keyring.usage(&ids).await)?;
    let mut usage = usage.map(UseView::of_all);
    let has_usage = usage.is_some();
    let used = ids.iter().map(|id| usage.as_mut().and_then(|usage| usage.remove(id)));
    let keys: Vec<_> = keys.into_iter().zip(used).collect();
    let frame = visitor.frame();
    let role = visitor.role().await?;
    let shown = KeysPage {
        frame: &frame,
        keys: &keys,
        has_usage,
        filter: &filter,
        has_keys: !records.is_empty(),
        may_make: role.is_some(),
        only_reads: role.is_some_and(|role| !role.allows(AccessClass::Write)),
        next: next.map(|key| key.id.as_str()),
    };
    Ok(page(StatusCode::OK, &frame, &shown))
}

#[derive(Template)]
#[template(path = "portal/new.html")]
struct NewPage<'a> {
    frame: &'a Frame,
    seal: &'a Seal,
    form: &'a KeyForm,
    restrictions: &'a RestrictionsForm,
    projects: &'a [Project],
    today: String,
    /// Whether a new key ends those before it (R30).
    replaces: bool,
}

pub(super) async fn new_key(visitor: Visitor) -> Answer {
    visitor.must_be_fresh_maker(&mut None).await?;
    let projects = visitor.projects().await?;
    let form = visitor.typed().map_or_else(KeyForm::blank, |mut typed| KeyForm::read(&mut typed).back());
    new_page(StatusCode::OK, &visitor, &form, &projects)
}

/// The form, as it was typed.
pub(super) fn new_page(
    status: StatusCode,
    visitor: &Visitor,
    form: &KeyForm,
    projects: &[Project],
) -> Answer {
    let frame = visitor.frame().scripted();
    let shown = NewPage {
        frame: &frame,
        seal: &visitor.seal()?,
        form,
        restrictions: &form.restrictions,
        projects,
        today: time::day(visitor.keyring.now()),
        replaces: visitor.keyring.replaces_on_issue(),
    };
    Ok(page(status, &frame, &shown))
}

#[derive(Template)]
#[template(path = "portal/key.html")]
struct KeyPage<'a> {
    frame: &'a Frame,
    key: &'a KeyView,
    rights: String,
    restrictions: Vec<RestrictionView>,
    /// How long they are, if they are longer than a key may have today.
    too_long: Option<String>,
    parting: Parting,
    /// The key that this one has replaced.
    before: Option<(&'a KeyView, Parting)>,
    /// Nothing if that is not kept, and nothing in it if there is none.
    used: Option<UseView>,
    trail: Option<Vec<EntryView>>,
    may_make: bool,
}

pub(super) async fn key(visitor: Visitor) -> Answer {
    let record = visitor.own_key().await?;
    let keyring = &visitor.keyring;
    let key = visitor.view(&record).await?;
    let standing = keyring.standing_on(&record.owner, &record.level).await;
    let standing = standing.map_err(|_| visitor.say(answer::UNAVAILABLE))?;
    let trail = visitor.kept(keyring.history(&record.id, MAX_ENTRIES).await)?;
    let before = predecessor(&visitor, &record, trail.as_deref()).await?;
    // The one before, if there is one, is followed by this one.
    let first = before.as_ref().map_or(&record.id, |before| &before.id);
    let report = visitor.kept(keyring.report_of(first).await)?;
    let parting = |id: &KeyId| report.as_ref().and_then(|report| Parting::of(report, id)).unwrap_or_default();
    let own = [record.id.clone()];
    let used = match visitor.kept(keyring.usage(&own).await)? {
        Some(ways) => {
            let observed = visitor.kept(keyring.observed(&own).await)?.unwrap_or_default();
            Some(UseView::of_all([ways, observed].concat()).remove(&record.id).unwrap_or_default())
        }
        None => None,
    };
    let before_parting = before.as_ref().map(|before| parting(&before.id));
    let before = before.as_ref().map(|before| KeyView::of(before, &[], visitor.keyring.now()));
    let frame = visitor.frame();
    let shown = KeyPage {
        frame: &frame,
        rights: view::rights(&record, standing, key.state),
        restrictions: view::restrictions(&record),
        too_long: view::too_long(&record),
        key: &key,
        before: before.as_ref().zip(before_parting),
        parting: parting(&record.id),
        used,
        trail: trail.map(|trail| trail.iter().map(|entry| EntryView::of(entry, visitor.user.id())).collect()),
        may_make: visitor.role().await?.is_some(),
    };
    Ok(page(StatusCode::OK, &frame, &shown))
}

/// The key that was replaced by this one.
async fn predecessor(
    visitor: &Visitor,
    key: &KeyRecord,
    trail: Option<&[AuditEntry]>,
) -> Result<Option<KeyRecord>, Instead> {
    // The first of its family has replaced none.
    if key.family == key.id {
        return Ok(None);
    }
    // A key's trail begins with what it has replaced.
    let named = trail.into_iter().flatten().rev().find_map(|entry| match &entry.event {
        KeyEvent::Replaces(before) => Some(before),
        _ => None,
    });
    if let Some(before) = named {
        let before = visitor.keyring.get(before).await.map_err(|_| visitor.say(answer::UNAVAILABLE))?;
        return Ok(before.filter(|before| before.owner == key.owner));
    }
    let query = KeyQuery { environment: Some(key.environment), limit: MAX_KEYS, ..KeyQuery::default() };
    let all = visitor.keyring.list(visitor.user.id(), &query).await;
    let all = all.map_err(|_| visitor.say(answer::UNAVAILABLE))?;
    Ok(all.into_iter().find(|other| other.replaced_by.as_ref() == Some(&key.id)))
}

#[derive(Template)]
#[template(path = "portal/rotate.html")]
struct RotatePage<'a> {
    frame: &'a Frame,
    seal: &'a Seal,
    key: &'a KeyView,
    /// What is chosen.
    grace: &'a str,
    is_back: bool,
}

pub(super) async fn rotate(visitor: Visitor) -> Answer {
    let record = visitor.own_key().await?;
    let key = visitor.view(&record).await?;
    visitor.must_be_fresh_maker(&mut None).await?;
    if !key.state.is_active() {
        return Err(visitor.say(answer::ENDED));
    }
    let frame = visitor.frame().scripted();
    let typed = visitor.typed().map(|mut typed| typed.take("grace"));
    let typed = typed.filter(|grace| forms::grace(grace).is_some());
    let shown = RotatePage {
        frame: &frame,
        seal: &visitor.seal()?,
        key: &key,
        grace: typed.as_deref().unwrap_or("1d"),
        is_back: typed.is_some(),
    };
    Ok(page(StatusCode::OK, &frame, &shown))
}

#[derive(Template)]
#[template(path = "portal/settings.html")]
struct SettingsPage<'a> {
    frame: &'a Frame,
    seal: &'a Seal,
    key: &'a KeyView,
    form: &'a SettingsForm,
}

pub(super) async fn settings(visitor: Visitor) -> Answer {
    let record = visitor.own_key().await?;
    visitor.must_be_fresh_maker(&mut None).await?;
    if !record.is_active(visitor.keyring.now()) {
        return Err(visitor.say(answer::ENDED));
    }
    let typed = visitor.typed().map(|mut typed| SettingsForm::read(&mut typed).back());
    let form = typed.unwrap_or_else(|| SettingsForm::of(&record));
    settings_page(StatusCode::OK, &visitor, &record, &form).await
}

/// The form, as it was typed.
pub(super) async fn settings_page(
    status: StatusCode,
    visitor: &Visitor,
    key: &KeyRecord,
    form: &SettingsForm,
) -> Answer {
    let frame = visitor.frame().scripted();
    let key = visitor.view(key).await?;
    let shown = SettingsPage { frame: &frame, seal: &visitor.seal()?, key: &key, form };
    Ok(page(status, &frame, &shown))
}

#[derive(Template)]
#[template(path = "portal/restrictions.html")]
struct RestrictionsPage<'a> {
    frame: &'a Frame,
    seal: &'a Seal,
    key: &'a KeyView,
    form: &'a ChangeForm,
    restrictions: &'a RestrictionsForm,
    too_long: Option<String>,
}

pub(super) async fn restrictions(visitor: Visitor) -> Answer {
    let record = visitor.own_key().await?;
    visitor.must_be_fresh_maker(&mut None).await?;
    if !record.is_active(visitor.keyring.now()) {
        return Err(visitor.say(answer::ENDED));
    }
    let typed = visitor.typed().map(|mut typed| ChangeForm::read(&mut typed).back());
    let form = typed.unwrap_or_else(|| ChangeForm::of(&record));
    restrictions_page(StatusCode::OK, &visitor, &record, &form).await
}

/// The form, as it was typed.
pub(super) async fn restrictions_page(
    status: StatusCode,
    visitor: &Visitor,
    key: &KeyRecord,
    form: &ChangeForm,
) -> Answer {
    let frame = visitor.frame().scripted();
    let shown = RestrictionsPage {
        frame: &frame,
        seal: &visitor.seal()?,
        key: &visitor.view(key).await?,
        form,
        restrictions: &form.restrictions,
        too_long: view::too_long(key),
    };
    Ok(page(status, &frame, &shown))
}

#[derive(Template)]
#[template(path = "portal/revoke.html")]
struct RevokePage<'a> {
    frame: &'a Frame,
    seal: &'a Seal,
    key: &'a KeyView,
}

pub(super) async fn revoke(visitor: Visitor) -> Answer {
    let record = visitor.own_key().await?;
    let key = visitor.view(&record).await?;
    let frame = visitor.frame();
    let shown = RevokePage { frame: &frame, seal: &visitor.seal()?, key: &key };
    Ok(page(StatusCode::OK, &frame, &shown))
}
