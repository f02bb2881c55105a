//! Who still uses what: the report of a keyring, and what the routes show of it.

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use common::{World, bearer, get, send, user};
use serde_json::{Value, json};
use tower_api_key::keyring::{Ending, Grace, IssuedKey, Keyring, NewKey};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{Accounts as _, KeyLedger, KeyStore, MemoryStore, NoProjects, SqliteStore};
use tower_api_key::test_util::ManualClock;
use tower_api_key::usage::{Through, Usage};
use tower_api_key::{ApiKeyAuth, Clock as _, Endpoints, KeyringError, Timestamp, Verifier, manage};

const START: Timestamp = Timestamp::from_secs(1_767_225_600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn scheme(name: &'static str) -> Through {
    Through::Scheme(name.into())
}

/// A keyring over a store, and what is told to the store as a recorder would.
struct Desk<S> {
    store: Arc<S>,
    keyring: Keyring,
    clock: ManualClock,
}

impl<S: KeyLedger + KeyStore> Desk<S> {
    fn of(store: S) -> Self {
        let (store, clock) = (Arc::new(store), ManualClock::new(START));
        let keyring = Keyring::new(NoProjects(Arc::clone(&store))).clock(clock.clone());
        Self { store, keyring, clock }
    }

    async fn issue(&self, name: &str) -> IssuedKey {
        self.keyring.issue(NewKey::user_level(user("u_own"), name)).await.unwrap()
    }

    async fn came(&self, key: &IssuedKey, through: Through, times: u64) {
        let usage = Usage::new(key.id().clone(), through, self.clock.now(), times);
        self.store.record_usage(&[usage]).await.unwrap();
    }
}

#[tokio::test]
async fn a_report_tells_which_keys_come_through_which_scheme() {
    let folder = tempfile::tempdir().unwrap();
    tells(Desk::of(MemoryStore::new())).await;
    tells(Desk::of(SqliteStore::open(folder.path().join("keys.sqlite")).await.unwrap())).await;
}

async fn tells(desk: Desk<impl KeyLedger + KeyStore>) {
    let (idle, moved, old) = (desk.issue("idle").await, desk.issue("moved").await, desk.issue("old").await);
    let ended = desk.issue("ended").await;
    for key in [&moved, &old, &ended] {
        desk.came(key, scheme("json-body"), 3).await;
    }
    desk.clock.advance(DAY);
    desk.came(&moved, scheme("bearer"), 2).await;
    desk.came(&moved, Through::Observed("ip".into()), 9).await;
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
    // Pages are read to their end, and nobody else's keys are in it.
    for number in 0..97 {
        drop(desk.issue(&number.to_string()).await);
    }
    assert_eq!(desk.keyring.report(&user("u_own")).await.unwrap().keys().len(), 100);
    assert!(desk.keyring.report(&user("u_full")).await.unwrap().keys().is_empty());
}

#[tokio::test]
async fn a_replaced_key_is_safe_to_end_when_nobody_has_called_with_it_for_long_enough() {
    let desk = Desk::of(MemoryStore::new());
    let old = desk.issue("old").await;
    desk.came(&old, scheme("json-body"), 1).await;
    let next = desk.keyring.rotate(old.id(), Grace::For(90 * DAY)).await.unwrap();
    let ending = async |quiet| desk.keyring.report(&user("u_own")).await.unwrap().ending(old.id(), quiet);
    let week = 7 * DAY;
    let after = |since: Timestamp| Some(Ending::Wait(since.saturating_add(week + MINUTE)));
    // Replaced only now, even if nobody ever called.
    assert_eq!(ending(week).await, after(START));
    // Its caller comes back after six days, and then again.
    for _ in 0..3 {
        desk.clock.advance(6 * DAY);
        desk.came(&old, scheme("json-body"), 1).await;
        desk.came(&next, scheme("bearer"), 1).await;
        assert_eq!(ending(week).await, after(desk.clock.now()));
    }
    let last_call = desk.clock.now();
    desk.clock.advance(week);
    desk.came(&next, scheme("bearer"), 1).await;
    // What was done in the last minute may not be written down yet.
    assert_eq!(ending(week).await, after(last_call));
    desk.clock.advance(MINUTE);
    assert_eq!(ending(week).await, Some(Ending::Safe));
    assert_eq!(ending(2 * week).await, Some(Ending::Wait(last_call.saturating_add(2 * week + MINUTE))));
    // Where no other key is seen either, nobody may be recording.
    desk.clock.advance(2 * week);
    assert_eq!(ending(week).await, Some(Ending::Unknown));
    desk.came(&next, scheme("bearer"), 1).await;
    assert_eq!(ending(week).await, Some(Ending::Safe));
    // What was not replaced has no such end.
    let report = desk.keyring.report(&user("u_own")).await.unwrap();
    assert_eq!(report.ending(next.id(), week), None);
    assert!(matches!(desk.keyring.end_grace(next.id()).await, Err(KeyringError::NotFound)));
    desk.keyring.end_grace(old.id()).await.unwrap();
    desk.keyring.end_grace(old.id()).await.unwrap();
    assert!(desk.keyring.get(old.id()).await.unwrap().unwrap().revoked_at.is_some());
    assert_eq!(ending(week).await, None);
    assert!(desk.keyring.get(next.id()).await.unwrap().unwrap().is_active(desk.clock.now()));
}

/// Nobody was seen since the rotation: that is silence, and no safety.
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
        assert_eq!(report.ending(old.id(), quiet), Some(Ending::Unknown), "{quiet:?}");
    }
}

#[tokio::test]
async fn r38_the_routes_show_when_and_how_keys_were_used() {
    let store = MemoryStore::new();
    store.create_account("A", &user("u_own")).await.unwrap();
    let clock = ManualClock::new(START);
    let keyring = Keyring::new(store.clone()).clock(clock.clone());
    let auth =
        ApiKeyAuth::with_verifier(Verifier::new(store.clone()).clock(clock.clone()), Bearer::default())
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
    came(&old, Through::Observed("ip".into()), 7).await;
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
    // Of others' keys, and of what is none, nothing is told; and a project's key sees nothing.
    for id in ["key_unknown", "%00"] {
        assert_eq!(ask(&format!("/keys/{id}/usage")).await.verdict(), "404/key_not_found");
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
        assert_eq!(ask(&world.own, foreign).await, "404/key_not_found");
    }
    assert_eq!(ask(&world.p1, &world.p1).await, "403/forbidden");
    assert_eq!(ask(&world.own, &world.p1).await, "200/-");
    assert_eq!(ask(&world.ro, &world.ro).await, "200/-");
}
