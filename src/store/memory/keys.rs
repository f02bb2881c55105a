//! The keys of a [`MemoryStore`](super::MemoryStore).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use super::super::{KeyPolicy, KeyQuery, LedgerError};
use crate::clock::Timestamp;
use crate::key::{Environment, KeyDigest, KeyId, UserId};
use crate::record::{FreshKey, KeyRecord};

type Digest = [u8; 32];

/// Every key by its digest, and two ways to find a digest.
#[derive(Default)]
pub(super) struct Keys {
    by_digest: HashMap<Digest, Arc<KeyRecord>, BuildHasherDefault<DigestHasher>>,
    by_id: HashMap<KeyId, Digest>,
    /// In the order in which they are listed.
    by_owner: HashMap<UserId, BTreeMap<(Timestamp, KeyId), Digest>>,
}

impl Keys {
    pub(super) fn find(&self, digest: &KeyDigest) -> Option<Arc<KeyRecord>> {
        self.by_digest.get(digest.as_bytes()).cloned()
    }

    pub(super) fn get(&self, id: &KeyId) -> Option<&KeyRecord> {
        self.by_id.get(id).and_then(|digest| self.by_digest.get(digest)).map(AsRef::as_ref)
    }

    pub(super) fn insert(&mut self, key: KeyRecord, policy: KeyPolicy) -> Result<(), LedgerError> {
        self.check_new(&key)?;
        let now = key.created_at;
        if key.is_active(now) {
            match policy {
                KeyPolicy::Single => self.revoke_where(&key.owner, Some(key.environment), now),
                KeyPolicy::Multiple { max } => {
                    let alike = |other: &&KeyRecord| other.environment == key.environment;
                    let active =
                        self.of(&key.owner).filter(alike).filter(|other| other.is_active(now)).count();
                    if active >= usize::try_from(max).unwrap_or(usize::MAX) {
                        return Err(LedgerError::TooManyKeys);
                    }
                }
            }
        }
        self.add(key);
        Ok(())
    }

    pub(super) fn replace(
        &mut self,
        old: &KeyId,
        fresh: &FreshKey,
        old_ends: Timestamp,
    ) -> Result<KeyRecord, LedgerError> {
        let now = fresh.created_at;
        let before = self.get(old).ok_or(LedgerError::NotFound)?;
        if !before.is_active(now) || before.replaced_by.is_some() {
            return Err(LedgerError::Ended);
        }
        let successor = before.successor(fresh);
        self.check_new(&successor)?;
        self.edit(old, |key| key.replace(&successor.id, now, old_ends));
        self.add(successor.clone());
        Ok(successor)
    }

    pub(super) fn revoke(&mut self, id: &KeyId, now: Timestamp) -> Result<(), LedgerError> {
        let key = self.get(id).ok_or(LedgerError::NotFound)?;
        if key.revoked_at.is_none() {
            self.edit(id, |key| key.revoked_at = Some(now));
        }
        Ok(())
    }

    pub(super) fn revoke_all_of(&mut self, owner: &UserId, now: Timestamp) {
        self.revoke_where(owner, None, now);
    }

    pub(super) fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, LedgerError> {
        let after = match &query.after {
            None => Bound::Unbounded,
            Some(id) => {
                let key = self.get(id).filter(|key| key.owner == *owner).ok_or(LedgerError::NotFound)?;
                Bound::Excluded((key.created_at, id.clone()))
            }
        };
        let Some(of_owner) = self.by_owner.get(owner) else { return Ok(Vec::new()) };
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let keys =
            of_owner.range((after, Bound::Unbounded)).filter_map(|(_, digest)| self.by_digest.get(digest));
        Ok(keys.filter(|key| query.selects(key)).take(limit).map(|key| KeyRecord::clone(key)).collect())
    }

    fn of(&self, owner: &UserId) -> impl Iterator<Item = &KeyRecord> {
        let digests = self.by_owner.get(owner).into_iter().flat_map(BTreeMap::values);
        digests.filter_map(|digest| self.by_digest.get(digest)).map(AsRef::as_ref)
    }

    fn check_new(&self, key: &KeyRecord) -> Result<(), LedgerError> {
        key.check().map_err(LedgerError::Invalid)?;
        let taken = self.by_id.contains_key(&key.id) || self.by_digest.contains_key(key.digest.as_bytes());
        if taken { Err(LedgerError::Conflict) } else { Ok(()) }
    }

    fn add(&mut self, key: KeyRecord) {
        let digest = *key.digest.as_bytes();
        self.by_id.insert(key.id.clone(), digest);
        let of_owner = self.by_owner.entry(key.owner.clone()).or_default();
        of_owner.insert((key.created_at, key.id.clone()), digest);
        self.by_digest.insert(digest, Arc::new(key));
    }

    /// Requests that hold the record go on with what it was when they asked.
    fn edit(&mut self, id: &KeyId, change: impl FnOnce(&mut KeyRecord)) {
        if let Some(key) = self.by_id.get(id).and_then(|digest| self.by_digest.get_mut(digest)) {
            change(Arc::make_mut(key));
        }
    }

    /// Expired keys too: a clock that jumps back must not bring a second one to life.
    fn revoke_where(&mut self, owner: &UserId, environment: Option<Environment>, now: Timestamp) {
        for digest in self.by_owner.get(owner).into_iter().flat_map(BTreeMap::values) {
            let Some(key) = self.by_digest.get_mut(digest) else { continue };
            if key.revoked_at.is_none()
                && environment.is_none_or(|environment| key.environment == environment)
            {
                Arc::make_mut(key).revoked_at = Some(now);
            }
        }
    }
}

/// Takes the first eight bytes of a SHA-256 digest as they are: they are as even as any hash of them.
///
/// Somebody who grinds keys until their digests begin alike gains nothing: only keys that were issued or imported
/// are ever in the table, and looking garbage up adds nothing to it.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length, which arrays hash before their bytes; it is always 32.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
