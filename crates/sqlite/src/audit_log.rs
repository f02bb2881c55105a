//! SQL of the audit log and of usage: what happened to keys, and when they were used.

use rusqlite::{Connection, Transaction, params};

use crate::failure::Failure;
use crate::row::BorrowedRow;
use tower_api_key::store::codec::{entry, used};
use tower_api_key::{
    AuditEntry, Authority, Environment, KeyEvent, KeyId, KeyRecord, Revocation, Timestamp, Usage, UserId,
};

const WRITE: &str = "INSERT INTO history (key, owner, at, by, event) VALUES (?1, ?2, ?3, ?4, ?5)";

const WRITE_OF_ONE: &str =
    "INSERT INTO history (key, owner, at, by, event) SELECT id, owner, ?2, ?3, ?4 FROM keys WHERE id = ?1";

/// One entry for each key that is about to be revoked, except one.
const WRITE_OF_ALIKE: &str = "
    INSERT INTO history (key, owner, at, by, event)
    SELECT id, owner, ?3, ?4, ?5 FROM keys
    WHERE owner = ?1 AND environment = ?2 AND revoked_at IS NULL AND id <> ?6 ORDER BY created_at, id";

/// The same for the first ?5 keys of an owner, in the order of the index.
const WRITE_OF_SOME_OF: &str = "
    INSERT INTO history (key, owner, at, by, event)
    SELECT id, owner, ?2, ?3, ?4 FROM keys INDEXED BY unrevoked_keys WHERE owner = ?1 AND revoked_at IS NULL
    ORDER BY environment, expires_at, created_at, id LIMIT ?5";

const HISTORY: &str =
    "SELECT at, key, owner, by, event FROM history WHERE key = ?1 ORDER BY number DESC LIMIT ?2";

/// Reads only the newest entries.
const CHANGES_SINCE: &str = "
    SELECT count(*) FROM (SELECT at, event FROM history WHERE key = ?1 ORDER BY number DESC LIMIT 200)
    WHERE at > ?2 AND event LIKE 'amended%'";

/// A count that would overflow stays as it is.
const ADD_USAGE: &str = "
    INSERT INTO usage (key, through, last, count) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (key, through) DO UPDATE SET
        last = max(last, excluded.last),
        count = count + min(excluded.count, 9223372036854775807 - count)";

const USAGE: &str = "SELECT last, key, through, count FROM usage WHERE key = ?1 ORDER BY through";

pub(crate) fn write(
    transaction: &Transaction<'_>,
    at: Timestamp,
    key: &KeyRecord,
    by: &Authority,
    event: KeyEvent,
) -> Result<(), Failure> {
    let entry = AuditEntry::new(at, key, by, event);
    transaction.prepare_cached(WRITE)?.execute(params![
        entry.key.as_str(),
        entry.owner.as_str(),
        entry.at.as_micros(),
        entry.by,
        entry.event.to_string(),
    ])?;
    Ok(())
}

/// Records that a key was revoked.
pub(crate) fn revoked(
    transaction: &Transaction<'_>,
    key: &KeyId,
    why: Revocation,
    at: Timestamp,
    by: &Authority,
) -> Result<(), Failure> {
    let event = KeyEvent::Revoked(why).to_string();
    let params = params![key.as_str(), at.as_micros(), by.to_string(), event];
    transaction.prepare_cached(WRITE_OF_ONE)?.execute(params)?;
    Ok(())
}

/// Records that every key of an owner and environment, except one, is about to be revoked.
pub(crate) fn superseded(
    transaction: &Transaction<'_>,
    owner: &UserId,
    environment: Environment,
    spared: &str,
    at: Timestamp,
    by: &Authority,
) -> Result<(), Failure> {
    let event = KeyEvent::Revoked(Revocation::Superseded).to_string();
    let by = by.to_string();
    let params = params![owner.as_str(), environment.as_str(), at.as_micros(), by, event, spared];
    transaction.prepare_cached(WRITE_OF_ALIKE)?.execute(params)?;
    Ok(())
}

/// Records that the first keys of an owner, up to `most`, are about to be revoked.
pub(crate) fn member_removed(
    transaction: &Transaction<'_>,
    owner: &UserId,
    at: Timestamp,
    most: u32,
) -> Result<(), Failure> {
    let event = KeyEvent::Revoked(Revocation::MemberRemoved).to_string();
    let params = params![owner.as_str(), at.as_micros(), Authority::System.to_string(), event, most];
    transaction.prepare_cached(WRITE_OF_SOME_OF)?.execute(params)?;
    Ok(())
}

/// How often a key was updated since then, as far as its newest entries show.
pub(crate) fn changes_since(connection: &Connection, key: &KeyId, since: Timestamp) -> Result<u64, Failure> {
    let params = params![key.as_str(), since.as_micros()];
    let changes: i64 = connection.prepare_cached(CHANGES_SINCE)?.query_row(params, |row| row.get(0))?;
    Ok(changes.unsigned_abs())
}

pub(crate) fn of(connection: &Connection, key: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, Failure> {
    let mut statement = connection.prepare_cached(HISTORY)?;
    let mut found = statement.query(params![key.as_str(), limit])?;
    let mut entries = Vec::new();
    while let Some(row) = found.next()?.map(BorrowedRow) {
        entries.push(entry(&row)?);
    }
    Ok(entries)
}

pub(crate) fn add_usage(transaction: &Transaction<'_>, batch: &[Usage]) -> Result<(), Failure> {
    let mut statement = transaction.prepare_cached(ADD_USAGE)?;
    for new in batch {
        let count = i64::try_from(new.count).unwrap_or(i64::MAX);
        statement.execute(params![new.key.as_str(), new.through.to_string(), new.last.as_micros(), count])?;
    }
    Ok(())
}

pub(crate) fn usage(connection: &Connection, keys: &[KeyId]) -> Result<Vec<Usage>, Failure> {
    let mut keys: Vec<_> = keys.iter().collect();
    keys.sort_unstable();
    keys.dedup();
    let mut statement = connection.prepare_cached(USAGE)?;
    let mut usage = Vec::new();
    for key in keys {
        let mut found = statement.query(params![key.as_str()])?;
        while let Some(row) = found.next()?.map(BorrowedRow) {
            usage.push(used(&row)?);
        }
    }
    Ok(usage)
}
