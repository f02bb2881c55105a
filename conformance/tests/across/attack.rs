//! Attacks on the layer from outside by somebody who knows its promises. Each of them once succeeded, or was tried
//! hard.

use std::convert::Infallible;
use std::future::Future as _;
use std::num::NonZero;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get as on_get};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body::{Frame, SizeHint};
use serde_json::json;
use test_kit::{Answer, World, answer, bearer, echo, get, member, post_json, project, request, send, user};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, HeaderScheme, JsonBody, MalformedCredential};
use tower_api_key::scheme_info::{Challenge, SchemeInfo};
use tower_api_key::store::{Accounts as _, KeyStore as _, MemberRole, MemoryStore};
use tower_api_key::{
    AccessClass, ApiKeyAuth, ApiKeys, AuthError, AuthErrorKind, Credentials, Endpoints, Head, KeyDigest,
    KeyFormat, KeyLevel, Keyring, NewKey, Principal, Timestamp, Verifier, guard,
};
use tower_api_key_manage as manage;
use tower_api_key_sqlite::SqliteStore;

// -- READONLY, and declarations that restrict

/// What `NormalizePathLayer::trim_trailing_slash` of tower-http does.
fn trimmed(mut request: Request<Body>) -> Request<Body> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    *request.uri_mut() = if path.is_empty() { Uri::from_static("/") } else { path.parse().unwrap() };
    request
}

/// C.4: "missing MatchedPath => treated as requires auth, project required, write". Here, a path that cannot be
/// determined counts as undeclared, and an undeclared GET reads.
#[tokio::test]
async fn a_readonly_key_cannot_reach_a_declared_write_by_another_spelling() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().write(Method::GET, "/export"))
        .unwrap();
    let router = Router::new().route("/export", on_get(echo));
    let app = ServiceBuilder::new().layer(auth).map_request(trimmed).service(router);
    let call = async |path: &str| {
        let request = get(path, &[("authorization", &bearer(&world.ro))]);
        answer(app.clone().oneshot(request).await.unwrap()).await.verdict()
    };
    assert_eq!(call("/export").await, "403/read_only");
    assert_eq!(call("/export/").await, "403/read_only");
}

/// The same for `nest_service`, where axum gives no `MatchedPath` although the router matched the route.
#[tokio::test]
async fn a_readonly_key_cannot_reach_a_declared_write_in_a_nested_service() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().write(Method::GET, "/exports/{*path}").write(Method::GET, "/jobs/{job}"))
        .unwrap();
    let files = tower::service_fn(async |request: Request<Body>| Ok::<_, Infallible>(echo_of(request).await));
    let app = Router::new().nest_service("/exports", files).route("/jobs/{id}", on_get(echo)).layer(auth);
    let headers = [("authorization", &*bearer(&world.ro))];
    assert_eq!(send(&app, get("/exports/all", &headers)).await.verdict(), "403/read_only");
}

/// A declaration that can never match is silently useless, even if it should restrict access: here the name of the
/// parameter differs.
#[tokio::test]
async fn a_narrowing_declaration_that_matches_nothing_is_not_silent() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().write(Method::GET, "/jobs/{job}/run"))
        .unwrap();
    let app = Router::new().route("/jobs/{id}/run", on_get(echo)).layer(auth);
    let headers = [("authorization", &*bearer(&world.ro))];
    assert_eq!(send(&app, get("/jobs/1/run", &headers)).await.verdict(), "403/read_only");
}

async fn echo_of(request: Request<Body>) -> Response<Body> {
    use axum::response::IntoResponse as _;
    echo(request).await.into_response()
}

/// The same declarations, with the layer inside and outside of the router.
#[tokio::test]
async fn a_public_pattern_does_not_swallow_a_more_specific_route() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().public(Method::GET, "/{page}"))
        .unwrap();
    let router = || Router::new().route("/{page}", on_get(echo)).route("/admin", on_get(echo));
    let inside = router().layer(auth.clone());
    assert_eq!(send(&inside, get("/imprint", &[])).await.verdict(), "200:h");
    assert_eq!(send(&inside, get("/admin", &[])).await.verdict(), "401/missing_api_key");
    let outside = ServiceBuilder::new().layer(auth).service(router());
    let admin = answer(outside.oneshot(get("/admin", &[])).await.unwrap()).await;
    assert_eq!(admin.verdict(), "401/missing_api_key");
}

// -- misleading responses

/// nginx's `auth_request` and Traefik's `forwardAuth`: the gateway asks with the client's own headers, and looks only
/// at the status.
#[tokio::test]
async fn a_client_cannot_choose_that_its_refusal_is_a_200() {
    let world = World::new().await;
    let endpoints = Endpoints::new().project_optional(Method::GET, "/validate");
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints).unwrap();
    let app = Router::new().route("/validate", manage::validate()).layer(auth);
    for content_type in ["application/grpc", "application/grpc; x", "application/grpcNOT"] {
        // HTTP/1.1, GET, no body: no gRPC client sends this.
        let answer = send(&app, get("/validate", &[("content-type", content_type)])).await;
        assert_eq!(answer.status, 401, "{content_type}");
        let headers = [("content-type", content_type), ("authorization", &*bearer(&world.revoked))];
        assert_eq!(send(&app, get("/validate", &headers)).await.status, 401, "{content_type}");
    }
}

/// RFC 9110 section 15.5.2; `render`: "the layer adds what must never be forgotten: challenges on every 401".
#[tokio::test]
async fn every_401_has_a_challenge_whatever_the_client_says_of_its_content() {
    let world = World::new().await;
    let render = |error: &AuthError| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = error.status();
        response
    };
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).render_errors(render);
    let app = Router::new().route("/", any(echo)).layer(auth);
    let answer = send(&app, request("POST", "/", &[("content-type", "application/grpc")], "")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), [r#"Bearer realm="api""#]);
}

/// A.7: "`X-Project-ID header is required` | the same, with the header's name".
#[tokio::test]
async fn words_name_the_header_that_is_read() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default().project_header("X-Team").unwrap());
    let app = Router::new().route("/", any(echo)).layer(auth);
    let headers = [("authorization", &*bearer(&world.own)), ("x-team", "no id!")];
    let answer = send(&app, get("/", &headers)).await;
    assert_eq!(answer.verdict(), "400/invalid_project");
    assert_eq!(answer.json()["message"], "X-Team header is required");
}

#[derive(Clone)]
struct Token(SchemeInfo);

impl HeaderScheme for Token {
    fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential> {
        Ok(head.headers.get("x-token").map(|token| Credentials::new(token.to_str().unwrap())))
    }

    fn describe(&self) -> &SchemeInfo {
        &self.0
    }
}

/// RFC 9728 section 5.1 (B.9) wants its parameter on the very answer that says `invalid_token`.
#[tokio::test]
async fn a_parameter_of_a_bearer_challenge_stays_when_a_token_was_sent() {
    let world = World::new().await;
    let challenge =
        Challenge::bearer("api").unwrap().param("resource_metadata", "https://a.example/").unwrap();
    let auth = ApiKeyAuth::new(world.store.clone(), Token(SchemeInfo::new("token", challenge)));
    let app = Router::new().route("/", any(echo)).layer(auth);
    for headers in [&[][..], &[("x-token", "nothing")]] {
        let answer = send(&app, get("/", headers)).await;
        assert!(answer.header("www-authenticate")[0].contains("resource_metadata"), "{headers:?}");
    }
}

/// And it stands beside RFC 6750's error codes, in whatever order it was written.
#[tokio::test]
async fn c17_g_a_parameter_takes_no_error_code_out_of_a_bearer_challenge() {
    let world = World::new().await;
    let bearer = || Challenge::bearer("api").unwrap();
    let with = |challenge: Challenge, name: &str| challenge.param(name, "https://a.example/").unwrap();
    for challenge in [bearer(), with(bearer(), "resource_metadata"), with(with(bearer(), "one"), "two")] {
        let info = SchemeInfo::new("token", challenge.clone());
        let endpoints = Endpoints::new().manage(Method::GET, "/manage");
        let auth = ApiKeyAuth::new(world.store.clone(), Token(info)).endpoints(endpoints).unwrap();
        let app = Router::new().route("/", any(echo)).route("/manage", any(echo)).layer(auth);
        for (path, key, status, error) in [
            ("/", None, 401, None),
            ("/", Some(&world.revoked), 401, Some("error=\"invalid_token\"")),
            ("/manage", Some(&world.p1), 403, Some("error=\"insufficient_scope\"")),
        ] {
            let headers = key.map(|key| ("x-token", key.expose_secret()));
            let answer = send(&app, get(path, headers.as_slice())).await;
            let challenges = answer.header("www-authenticate");
            assert_eq!((answer.status.as_u16(), challenges.len()), (status, 1), "{challenge:?}");
            assert_eq!(challenges[0].contains("error="), error.is_some(), "{challenges:?}");
            assert!(error.is_none_or(|error| challenges[0].contains(error)), "{challenges:?}");
        }
    }
}

// -- several credentials

/// R62: two credentials in one request are refused.
#[tokio::test]
async fn two_credentials_in_one_body_are_refused() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default())
        .or(JsonBody::named("token", "account", "site", "api").unwrap());
    let app = Router::new().route("/", any(echo)).layer(auth);
    let body = json!({
        "apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1",
        "token": world.b.expose_secret(), "account": "u_b", "site": "q1",
    });
    assert_eq!(send(&app, post_json("/", &body)).await.verdict(), "400/conflicting_credentials");
}

/// HTTP/2 does not trim values (C2-05). A reader that trims them would see two credentials here.
#[tokio::test]
async fn a_space_before_bearer_does_not_hide_a_credential() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default().project_optional());
    let app = Router::new().route("/", any(echo)).layer(auth);
    let mut both = get("/", &[("x-api-key", world.own.expose_secret())]);
    let hidden = HeaderValue::from_str(&format!(" {}", bearer(&world.b))).unwrap();
    both.headers_mut().insert("authorization", hidden);
    let verdict = send(&app, both).await.verdict();
    assert!(verdict.starts_with('4'), "{verdict}");
}

// -- memory

/// Declares a megabyte, sends two bytes in two frames, and then nothing.
struct Slow(usize);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 2 {
            return Poll::Pending;
        }
        self.0 += 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1 << 20)
    }
}

fn virtual_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmData")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// C3-24: the limit for all bodies of a layer counts the memory that is reserved for a body.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_buffered_bodies_includes_reserved_memory() {
    const CAP: usize = 4 << 20;
    let world = World::new().await;
    let auth =
        ApiKeyAuth::new(world.store.clone(), JsonBody::default().buffer_cap(NonZero::new(CAP).unwrap()));
    let app = Router::new().route("/", any(echo)).layer(auth);
    let before = virtual_memory();
    let mut waiting = Vec::new();
    for _ in 0..500 {
        let headers = [("content-type", "application/json"), ("content-length", "1048576")];
        let mut request = Box::pin(app.clone().oneshot(request("POST", "/", &headers, Body::new(Slow(0)))));
        let polled = std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
        if polled.is_pending() {
            waiting.push(request);
        }
    }
    let taken = virtual_memory() - before;
    assert!(taken < 4 * CAP, "{} requests hold {} MiB, the cap is 4", waiting.len(), taken >> 20);
}

// -- `Debug` output

#[test]
fn debug_shows_no_address_of_code() {
    for text in [
        format!("{:?}", KeyFormat::default()),
        format!("{:?}", Verifier::new(MemoryStore::new())),
        format!("{:#?}", Keyring::new(MemoryStore::new())),
    ] {
        assert!(!text.contains("0x"), "{text}");
    }
}

// -- attacks that failed

/// Nested layers, foreign principals, markers of an outer layer, and guards between them.
#[tokio::test]
async fn nothing_of_an_outer_layer_counts_inside_an_inner_one() {
    let world = World::new().await;
    let other = World::new().await;
    let who = async |who: Option<Principal>| who.map_or("nobody".to_owned(), |who| who.user_id().to_string());
    let public = Endpoints::new().public_subtree(Method::GET, "/open/{*rest}").public(Method::GET, "/a/open");
    let inner = ApiKeyAuth::new(other.store.clone(), ApiKeyHeader::default().project_optional())
        .endpoints(Endpoints::new().public(Method::GET, "/a/open"))
        .unwrap();
    let outer = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(public).unwrap();
    let routes = Router::new().route("/open", on_get(who)).route("/shut", on_get(who)).layer(inner);
    let app = Router::new().nest("/a", routes).layer(outer);
    let outer_key = bearer(&world.own);
    let with = [("authorization", &*outer_key), ("x-api-key", other.b.expose_secret())];
    assert_eq!(send(&app, get("/a/shut", &with)).await.body, b"u_b");
    assert_eq!(send(&app, get("/a/shut", &with[..1])).await.status, 401);
    assert_eq!(send(&app, get("/a/shut", &with[1..])).await.status, 401);
    assert_eq!(send(&app, get("/a/open", &with)).await.body, b"nobody");
    assert_eq!(send(&app, get("/a/open", &[])).await.body, b"nobody");
    // The outer layer's key is unknown to the inner one, and vice versa.
    let crossed = bearer(&other.b);
    let crossed = [("authorization", &*crossed), ("x-api-key", world.own.expose_secret())];
    assert_eq!(send(&app, get("/a/shut", &crossed)).await.status, 401);
}

/// `Unrendered` through two layers is rendered once, by the inner layer, and never reaches the client.
#[tokio::test]
async fn a_guards_refusal_is_rendered_once_under_two_layers() {
    let world = World::new().await;
    let layer = || ApiKeyAuth::new(world.store.clone(), Bearer::default());
    let app = Router::new()
        .route("/", on_get(echo).layer(guard::RequireClass(AccessClass::Write)))
        .layer(layer())
        .layer(layer());
    let answer = send(&app, get("/", &[("authorization", &bearer(&world.ro))])).await;
    assert_eq!(answer.verdict(), "403/read_only");
    assert_eq!(answer.header("www-authenticate").len(), 1);
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    assert_eq!(answer.extensions.get::<AuthError>().unwrap().kind(), AuthErrorKind::ReadOnly);
}

/// Request targets of all forms and all kinds of methods: only the declared spelling is public.
#[tokio::test]
async fn no_other_spelling_of_a_public_endpoint_is_public() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().public(Method::GET, "/health"))
        .unwrap();
    let router = || Router::new().route("/health", any(echo)).fallback(echo);
    let nested = Router::new().nest("/admin", router().layer(auth.clone()));
    let service = Router::new().nest_service("/admin", router().layer(auth.clone()));
    let routed = Router::new().route_service(
        "/admin/{*rest}",
        ServiceBuilder::new()
            .map_request(|request: Request<Body>| request)
            .service(router().layer(auth.clone())),
    );
    let inside = router().layer(auth.clone());
    let by_path = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().public(Method::GET, "/health").by_path())
        .unwrap();
    let outside = ServiceBuilder::new().layer(by_path).service(router());
    let call = async |request: Request<Body>, shape: u8| -> Answer {
        let response = match shape {
            0 => inside.clone().oneshot(request).await,
            _ => outside.clone().oneshot(request).await,
        };
        answer(response.unwrap()).await
    };
    for shape in [0, 1] {
        for target in ["/health", "http://evil/health", "/health?x=/y"] {
            assert_eq!(call(get(target, &[]), shape).await.status, 200, "{target}");
        }
        for target in [
            "//health",
            "/health/",
            "/Health",
            "/%68ealth",
            "/health%2f",
            "/health;a",
            "/./health",
            "/x/../health",
            "/health%00",
            "/health%20",
            "http://evil",
            "*",
            "/",
            "/x?/health",
            "/health//",
            "/health/.",
        ] {
            let answer = call(get(target, &[]), shape).await;
            assert_eq!(answer.status, 401, "{target} {shape}");
        }
        for method in ["POST", "OPTIONS", "get", "TRACE", "PUT", "X"] {
            let answer = call(request(method, "/health", &[], ""), shape).await;
            assert_eq!(answer.status, 401, "{method}");
        }
        let mut connect = request("CONNECT", "example.com:443", &[], "");
        assert_eq!(call(connect, shape).await.status, 401, "{shape:?}");
        connect = request("HEAD", "/health", &[], "");
        assert_eq!(call(connect, shape).await.status, 200, "{shape:?}");
    }
    for app in [nested, service, routed] {
        for target in ["/admin/health", "/admin/", "/admin//health", "/admin/x"] {
            let status = send(&app, get(target, &[])).await.status;
            assert!(status == 401 || status == 404, "{target}: {status}");
        }
    }
}

/// READONLY, with every method, at every undeclared route.
#[tokio::test]
async fn a_readonly_key_writes_by_no_method() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().read(Method::POST, "/status").write(Method::GET, "/export"))
        .unwrap();
    let app =
        Router::new().route("/status", any(echo)).route("/export", any(echo)).fallback(echo).layer(auth);
    let headers = [("authorization", &*bearer(&world.ro)), ("x-http-method-override", "GET")];
    for (method, path, expected) in [
        ("POST", "/status", "200:h"),
        ("PUT", "/status", "403/read_only"),
        ("post", "/status", "403/read_only"),
        ("POST", "/status/", "403/read_only"),
        ("POST", "/%73tatus", "403/read_only"),
        ("GET", "/export", "403/read_only"),
        ("HEAD", "/export", "403/-"),
        ("OPTIONS", "/export", "403/read_only"),
        ("get", "/other", "403/read_only"),
        ("GETX", "/other", "403/read_only"),
    ] {
        let answer = send(&app, request(method, path, &headers, "")).await;
        let verdict =
            if method == "HEAD" { format!("{}/-", answer.status.as_u16()) } else { answer.verdict() };
        assert_eq!(verdict, expected, "{method} {path}");
    }
}

/// A request that is dropped at any moment frees its share of the limit.
#[tokio::test]
async fn the_cap_of_buffered_bodies_leaks_nothing_when_requests_are_dropped() {
    let world = World::new().await;
    let auth =
        ApiKeyAuth::new(world.store.clone(), JsonBody::default().buffer_cap(NonZero::new(400).unwrap()));
    let app = Router::new().route("/", any(async |_: Request<Body>| "in")).layer(auth);
    let body = json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"}).to_string();
    for polls in 0..200_usize {
        let body = Body::new(Slow(usize::from(polls % 2 == 0)));
        let mut request = Box::pin(app.clone().oneshot(request(
            "POST",
            "/",
            &[("content-type", "application/json")],
            body,
        )));
        for _ in 0..polls % 4 {
            // If no memory is left, a body is refused at once.
            if std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await.is_ready() {
                break;
            }
        }
    }
    assert_eq!(send(&app, post_json("/", &body)).await.body, b"in");
}

/// A store is dropped inside a runtime, outside of one, and during a call.
#[test]
fn a_sqlite_store_may_be_dropped_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let store = first.block_on(SqliteStore::open(&path)).unwrap();
    first.block_on(async {
        let clone = store.clone();
        let digest = KeyDigest::from_bytes([0; 32]);
        let mut asked = Box::pin(async move { clone.find(&digest).await });
        // The call may or may not have been answered.
        drop(std::future::poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await);
    });
    drop(first);
    // Another runtime continues to use the store.
    let second = runtime();
    assert!(second.block_on(store.find(&KeyDigest::from_bytes([0; 32]))).unwrap().is_none());
    drop(second);
    drop(store);
    runtime().block_on(async { drop(SqliteStore::open(&path).await.unwrap()) });
}

/// Times at the limits of their range.
#[tokio::test]
async fn times_at_the_ends_overflow_nothing() {
    use tower_api_key::Grace;
    use tower_api_key::test_util::ManualClock;
    for now in [0, 1, i64::MAX - 1, i64::MAX] {
        let world = World::new().await;
        let clock = ManualClock::new(Timestamp::from_micros(now));
        let keyring = ApiKeys::new(world.store.clone()).clock(clock.clone()).keyring();
        let issued = keyring.issue(NewKey::user_level(user("u_own"), "n")).await.unwrap();
        for grace in [Grace::For(Duration::MAX), Grace::For(Duration::ZERO), Grace::None] {
            let one = keyring.issue(NewKey::user_level(user("u_full"), "n")).await.unwrap();
            let two = keyring.rotate(one.id(), grace).await.unwrap();
            assert_ne!(one.id(), two.id(), "{now:?}, grace: {grace:?}");
        }
        let app = Router::new().route("/", any(echo)).layer(ApiKeyAuth::with_verifier(
            ApiKeys::new(world.store.clone()).clock(clock).verifier(),
            Bearer::default(),
        ));
        let answer = send(&app, get("/", &[("authorization", &bearer(issued.key()))])).await;
        assert_eq!(answer.verdict(), "200:h", "{now:?}");
    }
    let world = World::new().await;
    let before_time =
        ApiKeys::new(world.store.clone()).clock(ManualClock::new(Timestamp::from_micros(i64::MIN))).keyring();
    assert!(before_time.issue(NewKey::user_level(user("u_own"), "n")).await.is_err());
}

/// A project-level key works only for its project, whatever project the request names.
#[tokio::test]
async fn a_project_level_key_reaches_its_project_only() {
    let world = World::new().await;
    let p1 = world.key("u_full", |key| key.level = KeyLevel::Project(project("p1"))).await;
    let auth =
        ApiKeyAuth::new(world.store.clone(), Bearer::default().project_header("X-Project-ID").unwrap())
            .or(JsonBody::default())
            .endpoints(Endpoints::new().manage(Method::GET, "/manage"))
            .unwrap();
    let app = Router::new().route("/", any(echo)).route("/manage", any(echo)).layer(auth);
    let key = bearer(&p1);
    for (claimed, expected) in [
        ("p1", "200:h"),
        ("p2", "403/project_mismatch"),
        ("P1", "403/project_mismatch"),
        (" p1", "400/invalid_project"),
    ] {
        let headers = [("authorization", &*key), ("x-project-id", claimed)];
        assert_eq!(send(&app, get("/", &headers)).await.verdict(), expected, "{claimed}");
    }
    assert_eq!(send(&app, get("/manage", &[("authorization", &*key)])).await.verdict(), "403/forbidden");
    for (claimed, expected) in [(json!("p2"), "403/project_mismatch"), (json!(null), "200:h")] {
        let body = json!({"apiKey": p1.expose_secret(), "userId": "u_full", "projectId": claimed});
        assert_eq!(send(&app, post_json("/", &body)).await.verdict(), expected, "{claimed:?}");
    }
    world.store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p2"])).await.unwrap();
    assert_eq!(send(&app, get("/", &[("authorization", &*key)])).await.verdict(), "403/forbidden");
}

/// An update that changes nothing writes no entry into the audit log. Otherwise, anybody who may change a key could
/// make the log grow without limit.
#[tokio::test]
async fn c17_b11_an_empty_update_writes_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("keys.db")).await.unwrap();
    store.create_account("a", &user("alice")).await.unwrap();
    let keyring = Keyring::new(store.clone());
    let caller = keyring.issue(NewKey::user_level(user("alice"), "caller")).await.unwrap();
    let victim = keyring.issue(NewKey::user_level(user("alice"), "victim")).await.unwrap();
    let auth = ApiKeyAuth::new(store, Bearer::default());
    let auth = auth.endpoints(manage::declare(Endpoints::new(), "/keys")).unwrap();
    let app = Router::new().nest("/keys", manage::api_keys(keyring.clone())).layer(auth);
    let headers = [("authorization", &*bearer(caller.key())), ("content-type", "application/json")];
    let path = format!("/keys/{}", victim.id());
    for body in ["{}", r#"{"name":"victim"}"#, r#"{"restrictions":null,"limits":null}"#] {
        assert_eq!(send(&app, request("PATCH", &path, &headers, body)).await.status, 200, "{body}");
        assert_eq!(keyring.history(victim.id(), 10).await.unwrap().len(), 1, "{body}");
    }
    assert_eq!(send(&app, request("PATCH", &path, &headers, r#"{"name":"other"}"#)).await.status, 200);
    assert_eq!(keyring.history(victim.id(), 10).await.unwrap().len(), 2);
}
