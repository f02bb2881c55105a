//! The same changes and requests, for the real crate.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use data_encoding::HEXLOWER;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use test_kit::{project, user};
use tower::ServiceExt as _;
use tower_api_key::client_addr::PeerAddr;
use tower_api_key::keyring::{ImportRefusal, ImportedDigest, ImportedKey};
use tower_api_key::restriction::{AllowList, RestrictionError, Restrictions};
use tower_api_key::store::{MemoryStore, NoProjects, Project, RegistryError};
use tower_api_key::{
    Digests, Environment, Grace, KeyDigest, KeyFormat, KeyId, KeyRecord, KeyUpdate, KeyringError, NewKey,
    Pepper, Principal, ProjectId, Role, Timestamp,
};

use super::model::{
    self, Change, Client, Limits, List, Named, Origin, Outcome, Page, Place, Probe, Rules, Scheme, Slip,
    Text, Verdict, Wish,
};
use super::stacks::{Common, OLD_PEPPER, Stack};
use tower_api_key::ApiKeys;

pub(crate) struct Real {
    stack: Stack,
    pub(crate) common: Common,
    /// Of the existing keys, and perhaps of the next one.
    texts: Vec<String>,
    ids: Vec<KeyId>,
    /// As they were imported, so that the import can be repeated.
    wishes: Vec<Option<(Wish, Origin, bool)>>,
}

fn environment(test: bool) -> Environment {
    if test { Environment::Test } else { Environment::Live }
}

fn generate(prefix: &str, test: bool) -> String {
    KeyFormat::new(prefix).unwrap().generate(environment(test)).unwrap().expose_secret().to_owned()
}

/// What a keyring with these digests would store for a text.
async fn stored(ring: Digests, text: &str, test: bool) -> KeyRecord {
    let keyring = ApiKeys::new(NoProjects(MemoryStore::new())).digests(ring).keyring();
    let id = KeyId::new("key_1").unwrap();
    let new = NewKey::user_level(user("ann"), "key").environment(environment(test));
    keyring.import([ImportedKey::new(id.clone(), new, ImportedDigest::plaintext(text))]).await.unwrap();
    keyring.get(&id).await.unwrap().unwrap()
}

impl Real {
    pub(crate) fn new(stack: Stack, common: Common) -> Self {
        Self { stack, common, texts: Vec::new(), ids: Vec::new(), wishes: Vec::new() }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.stack.nodes.len()
    }

    pub(crate) async fn create_account(&self, account: &str, owner: &str) {
        self.stack.accounts.create_account(account, &user(owner)).await.unwrap();
    }

    /// The texts of imported keys are known before the import.
    pub(crate) async fn prepare(&mut self, change: &Change) {
        self.texts.truncate(self.ids.len());
        if let Change::Import { wish, origin, .. } = change {
            self.texts.push(match origin {
                Origin::Text => generate("sk", wish.test),
                Origin::Sanctum => format!("{}|{}", self.ids.len(), generate("ext", wish.test)),
                _ => generate("ext", wish.test),
            });
        }
    }

    pub(crate) async fn apply(&mut self, change: &Change) -> Result<Outcome, String> {
        let now = Timestamp::from_micros(tower_api_key::Clock::now(&self.common.clock).as_micros());
        let accounts = &self.stack.accounts;
        let keyring = &self.stack.keyring;
        let made = match change {
            Change::Issue { wish, single } => {
                let keyring = if *single { &self.stack.single } else { keyring };
                match keyring.issue(new_key(wish)).await {
                    Ok(issued) => self.added(issued.key().expose_secret(), issued.id().clone()),
                    Err(error) => return of_keyring(error),
                }
                Ok(())
            }
            Change::Import { wish, origin, revoked } => {
                let id = KeyId::new(format!("key_imported_{}", self.ids.len())).unwrap();
                let text = self.texts[self.ids.len()].clone();
                let outcome = self.import(&id, &text, &(wish.clone(), *origin, *revoked)).await?;
                if outcome == Outcome::Done {
                    self.texts.pop();
                    self.added(&text, id);
                    *self.wishes.last_mut().unwrap() = Some((wish.clone(), *origin, *revoked));
                }
                return Ok(outcome);
            }
            Change::ImportAgain { key } => {
                let wish = self.wishes[*key].as_ref().unwrap();
                return self.import(&self.ids[*key], &self.texts[*key], wish).await;
            }
            Change::Rotate { key, grace } => {
                let micros = u64::try_from(*grace).unwrap();
                let grace = if micros == 0 { Grace::None } else { Grace::For(Duration::from_micros(micros)) };
                match keyring.rotate(&self.ids[*key], grace).await {
                    Ok(issued) => self.added(issued.key().expose_secret(), issued.id().clone()),
                    Err(error) => return of_keyring(error),
                }
                Ok(())
            }
            Change::EndGrace { key } => return done(keyring.end_grace(&self.ids[*key]).await),
            Change::Revoke { key } => return done(keyring.revoke(&self.ids[*key]).await),
            Change::Amend { key, rules, limits } => {
                let mut update = KeyUpdate::new();
                if let Some(rules) = rules {
                    update = update.restrictions(restrictions(rules));
                }
                if let Some(limits) = limits {
                    update = update.limits(limits_of(limits));
                }
                return done(keyring.update(&self.ids[*key], update).await.map(drop));
            }
            Change::Rehash { key, from_another } => {
                let before = self.stack.registry.get(&self.ids[*key]).await.unwrap().unwrap();
                let test = before.environment == Environment::Test;
                let newest = stored(self.common.ring.clone(), &self.texts[*key], test).await;
                let from = if *from_another { KeyDigest::from_bytes([7; 32]) } else { before.digest };
                let (id, method) = (&before.id, &newest.digested_by);
                match self.stack.registry.rehash(id, &from, &newest.digest, method, now).await {
                    Err(RegistryError::Ended | RegistryError::Conflict) => return Ok(Outcome::NotRenewed),
                    result => result,
                }
            }
            Change::MakeProject { account, project: id } => {
                accounts.create_project(account, &Project::new(project(id), *id)).await
            }
            Change::DeleteProject { account, project: id } => {
                accounts.delete_project(account, &project(id)).await
            }
            Change::SetMember { account, user: id, member } => {
                accounts.set_member(account, &user(id), &of_member(member)).await
            }
            Change::RemoveMember { account, user: id } => {
                accounts.remove_member(account, &user(id), now).await
            }
            Change::Transfer { account, to, member } => {
                accounts.transfer_account(account, &user(to), &of_member(member)).await
            }
            Change::Suspend { account, suspended } => accounts.suspend_account(account, *suspended).await,
            Change::Clock { to } => {
                self.common.clock.set(Timestamp::from_micros(*to));
                Ok(())
            }
            Change::Restart { node } => {
                self.stack.nodes[*node] = (self.stack.start)(*node).await;
                Ok(())
            }
        };
        of_ledger(made)
    }

    fn added(&mut self, text: &str, id: KeyId) {
        self.texts.push(text.to_owned());
        self.ids.push(id);
        self.wishes.push(None);
    }

    async fn import(&self, id: &KeyId, text: &str, wish: &(Wish, Origin, bool)) -> Result<Outcome, String> {
        let (wish, origin, revoked) = wish;
        let digest = match origin {
            Origin::Sha256 => ImportedDigest::sha256(HEXLOWER.encode(&Sha256::digest(text))),
            Origin::Sha512 => ImportedDigest::sha512(HEXLOWER.encode(&Sha512::digest(text))),
            Origin::Hmac => {
                let ring = Digests::peppered(Pepper::new("old", OLD_PEPPER).unwrap()).unwrap();
                let digest = stored(ring, text, wish.test).await.digest;
                ImportedDigest::hmac("old", HEXLOWER.encode(digest.as_bytes()))
            }
            Origin::Sanctum => {
                let (id, secret) = text.split_once('|').unwrap();
                ImportedDigest::sanctum(id, HEXLOWER.encode(&Sha256::digest(secret)))
            }
            Origin::Text => ImportedDigest::plaintext(text),
        };
        let mut key = ImportedKey::new(id.clone(), new_key(wish), digest);
        if *revoked {
            key = key.revoked_at(Timestamp::from_micros(model::BEGIN));
        }
        let report = self.stack.keyring.import([key]).await.map_err(|error| format!("{error:?}"))?;
        match (report.imported, report.already_there, report.refused.first().map(|refused| &refused.reason)) {
            (1, 0, None) => Ok(Outcome::Done),
            (0, 1, None) => Ok(Outcome::AlreadyThere),
            (0, 0, Some(ImportRefusal::Owner)) => Ok(Outcome::Forbidden),
            _ => Err(format!("{report:?}")),
        }
    }

    pub(crate) async fn send(&self, node: usize, probe: &Probe) -> Verdict {
        self.sending(node, probe).await
    }

    /// A request, ready to send.
    pub(crate) fn sending(&self, node: usize, probe: &Probe) -> impl Future<Output = Verdict> + Send + use<> {
        let node = &self.stack.nodes[node];
        let router = if probe.live_only { &node.live_only } else { &node.all };
        let (router, request, ids) = (router.clone(), self.request(probe), self.ids.clone());
        async move { verdict(router.oneshot(request).await.unwrap(), &ids).await }
    }

    fn request(&self, probe: &Probe) -> Request<Body> {
        let known = match probe.text {
            Text::Key(key) => self.texts.get(key).cloned(),
            Text::Unknown => None,
            Text::Garbage => Some("not-a-key".to_owned()),
        };
        let text = known.unwrap_or_else(|| generate("sk", false));
        let (method, path) = route(probe.place);
        let mut request = Request::builder().method(method).uri(path);
        match probe.client {
            Client::Unknown => {}
            Client::Office => request = request.extension(PeerAddr([192, 0, 2, 7].into())),
            Client::Home => request = request.extension(PeerAddr("2001:db8::7".parse().unwrap())),
        }
        match probe.page {
            Page::None => {}
            Page::Ours => request = request.header("referer", "https://ours.example/page"),
            Page::Theirs => request = request.header("referer", "https://theirs.example/page"),
        }
        let named = match probe.project {
            Named::Nothing => None,
            Named::Project(project) => Some(project),
            Named::NoId => Some("no/id"),
        };
        if probe.slip == Slip::Nothing {
            return request.body(Body::empty()).unwrap();
        }
        if probe.scheme == Scheme::Body {
            let kind = if probe.slip == Slip::OtherType { "text/plain" } else { "application/json" };
            let body =
                json!({"apiKey": text, "userId": probe.user, "projectId": named, "more": [1, 2]}).to_string();
            let body = match probe.slip {
                Slip::Twice => format!(r#"{{"apiKey":"{text}",{}"#, &body[1..]),
                Slip::NoJson => body[..body.len() - 1].to_owned(),
                _ => body,
            };
            return request.header("content-type", kind).body(body.into()).unwrap();
        }
        if let Some(named) = named {
            request = request.header("x-project-id", named);
        }
        let times = if probe.slip == Slip::Twice { 2 } else { 1 };
        let both = probe.slip == Slip::BothHeaders;
        for _ in 0..times {
            if probe.scheme == Scheme::Bearer || both {
                request = request.header("authorization", format!("Bearer {text}"));
            }
            if probe.scheme == Scheme::Header || both {
                request = request.header("x-api-key", &text);
            }
        }
        request.body(Body::empty()).unwrap()
    }
}

fn route(place: Place) -> (Method, &'static str) {
    match place {
        Place::Get => (Method::GET, "/things"),
        Place::Post => (Method::POST, "/things"),
        Place::ReadByPost => (Method::POST, "/status"),
        Place::GetAnywhere => (Method::GET, "/projects"),
        Place::PostAnywhere => (Method::POST, "/projects"),
        Place::Manage => (Method::POST, "/keys"),
        Place::OptionalGet => (Method::GET, "/prices"),
        Place::OptionalPost => (Method::POST, "/prices"),
        Place::Public => (Method::GET, "/health"),
    }
}

async fn verdict(response: Response<Body>, ids: &[KeyId]) -> Verdict {
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        let principal = parts.extensions.get::<Principal>();
        return principal.map_or(Verdict::Open, |principal| Verdict::Accepted(of_principal(principal, ids)));
    }
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    Verdict::Refused(parts.status.as_u16(), body["error"].as_str().unwrap_or("none").to_owned())
}

fn of_principal(principal: &Principal, ids: &[KeyId]) -> model::Principal {
    let text = |project: &ProjectId| project.as_str().to_owned();
    model::Principal {
        // A key that is just being made has no number yet.
        key: ids.iter().position(|id| id == principal.key_id()).unwrap_or(ids.len()),
        user: principal.user_id().as_str().to_owned(),
        key_project: principal.level().project().map(text),
        project: principal.project().map(text),
        role: match principal.role() {
            Role::Owner => model::Role::Owner,
            Role::Full => model::Role::Full,
            _ => model::Role::ReadOnly,
        },
        test: principal.environment() == Environment::Test,
        scheme: principal.scheme().unwrap_or("none").to_owned(),
        observed: principal.observed().map(|kind| kind.as_str().to_owned()).collect(),
        remaining: principal.rate_limit().map(|tally| tally.remaining().into()),
    }
}

fn new_key(wish: &Wish) -> NewKey {
    let new = match wish.project {
        None => NewKey::user_level(user(wish.owner), "key"),
        Some(id) => NewKey::project_level(user(wish.owner), "key", project(id)),
    };
    let mut new = new.environment(environment(wish.test)).restrictions(restrictions(&wish.rules));
    if let Some(end) = wish.ends {
        new = new.expires_at(Timestamp::from_micros(end));
    }
    match limits_of(&wish.limits) {
        Some(limits) => new.limits(limits),
        None => new,
    }
}

fn limits_of(limits: &Limits) -> Option<tower_api_key::limit::Limits> {
    let period = |seconds| match seconds {
        60 => "min",
        3600 => "h",
        _ => "10s",
    };
    let texts: Vec<String> =
        limits.iter().map(|(count, seconds)| format!("{count}/{}", period(*seconds))).collect();
    (!texts.is_empty()).then(|| texts.join(",").parse().unwrap())
}

fn restrictions(rules: &Rules) -> Restrictions {
    let network =
        |client: &Client| if *client == Client::Office { "192.0.2.0/24" } else { "2001:db8::/32" }.to_owned();
    let page = |page: &Page| {
        if *page == Page::Ours { "https://ours.example" } else { "https://theirs.example" }.to_owned()
    };
    let place = |place: &Place| {
        let (method, path) = route(*place);
        format!("{method} {path}")
    };
    let mut all = Restrictions::none();
    if let Some(list) = &rules.clients {
        all = all.ip(allow(list, network));
    }
    if let Some(list) = &rules.pages {
        all = all.referrer(allow(list, page));
    }
    if let Some(list) = &rules.places {
        all = all.endpoints(allow(list, place));
    }
    if let Some(list) = &rules.schemes {
        all = all.schemes(allow(list, |scheme: &Scheme| scheme.name().to_owned()));
    }
    all
}

fn allow<T, R>(list: &List<T>, text: impl Fn(&T) -> String) -> AllowList<R>
where
    R: std::str::FromStr<Err = RestrictionError> + PartialEq,
{
    let allowed = AllowList::allow(list.allowed.iter().map(text)).unwrap();
    if list.observed { allowed.observe() } else { allowed }
}

fn of_member(member: &model::Member) -> tower_api_key::store::Member {
    use tower_api_key::store::{Member, MemberRole};
    let role = if member.writes { MemberRole::Full } else { MemberRole::ReadOnly };
    Member::new(role, member.projects.iter().map(|id| project(id)))
}

fn done(result: Result<(), KeyringError>) -> Result<Outcome, String> {
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => of_keyring(error),
    }
}

fn of_keyring(error: KeyringError) -> Result<Outcome, String> {
    match error {
        KeyringError::Expiry => Ok(Outcome::Expiry),
        KeyringError::Forbidden => Ok(Outcome::Forbidden),
        KeyringError::NotFound => Ok(Outcome::NotFound),
        KeyringError::Ended => Ok(Outcome::Ended),
        KeyringError::TooManyKeys => Ok(Outcome::TooMany),
        error => Err(format!("{error:?}")),
    }
}

fn of_ledger(result: Result<(), RegistryError>) -> Result<Outcome, String> {
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(RegistryError::NotFound) => Ok(Outcome::NotFound),
        Err(RegistryError::Conflict) => Ok(Outcome::Conflict),
        Err(error) => Err(format!("{error:?}")),
    }
}
