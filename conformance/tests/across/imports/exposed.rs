//! Leaked imported keys: they can be revoked, too, and this reveals no more than for other keys.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key_manage::{self as manage, Leaks, PublicKey};

use super::elsewhere::{fixtures, ring};
use super::*;
use tower_api_key::ApiKeys;

fn verifier(store: &MemoryStore) -> Verifier {
    ApiKeys::new(store.clone()).digests(ring()).verifier().accept_foreign_keys()
}

async fn is_revoked(keyring: &Keyring, name: &str) -> bool {
    keyring.get(&id(name)).await.unwrap().unwrap().revoked_at.is_some()
}

/// The response of the route by which a holder revokes a key.
async fn self_revoke(store: &MemoryStore, way: &str, key: &str) -> String {
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    let route = manage::self_revoke(keyring, verifier(store), ClientAddr::peer());
    let (status, body) = send(&Router::new().route("/", route), way, key).await;
    format!("{status} {body}")
}

#[tokio::test]
async fn r42_the_holder_of_any_imported_key_can_revoke_it() {
    for way in ["bearer", "json"] {
        let store = people().await;
        let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
        for (at, fixture) in fixtures().iter().enumerate() {
            let name = format!("k{at}");
            assert_eq!(
                keyring.import([imported(&name, fixture.digest())]).await.unwrap().imported,
                1,
                "{way:?}"
            );
            let answer = self_revoke(&store, way, &fixture.key).await;
            assert!(answer.starts_with("200"), "{way}: {}: {answer}", fixture.from);
            assert!(
                is_revoked(&keyring, &name).await,
                "{way}: {}: it says that it did, and did not",
                fixture.from
            );
        }
    }
}

/// Revoked and expired keys, and other keys with the same start.
async fn ended() -> (MemoryStore, Keyring, [String; 2]) {
    let store = people().await;
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    let texts = ["revoked", "expired"].map(|start| format!("{start}.the-rest-of-it"));
    let digest = |start: &str, text: &String| ImportedDigest::slow(start, bcrypt::hash(text, 4).unwrap());
    let past = Timestamp::from(SystemTime::now() - Duration::from_secs(60));
    let report = keyring
        .import([
            imported("revoked", digest("revoked", &texts[0])).revoked_at(past),
            ImportedKey::new(id("expired"), alices("expired").expires_at(past), digest("expired", &texts[1])),
        ])
        .await;
    assert_eq!(report.unwrap().imported, 2);
    (store, keyring, texts)
}

#[tokio::test]
async fn r42_self_revoke_does_not_reveal_that_a_slow_key_has_ended() {
    let (store, keyring, [revoked, expired]) = ended().await;
    for way in ["bearer", "json"] {
        let unknown = self_revoke(&store, way, "unknown.anything").await;
        assert!(unknown.starts_with("200"), "{unknown}");
        for text in ["revoked.anything", "expired.anything", &revoked] {
            assert_eq!(self_revoke(&store, way, text).await, unknown, "{text}");
        }
        assert!(way != "bearer" || !is_revoked(&keyring, "expired").await, "only the whole key ends it");
        assert_eq!(self_revoke(&store, way, &expired).await, unknown, "{way:?}");
        assert!(is_revoked(&keyring, "expired").await, "no clock revives it");
    }
}

#[tokio::test]
async fn r42_a_slow_key_that_has_ended_does_not_hold_up_a_scanners_report() {
    let (store, keyring, [revoked, expired]) = ended().await;
    let active = keyring.issue(alices("active")).await.unwrap();
    let scanner = SigningKey::generate();
    let pem = scanner.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let public = PublicKey::from_pem(&pem).unwrap();
    let leaks = Leaks::new(keyring.clone(), verifier(&store), move |_: &str| Some(public.clone()));
    let app: Router = Router::new().route("/", leaks.route());
    let tokens = [&*revoked, "revoked.anything", &*expired, active.key().expose_secret()];
    let body = json!(tokens.map(|token| json!({"token": token, "type": "t"}))).to_string();
    let signature: DerSignature = scanner.sign(body.as_bytes());
    let report = Request::post("/")
        .header("github-public-key-identifier", "k")
        .header("github-public-key-signature", BASE64.encode(signature.as_bytes()))
        .body(Body::from(body))
        .unwrap();
    let response = app.oneshot(report).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    let answers: Vec<Value> = serde_json::from_slice(&body).unwrap();
    let labels: Vec<_> = answers.iter().map(|answer| answer["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["true_positive", "false_positive", "true_positive", "true_positive"]);
    for name in ["expired", active.id().as_str()] {
        assert!(is_revoked(&keyring, name).await, "{name}");
    }
}

/// Slow hashes and Sanctum tokens are looked up by public parts of the key. A client that knows these parts sends
/// them as a key.
#[tokio::test]
async fn the_public_parts_of_a_digest_are_not_a_key() {
    let store = people().await;
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    let keys = fixtures().into_iter().enumerate().map(|(at, key)| imported(&format!("k{at}"), key.digest()));
    keyring.import(keys).await.unwrap();
    let site = site(verifier(&store));
    for start in fixtures().iter().filter_map(|fixture| fixture.start.as_deref()) {
        let text = format!("start\0{start}");
        assert_eq!(send(&site, "json", &text).await.0, 401, "an alarm that anybody can raise");
    }
}
