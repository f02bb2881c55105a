//! Secret scanners report the keys that they found (R42).

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
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
use tokio::sync::Semaphore;
use tower_api_key::client_addr::{ClientAddr, PeerAddr, ProxyHeader};
use tower_api_key::delivery::{Delivery, NoticeKind};
use tower_api_key::store::{KeyStore, MemoryStore, StoreError};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    Environment, Grace, KeyDigest, KeyFormat, KeyRecord, Keyring, NewKey, Timestamp, Verifier,
};
use tower_api_key_manage::{FetchedKeys, Leak, Leaks, PublicKey, PublicKeyList, PublicKeys};

use crate::{Down, Told, record};
use test_kit::{Pieces, World, send, user};
use tower_api_key::ApiKeys;

const URL: &str = "https://github.com/a/b/blob/main/c";

/// Signs reports as GitHub does.
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
    test_kit::request("POST", "/leaks", &headers, body.to_owned())
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
        assert!(record(&world, key).await.revoked_at.is_some(), "{key:?}");
    }
    assert!(record(&world, new.key()).await.revoked_at.is_none(), "the successor is another secret");
    assert!(record(&world, &world.full).await.revoked_at.is_none());
    let trail = Keyring::new(world.store.clone()).history(&own.id, 1).await.unwrap();
    assert_eq!((trail[0].event.to_string(), &*trail[0].by), ("revoked:leaked".to_owned(), "system"));
    let leaked = NoticeKind::Leaked { url: Some(URL.to_owned()) };
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
    // A repeated report gets the same response, and the owner is not notified again.
    assert_eq!(send(&app, scanner.report(&body)).await.body, answer.body);
    assert!(told.take().is_empty() && seen.lock().unwrap().iter().all(|leak| !leak.was_active));
}

#[tokio::test]
async fn r42_an_unsigned_body_is_not_parsed() {
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
        // An unsigned body is not parsed; otherwise the response would be 400.
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
async fn r42_a_signed_body_that_is_not_a_report_changes_nothing() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let (app, _, seen) = app(&world, list(&[scanner.entry(true)]));
    for body in ["", "{}", "null", "\"a\"", "[", "[]]", "{\"token\": \"a\"}"] {
        assert_eq!(send(&app, scanner.report(body)).await.verdict(), "400/malformed_body", "{body}");
    }
    // Entries without a token are ignored, and do not affect the other entries.
    let own = find(world.own.expose_secret());
    let body = json!([1, null, {}, {"token": 5}, {"token": null}, [], own]).to_string();
    let answer = send(&app, scanner.report(&body)).await;
    assert_eq!(answer.json(), json!([answered(world.own.expose_secret(), "true_positive")]));
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(send(&app, scanner.report("[]")).await.json(), json!([]));
    // An empty URL counts as missing.
    let body = json!([{"token": world.full.expose_secret(), "type": "x", "url": ""}]).to_string();
    assert_eq!(send(&app, scanner.report(&body)).await.status, 200);
    let seen = seen.lock().unwrap();
    assert_eq!((seen[1].url.as_deref(), seen[1].source.as_deref()), (None, None));
}

#[tokio::test]
async fn r42_a_large_body_is_refused_and_an_unknown_outcome_is_a_503() {
    /// A source of public keys that always fails.
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

    let small = router(Leaks::new(keyring(), verifier(), keys()).limit(body.len().try_into().unwrap()));
    assert_eq!(send(&small, scanner.report(&format!("{body} "))).await.verdict(), "413/body_too_large");
    for app in [
        router(Leaks::new(keyring(), verifier(), Offline)),
        router(Leaks::new(keyring(), Verifier::new((Down, world.store.clone())), keys())),
        router(Leaks::new(Keyring::new(MemoryStore::new()), verifier(), keys())),
    ] {
        let answer = send(&app, scanner.report(&body)).await;
        assert_eq!(answer.verdict(), "503/auth_unavailable", "{app:?}");
        assert_eq!(answer.header("retry-after"), ["1"], "{app:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("network"), "{app:?}");
    }
    assert!(record(&world, &world.own).await.revoked_at.is_none());
    assert_eq!(send(&small, scanner.report(&body)).await.status, 200);
}

/// A store in which the row of one key is invalid.
struct Torn(MemoryStore, KeyDigest);

#[async_trait]
impl KeyStore for Torn {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        if digest.matches(&self.1) { Err(StoreError::corrupt("a row")) } else { self.0.find(digest).await }
    }
}

#[tokio::test]
async fn r42_an_invalid_row_does_not_protect_other_leaked_keys() {
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
        assert!(error.to_string().starts_with("not a public key: "), "{list}");
    }
}

/// A signed report may contain anything.
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

/// The webhook, as seen by a scanner and by forgers.
fn webhook(
    world: &World,
    keys: impl PublicKeys,
    change: impl FnOnce(Leaks) -> Leaks,
) -> (Router, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_secs(1_000_000));
    let keyring = ApiKeys::new(world.store.clone()).clock(clock.clone()).keyring();
    let leaks = change(Leaks::new(keyring, Verifier::new(world.store.clone()), keys));
    (Router::new().route("/leaks", leaks.route()), clock)
}

fn from(mut request: Request<Body>, address: impl Into<IpAddr>) -> Request<Body> {
    request.extensions_mut().insert(PeerAddr(address.into()));
    request
}

const FORGER: [u8; 4] = [192, 0, 2, 1];
const SCANNER: [u8; 4] = [192, 0, 2, 2];

#[tokio::test]
async fn c17_b11_a_report_without_a_possible_signature_is_refused_before_its_body_is_read() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let (app, _) = webhook(&world, list(&[scanner.entry(true)]), |leaks| leaks);
    for headers in
        [&[][..], &[(IDENTIFIER, "k1")], &[(SIGNATURE, "AAAA")], &[(IDENTIFIER, "k2"), (SIGNATURE, "AAAA")]]
    {
        let body = Pieces::new(["[]"], true);
        let polls = body.polls();
        let answer = send(&app, report("", headers).map(|_| Body::new(body))).await;
        assert_eq!(answer.verdict(), "401/invalid_signature", "{headers:?}");
        assert_eq!(polls.load(Ordering::SeqCst), 0, "{headers:?}");
    }
}

#[tokio::test]
async fn c17_b11_only_forgers_of_reports_are_slowed_down() {
    let world = World::new().await;
    let (scanner, stranger) = (Scanner::new("k1"), Scanner::new("k1"));
    let (app, clock) = webhook(&world, list(&[scanner.entry(true)]), |leaks| leaks);
    // Valid reports do not use up the budget, however many there are.
    for _ in 0..120 {
        assert_eq!(send(&app, from(scanner.report("[]"), FORGER)).await.status, 200);
    }
    for _ in 0..50 {
        let answer = send(&app, from(stranger.report("[]"), FORGER)).await;
        assert_eq!(answer.verdict(), "401/invalid_signature");
    }
    // After that, no report from this address is read, forged or valid.
    for signer in [&stranger, &scanner] {
        let body = Pieces::new(["[]"], true);
        let polls = body.polls();
        let answer = send(&app, from(signer.report("[]").map(|_| Body::new(body)), FORGER)).await;
        assert_eq!(answer.verdict(), "429/rate_limited");
        assert_eq!(answer.header("retry-after"), ["1"]);
        assert_eq!(answer.header("cache-control"), ["no-store"]);
        assert_eq!(polls.load(Ordering::SeqCst), 0);
    }
    assert_eq!(send(&app, from(scanner.report("[]"), SCANNER)).await.status, 200);
    // The budget refills by ten per second.
    clock.advance(Duration::from_secs(1));
    assert_eq!(send(&app, from(scanner.report("[]"), FORGER)).await.status, 200);
    for _ in 0..10 {
        assert_eq!(send(&app, from(stranger.report("[]"), FORGER)).await.status, 401);
    }
    assert_eq!(send(&app, from(stranger.report("[]"), FORGER)).await.status, 429);
}

#[tokio::test(start_paused = true)]
async fn c17_b11_only_unsigned_reports_use_up_the_budget() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let body = "[]";
    let good = scanner.signature(body);
    let signed = |body: Body| scanner.report("[]").map(|_| body);
    let forged = [
        report(body, &[]),
        report(body, &[(IDENTIFIER, "k1")]),
        report(body, &[(IDENTIFIER, "k2"), (SIGNATURE, &good)]),
        report(body, &[(IDENTIFIER, "k1"), (SIGNATURE, "not base64!")]),
        report("[ ]", &[(IDENTIFIER, "k1"), (SIGNATURE, &good)]),
        // Refused before the signature can be checked.
        signed(vec![b' '; (1 << 20) + 1].into()),
        signed(Body::new(Pieces::new(["["], false))),
    ];
    for (row, request) in forged.into_iter().enumerate() {
        let once = |leaks: Leaks| leaks.failures("1/d".parse().unwrap());
        let (app, _) = webhook(&world, list(&[scanner.entry(true)]), once);
        assert!(matches!(send(&app, from(request, FORGER)).await.status.as_u16(), 401 | 408 | 413), "{row}");
        assert_eq!(send(&app, from(scanner.report(body), FORGER)).await.status, 429, "{row}");
    }
    let once = |leaks: Leaks| leaks.failures("1/d".parse().unwrap());
    let (app, _) = webhook(&world, list(&[scanner.entry(true)]), once);
    for text in ["{}", "[", "", "[]"] {
        assert!(
            matches!(send(&app, from(scanner.report(text), FORGER)).await.status.as_u16(), 200 | 400),
            "{text:?}"
        );
    }
    assert_eq!(send(&app, from(scanner.report(body), FORGER)).await.status, 200);
    // If the webhook cannot check the signature, the sender is not blamed.
    let (app, _) = webhook(&world, Never, once);
    for _ in 0..2 {
        assert_eq!(send(&app, from(scanner.report(body), FORGER)).await.verdict(), "503/auth_unavailable");
    }
}

#[tokio::test]
async fn c17_b11_behind_a_configured_proxy_a_forger_blocks_nobody() {
    let world = World::new().await;
    let (scanner, stranger) = (Scanner::new("k1"), Scanner::new("k1"));
    for named in [true, false] {
        let (app, _) = webhook(&world, list(&[scanner.entry(true)]), |leaks| {
            let client = if named {
                ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::XForwardedFor).unwrap()
            } else {
                ClientAddr::peer()
            };
            leaks.client_addr(client).failures("2/d".parse().unwrap())
        });
        let through = |request: Request<Body>, client: &str| {
            let mut request = from(request, [10, 0, 0, 1]);
            request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
            request
        };
        for _ in 0..2 {
            assert_eq!(
                send(&app, through(stranger.report("[]"), "192.0.2.1")).await.status,
                401,
                "named: {named:?}"
            );
        }
        assert_eq!(
            send(&app, through(stranger.report("[]"), "192.0.2.1")).await.status,
            429,
            "named: {named:?}"
        );
        let good = send(&app, through(scanner.report("[]"), "192.0.2.2")).await;
        assert_eq!(good.status, if named { 200 } else { 429 }, "named: {named:?}");
    }
}

/// Without the client's address there is no budget, because otherwise a forger could block the scanner.
#[tokio::test]
async fn c17_b11_clients_with_unknown_addresses_have_no_budget_of_failures() {
    let world = World::new().await;
    let (scanner, stranger) = (Scanner::new("k1"), Scanner::new("k1"));
    let (app, _) =
        webhook(&world, list(&[scanner.entry(true)]), |leaks| leaks.failures("2/d".parse().unwrap()));
    for _ in 0..20 {
        assert_eq!(send(&app, stranger.report("[]")).await.status, 401);
    }
    assert_eq!(send(&app, scanner.report("[]")).await.status, 200);
}

/// Never returns the public keys.
struct Never;

#[async_trait]
impl PublicKeys for Never {
    async fn find(&self, _: &str) -> Result<Option<PublicKey>, Box<dyn std::error::Error + Send + Sync>> {
        std::future::pending().await
    }
}

/// Returns the public keys when the test says so, and counts the waiting requests.
struct Slow {
    list: PublicKeyList,
    asked: Arc<AtomicUsize>,
    let_go: Arc<Semaphore>,
}

#[async_trait]
impl PublicKeys for Slow {
    async fn find(&self, name: &str) -> Result<Option<PublicKey>, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.let_go.acquire().await?.forget();
        Ok(self.list.get(name).cloned())
    }
}

#[tokio::test(start_paused = true)]
async fn c17_b11_few_public_keys_are_looked_for_at_once_and_one_client_leaves_room() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let (asked, let_go) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
    let slow =
        Slow { list: list(&[scanner.entry(true)]), asked: Arc::clone(&asked), let_go: Arc::clone(&let_go) };
    let (app, _) = webhook(&world, slow, |leaks| leaks);
    let settled = async || {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    };
    let flood = |of: Option<[u8; 4]>| {
        let request = report("[]", &[(IDENTIFIER, "k2"), (SIGNATURE, "AAAA")]);
        let request = if let Some(address) = of { from(request, address) } else { request };
        let app = app.clone();
        tokio::spawn(async move { send(&app, request).await })
    };
    let unknown: Vec<_> = (0..300).map(|_| flood(None)).collect();
    settled().await;
    assert_eq!(asked.load(Ordering::SeqCst), 4, "of all whose address nobody knows");
    // One client gets half of the places for waiting; its other requests are refused at once.
    assert_eq!(unknown.iter().filter(|task| task.is_finished()).count(), 300 - 128);
    let one: Vec<_> = (0..300).map(|_| flood(Some(FORGER))).collect();
    settled().await;
    assert_eq!(asked.load(Ordering::SeqCst), 8, "and of one address");
    // The scanner's request starts at once, and is answered when the keys are there.
    let good = {
        let (app, request) = (app.clone(), from(scanner.report("[]"), SCANNER));
        tokio::spawn(async move { send(&app, request).await })
    };
    settled().await;
    assert_eq!(asked.load(Ordering::SeqCst), 9);
    let_go.add_permits(1000);
    assert_eq!(good.await.unwrap().status, 200);
    for task in unknown.into_iter().chain(one) {
        assert!(matches!(&*task.await.unwrap().verdict(), "401/invalid_signature" | "503/auth_unavailable"));
    }
}

/// A list that can change and fail; it counts the fetches.
#[derive(Clone)]
struct Published {
    list: Arc<Mutex<Option<PublicKeyList>>>,
    fetched: Arc<AtomicUsize>,
}

impl Published {
    fn new(list: PublicKeyList) -> Self {
        Self { list: Arc::new(Mutex::new(Some(list))), fetched: Arc::default() }
    }

    fn is(&self, list: Option<PublicKeyList>) {
        *self.list.lock().unwrap() = list;
    }

    fn fetched(&self) -> usize {
        self.fetched.swap(0, Ordering::SeqCst)
    }

    /// The webhook with this list.
    fn webhook(&self, world: &World) -> (Router, ManualClock) {
        let (published, clock) = (self.clone(), ManualClock::new(Timestamp::from_secs(1_000_000)));
        let keys = FetchedKeys::new(move || {
            let published = published.clone();
            async move {
                published.fetched.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                published.list.lock().unwrap().clone().ok_or_else(|| "out of reach".into())
            }
        });
        let keyring = Keyring::new(world.store.clone());
        let leaks = Leaks::new(keyring, Verifier::new(world.store.clone()), keys.clock(clock.clone()));
        (Router::new().route("/leaks", leaks.route()), clock)
    }
}

#[tokio::test]
async fn c17_b11_unknown_identifiers_fetch_the_public_keys_once_a_minute() {
    let world = World::new().await;
    let (old, new) = (Scanner::new("k1"), Scanner::new("k2"));
    let published = Published::new(list(&[old.entry(true)]));
    let (app, clock) = published.webhook(&world);
    let ask = async |request: Request<Body>| send(&app, request).await.status.as_u16();
    let unknown = async |name: &str| ask(report("[]", &[(IDENTIFIER, name), (SIGNATURE, "AAAA")])).await;
    for number in 0..100 {
        assert_eq!(unknown(&format!("x{number}")).await, 401);
    }
    assert_eq!((ask(old.report("[]")).await, published.fetched()), (200, 1));
    // New keys are found within a minute, and removed ones disappear.
    published.is(Some(list(&[new.entry(true)])));
    assert_eq!((ask(new.report("[]")).await, published.fetched()), (401, 0));
    clock.advance(Duration::from_secs(60));
    let all = tokio::join!(ask(new.report("[]")), ask(new.report("[]")), unknown("x"), unknown("y"));
    assert_eq!((all, published.fetched()), ((200, 200, 401, 401), 1));
    assert_eq!((ask(old.report("[]")).await, published.fetched()), (401, 0));
    // Known keys are used for an hour without a fetch.
    clock.advance(Duration::from_secs(3599));
    assert_eq!((ask(new.report("[]")).await, published.fetched()), (200, 0));
    clock.advance(Duration::from_secs(1));
    assert_eq!((ask(new.report("[]")).await, published.fetched()), (200, 1));
}

#[tokio::test]
async fn c17_b11_public_keys_that_cannot_be_fetched_are_tried_once_a_minute() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let published = Published::new(list(&[scanner.entry(true)]));
    published.is(None);
    let (app, clock) = published.webhook(&world);
    let ask = async |request: Request<Body>| send(&app, request).await.status.as_u16();
    let unknown = || report("[]", &[(IDENTIFIER, "x"), (SIGNATURE, "AAAA")]);
    for _ in 0..20 {
        assert_eq!((ask(scanner.report("[]")).await, ask(unknown()).await), (503, 503));
    }
    assert_eq!(published.fetched(), 1);
    published.is(Some(list(&[scanner.entry(true)])));
    clock.advance(Duration::from_secs(60));
    assert_eq!((ask(scanner.report("[]")).await, published.fetched()), (200, 1));
    // If the list stays unreachable, known keys are used for one day; for unknown ones the response is 503.
    published.is(None);
    clock.advance(Duration::from_secs(3600));
    for _ in 0..20 {
        assert_eq!((ask(scanner.report("[]")).await, ask(unknown()).await), (200, 503));
    }
    assert_eq!(published.fetched(), 1);
    clock.advance(Duration::from_secs(23 * 3600));
    assert_eq!((ask(scanner.report("[]")).await, published.fetched()), (503, 1));
}

/// If the first client disconnects during the fetch, the other clients still get the list.
#[tokio::test]
async fn c17_b11_public_keys_are_fetched_though_the_client_has_disconnected() {
    let world = World::new().await;
    let scanner = Scanner::new("k1");
    let published = Published::new(list(&[scanner.entry(true)]));
    let (app, _) = published.webhook(&world);
    let gone = report("[]", &[(IDENTIFIER, "x"), (SIGNATURE, "AAAA")]);
    let mut asking = Box::pin(send(&app, gone));
    let polled = std::future::poll_fn(|context| Poll::Ready(asking.as_mut().poll(context))).await;
    assert!(polled.is_pending());
    drop(asking);
    assert_eq!(send(&app, scanner.report("[]")).await.status, 200);
    assert_eq!(published.fetched(), 1);
}
