//! C4: paths, exemptions, methods. Declarations apply to the route that the router matched, or to a path in canonical
//! form.

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Method, Request};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _};
use tower_api_key::scheme::{ApiKeyHeader, Bearer};
use tower_api_key::{ApiKeyAuth, ConfigError, Endpoints};
use tower_http::normalize_path::NormalizePathLayer;

use super::kit::{Ask, Site, endpoints, routes};
use test_kit::{World, answer, bearer, echo, send};

const REQUIRED: &str = "400/project_required";
const MISSING: &str = "401/missing_api_key";

/// Spellings that some server, proxy or router treats as `/projects`, and axum does not.
const LOOKALIKES: [&str; 24] = [
    "//projects",
    "/projects/",
    "/projects//",
    "/Projects",
    "/PROJECTS",
    "/%70rojects",
    "/projects%2f",
    "/projects%2F",
    "/projects;a=b",
    "/;/projects",
    "/./projects",
    "/projects/.",
    "/x/../projects",
    "/projects%00",
    "/projects%20",
    "/projects%2F..%2Fv1",
    "/%2e/projects",
    "/projects\\",
    "/projects/%2e%2e/projects",
    "/projects*",
    "/projects.json",
    "/projects:x",
    "/projects,",
    "/prоjects",
];

fn parses(path: &str) -> bool {
    path.parse::<http::Uri>().is_ok()
}

#[tokio::test]
async fn c4_01_the_exempt_routes_need_no_project() {
    let world = World::new().await;
    let site = Site::header(&world);
    for path in ["/projects", "/validate"] {
        for method in ["GET", "HEAD"] {
            let seen = site.expect("C4-01", &Ask::new(method, path).api_key(&world.own), "200:h").await;
            assert_eq!(seen.project(), "none", "{path:?}, {method:?}");
        }
        // If a project is named, it is checked as usual.
        site.expect("C4-01", &Ask::get(path).api_key(&world.full).project("p3"), "403/forbidden").await;
        site.expect("C4-01", &Ask::get(path).api_key(&world.p1).project("p2"), "403/project_mismatch").await;
        // An endpoint without a required project still requires a key.
        site.expect_offline("C4-01", &Ask::get(path), MISSING).await;
        site.expect("C4-01", &Ask::get(path).api_key(&world.revoked), "401/invalid_api_key").await;
    }
    for path in ["/sites", "/projects/p1", "/nowhere"] {
        site.expect("C4-01", &Ask::get(path).api_key(&world.own), REQUIRED).await;
    }
    for method in ["POST", "DELETE", "PUT"] {
        site.expect("C4-01", &Ask::new(method, "/projects").api_key(&world.own), REQUIRED).await;
    }
}

#[tokio::test]
async fn c4_02_a_lookalike_of_an_exempt_route_is_not_exempt() {
    let world = World::new().await;
    let site = Site::header(&world);
    let mut tried = 0;
    for path in LOOKALIKES.into_iter().filter(|path| parses(path)) {
        site.expect("C4-02", &Ask::get(path).api_key(&world.own), REQUIRED).await;
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} of the paths are paths");
}

#[tokio::test]
async fn c4_03_a_lookalike_of_a_public_route_is_not_public() {
    let world = World::new().await;
    let site = Site::header(&world);
    for path in LOOKALIKES.iter().map(|path| path.replace("projects", "health").replace("Projects", "Health"))
    {
        if !parses(&path) || path == "/prоjects" {
            continue;
        }
        site.expect_offline("C4-03", &Ask::get(&path), MISSING).await;
    }
    for path in ["/HEALTH", "/health/x", "/healthz", "/", "/health/..", "/health%3f"] {
        site.expect_offline("C4-03", &Ask::get(path), MISSING).await;
    }
    // As a `route_layer`, the layer does not run for unknown routes.
    let auth = ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default());
    let app = Router::new().route("/sites", any(echo)).route_layer(auth);
    assert_eq!(send(&app, Ask::get("/sites").request()).await.verdict(), MISSING);
    assert_eq!(send(&app, Ask::get("/nowhere").request()).await.status, 404);
}

/// If an outer layer rewrites the path, the new path counts, both for the router and for the declarations.
#[tokio::test]
async fn c4_04_a_path_normalized_outside_is_the_path() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints()).unwrap();
    let app = NormalizePathLayer::trim_trailing_slash().layer(routes().layer(auth));
    for path in ["/projects/", "//projects", "/projects//", "/projects"] {
        let ask = Ask::get(path).api_key(&world.own).request();
        let answer = answer(app.clone().oneshot(ask).await.unwrap()).await;
        assert_eq!(answer.verdict(), "200:h", "C4-04: {path}");
        assert_eq!(answer.json()["path"], "/projects", "C4-04: {path}");
    }
}

#[tokio::test]
async fn c4_05_a_nested_route_of_the_same_name_is_another_route() {
    let world = World::new().await;
    let auth = |endpoints: Endpoints| {
        ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints).unwrap()
    };
    // The layer is inside the nested router, which sees the path without the prefix.
    let inside = Router::new().nest("/admin", routes().layer(auth(endpoints())));
    let verdict = async |app: &Router, path: &str, with_key: bool| {
        let ask = Ask::get(path);
        let ask = if with_key { ask.api_key(&world.own) } else { ask };
        send(app, ask.request()).await.verdict()
    };
    for path in ["/admin/projects", "/admin/validate", "/admin/nowhere", "/admin/projects/"] {
        assert_eq!(verdict(&inside, path, true).await, REQUIRED, "C4-05: {path}");
    }
    assert_eq!(verdict(&inside, "/admin/health", false).await, MISSING, "C4-05: public by the wrong path");

    // The same with the layer outside. A declaration with the full path applies.
    let outside = Router::new().nest("/admin", routes()).layer(auth(endpoints()));
    assert_eq!(verdict(&outside, "/admin/projects", true).await, REQUIRED);
    assert_eq!(verdict(&outside, "/admin/health", false).await, MISSING);
    let full = Endpoints::new()
        .project_optional(Method::GET, "/admin/projects")
        .public(Method::GET, "/admin/health");
    for app in [
        Router::new().nest("/admin", routes().layer(auth(full.clone()))),
        Router::new().nest("/admin", routes()).layer(auth(full.clone())),
    ] {
        assert_eq!(verdict(&app, "/admin/projects", true).await, "200:h", "{app:?}");
        assert_eq!(verdict(&app, "/admin/health", false).await, "200:h", "{app:?}");
        assert_eq!(verdict(&app, "/admin/validate", true).await, REQUIRED, "{app:?}");
    }
}

/// Nested services and fallbacks of nested routers see a rewritten path that the router has not matched.
#[tokio::test]
async fn c4_06_an_unmatched_route_matches_no_declaration() {
    let world = World::new().await;
    let guarded = || {
        let auth =
            ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints()).unwrap();
        ServiceBuilder::new().layer(auth).service_fn(async |request: Request<Body>| {
            use axum::response::IntoResponse as _;
            Ok::<_, std::convert::Infallible>(echo(request).await.into_response())
        })
    };
    let service = Router::new().nest_service("/admin", guarded());
    let fallback = Router::new().nest("/admin", Router::new().fallback_service(guarded()));
    let deep = Router::new().nest("/a", Router::new().nest_service("/b", guarded()));
    for (app, prefix) in [(service, "/admin"), (fallback, "/admin"), (deep, "/a/b")] {
        let at = |path: &str| Ask::get(&format!("{prefix}{path}"));
        let answer = send(&app, at("/health").request()).await;
        assert_eq!(answer.verdict(), MISSING, "C4-06: {prefix}/health is public by the wrong path");
        let answer = send(&app, at("/projects").api_key(&world.own).request()).await;
        assert_eq!(answer.verdict(), REQUIRED, "C4-06: {prefix}/projects is exempt by the wrong path");
        let answer = send(&app, at("/projects").api_key(&world.own).project("p1").request()).await;
        assert_eq!(answer.verdict(), "200:h", "C4-06: {prefix}");
    }
}

/// The declared pattern is compared with the pattern of the route, and not with the path.
#[tokio::test]
async fn c4_06_a_path_that_the_router_matched_otherwise() {
    let world = World::new().await;
    let forget = async |mut request: Request<Body>| {
        request.extensions_mut().remove::<axum::extract::OriginalUri>();
        request
    };
    for forgotten in [false, true] {
        let auth =
            ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints()).unwrap();
        let app = Router::new().route("/{page}", any(echo)).layer(auth);
        let app = if forgotten { app.layer(axum::middleware::map_request(forget)) } else { app };
        assert_eq!(send(&app, Ask::get("/health").request()).await.verdict(), MISSING, "C4-06");
        let ask = Ask::get("/projects").api_key(&world.own);
        assert_eq!(send(&app, ask.request()).await.verdict(), REQUIRED, "C4-06");
    }
}

#[tokio::test]
async fn c4_07_queries_and_forwarding_headers_decide_nothing() {
    let world = World::new().await;
    let site = Site::header(&world);
    let forwarded = |ask: Ask, path: &str| {
        [
            "x-forwarded-uri",
            "x-original-url",
            "x-rewrite-url",
            "x-original-uri",
            "x-forwarded-path",
            "x-forwarded-prefix",
        ]
        .into_iter()
        .fold(ask, |ask, name| ask.header(name, path))
    };
    for path in ["/usr?x=/validate", "/usr?/projects", "/usr?/health", "/sites?path=/health&/health"] {
        site.expect("C4-07", &forwarded(Ask::get(path).api_key(&world.own), "/validate"), REQUIRED).await;
        site.expect_offline("C4-07", &forwarded(Ask::get(path), "/health"), MISSING).await;
    }
    for path in ["/projects?x=y", "/validate?", "/projects?/health"] {
        site.expect("C4-07", &forwarded(Ask::get(path).api_key(&world.own), "/sites"), "200:h").await;
    }
    site.expect_offline("C4-07", &Ask::get("/health?x=/sites"), "200:h").await;
}

#[tokio::test]
async fn c4_08_other_forms_of_the_target() {
    let world = World::new().await;
    let site = Site::header(&world);
    site.expect("C4-08", &Ask::get("http://evil/validate").api_key(&world.own), "200:h").await;
    site.expect_offline("C4-08", &Ask::get("http://evil/validate"), MISSING).await;
    site.expect("C4-08", &Ask::get("http://evil/sites?/validate").api_key(&world.own), REQUIRED).await;
    site.expect_offline("C4-08", &Ask::get("http://health/sites"), MISSING).await;
    for method in ["OPTIONS", "GET"] {
        site.expect_offline("C4-08", &Ask::new(method, "*"), MISSING).await;
        site.expect("C4-08", &Ask::new(method, "*").api_key(&world.own), REQUIRED).await;
    }
    site.expect_offline("C4-08", &Ask::new("CONNECT", "evil:443"), MISSING).await;
}

#[tokio::test]
async fn c4_12_methods_are_compared_exactly() {
    let world = World::new().await;
    let site = Site::bearer(&world);
    // Method overrides are ignored in both directions.
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        site.expect(
            "C4-12",
            &Ask::get("/sites?_method=DELETE").bearer(&world.ro).header(name, "DELETE"),
            "200:h",
        )
        .await;
        let ask = Ask::new("POST", "/upload?_method=GET").bearer(&world.ro).header(name, "GET");
        site.expect("C4-12", &ask, "403/read_only").await;
    }
    // Only these two methods are reads by default, and only in this spelling.
    for method in ["GET", "HEAD"] {
        site.expect("C4-12", &Ask::new(method, "/sites").bearer(&world.ro), "200:h").await;
    }
    for method in
        ["get", "head", "Get", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE", "QUERY", "PURGE", "GETS"]
    {
        site.expect("C4-12", &Ask::new(method, "/sites").bearer(&world.ro), "403/read_only").await;
        site.expect("C4-12", &Ask::new(method, "/sites").bearer(&world.full), "200:h").await;
    }
    // A declaration for `POST` does not apply to `post` or to `HEAD`.
    site.expect("C4-12", &Ask::new("post", "/status").bearer(&world.ro), "403/read_only").await;
    // `HEAD` of a public route is public, because it is `GET` without a body.
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints()).unwrap();
    let app = routes().layer(auth);
    assert_eq!(send(&app, Ask::new("HEAD", "/health").request()).await.status, 200);
}

/// For every route and method: a person who may only read can do exactly what is declared as a read, and `GET`.
#[tokio::test]
async fn c4_13_what_a_reader_may_do() {
    let world = World::new().await;
    let site = Site::bearer(&world);
    let paths = ["/projects", "/validate", "/status", "/upload", "/sites", "/usr", "/projects/x", "/nowhere"];
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"];
    let mut open = Vec::new();
    for path in paths {
        for method in methods {
            let ask = Ask::new(method, path).bearer(&world.ro).project("p1");
            let seen = site.see("C4-13", &ask).await;
            match seen.verdict.as_str() {
                "200:h" => open.push(format!("{method} {path}")),
                verdict => assert_eq!(verdict, "403/read_only", "C4-13: {method} {path}"),
            }
            // The person's project-level key can do no more.
            let elsewhere = Ask::new(method, path).bearer(&world.ro).project("p2");
            site.expect("C4-13", &elsewhere, "403/forbidden").await;
        }
    }
    let mut expected: Vec<String> =
        paths.iter().flat_map(|path| [format!("GET {path}"), format!("HEAD {path}")]).collect();
    expected.push("POST /status".to_owned());
    expected.sort();
    open.sort();
    println!("a reader may: {open:#?}");
    assert_eq!(open, expected);
}

/// Outside of a router there is no matched route: the path counts, but only in canonical form.
#[tokio::test]
async fn c4_14_outside_the_router_only_plain_paths_match() {
    let world = World::new().await;
    let endpoints = endpoints()
        .public(Method::GET, "/open/{name}")
        .public_subtree(Method::GET, "/files/{*rest}")
        .public(Method::GET, "/")
        .by_path();
    let auth = ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints).unwrap();
    let app = ServiceBuilder::new().layer(auth).service(routes());
    let verdict = async |ask: Ask| answer(app.clone().oneshot(ask.request()).await.unwrap()).await.verdict();
    for path in ["/health", "/", "/open/x", "/open/x.y", "/files/a", "/files/a/b", "/open/..."] {
        assert_eq!(verdict(Ask::get(path)).await, "200:h", "C4-14: {path}");
    }
    for path in LOOKALIKES.into_iter().filter(|path| parses(path)) {
        assert_eq!(verdict(Ask::get(path).api_key(&world.own)).await, REQUIRED, "C4-14: {path}");
        let health = path.replace("projects", "health").replace("Projects", "Health");
        if health != path {
            assert_eq!(verdict(Ask::get(&health)).await, MISSING, "C4-14: {health}");
        }
    }
    let closed = [
        "/open/",
        "/open",
        "/open/a/b",
        "/open/..",
        "/open/.",
        "/open/a%2fb",
        "/open/%2e%2e",
        "/open/a;b",
        "/open/a\\b",
        "/files/",
        "/files",
        "/files/../sites",
        "/files/a/../../sites",
        "/files//sites",
        "/files/%2e%2e/sites",
        "/files/a/",
        "/files/a%00",
        "//",
        "/.",
        "/..",
        "/%2f",
        "*",
        "/OPEN/x",
        "/open/\u{e4}",
    ];
    for path in closed.into_iter().filter(|path| parses(path)) {
        assert_eq!(verdict(Ask::get(path)).await, MISSING, "C4-14: {path}");
    }
    assert_eq!(verdict(Ask::get("/projects").api_key(&world.own)).await, "200:h");
}

/// All services behind the layer are guarded, whether or not the router matched the route.
#[tokio::test]
async fn c4_15_everything_behind_the_layer_is_guarded() {
    let world = World::new().await;
    let auth = || ApiKeyAuth::new(world.store.clone(), Bearer::default());
    let service = || {
        tower::service_fn(async |request: Request<Body>| {
            use axum::response::IntoResponse as _;
            Ok::<_, std::convert::Infallible>(echo(request).await.into_response())
        })
    };
    let app = Router::new()
        .route("/only-post", axum::routing::post(echo))
        .route_service("/service", service())
        .nest_service("/nested", service())
        .nest("/inner", Router::new().route("/x", any(echo)).fallback(echo))
        .fallback(echo)
        .method_not_allowed_fallback(echo)
        .layer(auth());
    for path in
        ["/only-post", "/service", "/nested", "/nested/x", "/inner/x", "/inner/y", "/inner", "/nowhere", "/"]
    {
        let answer = send(&app, Ask::get(path).request()).await;
        assert_eq!(answer.verdict(), MISSING, "C4-15: {path}");
        let websocket = Ask::get(path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(send(&app, websocket.request()).await.verdict(), MISSING, "C4-15: {path}");
        let answer = send(&app, Ask::get(path).header("authorization", bearer(&world.own)).request()).await;
        assert_eq!(answer.verdict(), "200:h", "C4-15: {path}");
    }
    // A preflight is an ordinary request, unless the layer passes preflights; then it has no principal.
    let preflight = || {
        Ask::new("OPTIONS", "/nowhere")
            .header("origin", "https://good.example")
            .header("access-control-request-method", "GET")
    };
    assert_eq!(send(&app, preflight().request()).await.verdict(), MISSING);
    let app = Router::new().fallback(echo).layer(auth().pass_preflight());
    let answer = send(&app, preflight().header("authorization", bearer(&world.own)).request()).await;
    assert_eq!((answer.verdict().as_str(), &answer.json()["principal"]), ("200:h", &serde_json::Value::Null));
    for almost in [
        Ask::new("OPTIONS", "/").header("origin", "https://good.example"),
        Ask::new("OPTIONS", "/").header("access-control-request-method", "GET"),
        Ask::get("/").header("origin", "https://good.example").header("access-control-request-method", "GET"),
        Ask::new("options", "/").header("origin", "null").header("access-control-request-method", "GET"),
    ] {
        assert_eq!(send(&app, almost.request()).await.verdict(), MISSING, "C4-15: {almost:?}");
    }
}

/// An ambiguous or useless declaration is an error of the builder.
#[tokio::test]
async fn c4_16_declarations_are_checked_at_start() {
    let build = |endpoints: Endpoints| {
        let store = tower_api_key::store::MemoryStore::new();
        ApiKeyAuth::new(store, Bearer::default()).endpoints(endpoints).map(drop)
    };
    let patterns = [
        "",
        "projects",
        "*",
        "/%70rojects",
        "/a;b",
        "/a?b",
        "/a#b",
        "/a b",
        "/:id",
        "/*rest",
        "/{",
        "/{}",
        "/{*}",
        "/{*a}/b",
        "/\u{e4}",
        "/a\\b",
        "http://a/b",
        "/{a}{b}",
    ];
    for pattern in patterns {
        let refused = build(Endpoints::new().read(Method::GET, pattern));
        assert!(matches!(refused, Err(ConfigError::Pattern { .. })), "C4-16: {pattern:?} gives {refused:?}");
    }
    let get = Method::GET;
    let contradictions = [
        Endpoints::new().public(get.clone(), "/a").project_optional(get.clone(), "/a"),
        Endpoints::new().project_optional(get.clone(), "/a").public(get.clone(), "/a"),
        Endpoints::new().public(get.clone(), "/a").read(get.clone(), "/a"),
        Endpoints::new().write(get.clone(), "/a").public(get.clone(), "/a"),
        Endpoints::new().read(get.clone(), "/a").write(get.clone(), "/a"),
        Endpoints::new().manage(get.clone(), "/a").read(get.clone(), "/a"),
    ];
    for endpoints in contradictions {
        let refused = build(endpoints.clone());
        assert!(
            matches!(refused, Err(ConfigError::Contradiction { .. })),
            "C4-16: {endpoints:?} gives {refused:?}"
        );
    }
    let sound = Endpoints::new()
        .read(get.clone(), "/a")
        .read(get.clone(), "/a")
        .project_optional(get.clone(), "/a")
        .write(Method::POST, "/a")
        .public_subtree(get, "/b/{id}/c/{*rest}");
    assert_eq!(build(sound), Ok(()));
}
