//! C17: declared endpoints behind other routers, and endpoints where a key is optional.

use std::convert::Infallible;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::handler::HandlerWithoutStateExt as _;
use axum::routing::{any, any_service, get as on_get};
use axum::{Extension, Router};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _};
use tower_api_key::client_addr::{ClientAddr, PeerAddr, Proto, ProxyHeader};
use tower_api_key::explain::Question;
use tower_api_key::guard::{RequireClass, RequireEnvironment};
use tower_api_key::limit::Limit;
use tower_api_key::observer::{Decision, Observer, Outcome};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Directory, KeyStore, MemoryStore, StoreError};
use tower_api_key::test_util::{self, ManualClock};
use tower_api_key::{
    AccessClass, AccountStatus, ApiKey, ApiKeyAuth, AuthError, AuthErrorKind, ConfigError, Deprecation,
    Endpoints, Environment, KeyDigest, KeyId, KeyRecord, Principal, ProjectId, Timestamp, UserId, Verifier,
};
use tower_api_key_manage as manage;
use tower_http::normalize_path::NormalizePathLayer;

use super::kit::Ask;
use test_kit::{Answer, World, answer, bearer, echo, send, user};
use tower_api_key::ApiKeys;
use tower_api_key::store::CachedKey;

const READ_ONLY: &str = "403/read_only";
const MISSING: &str = "401/missing_api_key";
const INVALID: &str = "401/invalid_api_key";

type Auth = ApiKeyAuth<Bearer>;

fn auth(world: &World, endpoints: Endpoints) -> Auth {
    ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints).unwrap()
}

async fn verdict(app: &Router, ask: &Ask) -> String {
    let answer = send(app, ask.request()).await;
    match answer.extensions.get::<AuthError>() {
        // A response to `HEAD` has no body.
        Some(error) => format!("{}/{}", answer.status.as_u16(), error.public_code()),
        None if answer.body.is_empty() => format!("{}:h", answer.status.as_u16()),
        None => answer.verdict(),
    }
}

// -- A2: the router reports another pattern than the declared one

/// axum does not accept a router as the service of a route, but it accepts one with a layer around it.
fn wrapped<S>(
    service: S,
) -> impl Service<Request<Body>, Response = S::Response, Error = Infallible, Future: Send> + Clone + Send + Sync
where
    S: Service<Request<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync,
{
    ServiceBuilder::new().map_request(|request: Request<Body>| request).service(service)
}

/// A router behind the layer's router.
fn inner(paths: &[&str]) -> Router {
    paths.iter().fold(Router::new(), |router, path| router.route(path, any(echo))).fallback(echo)
}

/// Routes for which axum reports another pattern than the declared one, each behind the layer: name, path, app.
fn arrangements(auth: impl Fn(&str) -> Auth) -> Vec<(&'static str, &'static str, Router)> {
    let around = |auth: Auth, router: Router| ServiceBuilder::new().layer(auth).service(router);
    vec![
        (
            "route_service, the layer in the inner router",
            "/v1/export",
            Router::new()
                .route_service("/v1/{*all}", wrapped(inner(&["/v1/export"]).layer(auth("/v1/export")))),
        ),
        (
            "route_service, declared without the prefix",
            "/v1/export",
            Router::new().route_service("/v1/{*all}", wrapped(inner(&["/v1/export"]).layer(auth("/export")))),
        ),
        (
            "route_service, the layer around the inner router",
            "/v1/export",
            Router::new().route_service("/v1/{*all}", around(auth("/v1/export"), inner(&["/v1/export"]))),
        ),
        (
            "route_service, the layer around a router that trims",
            "/v1/export/",
            Router::new().route_service(
                "/v1/{*all}",
                ServiceBuilder::new()
                    .layer(auth("/v1/export"))
                    .service(NormalizePathLayer::trim_trailing_slash().layer(inner(&["/v1/export"]))),
            ),
        ),
        (
            "any_service on a parameter, the layer in the inner router",
            "/export",
            Router::new().route("/{a}", any_service(wrapped(inner(&["/export"]).layer(auth("/export"))))),
        ),
        (
            "any_service on a parameter, the layer around the inner router",
            "/export",
            Router::new().route("/{a}", any_service(around(auth("/export"), inner(&["/export"])))),
        ),
        (
            "any_service on a parameter in a nest, the layer around the inner router",
            "/v1/export",
            Router::new().nest(
                "/v1",
                Router::new().route("/{a}", any_service(around(auth("/v1/export"), inner(&["/export"])))),
            ),
        ),
        (
            "a handler that looks at the path itself",
            "/export",
            Router::new().route("/{a}", any(echo)).layer(auth("/export")),
        ),
        (
            "a nest whose prefix the declaration forgot, the layer inside",
            "/v1/export",
            Router::new().nest("/v1", inner(&["/export"]).layer(auth("/export"))),
        ),
        (
            "a nest whose prefix the declaration forgot, the layer outside",
            "/v1/export",
            Router::new().nest("/v1", inner(&["/export"])).layer(auth("/export")),
        ),
        (
            "two nests, one of which the declaration forgot",
            "/a/v1/export",
            Router::new()
                .nest("/a", Router::new().nest("/v1", inner(&["/export"])))
                .layer(auth("/v1/export")),
        ),
        (
            "a nest with a parameter that the declaration forgot",
            "/acme/jobs/7/run",
            Router::new()
                .nest("/{tenant}", Router::new().route("/jobs/{id}/run", any(echo)))
                .layer(auth("/jobs/{job}/run")),
        ),
        (
            "a nested service, declared in full",
            "/v1/export",
            Router::new().nest_service("/v1", inner(&["/export"]).layer(auth("/v1/export"))),
        ),
        (
            "a nested service, declared without the prefix",
            "/v1/export",
            Router::new().nest_service("/v1", inner(&["/export"]).layer(auth("/export"))),
        ),
        (
            "a nested service, the layer around it",
            "/v1/export",
            Router::new().nest_service("/v1", around(auth("/export"), inner(&["/export"]))),
        ),
        (
            "a route below a catch-all that is declared to write",
            "/exports/all",
            Router::new().route("/exports/{name}", any(echo)).layer(auth("/exports/{*path}")),
        ),
        (
            "a catch-all, and a declaration below it",
            "/v1/export",
            Router::new().route("/v1/{*rest}", any(echo)).layer(auth("/v1/export")),
        ),
        (
            "a fallback, and a declaration",
            "/export",
            Router::new().fallback_service(around(auth("/export"), inner(&["/export"]))),
        ),
    ]
}

#[tokio::test]
async fn c17_a2_a_get_that_is_declared_to_write_stays_a_write_behind_another_router() {
    let world = World::new().await;
    let apps = arrangements(|pattern| auth(&world, Endpoints::new().write(Method::GET, pattern)));
    for (name, path, app) in apps {
        for method in ["GET", "HEAD"] {
            let ask = Ask::new(method, path);
            assert_eq!(verdict(&app, &ask.clone().bearer(&world.ro)).await, READ_ONLY, "{name}: {method}");
            assert_eq!(verdict(&app, &ask.clone().bearer(&world.full)).await, "200:h", "{name}: {method}");
            assert_eq!(verdict(&app, &ask).await, MISSING, "{name}: {method}");
        }
    }
}

/// The same for endpoints that need a user-level key: a project-level key gets no access through another router.
#[tokio::test]
async fn c17_a2_a_manage_endpoint_stays_one_behind_another_router() {
    let world = World::new().await;
    let apps = arrangements(|pattern| auth(&world, Endpoints::new().manage(Method::POST, pattern)));
    let mut refused = 0;
    for (name, path, app) in apps {
        let ask = Ask::new("POST", path);
        let own = verdict(&app, &ask.clone().bearer(&world.own)).await;
        assert_eq!(own, "200:h", "{name}");
        // If nothing is known about the route, it counts as a write, which a project-level key may do.
        let unknown = name.starts_with("a nested service") || name.starts_with("a fallback");
        if verdict(&app, &ask.bearer(&world.p1)).await == "403/forbidden" {
            refused += 1;
        } else {
            assert!(unknown, "{name}");
        }
    }
    assert!(refused >= 14, "{refused}");
}

/// If several declarations may apply, the strictest counts, whatever their order.
#[tokio::test]
async fn c17_g_of_several_declarations_that_may_be_meant_the_narrowest_counts() {
    let world = World::new().await;
    for (manages, writes, route, path) in [
        ("/export", "/v1/export", "/a/v1/export", "/a/v1/export"),
        ("/v1/export", "/export", "/a/v1/export", "/a/v1/export"),
        ("/{id}/run", "/jobs/{id}/run", "/{tenant}/jobs/{job}/run", "/acme/jobs/7/run"),
        ("/jobs/{id}/run", "/{id}/run", "/{tenant}/jobs/{job}/run", "/acme/jobs/7/run"),
    ] {
        for manages_first in [true, false] {
            let endpoints = match manages_first {
                true => Endpoints::new().manage(Method::GET, manages).write(Method::GET, writes),
                false => Endpoints::new().write(Method::GET, writes).manage(Method::GET, manages),
            };
            let Ok(auth) = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints)
            else {
                panic!("{manages} and {writes} contradict each other")
            };
            let app = Router::new().route(route, any(echo)).layer(auth);
            let ask = |key| Ask::new("GET", path).bearer(key);
            let at = format!("{manages} manages, {writes} writes: {path}");
            assert_eq!(verdict(&app, &ask(&world.p1)).await, "403/forbidden", "{at}");
            assert_eq!(verdict(&app, &ask(&world.ro)).await, READ_ONLY, "{at}");
            assert_eq!(verdict(&app, &ask(&world.own)).await, "200:h", "{at}");
        }
    }
}

#[tokio::test]
async fn c17_a2_reads_stay_reads_beside_a_declared_write() {
    let world = World::new().await;
    let endpoints = Endpoints::new()
        .write(Method::GET, "/export")
        .write(Method::GET, "/users/{id}/run")
        .manage(Method::GET, "/keys/{id}")
        .read_subtree(Method::GET, "/files/{*path}")
        .read(Method::GET, "/v1/export")
        .project_optional(Method::GET, "/v2/export")
        .read(Method::POST, "/status");
    let paths = [
        "/",
        "/export",
        "/v1/export",
        "/v2/export",
        "/{page}",
        "/users/{id}",
        "/users/{id}/run",
        "/users/{id}/jobs",
        "/keys/{id}",
        "/keys/mine",
        "/export/{id}",
        "/files/{*rest}",
        "/static/{*rest}",
        "/status",
    ];
    let app = paths
        .iter()
        .fold(Router::new(), |app, path| app.route(path, any(echo)))
        .layer(auth(&world, endpoints));
    let readable = [
        "/",
        "/v1/export",
        "/v2/export",
        "/imprint",
        "/users/7",
        "/users/export",
        "/users/a%20b",
        "/users/7/jobs",
        "/users/run/jobs",
        "/keys/mine",
        "/export/7",
        "/files/export",
        "/files/a/export",
        "/static/export",
        "/static/users/7/run",
    ];
    for path in readable {
        for method in ["GET", "HEAD"] {
            let ask = Ask::new(method, path).bearer(&world.ro);
            assert_eq!(verdict(&app, &ask).await, "200:h", "{method} {path}");
        }
        let ask = Ask::new("POST", path).bearer(&world.ro);
        assert_eq!(verdict(&app, &ask).await, READ_ONLY, "POST {path}");
    }
    for path in ["/export", "/users/7/run", "/keys/7"] {
        for method in ["GET", "HEAD"] {
            let ask = Ask::new(method, path).bearer(&world.ro);
            assert_eq!(verdict(&app, &ask).await, READ_ONLY, "{method} {path}");
        }
    }
    assert_eq!(verdict(&app, &Ask::new("POST", "/status").bearer(&world.ro)).await, "200:h");
}

/// What follows a catch-all was matched by another router, so it cannot be compared with a declaration.
#[tokio::test]
async fn c17_a2_segments_after_a_catch_all_cannot_be_compared() {
    let world = World::new().await;
    let app = |endpoints: Endpoints| {
        let inner = inner(&["/v1/sites", "/v1/status"]).layer(auth(&world, endpoints));
        Router::new().route_service("/v1/{*all}", wrapped(inner))
    };
    let narrowed = Endpoints::new().write(Method::GET, "/reports/run").read(Method::POST, "/v1/status");
    for (endpoints, expected) in [(narrowed, READ_ONLY), (Endpoints::new(), "200:h")] {
        let app = app(endpoints);
        for method in ["GET", "HEAD"] {
            let ask = Ask::new(method, "/v1/sites").bearer(&world.ro);
            assert_eq!(verdict(&app, &ask).await, expected, "{method}");
        }
        for path in ["/v1/sites", "/v1/status"] {
            let ask = Ask::new("POST", path);
            assert_eq!(verdict(&app, &ask.clone().bearer(&world.ro)).await, READ_ONLY, "{path}");
            assert_eq!(verdict(&app, &ask.bearer(&world.full)).await, "200:h", "{path}");
        }
    }
}

/// The explanation of such a request agrees with the layer.
#[tokio::test]
async fn c17_a2_an_explanation_agrees_behind_another_router() {
    let world = World::new().await;
    let auth = |pattern: &str| auth(&world, Endpoints::new().write(Method::GET, pattern));
    let matched = |auth: Auth, route: &str| {
        let say = async |path: MatchedPath| path.as_str().to_owned();
        Router::new().route(route, any(say)).layer(auth)
    };
    let record = world.store.find(&world.ro.digest()).await.unwrap().unwrap();
    for (declared, route, path) in [
        ("/export", "/v1/export", "/v1/export"),
        ("/export", "/{a}", "/export"),
        ("/export", "/{a}", "/other"),
        ("/exports/{*path}", "/exports/{name}", "/exports/x"),
        ("/v1/export", "/v1/{*rest}", "/v1/x"),
        ("/users/{id}", "/users/{name}", "/users/x"),
        ("/users/{id}", "/{kind}/{id}", "/users/x"),
        ("/users/{id}", "/{kind}/{id}", "/things/x"),
        ("/users/{id}", "/{kind}/x", "/users/x"),
        ("/users/{id}", "/else", "/else"),
    ] {
        let auth = auth(declared);
        let question = Question::new(Method::GET).route(route).path(path);
        let explanation = auth.explainer().explain(&record, &question).await.unwrap();
        let said = verdict(&matched(auth, route), &Ask::get(path).bearer(&world.ro)).await;
        let expected = explanation.error().map(AuthError::kind);
        assert_eq!(expected, (said == READ_ONLY).then_some(AuthErrorKind::ReadOnly), "{declared} {route}");
    }
}

/// If none of the endpoints is declared to write, reads stay reads behind another router.
#[tokio::test]
async fn c17_a2_where_no_read_writes_another_router_changes_nothing() {
    let world = World::new().await;
    for (name, path, app) in
        arrangements(|pattern| auth(&world, Endpoints::new().project_optional(Method::GET, pattern)))
    {
        assert_eq!(verdict(&app, &Ask::get(path).bearer(&world.ro)).await, "200:h", "{name}");
        assert_eq!(verdict(&app, &Ask::new("POST", path).bearer(&world.ro)).await, READ_ONLY, "{name}");
    }
}

/// For the inner router's fallback, axum reports the outer route. A declaration only opens it with a method for
/// subtrees.
#[tokio::test]
async fn c17_a2_an_inner_routers_fallback_reports_the_outer_routers_pattern() {
    let world = World::new().await;
    let reported = async |matched: MatchedPath| matched.as_str().to_owned();
    let routes = || Router::new().route("/files/secret", on_get(reported)).fallback(reported);
    let app = |endpoints: Endpoints| {
        Router::new().route_service("/files/{*rest}", wrapped(routes().layer(auth(&world, endpoints))))
    };
    let body = async |app: &Router, ask: Ask| {
        let answer = send(app, ask.request()).await;
        (answer.status.as_u16(), String::from_utf8(answer.body).unwrap())
    };
    let open = [
        Endpoints::new().public_subtree(Method::GET, "/files/{*rest}"),
        Endpoints::new().optional_subtree(Method::GET, "/files/{*path}"),
    ];
    for endpoints in open {
        let app = app(endpoints);
        let outer = (200, "/files/{*rest}".to_owned());
        assert_eq!(body(&app, Ask::get("/files/x")).await, outer);
        // The inner router's own routes have other patterns.
        assert_eq!(verdict(&app, &Ask::get("/files/secret")).await, MISSING);
        let with_key = Ask::get("/files/secret").bearer(&world.own);
        assert_eq!(body(&app, with_key).await, (200, "/files/{*rest}/files/secret".to_owned()));
    }
    // Without such a declaration, both need a key.
    for path in ["/files/x", "/files/secret"] {
        assert_eq!(verdict(&app(Endpoints::new()), &Ask::get(path)).await, MISSING, "{path:?}");
    }
    // Only the fallback is a read.
    let app = app(Endpoints::new().read_subtree(Method::POST, "/files/{*rest}"));
    let post = |path: &str| Ask::new("POST", path).bearer(&world.ro);
    assert_eq!(send(&app, post("/files/x").request()).await.status, 200);
    assert_eq!(verdict(&app, &post("/files/secret")).await, READ_ONLY);
}

#[test]
fn c17_a2_a_catch_all_needs_a_method_for_subtrees() {
    let build = |endpoints: Endpoints| {
        ApiKeyAuth::new(MemoryStore::new(), Bearer::default()).endpoints(endpoints).map(drop)
    };
    let get = || Method::GET;
    let refused = |endpoints: Endpoints, word: &str| match build(endpoints) {
        Err(ConfigError::Pattern { reason, .. }) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{word}: {other:?}"),
    };
    for pattern in ["/{*all}", "/files/{*path}", "/a/{id}/{*rest}"] {
        refused(Endpoints::new().public(get(), pattern), "public_subtree");
        refused(Endpoints::new().optional(get(), pattern), "optional_subtree");
        refused(Endpoints::new().read(get(), pattern), "read_subtree");
        for sound in [
            Endpoints::new().public_subtree(get(), pattern),
            Endpoints::new().optional_subtree(get(), pattern).read_subtree(get(), pattern),
            Endpoints::new().write(get(), pattern),
            Endpoints::new().manage(get(), pattern),
            Endpoints::new().project_optional(get(), pattern),
        ] {
            assert_eq!(build(sound), Ok(()), "{pattern}");
        }
    }
    for pattern in ["/", "/files", "/files/{path}", "/{{*all}}"] {
        refused(Endpoints::new().public_subtree(get(), pattern), "catch-all");
        refused(Endpoints::new().optional_subtree(get(), pattern), "catch-all");
        refused(Endpoints::new().read_subtree(get(), pattern), "catch-all");
        assert_eq!(build(Endpoints::new().public(get(), pattern)), Ok(()), "{pattern}");
    }
    let contradictions = [
        Endpoints::new().public(get(), "/a").optional(get(), "/a"),
        Endpoints::new().optional(get(), "/a").public(get(), "/a"),
        Endpoints::new().optional(get(), "/a").manage(get(), "/a"),
        Endpoints::new().manage(get(), "/a").optional(get(), "/a"),
        Endpoints::new().public_subtree(get(), "/{*a}").optional_subtree(get(), "/{*a}"),
        Endpoints::new().read_subtree(get(), "/{*a}").write(get(), "/{*a}"),
    ];
    for endpoints in contradictions {
        let refused = build(endpoints.clone());
        assert!(matches!(refused, Err(ConfigError::Contradiction { .. })), "{endpoints:?}: {refused:?}");
    }
    let sound = Endpoints::new()
        .optional(get(), "/a")
        .optional(get(), "/a")
        .write(get(), "/a")
        .project_optional(get(), "/a")
        .public(Method::POST, "/a");
    assert_eq!(build(sound), Ok(()));
}

#[test]
fn c17_a2_undeclared_finds_unmatched_routes_and_declarations() {
    let endpoints = Endpoints::new()
        .project_optional(Method::GET, "/projects")
        .write(Method::GET, "/export")
        .read(Method::POST, "/export")
        .write(Method::GET, "/jobs/{job}/run")
        .public_subtree(Method::GET, "/files/{*rest}");
    let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default()).endpoints(endpoints).unwrap();
    let routes = ["/projects", "/export", "/jobs/{id}/run", "/files/{*path}"];
    assert_eq!(auth.undeclared(routes), Default::default());
    // One declaration lacks a prefix, and a new route was added without a declaration.
    let found = auth.undeclared(["/projects", "/v1/export", "/jobs/{id}/run", "/files/{path}", "/new"]);
    assert_eq!(found.declarations, ["GET /export", "POST /export", "GET /files/{*rest}"]);
    assert_eq!(found.routes, ["/v1/export", "/files/{path}", "/new"]);
    let found = auth.undeclared(Vec::<String>::new());
    assert_eq!((found.routes.len(), found.declarations.len()), (0, 5));
    // Later calls of the builder keep the declarations.
    assert_eq!(auth.or(ApiKeyHeader::default()).undeclared(routes), Default::default());
}

// -- A3: endpoints where a key is optional

/// A store that can be warm or cold, and that can fail.
#[derive(Clone)]
struct Slow {
    store: MemoryStore,
    warm: bool,
    down: Arc<AtomicBool>,
}

impl Slow {
    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(SeqCst) { Err(StoreError::Overloaded) } else { Ok(()) }
    }
}

#[async_trait]
impl KeyStore for Slow {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.up()?;
        self.store.find(digest).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        if self.warm && self.up().is_ok() {
            KeyStore::find_cached(&self.store, digest)
        } else {
            CachedKey::Miss
        }
    }
}

#[async_trait]
impl Directory for Slow {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.up()?;
        self.store.account_status(user, project).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        if self.warm && self.up().is_ok() {
            Directory::account_status_cached(&self.store, user, project)
        } else {
            None
        }
    }
}

/// The same routes with a warm and with a cold store.
struct Sides {
    apps: [Router; 2],
    /// Whether responses depend on the request's headers.
    varies: bool,
    down: Arc<AtomicBool>,
}

const OPTIONAL: &str = "/prices";

fn optional() -> Endpoints {
    Endpoints::new()
        .optional(Method::GET, OPTIONAL)
        .optional(Method::POST, OPTIONAL)
        .project_optional(Method::GET, OPTIONAL)
        .project_optional(Method::POST, OPTIONAL)
        .optional(Method::GET, "/offers/{id}")
        .public(Method::GET, "/health")
}

fn routes() -> Router {
    ["/prices", "/offers/{id}", "/health", "/mine"]
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, any(echo)))
}

impl Sides {
    fn new(world: &World, layered: impl Fn(Slow, Router) -> Router) -> Self {
        let down = Arc::<AtomicBool>::default();
        let app = |warm| {
            let store = Slow { store: world.store.clone(), warm, down: Arc::clone(&down) };
            layered(store, routes())
        };
        Self { apps: [app(true), app(false)], varies: true, down }
    }

    /// All three schemes.
    fn all(world: &World) -> Self {
        Self::new(world, |store, routes| {
            let auth = ApiKeyAuth::new(store, Bearer::default().project_header("X-Project-ID").unwrap())
                .or(ApiKeyHeader::default())
                .or(JsonBody::default().limit(NonZero::new(4096).unwrap()));
            routes.layer(auth.endpoints(optional()).unwrap())
        })
    }

    async fn see(&self, ask: &Ask) -> Answer {
        let [one, other] = [&self.apps[0], &self.apps[1]].map(|app| send(app, ask.request()));
        let (one, other) = (one.await, other.await);
        assert_eq!((one.status, &one.headers, &one.body), (other.status, &other.headers, &other.body));
        one
    }

    async fn expect(&self, ask: &Ask, expected: &str) -> Answer {
        let answer = self.see(ask).await;
        assert_eq!(answer.verdict(), expected, "{ask:?}");
        answer
    }

    /// Accepted without a principal, and the handler sees none.
    async fn nobody(&self, ask: &Ask) {
        let answer = self.expect(ask, "200:h").await;
        assert_eq!(answer.json()["principal"], Value::Null, "{ask:?}");
        assert_eq!(answer.header("cache-control"), Vec::<&str>::new(), "{ask:?}");
        assert_eq!(!answer.header("vary").is_empty(), self.varies, "{ask:?}");
    }

    /// Accepted with this user's key.
    async fn somebody(&self, ask: &Ask, user: &str) {
        let answer = self.expect(ask, "200:h").await;
        assert_eq!(answer.json()["principal"]["user"], user, "{ask:?}");
        assert_eq!(answer.header("cache-control"), ["private, no-store"], "{ask:?}");
        assert_eq!(!answer.header("vary").is_empty(), self.varies, "{ask:?}");
    }
}

fn mistyped(key: &ApiKey) -> String {
    let text = key.expose_secret();
    let last = if text.ends_with('a') { "b" } else { "a" };
    format!("{}{last}", &text[..text.len() - 1])
}

#[tokio::test]
async fn c17_a3_no_credential_gives_no_principal_and_a_valid_one_gives_one() {
    let world = World::new().await;
    let sides = Sides::all(&world);
    for ask in [
        Ask::get(OPTIONAL),
        Ask::get("/prices?x=1"),
        Ask::get("/offers/7"),
        Ask::new("POST", OPTIONAL),
        // Other headers are not credentials.
        Ask::get(OPTIONAL).header("authorization", "Basic dTpw"),
        Ask::get(OPTIONAL).header("authorization", "Digest x").header("authorization", "Basic dTpw"),
        Ask::get(OPTIONAL).header("x-project-id", "p1"),
        Ask::get(OPTIONAL).header("cookie", "session=1"),
        Ask::get(OPTIONAL).header("x-api-token", world.own.expose_secret()),
    ] {
        sides.nobody(&ask).await;
    }
    let json = json!({"apiKey": world.own.expose_secret(), "userId": "u_own"});
    for (ask, user) in [
        (Ask::get(OPTIONAL).bearer(&world.own), "u_own"),
        (Ask::get(OPTIONAL).api_key(&world.full), "u_full"),
        (Ask::get(OPTIONAL).api_key(&world.ro).project("p1"), "u_ro"),
        (Ask::new("POST", OPTIONAL).bearer(&world.full), "u_full"),
        (Ask::json(OPTIONAL, json), "u_own"),
        (Ask::get("/offers/7").bearer(&world.own), "u_own"),
    ] {
        sides.somebody(&ask, user).await;
    }
    // `HEAD` counts as `GET`; other methods and routes still need a key.
    let head = sides.see(&Ask::new("HEAD", OPTIONAL)).await;
    assert_eq!((head.status.as_u16(), head.header("vary").len()), (200, 1));
    for ask in [Ask::new("PUT", OPTIONAL), Ask::new("get", OPTIONAL), Ask::get("/mine"), Ask::get("/prices/")]
    {
        sides.expect(&ask, MISSING).await;
    }
    // A public endpoint ignores keys.
    let blind = sides.expect(&Ask::get("/health").bearer(&world.own), "200:h").await;
    assert_eq!((&blind.json()["principal"], blind.header("vary").len()), (&Value::Null, 0));
    sides.expect(&Ask::get("/health").bearer(&world.revoked), "200:h").await;
}

#[tokio::test]
async fn c17_a3_an_invalid_credential_is_never_ignored() {
    let world = World::new().await;
    let sides = Sides::all(&world);
    let bad = [&world.revoked, &world.expired, &world.stray];
    for key in bad {
        sides.expect(&Ask::get(OPTIONAL).bearer(key), INVALID).await;
        sides.expect(&Ask::get(OPTIONAL).api_key(key), INVALID).await;
        let json = json!({"apiKey": key.expose_secret(), "userId": "u_own"});
        sides.expect(&Ask::json(OPTIONAL, json), INVALID).await;
    }
    for text in ["", "x", "sk_live_", &*mistyped(&world.own), "nonsense nonsense", "\u{e4}"] {
        sides.expect(&Ask::get(OPTIONAL).header("authorization", format!("Bearer {text}")), INVALID).await;
        sides.expect(&Ask::get(OPTIONAL).header("x-api-key", text), INVALID).await;
    }
    sides.expect(&Ask::get(OPTIONAL).header("authorization", "bearer"), INVALID).await;
    // More than one credential, whether valid, wrong or equal.
    let own = bearer(&world.own);
    for ask in [
        Ask::get(OPTIONAL).bearer(&world.own).api_key(&world.own),
        Ask::get(OPTIONAL).bearer(&world.revoked).api_key(&world.own),
        Ask::get(OPTIONAL).header("authorization", &own).header("authorization", &own),
        Ask::get(OPTIONAL).header("authorization", &own).header("authorization", "Basic dTpw"),
        Ask::get(OPTIONAL).api_key(&world.own).api_key(&world.own),
    ] {
        sides.expect(&ask, "400/conflicting_credentials").await;
    }
    // A valid key without permission.
    let ask = |key: &ApiKey| Ask::get(OPTIONAL).api_key(key);
    sides.expect(&ask(&world.full).project("p3"), "403/forbidden").await;
    sides.expect(&ask(&world.p1).project("p2"), "403/project_mismatch").await;
    sides.expect(&ask(&world.own).project("no id"), "400/invalid_project").await;
    let post = Ask::new("POST", OPTIONAL).api_key(&world.ro).project("p1");
    sides.expect(&post, READ_ONLY).await;
    // With a key, the project is only optional where that is declared.
    sides.expect(&Ask::get("/offers/7").api_key(&world.own), "400/project_required").await;
    let restricted = world.key("u_own", |key| {
        key.restrictions = r#"{"ip":{"allow":["192.0.2.0/24"]}}"#.parse().unwrap();
    });
    sides.expect(&ask(&restricted.await), "403/restricted").await;
    let limited = world.key("u_own", |key| key.limits = Some("1/h".parse().unwrap())).await;
    let sides = Sides::all(&world);
    sides.somebody(&Ask::get(OPTIONAL).bearer(&world.own), "u_own").await;
    for app in &sides.apps {
        let limited = Ask::get(OPTIONAL).bearer(&limited);
        assert_eq!(verdict(app, &limited).await, "200:h");
        assert_eq!(verdict(app, &limited).await, "429/rate_limited");
    }
}

#[tokio::test]
async fn c17_a3_a_failing_store_is_503_with_a_key_and_not_called_without_one() {
    let world = World::new().await;
    let sides = Sides::all(&world);
    sides.down.store(true, SeqCst);
    let json = json!({"apiKey": world.own.expose_secret(), "userId": "u_own"});
    for ask in [
        Ask::get(OPTIONAL).bearer(&world.own),
        Ask::get(OPTIONAL).api_key(&world.revoked),
        Ask::json(OPTIONAL, json),
    ] {
        let answer = sides.expect(&ask, "503/auth_unavailable").await;
        assert_eq!(answer.header("retry-after"), ["1"], "{ask:?}");
    }
    sides.nobody(&Ask::get(OPTIONAL)).await;
    sides.nobody(&Ask::json(OPTIONAL, json!({"no": "key"}))).await;
    sides
        .expect(&Ask::get(OPTIONAL).bearer(&world.own).api_key(&world.own), "400/conflicting_credentials")
        .await;
    sides.expect(&Ask::get(OPTIONAL).header("x-api-key", mistyped(&world.own)), INVALID).await;
}

/// The cases for bodies, with the body scheme alone and with header schemes.
#[tokio::test]
async fn c17_a3_bodies_at_an_optional_endpoint() {
    let world = World::new().await;
    let alone = Sides::new(&world, |store, routes| {
        let auth = ApiKeyAuth::new(store, JsonBody::default().limit(NonZero::new(4096).unwrap()));
        routes.layer(auth.endpoints(optional()).unwrap())
    });
    for sides in [Sides { varies: false, ..alone }, Sides::all(&world)] {
        let typed = |kind: &str, body: &str| {
            Ask::new("POST", OPTIONAL).header("content-type", kind).body(body.to_owned())
        };
        let key = world.own.expose_secret();
        let nobody = [
            Ask::new("POST", OPTIONAL),
            Ask::new("POST", OPTIONAL).body("apiKey=x"),
            typed("text/plain", &format!(r#"{{"apiKey":"{key}"}}"#)),
            typed("application/x-www-form-urlencoded", &format!("apiKey={key}")),
            typed("multipart/form-data; boundary=x", "--x--"),
            typed("application/octet-stream", "\u{0}"),
            Ask::json(OPTIONAL, ""),
            Ask::json(OPTIONAL, "{}"),
            Ask::json(OPTIONAL, r#"{"a": {"apiKey": 1}, "userId": "u_own", "projectId": "p1"}"#),
            Ask::json(OPTIONAL, r#"{"userId": null, "b": [1, 2.5, "x"]}"#),
        ];
        for ask in &nobody {
            sides.nobody(ask).await;
            // The handler gets the body unchanged, whether or not it was read.
            let request = ask.request();
            let sent = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
            assert_eq!(sides.see(ask).await.json()["body"], String::from_utf8_lossy(&sent).as_ref());
        }
        let good = format!(r#"{{"apiKey":"{key}","userId":"u_own","x":[1]}}"#);
        sides.somebody(&Ask::json(OPTIONAL, &good), "u_own").await;
        assert_eq!(sides.see(&Ask::json(OPTIONAL, &good)).await.json()["body"], *good);

        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(5000));
        let refused = [
            (r#"{"apiKey": null}"#.to_owned(), MISSING),
            (r#"{"apiKey": null, "userId": "u_own"}"#.to_owned(), MISSING),
            (r#"{"apiKey": ""}"#.to_owned(), INVALID),
            (r#"{"apiKey": "nonsense", "userId": "u_own"}"#.to_owned(), INVALID),
            (format!(r#"{{"apiKey": "{key}"}}"#), "401/invalid_user"),
            (format!(r#"{{"apiKey": "{key}", "userId": "u_full"}}"#), "401/invalid_user"),
            (r#"{"apiKey": 1}"#.to_owned(), "400/malformed_body"),
            (r#"{"apiKey": {}}"#.to_owned(), "400/malformed_body"),
            (r#"{"apiKey": true}"#.to_owned(), "400/malformed_body"),
            (format!(r#"{{"apiKey": "{key}", "apiKey": "{key}"}}"#), "400/malformed_body"),
            (r#"{"apiKey": null, "apiKey": null}"#.to_owned(), "400/malformed_body"),
            (format!(r#"{{"apiKey": "{key}", "apikey": "{key}"}}"#), "400/malformed_body"),
            (r#"{"userId": 1}"#.to_owned(), "400/malformed_body"),
            ("[]".to_owned(), "400/malformed_body"),
            ("null".to_owned(), "400/malformed_body"),
            ("{".to_owned(), "400/malformed_body"),
            ("{} x".to_owned(), "400/malformed_body"),
            (large.clone(), "413/body_too_large"),
        ];
        for (body, expected) in &refused {
            sides.expect(&Ask::json(OPTIONAL, body), expected).await;
        }
        // The body is JSON, and may contain a key that cannot be read.
        for ask in [
            typed("application/json; charset=utf-16", &good),
            Ask::json(OPTIONAL, &good).header("content-encoding", "gzip"),
        ] {
            sides.expect(&ask, "415/unsupported_media_type").await;
        }
        sides
            .expect(
                &Ask::json(OPTIONAL, &large).header("content-length", large.len().to_string()),
                "413/body_too_large",
            )
            .await;
        // Where a key is required, all requests without one are refused.
        for ask in [Ask::new("POST", "/mine"), Ask::json("/mine", "{}")] {
            let seen = sides.see(&ask).await.verdict();
            assert!(seen == MISSING || seen == "415/unsupported_media_type", "{seen}");
        }
    }
}

/// A body that never ends is refused in time, whether or not it would have contained a key.
#[tokio::test(start_paused = true)]
async fn c17_a3_a_slow_body_at_an_optional_endpoint_is_not_waited_for() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default()).endpoints(optional()).unwrap();
    let app = routes().layer(auth);
    let mut request = Ask::json(OPTIONAL, "").request();
    *request.body_mut() = Body::new(Silent);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(60), send(&app, request));
    assert_eq!(answer.await.expect("it is answered").verdict(), "408/body_timeout");
}

/// A body that never yields anything.
struct Silent;

impl http_body::Body for Silent {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}

/// `null` in one body scheme's member does not hide the key in the member of another.
#[tokio::test]
async fn c17_a3_two_body_schemes_and_a_null() {
    let world = World::new().await;
    let auth =
        ApiKeyAuth::new(world.store.clone(), JsonBody::named("key", "user", "project", "api").unwrap())
            .or(JsonBody::default())
            .endpoints(optional())
            .unwrap();
    let app = routes().layer(auth);
    let key = world.own.expose_secret();
    for path in [OPTIONAL, "/mine"] {
        let optional = path == OPTIONAL;
        for (body, expected) in [
            (json!({"key": null, "apiKey": key, "userId": "u_own", "projectId": "p1"}), "200:h"),
            (json!({"apiKey": null, "key": key, "user": "u_own", "project": "p1"}), "200:h"),
            (json!({"apiKey": key, "key": key}), "400/conflicting_credentials"),
            (json!({"apiKey": null, "key": null}), MISSING),
            (json!({"apiKey": null}), MISSING),
            (json!({"key": null}), MISSING),
            (json!({"x": 1}), if optional { "200:h" } else { MISSING }),
        ] {
            assert_eq!(verdict(&app, &Ask::json(path, &body)).await, expected, "{path} {body}");
        }
    }
}

#[tokio::test]
async fn c17_a3_https_is_required_also_without_a_key() {
    let world = World::new().await;
    let sides = Sides::new(&world, |store, routes| {
        let auth = ApiKeyAuth::new(store, Bearer::default()).require_https();
        routes.layer(auth.endpoints(optional()).unwrap())
    });
    for ask in
        [Ask::get(OPTIONAL), Ask::get(OPTIONAL).bearer(&world.own), Ask::get(OPTIONAL).bearer(&world.revoked)]
    {
        let answer = sides.expect(&ask, "403/https_required").await;
        assert_eq!(answer.header("www-authenticate").len(), 0, "{ask:?}");
        for app in &sides.apps {
            let over_tls = app.clone().layer(Extension(Proto::Https));
            let expected = match verdict(&over_tls, &ask).await {
                refused if refused == INVALID => continue,
                let_in => let_in,
            };
            assert_eq!(expected, "200:h", "{ask:?}");
        }
    }
    sides.expect(&Ask::get("/health"), "200:h").await;
}

/// Handlers and guards that need a principal: 401 if the client can send a key, 500 if it cannot help.
#[tokio::test]
async fn c17_a3_a_missing_principal_is_a_401_in_the_layers_words() {
    let world = World::new().await;
    let handlers = || {
        let user = async |who: Principal| who.user_id().to_string();
        Router::new()
            .route("/principal", any(user))
            .route("/live", any(async |_: tower_api_key::extract::LivePrincipal| "live"))
            .route("/guarded", any(echo).layer(RequireClass(AccessClass::Read)))
            .route("/environment", any(echo).layer(RequireEnvironment(Environment::Live)))
            .route("/maybe", any(async |who: Option<Principal>| who.map_or("nobody", |_| "somebody")))
            .route("/refuses", any(async || AuthError::new(AuthErrorKind::Forbidden, None)))
    };
    let needy = ["/principal", "/live", "/guarded", "/environment"];
    let declared = |declare: fn(Endpoints, Method, &'static str) -> Endpoints| {
        let paths = needy.into_iter().chain(["/maybe", "/refuses"]);
        let all = paths.flat_map(|path| [(Method::GET, path), (Method::POST, path)]);
        all.fold(Endpoints::new(), |endpoints, (method, path)| declare(endpoints, method, path))
    };
    let optional = declared(|endpoints, method, path| endpoints.optional(method, path));
    let layer = || {
        ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default().project_optional()).or(Bearer::default())
    };
    let app = handlers().layer(layer().endpoints(optional.clone()).unwrap());
    for path in needy {
        let answer = send(&app, Ask::get(path).request()).await;
        assert_eq!(answer.verdict(), MISSING, "{path}");
        assert_eq!(answer.json()["message"], "Invalid API key", "{path}: the words of the first scheme");
        assert_eq!(answer.header("www-authenticate").len(), 2, "{path}");
        assert_eq!(answer.header("cache-control"), ["no-store"], "{path}");
        assert_eq!(answer.header("vary"), ["authorization, x-api-key, x-project-id"], "{path}");
        let error = answer.extensions.get::<AuthError>().unwrap();
        assert_eq!(error.kind(), AuthErrorKind::MissingCredentials, "{path}");
        // gRPC clients get the error in gRPC's form.
        let mut grpc = Ask::new("POST", path).header("content-type", "application/grpc").request();
        *grpc.version_mut() = http::Version::HTTP_2;
        let answer = send(&app, grpc).await;
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, vec!["16"]), "{path}");
        assert_eq!(answer.header("grpc-message"), ["Invalid API key"], "{path}");
        // With a key, everything is as usual.
        assert_eq!(send(&app, Ask::get(path).bearer(&world.own).request()).await.status, 200, "{path}");
        assert_eq!(verdict(&app, &Ask::get(path).bearer(&world.revoked)).await, INVALID, "{path}");
    }
    for path in ["/live", "/environment"] {
        assert_eq!(verdict(&app, &Ask::get(path).bearer(&world.test)).await, "403/forbidden", "{path}");
    }
    assert_eq!(send(&app, Ask::get("/maybe").request()).await.body, b"nobody");
    assert_eq!(send(&app, Ask::get("/maybe").bearer(&world.own).request()).await.body, b"somebody");
    assert_eq!(verdict(&app, &Ask::get("/maybe").bearer(&world.revoked)).await, INVALID);
    // If the handler itself refuses a request without a key, the layer renders the error.
    let answer = send(&app, Ask::get("/refuses").request()).await;
    assert_eq!(
        (answer.verdict().as_str(), &answer.json()["message"]),
        ("403/forbidden", &json!("Insufficient permissions"))
    );

    // The crate's own routes are such handlers.
    let routes = Router::new().route("/validate", manage::validate());
    let optional_validate = Endpoints::new().optional(Method::GET, "/validate");
    let app = routes.layer(layer().endpoints(optional_validate).unwrap());
    assert_eq!(verdict(&app, &Ask::get("/validate")).await, MISSING);
    assert_eq!(send(&app, Ask::get("/validate").bearer(&world.own).request()).await.status, 200);

    // A custom renderer is used.
    let render = |error: &AuthError| {
        let mut response = Response::new(Body::from(format!("no: {}", error.message())));
        *response.status_mut() = error.status();
        response
    };
    let own = handlers().layer(layer().endpoints(optional).unwrap().render_errors(render));
    let answer = send(&own, Ask::get("/principal").request()).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (401, &b"no: Invalid API key"[..]));

    // If the client cannot help, it is the service's error.
    let public = declared(|endpoints, method, path| endpoints.public(method, path));
    for app in [handlers(), handlers().layer(layer().endpoints(public).unwrap())] {
        for path in needy {
            assert_eq!(
                send(&app, Ask::get(path).request()).await.verdict(),
                "500/missing_principal",
                "{path}"
            );
        }
    }
}

/// gRPC through an optional endpoint, with and without a key.
#[tokio::test]
async fn c17_a3_grpc_is_let_in_and_refused_as_others_are() {
    let world = World::new().await;
    let service = "/pkg.Prices/List";
    let endpoints = Endpoints::new().optional(Method::POST, service).by_path();
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints).unwrap();
    let app = ServiceBuilder::new().layer(auth).service(echo.into_service());
    let call = async |key: Option<String>| {
        let mut ask = Ask::new("POST", service).header("content-type", "application/grpc");
        if let Some(key) = key {
            ask = ask.header("authorization", key);
        }
        let mut request = ask.request();
        *request.version_mut() = http::Version::HTTP_2;
        let answer = answer(app.clone().oneshot(request).await.unwrap()).await;
        let status = answer.header("grpc-status").first().map(|status| (*status).to_owned());
        (status, answer.json()["principal"]["user"].as_str().map(str::to_owned))
    };
    assert_eq!(call(None).await, (None, None));
    assert_eq!(call(Some(bearer(&world.own))).await, (None, Some("u_own".to_owned())));
    assert_eq!(call(Some(bearer(&world.revoked))).await, (Some("16".to_owned()), None));
    assert_eq!(call(Some("Bearer x".to_owned())).await, (Some("16".to_owned()), None));
}

/// Neither a principal nor its absence is taken over from an outer layer.
#[tokio::test]
async fn c17_a3_nothing_of_an_outer_layer_counts_at_an_optional_endpoint() {
    let world = World::new().await;
    let layer = |endpoints: Endpoints| auth(&world, endpoints);
    let foreign = || Extension(test_util::principal(user("forged")).build());
    let app = routes().layer(layer(optional())).layer(foreign());
    let ask = Ask::get(OPTIONAL);
    assert_eq!(send(&app, ask.request()).await.json()["principal"], Value::Null);
    let json_alone = ApiKeyAuth::new(world.store.clone(), JsonBody::default()).endpoints(optional()).unwrap();
    let app = routes().layer(json_alone).layer(foreign());
    assert_eq!(send(&app, Ask::json(OPTIONAL, "{}").request()).await.json()["principal"], Value::Null);
    // An inner layer that requires a key does so whatever the outer layer accepted, and vice versa.
    let app = routes().layer(layer(Endpoints::new())).layer(layer(optional()));
    assert_eq!(verdict(&app, &ask).await, MISSING);
    let app = routes().layer(layer(optional())).layer(layer(Endpoints::new()));
    assert_eq!(verdict(&app, &ask).await, MISSING);
    // A public endpoint inside an optional one is public, so a handler there must not need a principal.
    let needy = || Router::new().route(OPTIONAL, on_get(async |_: Principal| "in"));
    let public = || Endpoints::new().public(Method::GET, OPTIONAL);
    let app = needy().layer(layer(public())).layer(layer(optional()));
    assert_eq!(send(&app, ask.request()).await.verdict(), "500/missing_principal");
    let app = needy().layer(layer(optional())).layer(layer(public()));
    assert_eq!(send(&app, ask.request()).await.verdict(), MISSING);
}

#[tokio::test]
async fn c17_a3_preflights_and_caching_without_a_key() {
    let world = World::new().await;
    let endpoints = optional().optional(Method::OPTIONS, OPTIONAL);
    let app = routes().layer(auth(&world, endpoints).pass_preflight());
    let preflight = Ask::new("OPTIONS", OPTIONAL)
        .header("origin", "https://good.example")
        .header("access-control-request-method", "GET");
    assert_eq!(verdict(&app, &preflight).await, "200:h");
    assert_eq!(verdict(&app, &Ask::new("OPTIONS", OPTIONAL).bearer(&world.revoked)).await, INVALID);
    // Caching headers of the handler are not changed, with and without a key.
    let cached = async || ([("cache-control", "public, max-age=60"), ("vary", "accept")], "x");
    let app = Router::new().route(OPTIONAL, on_get(cached)).layer(auth(&world, optional()));
    for ask in [Ask::get(OPTIONAL), Ask::get(OPTIONAL).bearer(&world.own)] {
        let answer = send(&app, ask.request()).await;
        assert_eq!(answer.header("cache-control"), ["public, max-age=60"], "{ask:?}");
        assert_eq!(answer.header("vary"), ["accept", "authorization"], "{ask:?}");
    }
}

/// The outcome of a decision, and the kind of error.
type Told = (Outcome, Option<AuthErrorKind>);

/// Records decisions.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Told>>>);

impl Observer for Seen {
    fn decided(&self, decision: &Decision<'_>) {
        self.0.lock().unwrap().push((decision.outcome, decision.error.map(AuthError::kind)));
    }
}

#[tokio::test]
async fn c17_a3_observers_see_requests_without_a_key_as_open() {
    let world = World::new().await;
    let seen = Seen::default();
    for warm in [true, false] {
        let store = Slow { store: world.store.clone(), warm, down: Arc::default() };
        let verifier = Verifier::new(store).observer(seen.clone()).throttle("1/h".parse::<Limit>().unwrap());
        let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default()).or(JsonBody::default());
        let app = Router::new()
            .route(OPTIONAL, any(echo))
            .route("/offers/{id}", any(async |_: Principal| "in"))
            .layer(auth.endpoints(optional()).unwrap())
            .layer(Extension(PeerAddr([192, 0, 2, 7].into())));
        for ask in [
            Ask::get(OPTIONAL),
            Ask::json(OPTIONAL, "{}"),
            Ask::get(OPTIONAL).bearer(&world.own),
            Ask::get("/offers/7"),
            Ask::get(OPTIONAL).bearer(&world.revoked),
            // A request without a key is not a failed attempt, and failed attempts do not slow it down.
            Ask::get(OPTIONAL),
        ] {
            send(&app, ask.request()).await;
        }
        let seen: Vec<_> = std::mem::take(&mut *seen.0.lock().unwrap());
        let missing = Some(AuthErrorKind::MissingCredentials);
        let expected = [
            (Outcome::Open, None),
            (Outcome::Open, None),
            (Outcome::Accepted, None),
            (Outcome::Open, None),
            (Outcome::Guarded, missing),
            (Outcome::Refused, Some(AuthErrorKind::RevokedKey)),
            (Outcome::Open, None),
        ];
        assert_eq!(seen, expected, "warm: {warm}");
    }
}

#[tokio::test]
async fn c17_a3_an_explanation_says_that_a_key_is_optional() {
    let world = World::new().await;
    let auth = auth(&world, optional()).require_https();
    let explainer = auth.explainer();
    let record = async |key: &ApiKey| world.store.find(&key.digest()).await.unwrap().unwrap();
    let at = |path: &str| Question::new(Method::GET).route(path);
    let (own, revoked) = (record(&world.own).await, record(&world.revoked).await);
    let good = explainer.explain(&own, &at(OPTIONAL)).await.unwrap();
    assert!(good.is_accepted() && good.is_optional() && !good.is_public());
    assert!(good.to_string().contains("a key is optional here"), "{good}");
    assert_eq!(serde_json::to_value(&good).unwrap()["key_optional"], true);
    // If a key is sent, it must be valid.
    let bad = explainer.explain(&revoked, &at("/offers/{offer}")).await.unwrap();
    assert_eq!(bad.error().unwrap().kind(), AuthErrorKind::RevokedKey);
    assert!(bad.is_optional());
    let in_clear = explainer.explain(&own, &at(OPTIONAL).in_clear()).await.unwrap();
    assert_eq!(in_clear.error().unwrap().kind(), AuthErrorKind::InsecureTransport);
    for path in ["/mine", "/health"] {
        let other = explainer.explain(&own, &at(path)).await.unwrap();
        assert!(!other.is_optional(), "{path}");
        assert!(!other.to_string().contains("optional"), "{other}");
        assert_eq!(serde_json::to_value(&other).unwrap().get("key_optional"), None, "{path:?}");
    }
    // After the sunset of a scheme, its credentials are not ignored.
    let over = Deprecation::new(Timestamp::from_secs(1)).unwrap().sunset(Timestamp::from_secs(2)).unwrap();
    let verifier =
        ApiKeys::new(world.store.clone()).clock(ManualClock::new(Timestamp::from_secs(9))).verifier();
    let ended = ApiKeyAuth::with_verifier(verifier, Bearer::default().deprecated(over));
    let app = routes().layer(ended.endpoints(optional()).unwrap());
    assert_eq!(verdict(&app, &Ask::get(OPTIONAL).bearer(&world.own)).await, INVALID);
    assert_eq!(verdict(&app, &Ask::get(OPTIONAL)).await, "200:h");
}

// -- G: builder methods can be called in any order

/// A builder method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Endpoints,
    ClientAddr,
    Https,
    Guide,
    Preflight,
    Or,
    Render,
}

const STEPS: [Step; 7] =
    [Step::Endpoints, Step::ClientAddr, Step::Https, Step::Guide, Step::Preflight, Step::Or, Step::Render];

fn render(error: &AuthError) -> Response<Body> {
    let body = json!({"error": error.public_code(), "rendered": "here"}).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = error.status();
    response
}

/// The methods that do not change the builder's type.
fn set<S, R>(auth: ApiKeyAuth<S, R>, step: Step) -> ApiKeyAuth<S, R>
where
    S: tower_api_key::scheme::Describe + Clone,
    R: Clone,
{
    match step {
        Step::Endpoints => auth.endpoints(optional()).unwrap(),
        Step::ClientAddr => {
            let proxies = ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::XForwardedFor).unwrap();
            auth.client_addr(proxies)
        }
        Step::Https => auth.require_https(),
        Step::Guide => auth.rotation_guide("https://example.com/rotated").unwrap(),
        Step::Preflight => auth.pass_preflight(),
        Step::Or | Step::Render => auth,
    }
}

/// Calls the methods in this order. Two of them change the layer's type, so there are three parts.
fn built(verifier: Verifier, order: &[Step]) -> Router {
    let bearer = Bearer::default();
    let header = ApiKeyHeader::default().project_optional();
    let first = order.iter().position(|step| matches!(step, Step::Or | Step::Render)).unwrap();
    let second = order.iter().rposition(|step| matches!(step, Step::Or | Step::Render)).unwrap();
    let (before, between, after) = (&order[..first], &order[first + 1..second], &order[second + 1..]);
    let auth = before.iter().fold(ApiKeyAuth::with_verifier(verifier, bearer), |auth, step| set(auth, *step));
    if order[first] == Step::Or {
        let auth = between.iter().fold(auth.or(header), |auth, step| set(auth, *step));
        let auth = after.iter().fold(auth.render_errors(render), |auth, step| set(auth, *step));
        routes().layer(auth)
    } else {
        let auth = between.iter().fold(auth.render_errors(render), |auth, step| set(auth, *step));
        let auth = after.iter().fold(auth.or(header), |auth, step| set(auth, *step));
        routes().layer(auth)
    }
}

/// All permutations.
fn orders(things: &[Step]) -> Vec<Vec<Step>> {
    if things.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for thing in things {
        let others: Vec<Step> = things.iter().copied().filter(|other| other != thing).collect();
        all.extend(orders(&others).into_iter().map(|mut order| {
            order.push(*thing);
            order
        }));
    }
    all
}

/// Requests whose results show which methods were called.
struct Probes {
    restricted: ApiKey,
    replaced: ApiKey,
}

impl Probes {
    async fn of(world: &World) -> Self {
        let restricted = world.key("u_own", |key| {
            key.restrictions = r#"{"ip":{"allow":["192.0.2.7"]}}"#.parse().unwrap();
        });
        let replaced = world.key("u_own", |key| {
            key.replaced_at = Some(Timestamp::from_secs(2));
            key.replaced_by = Some(KeyId::new("key_next").unwrap());
            key.expires_at = Some(Timestamp::from_secs(4_000_000_000));
        });
        Self { restricted: restricted.await, replaced: replaced.await }
    }

    async fn verdicts(&self, app: &Router) -> Vec<String> {
        let app = app.clone().layer(Extension(PeerAddr([10, 0, 0, 1].into())));
        let from = |ask: Ask| ask.header("x-forwarded-for", "192.0.2.7");
        let https = |ask: Ask| from(ask).header("x-forwarded-proto", "https");
        let preflight = Ask::new("OPTIONS", "/mine")
            .header("origin", "https://good.example")
            .header("access-control-request-method", "GET");
        let asks = [
            https(Ask::get(OPTIONAL)),
            https(Ask::get("/health")),
            from(Ask::get("/mine").bearer(&self.restricted)).header("x-forwarded-proto", "http"),
            https(Ask::get("/mine").bearer(&self.restricted)),
            https(Ask::get("/mine").api_key(&self.replaced)),
            https(Ask::get("/mine").bearer(&self.replaced)),
            preflight,
            https(Ask::get("/mine")),
        ];
        let mut verdicts = Vec::new();
        for ask in asks {
            let answer = send(&app, ask.request()).await;
            let rendered = answer.json()["rendered"].as_str().unwrap_or_default().to_owned();
            let link = answer.header("link").first().copied().unwrap_or_default();
            verdicts.push(format!("{} {rendered} {link}", answer.verdict()));
        }
        verdicts
    }
}

#[tokio::test]
async fn c17_g_no_setter_of_the_layer_is_forgotten_in_any_order() {
    let world = World::new().await;
    let probes = Probes::of(&world).await;
    let verifier = Verifier::new(world.store.clone());
    let replaced = "200:h  <https://example.com/rotated>; rel=\"deprecation\"";
    let expected = [
        "200:h  ",
        "200:h  ",
        "403/https_required here ",
        "200:h  ",
        replaced,
        replaced,
        "200:h  ",
        "401/missing_api_key here ",
    ];
    let all = orders(&STEPS);
    assert_eq!(all.len(), 5_040);
    for order in &all {
        assert_eq!(probes.verdicts(&built(verifier.clone(), order)).await, expected, "{order:?}");
    }
    // Each method has an effect: without it, the results differ.
    for left_out in &STEPS[..5] {
        let order: Vec<Step> = STEPS.into_iter().filter(|step| step != left_out).collect();
        assert_ne!(probes.verdicts(&built(verifier.clone(), &order)).await, expected, "{left_out:?}");
    }
}
