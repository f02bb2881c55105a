//! Sends one request to two sites, one with a warm store and one with a cold store, and checks on every response what
//! must always hold (I1 to I7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderName, HeaderValue, Method, Request};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{ApiKey, ApiKeyAuth, AuthError, Endpoints, Principal};

use test_kit::{Answer, Counted, World, echo, send};

/// A request that can be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Self { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.push((name, HeaderValue::from_bytes(value.as_ref()).unwrap()));
        self
    }

    pub(crate) fn bearer(self, key: &ApiKey) -> Self {
        self.header("authorization", format!("Bearer {}", key.expose_secret()))
    }

    pub(crate) fn api_key(self, key: &ApiKey) -> Self {
        self.header("x-api-key", key.expose_secret())
    }

    pub(crate) fn project(self, project: &str) -> Self {
        self.header("x-project-id", project)
    }

    pub(crate) fn json(path: &str, body: impl ToString) -> Self {
        Self::new("POST", path).header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.parse().unwrap();
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        request
    }
}

/// Two guarded routers that differ only in their stores.
pub(crate) struct Site {
    sides: [Side; 2],
    secrets: Vec<String>,
}

struct Side {
    name: &'static str,
    app: Router,
    calls: Arc<AtomicUsize>,
    reached: Arc<AtomicUsize>,
}

/// The result of one request.
#[derive(Debug)]
pub(crate) struct Seen {
    /// `200:h` if a handler answered, otherwise the status and the error code.
    pub(crate) verdict: String,
    pub(crate) calls: usize,
    pub(crate) answer: Answer,
}

impl Seen {
    pub(crate) fn user(&self) -> String {
        self.answer.json()["principal"]["user"].as_str().unwrap_or("nobody").to_owned()
    }

    pub(crate) fn project(&self) -> String {
        self.answer.json()["principal"]["project"].as_str().unwrap_or("none").to_owned()
    }
}

/// All secrets of a world and all values derived from them, in every spelling that might appear.
pub(crate) fn canaries(world: &World) -> Vec<String> {
    let keys = [
        &world.own,
        &world.full,
        &world.ro,
        &world.p1,
        &world.test,
        &world.revoked,
        &world.expired,
        &world.b,
        &world.stray,
    ];
    keys.into_iter().flat_map(spellings).collect()
}

pub(crate) fn spellings(key: &ApiKey) -> Vec<String> {
    let text = key.expose_secret();
    let digest = *key.digest().as_bytes();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    vec![
        // Without the public prefix and without the last four characters, which may be shown.
        text[8..43].to_owned(),
        hex(text.as_bytes())[16..].to_owned(),
        base64(text.as_bytes())[12..56].to_owned(),
        hex(&digest),
        hex(&digest).to_uppercase(),
        base64(&digest)[..40].to_owned(),
        format!("{digest:?}").trim_matches(['[', ']']).to_owned(),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        text.extend((0..=chunk.len()).map(|at| char::from(ALPHABET[(word >> (18 - 6 * at)) as usize & 63])));
    }
    text
}

/// The declarations of most sites.
pub(crate) fn endpoints() -> Endpoints {
    Endpoints::new()
        .project_optional(Method::GET, "/projects")
        .project_optional(Method::GET, "/validate")
        .read(Method::POST, "/status")
        .public(Method::GET, "/health")
}

pub(crate) fn routes() -> Router {
    ["/projects", "/validate", "/status", "/upload", "/health", "/sites", "/usr", "/projects/{id}"]
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, any(echo)))
        .fallback(echo)
}

/// A header by which handlers mark their responses, because a response to `HEAD` has no body.
const HANDLED: HeaderName = HeaderName::from_static("x-handled");

/// Counts the requests that reach a handler, and checks their evidence: exactly one principal, or none at a public
/// route (I1).
async fn count(State(reached): State<Arc<AtomicUsize>>, request: Request<Body>, next: Next) -> Response {
    reached.fetch_add(1, SeqCst);
    let public = request.uri().path() == "/health" && request.method() == Method::GET;
    assert_eq!(request.extensions().get::<Principal>().is_none(), public, "I1: {request:?}");
    let mut response = next.run(request).await;
    response.headers_mut().insert(HANDLED, HeaderValue::from_static("yes"));
    response
}

impl Site {
    /// `build` puts a layer around these routes.
    pub(crate) fn over(world: &World, routes: Router, build: impl Fn(Counted, Router) -> Router) -> Self {
        let side = |name, warm| {
            let store = Counted::new(world, warm);
            let calls = Arc::clone(&store.calls);
            let reached = Arc::default();
            let counted = routes.clone().layer(from_fn_with_state(Arc::clone(&reached), count));
            Side { name, app: build(store, counted), calls, reached }
        };
        Self { sides: [side("warm", true), side("cold", false)], secrets: canaries(world) }
    }

    pub(crate) fn new(world: &World, build: impl Fn(Counted, Router) -> Router) -> Self {
        Self::over(world, routes(), build)
    }

    pub(crate) fn bearer(world: &World) -> Self {
        Self::new(world, |store, routes| {
            let bearer = Bearer::default().project_header("X-Project-ID").unwrap();
            routes.layer(ApiKeyAuth::new(store, bearer).endpoints(endpoints()).unwrap())
        })
    }

    pub(crate) fn header(world: &World) -> Self {
        Self::new(world, |store, routes| {
            routes.layer(ApiKeyAuth::new(store, ApiKeyHeader::default()).endpoints(endpoints()).unwrap())
        })
    }

    pub(crate) fn body(world: &World) -> Self {
        Self::with_body(world, JsonBody::default)
    }

    pub(crate) fn with_body(world: &World, scheme: impl Fn() -> JsonBody) -> Self {
        Self::new(world, |store, routes| {
            routes.layer(ApiKeyAuth::new(store, scheme()).endpoints(endpoints()).unwrap())
        })
    }

    /// `Authorization: Bearer` and `X-API-Key`, but not the body.
    pub(crate) fn heads(world: &World) -> Self {
        Self::new(world, |store, routes| {
            let auth = ApiKeyAuth::new(store, Bearer::default()).or(ApiKeyHeader::default());
            routes.layer(auth.endpoints(endpoints()).unwrap())
        })
    }

    /// All three schemes.
    pub(crate) fn all(world: &World) -> Self {
        Self::new(world, |store, routes| {
            let auth =
                ApiKeyAuth::new(store, Bearer::default()).or(ApiKeyHeader::default()).or(JsonBody::default());
            routes.layer(auth.endpoints(endpoints()).unwrap())
        })
    }

    /// Sends a request to both sites, which must agree.
    pub(crate) async fn see(&self, row: &str, ask: &Ask) -> Seen {
        let [warm, cold] = &self.sides;
        let one = self.see_one(row, ask, warm).await;
        let other = self.see_one(row, ask, cold).await;
        assert_eq!(one.verdict, other.verdict, "{row}: warm and cold stores disagree about {ask:?}");
        assert_eq!(one.calls, other.calls, "{row}: warm and cold stores are asked differently for {ask:?}");
        assert_eq!(one.answer.body, other.answer.body, "{row}: warm and cold answers differ for {ask:?}");
        other
    }

    async fn see_one(&self, row: &str, ask: &Ask, side: &Side) -> Seen {
        let before = (side.calls.load(SeqCst), side.reached.load(SeqCst));
        let answer = send(&side.app, ask.request()).await;
        let calls = side.calls.load(SeqCst) - before.0;
        let reached = side.reached.load(SeqCst) - before.1;
        let at = format!("{row}, {} store, {ask:?}", side.name);
        let answered = answer.headers.contains_key(HANDLED);
        let verdict = match answer.extensions.get::<AuthError>() {
            _ if answered => format!("{}:h", answer.status.as_u16()),
            Some(error) if ask.method == Method::HEAD => {
                format!("{}/{}", answer.status.as_u16(), error.public_code())
            }
            _ => answer.verdict(),
        };
        // I1, I2: the handler runs if and only if it answers, and outer layers see the error of a refusal.
        assert_eq!(reached, usize::from(answered), "{at}: a handler was reached {reached} times");
        let error = answer.extensions.get::<AuthError>();
        assert_eq!(error.is_none(), answered, "{at}: {verdict}, and the error is {error:?}");
        if let Some(error) = error {
            self.no_secret(&at, &format!("{error:?} {error:#?} {error}"));
            assert_eq!(answer.header("cache-control"), ["no-store"], "{at}");
        }
        // I3. The handler returns the body, so only the layer's own output is checked.
        self.no_secret(&at, &format!("{:?}", answer.headers));
        if !answered {
            self.no_secret(&at, &String::from_utf8_lossy(&answer.body));
        }
        // I7.
        if answered && ask.method != Method::HEAD {
            let json = answer.json();
            assert_eq!(json["method"], ask.method.as_str(), "{at}");
            assert_eq!(json["body"], String::from_utf8_lossy(&ask.body).as_ref(), "{at}");
        }
        Seen { verdict, calls, answer }
    }

    fn no_secret(&self, at: &str, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "{at}: a secret stands in {text}");
        }
    }

    /// Expects this result.
    pub(crate) async fn expect(&self, row: &str, ask: &Ask, verdict: &str) -> Seen {
        let seen = self.see(row, ask).await;
        assert_eq!(seen.verdict, verdict, "{row}: {ask:?}");
        seen
    }

    /// The same, and no store was called.
    pub(crate) async fn expect_offline(&self, row: &str, ask: &Ask, verdict: &str) -> Seen {
        let seen = self.expect(row, ask, verdict).await;
        assert_eq!(seen.calls, 0, "{row}: a store was asked about {ask:?}");
        seen
    }
}
