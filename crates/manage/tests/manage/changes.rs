//! Limits of new keys, and changes of existing keys: names, restrictions, limits (R33, R34, R56, C11-01, C11-02).

use std::time::Duration;

use serde_json::{Value, json};
use tower_api_key::{ApiKey, Grace, Keyring, Timestamp};

use crate::{AT, call, create, path_of, record, rows, world};
use test_kit::{Answer, World, bearer, request, send};

async fn change(app: &axum::Router, caller: &ApiKey, path: &str, body: &Value) -> Answer {
    let headers = [("authorization", &*bearer(caller)), ("content-type", "application/json")];
    send(app, request("PATCH", path, &headers, body.to_string())).await
}

async fn limited(world: &World, limits: &str) -> ApiKey {
    world.key("u_own", |key| key.limits = Some(limits.parse().unwrap())).await
}

#[tokio::test]
async fn limits_are_asked_for_and_kept_afterwards() {
    let (world, app) = world().await;
    for limits in [json!("burst=2/min,200/30d"), json!(["burst=2/min", "200/30d"])] {
        let answer = create(&app, &world.own, &json!({"name": "narrow", "limits": limits})).await;
        assert_eq!(answer.status, 201, "{}", answer.verdict());
        let data = answer.json()["data"].clone();
        assert_eq!(data["limits"], "burst=2/min,200/30d", "{limits:?}");
        let key = format!("Bearer {}", data["key"].as_str().unwrap());
        let ask = async || send(&app, request("GET", "/validate", &[("authorization", &key)], "")).await;
        for left in [1, 0] {
            assert!(
                ask().await.header("ratelimit")[0].starts_with(&format!("\"burst\";r={left};")),
                "{limits:?}, {left:?}"
            );
        }
        assert_eq!(ask().await.verdict(), "429/rate_limited", "{limits:?}");
        let listed = call(&app, "GET", AT, &world.own).await.json();
        let listed =
            listed["data"].as_array().unwrap().iter().find(|row| row["id"] == data["id"]).unwrap().clone();
        assert_eq!(listed["limits"], "burst=2/min,200/30d", "{limits:?}");
    }
    let none = create(&app, &world.own, &json!({"name": "x", "limits": null})).await;
    assert_eq!((none.status.as_u16(), &none.json()["data"]["limits"]), (201, &Value::Null));
}

#[tokio::test]
async fn invalid_limits_are_refused_with_the_reason() {
    let (world, app) = world().await;
    let path = path_of(&world, &world.p1).await;
    let before = rows(&world).await;
    for (limits, reason) in [
        (json!("12"), "a limit is a number and a period"),
        (json!(""), "a limit is a number and a period"),
        (json!("0/min"), "a number from 1"),
        (json!("12/month"), "a period in s, min, h or d"),
        (json!("12/min,13/min"), "one period"),
        (json!(["a=12/min", "a=13/h"]), "one name"),
        (json!(["12/min", ""]), "a limit is a number and a period"),
        (json!(["12/min,200/30d"]), "a comma stands between limits"),
        (json!([]), "at least one"),
        (json!([12]), "or a list of such"),
        (json!(12), "or a list of such"),
        (json!({"q": 12}), "or a list of such"),
        (json!(true), "or a list of such"),
    ] {
        let new = create(&app, &world.own, &json!({"name": "x", "limits": limits})).await;
        let changed = change(&app, &world.own, &path, &json!({"limits": limits})).await;
        for answer in [new, changed] {
            assert_eq!(answer.verdict(), "422/invalid_limits", "{limits}");
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(reason), "{limits}: {message}");
            assert_eq!(answer.header("cache-control"), ["no-store"], "{limits:?}, {reason:?}, {answer:?}");
        }
    }
    let twice = r#"{"name":"x","limits":"1/h","limits":null}"#;
    let headers = [("authorization", &*bearer(&world.own)), ("content-type", "application/json")];
    assert_eq!(send(&app, request("POST", AT, &headers, twice)).await.verdict(), "400/malformed_body");
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn an_update_changes_only_its_members() {
    let (world, app) = world().await;
    let path = path_of(&world, &world.p1).await;
    let inside = json!({"ip": {"mode": "enforce", "allow": ["192.0.2.0/24"]}, "schemes": {"mode": "enforce", "allow": ["bearer"]}});
    let before = record(&world, &world.p1).await;
    let row = |name: &str, more: Value| {
        let mut row = json!({"id": before.id.as_str(), "name": name, "prefix": "sk_live_", "last4": before.last4,
            "level": "PROJECT", "project_id": "p1", "environment": "live",
            "created_at": "1970-01-01T00:00:01Z", "expires_at": null, "last_used": null});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    for (body, expected) in [
        (json!({}), row("u_own's", json!({}))),
        (json!({"name": "  CI "}), row("CI", json!({}))),
        (json!({"limits": "1/h"}), row("CI", json!({"limits": "1/h"}))),
        (json!({"restrictions": inside}), row("CI", json!({"limits": "1/h", "restrictions": inside}))),
        (json!({"name": "B", "limits": ["2/h"]}), row("B", json!({"limits": "2/h", "restrictions": inside}))),
        (json!({"limits": null}), row("B", json!({"restrictions": inside}))),
        (json!({"restrictions": {}}), row("B", json!({}))),
        (json!({"restrictions": inside}), row("B", json!({"restrictions": inside}))),
        (json!({"restrictions": null, "name": "u_own's"}), row("u_own's", json!({}))),
    ] {
        let answer = change(&app, &world.own, &path, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (200, json!({"success": true, "data": expected})),
            "{body}"
        );
        let listed = call(&app, "GET", AT, &world.own).await.json();
        assert!(listed["data"].as_array().unwrap().contains(&expected), "{body}");
    }
    assert_eq!(format!("{:?}", record(&world, &world.p1).await), format!("{before:?}"));
    // A change takes effect at once, also for the key that made it.
    let own = path_of(&world, &world.own).await;
    let narrowed = json!({"restrictions": {"schemes": {"allow": ["api-key-header"]}}});
    assert_eq!(change(&app, &world.own, &own, &narrowed).await.status, 200);
    assert_eq!(call(&app, "GET", "/validate", &world.own).await.verdict(), "401/invalid_api_key");
}

#[tokio::test]
async fn c11_01_fixed_attributes_of_a_key_cannot_be_changed() {
    let (world, app) = world().await;
    let path = path_of(&world, &world.p1).await;
    let before = rows(&world).await;
    for member in [
        "level",
        "project_id",
        "environment",
        "expires_at",
        "owner",
        "scopes",
        "metadata",
        "id",
        "key",
        "revoked_at",
        "replaced_by",
        "family",
        "Name",
        "",
    ] {
        for value in [json!(null), json!("u_b"), json!({"a": [1]})] {
            let mut body = json!({"name": "x"});
            body[member] = value;
            assert_eq!(change(&app, &world.own, &path, &body).await.verdict(), "422/unknown_field", "{body}");
        }
    }
    for (body, verdict) in [
        (json!({"name": null}), "422/invalid_name"),
        (json!({"name": " "}), "422/invalid_name"),
        (json!({"name": "a\u{202e}b"}), "422/invalid_name"),
        (json!({"name": 1}), "422/invalid_name"),
        (json!([]), "400/malformed_body"),
        (json!("name"), "400/malformed_body"),
        (json!({"restrictions": {"ip": {"allow": ["192.0.2.7/24"]}}}), "422/invalid_restrictions"),
        (json!({"restrictions": {"schemes": {"allow": ["a b"]}}}), "422/invalid_restrictions"),
    ] {
        assert_eq!(change(&app, &world.own, &path, &body).await.verdict(), verdict, "{body}");
    }
    let plain = [("authorization", &*bearer(&world.own)), ("content-type", "text/plain")];
    assert_eq!(
        send(&app, request("PATCH", &path, &plain, "{}")).await.verdict(),
        "415/unsupported_media_type"
    );
    let revoked = path_of(&world, &world.revoked).await;
    assert_eq!(change(&app, &world.own, &revoked, &json!({"name": "x"})).await.verdict(), "409/key_ended");
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn c11_02_which_keys_a_key_may_change() {
    let (world, app) = world().await;
    let name = json!({"name": "x"});
    let before = rows(&world).await;
    let unknown = change(&app, &world.own, &format!("{AT}/key_unknown"), &name).await;
    assert_eq!(unknown.verdict(), "404/key_not_found");
    for foreign in [&world.full, &world.test, &world.b, &world.stray] {
        let answer = change(&app, &world.own, &path_of(&world, foreign).await, &name).await;
        assert_eq!((answer.status, &answer.body), (unknown.status, &unknown.body), "{foreign:?}");
    }
    let own = path_of(&world, &world.own).await;
    assert_eq!(change(&app, &world.p1, &own, &name).await.verdict(), "403/forbidden");
    assert_eq!(
        change(&app, &world.ro, &path_of(&world, &world.ro).await, &name).await.verdict(),
        "403/read_only"
    );
    assert_eq!(change(&app, &world.revoked, &own, &name).await.verdict(), "401/invalid_api_key");
    assert_eq!(rows(&world).await, before);
    // The target has more rights than the caller.
    let ending = world.key("u_own", |key| key.expires_at = Some(Timestamp::from_secs(4_000_000_000))).await;
    let before = rows(&world).await;
    assert_eq!(change(&app, &ending, &own, &name).await.verdict(), "403/forbidden");
    assert_eq!(rows(&world).await, before);
    assert_eq!(change(&app, &ending, &path_of(&world, &ending).await, &name).await.status, 200);
}

#[tokio::test]
async fn c11_02_no_key_changes_its_way_out_of_its_limits_or_restrictions() {
    let (world, app) = world().await;
    let keyring = Keyring::new(world.store.clone());
    let observing = json!({"ip": {"mode": "observe", "allow": ["192.0.2.0/24"]}});
    let restrictions = observing.to_string().parse().unwrap();
    let restricted = world.key("u_own", |key| key.restrictions = restrictions).await;
    let slow = limited(&world, "100/h").await;
    let id = record(&world, &slow).await.id;
    let next = keyring.rotate(&id, Grace::For(Duration::from_secs(600))).await.unwrap();
    let (own_restricted, own_slow) = (path_of(&world, &restricted).await, path_of(&world, &slow).await);
    let plain = path_of(&world, &world.own).await;
    let (name, successor) = (json!({"name": "renamed"}), path_of(&world, next.key()).await);
    for restrictions in [
        json!(null),
        json!({}),
        json!({"ip": {"allow": []}}),
        json!({"ip": {"mode": "observe", "allow": []}}),
    ] {
        let body = json!({"restrictions": restrictions});
        assert_eq!(
            change(&app, &restricted, &own_restricted, &body).await.verdict(),
            "403/forbidden",
            "{body}"
        );
    }
    for limits in [json!(null), json!("101/h"), json!("100/h,9/d"), json!("1/h")] {
        for path in [&own_slow, &successor] {
            // The caller is not the predecessor, because that ends before it.
            let answer = change(&app, next.key(), path, &json!({"limits": limits})).await;
            assert_eq!(answer.verdict(), "403/forbidden", "{limits}");
        }
    }
    for (caller, path) in [
        (&restricted, &plain),
        (next.key(), &plain),
        (&restricted, &successor),
        (next.key(), &own_restricted),
    ] {
        assert_eq!(change(&app, caller, path, &name).await.verdict(), "403/forbidden", "{path}");
    }
    for key in [&slow, next.key()] {
        assert_eq!(record(&world, key).await.limits, Some("100/h".parse().unwrap()), "{key:?}");
    }
    assert_eq!(record(&world, &restricted).await.restrictions, observing.to_string().parse().unwrap());
    // Setting the same restrictions or limits again is allowed, and so is any other change of a key that has the
    // same.
    for (caller, path, body) in [
        (&restricted, &own_restricted, json!({"restrictions": observing, "name": "a"})),
        (&restricted, &own_restricted, json!({"limits": "9/h"})),
        (next.key(), &own_slow, json!({"limits": "100/h", "name": "b"})),
        (next.key(), &own_slow, json!({"restrictions": observing})),
    ] {
        assert_eq!(change(&app, caller, path, &body).await.status, 200, "{body}");
    }
    // The target belongs to the caller's family, but has other limits.
    assert_eq!(change(&app, &world.own, &own_slow, &json!({"limits": "99/h"})).await.status, 200);
    assert_eq!(change(&app, next.key(), &own_slow, &name).await.verdict(), "403/forbidden");
    // A caller without limits and restrictions may change those of all keys.
    for path in [&own_restricted, &own_slow, &successor] {
        let body = json!({"limits": null, "restrictions": null});
        assert_eq!(change(&app, &world.own, path, &body).await.status, 200, "{path:?}");
    }
    assert!(record(&world, &slow).await.limits.is_none());
}

/// If two keys of one family have different limits and are used in turn, they get no more than each alone.
#[tokio::test]
async fn keys_of_one_family_with_different_limits_share_their_use() {
    let (world, app) = world().await;
    let keyring = Keyring::new(world.store.clone());
    let old = limited(&world, "3/h").await;
    let id = record(&world, &old).await.id;
    let next = keyring.rotate(&id, Grace::For(Duration::from_secs(600))).await.unwrap();
    let path = path_of(&world, next.key()).await;
    assert_eq!(change(&app, &world.own, &path, &json!({"limits": "3/d"})).await.status, 200);
    let mut accepted = 0;
    for _ in 0..10 {
        for key in [&old, next.key()] {
            accepted += u32::from(call(&app, "GET", "/validate", key).await.status == 200);
        }
    }
    assert_eq!(accepted, 6);
}

#[tokio::test]
async fn the_routes_that_change_are_declared() {
    let (world, app) = world().await;
    // A user-level key needs no project here through any scheme. The layer refuses READONLY owners.
    let headers = [("x-api-key", world.own.expose_secret()), ("content-type", "application/json")];
    let path = path_of(&world, &world.own).await;
    assert_eq!(send(&app, request("PATCH", &path, &headers, "{}")).await.status, 200);
}
