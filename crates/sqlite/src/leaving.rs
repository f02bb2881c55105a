//! SQL of removed members whose keys are still to be revoked. The first transaction removes the membership, which ends
//! access. If there are many keys, they are revoked in further transactions, so that each is short.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::directory;
use crate::failure::Failure;
use crate::keys;
use tower_api_key::store::RegistryError;
use tower_api_key::store::codec::user_id;
use tower_api_key::{Timestamp, UserId};

const LEAVES: &str = "SELECT at FROM leaving WHERE user = ?1";
const LEFT: &str = "SELECT EXISTS (SELECT 1 FROM leaving WHERE user = ?1 AND account = ?2)";
const NEXT: &str = "SELECT user FROM leaving LIMIT 1";
const ADD: &str = "INSERT INTO leaving (user, account, at) VALUES (?1, ?2, ?3)";
const DONE: &str = "DELETE FROM leaving WHERE user = ?1";

/// Removes a member, and revokes the first of their keys. Returns whether these were all.
pub(crate) fn begin(
    transaction: &Transaction<'_>,
    account: &str,
    user: &UserId,
    now: Timestamp,
) -> Result<bool, Failure> {
    match directory::remove_member(transaction, account, user).map_err(Failure::into_registry_error) {
        Ok(()) => {}
        // An earlier attempt was interrupted.
        Err(RegistryError::NotFound) if is_left(transaction, account, user)? => return Ok(false),
        Err(refused) => return Err(refused.into()),
    }
    if keys::revoke_some_of(transaction, user, now)? {
        return Ok(true);
    }
    transaction.prepare_cached(ADD)?.execute(params![user.as_str(), account, now.as_micros()])?;
    Ok(false)
}

/// Revokes some more keys of a removed member. Returns whether these were the last.
pub(crate) fn go_on(transaction: &Transaction<'_>, user: &UserId) -> Result<bool, Failure> {
    let mut statement = transaction.prepare_cached(LEAVES)?;
    let mut found = statement.query(params![user.as_str()])?;
    let Some(row) = found.next()? else { return Ok(true) };
    let done = keys::revoke_some_of(transaction, user, Timestamp::from_micros(row.get(0)?))?;
    if done {
        transaction.prepare_cached(DONE)?.execute(params![user.as_str()])?;
    }
    Ok(done)
}

/// Revokes some keys of any removed member. Returns whether no removed member has keys left to revoke.
pub(crate) fn sweep(transaction: &Transaction<'_>) -> Result<bool, Failure> {
    let mut statement = transaction.prepare_cached(NEXT)?;
    let mut found = statement.query(params![])?;
    let Some(row) = found.next()? else { return Ok(true) };
    go_on(transaction, &user_id(&row.get::<_, String>(0)?)?)?;
    Ok(false)
}

/// Whether keys of a user are still to be revoked.
pub(crate) fn leaves(connection: &Connection, user: &UserId) -> Result<bool, Failure> {
    Ok(connection.prepare_cached(LEAVES)?.exists(params![user.as_str()])?)
}

fn is_left(connection: &Connection, account: &str, user: &UserId) -> Result<bool, Failure> {
    Ok(connection.prepare_cached(LEFT)?.query_row(params![user.as_str(), account], |row| row.get(0))?)
}

/// Runs one step in its own transaction.
pub(crate) fn step(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<bool, Failure>,
) -> Result<Option<()>, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done.then_some(()))
}
