//! SQL of keys.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, Transaction, params};

use crate::audit_log;
use crate::directory;
use crate::failure::Failure;
use crate::row::{BorrowedRow, OwnedRow};
use tower_api_key::store::codec::{
    KeyRow as _, PageBounds, PageReader, PageStep, SearchedKey, json, limits_text, row_limit as page_of,
    user_id,
};
use tower_api_key::store::{Ended, MakeRoom, RegistryError, Terms, Updated, an_hour_before};
use tower_api_key::{
    Authority, DigestMethod, Environment, FreshKey, KeyCount, KeyDigest, KeyEvent, KeyId, KeyLevel, KeyPage,
    KeyQuery, KeyRecord, KeyUpdate, Revocation, Timestamp, UserId,
};

const FIND: &str = concat!("SELECT ", tower_api_key::key_columns!(), " FROM keys WHERE digest = ?1");

/// The key with this digest, or the next one, so that nearly always one row is read and an unknown key takes as
/// long as a known one (C7-02).
const FIND_NEAR: &str = concat!(
    "SELECT ",
    tower_api_key::key_columns!(),
    " FROM keys WHERE digest >= ?1 ORDER BY digest LIMIT 1"
);

const GET: &str = concat!("SELECT ", tower_api_key::key_columns!(), " FROM keys WHERE id = ?1");

/// The keys of owner ?1 in environment ?2, or in both, that come $after the time ?3 and the id ?4. This reads only
/// as many rows as it returns, because SQLite merges two index ranges that are already in order.
macro_rules! listed {
    ($after:literal, $order:literal) => {
        concat!(
            listed!(of "'live'", "'test'", $after),
            " UNION ALL ",
            listed!(of "'test'", "'live'", $after),
            " ORDER BY created_at ", $order, ", id ", $order
        )
    };
    (of $environment:literal, $other:literal, $after:literal) => {
        concat!(
            "SELECT ", tower_api_key::key_columns!(), " FROM keys WHERE owner = ?1 AND environment = ", $environment,
            " AND ?2 IS NOT ", $other, " AND (created_at, id) ", $after, " (?3, ?4)"
        )
    };
}

/// The same for keys that are active at ?5. It reads no ended keys; without `INDEXED BY`, SQLite would scan all
/// keys in the requested order instead of sorting the few active ones.
macro_rules! listed_active {
    ($after:literal, $order:literal) => {
        concat!(
            listed_active!(of "'live'", "'test'", $after, "IS NULL"),
            " UNION ALL ",
            listed_active!(of "'live'", "'test'", $after, "> ?5"),
            " UNION ALL ",
            listed_active!(of "'test'", "'live'", $after, "IS NULL"),
            " UNION ALL ",
            listed_active!(of "'test'", "'live'", $after, "> ?5"),
            " ORDER BY created_at ", $order, ", id ", $order
        )
    };
    (of $environment:literal, $other:literal, $after:literal, $ends:literal) => {
        concat!(
            "SELECT ", tower_api_key::key_columns!(), " FROM keys INDEXED BY unrevoked_keys WHERE owner = ?1 AND environment = ",
            $environment, " AND ?2 IS NOT ", $other, " AND revoked_at IS NULL AND expires_at ", $ends,
            " AND (created_at, id) ", $after, " (?3, ?4)"
        )
    };
}

const LIST: &str = listed!(">", "ASC");
const LIST_BACK: &str = listed!("<", "DESC");
const LIST_ACTIVE: &str = listed_active!(">", "ASC");
const LIST_ACTIVE_BACK: &str = listed_active!("<", "DESC");

/// The number of keys, up to ?3.
const COUNT: &str = "
    SELECT count(*) FROM (SELECT 1 FROM keys WHERE owner = ?1 AND (?2 IS NULL OR environment = ?2) LIMIT ?3)";

/// The same for keys that are active at ?4.
const COUNT_LISTED_ACTIVE: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM keys INDEXED BY unrevoked_keys
        WHERE owner = ?1 AND environment IN ('live', 'test') AND (?2 IS NULL OR environment = ?2)
            AND revoked_at IS NULL AND expires_at IS NULL
        UNION ALL SELECT 1 FROM keys INDEXED BY unrevoked_keys
        WHERE owner = ?1 AND environment IN ('live', 'test') AND (?2 IS NULL OR environment = ?2)
            AND revoked_at IS NULL AND expires_at > ?4
        LIMIT ?3)";

/// Skips from one owner to the next without reading all keys of each.
const OWNERS: &str = "
    WITH RECURSIVE owners (owner) AS (
        SELECT min(owner) FROM keys WHERE owner > ?1
        UNION ALL
        SELECT (SELECT min(keys.owner) FROM keys WHERE keys.owner > owners.owner) FROM owners WHERE owners.owner IS NOT NULL
    )
    SELECT owner FROM owners WHERE owner IS NOT NULL LIMIT ?2";

const CREATED: &str = "SELECT created_at FROM keys WHERE id = ?1 AND owner = ?2";

/// Not one search with an OR, which would scan a table without row ids.
const TAKEN: &str = "
    SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1) OR EXISTS (SELECT 1 FROM keys WHERE digest = ?2)";

const INSERT: &str = concat!(
    "INSERT INTO keys (",
    tower_api_key::key_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
);

/// The number of active keys, up to ?4.
const COUNT_ACTIVE: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM keys INDEXED BY unrevoked_keys
        WHERE owner = ?1 AND environment = ?2 AND revoked_at IS NULL AND expires_at IS NULL
        UNION ALL SELECT 1 FROM keys INDEXED BY unrevoked_keys
        WHERE owner = ?1 AND environment = ?2 AND revoked_at IS NULL AND expires_at > ?3
        LIMIT ?4)";

const REVOKE: &str = "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";

const REVOKE_ALIKE: &str = "UPDATE keys SET revoked_at = ?3 WHERE owner = ?1 AND environment = ?2 AND revoked_at IS NULL AND id <> ?4";

const AMEND: &str = "UPDATE keys SET name = ?2, restrictions = ?3, limits = ?4 WHERE id = ?1";

const REHASH: &str = "UPDATE keys SET digest = ?3, digested_by = ?4 WHERE id = ?1 AND digest = ?2";

/// Triggers maintain these numbers.
const COUNT_BY_DIGEST_METHOD: &str = "SELECT kind, count FROM digest_counts WHERE count > 0";

/// The first ?3 keys of an owner, in the order of the index.
const REVOKE_SOME_OF: &str = "
    UPDATE keys SET revoked_at = ?2 WHERE digest IN (
        SELECT digest FROM keys INDEXED BY unrevoked_keys WHERE owner = ?1 AND revoked_at IS NULL
        ORDER BY environment, expires_at, created_at, id LIMIT ?3)";

/// How many keys one transaction revokes when their owner is removed. This takes some tens of milliseconds.
const ENDED_AT_ONCE: u32 = 250;

/// The family of a revoked key, if no other key of it works at ?2. The other keys of the owner must be searched
/// only if a rotated key has limits.
const FAMILY_ENDED_WITH: &str = "SELECT family FROM keys AS ended
    WHERE id = ?1 AND limits <> 'none' AND replaced_by IS NULL AND (family = id OR NOT EXISTS (
        SELECT 1 FROM keys AS other
        WHERE other.owner = ended.owner AND other.environment = ended.environment
            AND other.revoked_at IS NULL AND (other.expires_at IS NULL OR other.expires_at > ?2)
            AND other.family = ended.family
    ))";

const BELONGS: &str = "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1 AND owner = ?2)";

const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1)";

const REPLACE: &str = "UPDATE keys SET expires_at = ?2, revoked_at = ?3, replaced_by = ?4, replaced_at = ?5
    WHERE id = ?1";

pub(crate) fn find(connection: &Connection, digest: &KeyDigest) -> Result<Option<OwnedRow>, Failure> {
    let mut statement = connection.prepare_cached(FIND)?;
    let mut found = statement.query(params![digest.as_bytes()])?;
    found.next()?.map(OwnedRow::of).transpose()
}

/// What a look-up for a request found.
pub(crate) enum FoundRow {
    /// The row of a key that may be active.
    Whole(OwnedRow),
    /// A key that has ended.
    Ended(Box<KeyRecord>),
}

/// If the key is unknown, the neighbouring row is read as far as that of an ended key and dropped, to take the same
/// time.
pub(crate) fn find_at(
    connection: &Connection,
    digest: &KeyDigest,
    now: Timestamp,
) -> Result<Option<FoundRow>, Failure> {
    let mut statement = connection.prepare_cached(FIND_NEAR)?;
    let mut found = statement.query(params![digest.as_bytes()])?;
    let Some(row) = found.next()?.map(BorrowedRow) else { return Ok(None) };
    if row.bytes(0).is_none_or(|bytes| bytes != digest.as_bytes()) {
        // Errors in the neighbouring row do not matter.
        drop(row.ended_key());
        return Ok(None);
    }
    Ok(Some(if row.has_ended(now)? {
        FoundRow::Ended(Box::new(row.ended_key()?))
    } else {
        FoundRow::Whole(OwnedRow::of(row.0)?)
    }))
}

pub(crate) fn get(connection: &Connection, id: &KeyId) -> Result<Option<OwnedRow>, Failure> {
    let mut statement = connection.prepare_cached(GET)?;
    let mut found = statement.query(params![id.as_str()])?;
    found.next()?.map(OwnedRow::of).transpose()
}

/// The record of a key that a transaction needs.
fn known(transaction: &Transaction<'_>, id: &KeyId) -> Result<Option<KeyRecord>, Failure> {
    Ok(get(transaction, id)?.map(|row| row.key()).transpose()?)
}

/// The rows of a query up to the size limit, and how far it was read.
pub(crate) struct Rows {
    rows: Vec<OwnedRow>,
    more: bool,
    first: String,
    last: String,
}

impl Rows {
    pub(crate) fn parse(self, query: &KeyQuery) -> Result<KeyPage, Failure> {
        let mut page = KeyPage::new(Vec::with_capacity(self.rows.len()), self.more);
        for row in &self.rows {
            let key = row.key()?;
            // The SQL is only a filter: the rule for "active" is the same for every store.
            if query.selects(&key) {
                page.keys.push(key);
            }
        }
        (page.first, page.last) = (KeyId::new(self.first).ok(), KeyId::new(self.last).ok());
        Ok(page.turned(query))
    }
}

pub(crate) fn list(
    connection: &Connection,
    owner: &UserId,
    query: &KeyQuery,
    bounds: PageBounds,
) -> Result<Rows, Failure> {
    let mut read = Rows { rows: Vec::new(), more: false, first: String::new(), last: String::new() };
    let mut reading = PageReader::new(query, bounds);
    read.more = each(connection, owner, query, |row| {
        let verdict = reading.next(is_found(query, row)?);
        if verdict == PageStep::Stop {
            return Ok(false);
        }
        if verdict == PageStep::Take {
            let row = OwnedRow::of(row.0)?;
            reading.took(row.len());
            read.rows.push(row);
        }
        let id = row.text(ID)?;
        if read.first.is_empty() {
            id.clone_into(&mut read.first);
        }
        id.clone_into(&mut read.last);
        Ok(true)
    })?;
    Ok(read)
}

pub(crate) fn count(
    connection: &Connection,
    owner: &UserId,
    query: &KeyQuery,
    most: u32,
) -> Result<KeyCount, Failure> {
    if query.is_search() {
        let query = query.clone().from_start().limit(most);
        let mut reading = PageReader::new(&query, PageBounds::PAGE);
        let more =
            each(
                connection,
                owner,
                &query,
                |row| Ok(reading.next(is_found(&query, row)?) != PageStep::Stop),
            )?;
        return Ok(KeyCount::new(reading.taken(), most, more));
    }
    let (owner, environment) = (owner.as_str(), query.environment.map(Environment::as_str));
    let limit = u64::from(most).saturating_add(1).cast_signed();
    let counted: i64 = match query.active_at {
        None => {
            let of_all = params![owner, environment, limit];
            connection.prepare_cached(COUNT)?.query_row(of_all, |row| row.get(0))?
        }
        Some(now) => {
            let active = params![owner, environment, limit, now.as_micros()];
            connection.prepare_cached(COUNT_LISTED_ACTIVE)?.query_row(active, |row| row.get(0))?
        }
    };
    Ok(KeyCount::new(usize::try_from(counted).unwrap_or(usize::MAX), most, false))
}

/// Calls a function with each row of an owner after a cursor, until it stops. Returns whether a row was left.
fn each(
    connection: &Connection,
    owner: &UserId,
    query: &KeyQuery,
    mut wants: impl FnMut(&BorrowedRow<'_, '_>) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let back = query.is_read_descending();
    let (time, id) = match query.cursor() {
        // No id is greater than this.
        None if back => (i64::MAX, "~"),
        None => (i64::MIN, ""),
        Some(id) => {
            let mut statement = connection.prepare_cached(CREATED)?;
            let mut found = statement.query(params![id.as_str(), owner.as_str()])?;
            (found.next()?.ok_or(RegistryError::NotFound)?.get(0)?, id.as_str())
        }
    };
    let (owner, environment) = (owner.as_str(), query.environment.map(Environment::as_str));
    let mut statement = connection.prepare_cached(if back { LIST_BACK } else { LIST })?;
    let mut found = statement.query(params![owner, environment, time, id])?;
    let Some(now) = query.active_at else {
        while let Some(row) = found.next()?.map(BorrowedRow) {
            if !wants(&row)? {
                return Ok(true);
            }
        }
        return Ok(false);
    };
    // Usually most keys are active, and a page is found by reading in order.
    let mut ended = 0_u32;
    let place: (i64, String) = loop {
        let Some(row) = found.next()?.map(BorrowedRow) else { return Ok(false) };
        if row.has_ended(now)? {
            ended += 1;
            if ended == PASSED_OVER {
                break (row.0.get(CREATED_AT)?, row.0.get(ID)?);
            }
        } else if !wants(&row)? {
            return Ok(true);
        }
    };
    // If there are very many ended keys, only the active ones are read, and sorted.
    let mut statement = connection.prepare_cached(if back { LIST_ACTIVE_BACK } else { LIST_ACTIVE })?;
    let mut found = statement.query(params![owner, environment, place.0, place.1, now.as_micros()])?;
    while let Some(row) = found.next()?.map(BorrowedRow) {
        if !wants(&row)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many ended keys are read in order, before active keys are searched by their own index.
const PASSED_OVER: u32 = 500;

/// Whether a search matches a row, without copying it.
fn is_found(query: &KeyQuery, row: &BorrowedRow<'_, '_>) -> Result<bool, Failure> {
    if !query.is_search() {
        return Ok(true);
    }
    let found = || {
        let mut key = SearchedKey::new(row.text(ID)?);
        let name = row.free_text(6)?;
        (key.name, key.last4, key.project) = (&name, row.text(8)?, row.optional_text(4)?);
        (key.expires_at, key.revoked) = (row.time(12)?, row.number(13)?.is_some());
        Ok(query.finds(&key))
    };
    Ok(found().map_err(|error| row.locate(error))?)
}

/// The indices of columns in `tower_api_key::key_columns!()`.
const ID: usize = 1;
const CREATED_AT: usize = 11;

pub(crate) fn owners(
    connection: &Connection,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<UserId>, Failure> {
    let mut statement = connection.prepare_cached(OWNERS)?;
    let mut found = statement.query(params![after.map_or("", UserId::as_str), page_of(limit)])?;
    let mut owners = Vec::new();
    while let Some(row) = found.next()?.map(BorrowedRow) {
        owners.push(user_id(row.text(0)?)?);
    }
    Ok(owners)
}

pub(crate) fn insert(
    transaction: &Transaction<'_>,
    key: &KeyRecord,
    terms: &Terms,
    event: KeyEvent,
) -> Result<(), Failure> {
    insert_asking(transaction, key, terms, event, terms.asks_owner())
}

/// The same if the owner was already checked in this transaction.
pub(crate) fn insert_of_checked_owner(
    transaction: &Transaction<'_>,
    key: &KeyRecord,
    terms: &Terms,
    event: KeyEvent,
) -> Result<(), Failure> {
    insert_asking(transaction, key, terms, event, false)
}

fn insert_asking(
    transaction: &Transaction<'_>,
    key: &KeyRecord,
    terms: &Terms,
    event: KeyEvent,
    asks_owner: bool,
) -> Result<(), Failure> {
    let now = key.created_at;
    let maker = maker(transaction, terms)?;
    terms.allow_new(maker.as_ref(), key, now)?;
    check_new(transaction, key)?;
    if key.is_active(terms.present(key)) {
        if asks_owner {
            ask_owner(transaction, &key.owner, &key.level, terms)?;
        }
        keep_policy(transaction, key, None, now, maker.as_ref(), terms)?;
    }
    add(transaction, key)?;
    audit_log::write(transaction, now, key, terms.authority(), event)
}

pub(crate) fn replace(
    transaction: &Transaction<'_>,
    old: &KeyId,
    fresh: &FreshKey,
    old_ends: Timestamp,
    terms: &Terms,
) -> Result<KeyRecord, Failure> {
    let (now, by) = (fresh.created_at, terms.authority());
    let mut before = known(transaction, old)?.ok_or(RegistryError::NotFound)?;
    let maker = maker(transaction, terms)?;
    terms.allow_change(maker.as_ref(), &before, now)?;
    if !before.is_active(now) || before.replaced_by.is_some() {
        return Err(RegistryError::Ended.into());
    }
    let successor = before.successor(fresh);
    check_new(transaction, &successor)?;
    ask_owner(transaction, &before.owner, &before.level, terms)?;
    keep_policy(transaction, &successor, Some((old, old_ends)), now, maker.as_ref(), terms)?;
    before.replace(&successor.id, now, old_ends);
    transaction.prepare_cached(REPLACE)?.execute(params![
        before.id.as_str(),
        before.expires_at.map(Timestamp::as_micros),
        before.revoked_at.map(Timestamp::as_micros),
        before.replaced_by.as_ref().map(KeyId::as_str),
        before.replaced_at.map(Timestamp::as_micros),
    ])?;
    add(transaction, &successor)?;
    for event in KeyEvent::of_replaced(&before) {
        audit_log::write(transaction, now, &before, by, event)?;
    }
    audit_log::write(transaction, now, &successor, by, KeyEvent::Replaces(before.id))?;
    Ok(successor)
}

/// Reads only the columns of the key that the authority needs: the application, an operator and the owner can
/// revoke a key whose row is corrupt.
pub(crate) fn end(
    transaction: &Transaction<'_>,
    id: &KeyId,
    why: Revocation,
    now: Timestamp,
    terms: &Terms,
) -> Result<Ended, Failure> {
    match terms.authority() {
        Authority::User(user) if !ask(transaction, BELONGS, params![id.as_str(), user.as_str()])? => {
            return Err(RegistryError::NotFound.into());
        }
        Authority::Key(maker_id) if maker_id != id => {
            let key = known(transaction, id)?.ok_or(RegistryError::NotFound)?;
            terms.allow_change(maker(transaction, terms)?.as_ref(), &key, now)?;
        }
        _ => {}
    }
    let revoked = transaction.prepare_cached(REVOKE)?.execute(params![id.as_str(), now.as_micros()])?;
    if revoked > 0 {
        audit_log::revoked(transaction, id, why, now, terms.authority())?;
        return Ok(Ended::now(family_ended_with(transaction, id, now)?));
    }
    if ask(transaction, EXISTS, params![id.as_str()])? {
        Ok(Ended::before())
    } else {
        Err(RegistryError::NotFound.into())
    }
}

fn family_ended_with(
    transaction: &Transaction<'_>,
    id: &KeyId,
    now: Timestamp,
) -> Result<Option<KeyId>, Failure> {
    let mut statement = transaction.prepare_cached(FAMILY_ENDED_WITH)?;
    let mut found = statement.query(params![id.as_str(), now.as_micros()])?;
    // A corrupt row is revoked nevertheless.
    let text = |row: &Row<'_>| row.get_ref(0).ok()?.as_str().ok().and_then(|text| KeyId::new(text).ok());
    Ok(found.next()?.and_then(text))
}

pub(crate) fn update(
    transaction: &Transaction<'_>,
    id: &KeyId,
    update: &KeyUpdate,
    now: Timestamp,
    terms: &Terms,
) -> Result<Updated, Failure> {
    let before = known(transaction, id)?.ok_or(RegistryError::NotFound)?;
    let maker = maker(transaction, terms)?;
    terms.allow_change(maker.as_ref(), &before, now)?;
    if terms.asks_owner_to_amend() {
        ask_owner(transaction, &before.owner, &KeyLevel::User, terms)?;
    }
    let changes = || {
        audit_log::changes_since(transaction, id, an_hour_before(now)).map_err(Failure::into_registry_error)
    };
    let Some(key) = terms.updated(maker.as_ref(), &before, update, now, changes)? else {
        return Ok(Updated::as_before(before));
    };
    transaction.prepare_cached(AMEND)?.execute(params![
        id.as_str(),
        key.name,
        key.restrictions.to_string(),
        limits_text(key.limits.as_ref()),
    ])?;
    audit_log::write(transaction, now, &key, terms.authority(), KeyEvent::Updated(update.parts()))?;
    Ok(Updated::now(key))
}

/// The record of the key that makes a change.
fn maker(transaction: &Transaction<'_>, terms: &Terms) -> Result<Option<KeyRecord>, Failure> {
    terms.maker().map_or(Ok(None), |id| known(transaction, id))
}

/// If the terms require it, checks whether the owner of a key of this level may have it made or changed.
pub(crate) fn ask_owner(
    transaction: &Transaction<'_>,
    owner: &UserId,
    level: &KeyLevel,
    terms: &Terms,
) -> Result<(), Failure> {
    if !terms.asks_owner() {
        return Ok(());
    }
    let standing = |project| directory::account_status(transaction, owner, project);
    let on_project = level.project().map(|project| standing(Some(project))).transpose()?;
    Ok(terms.allow_owner(standing(None)?, on_project)?)
}

/// Makes room for a new key as the policy requires, or fails if the limit is reached. `replaced` is the key that the new one
/// replaces, and when that one ends.
fn keep_policy(
    transaction: &Transaction<'_>,
    new: &KeyRecord,
    replaced: Option<(&KeyId, Timestamp)>,
    now: Timestamp,
    maker: Option<&KeyRecord>,
    terms: &Terms,
) -> Result<(), Failure> {
    let grace = replaced.is_some_and(|(_, ends)| ends > now);
    match terms.make_room(replaced.is_some(), grace)? {
        MakeRoom::EndOthers => {
            let spared = replaced.map_or("", |(old, _)| old.as_str());
            if maker.is_some() {
                let all = KeyQuery::new().active(now).environment(new.environment).limit(u32::MAX);
                let active = list(transaction, &new.owner, &all, PageBounds::LIST)?;
                for key in active.parse(&all)?.keys.iter().filter(|key| key.id.as_str() != spared) {
                    terms.allow_change(maker, key, now)?;
                }
            }
            // Revokes expired keys too, so that a clock that jumps back cannot revive a second key.
            audit_log::superseded(transaction, &new.owner, new.environment, spared, now, terms.authority())?;
            let alike = params![new.owner.as_str(), new.environment.as_str(), now.as_micros(), spared];
            transaction.prepare_cached(REVOKE_ALIKE)?.execute(alike)?;
            Ok(())
        }
        MakeRoom::Nothing => Ok(()),
        MakeRoom::Count { max } => {
            if count_active(transaction, new, now, max)? >= max {
                return Err(RegistryError::TooManyKeys.into());
            }
            Ok(())
        }
    }
}

pub(crate) fn rehash(
    transaction: &Transaction<'_>,
    id: &KeyId,
    from: &KeyDigest,
    to: &KeyDigest,
    method: &DigestMethod,
    now: Timestamp,
) -> Result<(), Failure> {
    let key = unrevoked(transaction, id)?;
    if find(transaction, to)?.is_some() {
        return Err(RegistryError::Conflict.into());
    }
    let params = params![id.as_str(), from.as_bytes(), to.as_bytes(), method.to_string()];
    let changed = transaction.prepare_cached(REHASH)?.execute(params)?;
    if changed == 0 {
        return Err(RegistryError::Conflict.into());
    }
    audit_log::write(transaction, now, &key, &Authority::System, KeyEvent::Rehashed(method.kind().to_owned()))
}

fn unrevoked(transaction: &Transaction<'_>, id: &KeyId) -> Result<KeyRecord, Failure> {
    let key = known(transaction, id)?.ok_or(RegistryError::NotFound)?;
    if key.revoked_at.is_some() { Err(RegistryError::Ended.into()) } else { Ok(key) }
}

pub(crate) fn count_by_digest_method(connection: &Connection) -> Result<BTreeMap<String, u64>, Failure> {
    let mut statement = connection.prepare_cached(COUNT_BY_DIGEST_METHOD)?;
    let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

/// Revokes some keys of an owner who was removed. Returns whether these were all.
pub(crate) fn revoke_some_of(
    transaction: &Transaction<'_>,
    owner: &UserId,
    now: Timestamp,
) -> Result<bool, Failure> {
    audit_log::member_removed(transaction, owner, now, ENDED_AT_ONCE)?;
    let some = params![owner.as_str(), now.as_micros(), ENDED_AT_ONCE];
    Ok(transaction.prepare_cached(REVOKE_SOME_OF)?.execute(some)? < ENDED_AT_ONCE as usize)
}

fn check_new(transaction: &Transaction<'_>, key: &KeyRecord) -> Result<(), Failure> {
    key.check().map_err(RegistryError::Invalid)?;
    let taken = ask(transaction, TAKEN, params![key.id.as_str(), key.digest.as_bytes()])?;
    if taken { Err(RegistryError::Conflict.into()) } else { Ok(()) }
}

/// How many keys of the same owner and environment are active, up to `most`.
fn count_active(
    transaction: &Transaction<'_>,
    key: &KeyRecord,
    now: Timestamp,
    most: u32,
) -> Result<u32, Failure> {
    let alike = params![key.owner.as_str(), key.environment.as_str(), now.as_micros(), most];
    Ok(transaction.prepare_cached(COUNT_ACTIVE)?.query_row(alike, |row| row.get(0))?)
}

fn add(transaction: &Transaction<'_>, key: &KeyRecord) -> Result<(), Failure> {
    let scopes = json(&key.scopes)?;
    let metadata = json(&key.metadata)?;
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
        key.restrictions.to_string(),
        limits_text(key.limits.as_ref()),
        key.family.as_str(),
        key.digested_by.to_string(),
        key.replaced_at.map(Timestamp::as_micros),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLite's query plan for a statement, one step per line.
    fn plan(connection: &Connection, statement: &'static str) -> Vec<String> {
        let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let nothing = vec![rusqlite::types::Null; explained.parameter_count()];
        let steps = explained.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3));
        let steps: Vec<_> = steps.unwrap().map(Result::unwrap).collect();
        steps.into_iter().filter(|step| step.contains("keys") || step.contains("TEMP")).collect()
    }

    /// Finding 7: a query for active keys does not read ended ones, even if the owner has a million of them.
    #[test]
    fn what_asks_for_active_keys_does_not_meet_ended_ones() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../migrations/sqlite-1.sql")).unwrap();
        let active = "SEARCH keys USING INDEX unrevoked_keys (owner=? AND environment=?";
        let of_both = |plan: Vec<String>, of_one: &[String]| assert_eq!(plan, [of_one, of_one].concat());
        for (statement, after) in [(LIST_ACTIVE, ">"), (LIST_ACTIVE_BACK, "<")] {
            let of_one = [
                format!("{active} AND expires_at=? AND (created_at,id){after}(?,?))"),
                format!("{active} AND expires_at>?)"),
                "USE TEMP B-TREE FOR ORDER BY".to_owned(),
            ];
            of_both(plan(&connection, statement), &of_one);
        }
        let counted = [format!("{active} AND expires_at=?)"), format!("{active} AND expires_at>?)")];
        assert_eq!(plan(&connection, COUNT_ACTIVE), counted);
        assert_eq!(plan(&connection, REVOKE_ALIKE), [format!("{active})")]);
        let of_owner = "SEARCH keys USING INDEX unrevoked_keys (owner=?)";
        assert_eq!(plan(&connection, REVOKE_SOME_OF), ["SEARCH keys USING PRIMARY KEY (digest=?)", of_owner]);
        let counted = [format!("{active} AND expires_at=?)"), format!("{active} AND expires_at>?)")];
        assert_eq!(plan(&connection, COUNT_LISTED_ACTIVE), counted);
    }

    /// A page reads only what comes after the previous one, in either direction, without sorting.
    #[test]
    fn c17_e1_a_page_of_all_keys_is_read_in_its_order() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../migrations/sqlite-1.sql")).unwrap();
        let of_owner = "SEARCH keys USING INDEX keys_of_owner (owner=? AND environment=? AND (created_at,id)";
        for (statement, after) in [(LIST, ">"), (LIST_BACK, "<")] {
            let page = format!("{of_owner}{after}(?,?))");
            assert_eq!(plan(&connection, statement), [page.clone(), page]);
        }
        let counted = plan(&connection, COUNT);
        assert_eq!(counted, ["SEARCH keys USING COVERING INDEX keys_of_owner (owner=?)"]);
    }
}
