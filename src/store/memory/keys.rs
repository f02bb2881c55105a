//! The keys of a [`MemoryStore`](super::MemoryStore).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use super::super::codec::row_limit as page;
use super::super::codec::{PageBounds, PageReader, PageStep, SearchedKey};
use super::super::{Ended, KeyCount, KeyPage, KeyQuery, MakeRoom, RegistryError, Terms, Updated, terms};
use super::audit_log::AuditEntries;
use crate::audit::{KeyEvent, Revocation};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, Environment, KeyDigest, KeyId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyRecord};

type Digest = [u8; 32];

/// All keys by digest, with indexes by id and by owner.
#[derive(Default)]
pub(super) struct KeyTable {
    by_digest: HashMap<Digest, Arc<KeyRecord>, BuildHasherDefault<DigestHasher>>,
    by_id: HashMap<KeyId, Digest>,
    by_owner: BTreeMap<UserId, Owned>,
    pub(super) audit_log: AuditEntries,
}

/// Keys in the order in which they are listed.
type Listed = BTreeMap<(Timestamp, KeyId), Digest>;

/// The keys of one owner.
#[derive(Default)]
struct Owned {
    all: Listed,
    /// By environment and expiry, so that a search for active keys does not visit ended ones, of which there may be
    /// very many.
    unrevoked: BTreeMap<(Environment, End), Listed>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Timestamp),
    Never,
}

impl KeyTable {
    pub(super) fn find(&self, digest: &KeyDigest) -> Option<Arc<KeyRecord>> {
        self.by_digest.get(digest.as_bytes()).cloned()
    }

    pub(super) fn get(&self, id: &KeyId) -> Option<&KeyRecord> {
        self.by_id.get(id).and_then(|digest| self.by_digest.get(digest)).map(AsRef::as_ref)
    }

    pub(super) fn insert(
        &mut self,
        key: KeyRecord,
        terms: &Terms,
        event: KeyEvent,
    ) -> Result<(), RegistryError> {
        let now = key.created_at;
        terms.allow_new(self.maker(terms), &key, now)?;
        self.check_new(&key)?;
        if key.is_active(terms.present(&key)) {
            self.keep_policy(&key, None, now, terms)?;
        }
        self.audit_log.write(now, &key, terms.authority(), event);
        self.add(key);
        Ok(())
    }

    pub(super) fn replace(
        &mut self,
        old: &KeyId,
        fresh: &FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        let now = fresh.created_at;
        let before = self.allow_change(old, now, terms)?;
        if !before.is_active(now) || before.replaced_by.is_some() {
            return Err(RegistryError::Ended);
        }
        let successor = before.successor(fresh);
        self.check_new(&successor)?;
        self.keep_policy(&successor, Some((old, old_ends)), now, terms)?;
        self.edit(old, now, terms.authority(), |key| {
            key.replace(&successor.id, now, old_ends);
            KeyEvent::of_replaced(key)
        });
        self.audit_log.write(now, &successor, terms.authority(), KeyEvent::Replaces(old.clone()));
        self.add(successor.clone());
        Ok(successor)
    }

    pub(super) fn end(
        &mut self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        let key =
            if terms.maker() == Some(id) { self.get(id) } else { Some(self.allow_change(id, now, terms)?) };
        if key.ok_or(RegistryError::NotFound)?.revoked_at.is_some() {
            return Ok(Ended::before());
        }
        self.edit(id, now, terms.authority(), |key| {
            key.revoked_at = Some(now);
            vec![KeyEvent::Revoked(why)]
        });
        Ok(Ended::now(self.get(id).and_then(|key| self.family_ended_with(key, now)).cloned()))
    }

    /// Returns the family of a revoked key, if no other key of the family is active: see [`Ended`].
    fn family_ended_with<'k>(&self, key: &'k KeyRecord, now: Timestamp) -> Option<&'k KeyId> {
        let counts = key.limits.is_some() && key.replaced_by.is_none();
        let is_last = || {
            key.family == key.id
                || !self.active(&key.owner, key.environment, now).any(|other| other.family == key.family)
        };
        (counts && is_last()).then_some(&key.family)
    }

    pub(super) fn update(
        &mut self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        let before = self.get(id).ok_or(RegistryError::NotFound)?;
        let changed = || self.audit_log.changes_since(id, terms::an_hour_before(now));
        let Some(after) = terms.updated(self.maker(terms), before, update, now, || Ok(changed()))? else {
            return Ok(Updated::as_before(before.clone()));
        };
        let parts = update.parts();
        self.edit(id, now, terms.authority(), |key| {
            key.clone_from(&after);
            vec![KeyEvent::Updated(parts)]
        });
        Ok(Updated::now(after))
    }

    /// Returns a key, if the terms allow the change.
    pub(super) fn allow_change(
        &self,
        id: &KeyId,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<&KeyRecord, RegistryError> {
        let key = self.get(id).ok_or(RegistryError::NotFound)?;
        terms.allow_change(self.maker(terms), key, now)?;
        Ok(key)
    }

    /// The record of the key that makes a change.
    fn maker(&self, terms: &Terms) -> Option<&KeyRecord> {
        terms.maker().and_then(|id| self.get(id))
    }

    /// Enforces the policy for a new key. `replaced` is the key that it replaces, and when that one ends.
    fn keep_policy(
        &mut self,
        new: &KeyRecord,
        replaced: Option<(&KeyId, Timestamp)>,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<(), RegistryError> {
        let grace = replaced.is_some_and(|(_, ends)| ends > now);
        match terms.make_room(replaced.is_some(), grace)? {
            MakeRoom::EndOthers => {
                let spared = replaced.map(|(old, _)| old);
                let maker = self.maker(terms);
                for key in self.active(&new.owner, new.environment, now).filter(|key| Some(&key.id) != spared)
                {
                    terms.allow_change(maker, key, now)?;
                }
                self.revoke_where(
                    &new.owner,
                    |key| key.environment == new.environment && Some(&key.id) != spared,
                    now,
                    terms.authority(),
                    Revocation::Superseded,
                );
                Ok(())
            }
            MakeRoom::Nothing => Ok(()),
            MakeRoom::Count { max } => {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                // Nobody needs to know by how many the maximum is exceeded.
                if self.active(&new.owner, new.environment, now).take(max).count() >= max {
                    return Err(RegistryError::TooManyKeys);
                }
                Ok(())
            }
        }
    }

    /// Returns the active keys of an owner in one environment.
    fn active(
        &self,
        owner: &UserId,
        environment: Environment,
        now: Timestamp,
    ) -> impl Iterator<Item = &KeyRecord> {
        let of_owner = self.by_owner.get(owner).into_iter();
        let digests =
            of_owner.flat_map(move |owned| owned.active(environment, now)).flat_map(BTreeMap::values);
        digests.filter_map(|digest| self.by_digest.get(digest)).map(AsRef::as_ref)
    }

    pub(super) fn rehash(
        &mut self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let taken = self.by_digest.contains_key(to.as_bytes());
        if taken || !self.unrevoked(id)?.digest.matches(from) {
            return Err(RegistryError::Conflict);
        }
        let Some(key) = self.by_digest.remove(from.as_bytes()) else { return Err(RegistryError::Conflict) };
        if let Some(of_owner) = self.by_owner.get_mut(&key.owner) {
            of_owner.forget(&key);
        }
        let mut key = Arc::unwrap_or_clone(key);
        key.digest = *to;
        key.digested_by = method.clone();
        self.audit_log.write(now, &key, &Authority::System, KeyEvent::Rehashed(method.kind().to_owned()));
        self.add(key);
        Ok(())
    }

    fn unrevoked(&self, id: &KeyId) -> Result<&KeyRecord, RegistryError> {
        let key = self.get(id).ok_or(RegistryError::NotFound)?;
        if key.revoked_at.is_some() { Err(RegistryError::Ended) } else { Ok(key) }
    }

    pub(super) fn count_by_digest_method(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for key in self.by_digest.values().filter(|key| key.revoked_at.is_none()) {
            *counts.entry(key.digested_by.kind().to_owned()).or_default() += 1;
        }
        counts
    }

    pub(super) fn revoke_all_of(&mut self, owner: &UserId, now: Timestamp) {
        self.revoke_where(owner, |_| true, now, &Authority::System, Revocation::MemberRemoved);
    }

    pub(super) fn owners(&self, after: Option<&UserId>, limit: u32) -> Vec<UserId> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let owners =
            self.by_owner.range::<UserId, _>((after, Bound::Unbounded)).map(|(owner, _)| owner.clone());
        owners.take(page(limit) as usize).collect()
    }

    pub(super) fn page(
        &self,
        owner: &UserId,
        query: &KeyQuery,
        bounds: PageBounds,
    ) -> Result<KeyPage, RegistryError> {
        let mut page = KeyPage::new(Vec::new(), false);
        let (mut reading, keys) = (PageReader::new(query, bounds), self.in_order(owner, query)?);
        for key in keys {
            match reading.next(query.finds(&SearchedKey::of(key))) {
                PageStep::Stop => {
                    page.more = true;
                    break;
                }
                PageStep::Skip => {}
                PageStep::Take => {
                    if bounds.max_bytes() < usize::MAX {
                        reading.took(key.text_len());
                    }
                    page.keys.push(KeyRecord::clone(key));
                }
            }
            page.first.get_or_insert_with(|| key.id.clone());
            page.last = Some(key.id.clone());
        }
        Ok(page.turned(query))
    }

    pub(super) fn count(
        &self,
        owner: &UserId,
        query: &KeyQuery,
        most: u32,
    ) -> Result<KeyCount, RegistryError> {
        let query = KeyQuery { after: None, before: None, limit: most, ..query.clone() };
        let mut reading = PageReader::new(&query, PageBounds::PAGE);
        for key in self.in_order(owner, &query)? {
            if reading.next(query.finds(&SearchedKey::of(key))) == PageStep::Stop {
                return Ok(KeyCount::new(reading.taken(), most, true));
            }
        }
        Ok(KeyCount::new(reading.taken(), most, false))
    }

    /// Returns the keys of an owner from a cursor on, in the order in which they are read, before a search filters
    /// them.
    fn in_order<'s>(
        &'s self,
        owner: &UserId,
        query: &'s KeyQuery,
    ) -> Result<Box<dyn Iterator<Item = &'s KeyRecord> + 's>, RegistryError> {
        let descending = query.is_read_descending();
        let page = match query.cursor() {
            None => (Bound::Unbounded, Bound::Unbounded),
            Some(id) => {
                let key = self.get(id).filter(|key| key.owner == *owner).ok_or(RegistryError::NotFound)?;
                let place = Bound::Excluded((key.created_at, id.clone()));
                if descending { (Bound::Unbounded, place) } else { (place, Bound::Unbounded) }
            }
        };
        let Some(of_owner) = self.by_owner.get(owner) else { return Ok(Box::new(std::iter::empty())) };
        let digests: Box<dyn Iterator<Item = &Digest>> = match query.active_at {
            None => {
                let listed = of_owner.all.range(page).map(|(_, digest)| digest);
                if descending { Box::new(listed.rev()) } else { Box::new(listed) }
            }
            Some(now) => {
                let asked = [Environment::Live, Environment::Test]
                    .into_iter()
                    .filter(|environment| query.environment.is_none_or(|asked| asked == *environment));
                let active = asked.flat_map(|environment| of_owner.active(environment, now));
                let sorted: BTreeMap<_, _> = active.flat_map(|listed| listed.range(page.clone())).collect();
                let listed = sorted.into_values();
                if descending { Box::new(listed.rev()) } else { Box::new(listed) }
            }
        };
        let keys = digests.filter_map(|digest| self.by_digest.get(digest)).map(AsRef::as_ref);
        let asked = |key: &&KeyRecord| {
            query.environment.is_none_or(|environment| key.environment == environment)
                && query.active_at.is_none_or(|now| key.is_active(now))
        };
        Ok(Box::new(keys.filter(asked)))
    }

    fn check_new(&self, key: &KeyRecord) -> Result<(), RegistryError> {
        key.check().map_err(RegistryError::Invalid)?;
        let taken = self.by_id.contains_key(&key.id) || self.by_digest.contains_key(key.digest.as_bytes());
        if taken { Err(RegistryError::Conflict) } else { Ok(()) }
    }

    fn add(&mut self, key: KeyRecord) {
        let digest = *key.digest.as_bytes();
        self.by_id.insert(key.id.clone(), digest);
        let of_owner = self.by_owner.entry(key.owner.clone()).or_default();
        of_owner.all.insert((key.created_at, key.id.clone()), digest);
        of_owner.note(&key);
        self.by_digest.insert(digest, Arc::new(key));
    }

    /// Changes a record, and adds the events to the audit log. Requests that already hold the record continue with
    /// the earlier one.
    fn edit(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        by: &Authority,
        change: impl FnOnce(&mut KeyRecord) -> Vec<KeyEvent>,
    ) {
        let Some(key) = self.by_id.get(id).and_then(|digest| self.by_digest.get_mut(digest)) else { return };
        let Some(of_owner) = self.by_owner.get_mut(&key.owner) else { return };
        of_owner.forget(key);
        let events = change(Arc::make_mut(key));
        of_owner.note(key);
        for event in events {
            self.audit_log.write(now, key, by, event);
        }
    }

    /// Revokes expired keys too, because a clock that jumps back would make them active again.
    fn revoke_where(
        &mut self,
        owner: &UserId,
        ends: impl Fn(&KeyRecord) -> bool,
        now: Timestamp,
        by: &Authority,
        why: Revocation,
    ) {
        let Some(of_owner) = self.by_owner.get_mut(owner) else { return };
        for listed in of_owner.unrevoked.values_mut() {
            listed.retain(|_, digest| {
                let Some(key) = self.by_digest.get_mut(digest).filter(|key| ends(key)) else { return true };
                Arc::make_mut(key).revoked_at = Some(now);
                self.audit_log.write(now, key, by, KeyEvent::Revoked(why));
                false
            });
        }
        of_owner.unrevoked.retain(|_, listed| !listed.is_empty());
    }
}

impl Owned {
    /// Returns the active keys of one environment, in several maps.
    fn active(&self, environment: Environment, now: Timestamp) -> impl Iterator<Item = &Listed> {
        let later = Bound::Excluded((environment, End::At(now)));
        self.unrevoked.range((later, Bound::Included((environment, End::Never)))).map(|(_, listed)| listed)
    }

    fn note(&mut self, key: &KeyRecord) {
        if key.revoked_at.is_none() {
            let listed = self.unrevoked.entry((key.environment, End::of(key))).or_default();
            listed.insert((key.created_at, key.id.clone()), *key.digest.as_bytes());
        }
    }

    fn forget(&mut self, key: &KeyRecord) {
        let end = (key.environment, End::of(key));
        let Some(listed) = self.unrevoked.get_mut(&end) else { return };
        listed.remove(&(key.created_at, key.id.clone()));
        if listed.is_empty() {
            self.unrevoked.remove(&end);
        }
    }
}

impl End {
    fn of(key: &KeyRecord) -> Self {
        key.expires_at.map_or(Self::Never, Self::At)
    }
}

/// Uses the first eight bytes of a digest as its hash, because a digest is already evenly distributed.
///
/// An attacker who searches for texts whose digests begin alike gains nothing: the table contains only keys that
/// were issued or imported, and a look-up adds nothing to it.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// Ignores the length, which arrays hash before their bytes: it is always 32.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
