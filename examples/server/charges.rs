//! The application's own data: charges. Those of test keys are kept apart and are not persisted (R53).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use serde_json::{Value, json};
use tower_api_key::extract::{LivePrincipal, TestPrincipal};
use tower_api_key::{Environment, Principal};

use crate::Failure;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS demo (made INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS demo_charges (
        id          INTEGER PRIMARY KEY,
        owner       TEXT NOT NULL,
        body_sha256 TEXT NOT NULL
    ) STRICT;
";
const IS_MADE: &str = "SELECT EXISTS (SELECT 1 FROM demo)";
const MADE: &str = "INSERT INTO demo (made) VALUES (1)";
const INSERT: &str = "INSERT INTO demo_charges (owner, body_sha256) VALUES (?1, ?2)";
const OF_OWNER: &str = "SELECT id, body_sha256 FROM demo_charges WHERE owner = ?1 ORDER BY id DESC LIMIT 100";

/// How many test charges are remembered.
const MAX_TEST_CHARGES: usize = 1000;

/// Live charges in the file, test charges in memory.
#[derive(Clone)]
pub(crate) struct Charges {
    live: Arc<Mutex<Connection>>,
    test: Arc<Mutex<TestCharges>>,
}

#[derive(Default)]
struct TestCharges {
    made: u64,
    newest: VecDeque<(u64, String, String)>,
}

impl Charges {
    pub(crate) fn open(file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch(TABLES)?;
        Ok(Self { live: Arc::new(Mutex::new(connection)), test: Arc::default() })
    }

    pub(crate) async fn demo_is_made(&self) -> Result<bool, Failure> {
        self.ask(|live| live.query_row(IS_MADE, [], |row| row.get(0))).await
    }

    pub(crate) async fn demo_was_made(&self) -> Result<(), Failure> {
        self.ask(|live| live.execute(MADE, []).map(drop)).await
    }

    /// Makes a charge. It takes a live principal only, because it moves money.
    pub(crate) async fn charge(
        &self,
        LivePrincipal(who): &LivePrincipal,
        body_sha256: String,
    ) -> Result<Value, Failure> {
        let owner = who.user_id().to_string();
        let id = self.ask(move |live| {
            live.execute(INSERT, (owner, body_sha256))?;
            Ok(live.last_insert_rowid())
        });
        Ok(made(who, format!("ch_{}", id.await?), true))
    }

    /// Pretends to make a charge, which is forgotten when the server ends.
    pub(crate) fn pretend(&self, TestPrincipal(who): &TestPrincipal, body_sha256: String) -> Value {
        let mut test = self.test.lock().unwrap_or_else(PoisonError::into_inner);
        test.made += 1;
        let id = test.made;
        test.newest.push_front((id, who.user_id().to_string(), body_sha256));
        test.newest.truncate(MAX_TEST_CHARGES);
        made(who, format!("ch_test_{id}"), false)
    }

    /// The newest hundred charges of the caller, in the environment of the caller's key.
    pub(crate) async fn list(&self, who: &Principal) -> Result<Vec<Value>, Failure> {
        let owner = who.user_id().to_string();
        match who.environment() {
            Environment::Live => {
                self.ask(move |live| {
                    let mut statement = live.prepare_cached(OF_OWNER)?;
                    let rows = statement.query_map([owner], |row| {
                        Ok(shown(format!("ch_{}", row.get::<_, i64>(0)?), &row.get::<_, String>(1)?))
                    })?;
                    rows.collect()
                })
                .await
            }
            Environment::Test => {
                let test = self.test.lock().unwrap_or_else(PoisonError::into_inner);
                let own = test.newest.iter().filter(|(_, charged, _)| *charged == owner).take(100);
                Ok(own.map(|(id, _, body_sha256)| shown(format!("ch_test_{id}"), body_sha256)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Runs a query on a thread for blocking work, because SQLite blocks.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let live = Arc::clone(&self.live);
        let answer = tokio::task::spawn_blocking(move || {
            question(&live.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(answer.await??)
    }
}

fn made(who: &Principal, id: String, persisted: bool) -> Value {
    json!({"id": id, "environment": who.environment().as_str(), "persisted": persisted})
}

fn shown(id: String, body_sha256: &str) -> Value {
    json!({"id": id, "body_sha256": body_sha256})
}
