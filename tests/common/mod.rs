//! The world of the tests: two accounts, their people, projects and keys, made at run time.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use axum::body::Body;
use axum::{Json, Router};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_api_key::store::{
    Accounts as _, Directory, KeyPolicy, KeyRegistry as _, KeyStore, Member, MemberRole, MemoryStore,
    Project, StoreError, Terms,
};
use tower_api_key::{
    AccountStatus, ApiKey, Environment, KeyDigest, KeyFormat, KeyId, KeyLevel, KeyRecord, Principal,
    ProjectId, Timestamp, UserId,
};

/// Account A: owner `u_own`, `u_full` FULL on p1 and p2, `u_ro` READONLY on p1, projects p1, p2, p3.
/// Account B: owner `u_b`, project q1.
pub struct World {
    pub store: MemoryStore,
    pub own: ApiKey,
    pub full: ApiKey,
    pub ro: ApiKey,
    /// Project level, p1, of `u_own`.
    pub p1: ApiKey,
    pub test: ApiKey,
    pub revoked: ApiKey,
    pub expired: ApiKey,
    pub b: ApiKey,
    /// Of a user whom no account knows.
    pub stray: ApiKey,
    next_id: AtomicUsize,
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub fn project(id: &str) -> ProjectId {
    ProjectId::new(id).unwrap()
}

pub fn member(role: MemberRole, projects: &[&str]) -> Member {
    Member::new(role, projects.iter().map(|id| project(id)))
}

impl World {
    pub async fn new() -> Self {
        let store = MemoryStore::new();
        store.create_account("A", &user("u_own")).await.unwrap();
        store.create_account("B", &user("u_b")).await.unwrap();
        for (account, id) in [("A", "p1"), ("A", "p2"), ("A", "p3"), ("B", "q1")] {
            store.create_project(account, &Project::new(project(id), id.to_uppercase())).await.unwrap();
        }
        store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p1", "p2"])).await.unwrap();
        store.set_member("A", &user("u_ro"), &member(MemberRole::ReadOnly, &["p1"])).await.unwrap();
        let blank = || KeyFormat::default().generate(Environment::Live).unwrap();
        let mut world = Self {
            store,
            own: blank(),
            full: blank(),
            ro: blank(),
            p1: blank(),
            test: blank(),
            revoked: blank(),
            expired: blank(),
            b: blank(),
            stray: blank(),
            next_id: AtomicUsize::new(0),
        };
        world.own = world.key("u_own", |_| ()).await;
        world.full = world.key("u_full", |_| ()).await;
        world.ro = world.key("u_ro", |_| ()).await;
        world.p1 = world.key("u_own", |key| key.level = KeyLevel::Project(project("p1"))).await;
        world.test = world.key("u_own", |key| key.environment = Environment::Test).await;
        world.revoked = world.key("u_own", |key| key.revoked_at = Some(Timestamp::from_secs(2))).await;
        world.expired = world.key("u_own", |key| key.expires_at = Some(Timestamp::from_secs(2))).await;
        world.b = world.key("u_b", |_| ()).await;
        world.stray = world.key("u_nobody", |_| ()).await;
        world
    }

    /// Puts another key into the store.
    pub async fn key(&self, owner: &str, change: impl FnOnce(&mut KeyRecord)) -> ApiKey {
        let id = KeyId::new(format!("key_{}", self.next_id.fetch_add(1, Ordering::Relaxed))).unwrap();
        let placeholder = KeyDigest::from_bytes([0; 32]);
        let mut record = KeyRecord::new(id, placeholder, user(owner), Timestamp::from_secs(1));
        change(&mut record);
        let format = KeyFormat::default();
        let key = format.generate(record.environment).unwrap();
        record.digest = key.digest();
        record.prefix = format.prefix(record.environment).to_owned();
        record.last4 = key.expose_secret()[43..].to_owned();
        record.name = format!("{owner}'s");
        self.store
            .insert(
                record,
                &Terms::by(tower_api_key::Authority::System).policy(KeyPolicy::Multiple { max: 1000 }),
            )
            .await
            .unwrap();
        key
    }

    /// The world behind a counter.
    pub fn counted(&self) -> (Counted, Arc<AtomicUsize>) {
        let calls = Arc::default();
        (Counted { store: self.store.clone(), calls: Arc::clone(&calls) }, calls)
    }
}

/// Counts every question, and never answers warm, so that the waiting path is what is tested.
#[derive(Clone)]
pub struct Counted {
    pub store: MemoryStore,
    calls: Arc<AtomicUsize>,
}

#[async_trait]
impl KeyStore for Counted {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.store.find(digest).await
    }
}

#[async_trait]
impl Directory for Counted {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.store.account_status(user, project).await
    }

    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.store.projects(user).await
    }
}

/// Says what reached it.
pub async fn echo(request: Request<Body>) -> Json<Value> {
    let principal = request.extensions().get::<Principal>().map(|principal| {
        json!({
            "user": principal.user_id().as_str(),
            "project": principal.project().map(ProjectId::as_str),
            "level": principal.level().as_str(),
            "role": format!("{:?}", principal.role()),
            "environment": principal.environment().as_str(),
            "scheme": principal.scheme(),
        })
    });
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let collected = request.into_body().collect().await.unwrap();
    let trailers = collected.trailers().map(|trailers| trailers.len()).unwrap_or_default();
    let body = collected.to_bytes();
    Json(json!({
        "handler": true, "principal": principal, "method": method, "path": path,
        "body": String::from_utf8_lossy(&body), "trailers": trailers,
    }))
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub extensions: http::Extensions,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `200:h`, or the status and the machine's word.
    pub fn verdict(&self) -> String {
        let json = self.json();
        if json["handler"] == true {
            return format!("{}:h", self.status.as_u16());
        }
        format!("{}/{}", self.status.as_u16(), json["error"].as_str().unwrap_or("-"))
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

pub async fn answer<B>(response: Response<B>) -> Answer
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, extensions: parts.extensions, body }
}

pub async fn send(app: &Router, request: Request<Body>) -> Answer {
    answer(app.clone().oneshot(request).await.unwrap()).await
}

pub fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    request("GET", path, headers, Body::empty())
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap()
}

pub fn post_json(path: &str, body: impl ToString) -> Request<Body> {
    request("POST", path, &[("content-type", "application/json")], body.to_string())
}

pub fn bearer(key: &ApiKey) -> String {
    format!("Bearer {}", key.expose_secret())
}

/// A body that comes in these pieces, and then ends, or leaves its reader waiting for more.
pub struct Pieces {
    left: std::vec::IntoIter<Bytes>,
    ends: bool,
    polls: Arc<AtomicUsize>,
    claimed: Option<u64>,
}

impl Pieces {
    pub fn new(pieces: impl IntoIterator<Item = impl Into<Bytes>>, ends: bool) -> Self {
        let pieces: Vec<_> = pieces.into_iter().map(Into::into).collect();
        Self { left: pieces.into_iter(), ends, polls: Arc::default(), claimed: None }
    }

    /// Says that it is so long, as bodies of HTTP do that have a length.
    pub fn claiming(self, length: u64) -> Self {
        Self { claimed: Some(length), ..self }
    }

    /// How often it is asked for more.
    pub fn polls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.polls)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        match self.left.next() {
            Some(piece) => Poll::Ready(Some(Ok(http_body::Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.claimed.map(http_body::SizeHint::with_exact).unwrap_or_default()
    }
}
