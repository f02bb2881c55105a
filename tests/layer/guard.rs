//! Guards and extractors: they restrict access, and never grant it.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{any, get as on_get};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use test_kit::{World, answer, bearer, echo, get, post_json, project, request, send, user};
use tower::{Layer as _, ServiceExt as _};
use tower_api_key::guard::{RequireClass, RequireEnvironment, RequireScope};
use tower_api_key::render::EmptyOrGrpc;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{
    AccessClass, ApiKeyAuth, AuthError, AuthErrorKind, Endpoints, Environment, Principal, Role, test_util,
};

fn routes() -> Router {
    Router::new()
        .route("/write", on_get(echo).layer(RequireClass(AccessClass::Write)))
        .route("/manage", on_get(echo).layer(RequireClass(AccessClass::Manage)))
        .route("/read", any(echo).layer(RequireClass(AccessClass::Read)))
        .route("/scope", any(echo).layer(RequireScope::new("charges:write")))
        .route("/live", any(echo).layer(RequireEnvironment(Environment::Live)))
}

async fn world() -> (World, Router) {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default().project_optional())
        .or(JsonBody::default())
        .endpoints(Endpoints::new().read(Method::POST, "/status"))
        .unwrap();
    let app = routes().layer(auth);
    (world, app)
}

#[tokio::test]
async fn guards_narrow_what_the_endpoint_allows() {
    let (world, app) = world().await;
    let scoped = world.key("u_full", |key| key.scopes = ["charges:write".to_owned()].into()).await;
    let near = ["charges", "charges:*", "charges:write:all", "Charges:write"].map(str::to_owned);
    let near = world.key("u_full", |key| key.scopes = near.into()).await;
    let rows = [
        ("/write", &world.own, "200:h"),
        ("/write", &world.p1, "200:h"),
        ("/write", &world.ro, "403/read_only"),
        ("/read", &world.ro, "200:h"),
        ("/manage", &world.own, "200:h"),
        ("/manage", &world.full, "200:h"),
        ("/manage", &world.ro, "403/read_only"),
        ("/manage", &world.p1, "403/forbidden"),
        ("/scope", &scoped, "200:h"),
        ("/scope", &near, "403/forbidden"),
        ("/scope", &world.own, "403/forbidden"),
        ("/live", &world.own, "200:h"),
        ("/live", &world.test, "403/forbidden"),
        ("/live", &world.revoked, "401/invalid_api_key"),
    ];
    for (path, key, expected) in rows {
        let answer = send(&app, get(path, &[("authorization", &bearer(key))])).await;
        assert_eq!(answer.verdict(), expected, "{path}");
    }
    // A request that the layer refuses stays refused, whatever a guard would say.
    let post = request("POST", "/read", &[("authorization", &bearer(&world.ro))], "");
    assert_eq!(send(&app, post).await.verdict(), "403/read_only");
}

/// Everything in a response except the date.
fn shape(answer: &test_kit::Answer) -> (u16, Vec<(String, String)>, Value) {
    let headers = answer.headers.iter();
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    (answer.status.as_u16(), headers, answer.json())
}

#[tokio::test]
async fn a_guards_refusal_looks_like_the_layers_own() {
    let (world, app) = world().await;
    let (ro, bearer) = (world.ro.expose_secret(), bearer(&world.ro));
    // Both are READONLY at a write: the layer refuses the first, the guard the second.
    for headers in [[("authorization", &*bearer)], [("x-api-key", ro)]] {
        let own = send(&app, request("POST", "/read", &headers, "")).await;
        let guards = send(&app, request("GET", "/write", &headers, "")).await;
        assert_eq!(shape(&own), shape(&guards), "{headers:?}");
        assert_eq!(guards.header("cache-control"), ["no-store"], "{headers:?}");
        let error = guards.extensions.get::<AuthError>().unwrap();
        assert_eq!(error.kind(), AuthErrorKind::ReadOnly, "{headers:?}");
    }
    let answer = send(&app, get("/scope", &[("authorization", &bearer)])).await;
    assert_eq!(answer.json()["message"], "API key doesn't have permission for this resource");
    assert_eq!(answer.header("www-authenticate"), [r#"Bearer realm="api", error="insufficient_scope""#]);
    assert_eq!(answer.extensions.get::<AuthError>().unwrap().kind(), AuthErrorKind::MissingScope);
    let answer = send(&app, get("/scope", &[("x-api-key", ro)])).await;
    assert_eq!(answer.json()["message"], "Insufficient permissions");
    let body = json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"});
    let answer = send(&app, post_json("/scope", &body)).await;
    assert_eq!(
        (answer.verdict(), answer.json()["message"].as_str()),
        ("403/forbidden".into(), Some("Forbidden"))
    );
}

#[tokio::test]
async fn a_renderer_of_ones_own_and_grpc_reach_guards_too() {
    let world = World::new().await;
    let render = |error: &AuthError| {
        let mut response = Response::new(Body::from(format!("no: {}", error.public_code())));
        *response.status_mut() = error.status();
        response
    };
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default());
    let app = routes().layer(auth.clone().render_errors(render));
    let headers = [("authorization", &*bearer(&world.own))];
    assert_eq!(send(&app, get("/scope", &headers)).await.body, b"no: forbidden");

    let app = routes().layer(auth.render_errors(EmptyOrGrpc));
    let headers = [headers[0], ("content-type", "application/grpc")];
    let mut grpc = request("POST", "/scope", &headers, "");
    *grpc.version_mut() = http::Version::HTTP_2;
    let answer = send(&app, grpc).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, vec!["7"]));
    assert_eq!(send(&app, get("/scope", &headers[..1])).await.body, b"");
}

#[tokio::test]
async fn guards_need_no_axum() {
    let handler = tower::service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"in"))))
    });
    let guarded = RequireScope::new("a").layer(handler);
    let send = async |who: Option<Principal>| {
        let mut request = Request::new(());
        who.map(|who| request.extensions_mut().insert(who));
        answer(guarded.clone().oneshot(request).await.unwrap()).await
    };
    let who = || test_util::principal(user("u"));
    assert_eq!(send(Some(who().scopes(["a", "b"]).build())).await.body, b"in");
    assert_eq!(send(Some(who().scopes(["b"]).build())).await.status, 403);
    let nobody = send(None).await;
    assert_eq!(nobody.verdict(), "500/missing_principal");
    assert!(nobody.json()["message"].as_str().unwrap().contains(".layer(auth)"));
}

#[tokio::test]
async fn without_a_principal_guards_and_extractors_are_a_500_that_names_the_fix() {
    let handlers = || {
        Router::new()
            .route("/guarded", on_get(echo).layer(RequireClass(AccessClass::Read)))
            .route("/principal", on_get(async |who: Principal| who.user_id().to_string()))
            .route(
                "/optional",
                on_get(async |who: Option<Principal>| if who.is_some() { "one" } else { "nobody" }),
            )
    };
    let bare = handlers();
    for path in ["/guarded", "/principal", "/optional"] {
        let answer = send(&bare, get(path, &[])).await;
        assert_eq!(answer.verdict(), "500/missing_principal", "{path}");
        assert!(answer.json()["message"].as_str().unwrap().contains("`.layer(auth)`"), "{path}");
        assert_eq!(answer.header("cache-control"), ["no-store"], "{path:?}");
    }

    let world = World::new().await;
    let public = ["/guarded", "/principal", "/optional"]
        .iter()
        .fold(Endpoints::new(), |endpoints, path| endpoints.public(Method::GET, *path));
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default());
    let open = handlers().layer(auth.clone().endpoints(public).unwrap());
    let with_key = [("authorization", &*bearer(&world.own))];
    for headers in [&[][..], &with_key] {
        assert_eq!(
            send(&open, get("/guarded", headers)).await.verdict(),
            "500/missing_principal",
            "{headers:?}"
        );
        assert_eq!(
            send(&open, get("/principal", headers)).await.verdict(),
            "500/missing_principal",
            "{headers:?}"
        );
        assert_eq!(send(&open, get("/optional", headers)).await.body, b"nobody", "public means nobody");
    }
    let guarded = handlers().layer(auth);
    assert_eq!(send(&guarded, get("/principal", &with_key)).await.body, b"u_own");
    assert_eq!(send(&guarded, get("/optional", &with_key)).await.body, b"one");
    assert_eq!(send(&guarded, get("/optional", &[])).await.verdict(), "401/missing_api_key");
}

#[tokio::test]
async fn principals_of_tests_are_what_the_verifier_would_make() {
    let who = test_util::principal(user("u"))
        .project_level(project("p1"))
        .environment(Environment::Test)
        .metadata("k", "v")
        .build();
    assert_eq!((who.project(), who.role()), (Some(&project("p1")), Role::Full));
    assert_eq!((who.environment(), who.metadata()["k"].as_str()), (Environment::Test, "v"));
    let app = Router::new()
        .route("/", on_get(async |who: Principal| who.user_id().to_string()))
        .layer(Extension(test_util::principal(user("u")).build()));
    assert_eq!(send(&app, get("/", &[])).await.body, b"u");

    // In front of the layer it has no effect.
    let world = World::new().await;
    let app = Router::new()
        .route("/", on_get(echo))
        .layer(ApiKeyAuth::new(world.store.clone(), Bearer::default()))
        .layer(Extension(who));
    assert_eq!(send(&app, get("/", &[])).await.verdict(), "401/missing_api_key");
}
