//! Keeps the log of changes short: takes out what every node has seen, and warns an operator where that is not possible.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tower_api_key::observer::{Observer, Warning};
use tower_api_key::store::StoreError;

use crate::failure::Failure;
use crate::row::{optional, value};
use crate::session::Database;

/// The log is cleaned up after this many changes of this process, and by those who read it once in this time.
const PRUNE_EVERY: (u32, Duration) = (64, Duration::from_secs(300));
/// So much is taken out by one statement: some tens of milliseconds.
const AT_ONCE: i64 = 10_000;
/// More than this is not kept for anybody: whoever has not seen it is told everything.
const LONGEST: i64 = 50_000;
/// What is kept for longer than this is kept for somebody who should be looked for.
const OLDEST: Duration = Duration::from_secs(3600);

/// The oldest of what all nodes have seen; who comes later has seen it too, or is told everything. Says how much that was.
const PRUNE: &str = "
    WITH seen AS (
        SELECT pg_snapshot_xmin(acked) AS xid FROM tower_api_key.nodes WHERE era = tower_api_key.era()
        UNION ALL SELECT pg_snapshot_xmin(pg_current_snapshot())
    ), horizon AS (
        SELECT xid FROM seen ORDER BY xid LIMIT 1
    ), gone AS (
        DELETE FROM tower_api_key.changes WHERE ctid = ANY (ARRAY(
            SELECT changes.ctid FROM tower_api_key.changes, horizon WHERE changes.xid < horizon.xid
            ORDER BY changes.xid LIMIT $1 FOR UPDATE OF changes SKIP LOCKED
        )) RETURNING 1
    ), mark AS (
        UPDATE tower_api_key.pruned SET before = horizon.xid FROM horizon
        WHERE before < horizon.xid OR before > pg_snapshot_xmax(pg_current_snapshot())
    )
    SELECT count(*) FROM gone";

/// How old the oldest of what is left is, in seconds, and whether there is more than so much of it. Not counted is what is
/// older than the last row that means everything: it was taken out, and a look at where it stood may take long.
const LEFT: &str = "
    WITH since AS (
        SELECT coalesce((
            SELECT xid FROM tower_api_key.changes
            WHERE digest IS NULL AND owner IS NULL AND xid < pg_snapshot_xmax(pg_current_snapshot())
            ORDER BY xid DESC LIMIT 1
        ), '0'::xid8) AS xid
    )
    SELECT
        (SELECT extract(epoch FROM clock_timestamp() - at)::bigint FROM tower_api_key.changes
         WHERE xid >= (SELECT xid FROM since) ORDER BY xid LIMIT 1),
        EXISTS (SELECT FROM tower_api_key.changes
         WHERE xid >= (SELECT xid FROM since) ORDER BY xid OFFSET $1 LIMIT 1)";

/// The oldest of what is there, whoever has seen it, for one row that means everything. Whoever does not see this transaction
/// finds that row, and whoever sees it has seen all that it took out. Says how much that was.
const FOLD: &str = "
    WITH gone AS (
        DELETE FROM tower_api_key.changes WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM tower_api_key.changes ORDER BY xid LIMIT $1 FOR UPDATE SKIP LOCKED
        )) RETURNING 1
    ), everything AS (
        INSERT INTO tower_api_key.changes (digest) SELECT NULL::bytea FROM (SELECT FROM gone LIMIT 1) AS any_of_it
    )
    SELECT count(*) FROM gone";

/// When the log was last cleaned up, and who hears if that is not possible.
#[derive(Default)]
pub(crate) struct Housekeeping {
    changes: AtomicU32,
    pruned: Mutex<Option<Instant>>,
    warned: Mutex<Option<Instant>>,
    observers: Vec<Arc<dyn Observer>>,
}

impl Housekeeping {
    pub(crate) fn told_to(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { observers, ..Self::default() }
    }

    /// A change was made. Whether it is time to clean up.
    pub(crate) fn after_change(&self) -> bool {
        self.changes.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY.0 == PRUNE_EVERY.0 - 1
    }

    /// The log was read. Whether it is time to clean up: rows may come by SQL of others, and grow old while nobody changes
    /// anything.
    pub(crate) fn after_read(&self) -> bool {
        is_due(&self.pruned, PRUNE_EVERY.1)
    }

    /// Once an hour at most.
    fn warn(&self) {
        if is_due(&self.warned, OLDEST) {
            for observer in &self.observers {
                observer.warned(Warning::ChangeLogGrows);
            }
        }
    }

    /// Takes out of the log what every node has seen; and if that leaves too much, whatever there is.
    pub(crate) async fn prune(&self, database: &Database) -> Result<(), StoreError> {
        let pruned = take_out(database, PRUNE).await;
        // Also if that failed: then there is more to warn of.
        let (oldest, too_much) = left(database).await?;
        let folded = if too_much { take_out(database, FOLD).await } else { Ok(()) };
        if too_much || oldest.is_some_and(|oldest| oldest >= OLDEST) {
            self.warn();
        }
        pruned.and(folded)
    }
}

/// Whether it was that long ago; if so, it is now.
fn is_due(last: &Mutex<Option<Instant>>, every: Duration) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// A little at a time, so that nobody waits behind it.
async fn take_out(database: &Database, how: &'static str) -> Result<(), StoreError> {
    loop {
        let taken = database.read(&database.bulkheads.log, move |session| {
            Box::pin(async move { Ok(value::<i64>(&session.one(how, &[&AT_ONCE]).await?, 0)?) })
        });
        if taken.await.map_err(Failure::into_store_error)? < AT_ONCE {
            return Ok(());
        }
    }
}

async fn left(database: &Database) -> Result<(Option<Duration>, bool), StoreError> {
    let left = database.read(&database.bulkheads.log, |session| {
        Box::pin(async move {
            let row = session.one(LEFT, &[&LONGEST]).await?;
            let oldest = optional::<i64>(&row, 0)?.and_then(|seconds| u64::try_from(seconds).ok());
            Ok((oldest.map(Duration::from_secs), value(&row, 1)?))
        })
    });
    left.await.map_err(Failure::into_store_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_cleaned_up_after_so_many_changes_and_by_the_first_who_reads() {
        let housekeeping = Housekeeping::default();
        let due: Vec<u32> = (1..=200).filter(|_| housekeeping.after_change()).collect();
        assert_eq!(due, [64, 128, 192]);
        assert!(housekeeping.after_read(), "nobody has looked yet");
        assert!(!housekeeping.after_read(), "a moment ago");
        let long_ago = Mutex::new(Instant::now().checked_sub(PRUNE_EVERY.1));
        assert!(is_due(&long_ago, PRUNE_EVERY.1));
        assert!(!is_due(&long_ago, PRUNE_EVERY.1));
    }
}
