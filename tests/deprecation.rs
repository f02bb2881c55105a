//! The way out of a scheme: what its answers say, and what happens after its sunset.

mod common;

use axum::Router;
use common::{World, bearer, echo, get, post_json, send};
use serde_json::json;
use tower_api_key::deprecation::Deprecation;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{ApiKeyAuth, AuthError, AuthErrorKind, Timestamp, Verifier};

const SINCE: Timestamp = Timestamp::from_secs(1_767_225_600);
const SUNSET: Timestamp = Timestamp::from_secs(1_782_864_000);

fn deprecation() -> Deprecation {
    let link = "https://example.com/migration";
    Deprecation::new(SINCE).unwrap().sunset(SUNSET).unwrap().link(link).unwrap()
}

/// Body and header keys are on their way out, bearer keys stay; warm, and cold.
async fn apps(world: &World, now: Timestamp) -> [Router; 2] {
    let auth = |verifier: Verifier| {
        ApiKeyAuth::with_verifier(verifier.clock(ManualClock::new(now)), Bearer::default())
            .or(ApiKeyHeader::default().deprecated(deprecation()))
            .or(JsonBody::default().deprecated(deprecation()))
    };
    let routes = || Router::new().fallback(echo);
    let cold = Verifier::new(world.counted().0);
    [routes().layer(auth(Verifier::new(world.store.clone()))), routes().layer(auth(cold))]
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
        // Who uses another scheme, or none, is not bothered.
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
                    assert_eq!(answer.verdict(), "200:h");
                    continue;
                }
                assert_eq!(answer.verdict(), "401/invalid_api_key");
                assert_eq!(answer.json()["message"], words);
                assert_eq!(answer.header("www-authenticate"), [r#"Bearer realm="api""#]);
                assert_eq!(answer.header("sunset").len(), 1);
                let error = answer.extensions.get::<AuthError>().unwrap();
                assert_eq!(error.kind(), AuthErrorKind::SchemeEnded);
            }
            let challenges = if alive { 3 } else { 1 };
            assert_eq!(send(&app, get("/", &[])).await.header("www-authenticate").len(), challenges);
            let own = get("/", &[("authorization", &bearer(&world.own))]);
            assert_eq!(send(&app, own).await.verdict(), "200:h");
        }
    }
}

/// A 401 names a challenge even where every scheme has ended.
#[tokio::test]
async fn a_401_always_has_a_challenge() {
    let world = World::new().await;
    let verifier = Verifier::new(world.store.clone()).clock(ManualClock::new(SUNSET));
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default().deprecated(deprecation()));
    let app = Router::new().fallback(echo).layer(auth);
    let answer = send(&app, get("/", &[("authorization", &bearer(&world.own))])).await;
    assert_eq!(answer.verdict(), "401/invalid_api_key");
    assert_eq!(answer.header("www-authenticate").len(), 1);
}
