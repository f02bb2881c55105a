//! The SQL of keys.

use rusqlite::{Connection, Transaction, params};

use super::super::{KeyPolicy, KeyQuery, LedgerError, StoreError};
use super::failure::Failure;
use super::rows::{self, key_columns};
use crate::clock::Timestamp;
use crate::key::{KeyDigest, KeyId, UserId};
use crate::record::{FreshKey, KeyRecord};

const FIND: &str = concat!("SELECT ", key_columns!(), " FROM keys WHERE digest = ?1");

const GET: &str = concat!("SELECT ", key_columns!(), " FROM keys WHERE id = ?1");

const LIST: &str = concat!(
    "SELECT ",
    key_columns!(),
    " FROM keys WHERE owner = ?1 AND (created_at, id) > (?2, ?3) ORDER BY created_at, id"
);

const CREATED: &str = "SELECT created_at FROM keys WHERE id = ?1 AND owner = ?2";

const TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1 OR digest = ?2)";

const INSERT: &str = concat!(
    "INSERT INTO keys (",
    key_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
);

const ENDS_OF_UNREVOKED: &str =
    "SELECT expires_at FROM keys WHERE owner = ?1 AND environment = ?2 AND revoked_at IS NULL";

const REVOKE: &str = "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";

const REVOKE_ALIKE: &str =
    "UPDATE keys SET revoked_at = ?3 WHERE owner = ?1 AND environment = ?2 AND revoked_at IS NULL";

const REVOKE_ALL_OF: &str = "UPDATE keys SET revoked_at = ?2 WHERE owner = ?1 AND revoked_at IS NULL";

const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1)";

const REPLACE: &str = "UPDATE keys SET expires_at = ?2, revoked_at = ?3, replaced_by = ?4 WHERE id = ?1";

pub(super) fn find(connection: &Connection, digest: &KeyDigest) -> Result<Option<KeyRecord>, Failure> {
    let mut statement = connection.prepare_cached(FIND)?;
    let mut found = statement.query(params![digest.as_bytes()])?;
    Ok(found.next()?.map(rows::key).transpose()?)
}

pub(super) fn get(connection: &Connection, id: &KeyId) -> Result<Option<KeyRecord>, Failure> {
    let mut statement = connection.prepare_cached(GET)?;
    let mut found = statement.query(params![id.as_str()])?;
    Ok(found.next()?.map(rows::key).transpose()?)
}

/// What has ended is judged here and not in SQL, so that one rule holds for every store.
pub(super) fn list(
    connection: &Connection,
    owner: &UserId,
    query: &KeyQuery,
) -> Result<Vec<KeyRecord>, Failure> {
    let (after_time, after_id) = match &query.after {
        None => (i64::MIN, ""),
        Some(id) => {
            let mut statement = connection.prepare_cached(CREATED)?;
            let mut found = statement.query(params![id.as_str(), owner.as_str()])?;
            (found.next()?.ok_or(LedgerError::NotFound)?.get(0)?, id.as_str())
        }
    };
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let mut statement = connection.prepare_cached(LIST)?;
    let mut found = statement.query(params![owner.as_str(), after_time, after_id])?;
    let mut keys = Vec::new();
    while keys.len() < limit
        && let Some(row) = found.next()?
    {
        let key = rows::key(row)?;
        if query.selects(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    key: &KeyRecord,
    policy: KeyPolicy,
) -> Result<(), Failure> {
    check_new(transaction, key)?;
    let now = key.created_at;
    if key.is_active(now) {
        match policy {
            KeyPolicy::Single => {
                let alike = params![key.owner.as_str(), key.environment.as_str(), now.as_micros()];
                // Expired ones too: a clock that jumps back must not bring a second key to life.
                transaction.prepare_cached(REVOKE_ALIKE)?.execute(alike)?;
            }
            KeyPolicy::Multiple { max } => {
                if count_active(transaction, key, now)? >= u64::from(max) {
                    return Err(LedgerError::TooManyKeys.into());
                }
            }
        }
    }
    add(transaction, key)
}

pub(super) fn replace(
    transaction: &Transaction<'_>,
    old: &KeyId,
    fresh: &FreshKey,
    old_ends: Timestamp,
) -> Result<KeyRecord, Failure> {
    let now = fresh.created_at;
    let mut before = get(transaction, old)?.ok_or(LedgerError::NotFound)?;
    if !before.is_active(now) || before.replaced_by.is_some() {
        return Err(LedgerError::Ended.into());
    }
    let successor = before.successor(fresh);
    check_new(transaction, &successor)?;
    before.replace(&successor.id, now, old_ends);
    transaction.prepare_cached(REPLACE)?.execute(params![
        before.id.as_str(),
        before.expires_at.map(Timestamp::as_micros),
        before.revoked_at.map(Timestamp::as_micros),
        before.replaced_by.as_ref().map(KeyId::as_str),
    ])?;
    add(transaction, &successor)?;
    Ok(successor)
}

pub(super) fn revoke(transaction: &Transaction<'_>, id: &KeyId, now: Timestamp) -> Result<(), Failure> {
    let revoked = transaction.prepare_cached(REVOKE)?.execute(params![id.as_str(), now.as_micros()])?;
    if revoked == 0 && !ask(transaction, EXISTS, params![id.as_str()])? {
        return Err(LedgerError::NotFound.into());
    }
    Ok(())
}

pub(super) fn revoke_all_of(
    transaction: &Transaction<'_>,
    owner: &UserId,
    now: Timestamp,
) -> Result<(), Failure> {
    transaction.prepare_cached(REVOKE_ALL_OF)?.execute(params![owner.as_str(), now.as_micros()])?;
    Ok(())
}

fn check_new(transaction: &Transaction<'_>, key: &KeyRecord) -> Result<(), Failure> {
    key.check().map_err(LedgerError::Invalid)?;
    let taken = ask(transaction, TAKEN, params![key.id.as_str(), key.digest.as_bytes()])?;
    if taken { Err(LedgerError::Conflict.into()) } else { Ok(()) }
}

/// How many keys of the same owner and environment are active.
fn count_active(transaction: &Transaction<'_>, key: &KeyRecord, now: Timestamp) -> Result<u64, Failure> {
    let mut statement = transaction.prepare_cached(ENDS_OF_UNREVOKED)?;
    let mut ends = statement.query(params![key.owner.as_str(), key.environment.as_str()])?;
    let mut active = 0;
    while let Some(row) = ends.next()? {
        let end: Option<i64> = row.get(0)?;
        active += u64::from(end.is_none_or(|end| now.as_micros() < end));
    }
    Ok(active)
}

fn add(transaction: &Transaction<'_>, key: &KeyRecord) -> Result<(), Failure> {
    let scopes = serde_json::to_string(&key.scopes).map_err(StoreError::failed)?;
    let metadata = serde_json::to_string(&key.metadata).map_err(StoreError::failed)?;
    transaction.prepare_cached(INSERT)?.execute(params![
        key.digest.as_bytes(),
        key.id.as_str(),
        key.owner.as_str(),
        key.level.as_str(),
        key.level.project().map(AsRef::<str>::as_ref),
        key.environment.as_str(),
        key.name,
        key.prefix,
        key.last4,
        scopes,
        metadata,
        key.created_at.as_micros(),
        key.expires_at.map(Timestamp::as_micros),
        key.revoked_at.map(Timestamp::as_micros),
        key.replaced_by.as_ref().map(KeyId::as_str),
    ])?;
    Ok(())
}

fn ask(
    connection: &Connection,
    question: &'static str,
    params: impl rusqlite::Params,
) -> Result<bool, Failure> {
    Ok(connection.prepare_cached(question)?.query_row(params, |row| row.get(0))?)
}
