//! Which bodies the routes accept, and which they refuse.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower_api_key::store::{Accounts as _, MemberRole, StoreError};
use tower_api_key::{ApiKey, AuthError, AuthErrorKind, Grace, Keyring};

use crate::{AT, app, call, create, path_of, record, rows, world};
use test_kit::{Call, Hook, Hooked, World, bearer, get, member, request, send, user};

#[tokio::test]
async fn c11_01_a_client_cannot_set_the_owner_or_the_rights_of_a_key() {
    let (world, app) = world().await;
    let before = rows(&world).await;
    let members = [
        "userId",
        "user_id",
        "owner",
        "ownerId",
        "owner_id",
        "account_id",
        "permissions",
        "scopes",
        "rate_limit",
        "hash",
        "digest",
        "id",
        "created_at",
        "key",
        "metadata",
        "restriction",
        "limit",
        "revoked_at",
        "Name",
        "LEVEL",
        "name ",
        "",
        "projectId",
        "apiKey",
        "expiresAt",
        "__proto__",
    ];
    let mut bodies = Vec::new();
    for member in members {
        for value in [json!("canary"), json!(null), json!(["u_b"]), json!({"a": {}})] {
            let mut body = json!({"name": "x"});
            body[member] = value;
            let answer = create(&app, &world.own, &body).await;
            assert_eq!(answer.verdict(), "422/unknown_field", "{body}");
            bodies.push(answer.body);
            let headers = [("content-type", "application/json")];
            let without_key = send(&app, request("POST", AT, &headers, body.to_string())).await;
            assert_eq!(without_key.verdict(), "401/missing_api_key", "{body}");
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "nothing is echoed");
    let problem: Value = serde_json::from_slice(&bodies[0]).unwrap();
    let members: Vec<_> = problem.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "error", "message", "status", "success", "title", "type"]);
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn r34_r35_invalid_members_are_a_422_with_the_rule() {
    let (world, app) = world().await;
    let before = rows(&world).await;
    let named = |name: &str| json!({"name": name});
    let with = |member: &str, value: Value| {
        let mut body = json!({"name": "x"});
        body[member] = value;
        body
    };
    let project = |id: Value| json!({"name": "x", "level": "PROJECT", "project_id": id});
    let cases = [
        (json!({}), "invalid_name"),
        (json!({"name": null}), "invalid_name"),
        (named(" \t"), "invalid_name"),
        (named(&"x".repeat(65)), "invalid_name"),
        (named("canary\r\nSet-Cookie: a=b"), "invalid_name"),
        (named("canary\u{202E}"), "invalid_name"),
        (named("canary\u{0}"), "invalid_name"),
        (with("level", json!("ACCOUNT-canary")), "invalid_level"),
        (with("level", json!("")), "invalid_level"),
        (project(json!(null)), "invalid_project_id"),
        (project(json!("")), "invalid_project_id"),
        (project(json!("p1 canary")), "invalid_project_id"),
        (project(json!("../p1")), "invalid_project_id"),
        (with("project_id", json!("p1")), "invalid_project_id"),
        (json!({"name": "x", "level": "USER", "project_id": "p1"}), "invalid_project_id"),
        (with("environment", json!("staging-canary")), "invalid_environment"),
        (with("environment", json!("")), "invalid_environment"),
        (with("expires_at", json!("canary")), "invalid_expires_at"),
        (with("expires_at", json!("2100-01-01")), "invalid_expires_at"),
        (with("expires_at", json!("2100-01-01T00:00:00")), "invalid_expires_at"),
        (with("expires_at", json!("2000-01-01T00:00:00Z")), "invalid_expires_at"),
        (with("expires_at", json!("-009999-01-02T00:00:00Z")), "invalid_expires_at"),
    ];
    for (body, error) in cases {
        let answer = create(&app, &world.own, &body).await;
        assert_eq!(answer.verdict(), format!("422/{error}"), "{body}");
        assert_eq!(answer.json()["title"], answer.json()["message"]);
        assert_eq!(answer.header("content-type"), ["application/problem+json"]);
        assert_eq!(answer.header("cache-control"), ["no-store"]);
        assert!(!String::from_utf8(answer.body).unwrap().contains("canary"), "{body}");
    }
    for id in ["p9", "q1"] {
        let answer = create(&app, &world.own, &project(json!(id))).await;
        assert_eq!(answer.verdict(), "403/forbidden", "{id}");
    }
    assert_eq!(rows(&world).await, before);
    assert_eq!(
        create(&app, &world.own, &named("<script>\"'{{7*7}}=1+1")).await.status,
        201,
        "markup is text"
    );
}

#[tokio::test]
async fn a_body_that_is_not_an_object_is_a_400() {
    let (world, app) = world().await;
    let before = rows(&world).await;
    let headers = [("authorization", &*bearer(&world.own)), ("content-type", "application/json")];
    let deep = format!("{{\"name\":{}", "[".repeat(5000));
    let bodies: [&[u8]; 15] = [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        br#"["x","USER",null,null,null]"#,
        br#""name""#,
        br#"{"name":"x"}{}"#,
        br#"{"name":"x",}"#,
        br#"{"name":"x","name":"y"}"#,
        br#"{"name":"x","na\u006de":"y"}"#,
        b"{\"name\":\"\xff\"}",
        br#"{"name":"\ud800"}"#,
        br#"{'name':'x'}"#,
        deep.as_bytes(),
    ];
    for body in bodies {
        let answer = send(&app, request("POST", AT, &headers, Bytes::copy_from_slice(body))).await;
        assert_eq!(answer.verdict(), "400/malformed_body", "{}", String::from_utf8_lossy(body));
        assert_eq!(answer.json()["message"], "Malformed request body");
    }
    assert_eq!(rows(&world).await, before);
}

/// For valid JSON, the error says which member is wrong and what it must be.
#[tokio::test]
async fn c17_d6_a_member_of_another_type_is_named() {
    let (world, app) = world().await;
    let before = rows(&world).await;
    for (body, verdict) in [
        (json!({"name": 123}), "422/invalid_name"),
        (json!({"name": ["x"]}), "422/invalid_name"),
        (json!({"name": "x", "level": 1}), "422/invalid_level"),
        (json!({"name": "x", "level": "PROJECT", "project_id": 1}), "422/invalid_project_id"),
        (json!({"name": "x", "environment": true}), "422/invalid_environment"),
        (json!({"name": "x", "expires_at": 4_102_444_800_u64}), "422/invalid_expires_at"),
        (json!({"name": "x", "limits": 12}), "422/invalid_limits"),
        (json!({"name": "x", "limits": [1]}), "422/invalid_limits"),
        (json!({"name": "x", "restrictions": "ip"}), "422/invalid_restrictions"),
    ] {
        assert_eq!(create(&app, &world.own, &body).await.verdict(), verdict, "{body}");
    }
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn c11_13_only_json_up_to_a_limit_is_read() {
    let (world, app) = world().await;
    let bearer = bearer(&world.own);
    let body = r#"{"name":"x"}"#;
    let post = async |types: &[&str], body: String| {
        let mut headers = vec![("authorization", &*bearer)];
        headers.extend(types.iter().map(|kind| ("content-type", *kind)));
        send(&app, request("POST", AT, &headers, body)).await.verdict()
    };
    let simple =
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"];
    let other =
        ["", "json", "application/jsonp", "application/json; charset=utf-16", "application/json, text/plain"];
    for kind in simple.into_iter().chain(other) {
        assert_eq!(post(&[kind], body.into()).await, "415/unsupported_media_type", "{kind}");
    }
    assert_eq!(post(&[], body.into()).await, "415/unsupported_media_type");
    assert_eq!(post(&["application/json", "text/plain"], body.into()).await, "415/unsupported_media_type");
    for kind in ["application/json", "application/vnd.acme+json", "Application/JSON; charset=\"UTF-8\""] {
        assert_eq!(post(&[kind], body.into()).await, "201/-", "{kind}");
    }
    // C17-C2: the same content types and codings as in the layer.
    for kind in ["application/json; charset=utf8", "application/json; charset=us-ascii"] {
        assert_eq!(post(&[kind], body.into()).await, "201/-", "{kind}");
    }
    for (coding, verdict) in [
        ("identity", "201/-"),
        ("", "201/-"),
        ("gzip", "415/unsupported_media_type"),
        ("identity, br", "415/unsupported_media_type"),
    ] {
        let headers =
            [("authorization", &*bearer), ("content-type", "application/json"), ("content-encoding", coding)];
        let answer = send(&app, request("POST", AT, &headers, body)).await;
        assert_eq!(answer.verdict(), verdict, "C17-C2: {coding:?}");
    }
    let padded = |len: usize| format!("{body}{}", " ".repeat(len - body.len()));
    assert_eq!(post(&["application/json"], padded(16 * 1024)).await, "201/-");
    assert_eq!(post(&["application/json"], padded(16 * 1024 + 1)).await, "413/body_too_large");
}

/// A body that arrives when the test sends it.
struct Later(oneshot::Receiver<Bytes>);

impl http_body::Body for Later {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.0.is_terminated() {
            return Poll::Ready(None);
        }
        let received = std::task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(Some(received.map(Frame::data).map_err(std::io::Error::other)))
    }
}

fn slow(world: &World) -> (oneshot::Sender<Bytes>, http::Request<Body>) {
    slow_to("POST", AT, world)
}

fn slow_to(method: &str, path: &str, world: &World) -> (oneshot::Sender<Bytes>, http::Request<Body>) {
    slow_by(&world.own, method, path)
}

/// A request whose body arrives when the test sends it.
pub(crate) fn slow_by(
    caller: &ApiKey,
    method: &str,
    path: &str,
) -> (oneshot::Sender<Bytes>, http::Request<Body>) {
    let (sender, receiver) = oneshot::channel();
    let headers = [("authorization", &*bearer(caller)), ("content-type", "application/json")];
    (sender, request(method, path, &headers, Body::new(Later(receiver))))
}

#[tokio::test]
async fn c9_a_key_that_is_revoked_while_its_body_comes_issues_nothing() {
    let (world, app) = world().await;
    let (body, post) = slow(&world);
    let pending = tokio::spawn({
        let app = app.clone();
        async move { send(&app, post).await.verdict() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    Keyring::new(world.store.clone()).revoke(&record(&world, &world.own).await.id).await.unwrap();
    let before = rows(&world).await;
    body.send(Bytes::from_static(br#"{"name":"x"}"#)).unwrap();
    assert_eq!(pending.await.unwrap(), "401/invalid_api_key");
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn c9_a_key_that_is_narrowed_while_its_body_comes_issues_nothing_wider() {
    for narrowing in ["restrictions", "limits", "end"] {
        let (world, app) = world().await;
        let (body, post) = slow(&world);
        let pending = tokio::spawn({
            let app = app.clone();
            async move { send(&app, post).await.verdict() }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let keyring = Keyring::new(world.store.clone());
        let id = record(&world, &world.own).await.id;
        match narrowing {
            "restrictions" => {
                let restrictions = r#"{"ip":{"allow":[]}}"#.parse().unwrap();
                keyring.restrict(&id, &restrictions).await.unwrap();
            }
            "limits" => {
                let limits = tower_api_key::KeyUpdate::new().limits(Some("9/h".parse().unwrap()));
                keyring.update(&id, limits).await.unwrap();
            }
            _ => drop(keyring.rotate(&id, Grace::For(Duration::from_secs(600))).await.unwrap()),
        }
        let before = rows(&world).await;
        body.send(Bytes::from_static(br#"{"name":"x"}"#)).unwrap();
        assert_eq!(pending.await.unwrap(), "403/forbidden", "{narrowing}");
        assert_eq!(rows(&world).await, before, "{narrowing:?}");
    }
}

#[tokio::test]
async fn c9_a_key_that_ends_or_is_narrowed_while_its_body_comes_changes_nothing() {
    for (narrowed, verdict) in [(true, "403/forbidden"), (false, "401/invalid_api_key")] {
        let (world, app) = world().await;
        let path = path_of(&world, &world.p1).await;
        let (body, patch) = slow_to("PATCH", &path, &world);
        let pending = tokio::spawn(async move { send(&app, patch).await.verdict() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let keyring = Keyring::new(world.store.clone());
        let id = record(&world, &world.own).await.id;
        if narrowed {
            keyring.restrict(&id, &r#"{"ip":{"allow":[]}}"#.parse().unwrap()).await.unwrap();
        } else {
            keyring.revoke(&id).await.unwrap();
        }
        let before = rows(&world).await;
        body.send(Bytes::from_static(br#"{"name":"x","restrictions":null}"#)).unwrap();
        assert_eq!(pending.await.unwrap(), verdict, "{narrowed:?}");
        assert_eq!(rows(&world).await, before, "{narrowed:?}");
    }
}

/// The same for the owner's rights, which are also checked at the end.
#[tokio::test]
async fn c9_an_owner_who_is_demoted_or_suspended_while_a_body_comes_changes_nothing() {
    for (method, demoted, verdict) in
        [("POST", true, "403/read_only"), ("PATCH", true, "403/read_only"), ("PATCH", false, "403/forbidden")]
    {
        let (world, app) = world().await;
        let own = path_of(&world, &world.full).await;
        let (body, sent) = slow_by(&world.full, method, if method == "POST" { AT } else { &own });
        let pending = tokio::spawn(async move { send(&app, sent).await.verdict() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        if demoted {
            let readonly = member(MemberRole::ReadOnly, &["p1"]);
            world.store.set_member("A", &user("u_full"), &readonly).await.unwrap();
        } else {
            world.store.suspend_account("A", true).await.unwrap();
        }
        let before = rows(&world).await;
        body.send(Bytes::from_static(br#"{"name":"x"}"#)).unwrap();
        assert_eq!(pending.await.unwrap(), verdict, "{method}");
        assert_eq!(rows(&world).await, before, "{method:?}, demoted: {demoted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_incomplete_body_times_out() {
    let (world, app) = world().await;
    let (_kept, post) = slow(&world);
    assert_eq!(send(&app, post).await.verdict(), "408/body_timeout");
    let (dropped, post) = slow(&world);
    drop(dropped);
    assert_eq!(send(&app, post).await.verdict(), "400/malformed_body");
}

/// A store that fails or never answers.
#[derive(Clone, Copy)]
enum Trouble {
    Fails,
    Hangs,
}

#[async_trait]
impl Hook for Trouble {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        match self {
            Self::Fails => Err(StoreError::failed("disk on fire: canary")),
            // If a request waits forever, it is found when the simulated hour is over.
            Self::Hangs => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                panic!("somebody waits without end")
            }
        }
    }
}

/// A registry and directory with this trouble.
fn in_trouble(world: &World, trouble: Trouble) -> Hooked<Trouble> {
    Hooked::new(&world.store, trouble)
}

/// C17-B1: only a few requests of one owner are at the store at the same time, however many keys the owner has.
#[tokio::test(start_paused = true)]
async fn c17_g_the_keys_of_one_owner_share_a_few_places_at_the_store() {
    let world = World::new().await;
    let keys = tower_api_key_manage::api_keys(Keyring::new((
        in_trouble(&world, Trouble::Hangs),
        world.store.clone(),
    )));
    let app = crate::guarded(axum::Router::new().nest(AT, keys), world.store.clone());
    let path = path_of(&world, &world.p1).await;
    let other = world.key("u_own", |_| ()).await;
    for (method, path) in [("GET", AT), ("DELETE", &*path)] {
        let mut tasks = tokio::task::JoinSet::new();
        for key in [&world.own, &other].into_iter().cycle().take(20).chain([&world.full]) {
            let request = request(method, path, &[("authorization", &bearer(key))], "");
            let app = app.clone();
            tasks.spawn(async move { send(&app, request).await });
        }
        // The requests that are at the store time out first.
        tokio::time::sleep(Duration::from_millis(5001)).await;
        let mut timed_out = 0;
        while let Some(answer) = tasks.try_join_next() {
            let error = answer.unwrap().extensions.get::<AuthError>().map(AuthError::kind);
            timed_out += usize::from(error == Some(AuthErrorKind::StoreTimeout));
        }
        assert_eq!(timed_out, 4 + 1, "{method}: four of the owner's, and another's");
        tasks.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn c10_a_failing_store_is_never_a_definite_refusal() {
    let world = World::new().await;
    for (trouble, kind) in
        [(Trouble::Fails, AuthErrorKind::StoreFailed), (Trouble::Hangs, AuthErrorKind::StoreTimeout)]
    {
        let trouble = in_trouble(&world, trouble);
        let keys = tower_api_key_manage::api_keys(Keyring::new((trouble.clone(), world.store.clone())));
        let routes =
            axum::Router::new().nest(AT, keys).route("/projects", tower_api_key_manage::projects(trouble));
        let app = crate::guarded(routes, world.store.clone());
        let path = path_of(&world, &world.p1).await;
        let answers = [
            call(&app, "GET", AT, &world.own).await,
            call(&app, "GET", "/projects", &world.own).await,
            call(&app, "DELETE", &path, &world.own).await,
            call(&app, "POST", &format!("{path}/rotate"), &world.own).await,
        ];
        for answer in answers {
            assert_eq!(answer.verdict(), "503/auth_unavailable", "{kind:?}");
            assert_eq!(answer.json()["message"], "Authentication is temporarily unavailable", "{kind:?}");
            assert_eq!(
                (answer.header("retry-after"), answer.header("cache-control")),
                (vec!["1"], vec!["no-store"]),
                "{kind:?}"
            );
            assert_eq!(answer.extensions.get::<AuthError>().unwrap().kind(), kind, "{kind:?}");
            assert!(!String::from_utf8(answer.body).unwrap().contains("canary"), "{kind:?}");
        }
        // It is unknown whether a key was made. If the client repeats the request, it may get a second one.
        let answer = create(&app, &world.own, &json!({"name": "x"})).await;
        if kind == AuthErrorKind::StoreTimeout {
            assert_eq!(answer.verdict(), "503/outcome_unknown", "{kind:?}");
            assert_eq!(answer.json()["message"], "The change may have been made: list your keys", "{kind:?}");
            assert!(answer.header("retry-after").is_empty(), "{kind:?}");
        } else {
            assert_eq!(answer.verdict(), "503/auth_unavailable", "{kind:?}");
        }
        let named = [("authorization", &*bearer(&world.own))];
        assert_eq!(send(&app, get(&format!("{AT}/key_1/rotate"), &named)).await.status, 405, "{kind:?}");
    }
}

#[tokio::test]
async fn c11_06_an_invalid_id_is_like_an_unknown_one() {
    let (world, app) = world().await;
    let unknown = call(&app, "DELETE", &format!("{AT}/key_unknown"), &world.own).await;
    assert_eq!(unknown.verdict(), "404/key_not_found");
    // A registry that fails every query shows that an invalid id causes no query.
    let broken = app_with_broken_ledger(&world);
    let long = "k".repeat(10_000);
    let ids = [
        "%00",
        "key_1%2f..",
        "key_1%00",
        "%ff",
        "%C3%28",
        "key_1'--",
        "key_1%20",
        "%D0%BA%D0%B5%D1%83",
        "%2e%2e%2f",
        "*",
        "key_1;",
        &long,
        "key_1%0d%0aX:y",
    ];
    for id in ids {
        for app in [&app, &broken] {
            for (method, path) in [("DELETE", format!("{AT}/{id}")), ("POST", format!("{AT}/{id}/rotate"))] {
                let answer = call(app, method, &path, &world.own).await;
                assert_eq!(answer.verdict(), "404/key_not_found", "{method} {id}");
                assert_eq!(answer.body, unknown.body, "{method} {id}");
            }
        }
    }
    for id in ["..", ".", "key_1%252f"] {
        assert_eq!(call(&app, "DELETE", &format!("{AT}/{id}"), &world.own).await.status, 404, "{id}");
    }
}

fn app_with_broken_ledger(world: &World) -> axum::Router {
    app(world, Keyring::new((in_trouble(world, Trouble::Fails), world.store.clone())))
}
