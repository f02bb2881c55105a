//! The keys that every subject has: for the stores of this project, and for the hand-written alternatives.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZero;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use sha2::{Digest as _, Sha256};
use tower_api_key::store::{Accounts, KeyRegistry, MemoryStore, Project, Terms};
use tower_api_key::{
    Authority, Environment, KeyFormat, KeyId, KeyPolicy, KeyRecord, ProjectId, SystemClock, Timestamp, UserId,
};

/// One key.
pub static ONE: LazyLock<World> = LazyLock::new(|| World::new(1));

/// A hundred thousand keys, which do not fit into the caches of a CPU.
pub static MANY: LazyLock<World> = LazyLock::new(|| World::new(100_000));

/// What the alternatives put into the extensions of a request.
pub struct Who {
    pub user: UserId,
}

/// Keys by digest, for the hand-written alternatives.
pub type Table = Arc<HashMap<[u8; 32], Arc<Who>>>;

pub struct World {
    pub store: MemoryStore,
    pub table: Table,
    pub keys: Vec<String>,
    /// Another key, which expires in the future.
    pub ending: String,
    /// A text with the shape and checksum of a key that is in no store.
    pub unknown: String,
}

impl World {
    /// Creates so many keys. Each has its own owner, who has an account of their own with the project `p1`.
    pub fn new(keys: usize) -> Self {
        Self::of((0..keys).map(|_| fresh()).collect())
    }

    /// The same with these texts as keys.
    pub fn of(mut texts: Vec<String>) -> Self {
        let store = MemoryStore::new();
        let mut table = HashMap::new();
        let keys = texts.len();
        texts.push(fresh());
        for (index, text) in texts.iter().enumerate() {
            let ends = index == keys;
            let user = at_once(enter(&store, index, text, ends));
            table.insert(Sha256::digest(text).into(), Arc::new(Who { user }));
        }
        let ending = texts.pop().unwrap();
        Self { store, table: Arc::new(table), keys: texts, ending, unknown: fresh() }
    }

    /// Returns a key that is far from the one before.
    pub fn key(&self, turn: usize) -> &str {
        &self.keys[turn.wrapping_mul(7919) % self.keys.len()]
    }
}

pub fn fresh() -> String {
    KeyFormat::default().generate(Environment::Live).unwrap().expose_secret().to_owned()
}

/// Adds a key and its owner to a store. Returns the owner.
pub async fn enter(store: &(impl Accounts + KeyRegistry), index: usize, text: &str, ends: bool) -> UserId {
    use tower_api_key::Clock as _;
    let account = format!("account_{index:016x}");
    let owner = UserId::new(format!("user_{index:016x}")).unwrap();
    let project = Project::new(ProjectId::new("p1").unwrap(), "");
    store.create_account(&account, &owner).await.unwrap();
    store.create_project(&account, &project).await.unwrap();
    let id = KeyId::new(format!("key_{index:022x}")).unwrap();
    let digest = tower_api_key::KeyDigest::of(text);
    let mut record = KeyRecord::new(id, digest, owner.clone(), Timestamp::from_secs(1));
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    record.expires_at = ends.then(|| SystemClock.now().saturating_add(year));
    store
        .insert(
            record,
            &Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: NonZero::new(1).unwrap() }),
        )
        .await
        .unwrap();
    owner
}

/// Returns the result of a future that does not have to wait, because nearly everything here is in memory.
pub fn at_once<F: Future>(future: F) -> F::Output {
    static MAIN: LazyLock<Waker> = LazyLock::new(|| Waker::from(Arc::new(Unpark(thread::current()))));
    let mut context = Context::from_waker(&MAIN);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// Wakes the only thread that polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
