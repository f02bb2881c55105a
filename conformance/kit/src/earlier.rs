//! A database that was written by an earlier release works like one of today's release. Each store has its own copy,
//! with the same keys and people.

use axum::Router;
use axum::body::Body;
use http::Request;
use tower_api_key::client_addr::PeerAddr;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{Directory, KeyRegistry, KeyStore};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKey, ApiKeyAuth, ApiKeys, Environment, Grace, KeyFormat, KeyId, KeyUpdate, Keyring, Timestamp, UserId,
};

use crate::{echo, request, send, user};

/// The test writes this key's digest over that of `key_shaped`, which is all zeros, because the repository must not
/// contain the text of a key.
pub fn shaped() -> ApiKey {
    KeyFormat::default().generate(Environment::Live).unwrap()
}

/// A few minutes after the database was written.
const NOW: Timestamp = Timestamp::from_secs(1_790_000_300);

/// The response to this key, method, path, project and address.
type Row<'a> = (&'a str, &'a str, &'a str, Option<&'a str>, &'a str, &'a str);

const ROWS: &[Row<'_>] = &[
    ("alice", "fixture-alice", "POST /", None, "192.0.2.1", "200:h"),
    ("alice on p2", "fixture-alice", "POST /", Some("p2"), "192.0.2.1", "200:h"),
    ("alice elsewhere", "fixture-alice", "GET /", Some("q1"), "192.0.2.1", "403/forbidden"),
    ("bob reads", "fixture-bob", "GET /", Some("p1"), "192.0.2.1", "200:h"),
    ("bob writes", "fixture-bob", "POST /", Some("p1"), "192.0.2.1", "403/read_only"),
    ("bob elsewhere", "fixture-bob", "GET /", Some("p2"), "192.0.2.1", "403/forbidden"),
    ("carol", "fixture-carol", "POST /", Some("p2"), "192.0.2.1", "200:h"),
    ("p1's", "fixture-alice-p1", "POST /", Some("p1"), "192.0.2.1", "200:h"),
    ("p1's elsewhere", "fixture-alice-p1", "GET /", Some("p2"), "192.0.2.1", "403/project_mismatch"),
    ("narrow", "fixture-narrow", "GET /v1/charges", None, "203.0.113.7", "200:h"),
    ("narrow, IPv6", "fixture-narrow", "GET /v1/charges", None, "2001:db8::1", "200:h"),
    ("narrow, elsewhere", "fixture-narrow", "GET /v1/charges", None, "192.0.2.1", "403/restricted"),
    ("narrow, another path", "fixture-narrow", "GET /", None, "203.0.113.7", "403/restricted"),
    ("narrow, another method", "fixture-narrow", "POST /v1/charges", None, "203.0.113.7", "403/restricted"),
    ("revoked", "fixture-revoked", "GET /", None, "192.0.2.1", "401/invalid_api_key"),
    ("expired", "fixture-expired", "GET /", None, "192.0.2.1", "401/invalid_api_key"),
    ("of a suspended account", "fixture-mallory", "GET /", None, "192.0.2.1", "401/invalid_api_key"),
    ("unknown", "fixture-nobody", "GET /", None, "192.0.2.1", "401/invalid_api_key"),
];

fn id(name: &str) -> KeyId {
    KeyId::new(name).unwrap()
}

async fn verdict(app: &Router, key: &str, way: &str, project: Option<&str>, from: &str) -> String {
    let (method, path) = way.split_once(' ').unwrap();
    let authorization = format!("Bearer {key}");
    let mut headers = vec![("authorization", &*authorization)];
    headers.extend(project.map(|project| ("x-project-id", project)));
    let mut request: Request<Body> = request(method, path, &headers, "");
    request.extensions_mut().insert(PeerAddr(from.parse().unwrap()));
    send(app, request).await.verdict()
}

async fn events(keyring: &Keyring, key: &str) -> Vec<String> {
    let history = keyring.history(&id(key), 9).await.unwrap();
    history.iter().map(|entry| format!("{} by {}", entry.event, entry.by)).collect()
}

/// Checks everything that such a store must keep: which requests are accepted, what is known about keys, and how they
/// can be changed.
pub async fn is_read_and_changed<S>(store: S, shaped: &ApiKey)
where
    S: KeyStore + Directory + KeyRegistry + Clone,
{
    let keys = ApiKeys::new(store).clock(ManualClock::new(NOW));
    let auth = ApiKeyAuth::with_verifier(
        keys.verifier().accept_foreign_keys(),
        Bearer::default().project_header("X-Project-ID").unwrap(),
    );
    let app = Router::new().route("/v1/charges", axum::routing::any(echo)).fallback(echo).layer(auth);
    let keyring = keys.keyring();
    for (row, key, way, project, from, expected) in ROWS {
        assert_eq!(verdict(&app, key, way, *project, from).await, *expected, "{row}");
    }
    let accepted = async |key: &str| verdict(&app, key, "GET /", None, "192.0.2.1").await == "200:h";
    assert!(accepted(shaped.expose_secret()).await, "today's format");

    let p1 = keyring.get(&id("key_alice-p1")).await.unwrap().unwrap();
    assert_eq!(p1.owner, user("alice"));
    assert_eq!(p1.environment, Environment::Test);
    assert_eq!(p1.level.project().map(|project| project.as_str()), Some("p1"));
    assert_eq!(p1.scopes.iter().collect::<Vec<_>>(), ["charges:read", "x \"y\""]);
    assert_eq!(p1.metadata.iter().collect::<Vec<_>>(), [(&"plan".to_owned(), &"gold \u{1f511}".to_owned())]);
    assert_eq!(p1.limits.as_ref().map(ToString::to_string).as_deref(), Some("burst=12/min,200/30d"));
    assert_eq!(p1.expires_at, Some(Timestamp::from_secs(4_000_000_000)));
    let carol = keyring.get(&id("key_carol")).await.unwrap().unwrap();
    assert_eq!(carol.owner, UserId::new("auth0|carol+=").unwrap());
    assert_eq!(keyring.get(&id("key_narrow")).await.unwrap().unwrap().name, "Renamed");
    for (key, expected) in [
        ("key_narrow", &["amended:name by system", "imported by system"][..]),
        ("key_revoked", &["revoked:by_hand by system", "imported by system"]),
        ("key_old", &["issued by system"]),
    ] {
        assert_eq!(events(&keyring, key).await, expected, "{key}");
    }
    let usage = keyring.usage(&[id("key_alice"), id("key_bob")]).await.unwrap();
    let usage: Vec<_> = usage
        .iter()
        .map(|usage| format!("{} {} {} x{}", usage.key, usage.through, usage.last.as_micros(), usage.count))
        .collect();
    assert_eq!(
        usage,
        ["key_alice direct 1790000091000000 x1", "key_alice scheme:bearer 1790000090000000 x3"]
    );

    let renamed = KeyUpdate::new().name("By today's release");
    assert_eq!(keyring.update(&id("key_alice"), renamed).await.unwrap().name, "By today's release");
    let rotated = keyring.rotate(&id("key_shaped"), Grace::None).await.unwrap();
    assert!(accepted(rotated.key().expose_secret()).await, "the new key");
    assert!(!accepted(shaped.expose_secret()).await, "the key that was replaced");
    keyring.revoke(&id("key_carol")).await.unwrap();
    assert!(!accepted("fixture-carol").await, "the key that was revoked");
    assert!(accepted("fixture-alice").await, "the key that was renamed");
    let replaced = format!("replaced_by:{} by system", rotated.id());
    for (key, last) in [
        ("key_alice", "amended:name by system"),
        ("key_shaped", &*replaced),
        ("key_carol", "revoked:by_hand by system"),
    ] {
        let events = events(&keyring, key).await;
        assert!(events.iter().any(|event| event == last), "{key}: {events:?}");
    }
    let listed = keyring.list(&user("alice"), &tower_api_key::KeyQuery::default()).await.unwrap();
    assert!(listed.iter().any(|key| key.id == *rotated.id()) && listed.len() >= 7, "{listed:?}");
}
