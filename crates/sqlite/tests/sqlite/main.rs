//! Tests of the SQLite store: the contract of all stores, and everything about files.

mod contract;
mod corrupt;
mod earlier;
mod file;
mod leaving;
mod sql;
mod trail;

use std::num::NonZero;
use std::path::{Path, PathBuf};

use test_kit::user;
use tower_api_key::store::{KeyRegistry as _, KeyStore as _, Terms};
use tower_api_key::{KeyDigest, KeyId, KeyPolicy, KeyRecord, Timestamp};
use tower_api_key_sqlite::SqliteStore;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(1000).unwrap() };

/// A file in its own directory, which is deleted with this value.
struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keys.db")
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path()).await.unwrap()
    }

    /// A connection without anything of this crate, like an operator's.
    fn operator(&self) -> rusqlite::Connection {
        connect(&self.path())
    }
}

fn connect(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn key(name: &str, owner: &str) -> KeyRecord {
    let mut key = KeyRecord::new(KeyId::new(name).unwrap(), KeyDigest::of(name), user(owner), NOW);
    key.prefix = "sk_live_".into();
    key.last4 = "a1Z9".into();
    key
}

async fn insert(store: &SqliteStore, name: &str, owner: &str) -> KeyRecord {
    let key = key(name, owner);
    store.insert(key.clone(), &Terms::by(tower_api_key::Authority::System).policy(MANY)).await.unwrap();
    key
}

async fn is_active(store: &SqliteStore, key: &KeyRecord) -> bool {
    store.find(&key.digest).await.unwrap().is_some_and(|key| key.is_active(NOW))
}
