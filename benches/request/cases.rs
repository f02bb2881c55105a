//! The cases that are measured: a router behind each layer, and its requests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tower::{Layer as _, Service as _};
use tower_api_key::observer::{Metrics, Tracing, UsageRecorder};
use tower_api_key::render::ProblemDetails;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody, Scheme};
use tower_api_key::service::ApiKeyService;
use tower_api_key::{ApiKeyAuth, Endpoints, Verifier};
use tower_http::auth::AsyncRequireAuthorizationLayer;

use crate::others::{Authorize, Minimal, MinimalJson, MinimalService, middleware};
use crate::stores;
use crate::world::{MANY, ONE, World, at_once};

type Make = Box<dyn Fn() -> Subject>;

/// One line of the tables.
pub struct Case {
    pub table: &'static str,
    pub subject: &'static str,
    /// The variant of its requests.
    pub variant: &'static str,
    /// Creates the subject when needed, because that may insert a hundred thousand keys.
    pub make: Make,
    /// The status that it answers.
    pub status: StatusCode,
    /// How many SHA-256 hashes it computes.
    pub hashes: u64,
    /// Whether another thread does a part of the work. Then instructions are not counted.
    pub waits: bool,
}

impl Case {
    pub fn name(&self) -> String {
        if self.variant.is_empty() {
            self.subject.to_owned()
        } else {
            format!("{}, {}", self.subject, self.variant)
        }
    }
}

/// What answers requests.
pub enum App {
    /// A router, in which the layer was put around each route: axum boxes the routes once more.
    Router(Router),
    /// The layer stands around the router.
    Around(ApiKeyService<Router, Bearer, ProblemDetails>),
    /// The minimal layer stands around the router.
    MinimalAround(MinimalService<Router>),
}

impl From<Router> for App {
    fn from(router: Router) -> Self {
        Self::Router(router)
    }
}

impl App {
    #[inline(always)]
    pub fn answer(&mut self, request: Request<Body>) -> Response<Body> {
        let answer = match self {
            Self::Router(app) => at_once(app.call(request)),
            Self::Around(app) => at_once(app.call(request)),
            Self::MinimalAround(app) => at_once(app.call(request)),
        };
        match answer {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// What answers requests, and those it gets, by turn.
pub struct Subject {
    pub app: App,
    pub request: Box<dyn Fn(usize) -> Request<Body>>,
}

/// The subjects with which the others of a table are compared.
pub const BARE: &str = "bare axum";
pub const MINIMAL: &str = "hand-written minimal layer";

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    accepted(&mut cases, "GET, key in a header, 1 key", || &ONE);
    in_sqlite(&mut cases, "GET, key in a header, 1 key");
    refused(&mut cases);
    accepted(&mut cases, "GET, key in a header, 100,000 keys", || &MANY);
    for (table, size) in [
        ("POST, JSON body of 200 B", 200),
        ("POST, JSON body of 10 kB", 10_000),
        ("POST, JSON body of 1 MB in frames of 64 kB", 1_000_000),
    ] {
        json(&mut cases, table, size);
    }
    cases
}

/// The cases that measure how the time per request grows with the number of keys.
pub fn growing(table: &'static str, world: &'static World) -> Vec<Case> {
    let mut cases = Vec::new();
    accepted(&mut cases, table, move || world);
    cases.truncate(7);
    cases
}

fn accepted<W>(cases: &mut Vec<Case>, table: &'static str, world: W)
where
    W: Fn() -> &'static World + Copy + 'static,
{
    const IN_PROJECT: &str = "with a project";
    const AROUND: &str = "around the router";
    let mut add = |subject, variant, layered: Layered, request: Headers| {
        let make = Box::new(move || {
            let world = world();
            let app = layered(Router::new().route("/", get(|| async { "ok" })), world);
            Subject { app, request: Box::new(move |turn| headed(request(world, turn))) }
        });
        let hashes = u64::from(subject != BARE);
        cases.push(Case { table, subject, variant, make, status: StatusCode::OK, hashes, waits: false });
    };
    add(BARE, "", |app, _| app.into(), bearer);
    add(MINIMAL, "", |app, world| app.layer(Minimal(world.table.clone())).into(), bearer);
    add(MINIMAL, AROUND, |app, world| App::MinimalAround(Minimal(world.table.clone()).layer(app)), bearer);
    let from_fn =
        |app: Router, world: &World| app.layer(from_fn_with_state(world.table.clone(), middleware)).into();
    add("axum `from_fn`", "", from_fn, bearer);
    let require = |app: Router, world: &World| {
        app.layer(AsyncRequireAuthorizationLayer::new(Authorize(world.table.clone()))).into()
    };
    add("tower-http `AsyncRequireAuthorizationLayer`", "", require, bearer);
    add("**`Bearer`**", "", of_bearer, bearer);
    add("**`Bearer`**", AROUND, around_the_router, bearer);
    add("**three joined**", "", of_three, bearer);
    add("**three joined**", "endpoints declared", of_three_with_endpoints, bearer);
    // There is only one such key: among many, it would always be in the CPU's caches.
    if table.ends_with(", 1 key") {
        add("**`Bearer`**", "key with an end", of_bearer, |world, _| vec![authorization(&world.ending)]);
        add("**`Bearer`**", "all observers, nobody listens", of_observed, bearer);
        add("**`Bearer`**", "`Cached`, warm", of_cached, bearer);
    }
    add(BARE, IN_PROJECT, |app, _| app.into(), pair);
    add("**`ApiKeyHeader`**", IN_PROJECT, of_header, pair);
    add("**three joined**", IN_PROJECT, of_three, pair);
}

/// The same with a database, which is asked at every request.
fn in_sqlite(cases: &mut Vec<Case>, table: &'static str) {
    let make = Box::new(|| {
        let (store, folder) = stores::sqlite(&ONE);
        let app = Router::new().route("/", get(|| async { "ok" }));
        let app = app.layer(ApiKeyAuth::new(store, Bearer::default())).into();
        let request = move |turn| {
            let _goes_with_it = &folder;
            headed(bearer(&ONE, turn))
        };
        Subject { app, request: Box::new(request) }
    });
    let (subject, variant) = ("**`Bearer`**", "`SqliteStore`");
    cases.push(Case { table, subject, variant, make, status: StatusCode::OK, hashes: 1, waits: true });
}

fn refused(cases: &mut Vec<Case>) {
    let mut add = |subject, variant, layered: Layered, request: Headers, hashes| {
        let make = Box::new(move || {
            let app = layered(Router::new().route("/", get(|| async { "ok" })), &ONE);
            Subject { app, request: Box::new(move |turn| headed(request(&ONE, turn))) }
        });
        let status = if subject == BARE { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        cases.push(Case {
            table: "GET, refused, 1 key",
            subject,
            variant,
            make,
            status,
            hashes,
            waits: false,
        });
    };
    let minimal = |app: Router, world: &World| app.layer(Minimal(world.table.clone())).into();
    add(BARE, "", |app, _| app.into(), bearer, 0);
    add(MINIMAL, "unknown key", minimal, |world, _| vec![authorization(&world.unknown)], 1);
    add("**`Bearer`**", "unknown key", of_bearer, |world, _| vec![authorization(&world.unknown)], 1);
    add("**`Bearer`**", "wrong checksum", of_bearer, |world, _| vec![authorization(&mistyped(world))], 0);
    add("**`Bearer`**", "malformed key", of_bearer, |_, _| vec![authorization("sk_live_secret")], 0);
    add("**`Bearer`**", "no key", of_bearer, |_, _| Vec::new(), 0);
}

fn json(cases: &mut Vec<Case>, table: &'static str, size: usize) {
    let handled = |layered: Layered| {
        layered(Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() })), &ONE)
    };
    let mut add = |subject, place, layered: Layered| {
        let make = Box::new(move || {
            let body = Bytes::from(object(&ONE, size, place));
            Subject { app: handled(layered), request: Box::new(move |_| carrying(&body)) }
        });
        let let_in = subject == BARE || place != Place::Missing;
        let status = if let_in { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        let hashes = u64::from(subject != BARE && let_in);
        let variant = match place {
            Place::First => "",
            Place::Last => "fields last",
            Place::Missing => "fields missing",
        };
        cases.push(Case { table, subject, variant, make, status, hashes, waits: false });
    };
    add(BARE, Place::First, |app, _| app.into());
    for place in [Place::First, Place::Last, Place::Missing] {
        add(MINIMAL, place, |app, world| app.layer(MinimalJson(world.table.clone())).into());
        add("**`JsonBody`**", place, |app, world| {
            app.layer(ApiKeyAuth::new(world.store.clone(), JsonBody::default())).into()
        });
    }
    let make = Box::new(move || {
        let body = Bytes::from(object(&ONE, size, Place::Missing));
        let request = move |_| {
            let mut request = carrying(&body);
            let (name, value) = authorization(ONE.key(0));
            request.headers_mut().insert(name, value.parse().unwrap());
            request
        };
        Subject { app: handled(of_three), request: Box::new(request) }
    });
    let (subject, variant) = ("**three joined**", "key in a header, body not read");
    cases.push(Case { table, subject, variant, make, status: StatusCode::OK, hashes: 1, waits: false });
}

type Layered = fn(Router, &World) -> App;

fn of_bearer(app: Router, world: &World) -> App {
    app.layer(ApiKeyAuth::new(world.store.clone(), Bearer::default())).into()
}

fn around_the_router(app: Router, world: &World) -> App {
    App::Around(ApiKeyAuth::new(world.store.clone(), Bearer::default()).layer(app))
}

fn of_observed(app: Router, world: &World) -> App {
    let verifier = Verifier::new(world.store.clone())
        .observer(Tracing)
        .observer(Metrics)
        .observer(UsageRecorder::new(world.store.clone()));
    app.layer(ApiKeyAuth::with_verifier(verifier, Bearer::default())).into()
}

fn of_cached(app: Router, world: &World) -> App {
    app.layer(ApiKeyAuth::new(stores::cached(world), Bearer::default())).into()
}

fn of_header(app: Router, world: &World) -> App {
    app.layer(ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default())).into()
}

fn of_three(app: Router, world: &World) -> App {
    app.layer(three(world)).into()
}

fn of_three_with_endpoints(app: Router, world: &World) -> App {
    let endpoints = Endpoints::new()
        .project_optional(Method::GET, "/")
        .read(Method::POST, "/projects/status")
        .public(Method::GET, "/health");
    app.layer(three(world).endpoints(endpoints).unwrap()).into()
}

fn three(world: &World) -> ApiKeyAuth<impl Scheme<Body> + Clone + use<>> {
    ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default())
}

type Headers = fn(&World, usize) -> Vec<(&'static str, String)>;

pub fn authorization(key: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {key}"))
}

fn bearer(world: &World, turn: usize) -> Vec<(&'static str, String)> {
    vec![authorization(world.key(turn))]
}

fn pair(world: &World, turn: usize) -> Vec<(&'static str, String)> {
    vec![("x-api-key", world.key(turn).to_owned()), ("x-project-id", "p1".to_owned())]
}

/// The first key with one character changed.
fn mistyped(world: &World) -> String {
    let (start, last) = world.key(0).split_at(46);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

/// A request with the headers that a browser or an HTTP library sends.
pub fn headed(headers: Vec<(&'static str, String)>) -> Request<Body> {
    let builder = Request::builder()
        .uri("/")
        .header("host", "api.example.com")
        .header("user-agent", "curl/8.5.0")
        .header("accept", "*/*");
    let builder = headers.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value));
    builder.body(Body::empty()).unwrap()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Last,
    Missing,
}

/// An object of about `size` bytes, with numbers, strings and other values.
fn object(world: &World, size: usize, place: Place) -> String {
    let credentials =
        format!(r#""apiKey":"{}","userId":"user_0000000000000000","projectId":"p1""#, world.key(0));
    let mut members = Vec::new();
    let mut len = credentials.len() + 2;
    for number in 0.. {
        let member = format!(
            r#""item{number}":{{"id":{number},"title":"A line of \"words\"","tags":["a","b"],"price":12.5,"ok":true}}"#
        );
        len += member.len() + 1;
        if len > size {
            break;
        }
        members.push(member);
    }
    if len > size {
        members
            .push(format!(r#""rest":"{}""#, "-".repeat(size.saturating_sub(members.join(",").len() + 114))));
    }
    match place {
        Place::First => members.insert(0, credentials),
        Place::Last => members.push(credentials),
        Place::Missing => members.push(format!(r#""other":"{}""#, "-".repeat(credentials.len() - 10))),
    }
    format!("{{{}}}", members.join(","))
}

fn carrying(body: &Bytes) -> Request<Body> {
    let mut rest = body.clone();
    let mut frames = VecDeque::new();
    while !rest.is_empty() {
        frames.push_back(rest.split_to(rest.len().min(64 << 10)));
    }
    let request = Request::builder()
        .method("POST")
        .uri("/")
        .header("host", "api.example.com")
        .header("content-type", "application/json")
        .header("content-length", body.len());
    request.body(Body::new(Frames(frames))).unwrap()
}

/// A body as it comes from a connection: its length is known, and its frames come one after another.
struct Frames(VecDeque<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|data| data.len() as u64).sum())
    }
}
