//! C14: the contract of tower: readiness, cancellation, panics, bodies, and other layers around and inside.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt as _, Empty, Full};
use serde_json::json;
use tower::buffer::BufferLayer;
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _};
use tower_api_key::future::ResponseFuture;
use tower_api_key::render::{EmptyOrGrpc, ProblemDetails};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody, Or, Scheme};
use tower_api_key::service::ApiKeyService;
use tower_api_key::store::{Directory, KeyStore, MemoryStore, StoreError};
use tower_api_key::{
    AccountStatus, ApiKeyAuth, AuthError, Clock, KeyDigest, KeyRecord, Principal, ProjectId, Timestamp,
    UserId, Verifier,
};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use super::kit::{Ask, endpoints};
use test_kit::Counted;
use test_kit::{World, answer, bearer, echo, send};
use tower_api_key::ApiKeys;
use tower_api_key::store::CachedKey;

type All = Or<Or<Bearer, ApiKeyHeader>, JsonBody>;

fn all<S: KeyStore + Directory>(store: S) -> ApiKeyAuth<All> {
    ApiKeyAuth::new(store, Bearer::default()).or(ApiKeyHeader::default()).or(JsonBody::default())
}

/// The same key through each scheme, a wrong key, no key, and a malformed body.
fn asks(world: &World) -> Vec<(Ask, u16)> {
    let body = json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"});
    vec![
        (Ask::get("/x").bearer(&world.own), 200),
        (Ask::get("/x").api_key(&world.own).project("p1"), 200),
        (Ask::json("/x", body), 200),
        (Ask::get("/x").bearer(&world.revoked), 401),
        (Ask::get("/x"), 401),
        (Ask::json("/x", "[]"), 400),
    ]
}

/// A service that counts its calls and must be polled ready before each; its clones are not ready.
struct Probe<B = Body> {
    ready: bool,
    calls: Arc<AtomicUsize>,
    body: PhantomData<fn(B)>,
}

impl Probe {
    fn new() -> (Self, Arc<AtomicUsize>) {
        Self::of()
    }
}

impl<B> Probe<B> {
    fn of() -> (Self, Arc<AtomicUsize>) {
        let calls = Arc::<AtomicUsize>::default();
        (Self { ready: false, calls: Arc::clone(&calls), body: PhantomData }, calls)
    }
}

impl<B> Clone for Probe<B> {
    fn clone(&self) -> Self {
        Self { ready: false, calls: Arc::clone(&self.calls), body: PhantomData }
    }
}

impl<B> Service<Request<B>> for Probe<B> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "C14-01: called without being asked whether it is ready");
        assert!(request.extensions().get::<Principal>().is_some(), "I1");
        self.calls.fetch_add(1, SeqCst);
        ready(Ok(Response::new(Full::from("handled"))))
    }
}

#[tokio::test]
async fn c14_01_only_the_service_that_was_asked_is_called() {
    let world = World::new().await;
    for warm in [true, false] {
        let (probe, calls) = Probe::new();
        let mut service = all(Counted::new(&world, warm)).layer(probe);
        let mut accepted = 0;
        for _ in 0..1700 {
            for (ask, status) in asks(&world) {
                let response = service.ready().await.unwrap().call(ask.request()).await.unwrap();
                assert_eq!(response.status(), status, "warm: {warm:?}");
                accepted += usize::from(status == 200);
            }
        }
        assert_eq!(calls.load(SeqCst), accepted, "warm: {warm:?}");
        // Several requests at the same time each have their own service.
        let mut futures = Vec::new();
        for (ask, status) in asks(&world) {
            futures.push((service.ready().await.unwrap().call(ask.request()), status));
        }
        for (future, status) in futures.into_iter().rev() {
            assert_eq!(future.await.unwrap().status(), status, "warm: {warm:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c14_01_over_layers_that_limit() {
    async fn run<S, E>(name: &str, world: &World, mut service: S)
    where
        S: Service<Request<Body>, Response = Response<Full<Bytes>>, Error = E> + Clone,
        E: std::fmt::Debug,
    {
        for round in 0..300 {
            for (ask, status) in asks(world) {
                let response = service.ready().await.unwrap().call(ask.request()).await.unwrap();
                assert_eq!(response.status(), status, "C14-01: {name}, round {round}");
                // Then like a server: one clone for each request. The original is replaced by a clone first, because
                // a service that was polled ready keeps its permit.
                service = service.clone();
                let response = service.clone().oneshot(ask.request()).await.unwrap();
                assert_eq!(response.status(), status, "C14-01: {name}, round {round}");
            }
        }
    }
    let world = World::new().await;
    for warm in [true, false] {
        let auth = || all(Counted::new(&world, warm));
        let probe = || Probe::new().0;
        run("ConcurrencyLimit", &world, auth().layer(ConcurrencyLimitLayer::new(1).layer(probe()))).await;
        run("Buffer", &world, auth().layer(BufferLayer::new(1).layer(probe()))).await;
        let rate = RateLimitLayer::new(1, Duration::from_millis(1)).layer(probe());
        run("Buffer over RateLimit", &world, auth().layer(BufferLayer::new(1).layer(rate))).await;
        let shed = ServiceBuilder::new().layer(LoadShedLayer::new()).layer(ConcurrencyLimitLayer::new(1));
        run("LoadShed", &world, auth().layer(shed.service(probe()))).await;
        let outside = ServiceBuilder::new().layer(BufferLayer::new(1)).layer(ConcurrencyLimitLayer::new(1));
        run("outside", &world, outside.layer(auth()).service(probe())).await;
    }
}

/// Ready when the test says so.
#[derive(Clone)]
struct Gate(Arc<AtomicUsize>);

impl Service<Request<Body>> for Gate {
    type Response = Response<Full<Bytes>>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.0.load(SeqCst) {
            0 => Poll::Pending,
            1 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err("broken")),
        }
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Err("failed"))
    }
}

#[tokio::test]
async fn c14_02_readiness_and_errors_are_the_inner_services() {
    let world = World::new().await;
    let state = Arc::<AtomicUsize>::default();
    let mut service = all(world.store.clone()).layer(Gate(Arc::clone(&state)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_pending());
    state.store(2, SeqCst);
    assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Err("broken")));
    state.store(1, SeqCst);
    assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(service.call(Ask::get("/x").bearer(&world.own).request()).await.unwrap_err(), "failed");
    assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(service.call(Ask::get("/x").request()).await.unwrap().status(), 401);
}

/// A body that never ends.
struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// A concurrency limit inside the layer takes its permit before the body is read, so the documentation says to put it
/// outside. The permit is returned with the response, whatever the response is.
#[tokio::test(start_paused = true)]
async fn c14_02_a_permit_inside_is_held_while_a_body_is_read() {
    let world = World::new().await;
    let auth = all(world.store.clone());
    let limit = ConcurrencyLimitLayer::new(1);
    let mut service = auth.layer(limit.layer(Probe::new().0));
    let slow =
        Request::post("/x").header("content-type", "application/json").body(Body::new(Silent)).unwrap();
    let slow = service.ready().await.unwrap().call(slow);
    let slow = tokio::spawn(slow);
    tokio::task::yield_now().await;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_pending(), "the permit is free");
    assert_eq!(slow.await.unwrap().unwrap().status(), 408);
    let response = service.ready().await.unwrap().call(Ask::get("/x").bearer(&world.own).request()).await;
    assert_eq!(response.unwrap().status(), 200);
    // If the limit is outside, a slow body only uses one of its permits.
    let service = ConcurrencyLimitLayer::new(2).layer(auth.layer(Probe::new().0));
    let slow =
        Request::post("/x").header("content-type", "application/json").body(Body::new(Silent)).unwrap();
    let slow = tokio::spawn(service.clone().oneshot(slow));
    tokio::task::yield_now().await;
    let quick = service.oneshot(Ask::get("/x").bearer(&world.own).request()).await;
    assert_eq!(quick.unwrap().status(), 200);
    slow.abort();
}

#[test]
fn c14_03_layer_service_and_future_are_send() {
    fn layer<T: Clone + Send + Sync + Unpin + 'static>() {}
    fn future<T: Send>(_: &T) {}
    layer::<ApiKeyAuth<Bearer>>();
    layer::<ApiKeyAuth<All>>();
    layer::<ApiKeyAuth<All, EmptyOrGrpc>>();
    layer::<ApiKeyService<Router, All, ProblemDetails>>();
    layer::<ApiKeyService<Probe, Bearer, ProblemDetails>>();
    layer::<Principal>();
    layer::<AuthError>();
    layer::<Verifier>();
    layer::<MemoryStore>();
    fn sent<F: Send>() {}
    sent::<ResponseFuture<Router, All, ProblemDetails, Body>>();
    sent::<ResponseFuture<Probe<()>, Bearer, ProblemDetails, ()>>();
    sent::<ResponseFuture<Probe<Full<Bytes>>, Bearer, ProblemDetails, Full<Bytes>>>();
    let mut service = all(MemoryStore::new()).layer(Router::new());
    future(&service.call(Request::new(Body::empty())));
    future(
        &Verifier::new(MemoryStore::new())
            .verify(&tower_api_key::Credentials::new("x"), tower_api_key::Endpoint::READ),
    );
}

/// Any body type works if the body is not read. The response body and the errors are those of the inner service.
#[tokio::test]
async fn c14_04_every_body_type() {
    async fn through<B>(auth: &ApiKeyAuth<Or<Bearer, ApiKeyHeader>>, world: &World, body: impl Fn() -> B)
    where
        B: Send + 'static,
    {
        for (key, status) in [(&world.own, 200), (&world.revoked, 401)] {
            let (probe, calls) = Probe::<B>::of();
            let request = Request::get("/x").header("authorization", bearer(key)).body(body()).unwrap();
            let response = auth.layer(probe).oneshot(request).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), calls.load(SeqCst)),
                (status, usize::from(status == 200)),
                "{key:?}"
            );
        }
    }
    let world = World::new().await;
    for warm in [true, false] {
        let auth = ApiKeyAuth::new(Counted::new(&world, warm), Bearer::default()).or(ApiKeyHeader::default());
        through(&auth, &world, || ()).await;
        through(&auth, &world, || Full::<Bytes>::from("x")).await;
        through(&auth, &world, || UnsyncBoxBody::new(Full::<Bytes>::from("x"))).await;
        through(&auth, &world, || Body::from("x")).await;
        through(&auth, &world, || String::from("x")).await;
        // A body that is not `Sync`.
        through(&auth, &world, || std::cell::Cell::new(1)).await;
    }

    // A body that is read keeps its type and its error type.
    async fn read<B>(world: &World, body: impl Fn(String) -> B)
    where
        B: http_body::Body<Data = Bytes> + tower_api_key::scheme::Rebuild,
        B::Error: std::fmt::Debug,
        JsonBody: Scheme<B>,
    {
        let inner = tower::service_fn(async |request: Request<B>| {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(bytes)))
        });
        let text =
            json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"}).to_string();
        let request =
            Request::post("/x").header("content-type", "application/json").body(body(text.clone())).unwrap();
        let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default());
        let response = auth.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
    read(&world, Body::from).await;
    read(&world, |text| UnsyncBoxBody::new(Full::<Bytes>::from(text))).await;
    read(&world, |text| {
        BoxBody::new(Full::<Bytes>::from(text).map_err(|never| -> std::io::Error { match never {} }))
    })
    .await;

    // This compiles with hyper's own body, and with a response without one.
    fn compiles<S: Service<Request<hyper::body::Incoming>>>(_: &S) {}
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default());
    compiles(&auth.layer(Probe::of().0));
    let empty =
        tower::service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
    let response = auth.render_errors(EmptyOrGrpc).layer(empty).oneshot(Request::new(())).await.unwrap();
    assert_eq!(
        (response.status(), response.headers().contains_key("www-authenticate")),
        (StatusCode::UNAUTHORIZED, true)
    );
}

/// The user-defined code that panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bomb {
    Find,
    WarmKey,
    AccountStatus,
    WarmStanding,
    Clock,
    Scheme,
    Renderer,
}

#[derive(Clone)]
struct Bombed(MemoryStore, Bomb);

impl Bombed {
    fn at(&self, place: Bomb) {
        assert_ne!(self.1, place, "boom");
    }

    fn is_warm(&self) -> bool {
        matches!(self.1, Bomb::WarmKey | Bomb::WarmStanding)
    }
}

#[async_trait]
impl KeyStore for Bombed {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.at(Bomb::Find);
        self.0.find(digest).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        self.at(Bomb::WarmKey);
        if self.is_warm() { KeyStore::find_cached(&self.0, digest) } else { CachedKey::Miss }
    }
}

#[async_trait]
impl Directory for Bombed {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.at(Bomb::AccountStatus);
        self.0.account_status(user, project).await
    }

    fn account_status_cached(&self, _: &UserId, _: Option<&ProjectId>) -> Option<AccountStatus> {
        self.at(Bomb::WarmStanding);
        None
    }
}

struct BombedClock(Bomb);

impl Clock for BombedClock {
    fn now(&self) -> Timestamp {
        assert_ne!(self.0, Bomb::Clock, "boom");
        Timestamp::from_secs(1)
    }
}

#[derive(Clone)]
struct BombedScheme(Bomb, Bearer);

impl tower_api_key::scheme::HeaderScheme for BombedScheme {
    fn read<'r>(
        &self,
        head: tower_api_key::Head<'r>,
    ) -> Result<Option<tower_api_key::Credentials<'r>>, tower_api_key::scheme::MalformedCredential> {
        assert_ne!(self.0, Bomb::Scheme, "boom");
        self.1.read(head)
    }

    fn describe(&self) -> &tower_api_key::scheme_info::SchemeInfo {
        self.1.describe()
    }
}

/// Decision 4: a panic propagates, and the request never reaches the handler.
#[tokio::test]
async fn c14_05_a_panic_never_reaches_the_handler() {
    let world = World::new().await;
    let bombs = [
        Bomb::Find,
        Bomb::WarmKey,
        Bomb::AccountStatus,
        Bomb::WarmStanding,
        Bomb::Clock,
        Bomb::Scheme,
        Bomb::Renderer,
    ];
    for bomb in bombs {
        let verifier = ApiKeys::new(Bombed(world.store.clone(), bomb)).clock(BombedClock(bomb)).verifier();
        let render = move |error: &AuthError| {
            assert_ne!(bomb, Bomb::Renderer, "boom");
            Response::builder().status(error.status()).body(Full::<Bytes>::default()).unwrap()
        };
        let auth =
            ApiKeyAuth::with_verifier(verifier, BombedScheme(bomb, Bearer::default())).render_errors(render);
        let (probe, calls) = Probe::new();
        let service = auth.layer(probe);
        let key = match bomb {
            Bomb::Renderer => &world.revoked,
            // The clock is only read for a key with an expiry.
            Bomb::Clock => &world.expired,
            _ => &world.own,
        };
        for _ in 0..2 {
            let request = Ask::get("/x").bearer(key).request();
            let caught = tokio::spawn(service.clone().oneshot(request)).await;
            assert!(caught.is_err_and(|error| error.is_panic()), "C14-05: {bomb:?} was swallowed");
        }
        assert_eq!(calls.load(SeqCst), 0, "C14-05: {bomb:?}");
        // If tower-http catches the panic, the response is a 500.
        let app = ServiceBuilder::new().layer(CatchPanicLayer::new()).service(service);
        let response = app.oneshot(Ask::get("/x").bearer(key).request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "C14-05: {bomb:?}");
    }
    // A panic of the inner service propagates, too.
    let inner = tower::service_fn(async |_: Request<Body>| -> Result<Response<Full<Bytes>>, Infallible> {
        panic!("inner")
    });
    let service = all(world.store.clone()).layer(inner);
    let caught = tokio::spawn(service.oneshot(Ask::get("/x").bearer(&world.own).request())).await;
    assert!(caught.is_err_and(|error| error.is_panic()));
}

/// Answers each call only when it is polled for the third time, and counts the running calls.
#[derive(Clone)]
struct Hesitant {
    store: MemoryStore,
    open: Arc<AtomicUsize>,
}

struct Under(Arc<AtomicUsize>);

impl Drop for Under {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Hesitant {
    async fn hesitate(&self) -> Under {
        self.open.fetch_add(1, SeqCst);
        let under = Under(Arc::clone(&self.open));
        for _ in 0..3 {
            yield_once().await;
        }
        under
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl KeyStore for Hesitant {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let _under = self.hesitate().await;
        self.store.find(digest).await
    }
}

#[async_trait]
impl Directory for Hesitant {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let _under = self.hesitate().await;
        self.store.account_status(user, project).await
    }
}

/// Bytes with pauses between them.
struct Pausing {
    chunks: std::vec::IntoIter<Bytes>,
    paused: bool,
}

impl http_body::Body for Pausing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.chunks.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Polls a request 0, 1, 2, ... times and then drops it: nothing is lost, whatever the moment.
#[tokio::test]
async fn c14_06_a_request_can_be_dropped_at_every_moment() {
    let world = World::new().await;
    let text = json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"}).to_string();
    let open = Arc::<AtomicUsize>::default();
    let store = Hesitant { store: world.store.clone(), open: Arc::clone(&open) };
    // Memory for exactly one body, and one permit.
    let body = JsonBody::default()
        .limit(NonZero::new(text.len()).unwrap())
        .buffer_cap(NonZero::new(text.len()).unwrap());
    let auth = ApiKeyAuth::new(store, Bearer::default()).or(body);
    let (probe, calls) = Probe::new();
    let limited = auth.layer(ConcurrencyLimitLayer::new(1).layer(probe));
    let body_request = || {
        let chunks: Vec<_> = text.as_bytes().chunks(20).map(Bytes::copy_from_slice).collect();
        let body = Body::new(Pausing { chunks: chunks.into_iter(), paused: false });
        Request::post("/x").header("content-type", "application/json").body(body).unwrap()
    };
    let header_request = || Ask::get("/x").bearer(&world.own).request();
    for (name, request) in
        [("body", &body_request as &dyn Fn() -> Request<Body>), ("header", &header_request)]
    {
        let mut polls = 0;
        loop {
            let before = calls.load(SeqCst);
            let mut service = limited.clone();
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(
                service.poll_ready(&mut cx),
                Poll::Ready(Ok(())),
                "C14-06: {name}: a permit was lost at {polls}"
            );
            let mut future = Box::pin(service.call(request()));
            let mut answered = false;
            for _ in 0..polls {
                if future.as_mut().poll(&mut cx).is_ready() {
                    answered = true;
                    break;
                }
            }
            drop(future);
            drop(service);
            assert_eq!(open.load(SeqCst), 0, "C14-06: {name}: a question lives on, at {polls}");
            assert_eq!(calls.load(SeqCst) - before, usize::from(answered), "C14-06: {name}, at {polls}");
            // All memory is free again.
            let response = limited.clone().oneshot(body_request()).await.unwrap();
            assert_eq!(response.status(), 200, "C14-06: {name}: something was lost at {polls}");
            if answered {
                break;
            }
            polls += 1;
        }
        assert!(polls > 6, "C14-06: {name} was never under way");
    }
}

#[tokio::test]
async fn c14_07_extensions_reach_the_handler_but_for_a_forged_principal() {
    #[derive(Clone, Debug, PartialEq)]
    struct Marker(u8);

    let world = World::new().await;
    for warm in [true, false] {
        let inner = tower::service_fn(async |request: Request<Body>| {
            let marked = request.extensions().get::<Marker>() == Some(&Marker(7));
            let who =
                request.extensions().get::<Principal>().map(|principal| principal.user_id().to_string());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{marked} {who:?}"))))
        });
        let auth = all(Counted::new(&world, warm)).endpoints(endpoints()).unwrap();
        let service = auth.layer(inner);
        for (ask, status) in asks(&world) {
            let mut request = ask.request();
            request.extensions_mut().insert(Marker(7));
            let answer = answer(service.clone().oneshot(request).await.unwrap()).await;
            assert_eq!(answer.status, status, "warm: {warm:?}");
            if status == 200 {
                assert_eq!(answer.body, b"true Some(\"u_own\")", "warm: {warm:?}");
            }
        }
    }
}

#[tokio::test]
async fn c14_10_a_forged_principal_is_removed() {
    let world = World::new().await;
    let verifier = Verifier::new(world.store.clone());
    let credentials = tower_api_key::Credentials::new(world.own.expose_secret());
    let forged = verifier.verify(&credentials, tower_api_key::Endpoint::WRITE).await.unwrap();
    assert_eq!(forged.user_id().as_str(), "u_own");
    for warm in [true, false] {
        let auth = all(Counted::new(&world, warm)).pass_preflight().endpoints(endpoints()).unwrap();
        let app = Router::new().route("/health", axum::routing::any(echo)).fallback(echo).layer(auth);
        let with = |ask: Ask| {
            let mut request = ask.request();
            request.extensions_mut().insert(forged.clone());
            request
        };
        let json = |body: serde_json::Value| Ask::json("/x", body);
        // Without a key, with a wrong one, and with another user's key.
        assert_eq!(send(&app, with(Ask::get("/x"))).await.verdict(), "401/missing_api_key", "warm: {warm:?}");
        assert_eq!(
            send(&app, with(json(json!({})))).await.verdict(),
            "401/missing_api_key",
            "warm: {warm:?}"
        );
        assert_eq!(
            send(&app, with(Ask::get("/x").bearer(&world.revoked))).await.verdict(),
            "401/invalid_api_key",
            "warm: {warm:?}"
        );
        let answer = send(&app, with(Ask::get("/x").bearer(&world.b))).await;
        assert_eq!(answer.json()["principal"]["user"], "u_b", "warm: {warm:?}");
        let body = json!({"apiKey": world.b.expose_secret(), "userId": "u_b", "projectId": "q1"});
        let answer = send(&app, with(json(body))).await;
        assert_eq!(answer.json()["principal"]["user"], "u_b", "warm: {warm:?}");
        // The forged principal is also removed where no key is needed.
        let preflight = Ask::new("OPTIONS", "/x")
            .header("origin", "https://a")
            .header("access-control-request-method", "GET");
        for ask in [Ask::get("/health"), preflight] {
            let answer = send(&app, with(ask)).await;
            assert_eq!(
                (answer.verdict().as_str(), &answer.json()["principal"]),
                ("200:h", &serde_json::Value::Null),
                "warm: {warm:?}"
            );
        }
    }
}

/// The orders of layers that the documentation mentions, and their effects.
#[tokio::test(start_paused = true)]
async fn c14_08_other_layers_around_it() {
    let world = World::new().await;
    let auth = || all(world.store.clone()).endpoints(endpoints()).unwrap();
    // Outside: CORS, trace, panics, a timeout for everything, decompression. These layers see refusals.
    let app = Router::new()
        .fallback(echo)
        .layer(auth())
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(3)))
        .layer(CatchPanicLayer::new())
        .layer(CorsLayer::permissive())
        .layer(TraceLayer::new_for_http());
    let refused = send(&app, Ask::get("/x").header("origin", "https://a").request()).await;
    assert_eq!(refused.verdict(), "401/missing_api_key");
    assert_eq!(refused.header("access-control-allow-origin"), ["*"]);
    assert_eq!(refused.header("www-authenticate").len(), 3);
    let preflight = Ask::new("OPTIONS", "/x")
        .header("origin", "https://a")
        .header("access-control-request-method", "GET");
    assert_eq!(send(&app, preflight.request()).await.status, 200);
    for (ask, status) in asks(&world) {
        assert_eq!(send(&app, ask.request()).await.status, status);
    }
    let slow =
        Request::post("/x").header("content-type", "application/json").body(Body::new(Silent)).unwrap();
    assert_eq!(send(&app, slow).await.status, 504, "an outer timeout ends the reading of a body");

    // If CORS is inside, it never sees a preflight, unless the layer passes preflights.
    let inside =
        |auth: ApiKeyAuth<All>| Router::new().fallback(echo).layer(CorsLayer::permissive()).layer(auth);
    assert_eq!(send(&inside(auth()), preflight.request()).await.status, 401);
    let answer = send(&inside(auth().pass_preflight()), preflight.request()).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, vec!["*"]));

    // axum's own limit applies to extractors, not to this layer, which has its own.
    let text = json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1", "x": "y".repeat(3 << 20)});
    let app = Router::new().fallback(echo).layer(auth()).layer(DefaultBodyLimit::max(10));
    assert_eq!(send(&app, Ask::json("/x", &text).request()).await.verdict(), "413/body_too_large");
    let large =
        ApiKeyAuth::new(world.store.clone(), JsonBody::default().limit(NonZero::new(4 << 20).unwrap()));
    let app = Router::new().fallback(echo).layer(large.clone()).layer(DefaultBodyLimit::max(10));
    assert_eq!(send(&app, Ask::json("/x", &text).request()).await.verdict(), "200:h");
    // tower-http's limit applies to the body that the layer reads: a longer declared length gets 413, a longer stream
    // is an incomplete body.
    let app = Router::new().fallback(echo).layer(large).layer(RequestBodyLimitLayer::new(1000));
    let declared = Ask::json("/x", &text).header("content-length", text.to_string().len().to_string());
    assert_eq!(send(&app, declared.request()).await.status, 413);
    let request = Request::post("/x").header("content-type", "application/json");
    let chunks: Vec<_> = text.to_string().as_bytes().chunks(100).map(Bytes::copy_from_slice).collect();
    let streamed = request.body(Body::new(Pausing { chunks: chunks.into_iter(), paused: false })).unwrap();
    assert_eq!(send(&app, streamed).await.verdict(), "400/malformed_body");

    // If decompression is inside, a scheme that reads bodies sees compressed data: 415, and not a malformed body.
    let app = Router::new().fallback(echo).layer(RequestDecompressionLayer::new()).layer(auth());
    let coded = Ask::json("/x", "{}").header("content-encoding", "gzip");
    assert_eq!(send(&app, coded.request()).await.verdict(), "415/unsupported_media_type");

    // In one `ServiceBuilder` with axum's `from_fn`: the body type is the same on both sides.
    let pass = axum::middleware::from_fn(async |request: Request<Body>, next: axum::middleware::Next| {
        next.run(request).await
    });
    let both = ServiceBuilder::new().layer(pass.clone()).layer(auth()).layer(pass);
    let app = Router::new().fallback(echo).layer(both);
    for (ask, status) in asks(&world) {
        assert_eq!(send(&app, ask.request()).await.status, status);
    }
}
