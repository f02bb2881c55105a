//! C10: stores that fail, are slow or return invalid data, and clocks that jump. A request gets a definite refusal
//! only after the store has answered; everything else is 503.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Directory, KeyStore, MemoryStore, NoProjects, StoreError};
use tower_api_key::{
    AccountStatus, ApiKey, ApiKeyAuth, AuthError, AuthErrorKind, Clock, Environment, KeyDigest, KeyId,
    KeyRecord, ProjectId, Role, Timestamp, UserId, Verifier,
};

use super::kit::{Ask, canaries};
use test_kit::{Answer, World, echo, send, user};
use tower_api_key::ApiKeys;
use tower_api_key::store::CachedKey;

const UNAVAILABLE: &str = "503/auth_unavailable";
/// What a driver might say about itself, and what no client may read.
const DRIVER: &str =
    "connection to postgres://admin:hunter2@10.0.0.1:5432/keys refused: SELECT * FROM api_keys";

/// The fault of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Refused,
    Io,
    Overloaded,
    Corrupt,
    SaysTimeout,
    Hangs,
    Late(Duration),
}

const FAULTS: [Fault; 5] = [Fault::Refused, Fault::Io, Fault::Overloaded, Fault::Corrupt, Fault::SaysTimeout];

impl Fault {
    async fn strike(self) -> Result<(), StoreError> {
        match self {
            Self::None => Ok(()),
            Self::Refused => Err(StoreError::failed(DRIVER)),
            Self::Io => Err(StoreError::failed(std::io::Error::other(DRIVER))),
            Self::Overloaded => Err(StoreError::Overloaded),
            Self::Corrupt => Err(StoreError::corrupt("the level of a key is SUPER")),
            Self::SaysTimeout => Err(StoreError::Timeout),
            // If a request waits forever, it is found when the simulated hour is over.
            Self::Hangs => {
                sleep(Duration::from_secs(3600)).await;
                panic!("somebody waits without end")
            }
            Self::Late(by) => {
                sleep(by).await;
                Ok(())
            }
        }
    }
}

/// A store with a fault in each of its two methods.
#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    find: Arc<Mutex<Fault>>,
    standing: Arc<Mutex<Fault>>,
    /// How many calls are running.
    open: Arc<AtomicUsize>,
    /// A key that is answered from memory, whatever the fault.
    warm: Option<[u8; 32]>,
}

impl Faulty {
    fn new(world: &World, find: Fault, standing: Fault) -> Self {
        Self {
            store: world.store.clone(),
            find: Arc::new(Mutex::new(find)),
            standing: Arc::new(Mutex::new(standing)),
            open: Arc::default(),
            warm: None,
        }
    }

    fn set(&self, find: Fault, standing: Fault) {
        *self.find.lock().unwrap() = find;
        *self.standing.lock().unwrap() = standing;
    }
}

/// A running call, until its future is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl KeyStore for Faulty {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let _open = Open::new(&self.open);
        let fault = *self.find.lock().unwrap();
        fault.strike().await?;
        self.store.find(digest).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        if self.warm.as_ref() == Some(digest.as_bytes()) {
            KeyStore::find_cached(&self.store, digest)
        } else {
            CachedKey::Miss
        }
    }
}

#[async_trait]
impl Directory for Faulty {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let _open = Open::new(&self.open);
        let fault = *self.standing.lock().unwrap();
        fault.strike().await?;
        self.store.account_status(user, project).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        self.warm.and_then(|_| Directory::account_status_cached(&self.store, user, project))
    }
}

fn app(verifier: Verifier) -> Router {
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default());
    Router::new().fallback(echo).layer(auth)
}

/// The same key through each scheme.
fn asks(key: &ApiKey) -> [Ask; 3] {
    let body = json!({"apiKey": key.expose_secret(), "userId": "u_own", "projectId": "p1"});
    [Ask::get("/x").bearer(key), Ask::get("/x").api_key(key).project("p1"), Ask::json("/x", body)]
}

fn kind(answer: &Answer) -> AuthErrorKind {
    answer.extensions.get::<AuthError>().unwrap().kind()
}

#[tokio::test]
async fn c10_01_every_fault_of_every_answer_is_the_same_503() {
    let world = World::new().await;
    let secrets = canaries(&world);
    let mut bodies = Vec::new();
    for fault in FAULTS {
        for (find, standing) in [(fault, Fault::None), (Fault::None, fault), (fault, fault)] {
            let app = app(Verifier::new(Faulty::new(&world, find, standing)));
            for ask in asks(&world.own) {
                let answer = send(&app, ask.request()).await;
                let at = format!("C10-01: {find:?}, {standing:?}, {ask:?}");
                assert_eq!(answer.verdict(), UNAVAILABLE, "{at}");
                assert_eq!(answer.header("retry-after"), ["1"], "{at}");
                assert_eq!(answer.header("cache-control"), ["no-store"], "{at}");
                assert!(answer.header("www-authenticate").is_empty(), "{at}: a new key would not help");
                let shown = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
                for text in
                    secrets.iter().map(String::as_str).chain(["postgres", "hunter2", "SELECT", "SUPER"])
                {
                    assert!(!shown.contains(text), "{at}: {text} stands in {shown}");
                }
                // The operator gets the cause.
                let error = answer.extensions.get::<AuthError>().unwrap();
                assert!(std::error::Error::source(error).is_some(), "{at}");
                bodies.push(answer.body);
            }
            // A malformed key is still refused without the store, and nothing else gets a definite refusal.
            let garbage = Ask::get("/x").header("x-api-key", "garbage");
            assert_eq!(
                send(&app, garbage.request()).await.verdict(),
                "401/invalid_api_key",
                "{fault:?}, {find:?}, {standing:?}"
            );
            for key in [&world.revoked, &world.expired, &world.stray] {
                let answer = send(&app, Ask::get("/x").bearer(key).request()).await;
                let told = find == Fault::None && !std::ptr::eq(key, &world.stray);
                assert_eq!(
                    answer.verdict(),
                    if told { "401/invalid_api_key" } else { UNAVAILABLE },
                    "{fault:?}, {find:?}, {standing:?}"
                );
            }
        }
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "C10-01: the answers differ");
}

#[tokio::test(start_paused = true)]
async fn c10_02_a_call_to_a_slow_store_is_dropped_at_the_deadline() {
    let world = World::new().await;
    for (find, standing) in [(Fault::Hangs, Fault::None), (Fault::None, Fault::Hangs)] {
        for (deadline, verifier) in [(1, None), (3, Some(Duration::from_secs(3)))] {
            let faulty = Faulty::new(&world, find, standing);
            let open = Arc::clone(&faulty.open);
            let keys = ApiKeys::new(faulty);
            let keys = match verifier {
                Some(deadline) => keys.lookup_deadline(deadline).unwrap(),
                None => keys,
            };
            let app = app(keys.verifier());
            for ask in asks(&world.own) {
                let start = Instant::now();
                let answer = send(&app, ask.request()).await;
                assert_eq!(
                    (answer.verdict().as_str(), kind(&answer)),
                    (UNAVAILABLE, AuthErrorKind::StoreTimeout),
                    "{find:?}, {standing:?}, {deadline:?}"
                );
                assert_eq!(start.elapsed().as_secs(), deadline, "C10-02: {find:?} {standing:?}");
                assert_eq!(open.load(SeqCst), 0, "C10-02: a question lives on");
            }
        }
    }
    // Late, but in time: each call has the whole deadline.
    let cases = [
        (0, 0, "200:h"),
        (900, 0, "200:h"),
        (900, 900, "200:h"),
        (1100, 0, UNAVAILABLE),
        (0, 1100, UNAVAILABLE),
        (60_000, 0, UNAVAILABLE),
        (900, 60_000, UNAVAILABLE),
    ];
    for (find, standing, verdict) in cases {
        let late = |millis| Fault::Late(Duration::from_millis(millis));
        let app = app(Verifier::new(Faulty::new(&world, late(find), late(standing))));
        for ask in asks(&world.own) {
            assert_eq!(send(&app, ask.request()).await.verdict(), verdict, "C10-02: {find} {standing}");
        }
    }
    assert!(ApiKeys::new(world.store.clone()).lookup_deadline(Duration::ZERO).is_err());
}

/// The rest of this row (a limit on cold look-ups) belongs to the cache. What holds without a cache: no request waits
/// longer than the deadline, nothing keeps running, and warm answers do not wait at all.
#[tokio::test(start_paused = true)]
async fn c10_03_a_flood_of_unknown_keys_on_a_slow_store() {
    let world = World::new().await;
    let mut faulty = Faulty::new(&world, Fault::Hangs, Fault::Hangs);
    faulty.warm = Some(*world.own.digest().as_bytes());
    let open = Arc::clone(&faulty.open);
    let app = app(Verifier::new(faulty));
    let start = Instant::now();
    let flood: Vec<_> = (0..500)
        .map(|_| {
            let (app, ask) = (app.clone(), Ask::get("/x").bearer(&world.b).request());
            tokio::spawn(async move { send(&app, ask).await.verdict() })
        })
        .collect();
    tokio::task::yield_now().await;
    let hot = send(&app, Ask::get("/x").bearer(&world.own).request()).await;
    assert_eq!((hot.verdict().as_str(), start.elapsed()), ("200:h", Duration::ZERO));
    assert!(open.load(SeqCst) > 0, "C10-03: there was no flood");
    for one in flood {
        assert_eq!(one.await.unwrap(), UNAVAILABLE);
    }
    assert_eq!((start.elapsed().as_secs(), open.load(SeqCst)), (1, 0));
}

/// No setting accepts requests while the store fails.
#[test]
fn c10_04_nothing_fails_open() {
    fn files(folder: &std::path::Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, into);
            } else {
                into.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut source = String::new();
    files(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../src")), &mut source);
    assert!(source.contains("store_deadline"));
    for name in [
        "fail_open",
        "failopen",
        "allow_on",
        "on_error",
        "ignore_error",
        "skip_auth",
        "bypass",
        "disable_auth",
    ] {
        assert!(!source.to_lowercase().contains(name), "C10-04: {name} stands in the source");
    }
}

#[tokio::test(start_paused = true)]
async fn c10_05_a_key_without_its_owners_status_is_a_503() {
    let world = World::new().await;
    for fault in FAULTS.into_iter().chain([Fault::Hangs]) {
        let app = app(Verifier::new(Faulty::new(&world, Fault::None, fault)));
        // Nobody can tell owners, people who may read, and people without access from each other.
        for (key, project) in [(&world.ro, "p3"), (&world.ro, "p1"), (&world.own, "p1"), (&world.own, "q1")] {
            let ask = Ask::get("/x").api_key(key).project(project);
            assert_eq!(send(&app, ask.request()).await.verdict(), UNAVAILABLE, "C10-05: {fault:?} {project}");
        }
        let stray = Ask::get("/x").bearer(&world.stray);
        assert_eq!(send(&app, stray.request()).await.verdict(), UNAVAILABLE, "C10-05: {fault:?}");
    }
}

/// Answers every call with one record.
#[derive(Clone)]
struct Says(KeyRecord);

#[async_trait]
impl KeyStore for Says {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(Some(Arc::new(self.0.clone())))
    }
}

fn record(key: &ApiKey) -> KeyRecord {
    KeyRecord::new(KeyId::new("key_1").unwrap(), key.digest(), user("u_own"), Timestamp::from_secs(1))
}

#[tokio::test]
async fn c10_06_invalid_records() {
    let world = World::new().await;
    let verdict = async |record: KeyRecord, key: &ApiKey| {
        let app = app(Verifier::new(NoProjects(Says(record))));
        let answer = send(&app, Ask::get("/x").bearer(key).request()).await;
        (answer.verdict(), answer.extensions.get::<AuthError>().map(AuthError::kind))
    };
    let with = |change: fn(&mut KeyRecord)| {
        let mut record = record(&world.own);
        change(&mut record);
        record
    };
    assert_eq!(verdict(record(&world.own), &world.own).await, ("200:h".to_owned(), None));
    // The prefix of the key says live and the record says test, and vice versa.
    let failed = (UNAVAILABLE.to_owned(), Some(AuthErrorKind::StoreFailed));
    assert_eq!(verdict(with(|key| key.environment = Environment::Test), &world.own).await, failed);
    assert_eq!(verdict(record(&world.test), &world.test).await, failed);
    // The record of another key is refused, because the digests are compared again.
    let unknown = ("401/invalid_api_key".to_owned(), Some(AuthErrorKind::UnknownKey));
    for other in [&world.b, &world.p1, &world.revoked] {
        assert_eq!(verdict(record(other), &world.own).await, unknown, "{other:?}");
    }
    let mut almost = *world.own.digest().as_bytes();
    for bit in [0, 7, 100, 255] {
        almost[bit / 8] ^= 1 << (bit % 8);
        let mut record = record(&world.own);
        record.digest = KeyDigest::from_bytes(almost);
        assert_eq!(verdict(record, &world.own).await, unknown, "C10-06: bit {bit}");
        almost[bit / 8] ^= 1 << (bit % 8);
    }
    // Revocation counts at every time.
    for revoked_at in [i64::MIN, -1, 0, 1, i64::MAX] {
        let mut record = record(&world.own);
        record.revoked_at = Some(Timestamp::from_micros(revoked_at));
        record.expires_at = Some(Timestamp::from_micros(i64::MAX));
        let revoked = ("401/invalid_api_key".to_owned(), Some(AuthErrorKind::RevokedKey));
        assert_eq!(verdict(record, &world.own).await, revoked, "C10-06: {revoked_at}");
    }
}

#[tokio::test(start_paused = true)]
async fn c10_08_the_first_request_after_an_outage_succeeds() {
    let world = World::new().await;
    let faulty = Faulty::new(&world, Fault::None, Fault::None);
    let app = app(Verifier::new(faulty.clone()));
    for round in 0..1000 {
        let fault = if round % 50 == 0 { Fault::Hangs } else { FAULTS[round % FAULTS.len()] };
        let ask = asks(&world.own)[round % 3].clone();
        if round % 2 == 0 {
            faulty.set(fault, Fault::None)
        } else {
            faulty.set(Fault::None, fault)
        }
        assert_eq!(send(&app, ask.request()).await.verdict(), UNAVAILABLE, "C10-08: round {round}");
        faulty.set(Fault::None, Fault::None);
        assert_eq!(send(&app, ask.request()).await.verdict(), "200:h", "C10-08: round {round}");
    }
}

/// A clock that the test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(SeqCst))
    }
}

#[tokio::test]
async fn c10_09_the_moment_of_expiry() {
    let world = World::new().await;
    let clock = Hand::default();
    let cases = [
        (0, None, true),
        (i64::MAX, None, true),
        (i64::MIN, None, true),
        (99, Some(100), true),
        (100, Some(100), false),
        (101, Some(100), false),
        (-1, Some(0), true),
        (0, Some(0), false),
        (0, Some(-1), false),
        (0, Some(i64::MIN), false),
        (i64::MIN, Some(i64::MIN), false),
        (i64::MAX - 1, Some(i64::MAX), true),
        (i64::MAX, Some(i64::MAX), false),
        // The years 2038 and 9999.
        (2_147_483_648_000_000, Some(2_147_483_648_000_000), false),
        (2_147_483_647_999_999, Some(2_147_483_648_000_000), true),
        (253_402_300_799_000_000, Some(253_402_300_800_000_000), true),
    ];
    for (now, end, lives) in cases {
        let mut record = record(&world.own);
        record.expires_at = end.map(Timestamp::from_micros);
        clock.0.store(now, SeqCst);
        let app = app(ApiKeys::new(NoProjects(Says(record))).clock(clock.clone()).verifier());
        let answer = send(&app, Ask::get("/x").bearer(&world.own).request()).await;
        let verdict = if lives { "200:h" } else { "401/invalid_api_key" };
        assert_eq!(answer.verdict(), verdict, "C10-09: now {now}, end {end:?}");
    }
    // Lists and policies use this, too.
    let mut record = record(&world.own);
    assert!(record.is_active(Timestamp::from_secs(5)));
    record.revoked_at = Some(Timestamp::from_secs(9));
    assert!(!record.is_active(Timestamp::from_secs(5)), "C10-09: revoked, whatever the time");
    // If the clock is set back, an expired key works again, but a revoked key never does.
    let app = app(ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier());
    for (now, expired) in [(1_999_999, "200:h"), (2_000_000, "401/invalid_api_key"), (1, "200:h")] {
        clock.0.store(now, SeqCst);
        let verdict = async |key| send(&app, Ask::get("/x").bearer(key).request()).await.verdict();
        assert_eq!(verdict(&world.expired).await, expired, "C10-09: {now}");
        assert_eq!(verdict(&world.revoked).await, "401/invalid_api_key", "C10-09: {now}");
    }
}

#[tokio::test]
async fn c10_10_expiry_is_judged_at_every_request() {
    let world = World::new().await;
    let key = world.key("u_own", |key| key.expires_at = Some(Timestamp::from_secs(100))).await;
    let clock = Hand::default();
    let warm = app(ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier());
    let cold =
        app(ApiKeys::new(Faulty::new(&world, Fault::None, Fault::None)).clock(clock.clone()).verifier());
    for app in [warm, cold] {
        for (now, verdict) in
            [(98, "200:h"), (99, "200:h"), (100, "401/invalid_api_key"), (102, "401/invalid_api_key")]
        {
            clock.0.store(now * 1_000_000, SeqCst);
            for ask in asks(&key) {
                assert_eq!(send(&app, ask.request()).await.verdict(), verdict, "C10-10: {now}");
            }
        }
    }
}

/// The key and the account status are queried for every request, so the next request sees every change.
#[tokio::test]
async fn c10_00_the_application_directory_decides() {
    struct Rights(AccountStatus);

    #[async_trait]
    impl Directory for Rights {
        async fn account_status(
            &self,
            _: &UserId,
            _: Option<&ProjectId>,
        ) -> Result<AccountStatus, StoreError> {
            Ok(self.0)
        }
    }

    let world = World::new().await;
    let cases = [
        (AccountStatus::Disabled, "401/invalid_api_key", "401/invalid_api_key"),
        (AccountStatus::Active { role: None }, "403/forbidden", "403/forbidden"),
        (AccountStatus::Active { role: Some(Role::ReadOnly) }, "200:h", "403/read_only"),
        (AccountStatus::Active { role: Some(Role::Full) }, "200:h", "200:h"),
        (AccountStatus::Active { role: Some(Role::Owner) }, "200:h", "200:h"),
    ];
    for (standing, get, post) in cases {
        let app = app(Verifier::new((world.store.clone(), Rights(standing))));
        for (method, verdict) in [("GET", get), ("POST", post)] {
            let answer = send(&app, Ask::new(method, "/x").bearer(&world.own).request()).await;
            assert_eq!(answer.verdict(), verdict, "C10: {standing:?} {method}");
        }
    }
}
