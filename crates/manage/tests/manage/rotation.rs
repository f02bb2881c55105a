//! A request to rotate a key, with and without a grace period (R31).

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::json;
use tower_api_key::test_util::ManualClock;
use tower_api_key::{ApiKey, KeyPolicy, Keyring, Timestamp};

use crate::{app, call, path_of, record, rows};
use test_kit::{Answer, World, bearer, get, request, send};
use tower_api_key::ApiKeys;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The routes of a keyring with a clock that the test sets.
async fn world() -> (World, Keyring, Router) {
    let world = World::new().await;
    let keyring = ApiKeys::new(world.store.clone()).clock(ManualClock::new(START)).keyring();
    let app = app(&world, keyring.clone());
    (world, keyring, app)
}

fn rotation(caller: &ApiKey, path: &str, body: impl Into<Body>) -> Request<Body> {
    let headers = [("authorization", &*bearer(caller)), ("content-type", "application/json")];
    request("POST", &format!("{path}/rotate"), &headers, body)
}

async fn works(app: &Router, key: &str) -> bool {
    send(app, get("/validate", &[("authorization", &format!("Bearer {key}"))])).await.status == 200
}

fn new_key(answer: &Answer) -> String {
    answer.json()["data"]["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn c17_d1_a_grace_that_is_asked_for_is_given() {
    let day = 24 * 60 * 60;
    for (grace, seconds) in
        [("7d", 7 * day), ("1s", 1), ("90d", 90 * day), ("2160h", 90 * day), ("30min", 1800)]
    {
        let (world, keyring, app) = world().await;
        let path = path_of(&world, &world.p1).await;
        let answer = send(&app, rotation(&world.own, &path, json!({"grace": grace}).to_string())).await;
        assert_eq!(answer.status, 201, "{grace}: {}", answer.verdict());
        let old = keyring.get(&record(&world, &world.p1).await.id).await.unwrap().unwrap();
        assert_eq!(old.expires_at, Some(START.saturating_add(Duration::from_secs(seconds))), "{grace}");
        assert_eq!((old.revoked_at, old.replaced_at), (None, Some(START)), "{grace}");
        assert_eq!(old.replaced_by.unwrap().as_str(), answer.json()["data"]["id"], "{grace}");
        assert_eq!(answer.json()["data"]["expires_at"], json!(null), "the new one has no end");
        assert!(works(&app, &new_key(&answer)).await, "{grace}");
        // The layer's clock is before the end of the grace period.
        assert!(works(&app, world.p1.expose_secret()).await, "{grace}");
        let shown = call(&app, "GET", &path, &world.own).await.json()["data"].clone();
        assert_eq!(shown["replaced_by"], answer.json()["data"]["id"], "grace: {grace:?}, {seconds:?}");
    }
}

#[tokio::test]
async fn c17_d1_without_a_grace_the_old_key_is_dead_at_once() {
    // An empty stream: only its end shows that the body is empty.
    let in_pieces = || Body::new(test_kit::Pieces::new(Vec::<&'static [u8]>::new(), true));
    let bare = |world: &World, path: &str, body: Body| {
        request("POST", &format!("{path}/rotate"), &[("authorization", &bearer(&world.own))], body)
    };
    for n in 0..9 {
        let (world, _, app) = world().await;
        let path = path_of(&world, &world.p1).await;
        let typed = |body: &'static str| rotation(&world.own, &path, body);
        let asked = match n {
            0 => bare(&world, &path, Body::empty()),
            1 => bare(&world, &path, Body::from("")),
            2 => bare(&world, &path, in_pieces()),
            3 => rotation(&world.own, &path, in_pieces()),
            4 => typed(""),
            5 => typed("{}"),
            6 => typed(r#"{"grace":null}"#),
            7 => typed(" { } "),
            _ => request(
                "POST",
                &format!("{path}/rotate"),
                &[("authorization", &bearer(&world.own)), ("content-type", "text/plain")],
                in_pieces(),
            ),
        };
        let answer = send(&app, asked).await;
        assert_eq!(answer.status, 201, "{n}: {}", answer.verdict());
        assert!(!works(&app, world.p1.expose_secret()).await, "{n}");
        assert!(works(&app, &new_key(&answer)).await, "{n}");
    }
}

#[tokio::test]
async fn c17_d1_an_invalid_grace_is_refused_and_nothing_changes() {
    let (world, _, app) = world().await;
    let path = path_of(&world, &world.p1).await;
    let before = rows(&world).await;
    for (body, verdict) in [
        ("not json", "400/malformed_body"),
        ("7d", "400/malformed_body"),
        ("[]", "400/malformed_body"),
        ("null", "400/malformed_body"),
        ("\"7d\"", "400/malformed_body"),
        (r#"{"grace":"7d","grace":"7d"}"#, "400/malformed_body"),
        (r#"{"grace":"7d"}x"#, "400/malformed_body"),
        (" ", "400/malformed_body"),
        (r#"{"name":"x"}"#, "422/unknown_field"),
        (r#"{"grace":"7d","name":"x"}"#, "422/unknown_field"),
        (r#"{"Grace":"7d"}"#, "422/unknown_field"),
        (r#"{"grace":"7"}"#, "422/invalid_grace"),
        (r#"{"grace":""}"#, "422/invalid_grace"),
        (r#"{"grace":"d"}"#, "422/invalid_grace"),
        (r#"{"grace":"0s"}"#, "422/invalid_grace"),
        (r#"{"grace":"0d"}"#, "422/invalid_grace"),
        (r#"{"grace":"91d"}"#, "422/invalid_grace"),
        (r#"{"grace":"7776001s"}"#, "422/invalid_grace"),
        (r#"{"grace":"99999999999999999999d"}"#, "422/invalid_grace"),
        (r#"{"grace":7}"#, "422/invalid_grace"),
        (r#"{"grace":["7d"]}"#, "422/invalid_grace"),
        (r#"{"grace":true}"#, "422/invalid_grace"),
        (r#"{"grace":"1.5h"}"#, "422/invalid_grace"),
        (r#"{"grace":"-7d"}"#, "422/invalid_grace"),
        (r#"{"grace":"+7d"}"#, "422/invalid_grace"),
        (r#"{"grace":"7 d"}"#, "422/invalid_grace"),
        (r#"{"grace":" 7d"}"#, "422/invalid_grace"),
        (r#"{"grace":"7D"}"#, "422/invalid_grace"),
        (r#"{"grace":"1w"}"#, "422/invalid_grace"),
    ] {
        let answer = send(&app, rotation(&world.own, &path, body)).await;
        assert_eq!(answer.verdict(), verdict, "{body}");
    }
    let typed = [("authorization", &*bearer(&world.own)), ("content-type", "text/plain")];
    let plain = request("POST", &format!("{path}/rotate"), &typed, r#"{"grace":"7d"}"#);
    assert_eq!(send(&app, plain).await.verdict(), "415/unsupported_media_type");
    assert_eq!(rows(&world).await, before);
    assert!(works(&app, world.p1.expose_secret()).await);
}

#[tokio::test]
async fn c17_d1_a_policy_of_one_key_allows_no_grace() {
    let world = World::new().await;
    let policy = |grace| Keyring::new(world.store.clone()).policy(KeyPolicy::Single { grace });
    let path = path_of(&world, &world.b).await;
    let before = rows(&world).await;
    let ask = async |grace| {
        let app = app(&world, policy(grace));
        send(&app, rotation(&world.b, &path, r#"{"grace":"7d"}"#)).await
    };
    assert_eq!(ask(false).await.verdict(), "422/invalid_grace");
    assert_eq!(rows(&world).await, before);
    assert_eq!(ask(true).await.status, 201);
}
