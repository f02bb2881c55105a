//! The log of changes, and who follows it: [`lease_protocol`](crate::lease_protocol) in SQL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::super::StoreError;
use super::super::log::{Change, ChangeLog, Changes, Followers, NodeId, Position};
use super::PostgresStore;
use super::failure::Failure;
use super::rows::{of_primary, optional, value};
use super::session::{Commit, Database, Session};
use crate::key::{KeyDigest, UserId};
use crate::observer::{Observers, Warning};

/// More than this is everything.
const MOST: usize = 10_000;

/// The log is cleaned up after this many changes of this process, and by those who read it once in this time.
const PRUNE_EVERY: (u32, Duration) = (64, Duration::from_secs(300));
/// So much is taken out by one statement: some tens of milliseconds.
const AT_ONCE: i64 = 10_000;
/// More than this is not kept for anybody: whoever has not seen it is told everything.
const LONGEST: i64 = 50_000;
/// What is kept for longer than this is kept for somebody who should be looked for.
const OLDEST: Duration = Duration::from_secs(3600);

/// What it has seen already when it comes: it holds nothing yet. On the disk like all that a node says of itself: no
/// number of a transaction that it has seen is drawn again after a crash.
const JOIN: &str = "
    INSERT INTO tower_api_key.nodes (node, acked, era, lease_ms)
    SELECT $1::text, pg_current_snapshot(), tower_api_key.era(), $2
    WHERE set_config('synchronous_commit', 'on', true) IS NOT NULL";

const HERE: &str = "SELECT tower_api_key.era(), pg_current_snapshot()::text, pg_is_in_recovery()";

/// One statement, so one snapshot: all that it sees, and the snapshot itself.
///
/// Not in a position is what began after it was taken, and what was open then: both are found by the index. Everything since
/// the oldest open transaction would be the same and, while somebody leaves one open, more to read at each round.
///
/// A position of another run of the server, of its future (it was restored), or from before what was taken out, means
/// nothing: `whole` is false then. Rows of transactions that this server does not know came by a restore.
const CHANGES: &str = "
    SELECT here.era, here.snapshot::text, here.standby, here.whole,
        changes.xid IS NOT NULL, changes.digest, changes.owner
    FROM (
        SELECT tower_api_key.era() AS era, pg_current_snapshot() AS snapshot, pg_is_in_recovery() AS standby,
            tower_api_key.era() = $1
                AND pg_snapshot_xmin($2::text::pg_snapshot) >= before
                AND pg_snapshot_xmax($2::text::pg_snapshot) <= pg_snapshot_xmax(pg_current_snapshot()) AS whole
        FROM tower_api_key.pruned LIMIT 1
    ) AS here
    LEFT JOIN (
        (SELECT xid, digest, owner FROM tower_api_key.changes
         WHERE xid >= pg_snapshot_xmax($2::text::pg_snapshot) AND xid < pg_snapshot_xmax(pg_current_snapshot())
         ORDER BY xid LIMIT $3)
        UNION ALL
        (SELECT xid, digest, owner FROM tower_api_key.changes
         WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($2::text::pg_snapshot))) LIMIT $3)
    ) AS changes ON here.whole AND pg_visible_in_snapshot(changes.xid, here.snapshot)
    LIMIT $3";

const ACKNOWLEDGE: &str = "
    UPDATE tower_api_key.nodes SET acked = $2::text::pg_snapshot, era = $3, seen_at = clock_timestamp()
    WHERE node = $1 AND set_config('synchronous_commit', 'on', true) IS NOT NULL";

const LEAVE: &str = "DELETE FROM tower_api_key.nodes WHERE node = $1";

const BEHIND: &str = "
    SELECT tower_api_key.era(), pg_is_in_recovery(), max(lease_ms) FILTER (
        WHERE era <> tower_api_key.era() OR NOT pg_visible_in_snapshot($1::text::xid8, acked))
    FROM tower_api_key.nodes";

const FENCE: &str = "
    DELETE FROM tower_api_key.nodes
    WHERE (era <> tower_api_key.era() OR NOT pg_visible_in_snapshot($1::text::xid8, acked)) AND lease_ms <= $2";

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

#[async_trait]
impl ChangeLog for PostgresStore {
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError> {
        let (node, lease) = (node.clone(), millis_up(lease));
        let joined = self.log(move |session| {
            Box::pin(async move {
                session.execute(JOIN, &[&node.as_str(), &lease]).await?;
                let row = session.one(HERE, &[]).await?;
                of_primary(&row, 2)?;
                Ok(position(value(&row, 0)?, value(&row, 1)?))
            })
        });
        joined.await
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        let after = after.clone();
        let changes = self.log(move |session| Box::pin(async move { changes(session, &after).await })).await;
        if changes.is_ok() && self.housekeeping.after_read() {
            self.prune();
        }
        changes
    }

    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError> {
        let (node, position) = (node.clone(), position.clone());
        let acknowledged = self.log(move |session| {
            Box::pin(async move {
                let (era, snapshot) = parts(&position)?;
                Ok(session.execute(ACKNOWLEDGE, &[&node.as_str(), &snapshot, &era]).await? == 1)
            })
        });
        acknowledged.await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        let node = node.clone();
        let left = self.log(move |session| {
            Box::pin(async move {
                session.execute(LEAVE, &[&node.as_str()]).await?;
                Ok(())
            })
        });
        left.await
    }

    async fn hint(&self) {
        self.listener.hint().await;
    }
}

#[async_trait]
impl Followers for Database {
    type Committed = Commit;

    async fn behind(&self, change: &Commit) -> Result<Option<Duration>, StoreError> {
        let (xid, era) = (change.xid.clone(), change.era);
        let behind = self.read(&self.gates.log, move |session| {
            Box::pin(async move {
                let row = session.one(BEHIND, &[&xid]).await?;
                of_primary(&row, 1)?;
                if value::<i64>(&row, 0)? != era {
                    return Err(StoreError::failed(Restarted).into());
                }
                Ok(optional::<i64>(&row, 2)?.map(|lease| Duration::from_millis(lease.unsigned_abs())))
            })
        });
        behind.await.map_err(Failure::into_store_error)
    }

    async fn fence(&self, change: &Commit, lease: Duration) -> Result<(), StoreError> {
        let (xid, lease) = (change.xid.clone(), millis_up(lease));
        let fenced = self.read(&self.gates.log, move |session| {
            Box::pin(async move {
                session.execute(FENCE, &[&xid, &lease]).await?;
                Ok(())
            })
        });
        fenced.await.map_err(Failure::into_store_error)
    }
}

/// When the log was last cleaned up, and who hears if that is not possible.
#[derive(Default)]
pub(super) struct Housekeeping {
    changes: AtomicU32,
    pruned: Mutex<Option<Instant>>,
    warned: Mutex<Option<Instant>>,
    observers: Observers,
}

impl Housekeeping {
    pub(super) fn told_to(observers: Observers) -> Self {
        Self { observers, ..Self::default() }
    }

    /// A change was made. Whether it is time to clean up.
    pub(super) fn after_change(&self) -> bool {
        self.changes.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY.0 == PRUNE_EVERY.0 - 1
    }

    /// The log was read. Whether it is time to clean up: rows may come by SQL of others, and grow old while nobody changes
    /// anything.
    fn after_read(&self) -> bool {
        is_due(&self.pruned, PRUNE_EVERY.1)
    }

    /// Once an hour at most.
    fn warn(&self) {
        if is_due(&self.warned, OLDEST) {
            self.observers.warned(Warning::ChangeLogGrows);
        }
    }

    /// Takes out of the log what every node has seen; and if that leaves too much, whatever there is.
    pub(super) async fn prune(&self, database: &Database) -> Result<(), StoreError> {
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
        let taken = database.read(&database.gates.log, move |session| {
            Box::pin(async move { Ok(value::<i64>(&session.one(how, &[&AT_ONCE]).await?, 0)?) })
        });
        if taken.await.map_err(Failure::into_store_error)? < AT_ONCE {
            return Ok(());
        }
    }
}

async fn left(database: &Database) -> Result<(Option<Duration>, bool), StoreError> {
    let left = database.read(&database.gates.log, |session| {
        Box::pin(async move {
            let row = session.one(LEFT, &[&LONGEST]).await?;
            let oldest = optional::<i64>(&row, 0)?.and_then(|seconds| u64::try_from(seconds).ok());
            Ok((oldest.map(Duration::from_secs), value(&row, 1)?))
        })
    });
    left.await.map_err(Failure::into_store_error)
}

async fn changes(session: &Session, after: &Position) -> Result<Changes, Failure> {
    let (era, snapshot) = parts(after)?;
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let rows = session.query(CHANGES, &[&era, &snapshot, &(most + 1)]).await?;
    let first = rows.first().ok_or_else(|| StoreError::corrupt("the log of changes has no beginning"))?;
    of_primary(first, 2)?;
    let position = position(value(first, 0)?, value(first, 1)?);
    if !value(first, 3)? || rows.len() > MOST {
        return Ok(Changes { changes: vec![Change::Everything], position });
    }
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        if value(row, 4)? {
            changes.push(match (optional::<&[u8]>(row, 5)?, optional::<&str>(row, 6)?) {
                (Some(digest), None) => digest.try_into().map(KeyDigest::from_bytes).map(Change::Key).ok(),
                (None, Some(owner)) => UserId::new(owner).map(Change::Owner).ok(),
                _ => None,
            });
        }
    }
    // What cannot be read may be anything.
    let changes = changes.into_iter().map(|change| change.unwrap_or(Change::Everything)).collect();
    Ok(Changes { changes, position })
}

/// The run of the server, and a snapshot in it.
fn position(era: i64, snapshot: &str) -> Position {
    Position::new(format!("{era}/{snapshot}"))
}

fn parts(position: &Position) -> Result<(i64, &str), StoreError> {
    let parts = position.as_str().split_once('/').and_then(|(era, at)| Some((era.parse().ok()?, at)));
    parts.ok_or_else(|| StoreError::failed(NoPosition))
}

/// Never shorter than it is.
fn millis_up(lease: Duration) -> i64 {
    let millis = lease.as_nanos().div_ceil(1_000_000);
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[derive(Debug, thiserror::Error)]
#[error("the server was restarted while a change waited for the nodes")]
struct Restarted;

#[derive(Debug, thiserror::Error)]
#[error("this is no position in the log")]
struct NoPosition;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_run_of_the_server_and_a_snapshot_in_it() {
        assert_eq!(parts(&position(-7, "1:9:2,3")).unwrap(), (-7, "1:9:2,3"));
        for none in ["", "1", "x/1:1:", "/1:1:", "9223372036854775808/1:1:", "1.0/1:1:"] {
            assert!(parts(&Position::new(none)).is_err(), "{none}");
        }
    }

    #[test]
    fn a_lease_is_never_shorter_in_the_table_than_in_the_node() {
        for (lease, millis) in [
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(2000), 2000),
            (Duration::from_nanos(2_000_000_001), 2001),
            (Duration::MAX, i64::MAX),
        ] {
            assert_eq!(millis_up(lease), millis, "{lease:?}");
        }
    }

    /// What a node has seen must be on the disk before it says so, whatever the server's default is.
    #[test]
    fn what_a_node_says_of_itself_is_on_the_disk() {
        for sql in [JOIN, ACKNOWLEDGE] {
            assert!(sql.contains("set_config('synchronous_commit', 'on', true)"), "{sql}");
        }
    }

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
