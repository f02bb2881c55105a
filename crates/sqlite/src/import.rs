//! Adds many keys in short transactions, so that other changes need not wait long.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use rusqlite::Transaction;

use crate::failure::Failure;
use crate::keys;
use tower_api_key::store::{RegistryError, Terms};
use tower_api_key::{KeyEvent, KeyLevel, KeyRecord, UserId};

/// After this time, a transaction accepts no more keys. The commit takes about as long again.
const LONGEST: Duration = Duration::from_millis(25);

/// Inserts the first of these keys in one transaction, at least one if there is one, and returns their results. A refused
/// key changes nothing.
pub(crate) fn insert_some(
    transaction: &Transaction<'_>,
    new: &[KeyRecord],
    terms: &Terms,
) -> Result<Vec<Result<(), RegistryError>>, Failure> {
    let began = Instant::now();
    let (mut answers, mut owners) = (Vec::with_capacity(new.len()), Owners { known: HashMap::new() });
    for key in new {
        answers.push(match owners.may_have(transaction, key, terms)? {
            Ok(()) => answer(keys::insert_of_checked_owner(transaction, key, terms, KeyEvent::Imported))?,
            refused => refused,
        });
        if began.elapsed() >= LONGEST {
            break;
        }
    }
    Ok(answers)
}

/// Remembers the owners that were checked in this transaction.
struct Owners<'k> {
    known: HashMap<(&'k UserId, &'k KeyLevel), bool>,
}

impl<'k> Owners<'k> {
    fn may_have(
        &mut self,
        transaction: &Transaction<'_>,
        key: &'k KeyRecord,
        terms: &Terms,
    ) -> Result<Result<(), RegistryError>, Failure> {
        if !terms.asks_owner() || !key.is_active(terms.present(key)) {
            return Ok(Ok(()));
        }
        let vacant = match self.known.entry((&key.owner, &key.level)) {
            Entry::Occupied(known) if *known.get() => return Ok(Ok(())),
            // Checked again, to get the error.
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => Some(vacant),
        };
        let may = answer(keys::ask_owner(transaction, &key.owner, &key.level, terms))?;
        if let Some(vacant) = vacant {
            vacant.insert(may.is_ok());
        }
        Ok(may)
    }
}

/// The result for one key, or an error if the file could not be read or written.
fn answer(done: Result<(), Failure>) -> Result<Result<(), RegistryError>, Failure> {
    match done.map_err(Failure::into_registry_error) {
        Err(RegistryError::Store(error)) => Err(error.into()),
        answer => Ok(answer),
    }
}
