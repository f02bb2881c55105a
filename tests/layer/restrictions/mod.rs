//! Restrictions of keys, through every scheme, with warm and cold stores: rows C4, C5, C6 and C15 of the threats.

mod address;
mod endpoint;
mod environment;
mod https;
mod judged;
mod referrer;
mod scheme;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::body::Body;
use axum::extract::Request;
use axum::routing::{any, get};
use axum::{Json, Router};
use http::{Method, Response};
use serde_json::{Value, json};
use test_kit::{Answer, Counted, World, answer};
use tower::util::{BoxCloneService, service_fn};
use tower::{Layer as _, ServiceExt as _};
use tower_api_key::client_addr::{ClientAddr, PeerAddr};
use tower_api_key::extract::{LivePrincipal, TestPrincipal};
use tower_api_key::restriction::Restrictions;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{
    ApiKey, ApiKeyAuth, AuthError, AuthErrorKind, Endpoints, Environment, Principal, Verifier,
};

/// A key of `u_own` with restrictions in their stored format.
async fn restricted(world: &World, restrictions: &str) -> ApiKey {
    let restrictions: Restrictions = restrictions.parse().unwrap();
    world.key("u_own", |key| key.restrictions = restrictions).await
}

/// Where the credential is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Bearer,
    Header,
    Body,
}

const PLACES: [Place; 3] = [Place::Bearer, Place::Header, Place::Body];

/// What surrounds the layer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Around {
    /// axum's router, so that the layer knows the route.
    Axum,
    /// A service without a router.
    Plain,
    /// The same, with a layer that compares paths.
    PlainByPath,
}

#[derive(Clone)]
struct Setup {
    client: ClientAddr,
    https: bool,
    environment: Option<Environment>,
    around: Around,
}

impl Default for Setup {
    fn default() -> Self {
        Self { client: ClientAddr::peer(), https: false, environment: None, around: Around::Axum }
    }
}

/// A request without its credential.
#[derive(Clone, Debug)]
struct Visit {
    method: Method,
    path: String,
    peer: Option<IpAddr>,
    headers: Vec<(&'static str, Vec<u8>)>,
    extensions: http::Extensions,
    user: &'static str,
    project: &'static str,
}

impl Visit {
    fn new(method: &str, path: &str) -> Self {
        Self {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            peer: None,
            headers: Vec::new(),
            extensions: http::Extensions::new(),
            user: "u_own",
            project: "p1",
        }
    }

    /// To an ordinary route.
    fn plain() -> Self {
        Self::new("POST", "/v1/charges")
    }

    fn from(mut self, peer: &str) -> Self {
        self.peer = Some(peer.parse().unwrap());
        self
    }

    fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    fn headers(self, name: &'static str, values: &[&str]) -> Self {
        values.iter().fold(self, |visit, value| visit.header(name, value))
    }

    fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    /// With or without a credential.
    fn request(&self, place: Place, key: Option<&str>) -> Request {
        let mut builder = Request::builder().method(self.method.clone()).uri(&self.path);
        for (name, value) in &self.headers {
            builder = builder.header(*name, &value[..]);
        }
        let mut body = json!({});
        match (place, key) {
            (Place::Bearer, Some(key)) => builder = builder.header("authorization", format!("Bearer {key}")),
            (Place::Header, Some(key)) => {
                builder = builder.header("x-api-key", key);
                if !self.project.is_empty() {
                    builder = builder.header("x-project-id", self.project);
                }
            }
            (Place::Body, Some(key)) => {
                body = json!({"apiKey": key, "userId": self.user});
                if !self.project.is_empty() {
                    body["projectId"] = self.project.into();
                }
            }
            (_, None) => {}
        }
        let body = if place == Place::Body {
            builder = builder.header("content-type", "application/json");
            Body::from(body.to_string())
        } else {
            Body::empty()
        };
        let mut request = builder.body(body).unwrap();
        *request.extensions_mut() = self.extensions.clone();
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(PeerAddr(peer));
        }
        request
    }
}

type App = BoxCloneService<Request, Response<Body>, std::convert::Infallible>;

struct Side {
    place: Place,
    name: String,
    app: App,
    calls: Arc<AtomicUsize>,
}

/// The same service behind each scheme, with a warm and a cold store.
struct Sites {
    sides: Vec<Side>,
}

async fn seen(request: Request) -> Json<Value> {
    let who = request.extensions().get::<Principal>();
    let observed: Option<Vec<_>> = who.map(|who| who.observed().map(|kind| kind.as_str()).collect());
    Json(json!({"handler": true, "observed": observed}))
}

fn routes() -> Router {
    Router::new()
        .route("/v1/users/{id}", any(seen))
        .route("/v1/users/{id}/keys", any(seen))
        .route("/v1/charges", any(seen))
        .route("/live", any(async |LivePrincipal(_): LivePrincipal| Json(json!({"handler": true}))))
        .route("/test", any(async |TestPrincipal(_): TestPrincipal| Json(json!({"handler": true}))))
        .route("/health", get(seen))
        .fallback(seen)
}

impl Sites {
    fn new(world: &World) -> Self {
        Self::with(world, &Setup::default())
    }

    fn behind(world: &World, client: ClientAddr) -> Self {
        Self::with(world, &Setup { client, ..Setup::default() })
    }

    fn around(world: &World, around: Around) -> Self {
        Self::with(world, &Setup { around, ..Setup::default() })
    }

    fn with(world: &World, setup: &Setup) -> Self {
        let mut sides = Vec::new();
        for place in PLACES {
            for warm in [true, false] {
                let store = Counted::new(world, warm);
                let calls = Arc::clone(&store.calls);
                let name = format!("{place:?}, {} store", if warm { "warm" } else { "cold" });
                sides.push(Side { place, name, app: app(place, store, setup), calls });
            }
        }
        Self { sides }
    }

    /// Sends a request to all of them, and returns the responses.
    async fn ask(&self, visit: &Visit, key: Option<&str>) -> Vec<(&Side, Answer, usize)> {
        let mut answers = Vec::new();
        for side in &self.sides {
            let before = side.calls.load(SeqCst);
            let request = visit.request(side.place, key);
            let answer = answer(side.app.clone().oneshot(request).await.unwrap()).await;
            answers.push((side, answer, side.calls.load(SeqCst) - before));
        }
        answers
    }

    /// All of them accept the request.
    async fn lets_in(&self, row: &str, visit: &Visit, key: &ApiKey) {
        for (side, answer, _) in self.ask(visit, Some(key.expose_secret())).await {
            assert_eq!(answer.status, 200, "{row}, {}: {visit:?}: {}", side.name, answer.verdict());
            assert!(answer.extensions.get::<AuthError>().is_none(), "{row}, {}", side.name);
        }
    }

    /// All of them refuse with this error.
    async fn refuses(&self, row: &str, visit: &Visit, key: &ApiKey, verdict: &str) {
        for (side, answer, _) in self.ask(visit, Some(key.expose_secret())).await {
            let error = answer.extensions.get::<AuthError>();
            let error = error.unwrap_or_else(|| panic!("{row}, {}: let in: {visit:?}", side.name));
            let got = format!("{}/{}", answer.status.as_u16(), error.public_code());
            assert_eq!(got, verdict, "{row}, {}: {visit:?}", side.name);
        }
    }

    /// All of them refuse because of exactly these restrictions; only the error's source, which the client does not
    /// see, names them.
    async fn restricts(&self, row: &str, visit: &Visit, key: &ApiKey, kinds: &str) {
        for (side, answer, _) in self.ask(visit, Some(key.expose_secret())).await {
            let at = format!("{row}, {}: {visit:?}", side.name);
            let error = answer.extensions.get::<AuthError>().unwrap_or_else(|| panic!("{at}: let in"));
            assert_eq!((answer.status.as_u16(), error.public_code()), (403, "restricted"), "{at}");
            assert_eq!(error.kind(), AuthErrorKind::Restricted, "{at}");
            let source = std::error::Error::source(error).expect("the source names the restrictions");
            assert_eq!(source.to_string(), format!("refused by the key's restrictions: {kinds}"), "{at}");
            let shown = format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body));
            for kind in ["referrer", "endpoint", "address", "device-token"] {
                assert!(!shown.contains(kind), "{at}: {shown}");
            }
        }
    }
}

fn app(place: Place, store: Counted, setup: &Setup) -> App {
    let mut verifier = Verifier::new(store);
    if let Some(environment) = setup.environment {
        verifier = verifier.environment(environment);
    }
    let endpoints = Endpoints::new().public(Method::GET, "/health");
    let endpoints = if setup.around == Around::PlainByPath { endpoints.by_path() } else { endpoints };
    macro_rules! behind {
        ($scheme:expr) => {{
            let auth = ApiKeyAuth::with_verifier(verifier, $scheme).client_addr(setup.client.clone());
            let auth = if setup.https { auth.require_https() } else { auth };
            match setup.around {
                Around::Axum => {
                    let app = routes().layer(auth.endpoints(endpoints).unwrap());
                    App::new(app.into_service::<Body>().map_response(|response| response))
                }
                Around::Plain => {
                    let plain = service_fn(async |request: Request| Ok(handle(request).await));
                    App::new(auth.layer(plain))
                }
                Around::PlainByPath => {
                    let plain = service_fn(async |request: Request| Ok(handle(request).await));
                    App::new(auth.endpoints(endpoints).unwrap().layer(plain))
                }
            }
        }};
    }
    match place {
        Place::Bearer => behind!(Bearer::default()),
        Place::Header => behind!(ApiKeyHeader::default()),
        Place::Body => {
            let more = [Method::GET, Method::HEAD, Method::DELETE];
            let scheme = more.into_iter().fold(JsonBody::default(), JsonBody::also_method);
            behind!(scheme)
        }
    }
}

async fn handle(request: Request) -> Response<Body> {
    Response::new(Body::from(seen(request).await.0.to_string()))
}
