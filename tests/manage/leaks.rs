//! Secret scanners say which keys they found (R42).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use data_encoding::BASE64;
use http::Request;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower_api_key::delivery::{Delivery, Occasion};
use tower_api_key::manage::{Leak, Leaks, PublicKey, PublicKeyList, PublicKeys};
use tower_api_key::store::StoreError;
use tower_api_key::{
    ConfigError, Environment, Grace, KeyDigest, KeyFormat, KeyRecord, KeyStore, Keyring, MemoryStore, NewKey,
    Verifier,
};

use crate::common::{World, send, user};
use crate::{Down, Told, record};

const URL: &str = "https://github.com/a/b/blob/main/c";

/// One who signs, as GitHub does.
pub(crate) struct Scanner {
    name: &'static str,
    key: SigningKey,
}

impl Scanner {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, key: SigningKey::generate() }
    }

    pub(crate) fn entry(&self, is_current: bool) -> Value {
        let pem = self.key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        json!({"key_identifier": self.name, "key": pem, "is_current": is_current})
    }

    fn signature(&self, body: &str) -> String {
        let signature: DerSignature = self.key.sign(body.as_bytes());
        BASE64.encode(signature.as_bytes())
    }

    pub(crate) fn report(&self, body: &str) -> Request<Body> {
        report(body, &[(IDENTIFIER, self.name), (SIGNATURE, &self.signature(body))])
    }
}

const IDENTIFIER: &str = "Github-Public-Key-Identifier";
const SIGNATURE: &str = "Github-Public-Key-Signature";

fn report(body: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let headers: Vec<_> = headers.iter().chain(&[("content-type", "application/json")]).copied().collect();
    crate::common::request("POST", "/leaks", &headers, body.to_owned())
}

fn find(token: &str) -> Value {
    json!({"token": token, "type": "acme_api_key", "url": URL, "source": "commit"})
}

pub(crate) fn list(entries: &[Value]) -> PublicKeyList {
    PublicKeyList::from_json(&json!({"public_keys": entries}).to_string()).unwrap()
}

type Seen = Arc<Mutex<Vec<Leak>>>;

fn app(world: &World, keys: impl PublicKeys) -> (Router, Told, Seen) {
    let (told, seen) = (Told::default(), Seen::default());
    let keyring = Keyring::new(world.store.clone()).deliver(told.clone());
    let sink = Arc::clone(&seen);
    let leaks = Leaks::new(keyring, Verifier::new(world.store.clone()), keys)
        .on_leak(move |leak| sink.lock().unwrap().push(leak.clone()));
    (Router::new().route("/leaks", leaks.route()), told, seen)
}

fn answered(token: &str, label: &str) -> Value {
    let hash: String = Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"token_hash": hash, "token_type": "acme_api_key", "label": label})
}

#[tokio::test]
async fn r42_found_keys_are_revoked_and_their_owners_told_once() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let (app, told, seen) = app(&world, list(&[scanner.entry(true)]));
    let keyring = Keyring::new(world.store.clone());
    let old = keyring.issue(NewKey::user_level(user("u_own"), "a")).await.unwrap();
    let new = keyring.rotate(old.id(), Grace::For(Duration::from_secs(600))).await.unwrap();
    let unknown = KeyFormat::default().generate(Environment::Live).unwrap();
    let finds = [
        (world.own.expose_secret(), "true_positive"),
        (world.revoked.expose_secret(), "true_positive"),
        (world.expired.expose_secret(), "true_positive"),
        (old.key().expose_secret(), "true_positive"),
        (unknown.expose_secret(), "false_positive"),
        ("sk_live_garbage", "false_positive"),
        ("", "false_positive"),
        (world.own.expose_secret(), "true_positive"),
    ];
    let body = Value::Array(finds.iter().map(|(token, _)| find(token)).collect()).to_string();
    let answer = send(&app, scanner.report(&body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), ["application/json"]);
    let expected: Vec<_> = finds.iter().map(|(token, label)| answered(token, label)).collect();
    assert_eq!(answer.json(), Value::Array(expected));

    let own = record(&world, &world.own).await;
    for key in [&world.own, &world.expired, old.key()] {
        assert!(record(&world, key).await.revoked_at.is_some());
    }
    assert!(record(&world, new.key()).await.revoked_at.is_none(), "the successor is another secret");
    assert!(record(&world, &world.full).await.revoked_at.is_none());
    let trail = Keyring::new(world.store.clone()).history(&own.id, 1).await.unwrap();
    assert_eq!((trail[0].event.to_string(), &*trail[0].by), ("revoked:leaked".to_owned(), "system"));
    let leaked = Occasion::Leaked { url: Some(URL.to_owned()) };
    assert_eq!(told.take(), [(leaked.clone(), own.id.to_string()), (leaked, old.id().to_string())]);
    {
        let mut seen = seen.lock().unwrap();
        let shown = |leak: &Leak| (leak.was_active, leak.delivery);
        assert_eq!(
            seen.iter().map(shown).collect::<Vec<_>>(),
            [
                (true, Delivery::Queued),
                (false, Delivery::None),
                (false, Delivery::None),
                (true, Delivery::Queued),
                (false, Delivery::None)
            ]
        );
        assert_eq!((&seen[0].key, seen[0].owner.as_str()), (&own.id, "u_own"));
        assert_eq!((&*seen[0].kind, seen[0].source.as_deref()), ("acme_api_key", Some("commit")));
        seen.clear();
    }
    // Repeated, it is the same answer, and nobody is told again.
    assert_eq!(send(&app, scanner.report(&body)).await.body, answer.body);
    assert!(told.take().is_empty() && seen.lock().unwrap().iter().all(|leak| !leak.was_active));
}

#[tokio::test]
async fn r42_nothing_is_read_that_is_not_signed() {
    let world = World::new().await;
    let (scanner, retired, stranger) = (Scanner::new("k1"), Scanner::new("k0"), Scanner::new("k1"));
    let (app, told, seen) = app(&world, list(&[scanner.entry(true), retired.entry(false)]));
    let body = json!([find(world.own.expose_secret())]).to_string();
    let good = scanner.signature(&body);
    let raw = BASE64.decode(good.as_bytes()).unwrap();
    let mut flipped = raw.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut longer = raw.clone();
    longer.push(0);
    let encoded = [flipped, longer, vec![0; 64], vec![0; 4096], Vec::new()].map(|raw| BASE64.encode(&raw));
    let mut forged = vec![
        report(&body, &[]),
        report(&body, &[(IDENTIFIER, "k1")]),
        report(&body, &[(SIGNATURE, &good)]),
        report(&body, &[(IDENTIFIER, "k2"), (SIGNATURE, &good)]),
        report(&body, &[(IDENTIFIER, ""), (SIGNATURE, &good)]),
        report(&body, &[(IDENTIFIER, "k1"), (IDENTIFIER, "k1"), (SIGNATURE, &good)]),
        report(&body, &[(IDENTIFIER, "k1"), (SIGNATURE, &good), (SIGNATURE, &good)]),
        report(&body, &[(IDENTIFIER, "k1"), (SIGNATURE, "not base64!")]),
        report(&body.replace(',', ", "), &[(IDENTIFIER, "k1"), (SIGNATURE, &good)]),
        report(&format!("{body}\n"), &[(IDENTIFIER, "k1"), (SIGNATURE, &good)]),
        // Never parsed: else it would be a 400.
        report("[", &[(IDENTIFIER, "k1"), (SIGNATURE, &good)]),
        report("", &[(IDENTIFIER, "k1"), (SIGNATURE, &good)]),
        stranger.report(&body),
        retired.report(&body),
    ];
    forged
        .extend(encoded.iter().map(|signature| report(&body, &[(IDENTIFIER, "k1"), (SIGNATURE, signature)])));
    let mut bodies = Vec::new();
    for request in forged {
        let answer = send(&app, request).await;
        assert_eq!(answer.verdict(), "401/invalid_signature");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert!(record(&world, &world.own).await.revoked_at.is_none());
    assert!(told.take().is_empty() && seen.lock().unwrap().is_empty());
    let signed = report(&body, &[(IDENTIFIER, "k1"), (SIGNATURE, &good)]);
    assert_eq!(send(&app, signed).await.status, 200);
    assert!(record(&world, &world.own).await.revoked_at.is_some());
}

#[tokio::test]
async fn r42_what_is_signed_and_no_report_changes_nothing() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let (app, _, seen) = app(&world, list(&[scanner.entry(true)]));
    for body in ["", "{}", "null", "\"a\"", "[", "[]]", "{\"token\": \"a\"}"] {
        assert_eq!(send(&app, scanner.report(body)).await.verdict(), "400/malformed_body", "{body}");
    }
    // What names no token says nothing, and takes nothing from those that do.
    let own = find(world.own.expose_secret());
    let body = json!([1, null, {}, {"token": 5}, {"token": null}, [], own]).to_string();
    let answer = send(&app, scanner.report(&body)).await;
    assert_eq!(answer.json(), json!([answered(world.own.expose_secret(), "true_positive")]));
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(send(&app, scanner.report("[]")).await.json(), json!([]));
    // An empty URL is none; a missing one, too.
    let body = json!([{"token": world.full.expose_secret(), "type": "x", "url": ""}]).to_string();
    assert_eq!(send(&app, scanner.report(&body)).await.status, 200);
    let seen = seen.lock().unwrap();
    assert_eq!((seen[1].url.as_deref(), seen[1].source.as_deref()), (None, None));
}

#[tokio::test]
async fn r42_a_large_body_is_refused_and_what_cannot_be_told_is_a_503() {
    /// Cannot fetch them.
    struct Offline;

    #[async_trait]
    impl PublicKeys for Offline {
        async fn find(&self, _: &str) -> Result<Option<PublicKey>, Box<dyn std::error::Error + Send + Sync>> {
            Err("no network".into())
        }
    }

    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let keys = || list(&[scanner.entry(true)]);
    let keyring = || Keyring::new(world.store.clone());
    let verifier = || Verifier::new(world.store.clone());
    let router = |leaks: Leaks| Router::new().route("/leaks", leaks.route());
    let body = json!([find(world.own.expose_secret())]).to_string();

    let small = router(Leaks::new(keyring(), verifier(), keys()).limit(body.len()).unwrap());
    assert_eq!(send(&small, scanner.report(&format!("{body} "))).await.verdict(), "413/body_too_large");
    for app in [
        router(Leaks::new(keyring(), verifier(), Offline)),
        router(Leaks::new(keyring(), Verifier::new((Down, world.store.clone())), keys())),
        router(Leaks::new(Keyring::new(MemoryStore::new()), verifier(), keys())),
    ] {
        let answer = send(&app, scanner.report(&body)).await;
        assert_eq!(answer.verdict(), "503/auth_unavailable");
        assert_eq!(answer.header("retry-after"), ["1"]);
        assert!(!String::from_utf8_lossy(&answer.body).contains("network"));
    }
    assert!(record(&world, &world.own).await.revoked_at.is_none());
    assert_eq!(send(&small, scanner.report(&body)).await.status, 200);
    assert!(matches!(Leaks::new(keyring(), verifier(), keys()).limit(0), Err(ConfigError::Zero(_))));
}

/// A store in which the row of one key makes no sense.
struct Torn(MemoryStore, KeyDigest);

#[async_trait]
impl KeyStore for Torn {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        if digest.matches(&self.1) { Err(StoreError::corrupt("a row")) } else { self.0.find(digest).await }
    }
}

#[tokio::test]
async fn r42_a_row_that_makes_no_sense_keeps_no_other_leaked_key_alive() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let store = (Torn(world.store.clone(), world.p1.digest()), world.store.clone());
    let leaks =
        Leaks::new(Keyring::new(world.store.clone()), Verifier::new(store), list(&[scanner.entry(true)]));
    let app = Router::new().route("/leaks", leaks.route());
    let finds = [&world.p1, &world.own].map(|key| find(key.expose_secret()));
    let answer = send(&app, scanner.report(&json!(finds).to_string())).await;
    assert_eq!(answer.verdict(), "503/auth_unavailable", "of one it could not be told");
    assert!(record(&world, &world.own).await.revoked_at.is_some());
}

#[test]
fn r42_a_list_of_public_keys_is_read_strictly() {
    let scanner = Scanner::new("k1");
    assert!(list(&[]).get("k1").is_none());
    assert!(list(&[scanner.entry(true)]).get("k1").is_some());
    assert!(list(&[scanner.entry(false)]).get("k1").is_none());
    let mut no_flag = scanner.entry(true);
    no_flag.as_object_mut().unwrap().remove("is_current");
    let mut no_key = scanner.entry(true);
    no_key["key"] = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----".into();
    let bad = [json!({}), json!([]), json!({"public_keys": [no_flag]}), json!({"public_keys": [no_key]})];
    for list in bad.map(|list| list.to_string()).iter().map(|list| &**list).chain(["", "{"]) {
        let error = PublicKeyList::from_json(list).unwrap_err();
        assert!(matches!(error, ConfigError::PublicKey(_)), "{list}");
    }
}

/// Who signs may still write anything.
#[test]
fn c17_b3_no_report_makes_the_webhook_panic() {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, Strategy as _, prop_assert, proptest};
    use proptest::sample::select;

    const PIECES: &[&str] = &[
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "null",
        "0",
        "-1e999",
        "\\u0000",
        "\\ud800",
        "é",
        "\0",
        "\"token\":",
        "\"type\":",
        "\"url\":",
        "\"source\":",
        "\"sk_live_\"",
        "\"a\"",
        "[{\"token\":\"a\",\"type\":\"t\",\"url\":\"u\"}",
        "[{\"token\":\"a\"},",
        "[[[[[[[[",
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scanner = Scanner::new("k1");
    let world = runtime.block_on(World::new());
    let (app, ..) = app(&world, list(&[scanner.entry(true)]));
    let texts = || vec(select(PIECES), 0..12).prop_map(|pieces| pieces.concat());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(body in texts(), header in "[ -~]{0,40}")| {
        let unsigned = report(&body, &[(IDENTIFIER, &header), (SIGNATURE, &header)]);
        for request in [scanner.report(&body), unsigned] {
            let answer = runtime.block_on(send(&app, request));
            prop_assert!(!answer.status.is_server_error(), "{} to {body}", answer.status);
        }
    });
}
