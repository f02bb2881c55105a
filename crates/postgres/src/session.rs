//! [`Database`] and [`Session`]: connections, transactions and timeouts.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

use crate::bulkhead::{Bulkhead, Bulkheads};
use crate::failure::{Closed, Failure, NoResult, no_connection};
use crate::row::{Row, value};
use tower_api_key::store::StoreError;

/// The schema's name in the SQL constants; it is replaced if another is configured.
pub(crate) const SCHEMA: &str = "tower_api_key";

/// `synchronous_commit` makes sure that a committed change is on disk, whatever the server's default is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; \
                     SET LOCAL lock_timeout = 1234567; SET LOCAL statement_timeout = 1234567; \
                     SET LOCAL idle_in_transaction_session_timeout = 7654321";

/// The same for statements outside of transactions, set when a connection starts. `SET` would also work, but behind a
/// transaction-mode pooler it would affect other applications.
const STARTUP: &str = "-c statement_timeout=1234567 -c lock_timeout=1234567 \
                       -c idle_in_transaction_session_timeout=7654321";

/// Assigns a transaction number even if nothing was changed. A client that repeats a change waits for the nodes
/// that have not seen the first attempt, because a node that sees this transaction sees all that were committed
/// before it.
const CHANGED: &str = "
    SELECT pg_current_xact_id()::text, tower_api_key.era() FROM pg_notify('tower_api_key', '')";

const NOTHING: &str = "SELECT";

/// How long after the server's own timeout an answer is awaited.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) type Param<'p> = &'p (dyn ToSql + Sync);
pub(crate) type SessionFuture<'s, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 's>>;

/// A committed transaction, with the run of the server that knows its number.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) xid: String,
    pub(crate) era: i64,
}

/// A pool and its settings.
pub(crate) struct Database {
    pool: Pool,
    pub(crate) schema: Arc<str>,
    pub(crate) bulkheads: Bulkheads,
    begin: String,
    deadline: Duration,
    /// Each task holds a permit while it works. Closing the store takes all permits, and so waits for all tasks.
    at_work: Arc<Semaphore>,
}

/// More than the number of tasks that can ever run.
const MOST: u32 = 1 << 20;

impl Database {
    pub(crate) fn new(pool: Pool, schema: Arc<str>, deadline: Duration) -> Self {
        let bulkheads = Bulkheads::of(pool.status().max_size);
        let at_work = Arc::new(Semaphore::new(MOST as usize));
        Self { pool, schema, bulkheads, begin: with_timeouts(BEGIN, deadline), deadline, at_work }
    }

    /// Runs `work` on a connection. Once started, it continues even if the caller is cancelled: a connection is
    /// returned only after its last answer.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        bulkhead: &Bulkhead,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, Failure> {
        let session = self.session(bulkhead).await?;
        run(session, self.deadline + GRACE, work).await
    }

    /// Runs `work` in a transaction, as a whole or not at all.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        bulkhead: &Bulkhead,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<(T, Commit), Failure> {
        let (session, begin) = (self.session(bulkhead).await?, self.begin.clone());
        // A transaction has a few statements, each with the server's timeout.
        run(session, self.deadline * 2 + GRACE, |session| {
            Box::pin(in_transaction(session, begin, |session| Box::pin(changed(session, work))))
        })
        .await
    }

    /// The same for data that is not in the change log, because no node caches it.
    pub(crate) async fn transact_unlogged<T: Send + 'static>(
        &self,
        bulkhead: &Bulkhead,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (session, begin) = (self.session(bulkhead).await?, self.begin.clone());
        run(session, self.deadline * 2 + GRACE, |session| Box::pin(in_transaction(session, begin, work)))
            .await
    }

    /// Whether a prepared statement is still there when it is used. Behind a transaction-mode pooler it is not, and
    /// this finds it out at startup instead of at a request.
    pub(crate) async fn keeps_statements(&self) -> Result<(), Failure> {
        let one = self.session(&self.bulkheads.look_ups).await?;
        let other = self.session(&self.bulkheads.log).await?;
        let asked = timeout(self.deadline * 2 + GRACE, async {
            one.query(NOTHING, &[]).await?;
            // Occupies the connection that the pooler has just got back.
            other.client()?.batch_execute("BEGIN").await?;
            let kept = one.query(NOTHING, &[]).await;
            other.client()?.batch_execute("ROLLBACK").await?;
            kept
        });
        asked.await.map_err(|_| StoreError::Timeout)??;
        one.give_back();
        other.give_back();
        Ok(())
    }

    /// Starts no more work, and returns when all running work has ended, which takes at most as long as the longest
    /// may take.
    pub(crate) async fn end(&self) -> Result<(), StoreError> {
        // From here on nobody gets a permit. Concurrent calls get all permits one after the other.
        let ended = timeout(self.deadline * 3 + GRACE, self.at_work.acquire_many(MOST)).await;
        self.at_work.close();
        ended.map(drop).map_err(|_| StoreError::Timeout)
    }

    async fn session(&self, bulkhead: &Bulkhead) -> Result<Session, StoreError> {
        let at_work =
            Arc::clone(&self.at_work).try_acquire_owned().map_err(|_| StoreError::failed(Closed))?;
        let turn = bulkhead.turn(self.deadline).await?;
        // The bulkheads leave a connection for each task, so only opening a connection can take long.
        let client = match timeout(self.deadline, self.pool.get()).await {
            Ok(client) => client.map_err(no_connection)?,
            Err(_) => return Err(StoreError::Timeout),
        };
        Ok(Session {
            client: Some(client),
            schema: Arc::clone(&self.schema),
            usable: AtomicBool::new(true),
            _turn: turn,
            _at_work: at_work,
        })
    }
}

/// The timeouts of a connection, as the startup parameter `options`.
pub(crate) fn startup_options(deadline: Duration) -> String {
    with_timeouts(STARTUP, deadline)
}

fn with_timeouts(text: &str, deadline: Duration) -> String {
    let millis = deadline.as_millis().max(1);
    text.replace("1234567", &millis.to_string()).replace("7654321", &(millis * 2).to_string())
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Runs in its own task, so that a cancelled caller does not cancel it.
async fn run<T: Send + 'static>(
    session: Session,
    limit: Duration,
    work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
) -> Result<T, Failure> {
    let task = tokio::spawn(async move {
        match timeout(limit, work(&session)).await {
            Ok(done) => {
                session.give_back();
                done
            }
            Err(_) => Err(StoreError::Timeout.into()),
        }
    });
    task.await.unwrap_or_else(|_| Err(StoreError::failed(NoResult).into()))
}

async fn in_transaction<T>(
    session: &Session,
    begin: String,
    work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send,
) -> Result<T, Failure> {
    session.client()?.batch_execute(&begin).await?;
    match work(session).await {
        Ok(done) => {
            session.client()?.batch_execute("COMMIT").await?;
            Ok(done)
        }
        Err(failure) => {
            if session.client()?.batch_execute("ROLLBACK").await.is_err() {
                session.usable.store(false, Ordering::Relaxed);
            }
            Err(failure)
        }
    }
}

async fn changed<T>(
    session: &Session,
    work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send,
) -> Result<(T, Commit), Failure> {
    let done = work(session).await?;
    let row = session.one(CHANGED, &[]).await?;
    Ok((done, Commit { xid: value(&row, 0)?, era: value(&row, 1)? }))
}

/// A connection for the time of one piece of work. It is closed unless it was returned, because a connection in the
/// middle of a statement cannot be reused.
pub(crate) struct Session {
    client: Option<Object>,
    schema: Arc<str>,
    usable: AtomicBool,
    _turn: OwnedSemaphorePermit,
    _at_work: OwnedSemaphorePermit,
}

impl Session {
    pub(crate) async fn query(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let client = self.client()?;
        let statement = client.prepare_cached(&in_schema(sql, &self.schema)).await?;
        Ok(client.query(&statement, params).await?.into_iter().map(Row::new).collect())
    }

    /// The only row of a query that always returns one.
    pub(crate) async fn one(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Row, Failure> {
        let row = self.query(sql, params).await?.into_iter().next();
        Ok(row.ok_or_else(|| StoreError::corrupt("an answer has no row"))?)
    }

    pub(crate) async fn ask(&self, question: &'static str, params: &[Param<'_>]) -> Result<bool, Failure> {
        Ok(value(&self.one(question, params).await?, 0)?)
    }

    /// Returns how many rows were changed.
    pub(crate) async fn execute(&self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, Failure> {
        let client = self.client()?;
        let statement = client.prepare_cached(&in_schema(sql, &self.schema)).await?;
        Ok(client.execute(&statement, params).await?)
    }

    /// Runs several statements without parameters.
    pub(crate) async fn batch(&self, sql: &'static str) -> Result<(), Failure> {
        Ok(self.client()?.batch_execute(&in_schema(sql, &self.schema)).await?)
    }

    fn client(&self) -> Result<&Object, Failure> {
        self.client.as_ref().ok_or_else(|| StoreError::failed(NoResult).into())
    }

    fn give_back(mut self) {
        if self.usable.load(Ordering::Relaxed) {
            drop(self.client.take());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

/// Replaces the default schema's name in a statement.
pub(crate) fn in_schema(sql: &'static str, schema: &str) -> Cow<'static, str> {
    if schema == SCHEMA { Cow::Borrowed(sql) } else { Cow::Owned(sql.replace(SCHEMA, schema)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_says_how_long_it_may_take_and_that_it_is_on_the_disk() {
        let begin = with_timeouts(BEGIN, Duration::from_micros(1_500_999));
        assert_eq!(
            begin,
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; \
             SET LOCAL lock_timeout = 1500; SET LOCAL statement_timeout = 1500; \
             SET LOCAL idle_in_transaction_session_timeout = 3000"
        );
        // Zero would mean no timeout.
        assert!(startup_options(Duration::from_nanos(1)).contains("statement_timeout=1 "));
    }

    #[test]
    fn the_name_of_the_schema_is_put_wherever_it_stands() {
        assert_eq!(in_schema(CHANGED, SCHEMA), CHANGED);
        let renamed = in_schema(CHANGED, "keys_2");
        assert!(!renamed.contains(SCHEMA) && renamed.contains("pg_notify('keys_2'"), "{renamed}");
    }
}
