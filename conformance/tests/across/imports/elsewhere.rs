//! Keys that other packages made, with what these packages store: fixtures.json, written by generate.sh.

use serde::Deserialize;
use tower_api_key::store::{KeyRegistry, KeyStore};
use tower_api_key_sqlite::SqliteStore;

use super::*;
use tower_api_key::ApiKeys;

#[derive(Deserialize)]
pub(super) struct Fixture {
    pub(super) from: String,
    pub(super) method: String,
    pub(super) key: String,
    pub(super) hash: String,
    id: Option<String>,
    secret: Option<String>,
    pub(super) start: Option<String>,
}

pub(super) fn fixtures() -> Vec<Fixture> {
    serde_json::from_str(include_str!("fixtures.json")).unwrap()
}

impl Fixture {
    pub(super) fn digest(&self) -> ImportedDigest {
        match &*self.method {
            "sha256" => ImportedDigest::sha256(&self.hash),
            "sha512" => ImportedDigest::sha512(&self.hash),
            "sanctum" => ImportedDigest::sanctum(self.id.as_ref().unwrap(), &self.hash),
            "hmac:elsewhere" => ImportedDigest::hmac("elsewhere", &self.hash),
            "slow" => ImportedDigest::slow(self.start.as_ref().unwrap(), &self.hash),
            other => panic!("{other}"),
        }
    }
}

/// All digests that the fixtures need, after SHA-256.
pub(super) fn ring() -> Digests {
    let secret = fixtures().into_iter().find_map(|fixture| fixture.secret).unwrap();
    let secret = Pepper::from_elsewhere("elsewhere", secret).unwrap();
    let ring = Digests::sha256().accept_sha512().accept_sanctum().accept_pepper(secret).unwrap();
    ring.accept_slow(tower_api_key::SlowHashes::until('.'))
}

/// The same text with another last character.
fn mistyped(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    format!("{rest}{}", if last == "x" { "y" } else { "x" })
}

#[tokio::test]
async fn r52_keys_of_other_packages_work_through_every_scheme_from_memory() {
    work_through_every_scheme(people().await).await;
}

#[tokio::test]
async fn r52_keys_of_other_packages_work_through_every_scheme_from_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("keys.db")).await.unwrap();
    store.create_account("a", &user("alice")).await.unwrap();
    store.create_project("a", &Project::new(ProjectId::new("p1").unwrap(), "P1")).await.unwrap();
    work_through_every_scheme(store).await;
}

async fn work_through_every_scheme<S: KeyStore + KeyRegistry + Directory + Clone>(store: S) {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 10);
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    let site = site(ApiKeys::new(store.clone()).digests(ring()).verifier().accept_foreign_keys());
    // C8-02: earlier refusals are not remembered.
    for fixture in &fixtures {
        assert_eq!(status(&site, &fixture.key).await, 401, "{}", fixture.from);
    }
    let keys = fixtures.iter().enumerate().map(|(at, fixture)| imported(&format!("k{at}"), fixture.digest()));
    let report = keyring.import(keys).await.unwrap();
    assert_eq!((report.imported, report.already_there, reasons(&report)), (fixtures.len(), 0, vec![]));
    for (at, fixture) in fixtures.iter().enumerate() {
        for way in WAYS {
            let (status, body) = send(&site, way, &fixture.key).await;
            assert_eq!((status.as_u16(), body), (200, format!("k{at}")), "{way}: {}", fixture.from);
            assert_eq!(send(&site, way, &mistyped(&fixture.key)).await.0, 401, "{way}: {}", fixture.from);
        }
        // Digests may not be renewed here, so they stay the same.
        let record = keyring.get(&id(&format!("k{at}"))).await.unwrap().unwrap();
        assert_eq!(record.digested_by.kind(), fixture.method);
        assert_eq!((&*record.prefix, &*record.last4), ("", ""), "nothing of the text is known");
    }
    // A second import changes nothing.
    let keys = fixtures.iter().enumerate().map(|(at, fixture)| imported(&format!("k{at}"), fixture.digest()));
    let report = keyring.import(keys).await.unwrap();
    assert_eq!((report.imported, report.already_there, reasons(&report)), (0, fixtures.len(), vec![]));
    // A revoked key stays revoked.
    keyring.revoke(&id("k0")).await.unwrap();
    let again = keyring.import([imported("k0", fixtures[0].digest())]).await.unwrap();
    assert_eq!((again.imported, again.already_there), (0, 1));
    assert_eq!(status(&site, &fixtures[0].key).await, 401);
}

/// With a pepper in front, each key gets it when it is first used, and is then found by the first digest.
#[tokio::test]
async fn imported_keys_get_the_newest_digest_at_their_first_use() {
    let store = Counted::new(people().await);
    let newest = || {
        let secret = Pepper::from_elsewhere("elsewhere", fixtures()[4].secret.as_ref().unwrap()).unwrap();
        let ring = Digests::peppered(pepper("new")).unwrap();
        let ring = ring.accept_sha256().accept_sha512().accept_sanctum().accept_pepper(secret).unwrap();
        ring.accept_slow(tower_api_key::SlowHashes::until('.'))
    };
    let keyring = ApiKeys::new(store.clone()).digests(newest()).keyring();
    let keys = fixtures().into_iter().enumerate();
    let keys = keys.map(|(at, fixture)| imported(&format!("k{at}"), fixture.digest()));
    keyring.import(keys.collect::<Vec<_>>()).await.unwrap();
    let verifier = ApiKeys::new(store.clone()).digests(newest()).verifier().accept_foreign_keys();
    let site = site(verifier.renew_digests(store.clone()));
    for (at, fixture) in fixtures().iter().enumerate() {
        let key = id(&format!("k{at}"));
        assert_eq!(status(&site, &fixture.key).await, 200, "{}", fixture.from);
        digested_by(&keyring, &key, "hmac:new").await;
        store.finds();
        assert_eq!(send(&site, "json", &fixture.key).await, (StatusCode::OK, key.to_string()));
        assert_eq!(store.finds(), 1, "{}", fixture.from);
    }
    let counts = keyring.count_by_digest().await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("hmac:new".to_owned(), fixtures().len() as u64)]);
    // Only now can the other digests be removed.
    let closed = ApiKeys::new(store.clone()).digests(Digests::peppered(pepper("new")).unwrap()).keyring();
    assert!(closed.missing_digests().await.unwrap().is_empty());
}

/// Sanctum finds a token by its id and then compares it, so the token does not work with another id.
#[tokio::test]
async fn sanctum_tokens_are_found_by_their_whole_text() {
    let store = people().await;
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    let fixture = fixtures().into_iter().find(|fixture| fixture.method == "sanctum").unwrap();
    keyring.import([imported("k", fixture.digest())]).await.unwrap();
    let verifier = ApiKeys::new(store).digests(ring()).verifier().accept_foreign_keys();
    let (number, secret) = fixture.key.split_once('|').unwrap();
    let site = site(verifier.clone());
    assert_eq!(status(&site, &fixture.key).await, 200);
    for other in [format!("{number}1|{secret}"), format!("|{secret}"), secret.to_owned()] {
        assert_eq!(status(&site, &other).await, 401, "{other}");
    }
    // By default, `Bearer` accepts no pipes (RFC 9110 section 11.2).
    let strict = Router::new().layer(ApiKeyAuth::with_verifier(verifier, Bearer::default()));
    assert_eq!(status(&strict, &fixture.key).await, 401);
}

#[tokio::test]
async fn texts_are_hashed_on_the_way_in() {
    let store = people().await;
    let ring = || Digests::peppered(pepper("p")).unwrap();
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    let ours = tower_api_key::KeyFormat::default().generate(tower_api_key::Environment::Live).unwrap();
    let keys = [
        imported("foreign", ImportedDigest::plaintext("legacy-0001")),
        imported("ours", ImportedDigest::plaintext(ours.expose_secret())),
    ];
    assert_eq!(keyring.import(keys).await.unwrap().imported, 2);
    let site = site(ApiKeys::new(store.clone()).digests(ring()).verifier().accept_foreign_keys());
    assert_eq!(send(&site, "header", "legacy-0001").await, (StatusCode::OK, "foreign".to_owned()));
    assert_eq!(send(&site, "header", ours.expose_secret()).await, (StatusCode::OK, "ours".to_owned()));
    let [foreign, ours_there] = ["foreign", "ours"].map(id);
    let foreign = keyring.get(&foreign).await.unwrap().unwrap();
    assert_eq!((&*foreign.prefix, &*foreign.last4), ("", ""));
    let ours_there = keyring.get(&ours_there).await.unwrap().unwrap();
    assert_eq!((&*ours_there.prefix, &*ours_there.last4), ("sk_live_", &ours.expose_secret()[43..]));
    // An imported key may look like one of our own.
    for key in [&foreign.id, &ours_there.id] {
        let first = keyring.history(key, 99).await.unwrap().pop().unwrap();
        assert_eq!(first.event.to_string(), "imported", "{key:?}");
    }
}

/// If a key gets the newest digest during a look-up, it is still found: older digests are tried first, and the newest
/// one again at the end.
#[tokio::test]
async fn a_key_that_is_rehashed_during_a_look_up_is_found() {
    /// Changes the digest of the key after this number of look-ups.
    struct Moving {
        store: MemoryStore,
        asked: AtomicUsize,
        at: usize,
        to: KeyDigest,
        from: KeyDigest,
    }

    #[async_trait]
    impl KeyStore for Moving {
        async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            if self.asked.fetch_add(1, Ordering::SeqCst) == self.at {
                let method = "hmac:new".parse().unwrap();
                self.store
                    .rehash(&id("k"), &self.from, &self.to, &method, Timestamp::from_secs(0))
                    .await
                    .unwrap();
            }
            self.store.find(digest).await
        }
    }

    let ring = || {
        let ring = Digests::peppered(pepper("new")).unwrap();
        ring.accept_pepper(pepper("old")).unwrap().accept_sha512().accept_sha256()
    };
    let old = || Digests::peppered(pepper("old")).unwrap();
    for at in 0..5 {
        let store = people().await;
        let text = ImportedDigest::plaintext("a-key");
        ApiKeys::new(store.clone()).digests(old()).keyring().import([imported("k", text)]).await.unwrap();
        let from = store.get(&id("k")).await.unwrap().unwrap().digest;
        let scratch = people().await;
        let text = ImportedDigest::plaintext("a-key");
        ApiKeys::new(scratch.clone()).digests(ring()).keyring().import([imported("k", text)]).await.unwrap();
        let to = scratch.get(&id("k")).await.unwrap().unwrap().digest;
        let moving = Moving { store: store.clone(), asked: AtomicUsize::new(0), at, to, from };
        let verifier = ApiKeys::new((moving, store)).digests(ring()).verifier().accept_foreign_keys();
        let credentials = tower_api_key::Credentials::new("a-key");
        let found = verifier.verify(&credentials, tower_api_key::Endpoint::READ).await;
        assert_eq!(found.unwrap().key_id(), &id("k"), "moved at {at}");
    }
}

/// `MANY=100000 cargo test --release -p conformance --test across many_keys -- --nocapture` prints how long it takes.
#[tokio::test]
async fn many_keys_share_what_a_transaction_costs() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("keys.db")).await.unwrap();
    store.create_account("a", &user("alice")).await.unwrap();
    let many: usize = std::env::var("MANY").map_or(2000, |many| many.parse().unwrap());
    let keys = || {
        (0..many).map(|n| imported(&format!("k{n}"), ImportedDigest::plaintext(format!("key-number-{n}"))))
    };
    let keyring =
        ApiKeys::new(store.clone()).change_deadline(std::time::Duration::from_secs(60)).unwrap().keyring();
    let start = std::time::Instant::now();
    let report = keyring.import(keys()).await.unwrap();
    println!("{many} keys in {:?}", start.elapsed());
    assert!(report.imported == many && report.refused.is_empty());
    let start = std::time::Instant::now();
    let report = keyring.import(keys()).await.unwrap();
    println!("and again in {:?}", start.elapsed());
    assert_eq!((report.imported, report.already_there), (0, many));
    let site = site(Verifier::new(store).accept_foreign_keys());
    assert_eq!(send(&site, "header", "key-number-7").await.0, 200);
    assert_eq!(send(&site, "json", "key-number-7").await.0, 403, "p1 is not there");
}
