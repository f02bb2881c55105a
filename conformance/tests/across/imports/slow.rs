//! Slow hashes: they are found by the start of the key, checked once, and cannot be used to keep a service busy.

use std::num::NonZeroUsize;

use tower_api_key::SlowHashes;
use tower_api_key::store::Terms;

use super::elsewhere::{fixtures, ring};
use super::*;
use tower_api_key::ApiKeys;

/// A text with this start, and its hash, which takes a few milliseconds to compute.
fn hashed(start: &str) -> (String, ImportedDigest) {
    let text = format!("{start}.the-rest-of-it");
    let hash = bcrypt::hash(&text, 4).unwrap();
    (text, ImportedDigest::slow(start, hash))
}

fn slow(hashes: SlowHashes) -> Digests {
    Digests::sha256().accept_slow(hashes)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_first_uses_at_once_all_are_let_in_and_one_replaces_the_hash() {
    for at_once in [1, 4] {
        let store = Counted::new(people().await);
        let hashes = || SlowHashes::until('.').at_once(NonZeroUsize::new(at_once).unwrap());
        let keyring = ApiKeys::new(store.clone()).digests(slow(hashes())).keyring();
        let (text, digest) = hashed("start");
        assert_eq!(
            keyring.import([imported("k", digest)]).await.unwrap().imported,
            1,
            "at_once: {at_once:?}"
        );
        let verifier = ApiKeys::new(store.clone()).digests(slow(hashes())).verifier().accept_foreign_keys();
        let site = site(verifier.renew_digests(store.clone()));
        let requests: Vec<_> = (0..64)
            .map(|n| {
                let (site, text) = (site.clone(), text.clone());
                tokio::spawn(async move { send(&site, WAYS[n % 3], &text).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), (StatusCode::OK, "k".to_owned()), "at_once: {at_once:?}");
        }
        digested_by(&keyring, &id("k"), "sha256").await;
        let [replaced, too_late] = store.rehashes();
        assert_eq!(replaced, 1, "at_once: {at_once:?}");
        // Requests that waited find the key by its new fast digest.
        assert!(too_late < at_once, "{too_late} were checked in vain");
        store.finds();
        assert_eq!(status(&site, &text).await, 200, "at_once: {at_once:?}");
        assert_eq!(store.finds(), 1, "from now on it is as fast as any");
        assert_eq!(status(&site, "start.another-rest").await, 401, "at_once: {at_once:?}");
        let counts = keyring.count_by_digest().await.unwrap();
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("sha256".to_owned(), 1)],
            "at_once: {at_once:?}"
        );
    }
}

#[tokio::test]
async fn only_a_known_start_causes_a_check() {
    let store = people().await;
    // There is no place for a check, so each request that needs one gets 503.
    let hashes = || SlowHashes::until('.').waiting(0);
    let keyring = ApiKeys::new(store.clone()).digests(slow(hashes())).keyring();
    let (text, digest) = hashed("start");
    let (revoked, revoked_digest) = hashed("revoked");
    let keys = [
        imported("k", digest),
        imported("revoked", revoked_digest).revoked_at(Timestamp::from_secs(5)),
        imported("fast", ImportedDigest::plaintext("start2.fast")),
    ];
    assert_eq!(keyring.import(keys).await.unwrap().imported, 3);
    let fast = keyring.issue(alices("new")).await.unwrap();
    for warm in [true, false] {
        let store = Counted { warm, ..Counted::new(store.clone()) };
        let site = site(ApiKeys::new(store).digests(slow(hashes())).verifier().accept_foreign_keys());
        assert_eq!(status(&site, &text).await, 503, "it would be checked");
        assert_eq!(status(&site, "start.anything").await, 503, "warm: {warm:?}");
        for unknown in ["other.anything", "start", "start.", ".start", "nothing"] {
            assert_eq!(status(&site, unknown).await, 401, "{unknown}");
        }
        assert_eq!(status(&site, &revoked).await, 401, "what has ended is not checked");
        assert_eq!(status(&site, "start2.fast").await, 200, "warm: {warm:?}");
        assert_eq!(status(&site, fast.key().expose_secret()).await, 200, "warm: {warm:?}");
    }
}

/// If a key is revoked while it is being checked, the request is refused.
#[tokio::test]
async fn c9_a_key_that_is_revoked_while_it_is_checked_is_refused() {
    /// Revokes the key after this number of look-ups.
    struct Revoking(MemoryStore, AtomicUsize, usize);

    #[async_trait]
    impl KeyStore for Revoking {
        async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            if self.1.fetch_add(1, Ordering::SeqCst) == self.2 {
                self.0
                    .revoke(&id("k"), Timestamp::from_secs(5), &Terms::by(Authority::System))
                    .await
                    .unwrap();
            }
            self.0.find(digest).await
        }
    }

    for at in 0..=4 {
        let store = people().await;
        let keyring = ApiKeys::new(store.clone()).digests(slow(SlowHashes::until('.'))).keyring();
        let (text, digest) = hashed("start");
        keyring.import([imported("k", digest)]).await.unwrap();
        let revoking = (Revoking(store.clone(), AtomicUsize::new(0), at), store);
        let verifier =
            ApiKeys::new(revoking).digests(slow(SlowHashes::until('.'))).verifier().accept_foreign_keys();
        // Look-ups: the newest digest; the start; the start again when the check begins; and once more after the
        // check.
        assert_eq!(status(&site(verifier), &text).await, if at < 4 { 401 } else { 200 }, "at {at}");
    }
}

/// The same if the key gets another hash meanwhile: the hash that was compared is outdated.
#[tokio::test]
async fn c17_g_a_key_that_gets_another_hash_while_it_is_checked_is_refused() {
    /// Returns another hash after this number of look-ups.
    struct Rehashing(MemoryStore, AtomicUsize, usize, String);

    #[async_trait]
    impl KeyStore for Rehashing {
        async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            let is_late = self.1.fetch_add(1, Ordering::SeqCst) >= self.2;
            let found = self.0.find(digest).await?;
            Ok(found.map(|key| {
                let mut key = KeyRecord::clone(&key);
                if is_late {
                    key.digested_by = format!("slow${}", self.3).parse().unwrap();
                }
                Arc::new(key)
            }))
        }
    }

    let other = bcrypt::hash("start.something-else", 4).unwrap();
    for at in 0..=4 {
        let store = people().await;
        let keyring = ApiKeys::new(store.clone()).digests(slow(SlowHashes::until('.'))).keyring();
        let (text, digest) = hashed("start");
        keyring.import([imported("k", digest)]).await.unwrap();
        let rehashing = (Rehashing(store.clone(), AtomicUsize::new(0), at, other.clone()), store);
        let verifier =
            ApiKeys::new(rehashing).digests(slow(SlowHashes::until('.'))).verifier().accept_foreign_keys();
        assert_eq!(status(&site(verifier), &text).await, if at < 4 { 401 } else { 200 }, "at {at}");
    }
}

#[tokio::test]
async fn a_start_may_be_of_a_fixed_length() {
    let store = people().await;
    let hashes = || SlowHashes::first(NonZeroUsize::new(4).unwrap());
    let keyring = ApiKeys::new(store.clone()).digests(slow(hashes())).keyring();
    let hash = bcrypt::hash("abcdefgh", 4).unwrap();
    assert_eq!(
        keyring.import([imported("k", ImportedDigest::slow("abcd", hash))]).await.unwrap().imported,
        1
    );
    let site = site(ApiKeys::new(store).digests(slow(hashes())).verifier().accept_foreign_keys());
    for (text, expected) in
        [("abcdefgh", 200), ("abcdefgx", 401), ("abcd", 401), ("abc", 401), ("abc\u{e4}", 401)]
    {
        assert_eq!(send(&site, "json", text).await.0, expected, "{text}");
    }
}

#[tokio::test]
async fn slow_hashes_that_could_not_be_checked_or_found_are_refused() {
    let keyring = ApiKeys::new(people().await).digests(ring()).keyring();
    let (_, first) = hashed("start");
    let (_, second) = hashed("start");
    let good = bcrypt::hash("x.y", 4).unwrap();
    let of = |name: &str, hash: &str| imported(name, ImportedDigest::slow(name, hash));
    let keys = vec![
        imported("first", first),
        imported("second", second),
        imported("dot", ImportedDigest::slow("a.b", &good)),
        imported("empty", ImportedDigest::slow("", &good)),
        of("plain", "x"),
        of("cost_17", &good.replace("$04$", "$17$")),
        of("cost_3", &good.replace("$04$", "$03$")),
        of("rounds", "pbkdf2_sha256$10000001$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        of("no_rounds", "pbkdf2_sha256$0$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        of("short", "pbkdf2_sha256$1$salt$AAAA"),
        of("sha1", "pbkdf2_sha1$1$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        of(
            "two_gib",
            "$argon2id$v=19$m=2097152,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ),
        of(
            "passes",
            "$argon2id$v=19$m=65536,t=65,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ),
        of(
            "scrypt",
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ),
    ];
    let report = keyring.import(keys).await.unwrap();
    assert_eq!(report.imported, 1);
    let taken = "another key has the same digest, or, with a slow hash, the same start";
    let start = "the configured `SlowHashes` find no key by that start";
    let unknown = "the hash is not a bcrypt, Argon2 or PBKDF2 (Django) hash, or it costs too much to check";
    for (index, _, reason) in reasons(&report) {
        assert_eq!(
            reason,
            match index {
                1 => taken,
                2 | 3 => start,
                _ => unknown,
            }
        );
    }
    assert_eq!(report.refused.len(), 13);
    // Without configured slow hashes, such keys would never be found.
    let (_, digest) = hashed("start");
    let report = Keyring::new(people().await).import([imported("k", digest)]).await.unwrap();
    assert!(reasons(&report)[0].2.contains("\"slow\""));
}

#[tokio::test]
async fn c13_a_slow_hash_is_not_shown() {
    let store = people().await;
    let fixture = fixtures().into_iter().find(|fixture| fixture.method == "slow").unwrap();
    let keyring = ApiKeys::new(store).digests(ring()).keyring();
    keyring.import([imported("k", fixture.digest())]).await.unwrap();
    let shown = format!("{:?}", keyring.get(&id("k")).await.unwrap());
    assert!(!shown.contains(&fixture.hash) && !shown.contains(fixture.start.as_ref().unwrap()), "{shown}");
}

/// bcrypt ignores everything after 72 bytes. Without a check of the length, many texts would match one key.
#[tokio::test]
async fn c17_g_bytes_beyond_what_bcrypt_reads_are_not_a_key() {
    let longest = format!("start.{}", "x".repeat(66));
    assert_eq!(longest.len(), 72);
    for (sent, expected) in [
        (longest.clone(), 200),
        (format!("{longest}x"), 401),
        (format!("{longest}y"), 401),
        (format!("{longest}{}", "x".repeat(400)), 401),
        (longest[..71].to_owned(), 401),
    ] {
        for renews in [false, true] {
            let store = people().await;
            let hashes = || slow(SlowHashes::until('.'));
            let keyring = ApiKeys::new(store.clone()).digests(hashes()).keyring();
            let digest = ImportedDigest::slow("start", bcrypt::hash(&longest, 4).unwrap());
            assert_eq!(
                keyring.import([imported("k", digest)]).await.unwrap().imported,
                1,
                "{sent:?}, renews: {renews:?}"
            );
            let verifier = ApiKeys::new(store.clone()).digests(hashes()).verifier().accept_foreign_keys();
            let verifier = if renews { verifier.renew_digests(store.clone()) } else { verifier };
            let site = site(verifier);
            for way in WAYS {
                assert_eq!(send(&site, way, &sent).await.0, expected, "{} bytes by {way}", sent.len());
            }
            let kind = keyring.get(&id("k")).await.unwrap().unwrap().digested_by.kind().to_owned();
            assert!(expected == 200 || kind == "slow", "{} bytes were taken for it: {kind}", sent.len());
        }
    }
}

/// Two keys may by mistake have the same start or the same id.
#[tokio::test]
async fn c17_d2_another_slow_hash_with_an_existing_id_is_refused() {
    let keyring = ApiKeys::new(people().await).digests(ring()).keyring();
    let hash = bcrypt::hash("start.one", 4).unwrap();
    let digest = |hash: &str| ImportedDigest::slow("start", hash);
    assert_eq!(keyring.import([imported("k", digest(&hash))]).await.unwrap().imported, 1);
    assert_eq!(keyring.import([imported("k", digest(&hash))]).await.unwrap().already_there, 1);
    let other = bcrypt::hash("start.two", 4).unwrap();
    let report = keyring.import([imported("k", digest(&other))]).await.unwrap();
    assert_eq!(reasons(&report), [(0, "k", "another key has that id".to_owned())]);
}

/// With a start of another length than is looked up, the key would never be found.
#[tokio::test]
async fn c17_g_a_start_of_another_length_is_not_imported() {
    let first = |bytes| slow(SlowHashes::first(NonZeroUsize::new(bytes).unwrap()));
    for (ring, start, finds) in [
        (first(4), "abc", false),
        (first(4), "abcd", true),
        (first(4), "abcde", false),
        (first(1), "a", true),
        (slow(SlowHashes::until('.')), "abcd", true),
        (slow(SlowHashes::until('.')), "ab.d", false),
        (slow(SlowHashes::until('.')), "abcd.", false),
    ] {
        let store = people().await;
        let keyring = ApiKeys::new(store.clone()).digests(ring.clone()).keyring();
        let text = format!("{start}.rest");
        let digest = ImportedDigest::slow(start, bcrypt::hash(&text, 4).unwrap());
        let report = keyring.import([imported("k", digest)]).await.unwrap();
        assert_eq!(report.imported == 1, finds, "{start}: {:?}", reasons(&report));
        let site = site(ApiKeys::new(store).digests(ring).verifier().accept_foreign_keys());
        assert_eq!(status(&site, &text).await, if finds { 200 } else { 401 }, "{start}");
    }
}
