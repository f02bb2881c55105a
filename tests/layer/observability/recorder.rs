//! The last use of keys: recorded at requests, written once a minute, and lost only if memory is full.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tower_api_key::observer::UsageRecorder;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::{AuditLog, MemoryStore, RegistryProxy, StoreError};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ConfigError, Credentials, Endpoint, KeyId, Keyring, KeyringError, Timestamp, Usage, Verifier,
};

use super::{Spy, app, id_of, with_bearer, with_body};
use test_kit::{World, send};
use tower_api_key::ApiKeys;
use tower_api_key::store::UsageLog;

/// A registry that answers writes of usage as the test says, and counts them.
#[derive(Clone)]
struct Ledger {
    store: MemoryStore,
    mood: Arc<Mutex<Mood>>,
    /// How often each key was written.
    writes: Arc<AtomicUsize>,
    entries: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Mood {
    Writes,
    Fails,
    Hangs,
    KeepsNone,
}

impl Ledger {
    fn new(store: &MemoryStore) -> Self {
        Self {
            store: store.clone(),
            mood: Arc::new(Mutex::new(Mood::Writes)),
            writes: Arc::default(),
            entries: Arc::default(),
        }
    }

    async fn is(&self, mood: Mood) {
        *self.mood.lock().await = mood;
    }

    /// Calls and entries since the last check.
    fn written(&self) -> (usize, usize) {
        (self.writes.swap(0, Ordering::SeqCst), self.entries.swap(0, Ordering::SeqCst))
    }

    async fn used(&self, key: &str) -> Vec<String> {
        let usage = self.store.usage(&[KeyId::new(key).unwrap()]).await.unwrap();
        let at = |at: Timestamp| at.as_micros() / 1_000_000;
        usage.iter().map(|usage| format!("{} {} x{}", usage.through, at(usage.last), usage.count)).collect()
    }
}

#[async_trait]
impl RegistryProxy for Ledger {
    type Inner = MemoryStore;

    fn inner(&self) -> &MemoryStore {
        &self.store
    }

    fn is_directory(&self) -> bool {
        false
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        None
    }

    fn usage_log(&self) -> Option<&dyn UsageLog> {
        Some(self)
    }
}

#[async_trait]
impl UsageLog for Ledger {
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.entries.fetch_add(batch.len(), Ordering::SeqCst);
        let mood = *self.mood.lock().await;
        match mood {
            Mood::Writes => self.store.record_usage(batch).await,
            Mood::Fails => Err(StoreError::failed("disk full")),
            // If a request waits forever, it is found when the simulated hour is over.
            Mood::Hangs => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                panic!("somebody waits without end")
            }
            Mood::KeepsNone => Err(StoreError::NotKept),
        }
    }

    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
        UsageLog::usage(&self.store, keys).await
    }
}

struct Setting {
    world: World,
    clock: ManualClock,
    registry: Ledger,
    recorder: UsageRecorder,
    app: axum::Router,
    own: String,
}

impl Setting {
    async fn new(change: impl FnOnce(UsageRecorder) -> UsageRecorder) -> Self {
        let world = World::new().await;
        let clock = ManualClock::new(Timestamp::from_secs(100));
        let registry = Ledger::new(&world.store);
        let recorder = change(UsageRecorder::new(registry.clone()));
        let verifier =
            ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier().observer(recorder.clone());
        let own = id_of(&world, &world.own).await;
        Self { app: app(verifier), world, clock, registry, recorder, own }
    }

    async fn use_own(&self) {
        assert_eq!(send(&self.app, with_bearer("/x", &self.world.own)).await.status, 200);
    }
}

#[tokio::test]
async fn accepted_requests_are_recorded_by_scheme() {
    let setting = Setting::new(|recorder| recorder).await;
    let office = IpRestriction::allow(["192.0.2.0/24"]).unwrap().observe();
    let watched = setting.world.key("u_own", |key| key.restrictions = Restrictions::none().ip(office)).await;
    setting.use_own().await;
    setting.clock.set(Timestamp::from_secs(300));
    setting.use_own().await;
    // If the clock jumps back, no time is set back.
    setting.clock.set(Timestamp::from_secs(200));
    setting.use_own().await;
    send(&setting.app, with_body("/x", &setting.world.own, "u_own")).await;
    send(&setting.app, with_bearer("/x", &watched)).await;
    // A refused request is not a use of the key; a request that only a guard refuses is one.
    for key in [&setting.world.revoked, &setting.world.stray] {
        send(&setting.app, with_bearer("/x", key)).await;
    }
    send(&setting.app, with_bearer("/scoped", &setting.world.b)).await;
    assert_eq!(setting.registry.written(), (0, 0), "a request waits for no ledger");

    setting.recorder.flush().await.unwrap();
    assert_eq!(
        setting.registry.used(&setting.own).await,
        ["scheme:bearer 300 x3", "scheme:json-body 200 x1"]
    );
    let watched = id_of(&setting.world, &watched).await;
    assert_eq!(setting.registry.used(&watched).await, ["observed:ip 200 x1", "scheme:bearer 200 x1"]);
    let b = id_of(&setting.world, &setting.world.b).await;
    assert_eq!(setting.registry.used(&b).await, ["scheme:bearer 200 x1"]);
    let revoked = id_of(&setting.world, &setting.world.revoked).await;
    assert!(setting.registry.used(&revoked).await.is_empty());
    assert_eq!(setting.registry.written().0, 1, "one write for all");
    setting.recorder.flush().await.unwrap();
    assert_eq!(setting.registry.written(), (0, 0), "nothing new is nothing to write");

    let keyring = Keyring::new(setting.world.store.clone());
    let id = KeyId::new(&watched).unwrap();
    let [used] = &keyring.usage(std::slice::from_ref(&id)).await.unwrap()[..] else { panic!() };
    assert_eq!(used.through.to_string(), "scheme:bearer");
    let [would] = &keyring.observed(&[id]).await.unwrap()[..] else { panic!() };
    assert_eq!(would.through.to_string(), "observed:ip");
}

/// C14-12: a key is written once a minute, however often it is used.
#[tokio::test(start_paused = true)]
async fn c14_12_a_key_is_written_once_a_minute() {
    let setting = Setting::new(|recorder| recorder).await;
    let running = tokio::spawn(setting.recorder.clone().run());
    let verifier = Verifier::new(setting.world.store.clone()).observer(setting.recorder.clone());
    let credentials = Credentials::new(setting.world.own.expose_secret());
    for minute in 1..=3 {
        for _ in 0..20_000 {
            verifier.verify(&credentials, Endpoint::READ).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(setting.registry.written(), (0, 0), "in minute {minute}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert_eq!(setting.registry.written(), (1, 1), "after minute {minute}");
    }
    let used = setting.registry.used(&setting.own).await;
    assert!(used[0].ends_with(" x60000"), "{used:?}");
    running.abort();
}

/// C10-07, C14-12: a failing registry does not affect requests, and nothing is lost once it works again.
#[tokio::test(start_paused = true)]
async fn c10_07_a_ledger_that_fails_is_tried_again() {
    let spy = Spy::default();
    let setting = Setting::new(|recorder| recorder.observer(spy.clone())).await;
    let running = tokio::spawn(setting.recorder.clone().run());
    for mood in [Mood::Fails, Mood::Hangs] {
        setting.registry.is(mood).await;
        setting.use_own().await;
        // A hanging registry is given up after a few seconds.
        tokio::time::sleep(Duration::from_secs(70)).await;
        setting.use_own().await;
        assert_eq!(spy.told(), ["warned usage_not_written"]);
    }
    assert!(matches!(setting.recorder.flush().await, Err(StoreError::Timeout)));
    setting.registry.is(Mood::Fails).await;
    assert!(matches!(setting.recorder.flush().await, Err(StoreError::Failed(_))));
    setting.registry.is(Mood::Writes).await;
    running.abort();
    setting.recorder.flush().await.unwrap();
    assert_eq!(setting.registry.used(&setting.own).await, ["scheme:bearer 100 x4"]);
    assert_eq!(setting.recorder.forgotten(), 0);
}

/// A shutdown during a write: the usage goes back into memory, and the last flush writes it.
#[tokio::test(start_paused = true)]
async fn an_interrupted_write_is_repeated_by_the_next() {
    let setting = Setting::new(|recorder| recorder).await;
    setting.use_own().await;
    setting.registry.is(Mood::Hangs).await;
    let cut_off = tokio::spawn({
        let recorder = setting.recorder.clone();
        async move { recorder.flush().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(setting.registry.written(), (1, 1), "it has begun");
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    setting.use_own().await;
    setting.registry.is(Mood::Writes).await;
    setting.recorder.flush().await.unwrap();
    assert_eq!(setting.registry.used(&setting.own).await, ["scheme:bearer 100 x2"]);
}

#[tokio::test]
async fn the_oldest_usage_is_dropped_when_memory_is_full() {
    let setting = Setting::new(|recorder| recorder.capacity(NonZero::new(2).unwrap())).await;
    setting.registry.is(Mood::Fails).await;
    let keys = [&setting.world.own, &setting.world.full, &setting.world.b];
    for key in keys {
        assert_eq!(send(&setting.app, with_bearer("/projects", key)).await.status, 200);
        setting.recorder.flush().await.unwrap_err();
    }
    assert_eq!(setting.recorder.forgotten(), 1);
    setting.registry.is(Mood::Writes).await;
    setting.recorder.flush().await.unwrap();
    let mut known = 0;
    for key in keys {
        known += setting.registry.used(&id_of(&setting.world, key).await).await.len();
    }
    assert_eq!(known, 2);
    let b = id_of(&setting.world, &setting.world.b).await;
    assert_eq!(setting.registry.used(&b).await.len(), 1, "the newest is not the one that is forgotten");
}

#[tokio::test]
async fn many_keys_are_written_in_parts() {
    let setting = Setting::new(|recorder| recorder).await;
    let mut keys = Vec::new();
    for _ in 0..600 {
        keys.push(setting.world.key("u_own", |_| ()).await);
    }
    for key in &keys {
        send(&setting.app, with_bearer("/projects", key)).await;
    }
    setting.recorder.flush().await.unwrap();
    assert_eq!(setting.registry.written(), (2, 600));
}

#[tokio::test]
async fn a_registry_without_usage_is_called_only_once() {
    let setting = Setting::new(|recorder| recorder).await;
    setting.registry.is(Mood::KeepsNone).await;
    setting.use_own().await;
    assert!(matches!(setting.recorder.flush().await, Err(StoreError::NotKept)));
    assert_eq!(setting.registry.written(), (1, 1));
    setting.use_own().await;
    setting.recorder.flush().await.unwrap();
    assert_eq!(setting.registry.written(), (0, 0));
    // This test's registry keeps no audit log either, and says so.
    let keyring = Keyring::new((setting.registry.clone(), setting.world.store.clone()));
    let history = keyring.history(&KeyId::new(&setting.own).unwrap(), 1).await;
    assert!(matches!(history, Err(KeyringError::Store(StoreError::NotKept))));
}

#[test]
fn an_empty_value_is_not_a_number() {
    let recorder = UsageRecorder::new(MemoryStore::new());
    assert!(matches!(recorder.write_every(Duration::ZERO), Err(ConfigError::Zero(_))));
}
