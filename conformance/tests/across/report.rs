//! Who still uses which scheme: the report of a keyring, and what the routes show of it.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use serde_json::{Value, json};
use test_kit::{World, bearer, get, send, user};
use tower_api_key::keyring::RetirementStatus;
use tower_api_key::restriction::{EndpointRestriction, Restrictions};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{
    Accounts as _, KeyRegistry, KeyStore, MemoryStore, NoProjects, RegistryError, RegistryProxy, StoreError,
    UsageLog,
};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKeyAuth, ApiKeys, Clock as _, Endpoints, Grace, IssuedKey, KeyId, KeyPolicy, KeyQuery, KeyRecord,
    Keyring, KeyringError, NewKey, Timestamp, Usage, UsageChannel, UserId,
};
use tower_api_key_manage as manage;
use tower_api_key_sqlite::SqliteStore;

const START: Timestamp = Timestamp::from_secs(1_767_225_600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn scheme(name: &'static str) -> UsageChannel {
    UsageChannel::Scheme(name.into())
}

/// A keyring over a store, and usage written as a recorder would.
struct Desk<S> {
    store: Arc<S>,
    keyring: Keyring,
    clock: ManualClock,
}

impl<S: KeyRegistry + KeyStore> Desk<S> {
    fn of(store: S) -> Self {
        let (store, clock) = (Arc::new(store), ManualClock::new(START));
        let keyring = ApiKeys::new(NoProjects(Arc::clone(&store))).clock(clock.clone()).keyring();
        Self { store, keyring, clock }
    }

    async fn issue(&self, name: &str) -> IssuedKey {
        self.keyring.issue(NewKey::user_level(user("u_own"), name)).await.unwrap()
    }

    async fn came(&self, key: &IssuedKey, through: UsageChannel, times: u64) {
        let usage = Usage::new(key.id().clone(), through, self.clock.now(), times);
        KeyRegistry::usage_log(&self.store).unwrap().record_usage(&[usage]).await.unwrap();
    }
}

#[tokio::test]
async fn a_report_tells_which_keys_come_through_which_scheme() {
    let folder = tempfile::tempdir().unwrap();
    tells(Desk::of(MemoryStore::new())).await;
    tells(Desk::of(SqliteStore::open(folder.path().join("keys.sqlite")).await.unwrap())).await;
}

async fn tells(desk: Desk<impl KeyRegistry + KeyStore>) {
    let (idle, moved, old) = (desk.issue("idle").await, desk.issue("moved").await, desk.issue("old").await);
    let ended = desk.issue("ended").await;
    for key in [&moved, &old, &ended] {
        desk.came(key, scheme("json-body"), 3).await;
    }
    desk.clock.advance(DAY);
    desk.came(&moved, scheme("bearer"), 2).await;
    desk.came(&moved, UsageChannel::Observed("ip".into()), 9).await;
    desk.keyring.revoke(ended.id()).await.unwrap();

    let report = desk.keyring.report(&user("u_own")).await.unwrap();
    let rows = report
        .keys()
        .iter()
        .map(|key| (key.record().id.clone(), key.last().map(|last| last.through.clone())));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(id, _)| id.to_string());
    let mut expected = vec![
        (idle.id().clone(), None),
        (moved.id().clone(), Some(scheme("bearer"))),
        (old.id().clone(), Some(scheme("json-body"))),
    ];
    expected.sort_by_key(|(id, _)| id.to_string());
    assert_eq!(rows, expected);
    let through = |name| {
        let mut found: Vec<_> =
            report.through(name).map(|(key, usage)| (key.name.clone(), usage.last, usage.count)).collect();
        found.sort();
        found
    };
    let yesterday = START;
    assert_eq!(through("json-body"), [("moved".to_owned(), yesterday, 3), ("old".to_owned(), yesterday, 3)]);
    assert_eq!(through("bearer"), [("moved".to_owned(), desk.clock.now(), 2)]);
    assert!(through("ip").is_empty() && through("api-key-header").is_empty());
    assert_eq!(report.replaced().count(), 0);
    // All pages are read, and the report contains no keys of others.
    for number in 0..97 {
        drop(desk.issue(&number.to_string()).await);
    }
    assert_eq!(desk.keyring.report(&user("u_own")).await.unwrap().keys().len(), 100);
    assert!(desk.keyring.report(&user("u_full")).await.unwrap().keys().is_empty());
}

#[tokio::test]
async fn a_replaced_key_is_safe_to_end_after_enough_time_without_use() {
    let desk = Desk::of(MemoryStore::new());
    let old = desk.issue("old").await;
    desk.came(&old, scheme("json-body"), 1).await;
    let next = desk.keyring.rotate(old.id(), Grace::For(90 * DAY)).await.unwrap();
    let ending = async |quiet| desk.keyring.report(&user("u_own")).await.unwrap().ending(old.id(), quiet);
    let week = 7 * DAY;
    let after = |since: Timestamp| Some(RetirementStatus::Wait(since.saturating_add(week + MINUTE)));
    // It was replaced just now, so it is not safe yet, although nobody has used it.
    assert_eq!(ending(week).await, after(START));
    // Its client uses it again every six days.
    for _ in 0..3 {
        desk.clock.advance(6 * DAY);
        desk.came(&old, scheme("json-body"), 1).await;
        desk.came(&next, scheme("bearer"), 1).await;
        assert_eq!(ending(week).await, after(desk.clock.now()));
    }
    let last_call = desk.clock.now();
    desk.clock.advance(week);
    desk.came(&next, scheme("bearer"), 1).await;
    // Usage of the last minute may not be written yet.
    assert_eq!(ending(week).await, after(last_call));
    desk.clock.advance(MINUTE);
    assert_eq!(ending(week).await, Some(RetirementStatus::Safe));
    assert_eq!(
        ending(2 * week).await,
        Some(RetirementStatus::Wait(last_call.saturating_add(2 * week + MINUTE)))
    );
    // If no other key was used either, perhaps nobody records usage.
    desk.clock.advance(2 * week);
    assert_eq!(ending(week).await, Some(RetirementStatus::Unknown));
    desk.came(&next, scheme("bearer"), 1).await;
    assert_eq!(ending(week).await, Some(RetirementStatus::Safe));
    // A key that was not replaced has no such status.
    let report = desk.keyring.report(&user("u_own")).await.unwrap();
    assert_eq!(report.ending(next.id(), week), None);
    assert!(matches!(desk.keyring.end_grace(next.id()).await, Err(KeyringError::NotFound)));
    desk.keyring.end_grace(old.id()).await.unwrap();
    desk.keyring.end_grace(old.id()).await.unwrap();
    assert!(desk.keyring.get(old.id()).await.unwrap().unwrap().revoked_at.is_some());
    assert_eq!(ending(week).await, None);
    assert!(desk.keyring.get(next.id()).await.unwrap().unwrap().is_active(desk.clock.now()));
}

/// If nothing was recorded since the rotation, this is not proof that the key is unused.
#[tokio::test]
async fn without_a_recorder_nothing_is_safe() {
    let desk = Desk::of(MemoryStore::new());
    let (old, other) = (desk.issue("old").await, desk.issue("other").await);
    desk.came(&other, scheme("bearer"), 1).await;
    desk.clock.advance(DAY);
    drop(desk.keyring.rotate(old.id(), Grace::For(90 * DAY)).await.unwrap());
    desk.clock.advance(30 * DAY);
    for quiet in [Duration::ZERO, DAY, 29 * DAY] {
        let report = desk.keyring.report(&user("u_own")).await.unwrap();
        assert_eq!(report.ending(old.id(), quiet), Some(RetirementStatus::Unknown), "{quiet:?}");
    }
}

#[tokio::test]
async fn r38_the_routes_show_when_and_how_keys_were_used() {
    let store = MemoryStore::new();
    store.create_account("A", &user("u_own")).await.unwrap();
    let clock = ManualClock::new(START);
    let keyring = ApiKeys::new(store.clone()).clock(clock.clone()).keyring();
    let auth = ApiKeyAuth::with_verifier(
        ApiKeys::new(store.clone()).clock(clock.clone()).verifier(),
        Bearer::default(),
    )
    .endpoints(manage::declare(Endpoints::new(), "/keys"))
    .unwrap();
    let app = Router::new().nest("/keys", manage::api_keys(keyring.clone())).layer(auth);
    let old = keyring.issue(NewKey::user_level(user("u_own"), "old")).await.unwrap();
    let came = async |key: &IssuedKey, through, count| {
        let usage = Usage::new(key.id().clone(), through, clock.now(), count);
        store.record_usage(&[usage]).await.unwrap();
    };
    came(&old, scheme("json-body"), 4).await;
    clock.advance(DAY);
    let next = keyring.rotate(old.id(), Grace::For(30 * DAY)).await.unwrap();
    came(&old, scheme("bearer"), 2).await;
    came(&old, UsageChannel::Observed("ip".into()), 7).await;
    let ask = async |path: &str| send(&app, get(path, &[("authorization", &bearer(next.key()))])).await;

    let listed = ask("/keys").await.json();
    let row =
        |id: &str| listed["data"].as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone();
    assert_eq!(
        row(old.id().as_str()),
        json!({"id": old.id().as_str(), "name": "old", "prefix": "sk_live_", "last4": old.record().last4,
            "level": "USER", "project_id": null, "environment": "live", "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-02-01T00:00:00Z", "last_used": "2026-01-02T00:00:00Z", "last_used_by": "bearer",
            "replaced_by": next.id().as_str()})
    );
    assert_eq!(row(next.id().as_str())["last_used"], Value::Null);

    let path = format!("/keys/{}/usage", old.id());
    let usage = async || ask(&path).await.json()["data"].clone();
    let shown = json!({
        "id": old.id().as_str(),
        "usage": [
            {"by": "bearer", "last_used": "2026-01-02T00:00:00Z", "count": 2},
            {"by": "json-body", "last_used": "2026-01-01T00:00:00Z", "count": 4},
        ],
        "replaced_by": next.id().as_str(), "replaced_at": "2026-01-02T00:00:00Z",
        "expires_at": "2026-02-01T00:00:00Z", "safe_to_end": false, "safe_to_end_at": "2026-01-09T00:01:00Z",
    });
    assert_eq!(usage().await, shown);
    clock.advance(7 * DAY + MINUTE);
    let silent = usage().await;
    assert_eq!((&silent["safe_to_end"], &silent["safe_to_end_at"]), (&Value::Null, &Value::Null));
    came(&next, scheme("bearer"), 1).await;
    assert_eq!(usage().await["safe_to_end"], true);
    // The usage of others' keys and of unknown ids is not shown; a project-level key sees no usage at all.
    for id in ["key_unknown", "%00"] {
        assert_eq!(ask(&format!("/keys/{id}/usage")).await.verdict(), "404/key_not_found", "{id:?}");
    }
    let dead = ask(&format!("/keys/{}/usage", next.id())).await.json()["data"].clone();
    assert_eq!((&dead["replaced_by"], &dead["safe_to_end"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn c11_04_usage_of_others_keys_is_that_of_unknown_ones() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(manage::declare(Endpoints::new(), "/keys"))
        .unwrap();
    let app = Router::new().nest("/keys", manage::api_keys(Keyring::new(world.store.clone()))).layer(auth);
    let ask = async |caller, target: &tower_api_key::ApiKey| {
        let id = world.store.find(&target.digest()).await.unwrap().unwrap().id.clone();
        send(&app, get(&format!("/keys/{id}/usage"), &[("authorization", &bearer(caller))])).await.verdict()
    };
    for foreign in [&world.b, &world.full, &world.test] {
        assert_eq!(ask(&world.own, foreign).await, "404/key_not_found", "{foreign:?}");
    }
    assert_eq!(ask(&world.p1, &world.p1).await, "403/forbidden");
    assert_eq!(ask(&world.own, &world.p1).await, "200/-");
    assert_eq!(ask(&world.ro, &world.ro).await, "200/-");
}

/// A store that counts calls and returned rows.
#[derive(Clone)]
struct Counting {
    store: MemoryStore,
    calls: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
}

impl Counting {
    fn new(store: MemoryStore) -> Self {
        Self { store, calls: Arc::default(), rows: Arc::default() }
    }

    fn note(&self, rows: usize) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(rows, Ordering::SeqCst);
    }

    /// Calls and rows since the last check.
    fn take(&self) -> (usize, usize) {
        (self.calls.swap(0, Ordering::SeqCst), self.rows.swap(0, Ordering::SeqCst))
    }
}

#[async_trait]
impl RegistryProxy for Counting {
    type Inner = MemoryStore;

    fn inner(&self) -> &MemoryStore {
        &self.store
    }

    fn is_directory(&self) -> bool {
        false
    }

    fn usage_log(&self) -> Option<&dyn UsageLog> {
        Some(self)
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.note(1);
        self.store.get(id).await
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        // To sort a page, the store reads every active key that follows.
        let sorted = match query.active_at {
            Some(_) => {
                let mut all = query.clone();
                all.limit = u32::MAX;
                self.store.list(owner, &all).await?.len()
            }
            None => 0,
        };
        let page = self.store.list(owner, query).await?;
        self.note(page.len() + sorted);
        Ok(page)
    }
}

#[async_trait]
impl UsageLog for Counting {
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
        self.store.record_usage(batch).await
    }

    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
        let usage = self.store.usage(keys).await?;
        self.note(usage.len());
        Ok(usage)
    }
}

/// The cost of asking whether a key can be ended depends on the key and its successors, not on the number of the
/// owner's keys.
#[tokio::test]
async fn c17_b4_the_usage_of_a_key_costs_the_same_however_many_keys_its_owner_has() {
    let store = MemoryStore::new();
    let counting = Counting::new(store.clone());
    let clock = ManualClock::new(START);
    let keyring = ApiKeys::new((counting.clone(), store.clone()))
        .clock(clock.clone())
        .keyring()
        .policy(KeyPolicy::Multiple { max: NonZero::new(10_000).unwrap() });
    store.create_account("A", &user("u_own")).await.unwrap();
    let auth = ApiKeyAuth::with_verifier(
        ApiKeys::new(store.clone()).clock(clock.clone()).verifier(),
        Bearer::default(),
    )
    .endpoints(manage::declare(Endpoints::new(), "/keys"))
    .unwrap();
    let app = Router::new().nest("/keys", manage::api_keys(keyring.clone())).layer(auth);
    let old = keyring.issue(NewKey::user_level(user("u_own"), "old")).await.unwrap();
    let next = keyring.rotate(old.id(), Grace::For(30 * DAY)).await.unwrap();
    clock.advance(8 * DAY);
    let used = Usage::new(next.id().clone(), scheme("bearer"), clock.now(), 1);
    store.record_usage(&[used]).await.unwrap();
    let path = format!("/keys/{}/usage", old.id());
    let mut costs = Vec::new();
    for more in [0, 100, 1_900] {
        for number in 0..more {
            drop(keyring.issue(NewKey::user_level(user("u_own"), number.to_string())).await.unwrap());
        }
        counting.take();
        let answer = send(&app, get(&path, &[("authorization", &bearer(next.key()))])).await;
        assert_eq!(answer.json()["data"]["safe_to_end"], true, "{more:?}");
        costs.push(counting.take());
    }
    assert_eq!(costs, [costs[0]; 3]);
    assert!(costs[0].0 <= 6 && costs[0].1 <= 8, "{costs:?}");

    // For the whole report, each key is read once, page by page.
    let report = keyring.report(&user("u_own")).await.unwrap();
    assert_eq!(report.keys().len(), 2_002);
    assert_eq!(report.ending(old.id(), 7 * DAY), Some(RetirementStatus::Safe));
    let (calls, rows) = counting.take();
    assert!(calls <= 12 && rows <= 2_002 + 1 + 5, "{calls} calls, {rows} rows");
    let ids: Vec<_> = report.keys().iter().map(|key| key.record().id.clone()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2_002, "no key is there twice");
}

/// A key that is rotated again and again has many successors; a limited number of them is checked.
#[tokio::test]
async fn c17_b4_a_limited_number_of_successors_is_followed() {
    let store = MemoryStore::new();
    let counting = Counting::new(store.clone());
    let clock = ManualClock::new(START);
    let keyring = ApiKeys::new(NoProjects(counting.clone())).clock(clock.clone()).keyring();
    let first = keyring.issue(NewKey::user_level(user("u_own"), "first")).await.unwrap();
    let mut line = vec![first.id().clone()];
    for _ in 0..40 {
        let grace = if line.len() == 1 { Grace::For(90 * DAY) } else { Grace::None };
        line.push(keyring.rotate(line.last().unwrap(), grace).await.unwrap().id().clone());
    }
    clock.advance(8 * DAY);
    counting.take();
    let report = keyring.report_of(first.id()).await.unwrap();
    let (calls, _) = counting.take();
    assert_eq!((report.keys().len(), calls), (17, 18));
    assert!(report.keys().iter().map(|key| &key.record().id).eq(&line[..17]));
    assert_eq!(report.replaced().count(), 1, "the others have ended");
    assert_eq!(report.ending(first.id(), 7 * DAY), Some(RetirementStatus::Unknown));
    let seen = Usage::new(line[16].clone(), scheme("bearer"), clock.now(), 1);
    store.record_usage(&[seen]).await.unwrap();
    let ending = keyring.report_of(first.id()).await.unwrap().ending(first.id(), 7 * DAY);
    assert_eq!(ending, Some(RetirementStatus::Safe));
    let unknown = KeyId::new("key_unknown").unwrap();
    assert!(matches!(keyring.report_of(&unknown).await, Err(KeyringError::NotFound)));
}

/// Keys with long restrictions fill a page by size before they fill it by number.
#[tokio::test]
async fn c17_g_a_report_of_heavy_keys_holds_them_all() {
    let folder = tempfile::tempdir().unwrap();
    holds_them_all(Desk::of(MemoryStore::new())).await;
    holds_them_all(Desk::of(SqliteStore::open(folder.path().join("keys.sqlite")).await.unwrap())).await;
}

async fn holds_them_all(desk: Desk<impl KeyRegistry + KeyStore>) {
    let entries: Vec<String> = (0..70).map(|number| format!("GET /{number}/{}", "x".repeat(90))).collect();
    let heavy = Restrictions::none().endpoints(EndpointRestriction::allow(entries).unwrap());
    let count = tower_api_key::store::MAX_PAGE_LEN * 2 / heavy.to_string().len();
    let mut ids = BTreeSet::new();
    for number in 0..count {
        let new = NewKey::user_level(user("u_own"), number.to_string()).restrictions(heavy.clone());
        ids.insert(desk.keyring.issue(new).await.unwrap().id().clone());
    }
    assert!((50..100).contains(&count), "{count}");
    let page = desk.keyring.page(&user("u_own"), &KeyQuery::new().limit(500)).await.unwrap();
    assert!(page.more && page.keys.len() < count, "one page does not hold them");
    let report = desk.keyring.report(&user("u_own")).await.unwrap();
    assert_eq!(report.keys().len(), count);
    assert_eq!(report.keys().iter().map(|key| key.record().id.clone()).collect::<BTreeSet<_>>(), ids);
}

/// Even if a key was last used long before its replacement, its clients get the whole waiting time after the
/// replacement.
#[tokio::test]
async fn c17_g_a_key_that_was_used_long_before_it_was_replaced_is_not_safe_at_once() {
    let desk = Desk::of(MemoryStore::new());
    let (old, other) = (desk.issue("old").await, desk.issue("other").await);
    desk.came(&old, scheme("json-body"), 1).await;
    desk.clock.advance(30 * DAY);
    drop(desk.keyring.rotate(old.id(), Grace::For(90 * DAY)).await.unwrap());
    let replaced = desk.clock.now();
    let until = |quiet| Some(RetirementStatus::Wait(replaced.saturating_add(quiet + MINUTE)));
    for days in [0, 1, 6] {
        desk.clock.advance(days * DAY);
        desk.came(&other, scheme("bearer"), 1).await;
        let report = desk.keyring.report(&user("u_own")).await.unwrap();
        assert_eq!(report.ending(old.id(), 8 * DAY), until(8 * DAY), "{days} days more");
        assert_eq!(
            desk.keyring.report_of(old.id()).await.unwrap().ending(old.id(), 8 * DAY),
            until(8 * DAY),
            "{days:?}"
        );
    }
    desk.clock.advance(DAY + MINUTE);
    desk.came(&other, scheme("bearer"), 1).await;
    let report = desk.keyring.report(&user("u_own")).await.unwrap();
    assert_eq!(report.ending(old.id(), 8 * DAY), Some(RetirementStatus::Safe));
}
