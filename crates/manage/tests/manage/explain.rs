//! `POST /v1/api-keys/{id}/explain`: who may use it, and what it returns.

use axum::Router;
use http::Method;
use serde_json::{Value, json};
use tower_api_key::scheme::{ApiKeyHeader, Bearer};
use tower_api_key::{ApiKey, ApiKeyAuth, Endpoints, Keyring};
use tower_api_key_manage as manage;

use crate::bodies::slow_by;
use crate::{AT, path_of, record};
use test_kit::{Answer, World, bearer, request, send};

fn app(world: &World) -> Router {
    let endpoints = manage::declare(Endpoints::new().read(Method::POST, "/status"), AT);
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .endpoints(endpoints)
        .unwrap();
    let keyring = Keyring::new(world.store.clone());
    let keys = manage::api_keys(keyring.clone()).merge(manage::explain(keyring, auth.explainer()));
    Router::new().nest(AT, keys).layer(auth)
}

async fn ask(app: &Router, caller: &ApiKey, path: &str, body: &Value) -> Answer {
    let headers = [("authorization", &*bearer(caller)), ("content-type", "application/json")];
    send(app, request("POST", &format!("{path}/explain"), &headers, body.to_string())).await
}

#[tokio::test]
async fn support_sees_every_check_and_the_customers_own_answer() {
    let world = World::new().await;
    let app = app(&world);
    let office = world
        .key("u_own", |key| key.restrictions = r#"{"ip":{"allow":["192.0.2.0/24"]}}"#.parse().unwrap())
        .await;
    let path = path_of(&world, &office).await;
    let question = json!({"method": "POST", "route": "/status", "address": "198.51.100.1"});
    let answer = ask(&app, &world.own, &path, &question).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    let data = &answer.json()["data"];
    assert_eq!(data["accepted"], false);
    assert_eq!(data["decided_by"], "ip");
    assert_eq!(data["answer"]["status"], 403);
    assert_eq!(data["checks"].as_array().unwrap().len(), 19);
    for key in [&office, &world.own] {
        assert!(!answer.json().to_string().contains(key.expose_secret()), "{key:?}");
    }

    let inside = json!({"method": "POST", "route": "/status", "address": "192.0.2.7", "scheme": null});
    let answer = ask(&app, &world.own, &path, &inside).await;
    assert_eq!(answer.json()["data"]["accepted"], true, "{}", answer.json());
    assert_eq!(answer.json()["data"]["answer"], Value::Null);
    // An empty description leaves everything unknown.
    let answer = ask(&app, &world.own, &path, &json!({})).await;
    assert_eq!(answer.json()["data"]["decided_by"], "ip");

    // Support also asks about keys that have ended.
    let path = path_of(&world, &world.revoked).await;
    let answer = ask(&app, &world.own, &path, &json!({})).await;
    assert_eq!(answer.json()["data"]["decided_by"], "revocation");
    assert_eq!(answer.json()["data"]["answer"]["error"], "invalid_api_key");
}

#[tokio::test]
async fn c9_a_key_that_is_revoked_during_its_request_gets_no_explanation() {
    let world = World::new().await;
    let (app, path) = (app(&world), path_of(&world, &world.p1).await);
    let (body, question) = slow_by(&world.own, "POST", &format!("{path}/explain"));
    let pending = tokio::spawn(async move { send(&app, question).await.verdict() });
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let id = record(&world, &world.own).await.id;
    Keyring::new(world.store.clone()).revoke(&id).await.unwrap();
    body.send("{}".into()).unwrap();
    assert_eq!(pending.await.unwrap(), "401/invalid_api_key");
}

#[tokio::test]
async fn c11_explaining_a_key_needs_the_right_to_manage_it() {
    let world = World::new().await;
    let app = app(&world);
    let scoped = world.key("u_own", |key| key.scopes.extend(["a".to_owned()])).await;
    let keys = [&world.own, &world.p1, &world.ro, &world.full, &world.b, &world.test, &world.stray, &scoped];
    for (caller, status, error, keys) in [
        // Only their own keys, and only keys with at most their rights.
        (&world.own, 200, Value::Null, vec![&world.own, &world.p1]),
        (&world.own, 403, "forbidden".into(), vec![&scoped]),
        (&scoped, 200, Value::Null, vec![&scoped, &world.own]),
        (&world.full, 200, Value::Null, vec![&world.full]),
        // Nobody learns that keys of others, or of the other environment, exist.
        (&world.own, 404, "key_not_found".into(), vec![&world.full, &world.b, &world.test, &world.stray]),
        (&world.full, 404, "key_not_found".into(), vec![&world.own]),
        // Callers who may not manage keys.
        (&world.p1, 403, "forbidden".into(), keys.to_vec()),
        (&world.ro, 403, "read_only".into(), keys.to_vec()),
    ] {
        for key in keys {
            let answer = ask(&app, caller, &path_of(&world, key).await, &json!({})).await;
            let of = record(&world, key).await.owner;
            assert_eq!(answer.status, status, "a key of {of}: {}", answer.json());
            assert_eq!(answer.json()["error"], error, "a key of {of}");
        }
    }
    for id in ["key_none", "no id", "%00"] {
        let answer = ask(&app, &world.own, &format!("{AT}/{}", id.replace(' ', "%20")), &json!({})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (404, &json!("key_not_found")), "{id}");
    }
}

#[tokio::test]
async fn an_invalid_description_is_refused_with_the_rule() {
    let world = World::new().await;
    let app = app(&world);
    let path = path_of(&world, &world.own).await;
    for (body, status, error) in [
        (json!({"address": "somewhere"}), 422, "invalid_address"),
        (json!({"method": "GET /"}), 422, "invalid_method"),
        (json!({"route": "/a", "path": "/a"}), 422, "invalid_route"),
        (json!({"scheme": "cookie"}), 422, "invalid_scheme"),
        (json!({"proto": "gopher"}), 422, "invalid_proto"),
        (json!({"key": "x"}), 422, "unknown_field"),
        (json!({"method": 1}), 422, "invalid_method"),
        (json!({"user_id": []}), 422, "invalid_user_id"),
        (json!(["GET"]), 400, "malformed_body"),
    ] {
        let answer = ask(&app, &world.own, &path, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].as_str()),
            (status, Some(error)),
            "{body}"
        );
    }
    let headers = [("authorization", &*bearer(&world.own)), ("content-type", "application/json")];
    let twice = r#"{"method": "GET", "method": "POST"}"#;
    let answer = send(&app, request("POST", &format!("{path}/explain"), &headers, twice)).await;
    assert_eq!(answer.json()["error"], "malformed_body");
}

#[tokio::test]
async fn c6_a_client_gets_the_words_of_its_own_scheme() {
    let world = World::new().await;
    let app = app(&world);
    let path = path_of(&world, &world.own).await;
    for (scheme, project, message) in [
        ("bearer", None, "API key doesn't have permission for this resource"),
        ("api-key-header", Some("nowhere"), "Insufficient permissions"),
        ("api-key-header", None, "X-Project-ID header is required"),
    ] {
        let question =
            json!({"scheme": scheme, "project_id": project.or((scheme == "bearer").then_some("nowhere"))});
        let answer = ask(&app, &world.own, &path, &question).await;
        assert_eq!(answer.json()["data"]["answer"]["message"], message, "{scheme}");
    }
}
