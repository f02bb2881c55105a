//! Rows of SQL stores, parsed strictly: a value that cannot be parsed is an error, and never a default.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::directory::project_id;
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, Environment, KeyDigest, KeyId, UserId};
use crate::limit::Limits;
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{IpRestriction, Restrictions};
use crate::store::corrupt::CorruptRow;
use crate::store::error::StoreError;
use crate::usage::Usage;

/// A row of [`key_columns!`](crate::key_columns), through which a driver returns the values of columns. Columns are
/// numbered from zero.
///
/// A driver implements the methods without a default. The others parse the values. Rows of other tables use this
/// trait too, with their own columns.
pub trait KeyRow {
    /// Returns the text in a column, or `None` for NULL.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the value has another type; make it with [`wrong`](Self::wrong).
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError>;

    /// Returns the integer in a column, or `None` for NULL.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the value has another type.
    fn number(&self, column: usize) -> Result<Option<i64>, StoreError>;

    /// Returns the bytes in a column, if it contains bytes.
    fn bytes(&self, column: usize) -> Option<&[u8]>;

    /// The name of a column, for error messages.
    fn name(&self, column: usize) -> &str;

    /// Returns a text that people have written, which may contain any character. A database that cannot store every
    /// text (PostgreSQL has no NUL) stores it encoded, and decodes it here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`].
    fn free_text(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    /// Returns the text in a column that is never NULL.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`].
    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.optional_text(column)?.ok_or_else(|| self.wrong(column, "a text is missing"))
    }

    /// Returns the time in a column of microseconds, or `None` for NULL.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`].
    fn time(&self, column: usize) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.number(column)?.map(Timestamp::from_micros))
    }

    /// Makes an error about the value of a column, without the value itself.
    fn wrong(&self, column: usize, what: &'static str) -> StoreError {
        StoreError::Corrupt(CorruptRow::new(what).in_column(self.name(column)))
    }

    /// Parses the record in this row.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`], with the id of the key if that can be parsed, or otherwise with its owner.
    fn key(&self) -> Result<KeyRecord, StoreError> {
        parsed(self).map_err(|error| self.locate(error))
    }

    /// Parses the record in this row for [`KeyStore::find_at`](crate::store::KeyStore::find_at): for a key that has
    /// ended by `now`, only the part that a refusal needs.
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn key_at(&self, now: Timestamp) -> Result<KeyRecord, StoreError> {
        if self.has_ended(now)? { self.ended_key() } else { self.key() }
    }

    /// Whether the key in this row has ended by `now`.
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn has_ended(&self, now: Timestamp) -> Result<bool, StoreError> {
        let ended = || Ok(self.time(13)?.is_some() || self.time(12)?.is_some_and(|end| end <= now));
        ended().map_err(|error| self.locate(error))
    }

    /// Parses only the part of the record that a refusal needs.
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn ended_key(&self) -> Result<KeyRecord, StoreError> {
        parsed_end(self).map_err(|error| self.locate(error))
    }

    /// Adds the id of this row's key, or otherwise its owner, to an error.
    fn locate(&self, error: StoreError) -> StoreError {
        match (error, self.text(1).map(KeyId::new)) {
            (error, Ok(Ok(id))) => error.of_key(&id),
            (error, _) => match self.text(2).map(UserId::new) {
                Ok(Ok(owner)) => error.of_user(&owner),
                _ => error,
            },
        }
    }
}

fn parsed_end<R: KeyRow + ?Sized>(row: &R) -> Result<KeyRecord, StoreError> {
    let created_at = row.time(11)?.ok_or_else(|| StoreError::corrupt("it was never created"))?;
    let nothing = IpRestriction::allow::<&str>([]).map_err(StoreError::failed)?;
    let mut key = KeyRecord::new(id(row)?, digest(row)?, owner(row)?, created_at);
    key.digested_by = digested_by(row)?;
    key.level = level(row)?;
    key.environment = environment(row)?;
    // Even if a bug took it for an active key, it would give no access.
    key.restrictions = Restrictions::none().ip(nothing);
    key.expires_at = row.time(12)?;
    key.revoked_at = row.time(13)?;
    key.family = family(row)?;
    key.replaced_by = successor(row)?;
    key.replaced_at = row.time(19)?;
    Ok(key)
}

fn parsed<R: KeyRow + ?Sized>(row: &R) -> Result<KeyRecord, StoreError> {
    let key = KeyRecord {
        id: id(row)?,
        digest: digest(row)?,
        digested_by: digested_by(row)?,
        owner: owner(row)?,
        level: level(row)?,
        environment: environment(row)?,
        name: row.free_text(6)?,
        prefix: row.text(7)?.to_owned(),
        last4: row.text(8)?.to_owned(),
        scopes: scopes(row.text(9)?)?,
        metadata: metadata(row.text(10)?)?,
        restrictions: restrictions(row.text(15)?)?,
        limits: limits(row.text(16)?)?,
        family: family(row)?,
        created_at: row.time(11)?.ok_or_else(|| StoreError::corrupt("it was never created"))?,
        expires_at: row.time(12)?,
        revoked_at: row.time(13)?,
        replaced_by: successor(row)?,
        replaced_at: row.time(19)?,
    };
    key.check().map_err(StoreError::corrupt)?;
    Ok(key)
}

fn id<R: KeyRow + ?Sized>(row: &R) -> Result<KeyId, StoreError> {
    KeyId::new(row.text(1)?).map_err(|_| StoreError::corrupt("the id of one of their keys does not parse"))
}

fn family<R: KeyRow + ?Sized>(row: &R) -> Result<KeyId, StoreError> {
    KeyId::new(row.text(17)?).map_err(|_| StoreError::corrupt("the id of its family does not parse"))
}

fn successor<R: KeyRow + ?Sized>(row: &R) -> Result<Option<KeyId>, StoreError> {
    let successor = row.optional_text(14)?.map(KeyId::new).transpose();
    successor.map_err(|_| StoreError::corrupt("the id of its successor does not parse"))
}

fn owner<R: KeyRow + ?Sized>(row: &R) -> Result<UserId, StoreError> {
    UserId::new(row.text(2)?).map_err(|_| StoreError::corrupt("the id of its owner does not parse"))
}

fn digest<R: KeyRow + ?Sized>(row: &R) -> Result<KeyDigest, StoreError> {
    let digest = row.bytes(0).and_then(|bytes| bytes.try_into().ok()).map(KeyDigest::from_bytes);
    digest.ok_or_else(|| StoreError::corrupt("its digest is not 32 bytes"))
}

fn digested_by<R: KeyRow + ?Sized>(row: &R) -> Result<DigestMethod, StoreError> {
    row.text(18)?.parse().map_err(|_| StoreError::corrupt("how it was digested does not parse"))
}

fn level<R: KeyRow + ?Sized>(row: &R) -> Result<KeyLevel, StoreError> {
    match (row.text(3)?, row.optional_text(4)?) {
        ("USER", None) => Ok(KeyLevel::User),
        ("PROJECT", Some(project)) => Ok(KeyLevel::Project(project_id(project)?)),
        _ => Err(StoreError::corrupt("its level is neither USER without a project nor PROJECT with one")),
    }
}

fn environment<R: KeyRow + ?Sized>(row: &R) -> Result<Environment, StoreError> {
    let environment = Environment::from_name(row.text(5)?);
    environment.ok_or_else(|| StoreError::corrupt("its environment is neither live nor test"))
}

/// Parses the audit entry in a row of the columns `at, key, owner, by, event`.
///
/// # Errors
///
/// [`StoreError::Corrupt`], with the id of the key.
pub fn entry(row: &impl KeyRow) -> Result<AuditEntry, StoreError> {
    let key = key_id(row)?;
    entry_of(row, &key).map_err(|error| error.of_key(&key))
}

fn entry_of(row: &impl KeyRow, key: &KeyId) -> Result<AuditEntry, StoreError> {
    let owner = UserId::new(row.text(2)?);
    let event = row.text(4)?.parse();
    Ok(AuditEntry::from_parts(
        at(row)?,
        key.clone(),
        owner.map_err(|_| StoreError::corrupt("the owner in an entry of its trail does not parse"))?,
        row.text(3)?.to_owned(),
        event.map_err(|_| StoreError::corrupt("the event in an entry of its trail does not parse"))?,
    ))
}

/// Parses the usage in a row of the columns `last, key, through, count`.
///
/// # Errors
///
/// [`StoreError::Corrupt`], with the id of the key.
pub fn used(row: &impl KeyRow) -> Result<Usage, StoreError> {
    let key = key_id(row)?;
    used_of(row, &key).map_err(|error| error.of_key(&key))
}

fn used_of(row: &impl KeyRow, key: &KeyId) -> Result<Usage, StoreError> {
    let through = row.text(2)?.parse();
    let count = row.number(3)?.and_then(|count| u64::try_from(count).ok());
    Ok(Usage::new(
        key.clone(),
        through.map_err(|_| StoreError::corrupt("the way that it was used does not parse"))?,
        at(row)?,
        count.ok_or_else(|| StoreError::corrupt("how often it was used is missing or below zero"))?,
    ))
}

fn at(row: &impl KeyRow) -> Result<Timestamp, StoreError> {
    row.time(0)?.ok_or_else(|| row.wrong(0, "a time is missing"))
}

fn key_id(row: &impl KeyRow) -> Result<KeyId, StoreError> {
    KeyId::new(row.text(1)?).map_err(|_| row.wrong(1, "the id of a key does not parse"))
}

/// Encodes a value for a JSON column.
///
/// # Errors
///
/// [`StoreError::Failed`] if the value has no JSON form.
pub fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::failed)
}

fn scopes(json: &str) -> Result<BTreeSet<String>, StoreError> {
    let torn = || StoreError::corrupt("its scopes are no JSON list of different texts");
    let listed: Vec<String> = serde_json::from_str(json).map_err(|_| torn())?;
    let count = listed.len();
    let scopes = BTreeSet::from_iter(listed);
    if scopes.len() == count { Ok(scopes) } else { Err(torn()) }
}

fn metadata(json: &str) -> Result<BTreeMap<String, String>, StoreError> {
    let parsed: Result<Metadata, _> = serde_json::from_str(json);
    parsed.map(|parsed| parsed.0).map_err(|_| StoreError::corrupt("its metadata is no JSON map of texts"))
}

fn restrictions(json: &str) -> Result<Restrictions, StoreError> {
    json.parse().map_err(|_| StoreError::corrupt("its restrictions do not parse"))
}

/// The text for a key without limits. It is not NULL, so that a lost value is an error instead of a key without
/// limits.
const NO_LIMITS: &str = "none";

fn limits(text: &str) -> Result<Option<Limits>, StoreError> {
    if text == NO_LIMITS {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| StoreError::corrupt("its limits do not parse"))
}

/// Encodes limits for a column: their text, or `none`.
#[must_use]
pub fn limits_text(limits: Option<&Limits>) -> String {
    limits.map_or_else(|| NO_LIMITS.to_owned(), ToString::to_string)
}

/// A map that, unlike serde's maps, refuses a duplicate name.
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachOnce;

        impl<'de> Visitor<'de> for EachOnce {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Metadata, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, value)) = entries.next_entry()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                }
                Ok(Metadata(map))
            }
        }

        deserializer.deserialize_map(EachOnce)
    }
}
