//! SQL that adds many keys with a fixed number of statements.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::directory;
use crate::failure::Failure;
use crate::keys;
use crate::row::value;
use crate::session::{Param, Session};
use tower_api_key::store::codec::{json, limits_text};
use tower_api_key::store::{MakeRoom, RegistryError, StoreError, Terms};
use tower_api_key::{AccountStatus, KeyEvent, KeyId, KeyRecord, ProjectId, Timestamp, UserId};

/// [Serializes](keys::alone) changes of several owners, always in the order of their ids, to avoid deadlocks.
const ALONE: &str = "
    SELECT pg_advisory_xact_lock(hashtextextended('tower_api_key owner ' || owner, 0))
    FROM unnest($1::text[]) AS owner";

/// Adds the keys whose id and digest are free, in order, with an entry in the audit log for each, and returns them.
const INSERT_ALL: &str = concat!(
    "WITH added AS (
        INSERT INTO tower_api_key.keys (",
    tower_api_key::key_columns!(),
    ") SELECT ",
    tower_api_key::key_columns!(),
    " FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[], $16::text[],
            $17::text[], $18::text[], $19::text[], $20::bigint[]) AS new (",
    tower_api_key::key_columns!(),
    ") ON CONFLICT DO NOTHING RETURNING digest, id, owner, created_at
    ), told AS (
        INSERT INTO tower_api_key.history (key, owner, at, by, event)
        SELECT id, owner, created_at, $21::text, $22::text FROM added
    )
    SELECT digest, id FROM added"
);

/// Inserts in one transaction. A refused key changes nothing.
pub(crate) async fn insert_all(
    session: &Session,
    new: &[KeyRecord],
    terms: &Terms,
) -> Result<Vec<Result<(), RegistryError>>, Failure> {
    let owners: BTreeSet<_> = new.iter().map(|key| key.owner.as_str()).collect();
    let owners: Vec<_> = owners.into_iter().collect();
    // This lock precedes all others.
    if terms.asks_owner() {
        directory::hold_all(session, &owners).await?;
    }
    session.query(ALONE, &[&owners]).await?;
    if terms.make_room(false, false).ok() != Some(MakeRoom::Nothing) {
        // Each key may revoke others, or count for the next one.
        return keys::insert_each(session, new, terms).await;
    }
    let maker = keys::maker(session, terms).await?;
    let standings = standings(session, new, terms).await?;
    let allow = |key: &KeyRecord| {
        terms.allow_new(maker.as_ref(), key, key.created_at)?;
        key.check().map_err(RegistryError::Invalid)?;
        if terms.asks_owner() && key.is_active(terms.present(key)) {
            let standing =
                |project| standings.get(&(&key.owner, project)).copied().unwrap_or(AccountStatus::Disabled);
            terms.allow_owner(standing(None), key.level.project().map(|project| standing(Some(project))))?;
        }
        Ok(())
    };
    let mut answers: Vec<Result<(), RegistryError>> = new.iter().map(allow).collect();
    let allowed: Vec<_> =
        new.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(key, _)| key).collect();
    let mut added = add_all(session, &allowed, terms).await?;
    for (key, answer) in new.iter().zip(&mut answers).filter(|(_, answer)| answer.is_ok()) {
        // Of two equal ones, the first was added.
        if !added.remove(&(key.digest.as_bytes().to_vec(), key.id.as_str().to_owned())) {
            *answer = Err(RegistryError::Conflict);
        }
    }
    Ok(answers)
}

type Standings<'k> = HashMap<(&'k UserId, Option<&'k ProjectId>), AccountStatus>;

/// What the owners of these keys may do in their accounts and on the projects of the keys, if the terms ask for it.
async fn standings<'k>(
    session: &Session,
    new: &'k [KeyRecord],
    terms: &Terms,
) -> Result<Standings<'k>, Failure> {
    if !terms.asks_owner() {
        return Ok(Standings::new());
    }
    let works = |key: &&KeyRecord| key.is_active(terms.present(key));
    let asked: BTreeSet<_> = new
        .iter()
        .filter(works)
        .flat_map(|key| [None, key.level.project()].map(|project| (&key.owner, project)))
        .collect();
    directory::account_statuses(session, &asked).await
}

/// The digests and ids of the keys that were added.
async fn add_all(
    session: &Session,
    new: &[&KeyRecord],
    terms: &Terms,
) -> Result<HashSet<(Vec<u8>, String)>, Failure> {
    fn each<'k, T>(new: &[&'k KeyRecord], column: impl Fn(&'k KeyRecord) -> T) -> Vec<T> {
        new.iter().copied().map(column).collect()
    }
    fn texts(
        new: &[&KeyRecord],
        column: impl Fn(&KeyRecord) -> Result<String, StoreError>,
    ) -> Result<Vec<String>, StoreError> {
        new.iter().copied().map(column).collect()
    }
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    let columns: [Param<'_>; 22] = [
        &each(new, |key| key.digest.as_bytes().as_slice()),
        &each(new, |key| key.id.as_str()),
        &each(new, |key| key.owner.as_str()),
        &each(new, |key| key.level.as_str()),
        &each(new, |key| key.level.project().map(AsRef::<str>::as_ref)),
        &each(new, |key| key.environment.as_str()),
        &texts(new, |key| json(&key.name))?,
        &each(new, |key| &*key.prefix),
        &each(new, |key| &*key.last4),
        &texts(new, |key| json(&key.scopes))?,
        &texts(new, |key| json(&key.metadata))?,
        &each(new, |key| key.created_at.as_micros()),
        &each(new, |key| micros(key.expires_at)),
        &each(new, |key| micros(key.revoked_at)),
        &each(new, |key| key.replaced_by.as_ref().map(KeyId::as_str)),
        &each(new, |key| key.restrictions.to_string()),
        &each(new, |key| limits_text(key.limits.as_ref())),
        &each(new, |key| key.family.as_str()),
        &each(new, |key| key.digested_by.to_string()),
        &each(new, |key| micros(key.replaced_at)),
        &terms.authority().to_string(),
        &KeyEvent::Imported.to_string(),
    ];
    let mut added = HashSet::with_capacity(new.len());
    for row in &session.query(INSERT_ALL, &columns).await? {
        added.insert((value::<&[u8]>(row, 0)?.to_vec(), value::<&str>(row, 1)?.to_owned()));
    }
    Ok(added)
}
