//! Making, replacing and ending keys: the keyring over a store in memory.

use std::collections::{BTreeSet, HashSet};
use std::num::{NonZero, NonZeroU32};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use test_kit::{Call, Hook, Hooked, project, user};
use tower_api_key::store::{
    Accounts as _, Directory, KeyStore as _, Member, MemberRole, MemoryStore, NoProjects, Project, StoreError,
};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    AccountStatus, ApiKeys, Authority, Clock as _, Environment, Grace, IssuedKey, KeyFormat, KeyId, KeyLevel,
    KeyPolicy, KeyQuery, KeyRecord, Keyring, KeyringError, NewKey, ProjectId, Timestamp, UserId,
};

const NOW: i64 = 1_700_000_000;

/// Account `a`: alice owns it, carol reads p1; projects p1 and p2. Account `b`: dave owns it.
async fn people() -> MemoryStore {
    let store = MemoryStore::new();
    store.create_account("a", &user("alice")).await.unwrap();
    store.create_account("b", &user("dave")).await.unwrap();
    for id in ["p1", "p2"] {
        let project = Project::new(project(id), id.to_uppercase());
        store.create_project("a", &project).await.unwrap();
    }
    let reads_p1 = Member::new(MemberRole::ReadOnly, [project("p1")]);
    store.set_member("a", &user("carol"), &reads_p1).await.unwrap();
    store
}

async fn at_noon() -> (MemoryStore, ManualClock, Keyring) {
    let (store, clock) = (people().await, ManualClock::new(Timestamp::from_secs(NOW)));
    let keyring = ApiKeys::new(store.clone()).clock(clock.clone()).keyring();
    (store, clock, keyring)
}

async fn works(store: &MemoryStore, clock: &ManualClock, issued: &IssuedKey) -> bool {
    let record = store.find(&issued.key().digest()).await.unwrap();
    record.is_some_and(|record| record.is_active(clock.now()))
}

async fn rows(keyring: &Keyring, owner: &str) -> usize {
    keyring.list(&user(owner), &KeyQuery::default()).await.unwrap().len()
}

#[tokio::test]
async fn r29_an_issued_key_is_found_by_its_digest_and_its_secret_is_not_stored() {
    let (store, clock, keyring) = at_noon().await;
    let new = NewKey::project_level(user("alice"), "  CI of p1 ", project("p1"))
        .environment(Environment::Test)
        .expires_at(Timestamp::from_secs(NOW + 60))
        .scopes(["builds:write", "builds:read"])
        .metadata("team", "infrastructure");
    let issued = keyring.issue(new).await.unwrap();
    let secret = issued.key().expose_secret();
    assert!(secret.starts_with("sk_test_"));
    assert_eq!(KeyFormat::default().environment_of(secret), Some(Environment::Test));

    let found = store.find(&issued.key().digest()).await.unwrap().unwrap();
    assert_eq!(&found.id, issued.id());
    assert!(found.id.as_str().starts_with("key_"));
    assert_eq!(found.owner, user("alice"));
    assert_eq!(found.level, KeyLevel::Project(project("p1")));
    assert_eq!(found.environment, Environment::Test);
    assert_eq!(found.name, "CI of p1");
    assert_eq!(found.prefix, "sk_test_");
    assert_eq!(found.last4, secret[secret.len() - 4..]);
    assert_eq!(found.scopes, BTreeSet::from(["builds:read".into(), "builds:write".into()]));
    assert_eq!(found.metadata["team"], "infrastructure");
    assert_eq!(found.created_at, clock.now());
    assert_eq!(found.expires_at, Some(Timestamp::from_secs(NOW + 60)));

    let random = &secret["sk_test_".len()..secret.len() - 6];
    for shown in
        [format!("{issued:?}"), format!("{issued:#?}"), format!("{:?}", issued.key()), format!("{found:?}")]
    {
        assert!(!shown.contains(random), "{shown}");
    }
    let digest = issued.key().digest();
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!format!("{found:?} {issued:?}").contains(&hex));
}

#[tokio::test]
async fn r34_r35_an_invalid_key_is_refused_and_not_stored() {
    let (_, _, keyring) = at_noon().await;
    let alice = || NewKey::user_level(user("alice"), "fine");
    let named = |name: &str| NewKey::user_level(user("alice"), name);
    let many = |count: usize| (0..count).map(|n| format!("scope:{n}"));
    let with_metadata = |count: usize| (0..count).fold(alice(), |new, n| new.metadata(format!("{n}"), "x"));
    type Is = fn(&KeyringError) -> bool;
    let name: Is = |error| matches!(error, KeyringError::Name);
    let expiry: Is = |error| matches!(error, KeyringError::Expiry);
    let scopes: Is = |error| matches!(error, KeyringError::Scopes);
    let metadata: Is = |error| matches!(error, KeyringError::Metadata);
    let forbidden: Is = |error| matches!(error, KeyringError::Forbidden);
    let cases = [
        (named(" "), name),
        (named(&"x".repeat(65)), name),
        (named("a\u{202E}b"), name),
        (named("a\nb"), name),
        (alice().expires_at(Timestamp::from_secs(NOW)), expiry),
        (alice().expires_at(Timestamp::from_secs(NOW - 1)), expiry),
        (alice().expires_at(Timestamp::from_micros(i64::MIN)), expiry),
        (alice().scopes([""]), scopes),
        (alice().scopes(["two words"]), scopes),
        (alice().scopes(["quo\"te"]), scopes),
        (alice().scopes(["back\\slash"]), scopes),
        (alice().scopes(["ü"]), scopes),
        (alice().scopes(["x".repeat(65)]), scopes),
        (alice().scopes(many(65)), scopes),
        (alice().metadata("", "x"), metadata),
        (alice().metadata("n".repeat(65), "x"), metadata),
        (alice().metadata("n", "x".repeat(513)), metadata),
        (with_metadata(33), metadata),
        (NewKey::user_level(user("nobody"), "x"), forbidden),
        (NewKey::project_level(user("nobody"), "x", project("p1")), forbidden),
        (NewKey::project_level(user("alice"), "x", project("q1")), forbidden),
        (NewKey::project_level(user("dave"), "x", project("p1")), forbidden),
        (NewKey::project_level(user("carol"), "x", project("p2")), forbidden),
    ];
    for (new, is_right) in cases {
        let shown = format!("{new:?}");
        let error = keyring.issue(new).await.unwrap_err();
        assert!(is_right(&error), "{shown}: {error:?}");
        assert!(error.to_string().len() > 20, "{error}");
    }
    for owner in ["alice", "carol", "dave", "nobody"] {
        assert_eq!(rows(&keyring, owner).await, 0, "{owner}");
    }
    let largest = with_metadata(32).metadata("0", "x".repeat(512)).scopes(many(63)).scopes(["!".repeat(64)]);
    let _ = keyring.issue(largest).await.unwrap();
    let _ = keyring.issue(NewKey::project_level(user("carol"), "x", project("p1"))).await.unwrap();
}

#[tokio::test]
async fn r26_a_key_for_an_inaccessible_project_is_neither_issued_nor_rotated() {
    let (store, clock, keyring) = at_noon().await;
    let key = keyring.issue(NewKey::project_level(user("alice"), "x", project("p1"))).await.unwrap();
    store.delete_project("a", &project("p1")).await.unwrap();
    let error = keyring.rotate(key.id(), Grace::None).await.unwrap_err();
    assert!(matches!(error, KeyringError::Forbidden), "{error:?}");
    assert!(works(&store, &clock, &key).await, "a rotation that failed changes nothing");
    keyring.revoke(key.id()).await.unwrap();

    let key = keyring.issue(NewKey::user_level(user("alice"), "x")).await.unwrap();
    store.suspend_account("a", true).await.unwrap();
    assert!(matches!(keyring.rotate(key.id(), Grace::None).await, Err(KeyringError::Forbidden)));
    assert!(matches!(
        keyring.issue(NewKey::user_level(user("alice"), "x")).await,
        Err(KeyringError::Forbidden)
    ));
    keyring.revoke(key.id()).await.expect("revoking asks nobody but the ledger (R42)");
}

/// Answers first, and then lets something happen, once.
struct AndThen {
    store: MemoryStore,
    happens: AtomicBool,
    then: fn(MemoryStore) -> BoxFuture,
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

impl AndThen {
    fn directory(store: &MemoryStore, then: fn(MemoryStore) -> BoxFuture) -> Hooked<Self> {
        Hooked::new(store, Self { store: store.clone(), happens: AtomicBool::new(true), then })
    }
}

#[async_trait]
impl Hook for AndThen {
    async fn after(&self, call: Call) {
        if call == Call::AccountStatus && self.happens.swap(false, Ordering::Relaxed) {
            (self.then)(self.store.clone()).await;
        }
    }
}

/// For each way in which the owner can lose access while a key is being issued.
#[tokio::test]
async fn c9_15_a_key_issued_while_its_owner_loses_the_right_to_it_does_not_come_back() {
    let of_user: fn(UserId) -> NewKey = |carol| NewKey::user_level(carol, "raced");
    let of_p1: fn(UserId) -> NewKey = |carol| NewKey::project_level(carol, "raced", project("p1"));
    let removed: fn(MemoryStore) -> BoxFuture = |store| {
        Box::pin(async move {
            store.remove_member("a", &user("carol"), Timestamp::from_secs(NOW)).await.unwrap();
        })
    };
    let suspended: fn(MemoryStore) -> BoxFuture =
        |store| Box::pin(async move { store.suspend_account("a", true).await.unwrap() });
    let taken_off_p1: fn(MemoryStore) -> BoxFuture = |store| {
        Box::pin(async move {
            let nothing = Member::new(MemberRole::Full, []);
            store.set_member("a", &user("carol"), &nothing).await.unwrap();
        })
    };
    for (new, then) in [
        (of_user, removed),
        (of_p1, removed),
        (of_user, suspended),
        (of_p1, suspended),
        (of_p1, taken_off_p1),
    ] {
        let store = people().await;
        let keyring = Keyring::new((store.clone(), AndThen::directory(&store, then)));
        let issued = keyring.issue(new(user("carol"))).await;
        assert!(matches!(issued, Err(KeyringError::Forbidden)), "{issued:?}");
        let keys = keyring.list(&user("carol"), &KeyQuery::default()).await.unwrap();
        assert_eq!(keys.len(), 1, "{new:?}, {then:?}");
        assert!(keys[0].revoked_at.is_some(), "it would come back with its owner");
    }

    // Losing access to another project does not matter.
    let store = people().await;
    let keyring = Keyring::new((store.clone(), AndThen::directory(&store, taken_off_p1)));
    let issued = keyring.issue(of_user(user("carol"))).await.unwrap();
    assert!(store.find(&issued.key().digest()).await.unwrap().unwrap().revoked_at.is_none());
}

/// Answers once, and then fails.
struct FailsThen(AtomicBool);

#[async_trait]
impl Directory for FailsThen {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        if self.0.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Overloaded);
        }
        Ok(AccountStatus::Active { role: None })
    }
}

#[tokio::test]
async fn c9_15_a_key_is_not_returned_if_its_owner_cannot_be_checked_again() {
    let keyring = Keyring::new((MemoryStore::new(), FailsThen(AtomicBool::new(false))));
    let issued = keyring.issue(NewKey::user_level(user("alice"), "raced")).await;
    assert!(matches!(issued, Err(KeyringError::Store(StoreError::Overloaded))), "{issued:?}");
    let keys = keyring.list(&user("alice"), &KeyQuery::default()).await.unwrap();
    assert!(keys.len() == 1 && keys[0].revoked_at.is_some());
}

#[tokio::test]
async fn r30_with_one_key_per_user_issuing_ends_the_one_before_in_the_same_environment() {
    let (store, clock, keyring) = at_noon().await;
    let keyring = keyring.policy(KeyPolicy::Single { grace: false });
    let live = keyring.issue(NewKey::user_level(user("alice"), "1")).await.unwrap();
    let test = NewKey::user_level(user("alice"), "2").environment(Environment::Test);
    let test = keyring.issue(test).await.unwrap();
    let others = keyring.issue(NewKey::user_level(user("carol"), "3")).await.unwrap();
    let next = keyring.issue(NewKey::user_level(user("alice"), "4")).await.unwrap();
    let work = [
        works(&store, &clock, &live).await,
        works(&store, &clock, &test).await,
        works(&store, &clock, &others).await,
        works(&store, &clock, &next).await,
    ];
    assert_eq!(work, [false, true, true, true]);
    assert!(matches!(
        keyring.issue(NewKey::user_level(user("alice"), "\n\u{0}")).await,
        Err(KeyringError::Name)
    ));
    assert!(works(&store, &clock, &next).await, "an issue that failed ends nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_09_a_hundred_at_once_do_not_exceed_the_policy() {
    let (_, _, keyring) = at_noon().await;
    let keyring = keyring.policy(KeyPolicy::Multiple { max: NonZero::new(7).unwrap() });
    let issue = |n: usize| {
        let keyring = keyring.clone();
        tokio::spawn(async move { keyring.issue(NewKey::user_level(user("alice"), n.to_string())).await })
    };
    let mut issued = 0;
    for task in (0..100).map(issue).collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(_) => issued += 1,
            Err(error) => assert!(matches!(error, KeyringError::TooManyKeys), "{error:?}"),
        }
    }
    assert_eq!((issued, rows(&keyring, "alice").await), (7, 7));
}

#[tokio::test]
async fn r31_rotation_replaces_the_secret_and_nothing_else() {
    let (store, clock, keyring) = at_noon().await;
    let new = NewKey::project_level(user("alice"), "CI", project("p1"))
        .environment(Environment::Test)
        .expires_at(Timestamp::from_secs(NOW + 1000))
        .scopes(["a", "b"])
        .metadata("k", "v");
    let old = keyring.issue(new).await.unwrap();
    clock.advance(Duration::from_secs(10));
    let new = keyring.rotate(old.id(), Grace::None).await.unwrap();
    assert!(!works(&store, &clock, &old).await);
    assert!(works(&store, &clock, &new).await);
    let (before, after) = (old.record(), new.record());
    assert_ne!(before.id, after.id);
    assert_ne!(old.key().expose_secret(), new.key().expose_secret());
    assert_eq!(after.created_at, clock.now());
    assert_eq!(after.prefix, "sk_test_");
    let kept = |record: &KeyRecord| {
        let KeyRecord { owner, level, environment, name, scopes, metadata, expires_at, .. } = record.clone();
        (owner, level, environment, name, scopes, metadata, expires_at)
    };
    assert_eq!(kept(before), kept(after));
    let ended = keyring.get(old.id()).await.unwrap().unwrap();
    assert_eq!((ended.revoked_at, ended.replaced_by.as_ref()), (Some(clock.now()), Some(new.id())));
    assert!(matches!(keyring.rotate(old.id(), Grace::None).await, Err(KeyringError::Ended)));
}

#[tokio::test]
async fn grace_lets_both_work_and_never_outlives_the_old_key() {
    let (store, clock, keyring) = at_noon().await;
    let old = keyring.issue(NewKey::user_level(user("alice"), "x")).await.unwrap();
    let new = keyring.rotate(old.id(), Grace::For(Duration::from_secs(60))).await.unwrap();
    assert!(works(&store, &clock, &old).await && works(&store, &clock, &new).await);
    let again = keyring.rotate(old.id(), Grace::For(Duration::from_secs(60))).await;
    assert!(matches!(again, Err(KeyringError::Ended)), "a replaced key is not rotated again");
    clock.advance(Duration::from_secs(59));
    assert!(works(&store, &clock, &old).await);
    clock.advance(Duration::from_secs(1));
    assert!(!works(&store, &clock, &old).await && works(&store, &clock, &new).await);

    let short = NewKey::user_level(user("alice"), "x").expires_at(Timestamp::from_secs(NOW + 100));
    let short = keyring.issue(short).await.unwrap();
    let _ = keyring.rotate(short.id(), Grace::For(Duration::MAX)).await.unwrap();
    let old = keyring.get(short.id()).await.unwrap().unwrap();
    assert_eq!(old.expires_at, Some(Timestamp::from_secs(NOW + 100)));
    assert_eq!(old.revoked_at, None);

    let key = keyring.issue(NewKey::user_level(user("alice"), "x")).await.unwrap();
    let _ = keyring.rotate(key.id(), Grace::For(Duration::ZERO)).await.unwrap();
    assert!(!works(&store, &clock, &key).await, "without a grace the old key ends at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_simultaneous_rotations_one_wins() {
    let (store, clock, keyring) = at_noon().await;
    let key = keyring.issue(NewKey::user_level(user("alice"), "x")).await.unwrap();
    let rotate = |_| {
        let (keyring, id) = (keyring.clone(), key.id().clone());
        tokio::spawn(async move { keyring.rotate(&id, Grace::None).await })
    };
    let mut survivors = 0;
    for task in (0..50).map(rotate).collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(issued) => survivors += usize::from(works(&store, &clock, &issued).await),
            Err(error) => assert!(matches!(error, KeyringError::Ended), "{error:?}"),
        }
    }
    assert_eq!(survivors, 1);
    assert!(!works(&store, &clock, &key).await);
}

#[tokio::test]
async fn r39_revocation_is_terminal_and_may_be_repeated() {
    let (store, clock, keyring) = at_noon().await;
    let key = keyring.issue(NewKey::user_level(user("alice"), "x")).await.unwrap();
    keyring.revoke(key.id()).await.unwrap();
    assert!(!works(&store, &clock, &key).await);
    clock.advance(Duration::from_secs(10));
    keyring.revoke(key.id()).await.unwrap();
    let record = keyring.get(key.id()).await.unwrap().unwrap();
    assert_eq!(record.revoked_at, Some(Timestamp::from_secs(NOW)), "the first time counts");
    assert!(matches!(keyring.rotate(key.id(), Grace::None).await, Err(KeyringError::Ended)));
    let unknown = KeyId::new("key_unknown").unwrap();
    assert!(matches!(keyring.revoke(&unknown).await, Err(KeyringError::NotFound)));
    assert!(matches!(keyring.rotate(&unknown, Grace::None).await, Err(KeyringError::NotFound)));
    assert!(keyring.get(&unknown).await.unwrap().is_none());

    let end = NewKey::user_level(user("alice"), "x").expires_at(Timestamp::from_secs(NOW + 20));
    let expired = keyring.issue(end).await.unwrap();
    clock.advance(Duration::from_secs(10));
    assert!(matches!(keyring.rotate(expired.id(), Grace::None).await, Err(KeyringError::Ended)));
}

#[tokio::test]
async fn lists_one_owner_oldest_first_and_page_by_page() {
    let (_, clock, keyring) = at_noon().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let issued = keyring.issue(NewKey::user_level(user("alice"), n.to_string())).await.unwrap();
        ids.push(issued.id().clone());
        clock.advance(Duration::from_secs(1));
    }
    let foreign = keyring.issue(NewKey::user_level(user("dave"), "x")).await.unwrap();
    let page = async |after: Option<KeyId>| {
        let mut query = KeyQuery::default();
        (query.limit, query.after) = (2, after);
        let keys = keyring.list(&user("alice"), &query).await?;
        Ok::<Vec<_>, KeyringError>(keys.into_iter().map(|key| key.id).collect())
    };
    assert_eq!(page(None).await.unwrap(), ids[..2]);
    assert_eq!(page(Some(ids[1].clone())).await.unwrap(), ids[2..4]);
    assert_eq!(page(Some(ids[3].clone())).await.unwrap(), ids[4..]);
    assert!(page(Some(ids[4].clone())).await.unwrap().is_empty());
    assert!(matches!(page(Some(foreign.id().clone())).await, Err(KeyringError::NotFound)));
}

#[tokio::test]
async fn a_zero_deadline_is_an_error_at_start() {
    assert!(ApiKeys::new(MemoryStore::new()).change_deadline(Duration::ZERO).is_err());
}

/// Never answers within an hour of simulated time; if a caller still waits then, the test fails instead of hanging.
async fn nobody_gives_up<T>() -> T {
    tokio::time::sleep(Duration::from_secs(3600)).await;
    panic!("somebody waits without end")
}

/// Never answers.
#[derive(Default)]
struct Silent {
    /// How many calls wanted to end or list keys.
    asked: AtomicUsize,
}

#[async_trait]
impl Hook for Silent {
    async fn before(&self, call: Call) -> Result<(), StoreError> {
        if matches!(call, Call::End | Call::List) {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        nobody_gives_up().await
    }
}

fn silent() -> Hooked<Silent> {
    Hooked::new(&MemoryStore::new(), Silent::default())
}

#[tokio::test(start_paused = true)]
async fn c10_no_call_waits_forever_for_a_store() {
    let timed_out = |error: KeyringError| match error {
        KeyringError::Store(error) | KeyringError::OutcomeUnknown(error) => {
            matches!(error, StoreError::Timeout)
        }
        _ => false,
    };
    let id = KeyId::new("key_1").unwrap();
    let alice = user("alice");
    let new = || NewKey::user_level(alice.clone(), "x");
    for keyring in [
        Keyring::new(silent()),
        Keyring::new((silent(), people().await)),
        Keyring::new(NoProjects(Arc::new(silent()))),
    ] {
        assert!(timed_out(keyring.issue(new()).await.unwrap_err()), "{keyring:?}");
        assert!(timed_out(keyring.rotate(&id, Grace::None).await.unwrap_err()), "{keyring:?}");
        let revoked = keyring.revoke(&id).await.unwrap_err();
        assert!(
            matches!(revoked, KeyringError::OutcomeUnknown(StoreError::Timeout)),
            "it may have been made"
        );
        assert!(timed_out(keyring.get(&id).await.unwrap_err()), "{keyring:?}");
        assert!(timed_out(keyring.list(&alice, &KeyQuery::default()).await.unwrap_err()), "{keyring:?}");
    }
    let quick = ApiKeys::new(silent()).change_deadline(Duration::from_millis(5)).unwrap().keyring();
    let start = tokio::time::Instant::now();
    assert!(timed_out(quick.revoke(&id).await.unwrap_err()));
    assert!(start.elapsed() < Duration::from_millis(50));
}

/// C17-B1: calls on behalf of one person share a few places at the store, even if each request has its own keyring.
/// Calls that end keys have their own places.
#[tokio::test(start_paused = true)]
async fn c17_g_one_person_has_a_few_places_at_the_store() {
    let (silent, id) = (silent(), KeyId::new("key_1").unwrap());
    let asked = async |silent: &Hooked<Silent>| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        silent.hook.asked.load(Ordering::SeqCst)
    };
    let keyring = Keyring::new(silent.clone());
    let mut tasks = tokio::task::JoinSet::new();
    let mut expected = 0;
    for (who, turns) in [
        (Authority::User(user("alice")), 4),
        (Authority::User(user("alice")), 0),
        (Authority::User(user("dave")), 4),
        // Calls by the application itself do not share places.
        (Authority::System, 20),
    ] {
        for _ in 0..20 {
            let (keyring, owner) = (keyring.acting_as(who.clone()), user("alice"));
            tasks.spawn(async move { keyring.list(&owner, &KeyQuery::default()).await.map(drop) });
        }
        expected += turns;
        assert_eq!(asked(&silent).await, expected, "{who}");
    }
    for _ in 0..20 {
        let (keyring, id) = (keyring.acting_as(Authority::User(user("alice"))), id.clone());
        tasks.spawn(async move { keyring.revoke(&id).await });
    }
    assert_eq!(asked(&silent).await, expected + 4, "ends have turns of their own");
}

#[test]
fn c7_10_keys_are_uniform_over_the_alphabet_and_never_repeat() {
    const KEYS: usize = 120_000;
    const RANDOM: usize = 33;
    let format = KeyFormat::default();
    let mut seen = HashSet::with_capacity(KEYS);
    let mut counts = vec![[0_u32; 128]; RANDOM];
    for _ in 0..KEYS {
        let key = format.generate(Environment::Live).unwrap();
        let random = &key.expose_secret().as_bytes()["sk_live_".len()..][..RANDOM];
        for (place, byte) in counts.iter_mut().zip(random) {
            place[usize::from(*byte)] += 1;
        }
        assert!(seen.insert(<[u8; RANDOM]>::try_from(random).unwrap()), "two keys are alike");
    }
    let alphabet = || (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').map(usize::from);
    let chi_square = |counts: &dyn Fn(usize) -> u32, total: usize| {
        let expected = total as f64 / 62.0;
        alphabet().map(|byte| (f64::from(counts(byte)) - expected).powi(2) / expected).sum::<f64>()
    };
    // 61 degrees of freedom: mean 61, standard deviation 11. Random data exceeds 140 once in 10^7 runs; characters
    // computed as the remainder of a byte would give tens of thousands.
    for (place, counts) in counts.iter().enumerate() {
        assert!(alphabet().all(|byte| counts[byte] > 0), "place {place} misses a character");
        let chi = chi_square(&|byte| counts[byte], KEYS);
        assert!(chi < 140.0, "place {place}: {chi}");
    }
    let all = |byte: usize| counts.iter().map(|place| place[byte]).sum();
    let chi = chi_square(&all, KEYS * RANDOM);
    assert!(chi < 140.0, "all places: {chi}");
    assert_eq!(
        alphabet().map(all).sum::<u32>() as usize,
        KEYS * RANDOM,
        "a character outside of the alphabet"
    );
}

#[tokio::test]
async fn c11_05_ids_are_random_and_say_nothing_about_the_secret() {
    let (_, _, keyring) = at_noon().await;
    let keyring = keyring.policy(KeyPolicy::Multiple { max: NonZeroU32::MAX });
    let mut ids = Vec::new();
    for n in 0..3000 {
        let issued = keyring.issue(NewKey::user_level(user("alice"), n.to_string())).await.unwrap();
        let id = issued.id().as_str().to_owned();
        let random = id.strip_prefix("key_").unwrap();
        assert!(random.len() == 22 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        let secret = issued.key().expose_secret();
        assert!(
            random.as_bytes().windows(6).all(|part| !secret.contains(std::str::from_utf8(part).unwrap()))
        );
        ids.push(id);
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    // The ids of a sequence would always rise, or always fall.
    let rises = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((1300..1700).contains(&rises), "{rises}");
}
