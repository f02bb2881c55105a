//! Imports keys of other services by their digests: see [`importing`](crate::importing).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::num::NonZeroU32;

use super::error::KeyringError;
use super::imported_digest::{ImportRefusal, ImportedDigest};
use super::keyring::Keyring;
use super::new_key::NewKey;
use crate::audit::KeyEvent;
use crate::authority::Denied;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, UserId};
use crate::record::{FreshKey, KeyLevel, KeyRecord};
use crate::store::{KeyPolicy, RegistryError, StoreError, Terms, in_time};

/// How many keys are given to the registry at once, and about how many bytes of text.
const CHUNK: (usize, usize) = (500, 1 << 20);
/// How many entries of a key's audit log are searched for a rehash, newest first.
const TRAIL: u32 = 1000;
/// No policy limits an import, so that a service which migrates does not lose keys.
const NO_POLICY: KeyPolicy = KeyPolicy::Multiple { max: NonZeroU32::MAX };

/// A key that another service issued: its properties, and what is known of its text.
///
/// ```
/// use tower_api_key::keyring::{ImportedDigest, ImportedKey};
/// use tower_api_key::{KeyId, NewKey, Timestamp, UserId};
///
/// let new = NewKey::user_level(UserId::new("alice")?, "CI").scopes(["builds:write"]);
/// let hash = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
/// let key = ImportedKey::new(KeyId::new("unkey_3ZfBq")?, new, ImportedDigest::sha256(hash))
///     .created_at(Timestamp::from_secs(1_700_000_000));
/// # Ok::<(), tower_api_key::key::ParseIdError>(())
/// ```
#[derive(Debug)]
#[must_use = "a description makes no key; pass it to `Keyring::import`"]
pub struct ImportedKey {
    id: KeyId,
    new: NewKey,
    digest: ImportedDigest,
    created_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl ImportedKey {
    /// Describes a key. Its id must be the same at every attempt to import it, such as `sanctum_` and its id in the
    /// other service: this tells a repeated import from a second key.
    pub fn new(id: KeyId, new: NewKey, digest: ImportedDigest) -> Self {
        Self { id, new, digest, created_at: None, revoked_at: None }
    }

    /// Sets when the other service issued it; the default is now.
    pub fn created_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.created_at = Some(at.into());
        self
    }

    /// Sets when the other service revoked it.
    pub fn revoked_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.revoked_at = Some(at.into());
        self
    }
}

/// The result of an import. It contains no secret.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// How many were added.
    pub imported: usize,
    /// How many already existed, from an earlier attempt. They are unchanged.
    pub already_there: usize,
    /// Those that were not added, in no particular order.
    pub refused: Vec<RefusedImport>,
}

/// A key that was not imported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusedImport {
    /// Its index among the keys to import, from 0.
    pub index: usize,
    /// Its id.
    pub id: KeyId,
    /// Why it was not imported.
    pub reason: ImportRefusal,
}

/// A key that passed all checks that need no store.
struct Ready {
    index: usize,
    record: KeyRecord,
    /// The other digests of its text, if the text is known.
    older: Vec<(DigestMethod, KeyDigest)>,
}

/// The owner and the level of a key: the owner's access is checked again after the key was added.
type OwnerAndLevel = (UserId, KeyLevel);

impl Keyring {
    /// Adds keys that another service issued, many at a time, and reports which were refused and why.
    ///
    /// Clients keep their key texts. If these have another shape than the layer's own keys, the layer must [accept
    /// foreign keys](crate::Verifier::accept_foreign_keys). A digest does not show the shape of its text, so this
    /// is not checked here.
    ///
    /// An active key needs an owner with an active account and access to the key's project. Otherwise it would
    /// become valid for anybody who gets that user id later. Ended keys need none. The keyring's
    /// [policy](Self::policy) does not apply.
    ///
    /// Keys are added in batches of 200, and an import can be repeated: a key whose id exists is left unchanged,
    /// even if it was revoked or rehashed since. But it is refused if its digest, owner, level or environment
    /// differs from that of the existing key. After a rehash the original digest is no longer stored, so only
    /// owner, level and environment are compared.
    ///
    /// A key works as soon as this returns, even if a layer has looked it up before and found nothing.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`] if the registry or the directory failed. The keys that were added before stay;
    /// repeat the import.
    pub async fn import<I>(&self, keys: I) -> Result<ImportReport, KeyringError>
    where
        I: IntoIterator<Item = ImportedKey>,
        I::IntoIter: Send,
    {
        let mut report = ImportReport::default();
        let (mut chunk, mut len) = (Vec::with_capacity(CHUNK.0), 0_usize);
        for (index, key) in keys.into_iter().enumerate() {
            let id = key.id.clone();
            match self.ready(key) {
                Ok((record, older)) => {
                    len = len.saturating_add(record.text_len());
                    chunk.push(Ready { index, record, older });
                }
                Err(reason) => report.refused.push(RefusedImport { index, id, reason }),
            }
            if chunk.len() >= CHUNK.0 || len >= CHUNK.1 {
                self.add(mem::take(&mut chunk), &mut report).await?;
                len = 0;
            }
        }
        self.add(chunk, &mut report).await?;
        Ok(report)
    }

    /// Makes the record of a key, if it is valid. This asks no store.
    fn ready(&self, key: ImportedKey) -> Result<(KeyRecord, Vec<(DigestMethod, KeyDigest)>), ImportRefusal> {
        let new = key.new.check_words().map_err(ImportRefusal::of_words)?;
        let known = key.digest.resolve(&self.digests, &self.format, new.environment)?;
        let fresh = FreshKey {
            id: key.id,
            digest: known.digest,
            digested_by: known.method,
            prefix: known.prefix,
            last4: known.last4,
            created_at: key.created_at.unwrap_or_else(|| self.clock.now()),
        };
        let mut record = new.into_record(fresh);
        record.revoked_at = key.revoked_at;
        record.check().map_err(ImportRefusal::Invalid)?;
        Ok((record, known.older))
    }

    async fn add(&self, chunk: Vec<Ready>, report: &mut ImportReport) -> Result<(), KeyringError> {
        // A registry that is the directory of its owners looks at them in the transaction that adds the keys.
        let is_directory = self.registry.is_directory();
        let (ready, refused) = if is_directory { (chunk, Vec::new()) } else { self.who_may(chunk).await? };
        report.refused.extend(refused.into_iter().map(|key| key.refused(ImportRefusal::Owner)));
        let records = ready.iter().map(|key| key.record.clone()).collect();
        let terms = Terms::by(self.authority.clone()).policy(NO_POLICY);
        let terms = terms.at(self.clock.now());
        let terms = if is_directory { terms.ask_owner() } else { terms };
        let done = self.registry.insert_all(records, &terms);
        let done = in_time(self.store_deadline, done).await?;
        let (mut added, mut conflicting) = (Vec::with_capacity(ready.len()), Vec::new());
        for (key, done) in ready.into_iter().zip(done) {
            match done {
                Ok(()) => added.push(key),
                Err(RegistryError::Conflict) => conflicting.push(key),
                Err(RegistryError::Denied(Denied::Owner)) => {
                    report.refused.push(key.refused(ImportRefusal::Owner));
                }
                Err(RegistryError::Invalid(reason) | RegistryError::TooLong(reason)) => {
                    report.refused.push(key.refused(ImportRefusal::Invalid(reason)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.compare(conflicting, report).await?;
        // If an owner lost access in the meantime, that change revoked only the keys that existed then, and not these.
        let (added, refused) = if is_directory { (added, Vec::new()) } else { self.who_may(added).await? };
        for key in refused {
            self.revoke(&key.record.id).await?;
            report.refused.push(key.refused(ImportRefusal::Owner));
        }
        for key in added {
            self.changed(self.clock.now(), &key.record.id, KeyEvent::Imported);
            report.imported += 1;
        }
        Ok(())
    }

    /// Distinguishes keys that an earlier attempt imported from those whose id or digest belongs to another key.
    async fn compare(&self, conflicting: Vec<Ready>, report: &mut ImportReport) -> Result<(), KeyringError> {
        if conflicting.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = conflicting.iter().map(|key| key.record.id.clone()).collect();
        let there = in_time(self.store_deadline, self.registry.get_all(&ids)).await?;
        let there: HashMap<_, _> = there.iter().map(|record| (&record.id, record)).collect();
        for key in &conflicting {
            match there.get(&key.record.id) {
                None => report.refused.push(key.refused(ImportRefusal::DigestTaken)),
                Some(there) if self.is_same(there, key).await? => report.already_there += 1,
                Some(_) => report.refused.push(key.refused(ImportRefusal::IdTaken)),
            }
        }
        Ok(())
    }

    /// Whether the existing key is the one to import.
    async fn is_same(&self, there: &KeyRecord, key: &Ready) -> Result<bool, KeyringError> {
        let new = &key.record;
        if (&there.owner, &there.level, there.environment) != (&new.owner, &new.level, new.environment) {
            return Ok(false);
        }
        let (method, kind) = (&there.digested_by, there.digested_by.kind());
        if kind == new.digested_by.kind() {
            // For a slow hash, the digest is that of the public start, and the method contains the hash.
            return Ok(*method == new.digested_by && there.digest.matches(&new.digest));
        }
        if let Some((_, digest)) = key.older.iter().find(|(known, _)| known == method) {
            return Ok(there.digest.matches(digest));
        }
        // Digests of two kinds cannot be compared. They are of the same text if the audit log says that one was
        // rehashed to the other.
        let history =
            async { self.registry.audit_log().ok_or(StoreError::NotKept)?.history(&there.id, TRAIL).await };
        match in_time(self.store_deadline, history).await {
            Ok(trail) => Ok(trail.iter().any(|entry| matches!(entry.event, KeyEvent::Rehashed(_)))),
            // Without an audit log: a rehash always leads to the newest kind.
            Err(StoreError::NotKept) => Ok(kind == self.digests.newest().method().kind()),
            Err(error) => Err(error.into()),
        }
    }

    /// Divides keys into those whose owners may have them, and the others, for a directory that is separate from the
    /// registry.
    async fn who_may(&self, keys: Vec<Ready>) -> Result<(Vec<Ready>, Vec<Ready>), KeyringError> {
        let mut holders: HashMap<OwnerAndLevel, bool> = HashMap::new();
        for key in keys.iter().filter(|key| self.works(key)) {
            if let Entry::Vacant(vacant) = holders.entry(key.holder()) {
                let (owner, level) = vacant.key();
                let may = match self.owner_may_have(owner, level).await {
                    Ok(()) => true,
                    Err(KeyringError::Forbidden) => false,
                    Err(error) => return Err(error),
                };
                vacant.insert(may);
            }
        }
        let may = |key: &Ready| !self.works(key) || holders.get(&key.holder()).is_some_and(|may| *may);
        Ok(keys.into_iter().partition(may))
    }

    fn works(&self, key: &Ready) -> bool {
        key.record.is_active(self.clock.now())
    }
}

impl Ready {
    fn holder(&self) -> OwnerAndLevel {
        (self.record.owner.clone(), self.record.level.clone())
    }

    fn refused(&self, reason: ImportRefusal) -> RefusedImport {
        RefusedImport { index: self.index, id: self.record.id.clone(), reason }
    }
}
