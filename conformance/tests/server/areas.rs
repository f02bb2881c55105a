//! The example server, tested over HTTP as a client would use it, with the data of its fixture.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use conformance::server_kit::Announced;
use conformance::server_kit::curl::Curl;
use conformance::server_kit::demo::Demo;
use serde_json::{Value, json};

/// Changes the first character after the prefix, so that the checksum is wrong.
fn mistyped(key: &str) -> String {
    let (prefix, rest) = key.split_at("sk_live_".len());
    let other = if rest.starts_with('a') { 'b' } else { 'a' };
    format!("{prefix}{other}{}", &rest[1..])
}

fn verdict(status: u16, message: &str) -> (u16, String) {
    (status, message.to_owned())
}

// -- the command lines of the documents

/// From the first document and its fuller copy.
const UPLOAD: &str = r#"curl -X POST https://api.streampixel.io/pixelStripeApi/projects/upload-file \
    -H "Content-Type: application/json" \
    -d '{
      "apiKey": "YOUR_API_KEY",
      "userId": "YOUR_USER_ID",
      "projectId": "YOUR_PROJECT_ID",
      "fileUrl": "https://storage.example.com/build.zip"
    }'"#;

/// From the older page of the same product.
const OLDER_UPLOAD: &str = r#"curl -X POST https://api.streampixel.io/pixelStripeApi/projects/upload-file \
  -H "Content-Type: application/json" \
  -d '{
    "apiKey": "your-api-key-here",
    "userId": "your-user-id",
    "projectId": "your-project-id",
    "fileUrl": "https://storage.example.com/build.zip"
  }'"#;

/// From the bearer document.
const USERS: &str =
    "curl -X GET https://api.example.com/v1/users/usr_123 \\\n-H \"Authorization: Bearer YOUR_API_KEY\"";

#[test]
fn the_body_documents_command_lines_work() {
    let demo = Demo::start();
    let older = [("your-api-key-here", "your-user-id"), ("your-project-id", "")];
    let newer = [("YOUR_API_KEY", "YOUR_USER_ID"), ("YOUR_PROJECT_ID", "")];
    for (command, [(key, user), (project, _)]) in [(UPLOAD, newer), (OLDER_UPLOAD, older)] {
        let answer = demo.curl(command, &[(key, demo.key("alice")), (user, "alice"), (project, "p1")]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = answer.json();
        assert_eq!(seen["principal"]["user_id"], "alice", "{command:?}, {key:?}, {user:?}");
        assert_eq!(seen["principal"]["project_id"], "p1", "{command:?}, {key:?}, {user:?}");
        assert_eq!(seen["principal"]["role"], "OWNER", "{command:?}, {key:?}, {user:?}");
        assert_eq!(seen["principal"]["scheme"], "json-body", "{command:?}, {key:?}, {user:?}");
        assert_eq!(
            (&seen["method"], &seen["path"]),
            (&"POST".into(), &"/pixelStripeApi/projects/upload-file".into()),
            "{command:?}, {key:?}, {user:?}"
        );

        // Word for word, the responses are those of the documents' tables.
        assert_eq!(
            demo.curl(command, &[]).verdict(),
            verdict(401, "Unauthorized: Invalid API Key"),
            "{command:?}, {key:?}, {user:?}"
        );
        let answer = demo.curl(command, &[(key, demo.key("alice"))]);
        assert_eq!(answer.verdict(), verdict(401, "Invalid User"), "{command:?}, {key:?}, {user:?}");
        let answer = demo.curl(command, &[(key, demo.key("alice")), (user, "alice")]);
        assert_eq!(answer.verdict(), verdict(403, "Forbidden"), "{command:?}, {key:?}, {user:?}");
    }
}

#[test]
fn the_handler_sees_the_body_as_it_was_sent() {
    let demo = Demo::start();
    let command = UPLOAD.replace("YOUR_API_KEY", demo.key("alice"));
    let command = command.replace("YOUR_USER_ID", "alice").replace("YOUR_PROJECT_ID", "p1");
    let sent = Curl::parse(&command).request.body;
    let seen = demo.curl(&command, &[]).json();
    assert_eq!(seen["body_len"], sent.len());
    assert_eq!(seen["body_sha256"], sha256(&sent));
    let empty = demo.bearer("GET", "/v1/users/usr_123", demo.key("alice")).json();
    assert_eq!(empty["body_sha256"], sha256(b""));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bearer_documents_command_line_works() {
    let demo = Demo::start();
    let answer = demo.curl(USERS, &[("YOUR_API_KEY", demo.key("alice"))]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["path"], "/v1/users/usr_123");
    assert_eq!(answer.json()["principal"]["scheme"], "bearer");
    // The document's own key is unknown, because it is a placeholder.
    let sample = ["sk_live", "abc123xyz789"].join("_");
    for unknown in [&*sample, "YOUR_API_KEY"] {
        let answer = demo.curl(USERS, &[("YOUR_API_KEY", unknown)]);
        assert_eq!(answer.verdict(), verdict(401, "Missing or invalid API key"), "{unknown:?}");
    }
}

// -- the error tables of the documents

#[test]
fn the_body_documents_errors() {
    let demo = Demo::start();
    let invalid_key = verdict(401, "Unauthorized: Invalid API Key");
    let invalid_user = verdict(401, "Invalid User");
    let (alice, carol) = (demo.key("alice"), demo.key("carol"));

    // "Key was rotated, mistyped ..", "is wrong or has been invalidated"
    let rotated = demo.create(alice, &json!({"name": "To be rotated"})).json()["data"].clone();
    let rotate = format!("/v1/api-keys/{}/rotate", rotated["id"].as_str().unwrap());
    assert_eq!(demo.body("status", rotated["key"].as_str().unwrap(), "alice", "p1").status, 200);
    assert_eq!(demo.bearer("POST", &rotate, alice).status, 201);
    for key in [
        rotated["key"].as_str().unwrap(),
        &mistyped(alice),
        "wrong",
        "",
        demo.key("revoked"),
        demo.key("expired"),
    ] {
        // Without a valid key, nobody learns which users exist.
        for user in ["alice", "bob", "nobody", "", "no id!"] {
            assert_eq!(demo.body("status", key, user, "p1").verdict(), invalid_key, "{key:?}, {user:?}");
        }
    }

    // ".. or belongs to a different account", "does not match the key's owner", "doesn't match any account"
    for user in ["bob", "dave", "nobody", "", "ALICE", "alice "] {
        assert_eq!(demo.body("status", alice, user, "p1").verdict(), invalid_user, "{user:?}");
    }
    assert_eq!(demo.body("status", demo.key("dave"), "alice", "p1").verdict(), invalid_user);

    // "Key owner has no access to the requested project", whether or not the project exists
    for (key, user, project) in [
        ("bob", "bob", "p2"),
        ("bob", "bob", "q1"),
        ("dave", "dave", "p1"),
        ("alice", "alice", "q1"),
        ("alice", "alice", "p4"),
    ] {
        assert_eq!(
            demo.body("status", demo.key(key), user, project).verdict(),
            verdict(403, "Forbidden"),
            "{key:?}, {user:?}, {project:?}"
        );
    }
    // "the key only works for read endpoints"
    assert_eq!(demo.body("status", carol, "carol", "p1").status, 200);
    assert_eq!(demo.body("upload-file", carol, "carol", "p1").verdict(), verdict(403, "Forbidden"));

    // "Every call also needs your userId and projectId"
    let path = "/pixelStripeApi/projects/status";
    let answer = demo.request("POST", path).json(&json!({"apiKey": alice, "projectId": "p1"})).send();
    assert_eq!(answer.verdict(), invalid_user);
    let answer = demo.request("POST", path).json(&json!({"apiKey": alice, "userId": "alice"})).send();
    assert_eq!(answer.verdict(), verdict(400, "projectId is required"));
    let answer = demo.request("POST", path).json(&json!({"userId": "alice", "projectId": "p1"})).send();
    assert_eq!(answer.verdict(), invalid_key);

    // "never as an Authorization header"
    let body = json!({"userId": "alice", "projectId": "p1"});
    let answer = demo.request("POST", path).bearer(alice).header("X-API-Key", alice).json(&body).send();
    assert_eq!(answer.verdict(), invalid_key);
}

#[test]
fn the_header_documents_errors() {
    let demo = Demo::start();
    let invalid_key = verdict(401, "Invalid API key");
    let insufficient = verdict(403, "Insufficient permissions");
    let (alice, p1) = (demo.key("alice"), demo.key("alice_p1"));

    // "The provided API key is incorrect or expired"
    for key in ["wrong", &*mistyped(alice), demo.key("expired"), demo.key("revoked")] {
        for (path, project) in
            [("/validate", None), ("/projects", None), ("/sites", Some("p1")), ("/sites", None)]
        {
            assert_eq!(
                demo.header(path, key, project).verdict(),
                invalid_key,
                "{key:?}, {path:?}, {project:?}"
            );
        }
    }
    let without = |path: &str| demo.request("GET", path).send().verdict();
    assert_eq!(without("/api/v1/validate"), invalid_key, "no project is needed, and a key is");
    assert_eq!(without("/api/v1/projects"), invalid_key);

    // "Your API key doesn't have access to the requested resource"
    assert_eq!(demo.header("/sites", demo.key("bob"), Some("p2")).verdict(), insufficient);
    assert_eq!(demo.header("/sites", alice, Some("q1")).verdict(), insufficient);
    assert_eq!(demo.header("/sites", p1, Some("p2")).verdict(), insufficient);
    assert_eq!(demo.header("/projects", alice, Some("q1")).verdict(), insufficient);

    // "X-Project-ID required except for /validate and /projects endpoints", and "Not needed" at project level
    for path in ["/validate", "/projects"] {
        assert_eq!(demo.header(path, alice, None).status, 200, "{path:?}");
        assert_eq!(demo.header(path, alice, Some("p1")).status, 200, "{path:?}");
    }
    for path in ["/sites", "/projects/p1"] {
        assert_eq!(
            demo.header(path, alice, None).verdict(),
            verdict(400, "X-Project-ID header is required"),
            "{path:?}"
        );
        assert_eq!(demo.header(path, alice, Some("p1")).status, 200, "{path:?}");
        assert_eq!(demo.header(path, p1, None).status, 200, "{path:?}");
        assert_eq!(demo.header(path, p1, Some("p1")).status, 200, "{path:?}");
    }

    // The project in the path must be the selected one (C4-09).
    assert_eq!(demo.header("/projects/p2", alice, Some("p1")).verdict(), insufficient);
    assert_eq!(demo.header("/projects/p2", alice, Some("p2")).status, 200);
    assert_eq!(demo.header("/projects/p2", p1, None).verdict(), insufficient);
    assert_eq!(demo.header("/projects/p2", p1, None).header("cache-control"), ["no-store"]);
}

#[test]
fn the_bearer_documents_errors() {
    let demo = Demo::start();
    let invalid_key = verdict(401, "Missing or invalid API key");
    let no_permission = verdict(403, "API key doesn't have permission for this resource");
    let alice = demo.key("alice");

    // "Missing or invalid API key", "hasn't been revoked", "typos"
    assert_eq!(demo.request("GET", "/v1/users/usr_123").send().verdict(), invalid_key);
    for key in ["wrong", &*mistyped(alice), demo.key("revoked"), demo.key("expired")] {
        assert_eq!(demo.bearer("GET", "/v1/users/usr_123", key).verdict(), invalid_key, "{key:?}");
    }
    // "the correct environment": the prefix is part of the key.
    let other = alice.replacen("sk_live_", "sk_test_", 1);
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", &other).verdict(), invalid_key);

    // "API key doesn't have permission for this resource"
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", demo.key("carol")).status, 200);
    assert_eq!(demo.bearer("POST", "/v1/charges", demo.key("carol")).verdict(), no_permission);
    assert_eq!(demo.bearer("GET", "/v1/api-keys", demo.key("alice_p1")).verdict(), no_permission);
    assert_eq!(demo.create(demo.key("carol"), &json!({"name": "No"})).verdict(), no_permission);
}

// -- the keys of the fixture

#[test]
fn each_demo_key_is_what_the_fixture_says() {
    let demo = Demo::start();
    for (key, user, role, environment, level) in [
        ("alice", "alice", "OWNER", "live", "USER"),
        ("alice_test", "alice", "OWNER", "test", "USER"),
        ("bob", "bob", "FULL", "live", "USER"),
        ("carol", "carol", "READONLY", "live", "USER"),
        ("alice_p1", "alice", "FULL", "live", "PROJECT"),
    ] {
        let answer = demo.header("/sites", demo.key(key), Some("p1"));
        assert_eq!(answer.status, 200, "{key}");
        let who = &answer.json()["principal"];
        let expected = json!([user, role, environment, level, "p1", "api-key-header"]);
        let fields = ["user_id", "role", "environment", "level", "project_id", "scheme"];
        assert_eq!(json!(fields.map(|field| who[field].clone())), expected, "{key}");
        assert!(demo.key(key).starts_with(&format!("sk_{environment}_")), "{key:?}, {user:?}, {role:?}");
    }
    let projects = |key: &str| {
        let data = demo.header("/projects", demo.key(key), None).json()["data"].clone();
        data.as_array()
            .unwrap()
            .iter()
            .map(|project| project["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(projects("alice"), ["p1", "p2", "p3"]);
    assert_eq!(projects("bob"), ["p1"]);
    assert_eq!(projects("carol"), ["p1"]);
    assert_eq!(projects("alice_p1"), ["p1"]);
    assert_eq!(projects("dave"), ["q1"]);
    assert_eq!(demo.header("/sites", demo.key("dave"), Some("q1")).status, 200);
    assert_eq!(demo.body("upload-file", demo.key("bob"), "bob", "p1").status, 200);

    let names: Vec<_> = demo.fixture["keys"].as_object().unwrap().keys().cloned().collect();
    let expected =
        ["alice", "alice_office", "alice_p1", "alice_test", "bob", "carol", "dave", "expired", "revoked"];
    assert_eq!(names, expected);
}

#[test]
fn validate_answers_in_its_services_envelope() {
    let demo = Demo::start();
    let answer = demo.header("/validate", demo.key("alice"), None).json();
    assert_eq!(
        answer,
        json!({
            "success": true, "message": "API key is valid", "code": 200,
            "data": {
                "valid": true, "key_level": "USER", "user_id": "alice", "project_id": null,
                "environment": "live", "expiry": null,
            },
            "errors": {}, "meta_data": {},
        })
    );
    let answer = demo.header("/validate", demo.key("alice_p1"), None).json();
    assert_eq!(answer["data"]["key_level"], "PROJECT");
    assert_eq!(answer["data"]["project_id"], "p1");
}

// -- managing keys

#[test]
fn keys_are_listed_made_rotated_and_revoked() {
    let demo = Demo::start();
    let alice = demo.key("alice");

    let created = demo.create(alice, &json!({"name": "Production Key"}));
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("cache-control"), ["no-store"]);
    let created = created.json()["data"].clone();
    let (id, key) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", key).status, 200);

    // The fields of the bearer document's list, and the scope of a key.
    let list = demo.bearer("GET", "/v1/api-keys", alice);
    assert_eq!(list.status, 200);
    let list = list.json();
    assert_eq!(list["success"], true);
    let entry = list["data"].as_array().unwrap().iter().find(|entry| entry["id"] == id).unwrap();
    let members: Vec<_> = entry.as_object().unwrap().keys().collect();
    let expected = ["created_at", "environment", "expires_at", "id", "last4", "last_used", "level", "name"];
    assert_eq!(members, [&expected[..], &["prefix", "project_id"]].concat());
    let shown = demo.bearer("GET", &format!("/v1/api-keys/{id}"), alice);
    assert_eq!((shown.status, &shown.json()["data"]), (200, entry));
    assert_eq!(entry["name"], "Production Key");
    assert_eq!(entry["prefix"], "sk_live_");
    assert_eq!(entry["last_used"], Value::Null);
    let created_at = entry["created_at"].as_str().unwrap();
    assert!(created_at.len() == "2025-01-01T00:00:00Z".len() && created_at.ends_with('Z'), "{created_at}");
    assert!(!list.to_string().contains(&key[8..]));

    let rotated = demo.bearer("POST", &format!("/v1/api-keys/{id}/rotate"), alice);
    assert_eq!(rotated.status, 201);
    let rotated = rotated.json()["data"].clone();
    let new = rotated["key"].as_str().unwrap();
    let invalid_key = verdict(401, "Missing or invalid API key");
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", key).verdict(), invalid_key);
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", new).status, 200);

    // Another user's key and an invalid id get the same response.
    let revoke = format!("/v1/api-keys/{}", rotated["id"].as_str().unwrap());
    let foreign = demo.bearer("DELETE", &revoke, demo.key("dave"));
    let unknown = demo.bearer("DELETE", "/v1/api-keys/key_123", alice);
    assert_eq!((foreign.status, &foreign.body), (404, &unknown.body));
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", new).status, 200);

    // The response of the bearer document, also when repeated.
    for _ in 0..2 {
        let answer = demo.bearer("DELETE", &revoke, alice);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"success": true, "message": "API key revoked successfully"}));
    }
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", new).verdict(), invalid_key);

    // A key may revoke itself.
    let own = demo.create(alice, &json!({"name": "Short-lived"})).json()["data"].clone();
    let (id, key) = (own["id"].as_str().unwrap(), own["key"].as_str().unwrap());
    assert_eq!(demo.bearer("DELETE", &format!("/v1/api-keys/{id}"), key).status, 200);
    assert_eq!(demo.bearer("DELETE", &format!("/v1/api-keys/{id}"), key).verdict(), invalid_key);
}

#[test]
fn r56_the_peers_address_reaches_the_layers() {
    let demo = Demo::start();
    for (network, status) in [("127.0.0.0/8", 200), ("192.0.2.0/24", 403)] {
        let new = json!({"name": "Narrow", "restrictions": {"ip": {"allow": [network]}}});
        let made = demo.create(demo.key("alice"), &new);
        assert_eq!(made.status, 201, "{network:?}");
        let key = made.json()["data"]["key"].as_str().unwrap().to_owned();
        assert_eq!(demo.bearer("GET", "/v1/users/usr_123", &key).status, status, "{network}");
        assert_eq!(demo.header("/validate", &key, None).status, status, "{network}");
        assert_eq!(demo.body("status", &key, "alice", "p1").status, status, "{network}");
        let forged = demo.request("GET", "/v1/users/usr_123").header("X-Forwarded-For", "192.0.2.7");
        assert_eq!(forged.bearer(&key).send().status, status, "{network}");
    }
}

/// Behind a trusted proxy, each client is throttled separately.
#[test]
fn c7_09_c15_08_only_clients_that_guess_at_validate_are_slowed_down() {
    let demo = Demo::start_with(&[("LOOKUPS", "5/h"), ("PROXIES", "127.0.0.0/8")]);
    let validate = |key: &str, from: &str| {
        demo.request("GET", "/api/v1/validate")
            .header("X-API-Key", key)
            .header("X-Forwarded-For", from)
            .send()
    };
    let format = tower_api_key::KeyFormat::default();
    let mut statuses = Vec::new();
    for _ in 0..100 {
        let key = format.generate(tower_api_key::Environment::Live).unwrap();
        let answer = validate(key.expose_secret(), "192.0.2.1");
        if answer.status == 429 {
            assert_eq!(answer.header("retry-after"), ["720"]);
            assert_eq!(answer.verdict(), verdict(429, "Too many requests"));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..5], [401; 5]);
    assert_eq!(statuses[5..], [429; 95]);
    // In each area, for any key that was not accepted recently: no key is warm, because the file is queried for every
    // request.
    let anywhere = demo.request("GET", "/v1/users/usr_1").bearer(demo.key("alice"));
    assert_eq!(anywhere.header("X-Forwarded-For", "192.0.2.1").send().status, 429);
    for from in ["192.0.2.2", "2001:db8::1", "203.0.113.9, 192.0.2.2"] {
        assert_eq!(validate(demo.key("alice"), from).status, 200, "{from}");
    }
    // Entries that the client itself put before the proxy's are ignored.
    assert_eq!(validate(demo.key("bob"), "192.0.2.2, 192.0.2.1").status, 429);
    // A key that was accepted at another address is accepted there, too.
    assert_eq!(validate(demo.key("alice"), "192.0.2.1").status, 200);
}

/// The scanner's webhook trusts the same proxies. Otherwise a forger could block all clients behind them.
#[test]
fn c17_b11_the_examples_webhook_knows_the_same_proxies() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("scanner.json");
    std::fs::write(&keys, r#"{"public_keys": []}"#).unwrap();
    let demo = Demo::start_with(&[("LEAK_KEYS", keys.to_str().unwrap()), ("PROXIES", "127.0.0.0/8")]);
    let unsigned =
        |from: &str| demo.request("POST", "/leaks").header("X-Forwarded-For", from).json(&json!([])).send();
    // Fifty at once, and then ten per second.
    let held_off = (0..1000).map(|_| unsigned("192.0.2.1")).find(|answer| answer.status != 401).unwrap();
    assert_eq!((held_off.status, held_off.header("retry-after")), (429, vec!["1"]));
    assert_eq!(unsigned("192.0.2.2").status, 401);
}

#[test]
fn r53_test_charges_are_kept_apart_and_not_persisted() {
    let mut demo = Demo::start();
    let charges = |demo: &Demo, key: &str| {
        demo.bearer("GET", "/v1/charges", demo.key(key)).json()["data"].as_array().unwrap().len()
    };
    for (key, persisted) in [("alice", true), ("alice_test", false)] {
        let answer = demo.bearer("POST", "/v1/charges", demo.key(key)).json();
        assert_eq!(answer["charge"]["persisted"], persisted, "{key:?}, persisted: {persisted:?}");
        assert_eq!(answer["principal"]["user_id"], "alice", "{key:?}, persisted: {persisted:?}");
        assert_eq!(charges(&demo, key), 1, "{key:?}, persisted: {persisted:?}");
    }
    assert_eq!(charges(&demo, "dave"), 0);
    demo.restart();
    assert_eq!(charges(&demo, "alice"), 1);
    assert_eq!(charges(&demo, "alice_test"), 0);
}

// -- all three schemes at one route

#[test]
fn at_migrate_echo_any_scheme_will_do_and_two_are_refused() {
    let demo = Demo::start();
    let (alice, path) = (demo.key("alice"), "/migrate/echo");
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"] {
        let answer = demo.bearer(method, path, alice);
        assert_eq!((answer.status, &answer.json()["method"]), (200, &method.into()), "{method:?}");
    }
    let header = demo.request("GET", path).header("X-API-Key", alice).header("X-Project-ID", "p1");
    assert_eq!(header.send().json()["principal"]["scheme"], "api-key-header");
    let body = json!({"apiKey": alice, "userId": "alice", "projectId": "p1"});
    let body = demo.request("POST", path).json(&body);
    assert_eq!(body.send().json()["principal"]["scheme"], "json-body");
    assert_eq!(
        header.clone().bearer(alice).send().verdict(),
        verdict(400, "More than one credential was sent")
    );
    // With a credential in the head, the body belongs to the handler.
    assert_eq!(body.bearer(alice).send().json()["principal"]["scheme"], "bearer");
    let nobody = demo.request("GET", path).send();
    assert_eq!(nobody.verdict(), verdict(401, "Missing or invalid API key"));
    assert_eq!(nobody.header("www-authenticate").len(), 3);
}

#[test]
fn c17_c3_migrate_echo_takes_8_mib_through_every_scheme() {
    let demo = Demo::start();
    let (alice, path, most) = (demo.key("alice"), "/migrate/echo", 8 << 20);
    let too_long = (413, "Request body too large".to_owned());
    let problem = |answer: &conformance::server_kit::Answer| {
        assert_eq!(answer.header("content-type"), ["application/problem+json"], "{}", answer.text());
        assert_eq!(answer.json()["error"], "body_too_large");
        answer.verdict()
    };
    let bearer = demo.request("POST", path).bearer(alice);
    let header = demo.request("POST", path).header("X-API-Key", alice).header("X-Project-ID", "p1");
    for mut request in [bearer, header] {
        request.body = vec![b'x'; most];
        let answer = request.send();
        assert_eq!((answer.status, &answer.json()["body_len"]), (200, &json!(most)), "{request:?}");
        request.body.push(b'x');
        assert_eq!(problem(&request.send()), too_long, "{request:?}");
    }
    let with = |padding: usize| json!({"apiKey": alice, "userId": "alice", "projectId": "p1", "x": "x".repeat(padding)});
    let body = with(most - with(0).to_string().len());
    let answer = demo.request("POST", path).json(&body).send();
    assert_eq!((answer.status, &answer.json()["body_len"]), (200, &json!(most)), "{}", answer.text());
    // Refused because of the declared length; the body is not sent here.
    let declared = demo.request("PUT", path).header("Content-Type", "application/json");
    let answer = declared.header("Content-Length", &(most + 1).to_string()).send();
    assert_eq!(problem(&answer), too_long);
}

#[test]
fn c17_c3_all_404_and_405_responses_have_one_format() {
    let demo = Demo::start();
    let alice = demo.key("alice");
    for (method, path, status, error) in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("PUT", "/v1/charges", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("PUT", "/v1/api-keys", 405, "method_not_allowed"),
        ("GET", "/v1/api-keys/self-revoke", 405, "method_not_allowed"),
    ] {
        let answer = demo.bearer(method, path, alice);
        let json = answer.json();
        assert_eq!((answer.status, &json["error"]), (status, &json!(error)), "{method} {path}");
        assert_eq!(answer.header("content-type"), ["application/problem+json"], "{method} {path}");
        assert_eq!(
            (&json["status"], &json["code"]),
            (&json!(status), &json!(status)),
            "{method:?}, {path:?}, {error:?}"
        );
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{method} {path}");
    }
    let mut large = demo.request("POST", "/v1/charges").bearer(alice);
    large.body = vec![b'x'; 10_001];
    assert_eq!((large.send().status, large.send().json()["error"].clone()), (413, json!("body_too_large")));
    // Without a key, nobody learns which methods a route supports.
    assert_eq!(demo.request("PUT", "/v1/charges").send().status, 401);
}

#[test]
fn c17_c3_a_browser_gets_a_page() {
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let demo = Demo::start();
    for (path, status, text) in [
        ("/", 200, "href=\"/portal\""),
        ("/portal/nothing", 404, "There is no such page"),
        ("/portal/keys/key_1/nothing", 404, "There is no such page"),
        ("/nothing", 404, "There is no such page"),
        ("/favicon.ico", 404, "There is no such page"),
    ] {
        let answer = demo.request("GET", path).header("Accept", BROWSER).send();
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), ["text/html; charset=utf-8"], "{path}");
        assert!(answer.header("content-security-policy")[0].starts_with("default-src 'none'"), "{path}");
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
        // Other clients get JSON, and so do browsers in the areas of the API.
        assert!(
            demo.request("GET", path).header("Accept", "*/*").send().json()["error"] == "not_found",
            "{path:?}, {text:?}"
        );
        assert!(
            demo.request("POST", path).header("Accept", BROWSER).send().json()["success"] == json!(false),
            "{path:?}, {text:?}"
        );
    }
    let alice = demo.key("alice");
    let api = demo.request("GET", "/v1/nothing").bearer(alice).header("Accept", BROWSER).send();
    assert_eq!((api.status, &api.json()["error"]), (404, &json!("not_found")));
}

// -- endpoints where a key is optional

#[test]
fn c17_a3_prices_are_for_everybody_and_a_bad_key_is_refused() {
    let demo = Demo::start();
    let price = |answer: &conformance::server_kit::Answer| answer.json()["data"]["per_build"].as_u64();
    let nobody = demo.request("GET", "/v1/prices").send();
    assert_eq!((nobody.status, price(&nobody)), (200, Some(10)));
    assert_eq!(nobody.header("cache-control"), Vec::<&str>::new());
    assert_eq!(nobody.header("vary"), ["authorization"]);
    let alice = demo.bearer("GET", "/v1/prices", demo.key("alice"));
    assert_eq!((alice.status, price(&alice)), (200, Some(8)));
    assert_eq!(alice.json()["data"]["for"]["user_id"], "alice");
    assert_eq!(alice.header("cache-control"), ["private, no-store"]);
    let refused = verdict(401, "Missing or invalid API key");
    assert_eq!(demo.bearer("GET", "/v1/prices", &mistyped(demo.key("alice"))).verdict(), refused);
    assert_eq!(demo.bearer("GET", "/v1/prices", "").verdict(), refused);
    assert_eq!(demo.request("POST", "/v1/prices").send().verdict(), refused);
}

// -- everything else

#[test]
fn without_a_key_nobody_learns_which_routes_there_are() {
    let demo = Demo::start();
    let alice = demo.key("alice");
    assert_eq!(demo.request("GET", "/health").send().text(), "ok\n");
    for path in ["/v1/nothing", "/v1/users/usr_123", "/v1", "/api/v1/nothing", "/pixelStripeApi/nothing"] {
        assert_eq!(demo.request("GET", path).send().status, 401, "{path}");
    }
    assert_eq!(demo.bearer("GET", "/v1/nothing", alice).status, 404);
    assert_eq!(demo.header("/nothing", alice, Some("p1")).status, 404);
    assert_eq!(demo.body("nothing", alice, "alice", "p1").status, 404);
    assert_eq!(demo.request("GET", "/favicon.ico").send().status, 404);
    // A key of one area reveals nothing in another.
    assert_eq!(demo.request("GET", "/v1/users/usr_123").header("X-API-Key", alice).send().status, 401);
    assert_eq!(demo.request("GET", "/api/v1/validate").bearer(alice).send().status, 401);
}

#[test]
fn the_output_of_the_first_start_is_true() {
    let demo = Demo::start();
    for Announced { status, message, curl } in Announced::all_of(&demo.lines) {
        let answer = curl.request.send();
        assert_eq!(answer.status, status, "{:?} got {answer:?}", curl.request);
        if status >= 400 {
            assert_eq!(answer.verdict().1, message);
        }
    }
    for (name, key) in demo.fixture["keys"].as_object().unwrap() {
        let key = key.as_str().unwrap();
        // Except the line with the password of the person with that name.
        let mut shown = demo.lines.iter().filter(|line| line.starts_with(&format!("  {name} ")));
        assert!(shown.any(|line| line.contains(key)), "{name}");
    }
}

#[test]
fn a_restart_keeps_the_keys_and_shows_none() {
    let mut demo = Demo::start();
    let made = demo.create(demo.key("alice"), &json!({"name": "Made before"})).json()["data"]["key"].clone();
    let before = std::fs::read(demo.file("fixture.json")).unwrap();
    for _ in 0..2 {
        demo.restart();
        assert_eq!(std::fs::read(demo.file("fixture.json")).unwrap(), before);
        let said = demo.lines.join("\n");
        for key in demo.fixture["keys"].as_object().unwrap().values().chain([&made]) {
            assert!(!said.contains(&key.as_str().unwrap()[8..]), "{said}");
        }
        for key in ["alice", "alice_test", "bob", "carol", "dave"] {
            assert_eq!(demo.bearer("GET", "/v1/users/usr_123", demo.key(key)).status, 200, "{key}");
        }
        assert_eq!(demo.bearer("GET", "/v1/users/usr_123", made.as_str().unwrap()).status, 200);
        for key in ["expired", "revoked"] {
            assert_eq!(demo.bearer("GET", "/v1/users/usr_123", demo.key(key)).status, 401, "{key}");
        }
    }
    // If the fixture was deleted, it is not invented again.
    std::fs::remove_file(demo.file("fixture.json")).unwrap();
    demo.restart();
    assert!(!demo.file("fixture.json").exists());
}

/// A pepper that is too short or missing makes the start fail. A pepper that was removed is reported.
#[test]
fn c7_07_and_c7_08_peppers_come_from_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.db");
    let start = |peppers: &str| {
        let environment = [("DB", file.to_str().unwrap()), ("TOWER_API_KEY_PEPPERS", peppers)];
        conformance::server_kit::Program::start("server", &environment)
    };
    for wrong in ["", "2026", "2026:too short", "sha256", &format!("2026:{0},2026:{0}", "x".repeat(32))] {
        assert!(!start(wrong).ended_well(), "C7-08: {wrong}");
    }
    let (old, new) = (format!("2026:{}", "o".repeat(32)), format!("2027:{}", "n".repeat(32)));
    let said = start(&old).lines_to("Stop with Ctrl-C.");
    assert!(!said.iter().any(|line| line.contains("Warning")), "{said:?}");
    let mut named = said.iter().filter_map(|line| line.trim().strip_prefix("alice  "));
    let alice = named.find(|line| line.trim().starts_with("sk_live_")).unwrap().trim();
    let alice = alice.split(' ').next().unwrap();

    let call = |lines: &[String]| {
        let host = lines[0].strip_prefix("Listening on http://").unwrap().split(',').next().unwrap();
        let request = conformance::server_kit::Request::new("GET", host, "/v1/users/usr_123");
        request.header("Authorization", &format!("Bearer {alice}")).send().status
    };
    let without = start(&new);
    let said = without.lines_to("Stop with Ctrl-C.");
    let warning = "Warning: 8 keys need \"hmac:2026\", which is missing. They are refused.";
    assert_eq!(said[1], warning, "C7-07");
    assert_eq!(call(&said), 401, "C7-07");
    drop(without);
    let both = start(&format!("{new},{old}"));
    let said = both.lines_to("Stop with Ctrl-C.");
    assert!(!said.iter().any(|line| line.contains("Warning")), "C7-07: {said:?}");
    assert_eq!(call(&said), 200, "C7-07");
    // The digest is renewed in the background, so one key fewer is reported.
    let mut missed = said[1].clone();
    for _ in 0..100 {
        let once_more = start(&new);
        missed = once_more.lines_to("Stop with Ctrl-C.")[1].clone();
        if missed.contains(" 7 ") {
            break;
        }
    }
    assert_eq!(missed, warning.replace('8', "7"), "C7-07");
}

#[test]
fn c7_05_the_file_holds_no_secret_in_any_spelling() {
    let demo = Demo::start();
    let alice = demo.key("alice");
    let mut secrets: Vec<String> = demo.fixture["keys"].as_object().unwrap().values().map(text).collect();
    for _ in 0..5 {
        let made = demo.create(alice, &json!({"name": "Made"})).json()["data"].clone();
        let id = made["id"].as_str().unwrap();
        let rotated = demo.bearer("POST", &format!("/v1/api-keys/{id}/rotate"), alice).json()["data"].clone();
        let last = rotated["id"].as_str().unwrap();
        assert_eq!(demo.bearer("DELETE", &format!("/v1/api-keys/{last}"), alice).status, 200);
        secrets.extend([text(&made["key"]), text(&rotated["key"])]);
    }
    for key in &secrets {
        demo.bearer("POST", "/v1/charges", key);
        demo.body("upload-file", key, "alice", "p1");
    }

    let database = |name: &str| name.starts_with("keys.db").then(|| std::fs::read(demo.file(name)).unwrap());
    let files = || -> Vec<u8> {
        let names = std::fs::read_dir(demo.directory.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| database(&name)).flatten().collect()
    };
    let check = |bytes: &[u8]| {
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(holds(b"Alice's key for p1"), "this search finds what is there");
        for secret in &secrets {
            let random = &secret["sk_live_".len()..][..33];
            for spelling in spellings(random) {
                assert!(!holds(&spelling), "{}", String::from_utf8_lossy(&spelling));
            }
        }
    };
    // First in the write-ahead log, then in the file itself.
    check(&files());
    let connection = rusqlite::Connection::open(demo.file("keys.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    check(&files());
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The text as it is, in hexadecimal, UTF-16 and base64, at every offset.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    let mut all = vec![
        text.as_bytes().to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
    ];
    // Base64 encodes groups of three bytes, so a text has another encoding at each offset within a group. The first
    // and last characters depend on the neighbouring bytes.
    for skipped in 0..3 {
        let groups = text.as_bytes()[skipped..].chunks_exact(3);
        let sextets = groups.flat_map(|group| {
            let group = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            [18, 12, 6, 0].map(|shift| (group >> shift) as usize & 0x3f)
        });
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        all.push(sextets.map(|sextet| ALPHABET[sextet]).collect());
    }
    all
}

#[test]
fn the_search_for_secrets_knows_their_spellings() {
    let spellings = spellings("Man is");
    assert!(spellings.contains(&b"Man is".to_vec()));
    assert!(spellings.contains(&b"4d616e206973".to_vec()));
    assert!(spellings.contains(&b"M\0a\0n\0 \0i\0s\0".to_vec()));
    assert!(spellings.contains(&b"TWFuIGlz".to_vec()));
    assert!(spellings.contains(&b"YW4g".to_vec()));
}

#[cfg(unix)]
#[test]
fn the_fixture_and_the_file_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let demo = Demo::start();
    for name in ["fixture.json", "keys.db", "keys.db-wal"] {
        let mode = std::fs::metadata(demo.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn it_stops_when_it_is_told_to() {
    let demo = Demo::start();
    // A client that keeps its connection open without sending anything does not stop the server from ending.
    let idle = TcpStream::connect(&demo.host).unwrap();
    demo.program.tell_to_stop();
    assert!(demo.program.ended_well());
    drop(idle);
}

#[cfg(unix)]
#[test]
fn running_requests_end_before_it_stops() {
    let demo = Demo::start();
    let mut stream = TcpStream::connect(&demo.host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "POST /v1/charges HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        demo.host,
        demo.key("alice")
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server sends `100 Continue` when the handler reads the body.
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));

    demo.program.tell_to_stop();
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(&demo.host).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts connections");
        std::thread::yield_now();
    }
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(demo.program.ended_well());
}

#[test]
#[ignore = "waits for the server's deadline of ten seconds"]
fn c3_23_half_a_head_does_not_stay_open() {
    let demo = Demo::start();
    let streams = ["", "G", "GET /v1/users/usr_123 HTTP/1.1\r\nHost: x\r\nAuthorization: Bea"].map(|start| {
        let mut stream = TcpStream::connect(&demo.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        stream
    });
    for mut stream in streams {
        let mut rest = Vec::new();
        // The connection is closed, with or without a response, and not kept open.
        stream.read_to_end(&mut rest).unwrap();
    }
}

#[test]
fn the_document_says_what_each_area_needs() {
    let demo = Demo::start();
    let answer = demo.curl("curl https://api.example.com/openapi.json", &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, method, security) in [
        ("/pixelStripeApi/projects/status", "post", json!([{}])),
        ("/api/v1/sites", "get", json!([{"api-key-header": []}])),
        ("/v1/api-keys/{id}", "delete", json!([{"bearer": []}])),
        ("/v1/prices", "get", json!([{}, {"bearer": []}])),
        ("/migrate/echo", "post", json!([{"bearer": []}, {"api-key-header": []}, {}])),
        ("/health", "get", Value::Null),
    ] {
        let operation = &document["paths"][path][method];
        assert!(operation["responses"]["200"].is_object(), "{path}");
        assert_eq!(operation["security"], security, "{path}");
    }
}

#[test]
fn r42_a_key_that_was_found_is_ended_by_itself() {
    let demo = Demo::start();
    let found = demo.key("alice").to_owned();
    let revoke = format!(
        "curl -X POST https://api.example.com/v1/api-keys/self-revoke -H \"Authorization: Bearer {found}\""
    );
    assert_eq!(demo.bearer("GET", "/v1/users/u", &found).status, 200);
    let first = demo.curl(&revoke, &[]);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(demo.bearer("GET", "/v1/users/u", &found).status, 401);
    assert_eq!(demo.curl(&revoke, &[]).json(), first.json());
}

#[test]
fn c17_f2_a_connection_string_that_demands_tls_is_understood_by_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let made = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let made = made.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::write(&file, made.pem()).unwrap();
    let run = |file: &std::path::Path| {
        // Nothing listens there.
        let url = format!("postgres://127.0.0.1:1/x?sslmode=verify-full&sslrootcert={}", file.display());
        let mut server = std::process::Command::new(conformance::server_kit::example("server"));
        server
            .env("ADDR", "127.0.0.1:0")
            .env("DB", directory.path().join("keys.db"))
            .env("DATABASE_URL", url);
        let ended = server.env_remove("FIXTURE").output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8(ended.stderr).unwrap()
    };
    let told = run(&file);
    assert!(told.contains("error connecting to server"), "{told}");
    let told = run(&directory.path().join("none.pem"));
    assert!(told.contains("`sslrootcert`") && told.contains("cannot be read"), "{told}");
}
