//! The log of changes, and who follows it: [`lease_protocol`](crate::lease_protocol) in SQL.

use std::time::Duration;

use async_trait::async_trait;

use super::super::StoreError;
use super::super::log::{Change, ChangeLog, Changes, Followers, NodeId, Position};
use super::PostgresStore;
use super::failure::Failure;
use super::rows::{of_primary, optional, value};
use super::session::{Commit, Database, Session};
use crate::key::{KeyDigest, UserId};

/// More than this is everything.
const MOST: usize = 10_000;

/// What it has seen already when it comes: it holds nothing yet. On the disk like all that a node says of itself: no
/// number of a transaction that it has seen is drawn again after a crash.
const JOIN: &str = "
    INSERT INTO tower_api_key.nodes (node, acked, era, lease_ms)
    SELECT $1::text, pg_current_snapshot(), tower_api_key.era(), $2
    WHERE set_config('synchronous_commit', 'on', true) IS NOT NULL";

const HERE: &str = "SELECT tower_api_key.era(), pg_current_snapshot()::text, pg_is_in_recovery()";

/// One statement, so one snapshot: all that it sees, and the snapshot itself.
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
        FROM tower_api_key.pruned
    ) AS here
    LEFT JOIN tower_api_key.changes ON here.whole
        AND changes.xid >= pg_snapshot_xmin($2::text::pg_snapshot)
        AND NOT pg_visible_in_snapshot(changes.xid, $2::text::pg_snapshot)
        AND pg_visible_in_snapshot(changes.xid, here.snapshot)
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

/// What all nodes have seen; who comes later has seen it too, or is told everything.
const PRUNE: &str = "
    WITH seen AS (
        SELECT pg_snapshot_xmin(acked) AS xid FROM tower_api_key.nodes WHERE era = tower_api_key.era()
        UNION ALL SELECT pg_snapshot_xmin(pg_current_snapshot())
    ), horizon AS (
        SELECT xid FROM seen ORDER BY xid LIMIT 1
    ), gone AS (
        DELETE FROM tower_api_key.changes USING horizon WHERE changes.xid < horizon.xid
    )
    UPDATE tower_api_key.pruned SET before = horizon.xid FROM horizon
    WHERE before < horizon.xid OR before > pg_snapshot_xmax(pg_current_snapshot())";

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
        self.log(move |session| Box::pin(async move { changes(session, &after).await })).await
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

/// Takes out of the log what every node has seen.
pub(super) async fn prune(database: &Database) -> Result<(), StoreError> {
    let pruned = database.read(&database.gates.log, |session| {
        Box::pin(async move {
            session.execute(PRUNE, &[]).await?;
            Ok(())
        })
    });
    pruned.await.map_err(Failure::into_store_error)
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
