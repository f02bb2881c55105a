//! C7-06 to C7-08 of docs/threats.md.

use std::num::NonZero;

use tower_api_key::store::Terms;
use tower_api_key::{ConfigError, Credentials, Endpoint, KeyPolicy};

use test_kit::{Call, Hook, Hooked};

use super::*;
use tower_api_key::ApiKeys;

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

fn ring(newest: &str, older: &[&str]) -> Digests {
    let ring = Digests::peppered(pepper(newest)).unwrap();
    older.iter().fold(ring, |ring, older| ring.accept_pepper(pepper(older)).unwrap())
}

/// An attacker who can write to the store can insert the digest of their own key, with any method.
async fn attack(store: &MemoryStore, name: &str, text: &str, method: &str) {
    let mut row = KeyRecord::new(id(name), KeyDigest::of(text), user("alice"), Timestamp::from_secs(1));
    row.digested_by = method.parse().unwrap();
    store.insert(row, &Terms::by(Authority::System).policy(MANY)).await.unwrap();
}

#[tokio::test]
async fn c7_06_a_row_without_the_pepper_is_not_accepted() {
    let store = people().await;
    attack(&store, "says_sha256", "one", "sha256").await;
    attack(&store, "says_hmac", "two", "hmac:p").await;
    for warm in [true, false] {
        let store = Counted { warm, ..Counted::new(store.clone()) };
        let closed = ApiKeys::new(store.clone()).digests(ring("p", &[])).verifier().accept_foreign_keys();
        let closed = site(closed);
        assert_eq!([status(&closed, "one").await, status(&closed, "two").await], [401, 401], "C7-06");
        // As long as older keys are accepted, a row that looks like one is, too. A row that contradicts itself is
        // not.
        let open = ring("p", &[]).accept_sha256();
        let open = site(ApiKeys::new(store).digests(open).verifier().accept_foreign_keys());
        assert_eq!([status(&open, "one").await, status(&open, "two").await], [200, 503], "C7-06");
    }
}

/// A digest that was made with one method and claims another is never accepted, whichever is tried first.
#[tokio::test]
async fn c7_06_a_row_must_match_its_digest_method() {
    for (method, expected) in
        [("sha256", 200), ("sha512", 503), ("sanctum", 503), ("hmac:p", 503), ("slow$x", 503)]
    {
        let store = people().await;
        attack(&store, "k", "text", method).await;
        for warm in [true, false] {
            let store = Counted { warm, ..Counted::new(store.clone()) };
            let site = site(Verifier::new(store).accept_foreign_keys());
            assert_eq!(status(&site, "text").await, expected, "{method}");
        }
    }
}

#[tokio::test]
async fn c7_07_the_newest_pepper_issues_and_all_verify() {
    let store = people().await;
    let keyring = |ring| ApiKeys::new(store.clone()).digests(ring).keyring();
    let plain = Keyring::new(store.clone()).issue(alices("plain")).await.unwrap();
    let v1 = keyring(ring("v1", &[])).issue(alices("v1")).await.unwrap();
    let v2 = keyring(ring("v2", &["v1"])).issue(alices("v2")).await.unwrap();
    let methods = [&plain, &v1, &v2].map(|key| key.record().digested_by.to_string());
    assert_eq!(methods, ["sha256", "hmac:v1", "hmac:v2"], "C7-07");

    for warm in [true, false] {
        let store = Counted { warm, ..Counted::new(store.clone()) };
        let site = |ring| site(ApiKeys::new(store.clone()).digests(ring).verifier());
        let all = site(ring("v2", &["v1"]).accept_sha256());
        for key in [&plain, &v1, &v2] {
            for way in WAYS {
                assert_eq!(send(&all, way, key.key().expose_secret()).await.0, 200, "C7-07: {}", key.id());
            }
        }
        // The pepper v1 is removed.
        let without = site(ring("v2", &[]).accept_sha256());
        assert_eq!(status(&without, v1.key().expose_secret()).await, 401, "C7-07");
        assert_eq!(status(&without, v2.key().expose_secret()).await, 200, "C7-07");
        // A pepper with the same id and another secret is another pepper.
        let other = Pepper::new("v2", [7; 32]).unwrap();
        let other = site(Digests::peppered(other).unwrap());
        assert_eq!(status(&other, v2.key().expose_secret()).await, 401, "C7-07");
    }
    // At start, missing peppers are reported, with the number of keys that need them.
    let missing = |ring| {
        let keyring = keyring(ring);
        async move { keyring.missing_digests().await.unwrap().into_iter().collect::<Vec<_>>() }
    };
    let one = |kind: &str| (kind.to_owned(), 1);
    assert_eq!(missing(ring("v2", &["v1"]).accept_sha256()).await, [], "C7-07");
    assert_eq!(missing(ring("v2", &[]).accept_sha256()).await, [one("hmac:v1")], "C7-07");
    assert_eq!(missing(Digests::sha256()).await, [one("hmac:v1"), one("hmac:v2")], "C7-07");
    // A revoked key needs no pepper any more.
    keyring(ring("v2", &[])).revoke(v1.id()).await.unwrap();
    assert_eq!(missing(ring("v2", &[]).accept_sha256()).await, [], "C7-07");
}

#[tokio::test]
async fn c7_07_a_used_key_gets_the_newest_pepper() {
    for warm in [true, false] {
        let store = Counted { warm, ..Counted::new(people().await) };
        let old = ApiKeys::new(store.clone())
            .digests(ring("v1", &[]))
            .keyring()
            .issue(alices("old"))
            .await
            .unwrap();
        let keyring = ApiKeys::new(store.clone()).digests(ring("v2", &["v1"])).keyring();
        let verifier = ApiKeys::new(store.clone()).digests(ring("v2", &["v1"])).verifier();
        let renewing = site(verifier.clone().renew_digests(store.clone()));
        let text = old.key().expose_secret();
        // Refused requests do not renew a digest, and neither does a verifier that was not told to.
        let mut nobodys = request("json", text);
        *nobodys.body_mut() =
            serde_json::json!({"apiKey": text, "userId": "mallory", "projectId": "p1"}).to_string().into();
        assert_eq!(renewing.clone().oneshot(nobodys).await.unwrap().status(), 401, "warm: {warm:?}");
        assert_eq!(status(&site(verifier), text).await, 200, "warm: {warm:?}");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.rehashes(), [0, 0], "C7-07");

        assert_eq!(status(&renewing, text).await, 200, "warm: {warm:?}");
        digested_by(&keyring, old.id(), "hmac:v2").await;
        assert_eq!(store.rehashes(), [1, 0], "C7-07");
        store.finds();
        let newest_only = site(ApiKeys::new(store.clone()).digests(ring("v2", &[])).verifier());
        assert_eq!(status(&newest_only, text).await, 200, "C7-07");
        assert_eq!(store.finds(), usize::from(!warm), "C7-07");
        assert_eq!(status(&renewing, text).await, 200, "warm: {warm:?}");
        assert_eq!(store.rehashes(), [1, 0], "C7-07: once");
        // It is still the same key: rotation and revocation work as before.
        let next = keyring.rotate(old.id(), tower_api_key::Grace::None).await.unwrap();
        assert_eq!(next.record().digested_by.to_string(), "hmac:v2", "warm: {warm:?}");
        assert_eq!(status(&renewing, text).await, 401, "warm: {warm:?}");
        assert_eq!(status(&renewing, next.key().expose_secret()).await, 200, "warm: {warm:?}");
    }
}

/// Users of keys do not notice if renewals fail or hang.
#[tokio::test]
async fn c7_07_a_failing_renewal_does_not_affect_requests() {
    struct Broken {
        asked: AtomicUsize,
        hangs: bool,
    }

    #[async_trait]
    impl Hook for Broken {
        async fn before(&self, call: Call) -> Result<(), StoreError> {
            assert_eq!(call, Call::Rehash);
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Err(StoreError::Overloaded)
        }
    }

    for hangs in [false, true] {
        let store = people().await;
        let old = ApiKeys::new(store.clone())
            .digests(ring("v1", &[]))
            .keyring()
            .issue(alices("old"))
            .await
            .unwrap();
        let registry = Hooked::new(&store, Broken { asked: AtomicUsize::new(0), hangs });
        let verifier =
            ApiKeys::new(store).digests(ring("v2", &["v1"])).verifier().renew_digests(registry.clone());
        let credentials = || Credentials::new(old.key().expose_secret());
        for _ in 0..200 {
            verifier.verify(&credentials(), Endpoint::READ).await.unwrap();
            tokio::task::yield_now().await;
        }
        // Only a limited number of renewals hang at the same time.
        let asked = registry.hook.asked.load(Ordering::SeqCst);
        assert!(if hangs { (1..=32).contains(&asked) } else { asked == 200 }, "{asked} were asked");
        // Outside of a runtime there is no background task, and nothing fails.
        let outside = std::thread::spawn({
            let (verifier, text) = (verifier.clone(), old.key().expose_secret().to_owned());
            move || {
                let credentials = Credentials::new(text);
                let mut verified = Box::pin(verifier.verify(&credentials, Endpoint::READ));
                let waker = std::task::Waker::noop();
                let polled = verified.as_mut().poll(&mut std::task::Context::from_waker(waker));
                matches!(polled, std::task::Poll::Ready(Ok(_)))
            }
        });
        assert!(outside.join().unwrap(), "hangs: {hangs:?}");
    }
}

#[test]
fn c7_08_an_invalid_pepper_is_an_error_at_start() {
    for short in [&b""[..], &[7; 31]] {
        assert!(
            matches!(Pepper::new("p", short), Err(ConfigError::Pepper(_))),
            "C7-08: {} bytes",
            short.len()
        );
    }
    assert!(matches!(Pepper::from_elsewhere("p", ""), Err(ConfigError::Pepper(_))));
    for id in ["", "a b", "a$b", "a:b", "\u{e4}", &"x".repeat(33)] {
        assert!(matches!(Pepper::new(id, [7; 32]), Err(ConfigError::Pepper(_))), "C7-08: {id}");
    }
    let weak = Pepper::from_elsewhere("weak", "short").unwrap();
    assert!(matches!(Digests::peppered(weak), Err(ConfigError::Pepper(_))), "C7-08");
    assert!(matches!(ring("p", &[]).accept_pepper(pepper("p")), Err(ConfigError::Pepper(_))), "C7-08");
}

#[test]
fn c7_08_a_pepper_shows_nothing() {
    let secret = "this secret has at least 32 bytes";
    let ring = Digests::peppered(Pepper::new("2027", secret).unwrap()).unwrap();
    let verifier = ApiKeys::new(MemoryStore::new()).digests(ring.clone()).verifier();
    let shown = format!("{ring:?} {verifier:?}");
    assert!(shown.contains("2027") && shown.contains("***") && !shown.contains("this secret"), "{shown}");
}
