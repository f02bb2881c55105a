//! The handlers of pages that change nothing.

use askama::Template;
use axum::extract::Query;
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tower_api_key::store::{Project, StoreError};
use tower_api_key::{
    AccessClass, AuditEntry, Environment, KeyEvent, KeyId, KeyPage, KeyPolicy, KeyQuery, KeyRecord,
    KeyringError, ProjectId, Timestamp,
};

use super::csrf_form::Visitor;
use super::csrf_token::CsrfToken;
use super::fields::Fields;
use super::forms::{self, ChangeForm, KeyForm, RestrictionsForm, SettingsForm};
use super::history::{EntryView, GraceView, UseView};
use super::response::{self, EarlyResponse, Frame, PageResult, page};
use super::time;
use super::view::{self, KeyView, RestrictionView};

/// How many keys one page shows.
const PAGE: u32 = 200;
/// Up to how many keys are counted.
const MAX_COUNTED: u32 = 1_000;
/// How many keys are searched for the predecessor of a key. Few people have more, including ended ones.
const MAX_KEYS: u32 = 500;
/// How many entries of a key's audit log are shown.
const MAX_ENTRIES: u32 = 50;

type Asked = Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>;

impl Visitor {
    pub(super) async fn projects(&self) -> Result<Vec<Project>, EarlyResponse> {
        let projects = self.keyring.ask(self.portal.projects.projects(self.user.id())).await;
        projects.map_err(|_| self.say(response::UNAVAILABLE))
    }

    pub(super) fn seal(&self) -> Result<Seal, EarlyResponse> {
        let ticket = CsrfToken::issue(&self.user, self.keyring.now());
        let ticket = ticket.map_err(|_| self.say(response::UNAVAILABLE))?;
        let draft = self.portal.drafts.mark(self.user.id(), &ticket.text);
        Ok(Seal { ticket, draft })
    }

    /// The registry's answer; `None` if it does not keep this data.
    fn kept<T>(&self, answer: Result<T, KeyringError>) -> Result<Option<T>, EarlyResponse> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(KeyringError::Store(StoreError::NotKept)) => Ok(None),
            Err(_) => Err(self.say(response::UNAVAILABLE)),
        }
    }

    async fn view(&self, key: &KeyRecord) -> Result<KeyView, EarlyResponse> {
        Ok(KeyView::of(key, &self.projects().await?, self.keyring.now()))
    }
}

/// The hidden fields of a form: its CSRF token and mark.
pub(super) struct Seal {
    ticket: CsrfToken,
    draft: String,
}

#[derive(Template)]
#[template(path = "portal/keys.html")]
struct KeysPage<'a> {
    frame: &'a Frame,
    keys: &'a [(KeyView, Option<UseView>)],
    /// Whether the registry keeps usage.
    has_usage: bool,
    filter: &'a Filter,
    /// Whether there is any key, regardless of the filter.
    has_keys: bool,
    may_make: bool,
    /// Whether the visitor's keys may only read at the moment.
    only_reads: bool,
    projects: &'a [Project],
    count: String,
    /// The link to newer keys.
    newer: Option<String>,
    /// The link to older keys.
    older: Option<String>,
}

/// Which keys to show.
struct Filter {
    text: String,
    /// `working`, `ended` or `all`.
    state: String,
    /// `live`, `test` or `all`.
    environment: String,
    project: Option<ProjectId>,
    place: Place,
}

/// Where a page begins or ends.
enum Place {
    Newest,
    After(KeyId),
    Before(KeyId),
}

impl Filter {
    fn read(asked: Asked) -> Option<Self> {
        let Query(pairs) = asked.ok()?;
        let mut fields = Fields::new(pairs)?;
        let one_of = |value: String, known: [&str; 3]| {
            known.iter().find(|known| **known == value).or(known.first()).map(ToString::to_string)
        };
        let (after, before) = (fields.take("after"), fields.take("before"));
        let project = fields.take("project");
        Some(Self {
            text: fields.take("q").trim().chars().take(64).collect(),
            state: one_of(fields.take("state"), ["working", "ended", "all"])?,
            environment: one_of(fields.take("environment"), ["all", "live", "test"])?,
            project: if project.is_empty() { None } else { Some(ProjectId::new(project).ok()?) },
            place: match (after.is_empty(), before.is_empty()) {
                (true, true) => Place::Newest,
                (false, _) => Place::After(KeyId::new(after).ok()?),
                (true, false) => Place::Before(KeyId::new(before).ok()?),
            },
        })
    }

    /// The query for the newest matching keys.
    fn query(&self, now: Timestamp) -> KeyQuery {
        let query = KeyQuery::new().newest_first().limit(PAGE).text(&*self.text);
        let query = match &*self.state {
            "working" => query.active(now),
            "ended" => query.ended(now),
            _ => query,
        };
        let query = match &*self.environment {
            "live" => query.environment(Environment::Live),
            "test" => query.environment(Environment::Test),
            _ => query,
        };
        match &self.project {
            Some(project) => query.project(project.clone()),
            None => query,
        }
    }

    /// The URL of the same search at another place.
    fn at(&self, home: &str, place: Option<(&str, &KeyId)>) -> String {
        let project = self.project.as_ref().map_or("", ProjectId::as_str);
        let mut fields = vec![
            ("q", &*self.text),
            ("state", &self.state),
            ("environment", &self.environment),
            ("project", project),
        ];
        fields.extend(place.map(|(direction, key)| (direction, key.as_str())));
        let mut link = home.to_owned();
        for (number, (name, value)) in fields.into_iter().filter(|(_, value)| !value.is_empty()).enumerate() {
            link.push(if number == 0 { '?' } else { '&' });
            link.push_str(name);
            link.push('=');
            link.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        link
    }

    /// Whether it shows fewer keys than the default.
    fn is_used(&self) -> bool {
        !self.text.is_empty()
            || self.state != "working"
            || self.environment != "all"
            || self.project.is_some()
    }

    fn is_project(&self, project: &Project) -> bool {
        self.project.as_ref() == Some(&project.id)
    }
}

/// A page of keys, and whether there are others on either side.
struct Listing {
    page: KeyPage,
    newer: bool,
    older: bool,
}

impl Visitor {
    async fn found(&self, filter: &Filter, newest: &KeyQuery) -> Result<Listing, EarlyResponse> {
        let page = async |query: &KeyQuery| {
            self.keyring.page(self.user.id(), query).await.map_err(|error| match error {
                KeyringError::NotFound => self.say(response::NO_SUCH_KEY),
                _ => self.say(response::UNAVAILABLE),
            })
        };
        if let Place::Before(key) = &filter.place {
            let page = page(&newest.clone().before(key.clone())).await?;
            if page.more {
                return Ok(Listing { page, newer: true, older: true });
            }
            // There are no newer keys, so the full first page is shown.
        }
        if let Place::After(key) = &filter.place {
            let page = page(&newest.clone().after(key.clone())).await?;
            return Ok(Listing { newer: true, older: page.more, page });
        }
        let page = page(newest).await?;
        Ok(Listing { newer: false, older: page.more, page })
    }

    /// Says how many keys there are.
    async fn counted(&self, query: &KeyQuery, found: &Listing) -> Result<String, EarlyResponse> {
        let one_or_more =
            |count: &str| if count == "1" { "1 key".to_owned() } else { format!("{count} keys") };
        let shown = found.page.keys.len();
        if !found.newer && !found.older {
            return Ok(one_or_more(&shown.to_string()));
        }
        let count = self.keyring.count(self.user.id(), query, MAX_COUNTED).await;
        let count = count.map_err(|_| self.say(response::UNAVAILABLE))?;
        let all = match (count.keys, count.more) {
            (MAX_COUNTED, true) => "1,000+".to_owned(),
            (MAX_COUNTED, false) => "1,000".to_owned(),
            (keys, true) => format!("{keys}+"),
            (keys, false) => keys.to_string(),
        };
        Ok(format!("{shown} of {}", one_or_more(&all)))
    }
}

pub(super) async fn keys(visitor: Visitor, asked: Asked) -> PageResult {
    let filter = Filter::read(asked).ok_or_else(|| visitor.say(response::NO_SUCH_KEY))?;
    let now = visitor.keyring.now();
    let query = filter.query(now);
    let found = visitor.found(&filter, &query).await?;
    let projects = visitor.projects().await?;
    let records = &found.page.keys;
    let ids: Vec<_> = records.iter().map(|key| key.id.clone()).collect();
    let usage = visitor.kept(visitor.keyring.usage(&ids).await)?;
    let mut usage = usage.map(UseView::of_all);
    let has_usage = usage.is_some();
    let used = |key: &KeyRecord| usage.as_mut().and_then(|usage| usage.remove(&key.id));
    let used: Vec<_> = records.iter().map(used).collect();
    let keys: Vec<_> = records.iter().map(|key| KeyView::of(key, &projects, now)).zip(used).collect();
    let has_keys = !keys.is_empty() || {
        let any = visitor.keyring.count(visitor.user.id(), &KeyQuery::new(), 1).await;
        any.map_err(|_| visitor.say(response::UNAVAILABLE))?.keys > 0
    };
    let count = visitor.counted(&query, &found).await?;
    let frame = visitor.frame();
    let link = |to: bool, direction, key: &Option<KeyId>| {
        to.then(|| filter.at(frame.home(), key.as_ref().map(|key| (direction, key))))
    };
    let (newer, older) = (
        link(found.newer, "before", &found.page.first),
        link(found.older && found.page.last.is_some(), "after", &found.page.last),
    );
    let role = visitor.role().await?;
    let shown = KeysPage {
        frame: &frame,
        keys: &keys,
        has_usage,
        filter: &filter,
        has_keys,
        may_make: role.is_some(),
        only_reads: role.is_some_and(|role| !role.allows(AccessClass::Write)),
        projects: &projects,
        count,
        newer,
        older,
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
    /// Whether a new key ends the previous ones (R30).
    replaces: bool,
}

pub(super) async fn new_key(visitor: Visitor) -> PageResult {
    visitor.must_be_fresh_maker(&mut None).await?;
    let projects = visitor.projects().await?;
    let form = visitor.typed().map_or_else(KeyForm::blank, |mut typed| KeyForm::read(&mut typed).back());
    new_page(StatusCode::OK, &visitor, &form, &projects)
}

/// The form with what was typed.
pub(super) fn new_page(
    status: StatusCode,
    visitor: &Visitor,
    form: &KeyForm,
    projects: &[Project],
) -> PageResult {
    let frame = visitor.frame().scripted();
    let shown = NewPage {
        frame: &frame,
        seal: &visitor.seal()?,
        form,
        restrictions: &form.restrictions,
        projects,
        today: time::day(visitor.keyring.now()),
        replaces: matches!(visitor.keyring.get_policy(), KeyPolicy::Single { .. }),
    };
    Ok(page(status, &frame, &shown))
}

#[derive(Template)]
#[template(path = "portal/key.html")]
struct OneKeyPage<'a> {
    frame: &'a Frame,
    key: &'a KeyView,
    rights: String,
    restrictions: Vec<RestrictionView>,
    /// The length of the restrictions, if they are longer than a new key's may be.
    too_long: Option<String>,
    parting: GraceView,
    /// The key that this one replaced.
    before: Option<(&'a KeyView, GraceView)>,
    /// `None` if the registry keeps no usage; empty if nothing was recorded.
    used: Option<UseView>,
    trail: Option<Vec<EntryView>>,
    may_make: bool,
}

pub(super) async fn key(visitor: Visitor) -> PageResult {
    let record = visitor.own_key().await?;
    let keyring = &visitor.keyring;
    let key = visitor.view(&record).await?;
    let standing = keyring.account_status(&record.owner, &record.level).await;
    let standing = standing.map_err(|_| visitor.say(response::UNAVAILABLE))?;
    let trail = visitor.kept(keyring.history(&record.id, MAX_ENTRIES).await)?;
    let before = predecessor(&visitor, &record, trail.as_deref()).await?;
    // If there is a predecessor, this key follows it.
    let first = before.as_ref().map_or(&record.id, |before| &before.id);
    let report = visitor.kept(keyring.report_of(first).await)?;
    let parting =
        |id: &KeyId| report.as_ref().and_then(|report| GraceView::of(report, id)).unwrap_or_default();
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
    let shown = OneKeyPage {
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

/// The key that this one replaced.
async fn predecessor(
    visitor: &Visitor,
    key: &KeyRecord,
    trail: Option<&[AuditEntry]>,
) -> Result<Option<KeyRecord>, EarlyResponse> {
    // The first key of a family has replaced none.
    if key.family == key.id {
        return Ok(None);
    }
    // The audit log of a key begins with the key that it replaced.
    let named = trail.into_iter().flatten().rev().find_map(|entry| match &entry.event {
        KeyEvent::Replaces(before) => Some(before),
        _ => None,
    });
    if let Some(before) = named {
        let before = visitor.keyring.get(before).await.map_err(|_| visitor.say(response::UNAVAILABLE))?;
        return Ok(before.filter(|before| before.owner == key.owner));
    }
    let mut query = KeyQuery::default();
    (query.environment, query.limit) = (Some(key.environment), MAX_KEYS);
    let all = visitor.keyring.list(visitor.user.id(), &query).await;
    let all = all.map_err(|_| visitor.say(response::UNAVAILABLE))?;
    Ok(all.into_iter().find(|other| other.replaced_by.as_ref() == Some(&key.id)))
}

#[derive(Template)]
#[template(path = "portal/rotate.html")]
struct RotatePage<'a> {
    frame: &'a Frame,
    seal: &'a Seal,
    key: &'a KeyView,
    /// The selected grace period.
    grace: &'a str,
    is_back: bool,
}

pub(super) async fn rotate(visitor: Visitor) -> PageResult {
    let record = visitor.own_key().await?;
    let key = visitor.view(&record).await?;
    visitor.must_be_fresh_maker(&mut None).await?;
    if !key.state.is_active() {
        return Err(visitor.say(response::ENDED));
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

pub(super) async fn settings(visitor: Visitor) -> PageResult {
    let record = visitor.own_key().await?;
    visitor.must_be_fresh_maker(&mut None).await?;
    if !record.is_active(visitor.keyring.now()) {
        return Err(visitor.say(response::ENDED));
    }
    let typed = visitor.typed().map(|mut typed| SettingsForm::read(&mut typed).back());
    let form = typed.unwrap_or_else(|| SettingsForm::of(&record));
    settings_page(StatusCode::OK, &visitor, &record, &form).await
}

/// The form with what was typed.
pub(super) async fn settings_page(
    status: StatusCode,
    visitor: &Visitor,
    key: &KeyRecord,
    form: &SettingsForm,
) -> PageResult {
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

pub(super) async fn restrictions(visitor: Visitor) -> PageResult {
    let record = visitor.own_key().await?;
    visitor.must_be_fresh_maker(&mut None).await?;
    if !record.is_active(visitor.keyring.now()) {
        return Err(visitor.say(response::ENDED));
    }
    let typed = visitor.typed().map(|mut typed| ChangeForm::read(&mut typed).back());
    let form = typed.unwrap_or_else(|| ChangeForm::of(&record));
    restrictions_page(StatusCode::OK, &visitor, &record, &form).await
}

/// The form with what was typed.
pub(super) async fn restrictions_page(
    status: StatusCode,
    visitor: &Visitor,
    key: &KeyRecord,
    form: &ChangeForm,
) -> PageResult {
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

pub(super) async fn revoke(visitor: Visitor) -> PageResult {
    let record = visitor.own_key().await?;
    let key = visitor.view(&record).await?;
    let frame = visitor.frame();
    let shown = RevokePage { frame: &frame, seal: &visitor.seal()?, key: &key };
    Ok(page(StatusCode::OK, &frame, &shown))
}
