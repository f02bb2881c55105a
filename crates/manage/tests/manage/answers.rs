//! The format of the responses (R38, R39, R50, R51, A.7b).

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::json;
use tower_api_key::store::{Accounts as _, MemberRole};
use tower_api_key::{KeyLevel, KeyRecord, Keyring, Timestamp};
use tower_api_key_manage as manage;

use crate::{AT, app, call, create, guarded, path_of, record, world};
use test_kit::{World, bearer, get, member, project, request, send, user};

fn names(value: &serde_json::Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn r38_listing_shows_the_documented_fields_of_active_keys() {
    let (world, app) = world().await;
    let answer = call(&app, "GET", AT, &world.own).await;
    assert_eq!(answer.status, 200);
    let (own, p1) = (record(&world, &world.own).await, record(&world, &world.p1).await);
    let row = |key: &KeyRecord, level: &str, project: Option<&str>| {
        json!({"id": key.id.as_str(), "name": "u_own's", "prefix": "sk_live_", "last4": key.last4, "level": level,
            "project_id": project, "environment": "live", "created_at": "1970-01-01T00:00:01Z", "expires_at": null,
            "last_used": null})
    };
    let rows = [row(&own, "USER", None), row(&p1, "PROJECT", Some("p1"))];
    assert_eq!(answer.json(), json!({"success": true, "data": rows}));
    assert_eq!(answer.header("cache-control"), ["private, no-store"]);
    assert_eq!(answer.header("content-type"), ["application/json"]);
}

#[tokio::test]
async fn r38_listing_goes_page_by_page() {
    let (world, app) = world().await;
    for n in 0..5 {
        world.key("u_full", |key| key.created_at = Timestamp::from_secs(10 + n)).await;
    }
    let page = async |query: &str| {
        let answer = call(&app, "GET", &format!("{AT}{query}"), &world.full).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.verdict());
        let json = answer.json();
        let next = json.get("next_cursor").map(|next| next.as_str().unwrap().to_owned());
        let ids =
            json["data"].as_array().unwrap().iter().map(|row| row["id"].to_string()).collect::<Vec<_>>();
        (ids, next)
    };
    let (all, next) = page("").await;
    assert_eq!((all.len(), next), (6, None));
    for limit in 1..=7 {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let (ids, next) = page(&format!("?limit={limit}{after}")).await;
            assert!(ids.len() <= limit);
            seen.extend(ids);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "limit {limit}");
    }
    assert_eq!(page("?other=1&limit=100").await.0, all);
    // A key that ends between two pages must not break the listing.
    let (_, next) = page("?limit=2").await;
    let next = next.unwrap();
    assert_eq!(call(&app, "DELETE", &format!("{AT}/{next}"), &world.full).await.status, 200);
    assert_eq!(page(&format!("?cursor={next}")).await.0, all[2..]);
}

#[tokio::test]
async fn r38_an_invalid_query_is_a_400() {
    let (world, app) = world().await;
    let foreign = record(&world, &world.b).await.id;
    let long = "x".repeat(129);
    let queries = [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=",
        "limit=ten",
        "limit=1&limit=2",
        "limit=99999999999999999999",
        "cursor=",
        "cursor=key_unknown",
        "cursor=%00",
        "cursor=key_1%27--",
        &format!("cursor={foreign}"),
        &format!("cursor={long}"),
        "cursor=key_0&cursor=key_0",
        "limit=%ff",
    ];
    let mut bodies = Vec::new();
    for query in queries {
        let answer = call(&app, "GET", &format!("{AT}?{query}"), &world.own).await;
        assert_eq!(answer.verdict(), "400/invalid_query", "{query}");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "nothing is echoed, and a foreign cursor is an unknown one");
}

#[tokio::test]
async fn a7b_creating_answers_201_with_the_secret_and_no_store() {
    let (world, app) = world().await;
    let body = json!({"name": " CI ", "level": "PROJECT", "project_id": "p2", "environment": "live",
        "expires_at": "2100-01-01T01:00:00.5+01:00"});
    let answer = create(&app, &world.own, &body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    assert_eq!(answer.header("pragma"), ["no-cache"]);
    let json = answer.json();
    let data = &json["data"];
    assert_eq!(names(&json), ["data", "success"]);
    let key = data["key"].as_str().unwrap();
    assert_eq!(
        *data,
        json!({"id": data["id"], "name": "CI", "prefix": "sk_live_", "created_at": data["created_at"], "last_used": null,
            "last4": key[key.len() - 4..], "level": "PROJECT", "project_id": "p2", "environment": "live",
            "expires_at": "2100-01-01T00:00:00Z", "key": key})
    );
    let created = data["created_at"].as_str().unwrap();
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");

    let validate = send(&app, get("/validate", &[("authorization", &format!("Bearer {key}"))])).await;
    assert_eq!(validate.json()["data"]["project_id"], "p2");
    let listed = call(&app, "GET", AT, &world.own).await;
    assert!(String::from_utf8(listed.body).unwrap().contains(data["id"].as_str().unwrap()));

    let least = create(&app, &world.own, &json!({"name": "x"})).await.json();
    assert_eq!(least["data"]["level"], "USER");
    assert_eq!(least["data"]["project_id"], json!(null));
    assert_eq!(least["data"]["expires_at"], json!(null));
    let nulls =
        json!({"name": "x", "level": null, "project_id": null, "environment": null, "expires_at": null});
    assert_eq!(create(&app, &world.own, &nulls).await.status, 201);
    let lower = json!({"name": "x", "level": "project", "project_id": "p1", "environment": "LIVE"});
    assert_eq!(create(&app, &world.own, &lower).await.json()["data"]["level"], "PROJECT");
}

#[tokio::test]
async fn c11_10_a_client_that_repeats_a_request_gets_two_keys() {
    let (world, app) = world().await;
    let body = json!({"name": "twice"});
    let headers = [
        ("authorization", &*bearer(&world.full)),
        ("content-type", "application/json"),
        ("idempotency-key", "1"),
    ];
    let send =
        async || send(&app, request("POST", AT, &headers, body.to_string())).await.json()["data"].clone();
    let (one, two) = (send().await, send().await);
    assert!(one["id"] != two["id"] && one["key"] != two["key"], "no secret is shown twice");
    let path = format!("{AT}/{}", one["id"].as_str().unwrap());
    assert_eq!(call(&app, "DELETE", &path, &world.full).await.status, 200);
}

#[tokio::test]
async fn r39_revoking_answers_the_documented_words_as_often_as_it_is_asked() {
    let (world, app) = world().await;
    let path = path_of(&world, &world.p1).await;
    let expected = json!({"success": true, "message": "API key revoked successfully"});
    for _ in 0..2 {
        let answer = call(&app, "DELETE", &path, &world.own).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected.clone()));
    }
    assert_eq!(call(&app, "GET", "/validate", &world.p1).await.verdict(), "401/invalid_api_key");
    for ended in [&world.revoked, &world.expired] {
        let path = path_of(&world, ended).await;
        assert_eq!(call(&app, "DELETE", &path, &world.own).await.json(), expected, "ended: {ended:?}");
    }
    assert_eq!(call(&app, "DELETE", &path_of(&world, &world.own).await, &world.own).await.json(), expected);
    assert_eq!(call(&app, "GET", AT, &world.own).await.verdict(), "401/invalid_api_key", "it revoked itself");
}

#[tokio::test]
async fn r31_rotating_hands_out_a_new_secret_and_the_old_one_is_dead() {
    let (world, app) = world().await;
    let path = path_of(&world, &world.p1).await;
    let answer = call(&app, "POST", &format!("{path}/rotate"), &world.own).await;
    assert_eq!(answer.status, 201);
    assert_eq!(
        (answer.header("cache-control"), answer.header("pragma")),
        (vec!["no-store"], vec!["no-cache"])
    );
    let json = answer.json();
    let created = create(&app, &world.own, &json!({"name": "x"})).await.json();
    assert_eq!(names(&json["data"]), names(&created["data"]));
    assert_eq!((&json["data"]["level"], &json["data"]["project_id"]), (&json!("PROJECT"), &json!("p1")));
    assert_eq!(call(&app, "GET", "/validate", &world.p1).await.verdict(), "401/invalid_api_key");
    let new = format!("Bearer {}", json["data"]["key"].as_str().unwrap());
    assert_eq!(send(&app, get("/validate", &[("authorization", &new)])).await.status, 200);

    let again = call(&app, "POST", &format!("{path}/rotate"), &world.own).await;
    assert_eq!(again.verdict(), "409/key_ended");
    for ended in [&world.revoked, &world.expired] {
        let path = path_of(&world, ended).await;
        assert_eq!(
            call(&app, "POST", &format!("{path}/rotate"), &world.own).await.verdict(),
            "409/key_ended",
            "ended: {ended:?}"
        );
    }
    let own = path_of(&world, &world.own).await;
    assert_eq!(call(&app, "POST", &format!("{own}/rotate"), &world.own).await.status, 201);
    assert_eq!(call(&app, "GET", AT, &world.own).await.verdict(), "401/invalid_api_key", "it rotated itself");
}

#[tokio::test]
async fn r50_validate_says_what_the_presented_key_is() {
    let (world, app) = world().await;
    let end =
        world.key("u_own", |key| key.expires_at = Some(Timestamp::from_micros(4_102_444_800_900_000))).await;
    let envelope =
        |level: &str, user: &str, project: Option<&str>, environment: &str, expiry: Option<&str>| {
            json!({"success": true, "message": "API key is valid", "code": 200, "errors": {}, "meta_data": {},
            "data": {"valid": true, "key_level": level, "user_id": user, "project_id": project,
                "environment": environment, "expiry": expiry}})
        };
    let rows = [
        (&world.own, envelope("USER", "u_own", None, "live", None)),
        (&world.p1, envelope("PROJECT", "u_own", Some("p1"), "live", None)),
        (&world.test, envelope("USER", "u_own", None, "test", None)),
        (&world.ro, envelope("USER", "u_ro", None, "live", None)),
        (&end, envelope("USER", "u_own", None, "live", Some("2100-01-01T00:00:00Z"))),
    ];
    for (key, expected) in rows {
        let by_bearer = call(&app, "GET", "/validate", key).await;
        assert_eq!((by_bearer.status.as_u16(), by_bearer.json()), (200, expected.clone()));
        assert_eq!(by_bearer.header("cache-control"), ["private, no-store"]);
        let by_header = send(&app, get("/validate", &[("x-api-key", key.expose_secret())])).await;
        assert_eq!(by_header.json(), expected, "no project need be named (R45)");
    }
    let named = [("x-api-key", world.own.expose_secret()), ("x-project-id", "p2")];
    assert_eq!(send(&app, get("/validate", &named)).await.json()["data"]["project_id"], "p2");
    let foreign = [named[0], ("x-project-id", "q1")];
    assert_eq!(send(&app, get("/validate", &foreign)).await.verdict(), "403/forbidden");
    for key in [&world.revoked, &world.expired, &world.stray] {
        assert_eq!(call(&app, "GET", "/validate", key).await.verdict(), "401/invalid_api_key", "{key:?}");
    }
}

#[tokio::test]
async fn r51_projects_lists_what_the_key_may_access() {
    let (world, app) = world().await;
    let row = |id: &str| json!({"id": id, "name": id.to_uppercase()});
    let all =
        |ids: &[&str]| json!({"success": true, "data": ids.iter().map(|id| row(id)).collect::<Vec<_>>()});
    let rows = [
        (&world.own, all(&["p1", "p2", "p3"])),
        (&world.p1, all(&["p1"])),
        (&world.full, all(&["p1", "p2"])),
        (&world.ro, all(&["p1"])),
        (&world.b, all(&["q1"])),
    ];
    for (key, expected) in rows {
        let answer = call(&app, "GET", "/projects", key).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected));
    }
    world.store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p2"])).await.unwrap();
    assert_eq!(call(&app, "GET", "/projects", &world.full).await.json(), all(&["p2"]));
    world.store.delete_project("A", &project("p1")).await.unwrap();
    assert_eq!(call(&app, "GET", "/projects", &world.p1).await.verdict(), "403/forbidden");
}

#[tokio::test]
async fn c11_07_no_answer_holds_a_secret_or_a_digest() {
    let (world, app) = world().await;
    let mut answers = Vec::new();
    for key in [&world.own, &world.p1, &world.test, &world.ro, &world.full, &world.b] {
        for path in [AT, "/validate", "/projects"] {
            answers.push(call(&app, "GET", path, key).await);
        }
        answers.push(call(&app, "DELETE", &format!("{AT}/key_unknown"), key).await);
        answers.push(create(&app, key, &json!({"name": "x", "key": "mine"})).await);
    }
    let path = path_of(&world, &world.p1).await;
    answers.push(call(&app, "DELETE", &path, &world.own).await);
    let keys = [
        &world.own,
        &world.full,
        &world.ro,
        &world.p1,
        &world.test,
        &world.revoked,
        &world.expired,
        &world.b,
    ];
    for answer in &answers {
        let shown = format!("{}{:?}", String::from_utf8_lossy(&answer.body), answer.headers);
        for key in keys {
            let secret = &key.expose_secret()["sk_live_".len()..];
            let hex: String = key.digest().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            for text in [secret, &hex] {
                for part in text.as_bytes().windows(8) {
                    assert!(!shown.contains(std::str::from_utf8(part).unwrap()), "{shown}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_routes_can_be_mounted_at_any_path() {
    let world = World::new().await;
    let keyring = Keyring::new(world.store.clone());
    let nested = Router::new().nest("/accounts/{id}/keys", manage::api_keys(keyring));
    let app = guarded(Router::new().nest("/api", nested), world.store.clone());
    let own = record(&world, &world.p1).await.id;
    assert_eq!(call(&app, "GET", "/api/accounts/A/keys", &world.own).await.status, 200);
    let unknown = call(&app, "DELETE", &format!("/api/accounts/{own}/keys/key_unknown"), &world.own).await;
    assert_eq!(unknown.verdict(), "404/key_not_found", "the outer id is not the key's");
    let path = format!("/api/accounts/A/keys/{own}");
    assert_eq!(call(&app, "POST", &format!("{path}/rotate"), &world.own).await.status, 201);
    assert_eq!(call(&app, "DELETE", &path, &world.own).await.status, 200);
}

#[tokio::test]
async fn declared_routes_need_no_project_through_a_scheme_that_wants_one() {
    let (world, app) = world().await;
    let key = [("x-api-key", world.own.expose_secret()), ("content-type", "application/json")];
    assert_eq!(send(&app, get(AT, &key)).await.status, 200);
    let created = send(&app, request("POST", AT, &key, r#"{"name":"x"}"#)).await;
    assert_eq!(created.status, 201);
    let path = format!("{AT}/{}", created.json()["data"]["id"].as_str().unwrap());
    assert_eq!(send(&app, request("POST", &format!("{path}/rotate"), &key, "")).await.status, 201);
    assert_eq!(send(&app, request("DELETE", &path, &key, "")).await.status, 200);
}

#[tokio::test]
async fn without_the_layer_every_route_is_a_500_that_names_the_fix() {
    let world = World::new().await;
    let bare = crate::routes(Keyring::new(world.store.clone()), world.store.clone());
    let unguarded: [Request<Body>; 6] = [
        get(AT, &[]),
        get("/validate", &[]),
        get("/projects", &[]),
        request("POST", AT, &[("content-type", "application/json")], r#"{"name":"x"}"#),
        request("DELETE", &format!("{AT}/key_0"), &[], ""),
        request("POST", &format!("{AT}/key_0/rotate"), &[], ""),
    ];
    for request in unguarded {
        let answer = send(&bare, request).await;
        assert_eq!(answer.verdict(), "500/missing_principal");
        assert!(answer.json()["message"].as_str().unwrap().contains(".layer(auth)"));
    }
    let app = app(&world, Keyring::new(world.store.clone()));
    assert_eq!(send(&app, get(AT, &[])).await.verdict(), "401/missing_api_key");
    assert_eq!(record(&world, &world.p1).await.level, KeyLevel::Project(project("p1")));
}

#[tokio::test]
async fn c17_d6_a_key_is_shown_by_its_id_also_when_it_has_ended() {
    let (world, app) = world().await;
    let show = async |caller, key| call(&app, "GET", &path_of(&world, key).await, caller).await;
    let listed = call(&app, "GET", AT, &world.own).await.json();
    for (n, key) in [&world.own, &world.p1].into_iter().enumerate() {
        let answer = show(&world.own, key).await;
        assert_eq!(answer.status, 200, "{key:?}");
        assert_eq!(
            answer.json(),
            json!({"success": true, "data": listed["data"][n]}),
            "as the list shows it"
        );
        assert_eq!(answer.header("cache-control"), ["private, no-store"], "{key:?}");
    }
    for (key, revoked) in [(&world.revoked, true), (&world.expired, false)] {
        let answer = show(&world.own, key).await.json()["data"].clone();
        let row = record(&world, key).await;
        assert_eq!(
            (&answer["id"], &answer["last4"]),
            (&json!(row.id.as_str()), &json!(row.last4)),
            "{key:?}, revoked: {revoked:?}"
        );
        assert_eq!(
            answer["expires_at"].is_string(),
            row.expires_at.is_some(),
            "{key:?}, revoked: {revoked:?}"
        );
        assert_eq!(answer.get("revoked_at").is_some(), revoked, "{key:?}, revoked: {revoked:?}");
    }
    let narrow = world
        .key("u_own", |key| {
            key.scopes = ["reports:read".to_owned()].into();
            key.limits = Some("12/min".parse().unwrap());
            key.restrictions = json!({"ip": {"allow": ["192.0.2.0/24"]}}).to_string().parse().unwrap();
        })
        .await;
    let shown = show(&world.own, &narrow).await.json()["data"].clone();
    assert_eq!((&shown["scopes"], &shown["limits"]), (&json!(["reports:read"]), &json!("12/min")));
    assert_eq!(shown["restrictions"]["ip"]["allow"], json!(["192.0.2.0/24"]));
    assert!(!shown.to_string().contains(narrow.expose_secret()));

    // People who may only read see their keys. A project-level key sees none, not even itself.
    assert_eq!(show(&world.ro, &world.ro).await.status, 200);
    assert_eq!(show(&world.p1, &world.p1).await.verdict(), "403/forbidden");
    // Keys of others, of the other environment, unknown keys and invalid ids get the same response.
    let mut answers = Vec::new();
    for foreign in [&world.b, &world.full, &world.test] {
        answers.push(show(&world.own, foreign).await);
    }
    for id in ["key_unknown", "%00", "%ff", "a%20b", &"x".repeat(200)] {
        answers.push(call(&app, "GET", &format!("{AT}/{id}"), &world.own).await);
    }
    for answer in &answers {
        assert_eq!((answer.verdict(), &answer.body), ("404/key_not_found".to_owned(), &answers[0].body));
    }
    assert_eq!(
        send(&app, get(&path_of(&world, &world.own).await, &[])).await.verdict(),
        "401/missing_api_key"
    );
}

/// No scheme requires a project at this route.
#[tokio::test]
async fn c17_d6_a_key_is_shown_without_naming_a_project() {
    let (world, app) = world().await;
    let headers = [("x-api-key", world.own.expose_secret())];
    for path in [AT.to_owned(), path_of(&world, &world.p1).await] {
        assert_eq!(send(&app, get(&path, &headers)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn c17_d6_a_405_lists_the_supported_methods() {
    let world = World::new().await;
    let keyring = || Keyring::new(world.store.clone());
    let verifier = tower_api_key::Verifier::new(world.store.clone());
    let auth =
        tower_api_key::ApiKeyAuth::with_verifier(verifier.clone(), tower_api_key::scheme::Bearer::default());
    let peer = tower_api_key::client_addr::ClientAddr::peer;
    let keys = manage::api_keys(keyring()).merge(manage::explain(keyring(), auth.explainer()));
    let leaks = manage::Leaks::new(keyring(), verifier.clone(), |_: &str| None);
    let routes = Router::new()
        .route(&format!("{AT}/self-revoke"), manage::self_revoke(keyring(), verifier, peer()))
        .nest(AT, keys)
        .route("/leaks", leaks.route())
        .route("/validate", manage::validate())
        .route("/projects", manage::projects(world.store.clone()));
    let app = guarded(routes, world.store.clone());
    let one = path_of(&world, &world.p1).await;
    let mut bodies = Vec::new();
    for (path, allowed) in [
        (AT.to_owned(), "GET,HEAD,POST"),
        (one.clone(), "DELETE,GET,HEAD,PATCH"),
        (format!("{one}/rotate"), "POST"),
        (format!("{one}/usage"), "GET,HEAD"),
        (format!("{one}/explain"), "POST"),
        (format!("{AT}/self-revoke"), "POST"),
        ("/leaks".to_owned(), "POST"),
        ("/validate".to_owned(), "GET,HEAD"),
        ("/projects".to_owned(), "GET,HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            if allowed.split(',').any(|allowed| allowed == method) {
                continue;
            }
            let answer = call(&app, method, &path, &world.own).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            let mut told: Vec<_> = answer.header("allow")[0].split(',').collect();
            told.sort_unstable();
            assert_eq!(told.join(","), allowed, "{method} {path}");
            assert_eq!(answer.header("content-type"), ["application/problem+json"], "{method} {path}");
            if method != "HEAD" {
                assert_eq!(answer.verdict(), "405/method_not_allowed", "{path:?}, {allowed:?}, {method:?}");
                bodies.push(answer.body);
            }
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    // Without a key, a client learns nothing about the routes.
    assert_eq!(send(&app, request("PUT", AT, &[], "")).await.verdict(), "401/missing_api_key");
}
