//! SQL of removed members whose keys are still to be revoked. The first transaction removes the membership, which ends
//! access. If there are many keys, they are revoked in further transactions, so that each is short.

use crate::directory;
use crate::failure::Failure;
use crate::keys;
use crate::row::value;
use crate::session::Session;
use tower_api_key::key::is_id;
use tower_api_key::store::RegistryError;
use tower_api_key::store::codec::{KeyRow as _, user_id};
use tower_api_key::{Timestamp, UserId};

/// Locks the row, so that two processes do not revoke the same keys.
const LEAVES: &str = "SELECT at FROM tower_api_key.leaving WHERE user_id = $1 FOR UPDATE";
const IS_LEFT: &str =
    "SELECT EXISTS (SELECT 1 FROM tower_api_key.leaving WHERE user_id = $1 AND account = $2)";
const IS_LEAVING: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.leaving WHERE user_id = $1)";
const ANYBODY: &str = "SELECT EXISTS (SELECT 1 FROM tower_api_key.leaving)";
/// Skips users whose keys another process is revoking.
const NEXT: &str = "SELECT user_id FROM tower_api_key.leaving LIMIT 1 FOR UPDATE SKIP LOCKED";
const ADD: &str = "INSERT INTO tower_api_key.leaving (user_id, account, at) VALUES ($1::text, $2::text, $3)";
const DONE: &str = "DELETE FROM tower_api_key.leaving WHERE user_id = $1";

/// Removes a member, and revokes the first of their keys. Returns whether these were all.
pub(crate) async fn begin(
    session: &Session,
    account: &str,
    user: &UserId,
    now: Timestamp,
) -> Result<bool, Failure> {
    let removed = directory::remove_member(session, account, user).await;
    match removed.map_err(Failure::into_registry_error) {
        Ok(()) => {}
        // An earlier attempt was interrupted.
        Err(RegistryError::NotFound)
            if is_id(account) && session.ask(IS_LEFT, &[&user.as_str(), &account]).await? =>
        {
            return Ok(false);
        }
        Err(refused) => return Err(refused.into()),
    }
    if keys::revoke_some_of(session, user, now).await? {
        return Ok(true);
    }
    session.execute(ADD, &[&user.as_str(), &account, &now.as_micros()]).await?;
    Ok(false)
}

/// Revokes some more keys of a removed member. Returns whether these were the last.
pub(crate) async fn go_on(session: &Session, user: &UserId) -> Result<bool, Failure> {
    let found = session.query(LEAVES, &[&user.as_str()]).await?;
    let Some(row) = found.first() else { return Ok(true) };
    let done = keys::revoke_some_of(session, user, Timestamp::from_micros(value(row, 0)?)).await?;
    if done {
        session.execute(DONE, &[&user.as_str()]).await?;
    }
    Ok(done)
}

/// Whether keys of any user are still to be revoked.
pub(crate) async fn is_left(session: &Session) -> Result<bool, Failure> {
    session.ask(ANYBODY, &[]).await
}

/// Revokes some keys of any removed member. Returns whether no removed member has keys left to revoke.
pub(crate) async fn sweep(session: &Session) -> Result<bool, Failure> {
    let found = session.query(NEXT, &[]).await?;
    let Some(row) = found.first() else { return Ok(true) };
    go_on(session, &user_id(row.text(0)?)?).await?;
    Ok(false)
}

/// Whether keys of a user are still to be revoked.
pub(crate) async fn leaves(session: &Session, user: &UserId) -> Result<bool, Failure> {
    session.ask(IS_LEAVING, &[&user.as_str()]).await
}
