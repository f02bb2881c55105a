//! Tests of the PostgreSQL store. They need a server: the one in `TOWER_API_KEY_POSTGRES`, or one at 127.0.0.1:5432
//! where the user `postgres` needs no password.
//!
//! ```text
//! cargo test -p tower-api-key-postgres --test postgres -- --ignored
//! ```
//!
//! Each test has its own schema, which is dropped at the end.

mod contract;
mod corrupt;
mod earlier;
mod faults;
mod lease;
mod leaving;
mod log;
mod pooler;
mod proxy;
mod rights;
mod sql;

use std::num::NonZero;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use test_kit::user;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, Config, NoTls};
use tower_api_key::store::{KeyRegistry as _, KeyStore as _, Terms};
use tower_api_key::{AccountStatus, Authority, KeyDigest, KeyId, KeyPolicy, KeyRecord, Role, Timestamp};
use tower_api_key_postgres::{PostgresOptions, PostgresStore};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(1000).unwrap() };
const NO_ACCESS: AccountStatus = AccountStatus::Active { role: None };
const OWNER: AccountStatus = AccountStatus::Active { role: Some(Role::Owner) };

fn server() -> String {
    let server = std::env::var("TOWER_API_KEY_POSTGRES");
    server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// The address of that server, and a connection string to reach it at another port.
fn server_behind(port: u16) -> (std::net::SocketAddr, String) {
    let config: Config = server().parse().unwrap();
    let host = config.get_hosts().iter().find_map(|host| match host {
        tokio_postgres::config::Host::Tcp(name) => Some(name.clone()),
        #[allow(unreachable_patterns, reason = "some systems have only TCP")]
        _ => None,
    });
    let at = (host.unwrap(), config.get_ports().first().copied().unwrap_or(5432));
    let address = std::net::ToSocketAddrs::to_socket_addrs(&at).unwrap().next().unwrap();
    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut through = format!("host=127.0.0.1 port={port} user='{}'", quote(config.get_user().unwrap()));
    if let Some(name) = config.get_dbname() {
        through.push_str(&format!(" dbname='{}'", quote(name)));
    }
    if let Some(password) = config.get_password() {
        through.push_str(&format!(" password='{}'", quote(&String::from_utf8_lossy(password))));
    }
    (address, through)
}

/// A schema that is dropped with this value.
struct Schema {
    name: String,
}

impl Schema {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (count, began) = (COUNT.fetch_add(1, Ordering::Relaxed), SystemTime::now());
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        Self { name: format!("test_{}_{count}_{began}", std::process::id()) }
    }

    fn options(&self) -> PostgresOptions {
        self.options_at(&server())
    }

    fn options_at(&self, server: &str) -> PostgresOptions {
        PostgresOptions::new(server).unwrap().schema(&self.name).unwrap().connections(5).unwrap()
    }

    async fn open(&self) -> PostgresStore {
        self.options().connect().await.unwrap()
    }

    /// A connection without anything of this crate, like an operator's.
    async fn operator(&self) -> Client {
        let client = connect(&server()).await;
        client.batch_execute(&format!("SET search_path = {}", self.name)).await.unwrap();
        client
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A separate runtime, because the test's own is in use.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&server()).await;
                // If a lock is still held, the test itself holds it.
                let drop = format!("SET lock_timeout = '5s'; DROP SCHEMA IF EXISTS {name} CASCADE");
                if let Err(error) = client.batch_execute(&drop).await {
                    eprintln!("the schema {name} is left: {error}");
                }
            });
        });
        let _ = dropped.join();
    }
}

async fn connect(server: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(server, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Permission to leave a transaction open, or to rely on there being none: an open transaction keeps every change log
/// of this server from being pruned.
async fn nobody_holds_the_log() -> MutexGuard<'static, ()> {
    static HELD: Mutex<()> = Mutex::const_new(());
    HELD.lock().await
}

fn key(name: &str, owner: &str) -> KeyRecord {
    let mut key = KeyRecord::new(KeyId::new(name).unwrap(), KeyDigest::of(name), user(owner), NOW);
    key.prefix = "sk_live_".into();
    key.last4 = "a1Z9".into();
    key
}

async fn insert(store: &PostgresStore, name: &str, owner: &str) -> KeyRecord {
    let key = key(name, owner);
    within("an insertion", store.insert(key.clone(), &Terms::by(Authority::System).policy(MANY)))
        .await
        .unwrap();
    key
}

async fn revoke(store: &PostgresStore, key: &KeyRecord) {
    within("a revocation", store.revoke(&key.id, NOW, &Terms::by(Authority::System))).await.unwrap();
}

async fn is_active(store: &PostgresStore, key: &KeyRecord) -> bool {
    store.find(&key.digest).await.unwrap().is_some_and(|key| key.is_active(NOW))
}

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a test fail instead of hang if this work does not end.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} does not end"))
}

/// Waits until this returns a value, and fails if it never does.
async fn soon<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looks = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, looks).await
}
