//! Deprecated schemes and replaced keys: what responses say, and what happens after the sunset.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get as get_route;
use http::Request;
use serde_json::json;
use test_kit::{World, bearer, echo, get, post_json, send, user};
use tower_api_key::guard::RequireScope;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::Accounts as _;
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKey, ApiKeyAuth, ApiKeys, AuthError, AuthErrorKind, Clock as _, Deprecation, Grace, NewKey, Timestamp,
    Verifier,
};
use tower_api_key_sqlite::SqliteStore;

const SINCE: Timestamp = Timestamp::from_secs(1_767_225_600);
const SUNSET: Timestamp = Timestamp::from_secs(1_782_864_000);

fn deprecation() -> Deprecation {
    let link = "https://example.com/migration";
    Deprecation::new(SINCE).unwrap().sunset(SUNSET).unwrap().link(link).unwrap()
}

/// Keys in the body and in the header are deprecated, bearer keys are not; with a warm and a cold store.
async fn apps(world: &World, now: Timestamp) -> [Router; 2] {
    let auth = |verifier: Verifier| {
        ApiKeyAuth::with_verifier(verifier, Bearer::default())
            .or(ApiKeyHeader::default().deprecated(deprecation()))
            .or(JsonBody::default().deprecated(deprecation()))
    };
    let routes = || Router::new().fallback(echo);
    let clock = ManualClock::new(now);
    let cold = ApiKeys::new(world.counted().0).clock(clock.clone()).verifier();
    let warm = ApiKeys::new(world.store.clone()).clock(clock).verifier();
    [routes().layer(auth(warm)), routes().layer(auth(cold))]
}

#[tokio::test]
async fn c15_14_every_answer_through_a_deprecated_scheme_says_so() {
    let world = World::new().await;
    let key = world.full.expose_secret();
    for app in apps(&world, SINCE).await {
        let body = |project| json!({"apiKey": key, "userId": "u_full", "projectId": project});
        let header = |project| get("/", &[("x-api-key", key), ("x-project-id", project)]);
        for (request, verdict) in [
            (header("p1"), "200:h"),
            (header("p3"), "403/forbidden"),
            (get("/", &[("x-api-key", "garbage")]), "401/invalid_api_key"),
            (post_json("/", body("p1")), "200:h"),
            (post_json("/", body("p3")), "403/forbidden"),
        ] {
            let answer = send(&app, request).await;
            assert_eq!(answer.verdict(), verdict);
            assert_eq!(answer.header("deprecation"), ["@1767225600"], "{verdict}");
            assert_eq!(answer.header("sunset"), ["Wed, 01 Jul 2026 00:00:00 GMT"], "{verdict}");
            let links = ["deprecation", "sunset"]
                .map(|rel| format!("<https://example.com/migration>; rel=\"{rel}\""));
            assert_eq!(answer.header("link"), links, "{verdict}");
        }
        // Requests through another scheme, or without a key, get no such headers.
        for request in [get("/", &[("authorization", &bearer(&world.own))]), get("/", &[])] {
            let answer = send(&app, request).await;
            assert!(answer.header("deprecation").is_empty() && answer.header("sunset").is_empty());
        }
    }
}

#[tokio::test]
async fn c15_14_after_its_sunset_a_scheme_refuses_and_the_others_are_named() {
    let world = World::new().await;
    let key = world.full.expose_secret();
    let just_before = Timestamp::from_micros(SUNSET.as_micros() - 1);
    for (now, alive) in [(just_before, true), (SUNSET, false), (Timestamp::from_micros(i64::MAX), false)] {
        for app in apps(&world, now).await {
            let header = get("/", &[("x-api-key", key), ("x-project-id", "p1")]);
            let body = post_json("/", json!({"apiKey": key, "userId": "u_full", "projectId": "p1"}));
            for (request, words) in [(header, "Invalid API key"), (body, "Unauthorized: Invalid API Key")] {
                let answer = send(&app, request).await;
                if alive {
                    assert_eq!(answer.verdict(), "200:h", "{now:?}, alive: {alive:?}");
                    continue;
                }
                assert_eq!(answer.verdict(), "401/invalid_api_key", "{now:?}, alive: {alive:?}");
                assert_eq!(answer.json()["message"], words, "{now:?}, alive: {alive:?}");
                assert_eq!(
                    answer.header("www-authenticate"),
                    [r#"Bearer realm="api""#],
                    "{now:?}, alive: {alive:?}"
                );
                assert_eq!(answer.header("sunset").len(), 1, "{now:?}, alive: {alive:?}");
                let error = answer.extensions.get::<AuthError>().unwrap();
                assert_eq!(error.kind(), AuthErrorKind::SchemeEnded, "{now:?}, alive: {alive:?}");
            }
            let challenges = if alive { 3 } else { 1 };
            assert_eq!(
                send(&app, get("/", &[])).await.header("www-authenticate").len(),
                challenges,
                "{now:?}, alive: {alive:?}"
            );
            let own = get("/", &[("authorization", &bearer(&world.own))]);
            assert_eq!(send(&app, own).await.verdict(), "200:h", "{now:?}, alive: {alive:?}");
        }
    }
}

/// A 401 has a challenge even if every scheme has ended.
#[tokio::test]
async fn a_401_always_has_a_challenge() {
    let world = World::new().await;
    let verifier = ApiKeys::new(world.store.clone()).clock(ManualClock::new(SUNSET)).verifier();
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default().deprecated(deprecation()));
    let app = Router::new().fallback(echo).layer(auth);
    let answer = send(&app, get("/", &[("authorization", &bearer(&world.own))])).await;
    assert_eq!(answer.verdict(), "401/invalid_api_key");
    assert_eq!(answer.header("www-authenticate").len(), 1);
}

const HOUR: Duration = Duration::from_secs(3600);

fn days(days: u32) -> Duration {
    24 * days * HOUR
}

/// An app whose header scheme ends in thirty days, and two other schemes that do not.
fn moving(verifier: Verifier, clock: &ManualClock) -> Router {
    let ends = clock.now().saturating_add(days(30));
    let old =
        Deprecation::new(SINCE).unwrap().sunset(ends).unwrap().link("https://example.com/scheme").unwrap();
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default())
        .rotation_guide("https://example.com/rotated")
        .unwrap()
        .or(ApiKeyHeader::default().project_optional().deprecated(old))
        .or(JsonBody::default().project_optional());
    let guarded = get_route(echo).layer(RequireScope::new("never:granted"));
    let own_words = get_route(async |who: tower_api_key::Principal| who.forbidden());
    Router::new().route("/guarded", guarded).route("/own", own_words).fallback(echo).layer(auth)
}

fn ways(path: &str, key: &ApiKey) -> [(&'static str, Request<Body>); 3] {
    let body = json!({"apiKey": key.expose_secret(), "userId": "u_own"});
    [
        ("bearer", get(path, &[("authorization", &bearer(key))])),
        ("header", get(path, &[("x-api-key", key.expose_secret())])),
        ("body", post_json(path, body)),
    ]
}

/// After a rotation with a grace period, all responses to the old key say since when it is deprecated and when it
/// ends, through every scheme.
#[tokio::test]
async fn c15_14_responses_to_a_replaced_key_say_when_it_ends() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("keys.sqlite")).await.unwrap();
    sqlite.create_account("A", &user("u_own")).await.unwrap();
    for cold in [false, true] {
        let clock = ManualClock::new(SUNSET);
        let (keyring, verifier) = if cold {
            let keys = ApiKeys::new(sqlite.clone()).clock(clock.clone());
            (keys.keyring(), keys.verifier())
        } else {
            let keys = ApiKeys::new(world.store.clone()).clock(clock.clone());
            (keys.keyring(), keys.verifier())
        };
        let app = moving(verifier, &clock);
        let old = keyring.issue(NewKey::user_level(user("u_own"), "old")).await.unwrap();
        clock.advance(days(1));
        let next = keyring.rotate(old.id(), Grace::For(days(7))).await.unwrap();
        clock.advance(HOUR);
        // Replaced on July 2nd; the key ends before the scheme.
        let rotated = ("@1782950400", "Thu, 09 Jul 2026 00:00:00 GMT");
        for (path, status) in [("/", 200), ("/guarded", 403), ("/own", 403)] {
            for (way, request) in ways(path, old.key()) {
                let at = format!("{way} {path}, cold: {cold}");
                if way == "body" && path != "/" {
                    continue;
                }
                let answer = send(&app, request).await;
                assert_eq!(answer.status, status, "{at}");
                let header = way == "header";
                let since = if header { "@1767225600" } else { rotated.0 };
                assert_eq!(answer.header("deprecation"), [since], "{at}");
                assert_eq!(answer.header("sunset"), [rotated.1], "{at}");
                let guides: &[&str] = if header { &["scheme", "rotated"] } else { &["rotated"] };
                let links: Vec<_> = guides
                    .iter()
                    .flat_map(|guide| ["deprecation", "sunset"].map(|rel| (guide, rel)))
                    .map(|(guide, rel)| format!("<https://example.com/{guide}>; rel=\"{rel}\""))
                    .collect();
                assert_eq!(answer.header("link"), links, "{at}");
            }
            // Responses to its successor mention only the scheme.
            for (way, request) in ways(path, next.key()) {
                let answer = send(&app, request).await;
                let sunset = answer.header("sunset");
                let expected: &[&str] =
                    if way == "header" { &["Fri, 31 Jul 2026 00:00:00 GMT"] } else { &[] };
                assert_eq!(sunset, expected, "{way} {path}, cold: {cold}");
                assert_eq!(answer.header("deprecation").len(), expected.len(), "{way} {path}, cold: {cold}");
            }
        }
        // After the grace period the headers end, too: a 401 does not reveal that there was a key.
        clock.advance(days(7));
        for (way, request) in ways("/", old.key()) {
            let answer = send(&app, request).await;
            assert_eq!(answer.verdict(), "401/invalid_api_key", "{way}");
            assert_eq!(answer.header("deprecation").len(), usize::from(way == "header"), "{way}");
        }
        let ended = keyring.rotate(next.id(), Grace::None).await.unwrap();
        assert!(
            send(&app, get("/", &[("authorization", &bearer(next.key()))])).await.header("sunset").is_empty(),
            "{cold:?}"
        );
        keyring.revoke(ended.id()).await.unwrap();
    }
    assert!(ApiKeyAuth::new(world.store.clone(), Bearer::default()).rotation_guide("/here").is_err());
}

/// A scheme that ends before the key.
#[tokio::test]
async fn c15_14_of_two_sunsets_the_earlier_one_is_told() {
    let world = World::new().await;
    let clock = ManualClock::new(SUNSET);
    let keyring = ApiKeys::new(world.store.clone()).clock(clock.clone()).keyring();
    let app = moving(ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier(), &clock);
    let old = keyring.issue(NewKey::user_level(user("u_own"), "old")).await.unwrap();
    drop(keyring.rotate(old.id(), Grace::For(days(300))).await.unwrap());
    let answer = send(&app, get("/", &[("x-api-key", old.key().expose_secret())])).await;
    assert_eq!(answer.header("deprecation"), ["@1767225600"]);
    assert_eq!(answer.header("sunset"), ["Fri, 31 Jul 2026 00:00:00 GMT"]);
    // A key that expires before the end of the grace period still ends at its expiry.
    let end = clock.now().saturating_add(days(2));
    let short = keyring.issue(NewKey::user_level(user("u_own"), "short").expires_at(end)).await.unwrap();
    drop(keyring.rotate(short.id(), Grace::For(days(300))).await.unwrap());
    let answer = send(&app, get("/", &[("authorization", &bearer(short.key()))])).await;
    assert_eq!(answer.header("sunset"), ["Fri, 03 Jul 2026 00:00:00 GMT"]);
}
