//! Restrictions of new keys, and which other keys a restricted key may manage (R56, C4-11, C11-02).

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower_api_key::client_addr::PeerAddr;
use tower_api_key::store::KeyStore as _;
use tower_api_key::{ApiKey, KeyDigest};

use crate::{AT, path_of, record, rows, world};
use test_kit::{Answer, World, bearer, request, send};

const INSIDE: &str = "192.0.2.7";
const OUTSIDE: &str = "198.51.100.1";

fn inside() -> Value {
    json!({"ip": {"allow": ["192.0.2.0/24"]}})
}

async fn restricted(world: &World, restrictions: &Value) -> ApiKey {
    let restrictions = restrictions.to_string().parse().unwrap();
    world.key("u_own", |key| key.restrictions = restrictions).await
}

/// Sends a request from an address.
async fn from(app: &axum::Router, peer: &str, mut request: Request<Body>) -> Answer {
    request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
    send(app, request).await
}

fn call(method: &str, path: &str, key: &str) -> Request<Body> {
    request(method, path, &[("authorization", &format!("Bearer {key}"))], "")
}

fn create(key: &ApiKey, body: &str) -> Request<Body> {
    let headers = [("authorization", &*bearer(key)), ("content-type", "application/json")];
    request("POST", AT, &headers, body.to_owned())
}

#[tokio::test]
async fn r56_restrictions_are_asked_for_and_enforced_afterwards() {
    let (world, app) = world().await;
    for (restrictions, good, bad) in [
        (inside(), INSIDE, OUTSIDE),
        (json!({"ip": {"mode": "enforce", "allow": ["198.51.100.1"]}}), OUTSIDE, INSIDE),
    ] {
        let body = json!({"name": "narrow", "restrictions": restrictions}).to_string();
        let answer = send(&app, create(&world.own, &body)).await;
        assert_eq!(answer.status, 201, "{}", answer.verdict());
        let key = answer.json()["data"]["key"].as_str().unwrap().to_owned();
        assert_eq!(
            from(&app, good, call("GET", "/validate", &key)).await.status,
            200,
            "{restrictions:?}, {good:?}, {bad:?}"
        );
        assert_eq!(
            from(&app, bad, call("GET", "/validate", &key)).await.verdict(),
            "403/restricted",
            "{restrictions:?}, {good:?}, {bad:?}"
        );
        assert_eq!(
            send(&app, call("GET", "/validate", &key)).await.verdict(),
            "403/restricted",
            "{restrictions:?}, {good:?}, {bad:?}"
        );
        let got = world.store.find(&KeyDigest::of(&key)).await.unwrap().unwrap();
        assert_eq!(
            got.restrictions,
            restrictions.to_string().parse().unwrap(),
            "{restrictions:?}, {good:?}, {bad:?}"
        );
    }
    // Missing, `null` and empty restrictions mean the same.
    for body in
        [r#"{"name":"x"}"#, r#"{"name":"x","restrictions":null}"#, r#"{"name":"x","restrictions":{}}"#]
    {
        let answer = send(&app, create(&world.own, body)).await;
        let key = answer.json()["data"]["key"].as_str().unwrap().to_owned();
        assert_eq!(send(&app, call("GET", "/validate", &key)).await.status, 200, "{body}");
    }
}

#[tokio::test]
async fn c4_11_invalid_restrictions_are_refused_with_the_reason() {
    let (world, app) = world().await;
    let before = rows(&world).await;
    let ip = |entry: &str| json!({"ip": {"allow": [entry]}});
    let endpoint = |entry: &str| json!({"endpoints": {"allow": [entry]}});
    let referrer = |entry: &str| json!({"referrer": {"allow": [entry]}});
    for (restrictions, reason) in [
        (ip("192.0.2.7/24"), "write 192.0.2.0/24 for the network"),
        (ip("010.0.0.0/8"), "without leading zeros"),
        (ip("1.2.3.0/33"), "0 to 32"),
        (ip("10.0.0.0/08"), "0 to 32"),
        (json!({"ip": {"allow": ["::1", "::1/128"]}}), "listed twice"),
        (endpoint("GET /v1/.*"), "no regular expression"),
        (endpoint("GET /*"), "parameters are written {name}"),
        (endpoint(""), "an endpoint is a method and a route"),
        (json!({"endpoints": {"allow": ["GET /a", "GET /a"]}}), "listed twice"),
        (referrer("*"), "https://"),
        (referrer("https://good.*"), "* stands only in front"),
        (referrer("https://user@good.example"), "leave the user"),
        (json!({"ip": ["::1"]}), "restrictions are written"),
        (json!({"ip": {"allow": "::1"}}), "restrictions are written"),
        (json!({"ip": {}}), "restrictions are written"),
        (json!({"ip": null}), "restrictions are written"),
        (json!({"ips": {"allow": ["::1"]}}), "restrictions are written"),
        (json!({"ip": {"allow": [], "origin": true}}), "restrictions are written"),
        (json!({"ip": {"allow": [], "mode": "off"}}), "restrictions are written"),
        (json!([]), "restrictions are written"),
        (json!("{}"), "restrictions are written"),
        (json!(false), "restrictions are written"),
    ] {
        let body = json!({"name": "x", "restrictions": restrictions}).to_string();
        let answer = send(&app, create(&world.own, &body)).await;
        assert_eq!(answer.verdict(), "422/invalid_restrictions", "{body}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason), "{body}: {message}");
        assert_eq!(answer.header("cache-control"), ["no-store"], "{restrictions:?}, {reason:?}");
    }
    // A duplicate member is refused, because parsers disagree about it.
    for (body, verdict) in [
        (r#"{"name":"x","restrictions":{},"restrictions":{"ip":{"allow":[]}}}"#, "400/malformed_body"),
        (r#"{"name":"x","restrictions":null,"restrictions":null}"#, "400/malformed_body"),
        (
            r#"{"name":"x","restrictions":{"ip":{"allow":[]},"ip":{"allow":["::/0"]}}}"#,
            "422/invalid_restrictions",
        ),
        (r#"{"name":"x","restrictions":{"ip":{"allow":[],"allow":["::/0"]}}}"#, "422/invalid_restrictions"),
        (r#"{"name":"x","restrictions":{"ip":{"allow":[}}}"#, "400/malformed_body"),
    ] {
        assert_eq!(send(&app, create(&world.own, body)).await.verdict(), verdict, "{body}");
    }
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn c11_02_a_restricted_key_passes_its_own_restrictions_on_and_no_others() {
    let (world, app) = world().await;
    let caller = restricted(&world, &inside()).await;
    let own = record(&world, &caller).await.restrictions;
    for asked in [
        None,
        Some(Value::Null),
        Some(inside()),
        Some(json!({"ip": {"mode": "enforce", "allow": ["192.0.2.0/24"]}})),
    ] {
        let mut body = json!({"name": "x"});
        if let Some(asked) = asked {
            body["restrictions"] = asked;
        }
        let answer = from(&app, INSIDE, create(&caller, &body.to_string())).await;
        assert_eq!(answer.status, 201, "{body}: {}", answer.verdict());
        let digest = KeyDigest::of(answer.json()["data"]["key"].as_str().unwrap());
        assert_eq!(world.store.find(&digest).await.unwrap().unwrap().restrictions, own, "{body}");
    }
    let before = rows(&world).await;
    for asked in [
        json!({}),
        json!({"ip": {"allow": ["0.0.0.0/0", "::/0"]}}),
        json!({"ip": {"allow": ["192.0.2.0/24", "198.51.100.1"]}}),
        json!({"ip": {"mode": "observe", "allow": ["192.0.2.0/24"]}}),
        json!({"referrer": {"allow": ["https://good.example"]}}),
        json!({"endpoints": {"allow": ["GET /validate"]}}),
    ] {
        let body = json!({"name": "x", "restrictions": asked}).to_string();
        let answer = from(&app, INSIDE, create(&caller, &body)).await;
        assert_eq!(answer.verdict(), "403/forbidden", "{body}");
    }
    assert_eq!(from(&app, OUTSIDE, create(&caller, r#"{"name":"x"}"#)).await.verdict(), "403/restricted");
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn c11_02_a_restricted_key_rotates_and_revokes_its_like_alone() {
    let (world, app) = world().await;
    let other = json!({"ip": {"allow": ["192.0.2.0/24", "198.51.100.1"]}});
    let observing = json!({"ip": {"mode": "observe", "allow": ["192.0.2.0/24"]}});
    let all = [json!({}), inside(), other, observing];
    for own in &all {
        let caller = restricted(&world, own).await;
        for target in &all {
            let covered = *own == json!({}) || own == target;
            let (one, two) = (restricted(&world, target).await, restricted(&world, target).await);
            let rotate = format!("{}/rotate", path_of(&world, &one).await);
            let rotated = from(&app, INSIDE, call("POST", &rotate, caller.expose_secret())).await;
            let revoke = path_of(&world, &two).await;
            let revoked = from(&app, INSIDE, call("DELETE", &revoke, caller.expose_secret())).await;
            if covered {
                assert_eq!((rotated.status.as_u16(), revoked.status.as_u16()), (201, 200), "{own} {target}");
                let successor = KeyDigest::of(rotated.json()["data"]["key"].as_str().unwrap());
                let successor = world.store.find(&successor).await.unwrap().unwrap();
                assert_eq!(successor.restrictions, target.to_string().parse().unwrap());
            } else {
                for answer in [rotated, revoked] {
                    assert_eq!(answer.verdict(), "403/forbidden", "{own} {target}");
                }
                for key in [one, two] {
                    assert_eq!(record(&world, &key).await.revoked_at, None, "{own} {target}");
                }
            }
        }
        // A key may always revoke itself.
        let path = path_of(&world, &caller).await;
        assert_eq!(from(&app, INSIDE, call("DELETE", &path, caller.expose_secret())).await.status, 200);
    }
}

/// A limited key creates no key and replaces only itself, because another key would have its own limit.
#[tokio::test]
async fn c11_02_a_limited_key_does_not_make_its_way_out_of_its_limits() {
    let (world, app) = world().await;
    let limited = world.key("u_own", |key| key.limits = Some("100/min".parse().unwrap())).await;
    let before = rows(&world).await;
    let answer = send(&app, create(&limited, r#"{"name": "wider"}"#)).await;
    assert_eq!(answer.verdict(), "403/forbidden");
    let other = record(&world, &world.own).await;
    let rotate = |id: &str| call("POST", &format!("{AT}/{id}/rotate"), limited.expose_secret());
    assert_eq!(send(&app, rotate(other.id.as_str())).await.verdict(), "403/forbidden");
    assert_eq!(rows(&world).await, before);

    let own = record(&world, &limited).await;
    let answer = send(&app, rotate(own.id.as_str())).await;
    assert_eq!(answer.status, 201, "{}", answer.verdict());
    let successor = KeyDigest::of(answer.json()["data"]["key"].as_str().unwrap());
    let successor = world.store.find(&successor).await.unwrap().unwrap();
    assert_eq!((&successor.limits, &successor.family), (&own.limits, &own.family));
}
