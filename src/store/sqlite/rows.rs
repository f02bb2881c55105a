//! Rows of keys, parsed strictly: what makes no sense is an error, and never a right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::super::StoreError;
use crate::clock::Timestamp;
use crate::key::{Environment, KeyDigest, KeyId, ProjectId, UserId};
use crate::limit::Limits;
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::Restrictions;

/// The columns in the order in which [`key`] reads them.
macro_rules! key_columns {
    () => {
        "digest, id, owner, level, project, environment, name, prefix, last4, scopes, metadata, created_at, \
         expires_at, revoked_at, replaced_by, restrictions, limits, family, digested_by, replaced_at"
    };
}
pub(super) use key_columns;

/// The record in a row of `key_columns!()`.
pub(super) fn key(row: &Row<'_>) -> Result<KeyRecord, StoreError> {
    const NO_ID: StoreError = StoreError::Corrupt("an id of a key is none");
    let level = match (text(row, 3)?, optional_text(row, 4)?) {
        ("USER", None) => KeyLevel::User,
        ("PROJECT", Some(project)) => KeyLevel::Project(ProjectId::new(project).map_err(|_| NO_ID)?),
        _ => return Err(StoreError::Corrupt("the level of a key is none")),
    };
    let environment = Environment::from_name(text(row, 5)?);
    let key = KeyRecord {
        id: KeyId::new(text(row, 1)?).map_err(|_| NO_ID)?,
        digest: digest(row)?,
        digested_by: text(row, 18)?
            .parse()
            .map_err(|_| StoreError::Corrupt("the digest of a key is of no kind"))?,
        owner: UserId::new(text(row, 2)?).map_err(|_| NO_ID)?,
        level,
        environment: environment.ok_or(StoreError::Corrupt("the environment of a key is none"))?,
        name: text(row, 6)?.to_owned(),
        prefix: text(row, 7)?.to_owned(),
        last4: text(row, 8)?.to_owned(),
        scopes: scopes(text(row, 9)?)?,
        metadata: metadata(text(row, 10)?)?,
        restrictions: restrictions(text(row, 15)?)?,
        limits: limits(text(row, 16)?)?,
        family: KeyId::new(text(row, 17)?).map_err(|_| NO_ID)?,
        created_at: time(row, 11)?.ok_or(StoreError::Corrupt("a key was never created"))?,
        expires_at: time(row, 12)?,
        revoked_at: time(row, 13)?,
        replaced_by: optional_text(row, 14)?.map(KeyId::new).transpose().map_err(|_| NO_ID)?,
        replaced_at: time(row, 19)?,
    };
    key.check().map_err(StoreError::Corrupt)?;
    Ok(key)
}

pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, StoreError> {
    optional_text(row, column)?.ok_or(StoreError::Corrupt("a text is missing"))
}

/// Zero or one, and nothing else.
pub(super) fn truth(row: &Row<'_>, column: usize) -> Result<Option<bool>, StoreError> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(0)) => Ok(Some(false)),
        Ok(ValueRef::Integer(1)) => Ok(Some(true)),
        Ok(ValueRef::Null) => Ok(None),
        _ => Err(StoreError::Corrupt("what is true or false is neither")),
    }
}

fn optional_text<'r>(row: &'r Row<'_>, column: usize) -> Result<Option<&'r str>, StoreError> {
    const NO_TEXT: StoreError = StoreError::Corrupt("a text is none");
    match row.get_ref(column) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Text(bytes)) => str::from_utf8(bytes).map(Some).map_err(|_| NO_TEXT),
        _ => Err(NO_TEXT),
    }
}

fn digest(row: &Row<'_>) -> Result<KeyDigest, StoreError> {
    match row.get_ref(0) {
        Ok(ValueRef::Blob(bytes)) => bytes.try_into().ok().map(KeyDigest::from_bytes),
        _ => None,
    }
    .ok_or(StoreError::Corrupt("a digest is not 32 bytes"))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, StoreError> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(micros)) => Ok(Some(Timestamp::from_micros(micros))),
        Ok(ValueRef::Null) => Ok(None),
        _ => Err(StoreError::Corrupt("a time is not a number")),
    }
}

fn scopes(json: &str) -> Result<BTreeSet<String>, StoreError> {
    const NONE: StoreError = StoreError::Corrupt("the scopes of a key are no list of different texts");
    let listed: Vec<String> = serde_json::from_str(json).map_err(|_| NONE)?;
    let count = listed.len();
    let scopes = BTreeSet::from_iter(listed);
    if scopes.len() == count { Ok(scopes) } else { Err(NONE) }
}

fn metadata(json: &str) -> Result<BTreeMap<String, String>, StoreError> {
    let parsed: Result<Metadata, _> = serde_json::from_str(json);
    parsed.map(|parsed| parsed.0).map_err(|_| StoreError::Corrupt("the metadata of a key is no map of texts"))
}

fn restrictions(json: &str) -> Result<Restrictions, StoreError> {
    json.parse().map_err(|_| StoreError::Corrupt("the restrictions of a key are none"))
}

/// Said in words, and never by NULL: limits that are lost must not leave a key without any.
const NO_LIMITS: &str = "none";

fn limits(text: &str) -> Result<Option<Limits>, StoreError> {
    if text == NO_LIMITS {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| StoreError::Corrupt("the limits of a key are none"))
}

pub(super) fn limits_text(limits: Option<&Limits>) -> String {
    limits.map_or_else(|| NO_LIMITS.to_owned(), ToString::to_string)
}

/// Unlike serde's maps, refuses a name that comes twice.
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
