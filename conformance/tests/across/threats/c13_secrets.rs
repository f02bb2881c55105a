//! C13: secrets in logs, `Debug`, traces and errors. The tests look for every secret in every spelling.

use std::convert::Infallible;
use std::fmt::{Debug, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::Full;
use serde_json::json;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_api_key::render::{EmptyOrGrpc, ProblemDetails};
use tower_api_key::scheme::{
    ApiKeyHeader, Bearer, HeaderScheme as _, JsonBody, MalformedCredential, Rebuild, Replay,
};
use tower_api_key::store::{KeyRegistry as _, NoProjects, RegistryError, StoreError};
use tower_api_key::{
    ApiKey, ApiKeyAuth, AuthError, ConfigError, Credentials, Endpoint, Head, KeyDigest, KeyFormat, KeyId,
    KeyRecord, Principal, Timestamp, Verifier,
};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::{DefaultMakeSpan, DefaultOnRequest, DefaultOnResponse, TraceLayer};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::kit::{Ask, canaries, endpoints, spellings};
use test_kit::{World, answer, bearer, echo, send, user};

fn search(what: &str, text: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{what} shows a secret: {text}");
    }
}

/// Checks both forms of `Debug`.
fn look(value: &dyn Debug, secrets: &[String]) {
    let text = format!("{value:?} {value:#?}");
    search("Debug", &text, secrets);
    assert!(!text.is_empty());
}

#[tokio::test]
async fn c13_01_debug_of_every_type() {
    let world = World::new().await;
    let secrets = canaries(&world);
    let key = world.own.expose_secret();
    look(&world.own, &secrets);
    look(&world.own.digest(), &secrets);
    look(&KeyFormat::default(), &secrets);
    look(&Credentials::new(key), &secrets);
    look(&Credentials::new(key.to_owned()).claim_user(Some("u_own")).select_project(Some("p1")), &secrets);
    look(&world.store, &secrets);
    look(&NoProjects(world.store.clone()), &secrets);
    let record =
        KeyRecord::new(KeyId::new("k").unwrap(), world.own.digest(), user("u_own"), Timestamp::from_secs(1));
    look(&record, &secrets);
    look(&world.store.list(&user("u_own"), &tower_api_key::KeyQuery::default()).await.unwrap(), &secrets);

    let verifier = Verifier::new(world.store.clone()).accept_foreign_keys();
    let principal = verifier.verify(&Credentials::new(key), Endpoint::WRITE).await.unwrap();
    look(&principal, &secrets);
    look(&principal.scopes(), &secrets);
    for bad in
        [world.revoked.expose_secret(), world.expired.expose_secret(), "garbage", world.stray.expose_secret()]
    {
        let error = verifier.verify(&Credentials::new(bad), Endpoint::WRITE).await.unwrap_err();
        look(&error, &secrets);
        search("Display", &error.to_string(), &secrets);
    }
    look(&verifier, &secrets);

    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default())
        .endpoints(endpoints())
        .unwrap();
    look(&auth, &secrets);
    let service = auth.layer(Router::new().fallback(echo));
    look(&service, &secrets);
    let body = json!({"apiKey": key, "userId": "u_own", "projectId": "p1"});
    for ask in [Ask::get("/x").bearer(&world.own), Ask::get("/x").api_key(&world.own), Ask::json("/x", body)]
    {
        let future = Service::<Request<Body>>::call(&mut service.clone(), ask.request());
        look(&future, &secrets);
        let response = future.await.unwrap();
        look(&response.headers(), &secrets);
    }
    look(&(Bearer::default(), ApiKeyHeader::default(), JsonBody::default()), &secrets);
    look(
        &(Bearer::default().describe(), MalformedCredential::Malformed, MalformedCredential::Repeated),
        &secrets,
    );
    look(&(ProblemDetails::default(), EmptyOrGrpc, endpoints(), Endpoint::READ), &secrets);
    look(&(StoreError::Overloaded, RegistryError::Conflict, ConfigError::KeyPrefix), &secrets);
}

/// The head of a request that no layer has processed shows no secret either.
#[tokio::test]
async fn c13_01_debug_of_a_head() {
    let world = World::new().await;
    let secrets = canaries(&world);
    let key = world.own.expose_secret();
    let ask = Ask::get(&format!("/x?api_key={key}"))
        .bearer(&world.own)
        .api_key(&world.own)
        .header("x-device-token", key)
        .header("cookie", format!("k={key}"));
    let request = ask.request();
    look(&Head::of(&request), &secrets);
    let (parts, ()) = request.map(drop).into_parts();
    look(&Head::from(&parts), &secrets);
}

/// A body of another crate that may print the rebuilt body inside it.
enum Printable {
    Sent(Full<Bytes>),
    Read(Replay),
}

impl http_body::Body for Printable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Sent(body) => Pin::new(body).poll_frame(context),
            Self::Read(body) => Pin::new(body).poll_frame(context),
        }
    }
}

impl Rebuild for Printable {
    fn rebuild(replay: Replay) -> Self {
        Self::Read(replay)
    }
}

#[tokio::test]
async fn c13_01_debug_of_a_body_that_was_read() {
    let world = World::new().await;
    let key = world.own.expose_secret();
    let text = json!({"apiKey": key, "userId": "u_own", "projectId": "p1"}).to_string();
    let secrets = canaries(&world);
    let inner = tower::service_fn(async |request: Request<Printable>| {
        let Printable::Read(body) = request.body() else { panic!("C13-01: it was not read") };
        look(body, &secrets);
        Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::default()))
    });
    let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default());
    let request = Request::post("/x").header("content-type", "application/json");
    let request = request.body(Printable::Sent(Full::from(text))).unwrap();
    assert_eq!(auth.layer(inner).oneshot(request).await.unwrap().status(), 200);
}

/// Records all traces.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<String>>);

impl Kept {
    fn keep(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("{} {} ", metadata.target(), metadata.name()));
        record(&mut line);
        let mut all = self.0.lock().unwrap();
        all.push_str(&line.0);
        all.push('\n');
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.keep(span.metadata(), |line| span.record(line));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        self.0.lock().unwrap().push_str(&line.0);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.keep(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Prints everything that a handler or an inner layer could print of a request and its response.
async fn printing(request: Request<Body>, next: axum::middleware::Next) -> axum::response::Response {
    tracing::trace!(?request, headers = ?request.headers(), extensions = ?request.extensions(), "inside");
    if let Some(principal) = request.extensions().get::<Principal>() {
        tracing::trace!(?principal, scopes = ?principal.scopes(), "who");
    }
    next.run(request).await
}

async fn outcome(request: Request<Body>, next: axum::middleware::Next) -> axum::response::Response {
    let response = next.run(request).await;
    let error = response.extensions().get::<AuthError>();
    let source = error.and_then(|error| std::error::Error::source(error).map(|source| format!("{source:?}")));
    tracing::trace!(?response, ?error, source, "outside");
    response
}

#[tokio::test]
async fn c13_02_nothing_is_traced() {
    let world = World::new().await;
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let trace = || {
        TraceLayer::new_for_http()
            .make_span_with(DefaultMakeSpan::new().level(Level::TRACE).include_headers(true))
            .on_request(DefaultOnRequest::new().level(Level::TRACE))
            .on_response(DefaultOnResponse::new().level(Level::TRACE).include_headers(true))
    };
    // The header of a custom name and that of another scheme: both are marked as sensitive.
    let own_name = ApiKeyHeader::named("X-Device-Token", "X-Device-Project", "api").unwrap();
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(own_name)
        .or(JsonBody::default())
        .endpoints(endpoints())
        .unwrap();
    let app = Router::new()
        .fallback(echo)
        .layer(from_fn(printing))
        .layer(trace())
        .layer(auth)
        .layer(from_fn(outcome));
    let keys = [
        &world.own,
        &world.ro,
        &world.revoked,
        &world.expired,
        &world.b,
        &world.p1,
        &world.test,
        &world.stray,
    ];
    for key in keys {
        let text = key.expose_secret();
        let body = json!({"apiKey": text, "userId": "u_own", "projectId": "p1"});
        let asks = [
            Ask::get("/x").bearer(key),
            Ask::get("/x").header("x-device-token", text).header("x-device-project", "p1"),
            Ask::get("/health").bearer(key).header("x-device-token", text),
            Ask::get("/x").bearer(key).header("x-api-key", text),
            Ask::get("/x").bearer(key).bearer(key).header("x-device-token", text),
            Ask::json("/x", body),
            Ask::json("/x", format!(r#"{{"apiKey":["{text}"]}}"#)),
            Ask::json("/x", format!(r#"{{"{text}":1"#)),
            Ask::new("POST", "/x").bearer(key).header("content-type", "application/grpc"),
        ];
        for ask in asks {
            send(&app, ask.request()).await;
        }
    }
    let text = kept.0.lock().unwrap().clone();
    // The subscriber was active and did see the headers.
    assert!(text.contains("Sensitive") && text.contains("who") && text.contains("RevokedKey"), "{text}");
    assert!(text.contains("x-device-project") && text.lines().count() > 100);
    search("the trace", &text, &canaries(&world));
}

#[tokio::test]
async fn c13_02_all_lines_are_marked_before_anything_else_sees_them() {
    let world = World::new().await;
    async fn marks(request: Request<Body>) -> String {
        let mark = |name: &str| {
            let all: Vec<_> =
                request.headers().get_all(name).iter().map(|value| value.is_sensitive()).collect();
            format!("{name}:{all:?} ")
        };
        ["authorization", "x-api-key", "x-project-id", "accept"].map(mark).concat()
    }
    for public in [false, true] {
        let auth =
            ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints()).unwrap();
        let app = Router::new()
            .route("/health", axum::routing::get(marks))
            .route("/projects", axum::routing::get(marks));
        let app = app.layer(auth);
        let path = if public { "/health" } else { "/projects" };
        let ask =
            Ask::get(path).bearer(&world.own).bearer(&world.b).api_key(&world.own).header("accept", "x");
        let shown = send(&app, ask.project("p1").request()).await.body;
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(
            shown, "authorization:[true, true] x-api-key:[true] x-project-id:[false] accept:[false] ",
            "public: {public:?}"
        );
    }
}

#[tokio::test]
async fn c13_03_a_redacted_body_can_be_logged_without_a_key() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default().redact_key());
    let app = Router::new().fallback(echo).layer(auth);
    for key in [&world.own, &world.p1] {
        let body = json!({"apiKey": key.expose_secret(), "userId": "u_own", "projectId": "p1"});
        let answer = send(&app, Ask::json("/x", body).request()).await;
        assert_eq!(answer.verdict(), "200:h", "{key:?}");
        search("the body", &String::from_utf8(answer.body).unwrap(), &spellings(key));
    }
}

#[tokio::test]
async fn c13_05_panics_and_sources_quote_nothing() {
    use async_trait::async_trait;
    use tower_api_key::store::KeyStore;

    struct Panics;

    #[async_trait]
    impl KeyStore for Panics {
        async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            panic!("while looking for {digest:?}");
        }
    }

    let world = World::new().await;
    let secrets = canaries(&world);
    let said = Arc::<Mutex<String>>::default();
    let heard = Arc::clone(&said);
    let catch = CatchPanicLayer::custom(move |panic: Box<dyn std::any::Any + Send>| {
        heard.lock().unwrap().push_str(panic.downcast_ref::<String>().unwrap());
        http::Response::builder().status(500).body(Body::empty()).unwrap()
    });
    let auth = ApiKeyAuth::new(NoProjects(Panics), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default());
    let app = Router::new().fallback(echo).layer(auth).layer(catch);
    let body = json!({"apiKey": world.own.expose_secret(), "userId": "u_own"});
    for ask in [Ask::get("/x").bearer(&world.own), Ask::get("/x").api_key(&world.own), Ask::json("/x", body)]
    {
        assert_eq!(send(&app, ask.request()).await.status, 500, "{ask:?}");
    }
    let said = said.lock().unwrap().clone();
    assert_eq!(said.matches("while looking for").count(), 3);
    search("the panic", &said, &secrets);

    // The text of a store error is only in the error's source.
    struct Fails(ApiKey);

    #[async_trait]
    impl KeyStore for Fails {
        async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            Err(StoreError::failed(format!("no row for {}", self.0.expose_secret())))
        }
    }

    let fails = Fails(KeyFormat::default().generate(tower_api_key::Environment::Live).unwrap());
    let secrets = spellings(&fails.0);
    let app = Router::new().fallback(echo).layer(ApiKeyAuth::new(NoProjects(fails), Bearer::default()));
    let request = Ask::get("/x").header("authorization", bearer(&world.own)).request();
    let answer = answer(app.oneshot(request).await.unwrap()).await;
    assert_eq!(answer.verdict(), "503/auth_unavailable");
    search(
        "the answer",
        &format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body)),
        &secrets,
    );
    let error = answer.extensions.get::<AuthError>().unwrap();
    search("Display", &error.to_string(), &secrets);
}
