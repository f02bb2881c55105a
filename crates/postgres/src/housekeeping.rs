//! Keeps the change log short: deletes what every node has seen, and warns operators if that is not possible.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tower_api_key::observer::{Observer, Warning};
use tower_api_key::store::StoreError;

use crate::failure::Failure;
use crate::row::{optional, value};
use crate::session::Database;

/// Pruning happens after this many changes of this process, and once in this time by nodes that read the log.
const PRUNE_EVERY: (u32, Duration) = (64, Duration::from_secs(300));
/// How many rows one statement deletes. This takes some tens of milliseconds.
const AT_ONCE: i64 = 10_000;
/// The longest log that is kept for a slow node. A node that has not seen the rest must clear its cache.
const LONGEST: i64 = 50_000;
/// If entries are kept for longer than this, an operator should look for the node that has not seen them.
const OLDEST: Duration = Duration::from_secs(3600);

/// Deletes the oldest entries that all nodes have seen. A node that joins later has seen them too or clears its cache.
/// Returns how many were deleted.
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

/// The age of the oldest remaining entry in seconds, and whether there are more entries than the limit. Entries
/// before the last "everything" row are not counted: they were deleted, and scanning their place in the index may
/// take long.
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

/// Replaces the oldest entries, whether or not they were seen, by one "everything" row. A node that does not see this
/// transaction will find that row, and one that sees it has seen all deleted entries. Returns how many were deleted.
const FOLD: &str = "
    WITH gone AS (
        DELETE FROM tower_api_key.changes WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM tower_api_key.changes ORDER BY xid LIMIT $1 FOR UPDATE SKIP LOCKED
        )) RETURNING 1
    ), everything AS (
        INSERT INTO tower_api_key.changes (digest) SELECT NULL::bytea FROM (SELECT FROM gone LIMIT 1) AS any_of_it
    )
    SELECT count(*) FROM gone";

/// When the log was last pruned, and whom to warn if that is not possible.
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

    /// Called after a change; returns whether to prune now.
    pub(crate) fn after_change(&self) -> bool {
        self.changes.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY.0 == PRUNE_EVERY.0 - 1
    }

    /// Called after reading the log; returns whether to prune now. Entries may come from other programs' SQL, and
    /// grow old while this process changes nothing.
    pub(crate) fn after_read(&self) -> bool {
        is_due(&self.pruned, PRUNE_EVERY.1)
    }

    /// Warns at most once an hour.
    fn warn(&self) {
        if is_due(&self.warned, OLDEST) {
            for observer in &self.observers {
                observer.warned(Warning::ChangeLogGrows);
            }
        }
    }

    /// Deletes what every node has seen; if the log is still too long, replaces the oldest entries by one row.
    pub(crate) async fn prune(&self, database: &Database) -> Result<(), StoreError> {
        let pruned = take_out(database, PRUNE).await;
        // Also after a failure, which is one more reason to warn.
        let (oldest, too_much) = left(database).await?;
        let folded = if too_much { take_out(database, FOLD).await } else { Ok(()) };
        if too_much || oldest.is_some_and(|oldest| oldest >= OLDEST) {
            self.warn();
        }
        pruned.and(folded)
    }
}

/// Whether this much time has passed; if so, restarts the period.
fn is_due(last: &Mutex<Option<Instant>>, every: Duration) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Deletes in small steps, so that nothing waits long for the locks.
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
