//! The keys that every subject knows: once for the crate's store, once for the hand-written alternatives.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use sha2::{Digest as _, Sha256};
use tower_api_key::store::{Accounts as _, KeyLedger as _, KeyPolicy, Project};
use tower_api_key::{
    Environment, KeyFormat, KeyId, KeyRecord, MemoryStore, ProjectId, SystemClock, Timestamp, UserId,
};

/// One key.
pub static ONE: LazyLock<World> = LazyLock::new(|| World::new(1));

/// A hundred thousand keys, more than the caches of a CPU hold.
pub static MANY: LazyLock<World> = LazyLock::new(|| World::new(100_000));

/// What the alternatives put into the extensions of a request.
pub struct Who {
    pub user: UserId,
}

/// Keys by their digests, as one writes it by hand.
pub type Table = Arc<HashMap<[u8; 32], Arc<Who>>>;

pub struct World {
    pub store: MemoryStore,
    pub table: Table,
    pub keys: Vec<String>,
    /// One more key, with an end that has not come.
    pub ending: String,
    /// Sound in shape and checksum, and in no store.
    pub unknown: String,
}

impl World {
    /// Each key has an owner of its own, in an account of their own with the project `p1`.
    pub fn new(keys: usize) -> Self {
        let store = MemoryStore::new();
        let mut table = HashMap::new();
        let mut texts: Vec<String> = (0..=keys).map(|_| fresh()).collect();
        for (index, text) in texts.iter().enumerate() {
            let ends = index == keys;
            let record = record(&store, index, text, ends);
            let who = Who { user: record.owner.clone() };
            table.insert(Sha256::digest(text).into(), Arc::new(who));
            at_once(store.insert(record, KeyPolicy::Multiple { max: 1 }, &tower_api_key::Actor::System))
                .unwrap();
        }
        let ending = texts.pop().unwrap();
        Self { store, table: Arc::new(table), keys: texts, ending, unknown: fresh() }
    }

    /// A key, far from the one before.
    pub fn key(&self, turn: usize) -> &str {
        &self.keys[turn.wrapping_mul(7919) % self.keys.len()]
    }
}

fn fresh() -> String {
    KeyFormat::default().generate(Environment::Live).unwrap().expose_secret().to_owned()
}

fn record(store: &MemoryStore, index: usize, text: &str, ends: bool) -> KeyRecord {
    use tower_api_key::Clock as _;
    let account = format!("account_{index:016x}");
    let owner = UserId::new(format!("user_{index:016x}")).unwrap();
    let project = Project::new(ProjectId::new("p1").unwrap(), "");
    at_once(store.create_account(&account, &owner)).unwrap();
    at_once(store.create_project(&account, &project)).unwrap();
    let id = KeyId::new(format!("key_{index:022x}")).unwrap();
    let digest = tower_api_key::KeyDigest::of(text);
    let mut record = KeyRecord::new(id, digest, owner, Timestamp::from_secs(1));
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    record.expires_at = ends.then(|| SystemClock.now().saturating_add(year));
    record
}

/// The answer of a future that never has to wait: everything here is in memory.
pub fn at_once<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
