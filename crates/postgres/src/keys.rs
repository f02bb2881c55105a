//! SQL of keys.

use std::collections::BTreeMap;

use crate::audit_log;
use crate::directory;
use crate::failure::Failure;
use crate::row::{Row, of_primary, optional, value};
use crate::session::{Param, Session};
use tower_api_key::store::codec::{
    KeyRow as _, PageBounds, PageReader, PageStep, SearchedKey, json, limits_text, row_limit as page, user_id,
};
use tower_api_key::store::{Ended, MakeRoom, RegistryError, StoreError, Terms, Updated, an_hour_before};
use tower_api_key::{
    Authority, DigestMethod, Environment, FreshKey, KeyCount, KeyDigest, KeyEvent, KeyId, KeyLevel, KeyPage,
    KeyQuery, KeyRecord, KeyUpdate, Revocation, Timestamp, UserId,
};

/// Always one row: NULLs for an unknown key. The last column says whether the server is a standby.
const FIND: &str = concat!(
    "SELECT ",
    tower_api_key::key_columns!(),
    ", pg_is_in_recovery() FROM (SELECT) AS always LEFT JOIN tower_api_key.keys ON digest = $1"
);

/// The same for a request at $2. For a key that has ended, only the columns that a refusal needs are sent.
const FIND_AT: &str = "
    SELECT digest, id, owner, level, project, environment,
        CASE WHEN works THEN name END, CASE WHEN works THEN prefix END, CASE WHEN works THEN last4 END,
        CASE WHEN works THEN scopes END, CASE WHEN works THEN metadata END,
        created_at, expires_at, revoked_at,
        replaced_by, CASE WHEN works THEN restrictions END, CASE WHEN works THEN limits END, family,
        digested_by, replaced_at,
        pg_is_in_recovery()
    FROM (SELECT) AS always LEFT JOIN (
        SELECT *, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2::bigint) AS works
        FROM tower_api_key.keys
    ) AS keys ON digest = $1";

const GET: &str = concat!("SELECT ", tower_api_key::key_columns!(), " FROM tower_api_key.keys WHERE id = $1");

macro_rules! found {
    () => {
        concat!(
            "SELECT ",
            tower_api_key::key_columns!(),
            " FROM tower_api_key.keys WHERE id = ANY ($1::text[])"
        )
    };
}

const GET_ALL: &str = found!();

/// Locks a key and the key that changes it, one or two rows, always in the same order.
const LOCK: &str = concat!(
    "SELECT ",
    tower_api_key::key_columns!(),
    " FROM tower_api_key.keys WHERE id IN ($1, $2) ORDER BY id FOR NO KEY UPDATE"
);

/// Rows in order until a number of bytes of text is reached, with the number of bytes before each. Lengths are
/// known without reading the values.
macro_rules! page {
    ($rows:expr, $order:literal, $bytes:literal) => {
        concat!(
            "SELECT ",
            tower_api_key::key_columns!(),
            ", found FROM (SELECT *, count(*) OVER () AS found,
                sum(octet_length(restrictions) + octet_length(metadata) + octet_length(scopes) + octet_length(name) + 256)
                    OVER (ORDER BY created_at ", $order, ", id ", $order, "
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM (",
            $rows,
            ") AS selected) AS measured WHERE coalesce(before, 0) < ",
            $bytes,
            "::bigint ORDER BY created_at ", $order, ", id ", $order
        )
    };
}

/// Up to $5 keys of owner $1 in environment $2, or in both, after the time $3 and the id $4. The owner is part of the range,
/// and the condition on the environment is one that the planner has no statistics for. So the planner reads the index in order
/// and stops at the limit, even if it underestimates how many keys an owner has, and never sorts all of them.
macro_rules! listed {
    ($columns:expr, $after:literal, $order:literal, $within:literal) => {
        concat!(
            listed!(all $columns, $after, $order, $within, "AND coalesce(environment = $2::text, true)"),
            " LIMIT $5"
        )
    };
    (all $columns:expr, $after:literal, $order:literal, $within:literal, $filter:literal) => {
        concat!(
            "SELECT ", $columns, " FROM tower_api_key.keys
              WHERE (owner, created_at, id) ", $after, " ($1, $3, $4) AND owner ", $within, " $1 ", $filter,
            " ORDER BY owner ", $order, ", created_at ", $order, ", id ", $order
        )
    };
}

/// The same for keys that are active at $6. Usually most keys are active, and reading some in order finds enough. Otherwise
/// only the active keys are read, and sorted.
macro_rules! listed_active {
    ($columns:expr, $after:literal, $order:literal, $within:literal) => {
        concat!(
            "WITH near AS MATERIALIZED (",
            listed!(all tower_api_key::key_columns!(), $after, $order, $within, ""), " LIMIT 4 * least($5::bigint, 1000)
              ), near_active AS MATERIALIZED (
                SELECT * FROM near WHERE coalesce(environment = $2::text, true)
                    AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $6) LIMIT $5
              ), enough AS MATERIALIZED (
                SELECT (SELECT count(*) FROM near_active) = $5 OR (SELECT count(*) FROM near) < 4 * least($5::bigint, 1000) AS so
              ), active AS (
                SELECT * FROM near_active WHERE (SELECT so FROM enough)
                UNION ALL ", listed_active!(of "expires_at IS NULL", $after),
              " UNION ALL ", listed_active!(of "expires_at > $6", $after),
              ") SELECT ", $columns, " FROM active ORDER BY created_at ", $order, ", id ", $order, " LIMIT $5"
        )
    };
    (of $ends:literal, $after:literal) => {
        concat!(
            "SELECT ", tower_api_key::key_columns!(), " FROM tower_api_key.keys
              WHERE NOT (SELECT so FROM enough) AND owner = $1 AND environment IN ('live', 'test')
                AND revoked_at IS NULL AND ", $ends,
            " AND ($2::text IS NULL OR environment = $2) AND (created_at, id) ", $after, " ($3, $4)"
        )
    };
}

const LIST: &str = page!(listed!(tower_api_key::key_columns!(), ">", "ASC", "<="), "ASC", "$6");
const LIST_BACK: &str = page!(listed!(tower_api_key::key_columns!(), "<", "DESC", ">="), "DESC", "$6");
const LIST_ACTIVE: &str = page!(listed_active!(tower_api_key::key_columns!(), ">", "ASC", "<="), "ASC", "$7");
const LIST_ACTIVE_BACK: &str =
    page!(listed_active!(tower_api_key::key_columns!(), "<", "DESC", ">="), "DESC", "$7");

/// The columns that a search compares, which are short even for very many keys.
macro_rules! sought {
    () => {
        "id, name, last4, project, expires_at, revoked_at"
    };
}

const SEARCH: &str = listed!(sought!(), ">", "ASC", "<=");
const SEARCH_BACK: &str = listed!(sought!(), "<", "DESC", ">=");
const SEARCH_ACTIVE: &str = listed_active!(sought!(), ">", "ASC", "<=");
const SEARCH_ACTIVE_BACK: &str = listed_active!(sought!(), "<", "DESC", ">=");

const FOUND: &str = page!(found!(), "ASC", "$2");
const FOUND_BACK: &str = page!(found!(), "DESC", "$2");

/// The number of keys, up to $3.
const COUNT: &str = "
    SELECT count(*) FROM (
        SELECT FROM tower_api_key.keys WHERE owner = $1 AND ($2::text IS NULL OR environment = $2) LIMIT $3
    ) AS counted";

/// The same for keys that are active at $4.
const COUNT_LISTED_ACTIVE: &str = "
    SELECT count(*) FROM (
        SELECT FROM tower_api_key.keys
        WHERE owner = $1 AND environment IN ('live', 'test') AND ($2::text IS NULL OR environment = $2)
            AND revoked_at IS NULL AND expires_at IS NULL
        UNION ALL SELECT FROM tower_api_key.keys
        WHERE owner = $1 AND environment IN ('live', 'test') AND ($2::text IS NULL OR environment = $2)
            AND revoked_at IS NULL AND expires_at > $4
        LIMIT $3
    ) AS counted";

/// Skips from one owner to the next without reading all keys of each.
const OWNERS: &str = "
    WITH RECURSIVE owners (owner) AS (
        (SELECT owner::text FROM tower_api_key.keys WHERE owner > $1::text ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT keys.owner::text FROM tower_api_key.keys AS keys
                WHERE keys.owner > owners.owner ORDER BY keys.owner LIMIT 1)
        FROM owners WHERE owners.owner IS NOT NULL
    )
    SELECT owner FROM owners WHERE owner IS NOT NULL LIMIT $2";

const CREATED: &str = "SELECT created_at FROM tower_api_key.keys WHERE id = $1 AND owner = $2";

const OWNER: &str = "SELECT owner FROM tower_api_key.keys WHERE id = $1";

/// Serializes counting, adding and replacing keys of one owner. Two owners with the same hash also wait for each
/// other, which is harmless.
const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('tower_api_key owner ' || $1::text, 0))";

/// Not one search with an OR, which scans a table that was never analysed.
const TAKEN: &str = "
    SELECT EXISTS (SELECT 1 FROM tower_api_key.keys WHERE id = $1)
        OR EXISTS (SELECT 1 FROM tower_api_key.keys WHERE digest = $2)";

const INSERT: &str = concat!(
    "INSERT INTO tower_api_key.keys (",
    tower_api_key::key_columns!(),
    ") VALUES ($1::bytea, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text, $10::text,
         $11::text, $12, $13, $14, $15::text, $16::text, $17::text, $18::text, $19::text, $20)"
);

/// The number of active keys, up to $4.
const COUNT_ACTIVE: &str = "
    SELECT count(*) FROM (
        SELECT FROM tower_api_key.keys
        WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL AND expires_at IS NULL
        UNION ALL SELECT FROM tower_api_key.keys
        WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL AND expires_at > $3
        LIMIT $4
    ) AS active";

/// Also returns the family that ended with a revoked key. The other keys of the owner must be searched only if a
/// rotated key has limits.
const REVOKE: &str = "
    UPDATE tower_api_key.keys AS ended SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL
    RETURNING CASE WHEN limits <> 'none' AND replaced_by IS NULL AND (family = id OR NOT EXISTS (
        SELECT 1 FROM tower_api_key.keys AS other
        WHERE other.owner = ended.owner AND other.environment = ended.environment
            AND other.revoked_at IS NULL AND (other.expires_at IS NULL OR other.expires_at > $2)
            AND other.family = ended.family AND other.id <> ended.id
    )) THEN family::text END";

const REVOKE_ALIKE: &str = "
    UPDATE tower_api_key.keys SET revoked_at = $3
    WHERE owner = $1 AND environment = $2 AND revoked_at IS NULL AND id <> $4";

/// Revokes up to $3 keys of an owner, with an entry in the audit log for each. They are locked first, so that a key that
/// another transaction is revoking is not among them.
const REVOKE_SOME_OF: &str = "
    WITH ended AS (
        UPDATE tower_api_key.keys SET revoked_at = $2 WHERE digest = ANY (ARRAY(
            SELECT digest FROM tower_api_key.keys WHERE owner = $1 AND revoked_at IS NULL LIMIT $3 FOR NO KEY UPDATE
        )) RETURNING id, owner
    )
    INSERT INTO tower_api_key.history (key, owner, at, by, event)
    SELECT id, owner, $2, $4::text, $5::text FROM ended";

/// How many keys one transaction revokes when their owner is removed. This takes some tens of milliseconds.
const ENDED_AT_ONCE: u32 = 200;

const AMEND: &str = "
    UPDATE tower_api_key.keys SET name = $2::text, restrictions = $3::text, limits = $4::text WHERE id = $1";

const REHASH: &str = "
    UPDATE tower_api_key.keys SET digest = $3::bytea, digested_by = $4::text WHERE id = $1 AND digest = $2";

/// The part that is specific to one key follows a `$`.
const COUNT_BY_DIGEST_METHOD: &str = "
    SELECT split_part(digested_by, '$', 1), count(*) FROM tower_api_key.keys WHERE revoked_at IS NULL GROUP BY 1";

const BELONGS: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.keys WHERE id = $1 AND owner = $2)";

const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.keys WHERE id = $1)";

const REPLACE: &str = "
    UPDATE tower_api_key.keys SET expires_at = $2, revoked_at = $3, replaced_by = $4::text, replaced_at = $5
    WHERE id = $1";

const ONE_OF_MANY: &str = "SAVEPOINT one";
const WITHOUT_ONE: &str = "ROLLBACK TO SAVEPOINT one";
const NEXT_OF_MANY: &str = "RELEASE SAVEPOINT one";

pub(crate) async fn find(session: &Session, digest: &KeyDigest) -> Result<Option<KeyRecord>, Failure> {
    let row = session.one(FIND, &[&digest.as_bytes().as_slice()]).await?;
    of_primary(&row, 20)?;
    let found = optional::<&[u8]>(&row, 0)?.is_some();
    Ok(if found { Some(row.key()?) } else { None })
}

pub(crate) async fn find_at(
    session: &Session,
    digest: &KeyDigest,
    now: Timestamp,
) -> Result<Option<KeyRecord>, Failure> {
    let row = session.one(FIND_AT, &[&digest.as_bytes().as_slice(), &now.as_micros()]).await?;
    of_primary(&row, 20)?;
    let found = optional::<&[u8]>(&row, 0)?.is_some();
    Ok(if found { Some(row.key_at(now)?) } else { None })
}

pub(crate) async fn get(session: &Session, id: &KeyId) -> Result<Option<KeyRecord>, Failure> {
    let found = session.query(GET, &[&id.as_str()]).await?;
    Ok(found.first().map(|row| row.key()).transpose()?)
}

pub(crate) async fn get_all(session: &Session, ids: &[KeyId]) -> Result<Vec<KeyRecord>, Failure> {
    let ids: Vec<_> = ids.iter().map(KeyId::as_str).collect();
    let found = session.query(GET_ALL, &[&ids]).await?;
    Ok(found.iter().map(|row| row.key()).collect::<Result<_, _>>()?)
}

pub(crate) async fn list(
    session: &Session,
    owner: &UserId,
    query: &KeyQuery,
    bounds: PageBounds,
) -> Result<KeyPage, Failure> {
    let bytes = i64::try_from(bounds.max_bytes()).unwrap_or(i64::MAX);
    let back = query.is_read_descending();
    let place = place(session, owner, query).await?;
    if query.is_search() {
        let searched = search(session, owner, query, &place, bounds).await?;
        let found = session.query(if back { FOUND_BACK } else { FOUND }, &[&searched.found, &bytes]).await?;
        let mut page =
            KeyPage::new(records(&found, query)?, searched.more || found.len() < searched.found.len());
        // If the page is cut short, the next one begins after its last key.
        if found.len() == searched.found.len() {
            page.last = searched.last;
        }
        page.first = searched.first;
        return Ok(page.turned(query));
    }
    // One more row shows whether there is a next page.
    let limit = i64::from(query.limit).saturating_add(1);
    let (owner, environment) = (owner.as_str(), query.environment.map(Environment::as_str));
    let (time, id) = (place.0, &*place.1);
    let found = match query.active_at {
        None => {
            let params: [Param<'_>; 6] = [&owner, &environment, &time, &id, &limit, &bytes];
            session.query(if back { LIST_BACK } else { LIST }, &params).await?
        }
        Some(now) => {
            let now = now.as_micros();
            let params: [Param<'_>; 7] = [&owner, &environment, &time, &id, &limit, &now, &bytes];
            session.query(if back { LIST_ACTIVE_BACK } else { LIST_ACTIVE }, &params).await?
        }
    };
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let selected: i64 = found.first().map_or(Ok(0), |row| value(row, 20))?;
    let shown = found.get(..limit).unwrap_or(&found);
    let more = usize::try_from(selected).is_ok_and(|selected| selected > shown.len());
    Ok(KeyPage::new(records(shown, query)?, more).turned(query))
}

/// The SQL is only a filter: the rule for "active" is the same for every store.
fn records(rows: &[Row], query: &KeyQuery) -> Result<Vec<KeyRecord>, Failure> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let key = row.key()?;
        if query.selects(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The time and the id after which a list starts.
async fn place(session: &Session, owner: &UserId, query: &KeyQuery) -> Result<(i64, String), Failure> {
    Ok(match query.cursor() {
        // No id is greater than this.
        None if query.is_read_descending() => (i64::MAX, "~".to_owned()),
        None => (i64::MIN, String::new()),
        Some(id) => {
            let found = session.query(CREATED, &[&id.as_str(), &owner.as_str()]).await?;
            (value(found.first().ok_or(RegistryError::NotFound)?, 0)?, id.as_str().to_owned())
        }
    })
}

/// The ids that a search found.
struct Searched {
    found: Vec<String>,
    more: bool,
    first: Option<KeyId>,
    last: Option<KeyId>,
}

async fn search(
    session: &Session,
    owner: &UserId,
    query: &KeyQuery,
    (time, id): &(i64, String),
    bounds: PageBounds,
) -> Result<Searched, Failure> {
    let (owner, environment) = (owner.as_str(), query.environment.map(Environment::as_str));
    let (id, back) = (id.as_str(), query.is_read_descending());
    // One more row shows whether there are more.
    let limit = i64::try_from(bounds.max_searched()).unwrap_or(i64::MAX).saturating_add(1);
    let rows = match query.active_at {
        None => {
            let params: [Param<'_>; 5] = [&owner, &environment, time, &id, &limit];
            session.query(if back { SEARCH_BACK } else { SEARCH }, &params).await?
        }
        Some(now) => {
            let now = now.as_micros();
            let params: [Param<'_>; 6] = [&owner, &environment, time, &id, &limit, &now];
            session.query(if back { SEARCH_ACTIVE_BACK } else { SEARCH_ACTIVE }, &params).await?
        }
    };
    let mut reading = PageReader::new(query, bounds);
    let mut searched = Searched { found: Vec::new(), more: false, first: None, last: None };
    let mut last = None;
    for row in &rows {
        let id = row.text(0)?;
        match reading.next(is_found(query, row).map_err(|error| of_row(error, id))?) {
            PageStep::Stop => {
                searched.more = true;
                break;
            }
            PageStep::Skip => {}
            PageStep::Take => searched.found.push(id.to_owned()),
        }
        if searched.first.is_none() {
            searched.first = KeyId::new(id).ok();
        }
        last = Some(id);
    }
    searched.last = last.and_then(|id| KeyId::new(id).ok());
    Ok(searched)
}

/// Whether a search matches a row of `sought!()`.
fn is_found(query: &KeyQuery, row: &Row) -> Result<bool, StoreError> {
    let mut key = SearchedKey::new(row.text(0)?);
    let name = row.free_text(1)?;
    (key.name, key.last4, key.project) = (&name, row.text(2)?, row.optional_text(3)?);
    (key.expires_at, key.revoked) = (row.time(4)?, row.number(5)?.is_some());
    Ok(query.finds(&key))
}

fn of_row(error: StoreError, id: &str) -> StoreError {
    match KeyId::new(id) {
        Ok(id) => error.of_key(&id),
        Err(_) => error,
    }
}

pub(crate) async fn count(
    session: &Session,
    owner: &UserId,
    query: &KeyQuery,
    most: u32,
) -> Result<KeyCount, Failure> {
    if query.is_search() {
        let query = query.clone().from_start().limit(most);
        let place = place(session, owner, &query).await?;
        let searched = search(session, owner, &query, &place, PageBounds::PAGE).await?;
        return Ok(KeyCount::new(searched.found.len(), most, searched.more));
    }
    let (owner, environment) = (owner.as_str(), query.environment.map(Environment::as_str));
    let limit = i64::from(most).saturating_add(1);
    let row = match query.active_at {
        None => session.one(COUNT, &[&owner, &environment, &limit]).await?,
        Some(now) => {
            let now = now.as_micros();
            session.one(COUNT_LISTED_ACTIVE, &[&owner, &environment, &limit, &now]).await?
        }
    };
    let counted: i64 = value(&row, 0)?;
    Ok(KeyCount::new(usize::try_from(counted).unwrap_or(usize::MAX), most, false))
}

pub(crate) async fn owners(
    session: &Session,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<UserId>, Failure> {
    let (after, limit) = (after.map_or("", UserId::as_str), i64::from(page(limit)));
    let found = session.query(OWNERS, &[&after, &limit]).await?;
    found.iter().map(|row| Ok(user_id(row.text(0)?)?)).collect()
}

pub(crate) async fn insert(session: &Session, key: &KeyRecord, terms: &Terms) -> Result<(), Failure> {
    hold_owner(session, &key.owner, terms).await?;
    alone(session, key.owner.as_str()).await?;
    insert_alone(session, key, terms, KeyEvent::of_new(key)).await
}

/// Inserts keys one by one, in a transaction that has locked their owners. A refused key changes nothing.
pub(crate) async fn insert_each(
    session: &Session,
    keys: &[KeyRecord],
    terms: &Terms,
) -> Result<Vec<Result<(), RegistryError>>, Failure> {
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        session.batch(ONE_OF_MANY).await?;
        let inserted = insert_alone(session, key, terms, KeyEvent::Imported).await;
        answers.push(match inserted.map_err(Failure::into_registry_error) {
            Err(RegistryError::Store(error)) => return Err(error.into()),
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
    terms: &Terms,
    event: KeyEvent,
) -> Result<(), Failure> {
    let now = key.created_at;
    let maker = maker(session, terms).await?;
    terms.allow_new(maker.as_ref(), key, now)?;
    check_new(session, key).await?;
    if key.is_active(terms.present(key)) {
        ask_owner(session, &key.owner, &key.level, terms).await?;
        keep_policy(session, key, None, now, maker.as_ref(), terms).await?;
    }
    add(session, key).await?;
    audit_log::write(session, now, key, terms.authority(), event).await
}

/// The record of the key that makes a change, locked.
pub(crate) async fn maker(session: &Session, terms: &Terms) -> Result<Option<KeyRecord>, Failure> {
    match terms.maker() {
        Some(id) => Ok(locked(session, id, id).await?.pop()),
        None => Ok(None),
    }
}

pub(crate) async fn replace(
    session: &Session,
    old: &KeyId,
    fresh: &FreshKey,
    old_ends: Timestamp,
    terms: &Terms,
) -> Result<KeyRecord, Failure> {
    let (now, by) = (fresh.created_at, terms.authority());
    let owner = owner_of(session, old).await?;
    hold_owner(session, &owner, terms).await?;
    alone(session, owner.as_str()).await?;
    // Read again under the lock.
    let (mut before, maker) = with_maker(session, old, terms).await?;
    terms.allow_change(maker.as_ref(), &before, now)?;
    if !before.is_active(now) || before.replaced_by.is_some() {
        return Err(RegistryError::Ended.into());
    }
    let successor = before.successor(fresh);
    check_new(session, &successor).await?;
    ask_owner(session, &before.owner, &before.level, terms).await?;
    keep_policy(session, &successor, Some((old, old_ends)), now, maker.as_ref(), terms).await?;
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
        audit_log::write(session, now, &before, by, event).await?;
    }
    audit_log::write(session, now, &successor, by, KeyEvent::Replaces(before.id)).await?;
    Ok(successor)
}

/// Reads only the columns of the key that the authority needs: the application, an operator and the owner can
/// revoke a key whose row is corrupt.
pub(crate) async fn end(
    session: &Session,
    id: &KeyId,
    why: Revocation,
    now: Timestamp,
    terms: &Terms,
) -> Result<Ended, Failure> {
    match terms.authority() {
        Authority::User(user) if !session.ask(BELONGS, &[&id.as_str(), &user.as_str()]).await? => {
            return Err(RegistryError::NotFound.into());
        }
        Authority::Key(maker) if maker != id => {
            let (key, maker) = with_maker(session, id, terms).await?;
            terms.allow_change(maker.as_ref(), &key, now)?;
        }
        _ => {}
    }
    if let Some(row) = session.query(REVOKE, &[&id.as_str(), &now.as_micros()]).await?.first() {
        audit_log::revoked(session, id, why, now, terms.authority()).await?;
        // A corrupt row is revoked nevertheless.
        let family = optional::<&str>(row, 0).ok().flatten();
        return Ok(Ended::now(family.and_then(|family| KeyId::new(family).ok())));
    }
    if session.ask(EXISTS, &[&id.as_str()]).await? {
        Ok(Ended::before())
    } else {
        Err(RegistryError::NotFound.into())
    }
}

pub(crate) async fn update(
    session: &Session,
    id: &KeyId,
    update: &KeyUpdate,
    now: Timestamp,
    terms: &Terms,
) -> Result<Updated, Failure> {
    if terms.asks_owner_to_amend() {
        hold_owner(session, &owner_of(session, id).await?, terms).await?;
    }
    let (before, maker) = with_maker(session, id, terms).await?;
    terms.allow_change(maker.as_ref(), &before, now)?;
    if terms.asks_owner_to_amend() {
        ask_owner(session, &before.owner, &KeyLevel::User, terms).await?;
    }
    let changes = audit_log::changes_since(session, id, an_hour_before(now)).await?;
    let updated = terms.updated(maker.as_ref(), &before, update, now, || Ok(changes))?;
    let Some(key) = updated else { return Ok(Updated::as_before(before)) };
    let (name, restrictions) = (json(&key.name)?, key.restrictions.to_string());
    let limits = limits_text(key.limits.as_ref());
    session.execute(AMEND, &[&id.as_str(), &name, &restrictions, &limits]).await?;
    audit_log::write(session, now, &key, terms.authority(), KeyEvent::Updated(update.parts())).await?;
    Ok(Updated::now(key))
}

/// If the terms require it, locks the owner's rights until the transaction ends. A concurrent removal of access
/// either waits until the key exists and then revokes it, or comes first and is seen here.
///
/// This lock precedes all others, because changes of an account lock it first too.
async fn hold_owner(session: &Session, owner: &UserId, terms: &Terms) -> Result<(), Failure> {
    if terms.asks_owner() { directory::hold(session, owner).await } else { Ok(()) }
}

async fn owner_of(session: &Session, id: &KeyId) -> Result<UserId, Failure> {
    let found = session.query(OWNER, &[&id.as_str()]).await?;
    let owner: &str = value(found.first().ok_or(RegistryError::NotFound)?, 0)?;
    Ok(UserId::new(owner)
        .map_err(|_| StoreError::corrupt("the id of its owner does not parse").of_key(id))?)
}

/// If the terms require it, checks whether the owner of a key of this level may have it made or changed.
async fn ask_owner(
    session: &Session,
    owner: &UserId,
    level: &KeyLevel,
    terms: &Terms,
) -> Result<(), Failure> {
    if !terms.asks_owner() {
        return Ok(());
    }
    let on_project = match level.project() {
        Some(project) => Some(directory::account_status(session, owner, Some(project)).await?),
        None => None,
    };
    Ok(terms.allow_owner(directory::account_status(session, owner, None).await?, on_project)?)
}

/// Makes room for a new key as the policy requires, or fails if the limit is reached. `replaced` is the key that the new one
/// replaces, and when that one ends.
async fn keep_policy(
    session: &Session,
    new: &KeyRecord,
    replaced: Option<(&KeyId, Timestamp)>,
    now: Timestamp,
    maker: Option<&KeyRecord>,
    terms: &Terms,
) -> Result<(), Failure> {
    let (owner, environment, at) = (new.owner.as_str(), new.environment.as_str(), now.as_micros());
    let grace = replaced.is_some_and(|(_, ends)| ends > now);
    match terms.make_room(replaced.is_some(), grace)? {
        MakeRoom::EndOthers => {
            let spared = replaced.map_or("", |(old, _)| old.as_str());
            if maker.is_some() {
                let all = KeyQuery::new().active(now).environment(new.environment).limit(u32::MAX);
                for key in list(session, &new.owner, &all, PageBounds::LIST)
                    .await?
                    .keys
                    .iter()
                    .filter(|key| key.id.as_str() != spared)
                {
                    terms.allow_change(maker, key, now)?;
                }
            }
            // Revokes expired keys too, so that a clock that jumps back cannot revive a second key.
            audit_log::superseded(session, &new.owner, new.environment, spared, now, terms.authority())
                .await?;
            session.execute(REVOKE_ALIKE, &[&owner, &environment, &at, &spared]).await?;
            Ok(())
        }
        MakeRoom::Nothing => Ok(()),
        MakeRoom::Count { max } => {
            let max = i64::from(max);
            let row = session.one(COUNT_ACTIVE, &[&owner, &environment, &at, &max]).await?;
            if value::<i64>(&row, 0)? >= max {
                return Err(RegistryError::TooManyKeys.into());
            }
            Ok(())
        }
    }
}

pub(crate) async fn rehash(
    session: &Session,
    id: &KeyId,
    from: &KeyDigest,
    to: &KeyDigest,
    method: &DigestMethod,
    now: Timestamp,
) -> Result<(), Failure> {
    let key = unrevoked(session, id).await?;
    let (from, to) = (from.as_bytes().as_slice(), to.as_bytes().as_slice());
    // The unique index also checks that the new digest is free: of two concurrent rehashes, one waits there.
    if session.ask(TAKEN, &[&"", &to]).await?
        || session.execute(REHASH, &[&id.as_str(), &from, &to, &method.to_string()]).await? == 0
    {
        return Err(RegistryError::Conflict.into());
    }
    audit_log::write(session, now, &key, &Authority::System, KeyEvent::Rehashed(method.kind().to_owned()))
        .await
}

pub(crate) async fn count_by_digest_method(session: &Session) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for row in &session.query(COUNT_BY_DIGEST_METHOD, &[]).await? {
        counts.insert(value(row, 0)?, value::<i64>(row, 1)?.unsigned_abs());
    }
    Ok(counts)
}

/// Revokes some keys of an owner who was removed. Returns whether these were all.
pub(crate) async fn revoke_some_of(
    session: &Session,
    owner: &UserId,
    now: Timestamp,
) -> Result<bool, Failure> {
    alone(session, owner.as_str()).await?;
    let event = KeyEvent::Revoked(Revocation::MemberRemoved).to_string();
    let (at, most, by) = (now.as_micros(), i64::from(ENDED_AT_ONCE), Authority::System.to_string());
    let ended = session.execute(REVOKE_SOME_OF, &[&owner.as_str(), &at, &most, &by, &event]).await?;
    Ok(ended < u64::from(ENDED_AT_ONCE))
}

async fn alone(session: &Session, owner: &str) -> Result<(), Failure> {
    session.query(ALONE, &[&owner]).await?;
    Ok(())
}

/// Locks the records of one or two keys until the transaction ends.
async fn locked(session: &Session, one: &KeyId, other: &KeyId) -> Result<Vec<KeyRecord>, Failure> {
    let found = session.query(LOCK, &[&one.as_str(), &other.as_str()]).await?;
    Ok(found.iter().map(|row| row.key()).collect::<Result<_, _>>()?)
}

/// The records of a key and of the key that makes the change, which may be the same.
async fn with_maker(
    session: &Session,
    id: &KeyId,
    terms: &Terms,
) -> Result<(KeyRecord, Option<KeyRecord>), Failure> {
    let locked = locked(session, id, terms.maker().unwrap_or(id)).await?;
    let find = |id: &KeyId| locked.iter().find(|key| key.id == *id).cloned();
    Ok((find(id).ok_or(RegistryError::NotFound)?, terms.maker().and_then(find)))
}

async fn unrevoked(session: &Session, id: &KeyId) -> Result<KeyRecord, Failure> {
    let key = locked(session, id, id).await?.pop().ok_or(RegistryError::NotFound)?;
    if key.revoked_at.is_some() { Err(RegistryError::Ended.into()) } else { Ok(key) }
}

async fn check_new(session: &Session, key: &KeyRecord) -> Result<(), Failure> {
    key.check().map_err(RegistryError::Invalid)?;
    let taken = session.ask(TAKEN, &[&key.id.as_str(), &key.digest.as_bytes().as_slice()]).await?;
    if taken { Err(RegistryError::Conflict.into()) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use tokio_postgres::{Client, NoTls};

    use super::*;
    use crate::session::in_schema;

    async fn connect() -> Client {
        let server = std::env::var("TOWER_API_KEY_POSTGRES")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// The plan of a statement for whatever values it may be given.
    async fn plan(client: &Client, schema: &str, sql: &'static str, parameters: usize) -> String {
        let prepare = format!("DEALLOCATE ALL; PREPARE asked AS {}", in_schema(sql, schema));
        client.batch_execute(&prepare).await.unwrap();
        let nothing = vec!["NULL"; parameters].join(", ");
        let rows = client.query(&format!("EXPLAIN (COSTS OFF) EXECUTE asked({nothing})"), &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
    }

    /// Also in a table that was filled a moment ago and never analysed: that is what an import leaves.
    #[tokio::test]
    #[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
    async fn no_statement_reads_all_keys_of_the_table_or_of_an_owner() {
        let (client, schema) = (connect().await, format!("plans_{}", std::process::id()));
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
        for migration in crate::open::MIGRATIONS {
            client.batch_execute(&in_schema(migration, &schema)).await.unwrap();
        }
        let fill = format!(
            "SET plan_cache_mode = force_generic_plan;
            ALTER TABLE {schema}.keys SET (autovacuum_enabled = false);
            INSERT INTO {schema}.keys
            SELECT decode(md5(i::text) || md5(i::text), 'hex'), 'sha256', 'key' || i, 'busy', 'USER', NULL, 'live', '\"\"', '',
                '', '[]', '{{}}', '{{}}', 'none', 'key' || i, i, NULL, NULL, NULL, NULL FROM generate_series(1, 30000) AS i"
        );
        client.batch_execute(&fill).await.unwrap();
        let (by_id, by_digest) = (" keys_id_key", " keys_pkey");
        let (in_order, backward) = ("Scan using keys_of_owner", "Scan Backward using keys_of_owner");
        let mut wrong = Vec::new();
        for (sql, parameters, indices) in [
            (TAKEN, 2, &[by_id, by_digest][..]),
            (GET, 1, &[by_id]),
            (FIND, 1, &[by_digest]),
            (CREATED, 2, &[by_id]),
            (COUNT_ACTIVE, 4, &["using unrevoked_keys"]),
            (LIST, 6, &[in_order]),
            (LIST_BACK, 6, &[backward]),
            (LIST_ACTIVE, 7, &[in_order, "using unrevoked_keys"]),
            (LIST_ACTIVE_BACK, 7, &[backward, "using unrevoked_keys"]),
            (SEARCH, 5, &[in_order]),
            (SEARCH_ACTIVE_BACK, 6, &[backward, "using unrevoked_keys"]),
            (REVOKE_SOME_OF, 5, &[by_digest]),
        ] {
            let plan = plan(&client, &schema, sql, parameters).await;
            if plan.contains("Seq Scan on keys") || !indices.iter().all(|index| plan.contains(index)) {
                wrong.push(format!("{sql}\n{plan}"));
            }
        }
        client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
