//! The holder of a key can revoke it (R42).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tower_api_key::client_addr::{ClientAddr, PeerAddr};
use tower_api_key::delivery::NoticeKind;
use tower_api_key::limit::KeyThrottle;
use tower_api_key::scheme::Bearer;
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKey, ApiKeyAuth, Endpoints, Environment, Grace, KeyFormat, Keyring, NewKey, Timestamp, Verifier,
};
use tower_api_key_manage as manage;

use crate::{Down, Told, record};
use test_kit::{Answer, Counted, World, bearer, echo, post_json, request, send, user};
use tower_api_key::ApiKeys;

const AT: &str = "/v1/api-keys/self-revoke";

/// The route as in the documentation, beside the others.
fn app(world: &World, keyring: Keyring, verifier: Verifier) -> Router {
    let self_revoke = manage::self_revoke(keyring.clone(), verifier, ClientAddr::peer());
    let endpoints = manage::declare(Endpoints::new(), "/v1/api-keys").public(Method::POST, AT);
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints).unwrap();
    Router::new()
        .route(AT, self_revoke)
        .nest("/v1/api-keys", manage::api_keys(keyring))
        .route("/echo", axum::routing::get(echo))
        .layer(auth)
}

async fn world() -> (World, Told, Router) {
    let (world, told) = (World::new().await, Told::default());
    let keyring = Keyring::new(world.store.clone()).deliver(told.clone());
    let verifier = Verifier::new(world.store.clone());
    let app = app(&world, keyring, verifier);
    (world, told, app)
}

fn by_header(key: &str) -> Request<Body> {
    request("POST", AT, &[("authorization", &format!("Bearer {key}"))], "")
}

fn by_body(key: &str) -> Request<Body> {
    post_json(AT, json!({"apiKey": key}))
}

async fn works(app: &Router, key: &ApiKey) -> bool {
    send(app, request("GET", "/echo", &[("authorization", &bearer(key))], "")).await.status == 200
}

/// Everything that a client sees of a response.
fn seen(answer: &Answer) -> String {
    format!("{} {:?} {}", answer.status, answer.headers, String::from_utf8_lossy(&answer.body))
}

#[tokio::test]
async fn r42_a_key_ends_by_itself_and_the_answer_is_always_the_same() {
    let (world, told, app) = world().await;
    let unknown = KeyFormat::default().generate(Environment::Live).unwrap();
    let mut answers = Vec::new();
    for (key, told_of) in [
        (&world.own, true),
        (&world.own, false),
        (&world.ro, true),
        (&world.p1, true),
        (&world.test, true),
        (&world.stray, true),
        (&world.revoked, false),
        (&world.expired, false),
        (&unknown, false),
    ] {
        answers.push(seen(&send(&app, by_header(key.expose_secret())).await));
        answers.push(seen(&send(&app, by_body(key.expose_secret())).await));
        assert!(!works(&app, key).await, "{key:?}, {told_of:?}");
        let expected: Vec<_> = match told_of {
            true => vec![(NoticeKind::SelfRevoked, record(&world, key).await.id.to_string())],
            false => Vec::new(),
        };
        assert_eq!(told.take(), expected, "{key:?}, {told_of:?}");
    }
    assert!(answers[0].starts_with("200 OK") && answers[0].contains("no-store"), "{}", answers[0]);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(works(&app, &world.full).await, "others live on");
    // An expired key is also revoked, so that it does not work again if the clock jumps back.
    assert!(record(&world, &world.expired).await.revoked_at.is_some());
    for key in [&world.own, &world.expired] {
        let id = record(&world, key).await.id;
        let trail = Keyring::new(world.store.clone()).history(&id, 1).await.unwrap();
        assert_eq!(
            (trail[0].event.to_string(), &*trail[0].by),
            ("revoked:by_secret".to_owned(), &*format!("key:{id}")),
            "{key:?}"
        );
    }
}

#[tokio::test]
async fn r42_a_key_in_a_rotations_grace_ends_and_its_successor_lives() {
    let (world, told, app) = world().await;
    let keyring = Keyring::new(world.store.clone());
    let old = keyring.issue(NewKey::user_level(user("u_own"), "a")).await.unwrap();
    let new = keyring.rotate(old.id(), Grace::For(Duration::from_secs(600))).await.unwrap();
    assert!(works(&app, old.key()).await && works(&app, new.key()).await);
    assert_eq!(send(&app, by_header(old.key().expose_secret())).await.status, 200);
    assert!(!works(&app, old.key()).await && works(&app, new.key()).await);
    assert_eq!(told.take(), [(NoticeKind::SelfRevoked, old.id().to_string())]);
}

#[tokio::test]
async fn r42_no_key_or_two_keys_are_refused_and_nothing_is_revoked() {
    let (world, told, app) = world().await;
    let key = world.own.expose_secret();
    let line = bearer(&world.own);
    let twice = [("authorization", &*line), ("authorization", &*line)];
    let json = [("content-type", "application/json")];
    for (request, verdict) in [
        (request("POST", AT, &[], ""), "401/missing_api_key"),
        (request("POST", AT, &[("authorization", "Basic abc")], ""), "401/missing_api_key"),
        (request("POST", AT, &[("x-api-key", key)], ""), "401/missing_api_key"),
        (request("POST", &format!("{AT}?apiKey={key}"), &[], ""), "401/missing_api_key"),
        (request("POST", AT, &twice, ""), "400/conflicting_credentials"),
        (request("POST", AT, &json, "{}"), "401/missing_api_key"),
        (request("POST", AT, &json, "["), "400/malformed_body"),
        (request("POST", AT, &json, format!(r#"["{key}"]"#)), "400/malformed_body"),
        (request("POST", AT, &json, format!(r#"{{"apiKey":"{key}","apiKey":"x"}}"#)), "400/malformed_body"),
        (
            request("POST", AT, &json, format!(r#"{{"apiKey":"{}"}}"#, "x".repeat(20_000))),
            "413/body_too_large",
        ),
    ] {
        let answer = send(&app, request).await;
        assert_eq!(answer.verdict(), verdict);
        assert_eq!(answer.header("cache-control"), ["no-store"]);
        let challenges = if verdict.starts_with("401") { 2 } else { answer.header("www-authenticate").len() };
        assert_eq!(answer.header("www-authenticate").len(), challenges, "{verdict}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&key[8..20]));
    }
    assert!(works(&app, &world.own).await && told.take().is_empty());
}

#[tokio::test]
async fn r42_every_attempt_counts_for_the_budget_of_self_revoke_whatever_it_finds() {
    let world = World::new().await;
    let clock = ManualClock::new(Timestamp::from_secs(1000));
    let limit = KeyThrottle::default().self_revokes("3/min".parse().unwrap());
    let from = |mut request: Request<Body>, last: u8| {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        request.extensions_mut().insert(PeerAddr(address));
        request
    };
    let text = |key: &ApiKey| key.expose_secret().to_owned();
    let unknown = || text(&KeyFormat::default().generate(Environment::Live).unwrap());
    let verifier = ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier().throttle(limit);
    let app = app(&world, Keyring::new(world.store.clone()), verifier);
    // One client sends guesses, the other sends its own three keys: both get the same responses.
    for (client, keys) in
        [(1, [unknown(), unknown(), unknown()]), (2, [&world.own, &world.full, &world.ro].map(text))]
    {
        for key in &keys {
            assert_eq!(send(&app, from(by_header(key), client)).await.status, 200, "{client:?}, {keys:?}");
        }
        // A text that cannot be a key is not counted.
        assert_eq!(
            send(&app, from(by_header("garbage"), client)).await.verdict(),
            "400/not_a_key",
            "{client:?}, {keys:?}"
        );
        for key in [text(&world.b), unknown()] {
            let answer = send(&app, from(by_body(&key), client)).await;
            assert_eq!(answer.verdict(), "429/rate_limited", "{client:?}, {keys:?}, {key:?}");
            assert_eq!(answer.header("retry-after"), ["20"], "{client:?}, {keys:?}, {key:?}");
        }
    }
    assert!(works(&app, &world.b).await);
    clock.advance(Duration::from_secs(20));
    assert_eq!(send(&app, from(by_header(world.b.expose_secret()), 1)).await.status, 200);
    assert!(!works(&app, &world.b).await);
}

/// The layer and this route have separate budgets, and keys in use are not counted.
#[tokio::test]
async fn c17_a5_self_revoke_works_whatever_else_its_address_sends() {
    let world = World::new().await;
    let clock = ManualClock::new(Timestamp::from_secs(1000));
    let once = || "1/d".parse().unwrap();
    let throttle = KeyThrottle::default().repeats(once()).lookups(once()).self_revokes(once());
    let (counted, _) = world.counted();
    let verifier = ApiKeys::new(counted).clock(clock).verifier().throttle(throttle);
    let keyring = Keyring::new(world.store.clone());
    let self_revoke = manage::self_revoke(keyring, verifier.clone(), ClientAddr::peer());
    let endpoints = Endpoints::new().public(Method::POST, AT);
    let app = Router::new()
        .route(AT, self_revoke)
        .route("/echo", axum::routing::get(echo))
        .layer(ApiKeyAuth::with_verifier(verifier, Bearer::default()).endpoints(endpoints).unwrap());
    let from = |mut request: Request<Body>| {
        request.extensions_mut().insert(PeerAddr(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
        request
    };
    let use_it = |key: &ApiKey| from(request("GET", "/echo", &[("authorization", &bearer(key))], ""));
    let unknown = || KeyFormat::default().generate(Environment::Live).unwrap();
    assert_eq!(send(&app, use_it(&world.own)).await.status, 200);
    // The layer's budget of look-ups is used up; this route still works.
    assert_eq!(send(&app, use_it(&unknown())).await.status, 401);
    assert_eq!(send(&app, use_it(&world.full)).await.status, 429);
    assert_eq!(send(&app, from(by_header(world.full.expose_secret()))).await.status, 200);
    assert!(record(&world, &world.full).await.revoked_at.is_some());
    // Now this route's budget is used up, too: a key that was not used recently must wait, and a key in use is still
    // revoked.
    let waits = send(&app, from(by_header(world.ro.expose_secret()))).await;
    assert_eq!(waits.verdict(), "429/rate_limited");
    assert!(record(&world, &world.ro).await.revoked_at.is_none());
    assert_eq!(send(&app, from(by_header(world.own.expose_secret()))).await.status, 200);
    assert!(record(&world, &world.own).await.revoked_at.is_some());
    // The revoked key is refused, although it was accepted before.
    assert_ne!(send(&app, use_it(&world.own)).await.status, 200);
}

#[tokio::test]
async fn r42_a_failing_store_is_a_503_and_never_a_success() {
    let world = World::new().await;
    let verifier = Verifier::new((Down, world.store.clone()));
    let app = app(&world, Keyring::new(world.store.clone()), verifier);
    let answer = send(&app, by_header(world.own.expose_secret())).await;
    assert_eq!(answer.verdict(), "503/auth_unavailable");
    assert_eq!(answer.header("retry-after"), ["1"]);
    assert!(works(&app, &world.own).await);
    // A keyring on another store finds no key to revoke: that is not a success either.
    let verifier = Verifier::new(world.store.clone());
    let elsewhere = Keyring::new(tower_api_key::store::MemoryStore::new());
    let app = self::app(&world, elsewhere, verifier);
    assert_eq!(send(&app, by_header(world.own.expose_secret())).await.verdict(), "503/auth_unavailable");
}

/// If the response mentions a key, that key has been revoked.
#[tokio::test]
async fn c17_d3_a_key_is_found_within_other_text() {
    type Around = fn(&str) -> String;
    let in_body: [Around; 18] = [
        |key| format!("{key}\n"),
        |key| format!("\r\n {key}\t"),
        |key| format!("Bearer {key}"),
        |key| format!("Authorization: Bearer {key}"),
        |key| format!("bearer  Bearer {key}"),
        |key| format!("\"{key}\""),
        |key| format!("'{key}'"),
        |key| format!("\u{201c}{key}\u{201d}"),
        |key| format!("{key},"),
        |key| format!("{key}."),
        |key| format!("{key};"),
        |key| format!("<{key}>"),
        |key| format!("API_KEY={key}"),
        |key| format!("https://example.com/?key={key}&x=1"),
        |key| format!("{{\"apiKey\":\"{key}\"}}"),
        |key| format!("{key}\\n"),
        |key| format!("\u{feff}{key}\u{200b}"),
        |key| format!("my key is {key} and it leaked"),
    ];
    for (n, around) in in_body.into_iter().enumerate() {
        let (world, told, app) = world().await;
        let answer = send(&app, by_body(&around(world.own.expose_secret()))).await;
        assert_eq!(answer.status, 200, "{n}: {}", answer.verdict());
        assert!(!works(&app, &world.own).await, "{n}");
        assert_eq!(told.take().len(), 1, "{n}");
        assert!(works(&app, &world.full).await);
    }
    let in_header: [Around; 8] = [
        |key| format!("Bearer {key} "),
        |key| format!("Bearer Bearer {key}"),
        |key| format!("Bearer \"{key}\""),
        |key| format!("Bearer {key},"),
        |key| format!("bearer\t{key}"),
        |key| format!("Bearer <{key}>"),
        |key| format!("Bearer {key};"),
        |key| format!("Bearer apiKey={key}"),
    ];
    for (n, around) in in_header.into_iter().enumerate() {
        let (world, _, app) = world().await;
        let line = around(world.own.expose_secret());
        let answer = send(&app, request("POST", AT, &[("authorization", &line)], "")).await;
        assert_eq!(answer.status, 200, "{n}: {}", answer.verdict());
        assert!(!works(&app, &world.own).await, "{n}");
    }
}

#[tokio::test]
async fn c17_d3_every_key_that_is_sent_is_ended() {
    let (world, told, app) = world().await;
    let both = format!("{}, {}", world.own.expose_secret(), world.ro.expose_secret());
    assert_eq!(send(&app, by_body(&both)).await.status, 200);
    assert!(!works(&app, &world.own).await && !works(&app, &world.ro).await);
    // One key in the header, and another in the body.
    let line = bearer(&world.full);
    let headers = [("authorization", &*line), ("content-type", "application/json")];
    let body = json!({"apiKey": world.b.expose_secret()}).to_string();
    assert_eq!(send(&app, request("POST", AT, &headers, body)).await.status, 200);
    assert!(!works(&app, &world.full).await && !works(&app, &world.b).await);
    assert_eq!(told.take().len(), 4);
    // If there is a key in the header, the body may contain none.
    let line = bearer(&world.p1);
    for body in ["[", "{}", "", r#"{"apiKey":"garbage"}"#] {
        let headers = [("authorization", &*line), ("content-type", "application/json")];
        assert_eq!(send(&app, request("POST", AT, &headers, body)).await.status, 200, "{body}");
    }
    assert!(!works(&app, &world.p1).await);
}

#[tokio::test]
async fn c17_d3_a_text_without_a_possible_key_is_a_400() {
    let (world, told, app) = world().await;
    let key = world.own.expose_secret();
    let (cut, longer, split) = (&key[..key.len() - 1], format!("{key}x"), key.replace('_', " "));
    let texts =
        ["garbage", "sk_live_garbage", &"x".repeat(600), "a b", cut, &longer, &split, "Bearer", "\u{200b}"];
    let mut answers = Vec::new();
    for text in texts {
        let answer = send(&app, by_body(text)).await;
        assert_eq!(answer.verdict(), "400/not_a_key", "{text}");
        answers.push(seen(&answer));
    }
    for line in ["Bearer garbage", "Bearer a b", "Bearer", "Bearer \"\"", &format!("Bearer {cut}")] {
        let answer = send(&app, request("POST", AT, &[("authorization", line)], "")).await;
        assert_eq!(answer.verdict(), "400/not_a_key", "{line}");
        answers.push(seen(&answer));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(answers[0].contains("no-store") && works(&app, &world.own).await && told.take().is_empty());
}

/// A long text is searched for a limited number of keys; beyond that, the response claims nothing.
#[tokio::test]
async fn c17_d3_a_text_is_searched_for_a_limited_number_of_keys() {
    let world = World::new().await;
    let (counted, calls) = world.counted();
    let app = app(&world, Keyring::new(world.store.clone()), Verifier::new::<Counted>(counted));
    let unknown = || KeyFormat::default().generate(Environment::Live).unwrap().expose_secret().to_owned();
    let many = |count: usize| (0..count).map(|_| unknown()).collect::<Vec<_>>().join(",");
    for (count, asked, verdict) in [(16, 16, "200/-"), (17, 16, "400/not_a_key"), (200, 16, "400/not_a_key")]
    {
        let before = calls.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(send(&app, by_body(&many(count))).await.verdict(), verdict, "{count}");
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst) - before, asked, "{count}");
    }
}
