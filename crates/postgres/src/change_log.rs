//! The change log and the nodes that follow it: [`lease_protocol`](tower_api_key::lease_protocol) in SQL.

use std::time::Duration;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::row::{of_primary, optional, value};
use crate::session::{Commit, Database, Session};
use crate::store::PostgresStore;
use tower_api_key::store::{
    Change, ChangeLog, Changes, Followers, NodeId, Position, RegistryError, StoreError,
};
use tower_api_key::{KeyDigest, UserId};

/// A batch with more changes than this is read as `Everything`.
const MOST: usize = 10_000;

/// Registers a node with its current position: its cache is empty, so it has seen everything before. It is written
/// to disk, like everything that a node reports, so that no transaction number that it has seen is reused after a
/// crash.
const JOIN: &str = "
    INSERT INTO tower_api_key.nodes (node, acked, era, lease_ms)
    SELECT $1::text, pg_current_snapshot(), tower_api_key.era(), $2
    WHERE set_config('synchronous_commit', 'on', true) IS NOT NULL";

const HERE: &str = "SELECT tower_api_key.era(), pg_current_snapshot()::text, pg_is_in_recovery()";

/// One statement, so one snapshot: it returns the changes that it sees, and the snapshot itself.
///
/// A position does not include transactions that began after it or were open at that time; the index finds both.
/// Reading everything since the oldest open transaction would give the same result, but more rows at each round
/// while a transaction stays open.
///
/// A position is meaningless if it is from another run of the server, from its future (after a restore), or older
/// than the rows that were pruned: `whole` is then false. Rows of transactions that this server does not know came
/// from a restore.
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

/// What a user may do has changed outside of this database.
const ANNOUNCE: &str = "INSERT INTO tower_api_key.changes (owner) VALUES ($1)";

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

    async fn announce(&self, user: &UserId) -> Result<(), StoreError> {
        let user = user.clone();
        let announced = self.take_away(move |session| {
            Box::pin(async move {
                session.execute(ANNOUNCE, &[&user.as_str()]).await?;
                Ok(())
            })
        });
        announced.await.map_err(RegistryError::into_store_error)
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
        let behind = self.read(&self.bulkheads.log, move |session| {
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
        let fenced = self.read(&self.bulkheads.log, move |session| {
            Box::pin(async move {
                session.execute(FENCE, &[&xid, &lease]).await?;
                Ok(())
            })
        });
        fenced.await.map_err(Failure::into_store_error)
    }
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
    // A change that cannot be parsed may be anything.
    let changes = changes.into_iter().map(|change| change.unwrap_or(Change::Everything)).collect();
    Ok(Changes { changes, position })
}

/// A run of the server, and a snapshot in it.
fn position(era: i64, snapshot: &str) -> Position {
    Position::new(format!("{era}/{snapshot}"))
}

fn parts(position: &Position) -> Result<(i64, &str), StoreError> {
    let parts = position.as_str().split_once('/').and_then(|(era, at)| Some((era.parse().ok()?, at)));
    parts.ok_or_else(|| StoreError::failed(NoPosition))
}

/// Rounds up, so that a lease is never shorter than requested.
fn millis_up(lease: Duration) -> i64 {
    let millis = lease.as_nanos().div_ceil(1_000_000);
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[derive(Debug, thiserror::Error)]
#[error("the server was restarted while a change waited for the nodes")]
struct Restarted;

#[derive(Debug, thiserror::Error)]
#[error("this is not a position in the change log")]
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

    /// A node must write what it has seen to disk before it reports it, whatever the server's default is.
    #[test]
    fn what_a_node_says_of_itself_is_on_the_disk() {
        for sql in [JOIN, ACKNOWLEDGE] {
            assert!(sql.contains("set_config('synchronous_commit', 'on', true)"), "{sql}");
        }
    }
}
