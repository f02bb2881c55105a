//! SQL of the audit log and of usage: what happened to keys, and when they were used.

use crate::failure::Failure;
use crate::row::value;
use crate::session::Session;
use tower_api_key::store::codec::{entry, used};
use tower_api_key::{
    AuditEntry, Authority, Environment, KeyEvent, KeyId, KeyRecord, Revocation, Timestamp, Usage, UserId,
};

const WRITE: &str = "
    INSERT INTO tower_api_key.history (key, owner, at, by, event) VALUES ($1::text, $2::text, $3, $4::text, $5::text)";

const WRITE_OF_ONE: &str = "
    INSERT INTO tower_api_key.history (key, owner, at, by, event)
    SELECT id, owner, $2, $3::text, $4::text FROM tower_api_key.keys WHERE id = $1";

/// One entry for each key that is about to be revoked, except one.
const WRITE_OF_ALIKE: &str = "
    INSERT INTO tower_api_key.history (key, owner, at, by, event)
    SELECT id, owner, $3, $4::text, $5::text FROM tower_api_key.keys
    WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL AND id <> $6 ORDER BY created_at, id";

const HISTORY: &str = "
    SELECT at, key, owner, by, event FROM tower_api_key.history WHERE key = $1 ORDER BY number DESC LIMIT $2";

/// Reads only the newest entries.
const CHANGES_SINCE: &str = "
    SELECT count(*) FROM (
        SELECT at, event FROM tower_api_key.history WHERE key = $1 ORDER BY number DESC LIMIT 200
    ) AS newest WHERE at > $2 AND event LIKE 'amended%'";

/// In the order of the index, so that two writers cannot deadlock. A count that would overflow stays as it is.
const ADD_USAGE: &str = "
    INSERT INTO tower_api_key.usage AS kept (key, through, last, count)
    SELECT key, through, max(last), least(sum(count), 9223372036854775807)::bigint
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS new (key, through, last, count)
    GROUP BY key, through ORDER BY key COLLATE \"C\", through COLLATE \"C\"
    ON CONFLICT (key, through) DO UPDATE SET
        last = greatest(kept.last, excluded.last),
        count = kept.count + least(excluded.count, 9223372036854775807 - kept.count)";

const USAGE: &str = "
    SELECT last, key, through, count FROM tower_api_key.usage WHERE key = ANY ($1::text[]) ORDER BY key, through";

pub(crate) async fn write(
    session: &Session,
    at: Timestamp,
    key: &KeyRecord,
    by: &Authority,
    event: KeyEvent,
) -> Result<(), Failure> {
    let entry = AuditEntry::new(at, key, by, event);
    let (key, owner, event) = (entry.key.as_str(), entry.owner.as_str(), entry.event.to_string());
    session.execute(WRITE, &[&key, &owner, &entry.at.as_micros(), &entry.by, &event]).await?;
    Ok(())
}

/// Records that a key was revoked.
pub(crate) async fn revoked(
    session: &Session,
    key: &KeyId,
    why: Revocation,
    at: Timestamp,
    by: &Authority,
) -> Result<(), Failure> {
    let event = KeyEvent::Revoked(why).to_string();
    session.execute(WRITE_OF_ONE, &[&key.as_str(), &at.as_micros(), &by.to_string(), &event]).await?;
    Ok(())
}

/// Records that every key of an owner and environment, except one, is about to be revoked.
pub(crate) async fn superseded(
    session: &Session,
    owner: &UserId,
    environment: Environment,
    spared: &str,
    at: Timestamp,
    by: &Authority,
) -> Result<(), Failure> {
    let event = KeyEvent::Revoked(Revocation::Superseded).to_string();
    let (owner, environment, by) = (owner.as_str(), environment.as_str(), by.to_string());
    session.execute(WRITE_OF_ALIKE, &[&owner, &environment, &at.as_micros(), &by, &event, &spared]).await?;
    Ok(())
}

/// How often a key was updated since then, as far as its newest entries show.
pub(crate) async fn changes_since(session: &Session, key: &KeyId, since: Timestamp) -> Result<u64, Failure> {
    let row = session.one(CHANGES_SINCE, &[&key.as_str(), &since.as_micros()]).await?;
    Ok(value::<i64>(&row, 0)?.unsigned_abs())
}

pub(crate) async fn of(session: &Session, key: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, Failure> {
    let found = session.query(HISTORY, &[&key.as_str(), &i64::from(limit)]).await?;
    Ok(found.iter().map(entry).collect::<Result<_, _>>()?)
}

pub(crate) async fn add_usage(session: &Session, batch: &[Usage]) -> Result<(), Failure> {
    let keys: Vec<_> = batch.iter().map(|new| new.key.as_str()).collect();
    let through: Vec<_> = batch.iter().map(|new| new.through.to_string()).collect();
    let last: Vec<_> = batch.iter().map(|new| new.last.as_micros()).collect();
    let counts: Vec<_> = batch.iter().map(|new| i64::try_from(new.count).unwrap_or(i64::MAX)).collect();
    session.execute(ADD_USAGE, &[&keys, &through, &last, &counts]).await?;
    Ok(())
}

pub(crate) async fn usage(session: &Session, keys: &[KeyId]) -> Result<Vec<Usage>, Failure> {
    let keys: Vec<_> = keys.iter().map(KeyId::as_str).collect();
    let found = session.query(USAGE, &[&keys]).await?;
    Ok(found.iter().map(used).collect::<Result<_, _>>()?)
}
