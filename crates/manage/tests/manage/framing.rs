//! C17-C1 and C17-B5 at these routes: an unread body is drained or closes the connection, whatever the response; and
//! the bodies of one caller leave room for those of others.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Version};
use serde_json::json;
use tokio::task::JoinHandle;
use tower_api_key::client_addr::{ClientAddr, PeerAddr};
use tower_api_key::scheme::Bearer;
use tower_api_key::{ApiKey, ApiKeyAuth, Endpoints, Keyring, Verifier};
use tower_api_key_manage as manage;
use tower_api_key_manage::{Leaks, PublicKeyList};

use crate::path_of;
use test_kit::{Answer, Pieces, World, bearer, send};

const AT: &str = "/v1/api-keys";

/// All routes of this crate, with the webhook.
fn app(world: &World) -> Router {
    let (store, keyring) = (world.store.clone(), Keyring::new(world.store.clone()));
    let verifier = Verifier::new(store.clone());
    let self_revoke = format!("{AT}/self-revoke");
    let endpoints = Endpoints::new()
        .project_optional(Method::GET, "/validate")
        .project_optional(Method::GET, "/projects")
        .public(Method::POST, &*self_revoke);
    let auth =
        ApiKeyAuth::new(store.clone(), Bearer::default()).endpoints(manage::declare(endpoints, AT)).unwrap();
    let explain = manage::explain(keyring.clone(), auth.explainer());
    let leaks = Leaks::new(
        keyring.clone(),
        verifier.clone(),
        PublicKeyList::from_json(r#"{"public_keys": []}"#).unwrap(),
    );
    Router::new()
        .nest(AT, manage::api_keys(keyring.clone()).merge(explain))
        .route(&self_revoke, manage::self_revoke(keyring, verifier, ClientAddr::peer()))
        .route("/validate", manage::validate())
        .route("/projects", manage::projects(store))
        .layer(auth)
        .route("/leaks", leaks.route())
}

fn asked(method: &str, path: &str, key: Option<&ApiKey>, length: usize, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", bearer(key));
    }
    request.header("content-length", length).body(body).unwrap()
}

fn closes(answer: &Answer) -> bool {
    let said = answer.header("connection");
    assert!(said.is_empty() || said == ["close"], "{said:?}");
    !said.is_empty()
}

#[tokio::test(start_paused = true)]
async fn c17_c1_every_response_of_these_routes_handles_an_unread_body() {
    let world = World::new().await;
    let app = app(&world);
    let (own, full) = (path_of(&world, &world.own).await, path_of(&world, &world.full).await);
    let own_key = Some(&world.own);
    // 20 kB of spaces: more than these routes read, and less than is drained.
    let (short, long) = (20_000, 64 * 1024 + 1);
    let self_revoke = format!("{AT}/self-revoke");
    let rows: Vec<(&str, String, Option<&ApiKey>, u16)> = vec![
        ("POST", AT.into(), own_key, 413),
        // Refused by the route, and not by the layer.
        ("GET", AT.into(), Some(&world.p1), 403),
        ("GET", format!("{own}/usage"), Some(&world.p1), 403),
        ("GET", AT.into(), own_key, 200),
        ("PUT", AT.into(), own_key, 405),
        ("PATCH", own.clone(), own_key, 413),
        ("GET", format!("{own}/usage"), own_key, 200),
        ("POST", format!("{own}/explain"), own_key, 413),
        ("DELETE", format!("{AT}/key_none"), own_key, 404),
        ("GET", "/validate".into(), own_key, 200),
        ("GET", "/projects".into(), own_key, 200),
        ("POST", "/validate".into(), own_key, 405),
        ("POST", self_revoke.clone(), None, 413),
        ("POST", "/leaks".into(), None, 401),
        ("GET", "/leaks".into(), None, 405),
        ("DELETE", full.clone(), Some(&world.full), 200),
    ];
    for (method, path, key, status) in rows {
        for (length, more, expected) in [(short, "", false), (long, "", true), (short, "100-continue", true)]
        {
            let body = Pieces::new(vec![vec![b' '; 1000]; length / 1000 + 1], true);
            let mut request = asked(method, &path, key, length, Body::new(body));
            if !more.is_empty() {
                request.headers_mut().insert("expect", more.parse().unwrap());
            }
            let answer = send(&app, request).await;
            // The last row ends its own key. After that the layer refuses, and it has only a header scheme.
            let again = method == "DELETE" && answer.status == 401;
            let at = format!("{method} {path} {length} {more}: {}", answer.status);
            assert!(again || answer.status.as_u16() == status, "{at}");
            assert_eq!(closes(&answer), expected || again, "{at}");
        }
        let mut request = asked(method, &path, key, 10, Body::new(Pieces::new(["x"], false)));
        *request.version_mut() = Version::HTTP_2;
        assert!(!closes(&send(&app, request).await), "{method} {path} over HTTP/2");
    }
}

/// A body that was read to its end does not block the next request.
#[tokio::test]
async fn c17_c1_a_body_read_by_these_routes_keeps_the_connection_open() {
    let world = World::new().await;
    let app = app(&world);
    for (text, status) in
        [(r#"{"name":"x"}"#, 201), ("[]", 400), (r#"{"name":"x","y":1}"#, 422), (r#"{"name":""}"#, 422)]
    {
        let body = Pieces::new([text], true);
        let answer = send(&app, asked("POST", AT, Some(&world.own), text.len(), Body::new(body))).await;
        assert_eq!((answer.status.as_u16(), closes(&answer)), (status, false), "{text}");
    }
    let text = json!({"apiKey": world.own.expose_secret()}).to_string();
    let path = format!("{AT}/self-revoke");
    let answer = send(&app, asked("POST", &path, None, text.len(), text.clone().into())).await;
    assert_eq!((answer.status.as_u16(), closes(&answer)), (200, false));
}

/// If the rest of a body does not arrive, the connection is closed after one second.
#[tokio::test(start_paused = true)]
async fn c17_c1_these_routes_do_not_wait_for_a_missing_rest() {
    let world = World::new().await;
    let app = app(&world);
    let start = tokio::time::Instant::now();
    let body = Pieces::new(["x"], false);
    let answer = send(&app, asked("GET", AT, Some(&world.p1), 10, Body::new(body))).await;
    assert_eq!((answer.status.as_u16(), closes(&answer)), (403, true));
    assert_eq!(start.elapsed().as_secs(), 1);
}

/// Sends a body without its end.
fn hangs(app: &Router, mut request: Request<Body>, from: Option<u8>) -> JoinHandle<Answer> {
    if let Some(last) = from {
        request.extensions_mut().insert(at(last));
    }
    let app = app.clone();
    tokio::spawn(async move { send(&app, request).await })
}

fn at(last: u8) -> PeerAddr {
    PeerAddr(IpAddr::from(Ipv4Addr::new(198, 51, 100, last)))
}

fn half(length: usize) -> Body {
    Body::new(Pieces::new([vec![b' '; length]], false))
}

async fn finished(tasks: &[JoinHandle<Answer>]) -> usize {
    tokio::time::sleep(Duration::from_millis(1)).await;
    tasks.iter().filter(|task| task.is_finished()).count()
}

#[tokio::test(start_paused = true)]
async fn c17_b5_half_sent_bodies_of_one_owner_leave_room_for_others() {
    let world = World::new().await;
    let app = app(&world);
    let length = 16 * 1024;
    for path in [AT.to_owned(), format!("{}/explain", path_of(&world, &world.own).await)] {
        let held: Vec<_> = (0..300)
            .map(|_| hangs(&app, asked("POST", &path, Some(&world.own), length, half(length)), None))
            .collect();
        // One owner may use a quarter of the budget of 4 MiB; the other bodies are refused.
        assert_eq!(finished(&held).await, 300 - 64, "{path}");
        let create = |key: &ApiKey| asked("POST", AT, Some(key), 12, r#"{"name":"x"}"#.into());
        assert_eq!(send(&app, create(&world.full)).await.status, 201, "{path:?}");
        assert_eq!(send(&app, create(&world.b)).await.status, 201, "{path:?}");
        let more = asked("POST", &path, Some(&world.own), length, half(length));
        let body = send(&app, more).await;
        assert_eq!(body.verdict(), "503/auth_unavailable", "{path:?}");
        for held in held {
            assert!(matches!(held.await.unwrap().status.as_u16(), 408 | 503), "{path:?}");
        }
        assert_eq!(send(&app, create(&world.own)).await.status, 201, "{path:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c17_b5_half_sent_bodies_without_a_key_leave_room_for_others() {
    let world = World::new().await;
    let app = app(&world);
    let path = format!("{AT}/self-revoke");
    let length = 16 * 1024;
    let held: Vec<_> =
        (0..300).map(|_| hangs(&app, asked("POST", &path, None, length, half(length)), Some(1))).collect();
    assert_eq!(finished(&held).await, 300 - 64);
    let text = json!({"apiKey": world.own.expose_secret()}).to_string();
    let mut good = asked("POST", &path, None, text.len(), text.clone().into());
    good.extensions_mut().insert(at(2));
    assert_eq!(send(&app, good).await.status, 200);
    held.iter().for_each(JoinHandle::abort);
}

/// The webhook reads bodies before it verifies them, so each address has its own share.
#[tokio::test(start_paused = true)]
async fn c17_b5_unsigned_reports_leave_room_for_others() {
    let world = World::new().await;
    let scanner = crate::leaks::Scanner::new("one");
    let keyring = Keyring::new(world.store.clone());
    let keys = crate::leaks::list(&[scanner.entry(true)]);
    let leaks = Leaks::new(keyring, Verifier::new(world.store.clone()), keys);
    let app = Router::new().route("/leaks", leaks.route());
    let length = 1 << 20;
    let signed = |body: Body, text: &str| {
        let (parts, _) = scanner.report(text).into_parts();
        Request::from_parts(parts, body)
    };
    let held: Vec<_> = (0..40).map(|_| hangs(&app, signed(half(length), ""), Some(1))).collect();
    assert_eq!(finished(&held).await, 40 - 4);
    let mut good = scanner.report("[]");
    good.extensions_mut().insert(at(2));
    assert_eq!(send(&app, good).await.status, 200);
    let mut again = signed(half(length), "");
    again.extensions_mut().insert(at(1));
    assert_eq!(send(&app, again).await.verdict(), "503/auth_unavailable");
    held.iter().for_each(JoinHandle::abort);
}
