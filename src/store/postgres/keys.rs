//! The SQL of keys.

use std::collections::{BTreeMap, BTreeSet};

use super::super::rows::{KeyRow as _, json, key_columns, limits_text};
use super::super::{KeyPolicy, KeyQuery, LedgerError};
use super::failure::Failure;
use super::rows::{of_primary, optional, value};
use super::session::Session;
use super::trail;
use crate::audit::{Actor, KeyEvent, Revocation};
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, UserId};
use crate::record::{Amendment, FreshKey, KeyRecord};

/// One row always: of no key, NULLs. It says too whether it is the primary that answers.
const FIND: &str = concat!(
    "SELECT ",
    key_columns!(),
    ", pg_is_in_recovery() FROM (SELECT) AS always LEFT JOIN tower_api_key.keys ON digest = $1"
);

/// The same for a request at $2. Of a key that has ended, what no refusal needs is not even sent.
const FIND_AT: &str = "
    SELECT digest, id, owner, level, project, environment,
        CASE WHEN works THEN name END, CASE WHEN works THEN prefix END, CASE WHEN works THEN last4 END,
        CASE WHEN works THEN scopes END, CASE WHEN works THEN metadata END,
        created_at, expires_at, revoked_at,
        CASE WHEN works THEN replaced_by END, CASE WHEN works THEN restrictions END,
        CASE WHEN works THEN limits END, CASE WHEN works THEN family END,
        digested_by,
        CASE WHEN works THEN replaced_at END,
        pg_is_in_recovery()
    FROM (SELECT) AS always LEFT JOIN (
        SELECT *, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2::bigint) AS works
        FROM tower_api_key.keys
    ) AS keys ON digest = $1";

const GET: &str = concat!("SELECT ", key_columns!(), " FROM tower_api_key.keys WHERE id = $1");

const LOCK: &str = concat!("SELECT ", key_columns!(), " FROM tower_api_key.keys WHERE id = $1 FOR UPDATE");

const LIST: &str = concat!(
    "SELECT ",
    key_columns!(),
    " FROM tower_api_key.keys
      WHERE owner = $1 AND ($2::text IS NULL OR environment = $2) AND (created_at, id) > ($3, $4)
      ORDER BY created_at, id LIMIT $5"
);

/// Meets no key that has ended, where the planner knows better than to walk all in the order asked for.
const LIST_ACTIVE: &str = concat!(
    "SELECT * FROM (SELECT ",
    key_columns!(),
    " FROM tower_api_key.keys
      WHERE owner = $1 AND environment IN ('live', 'test') AND revoked_at IS NULL AND expires_at IS NULL
      UNION ALL SELECT ",
    key_columns!(),
    " FROM tower_api_key.keys
      WHERE owner = $1 AND environment IN ('live', 'test') AND revoked_at IS NULL AND expires_at > $6) AS active
      WHERE ($2::text IS NULL OR environment = $2) AND (created_at, id) > ($3, $4)
      ORDER BY created_at, id LIMIT $5"
);

const CREATED: &str = "SELECT created_at FROM tower_api_key.keys WHERE id = $1 AND owner = $2";

const OWNER: &str = "SELECT owner FROM tower_api_key.keys WHERE id = $1";

/// Whoever counts, adds or replaces keys of an owner does so alone. Two owners of one hash wait for each other, and that
/// is all.
const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('tower_api_key owner ' || $1::text, 0))";

const TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.keys WHERE id = $1 OR digest = $2)";

const INSERT: &str = concat!(
    "INSERT INTO tower_api_key.keys (",
    key_columns!(),
    ") VALUES ($1::bytea, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text, $10::text,
         $11::text, $12, $13, $14, $15::text, $16::text, $17::text, $18::text, $19::text, $20)"
);

const COUNT_ACTIVE: &str = "
    SELECT (SELECT count(*) FROM tower_api_key.keys
            WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL AND expires_at IS NULL)
         + (SELECT count(*) FROM tower_api_key.keys
            WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL AND expires_at > $3)";

const REVOKE: &str = "UPDATE tower_api_key.keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";

const REVOKE_ALIKE: &str = "
    UPDATE tower_api_key.keys SET revoked_at = $3 WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL";

const REVOKE_ALL_OF: &str =
    "UPDATE tower_api_key.keys SET revoked_at = $2 WHERE owner = $1 AND revoked_at IS NULL";

const AMEND: &str = "
    UPDATE tower_api_key.keys SET name = $2::text, restrictions = $3::text, limits = $4::text WHERE id = $1";

const REHASH: &str = "
    UPDATE tower_api_key.keys SET digest = $3::bytea, digested_by = $4::text WHERE id = $1 AND digest = $2";

/// What is particular to one key stands behind a `$`.
const COUNT_BY_DIGEST_METHOD: &str = "
    SELECT split_part(digested_by, '$', 1), count(*) FROM tower_api_key.keys WHERE revoked_at IS NULL GROUP BY 1";

const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.keys WHERE id = $1)";

const REPLACE: &str = "
    UPDATE tower_api_key.keys SET expires_at = $2, revoked_at = $3, replaced_by = $4::text, replaced_at = $5
    WHERE id = $1";

const ONE_OF_MANY: &str = "SAVEPOINT one";
const WITHOUT_ONE: &str = "ROLLBACK TO SAVEPOINT one";
const NEXT_OF_MANY: &str = "RELEASE SAVEPOINT one";

pub(super) async fn find(session: &Session, digest: &KeyDigest) -> Result<Option<KeyRecord>, Failure> {
    let row = session.one(FIND, &[&digest.as_bytes().as_slice()]).await?;
    of_primary(&row, 20)?;
    let found = optional::<&[u8]>(&row, 0)?.is_some();
    Ok(if found { Some(row.key()?) } else { None })
}

pub(super) async fn find_at(
    session: &Session,
    digest: &KeyDigest,
    now: Timestamp,
) -> Result<Option<KeyRecord>, Failure> {
    let row = session.one(FIND_AT, &[&digest.as_bytes().as_slice(), &now.as_micros()]).await?;
    of_primary(&row, 20)?;
    let found = optional::<&[u8]>(&row, 0)?.is_some();
    Ok(if found { Some(row.key_at(now)?) } else { None })
}

pub(super) async fn get(session: &Session, id: &KeyId) -> Result<Option<KeyRecord>, Failure> {
    let found = session.query(GET, &[&id.as_str()]).await?;
    Ok(found.first().map(|row| row.key()).transpose()?)
}

pub(super) async fn list(
    session: &Session,
    owner: &UserId,
    query: &KeyQuery,
) -> Result<Vec<KeyRecord>, Failure> {
    let (owner, limit) = (owner.as_str(), i64::from(query.limit));
    let environment = query.environment.map(|environment| environment.as_str());
    let (time, id) = match &query.after {
        None => (i64::MIN, ""),
        Some(id) => {
            let found = session.query(CREATED, &[&id.as_str(), &owner]).await?;
            (value(found.first().ok_or(LedgerError::NotFound)?, 0)?, id.as_str())
        }
    };
    let found = match query.active_at {
        None => session.query(LIST, &[&owner, &environment, &time, &id, &limit]).await?,
        Some(now) => {
            let now = now.as_micros();
            session.query(LIST_ACTIVE, &[&owner, &environment, &time, &id, &limit, &now]).await?
        }
    };
    let mut keys = Vec::with_capacity(found.len());
    for row in &found {
        let key = row.key()?;
        // SQL has only left out what has ended: one rule for every store says what is active.
        if query.selects(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

pub(super) async fn insert(
    session: &Session,
    key: &KeyRecord,
    policy: KeyPolicy,
    by: &Actor,
) -> Result<(), Failure> {
    alone(session, key.owner.as_str()).await?;
    insert_alone(session, key, policy, by, KeyEvent::of_new(key)).await
}

/// In one transaction, in which those that are refused have changed nothing.
pub(super) async fn insert_all(
    session: &Session,
    keys: &[KeyRecord],
    policy: KeyPolicy,
    by: &Actor,
) -> Result<Vec<Result<(), LedgerError>>, Failure> {
    // In an order that is everybody's: two who wait for each other would wait without end.
    for owner in keys.iter().map(|key| key.owner.as_str()).collect::<BTreeSet<_>>() {
        alone(session, owner).await?;
    }
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        session.batch(ONE_OF_MANY).await?;
        let inserted = insert_alone(session, key, policy, by, KeyEvent::Imported).await;
        answers.push(match inserted.map_err(Failure::into_ledger_error) {
            Err(LedgerError::Store(error)) => return Err(error.into()),
            Err(refused) => {
                session.batch(WITHOUT_ONE).await?;
                Err(refused)
            }
            Ok(()) => Ok(()),
        });
        session.batch(NEXT_OF_MANY).await?;
    }
    Ok(answers)
}

async fn insert_alone(
    session: &Session,
    key: &KeyRecord,
    policy: KeyPolicy,
    by: &Actor,
    event: KeyEvent,
) -> Result<(), Failure> {
    check_new(session, key).await?;
    let at = key.created_at;
    if key.is_active(at) {
        let (owner, environment, now) = (key.owner.as_str(), key.environment.as_str(), at.as_micros());
        match policy {
            KeyPolicy::Single => {
                // Expired ones too: a clock that jumps back must not bring a second key to life.
                trail::superseded(session, &key.owner, key.environment, at, by).await?;
                session.execute(REVOKE_ALIKE, &[&owner, &environment, &now]).await?;
            }
            KeyPolicy::Multiple { max } => {
                let row = session.one(COUNT_ACTIVE, &[&owner, &environment, &now]).await?;
                if value::<i64>(&row, 0)? >= i64::from(max) {
                    return Err(LedgerError::TooManyKeys.into());
                }
            }
        }
    }
    add(session, key).await?;
    trail::write(session, at, key, by, event).await
}

pub(super) async fn replace(
    session: &Session,
    old: &KeyId,
    fresh: &FreshKey,
    old_ends: Timestamp,
    by: &Actor,
) -> Result<KeyRecord, Failure> {
    let now = fresh.created_at;
    let found = session.query(OWNER, &[&old.as_str()]).await?;
    let owner: &str = value(found.first().ok_or(LedgerError::NotFound)?, 0)?;
    alone(session, owner).await?;
    // Read again, now that nobody else changes it.
    let mut before = locked(session, old).await?;
    if !before.is_active(now) || before.replaced_by.is_some() {
        return Err(LedgerError::Ended.into());
    }
    let successor = before.successor(fresh);
    check_new(session, &successor).await?;
    before.replace(&successor.id, now, old_ends);
    session
        .execute(
            REPLACE,
            &[
                &before.id.as_str(),
                &before.expires_at.map(Timestamp::as_micros),
                &before.revoked_at.map(Timestamp::as_micros),
                &before.replaced_by.as_ref().map(KeyId::as_str),
                &before.replaced_at.map(Timestamp::as_micros),
            ],
        )
        .await?;
    add(session, &successor).await?;
    for event in KeyEvent::of_replaced(&before) {
        trail::write(session, now, &before, by, event).await?;
    }
    trail::write(session, now, &successor, by, KeyEvent::Replaces(before.id)).await?;
    Ok(successor)
}

/// Reads nothing of the key but whose it is: one whose row makes no sense can be revoked.
pub(super) async fn revoke(
    session: &Session,
    id: &KeyId,
    why: Revocation,
    now: Timestamp,
    by: &Actor,
) -> Result<(), Failure> {
    if session.execute(REVOKE, &[&id.as_str(), &now.as_micros()]).await? > 0 {
        return trail::revoked(session, id, why, now, by).await;
    }
    if session.ask(EXISTS, &[&id.as_str()]).await? { Ok(()) } else { Err(LedgerError::NotFound.into()) }
}

pub(super) async fn amend(
    session: &Session,
    id: &KeyId,
    amendment: &Amendment,
    now: Timestamp,
    by: &Actor,
) -> Result<(), Failure> {
    let mut key = unrevoked(session, id).await?;
    amendment.apply(&mut key);
    let (name, restrictions) = (json(&key.name)?, key.restrictions.to_string());
    let limits = limits_text(key.limits.as_ref());
    session.execute(AMEND, &[&id.as_str(), &name, &restrictions, &limits]).await?;
    trail::write(session, now, &key, by, KeyEvent::Amended(amendment.parts())).await
}

pub(super) async fn rehash(
    session: &Session,
    id: &KeyId,
    from: &KeyDigest,
    to: &KeyDigest,
    method: &DigestMethod,
    now: Timestamp,
) -> Result<(), Failure> {
    let key = unrevoked(session, id).await?;
    let (from, to) = (from.as_bytes().as_slice(), to.as_bytes().as_slice());
    // That the new digest is free, the index says: of two that race, one waits for the other there.
    if session.ask(TAKEN, &[&"", &to]).await?
        || session.execute(REHASH, &[&id.as_str(), &from, &to, &method.to_string()]).await? == 0
    {
        return Err(LedgerError::Conflict.into());
    }
    trail::write(session, now, &key, &Actor::System, KeyEvent::Rehashed(method.kind().to_owned())).await
}

pub(super) async fn count_by_digest_method(session: &Session) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for row in &session.query(COUNT_BY_DIGEST_METHOD, &[]).await? {
        counts.insert(value(row, 0)?, value::<i64>(row, 1)?.unsigned_abs());
    }
    Ok(counts)
}

pub(super) async fn revoke_all_of(session: &Session, owner: &UserId, now: Timestamp) -> Result<(), Failure> {
    alone(session, owner.as_str()).await?;
    trail::member_removed(session, owner, now).await?;
    session.execute(REVOKE_ALL_OF, &[&owner.as_str(), &now.as_micros()]).await?;
    Ok(())
}

async fn alone(session: &Session, owner: &str) -> Result<(), Failure> {
    session.query(ALONE, &[&owner]).await?;
    Ok(())
}

/// The record of a key that nobody else changes until the transaction ends.
async fn locked(session: &Session, id: &KeyId) -> Result<KeyRecord, Failure> {
    let found = session.query(LOCK, &[&id.as_str()]).await?;
    Ok(found.first().ok_or(LedgerError::NotFound)?.key()?)
}

async fn unrevoked(session: &Session, id: &KeyId) -> Result<KeyRecord, Failure> {
    let key = locked(session, id).await?;
    if key.revoked_at.is_some() { Err(LedgerError::Ended.into()) } else { Ok(key) }
}

async fn check_new(session: &Session, key: &KeyRecord) -> Result<(), Failure> {
    key.check().map_err(LedgerError::Invalid)?;
    let taken = session.ask(TAKEN, &[&key.id.as_str(), &key.digest.as_bytes().as_slice()]).await?;
    if taken { Err(LedgerError::Conflict.into()) } else { Ok(()) }
}

async fn add(session: &Session, key: &KeyRecord) -> Result<(), Failure> {
    let (scopes, metadata) = (json(&key.scopes)?, json(&key.metadata)?);
    session
        .execute(
            INSERT,
            &[
                &key.digest.as_bytes().as_slice(),
                &key.id.as_str(),
                &key.owner.as_str(),
                &key.level.as_str(),
                &key.level.project().map(AsRef::<str>::as_ref),
                &key.environment.as_str(),
                &json(&key.name)?,
                &key.prefix,
                &key.last4,
                &scopes,
                &metadata,
                &key.created_at.as_micros(),
                &key.expires_at.map(Timestamp::as_micros),
                &key.revoked_at.map(Timestamp::as_micros),
                &key.replaced_by.as_ref().map(KeyId::as_str),
                &key.restrictions.to_string(),
                &limits_text(key.limits.as_ref()),
                &key.family.as_str(),
                &key.digested_by.to_string(),
                &key.replaced_at.map(Timestamp::as_micros),
            ],
        )
        .await?;
    Ok(())
}
