//! The traits of stores, which the layer and the keyring call.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::accounts::Project;
use super::error::{RegistryError, StoreError};
use super::key_query::{KeyCount, KeyPage, KeyQuery, MAX_PAGE_LEN};
use super::terms::{Ended, Terms, Updated};
#[cfg(doc)]
use super::{Accounts, MAX_SEARCHED};
use crate::audit::{AuditEntry, Revocation};
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, ProjectId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyRecord};
use crate::role::AccountStatus;
use crate::usage::Usage;

/// What a store knows about a key without waiting: see [`KeyStore::find_cached`].
#[derive(Clone, Debug)]
#[must_use]
pub enum CachedKey {
    /// The record.
    Found(Arc<KeyRecord>),
    /// There certainly is no such key.
    NotFound,
    /// It must be [looked up](KeyStore::find).
    Miss,
}

impl CachedKey {
    /// The answer of [`KeyStore::find`], or `None` if it must be called.
    pub fn known(self) -> Option<Option<Arc<KeyRecord>>> {
        match self {
            Self::Found(key) => Some(Some(key)),
            Self::NotFound => Some(None),
            Self::Miss => None,
        }
    }

    /// Whether [`KeyStore::find`] need not be called.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        !matches!(self, Self::Miss)
    }
}

/// Converts a known answer of [`KeyStore::find`].
impl From<Option<Arc<KeyRecord>>> for CachedKey {
    fn from(found: Option<Arc<KeyRecord>>) -> Self {
        found.map_or(Self::NotFound, Self::Found)
    }
}

/// Finds keys by their digests. Every request calls this.
///
/// The answer must be what the store contains *now*. A store that answers from an outdated copy accepts revoked
/// keys.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `KeyStore`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a store of your own implements `KeyStore::find`",
    note = "to join a key store and a directory, pass `(keys, directory)`; if your API has no projects, `NoProjects(keys)`"
)]
pub trait KeyStore: Send + Sync + 'static {
    /// Returns the record with exactly this digest; `None` only if there certainly is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store failed. The client gets 503, never 401.
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError>;

    /// Like [`find`](Self::find), for a request at `now`, which refuses a key that has ended by then. For an ended
    /// key the store may return only a part of the record, so that the refusal takes as long as that of an unknown
    /// key (C7-02): the id, owner, level, digest, environment, family, successor and times are those of the key,
    /// the [`restrictions`](KeyRecord::restrictions) allow nothing, and everything else is empty. The default
    /// returns the whole record.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let _ = now;
        self.find(digest).await
    }

    /// Returns the answer of [`find`](Self::find), if it is known without waiting and is as current as the answer
    /// of `find`. Must not block.
    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        let _ = digest;
        CachedKey::Miss
    }
}

/// Knows people and projects: who may do what now (R17, R22).
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Directory`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a directory of your own implements `Directory::account_status`",
    note = "to join a key store and a directory, pass `(keys, directory)`; if your API has no projects, `NoProjects(keys)`"
)]
pub trait Directory: Send + Sync + 'static {
    /// Returns what `user` may do in `project`, or in their account if it is `None`.
    ///
    /// For an unknown project the role is `None`; this is not an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory failed. The client gets 503, never 403.
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError>;

    /// Returns the answer of [`account_status`](Self::account_status), if it is known without waiting and is as
    /// current; `None` if that must be called. Must not block.
    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        let _ = (user, project);
        None
    }
}

/// Lists projects, for people who choose one, and for clients that ask which they may use. The decision about a
/// request does not need it.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `ProjectDirectory`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a directory of your own implements `ProjectDirectory::projects`"
)]
pub trait ProjectDirectory: Send + Sync + 'static {
    /// Returns every project that `user` may access, in a stable order (R51).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory failed.
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError>;
}

/// Records keys, for [`Keyring`](crate::Keyring). Each method is one transaction.
///
/// Methods that change keys take [`Terms`], which the transaction that makes the change must enforce: a change by a
/// key ([`Authority::Key`](crate::Authority::Key)) is refused unless that key is active at that moment and covers
/// what is made or changed. So a key whose revocation has returned can make no key. A registry need not keep an
/// audit log or usage. The methods that return these logs have no default, so that a wrapper cannot forget to
/// forward them. A wrapper implements [`RegistryProxy`](super::RegistryProxy), which forwards everything that it
/// does not override.
///
/// After a method that ends keys has returned, [`KeyStore::find`] must return the ended state to every request.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `KeyRegistry`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a registry of your own implements the methods that have no default",
    note = "to join a registry and a directory, pass `(registry, directory)`; if your API has no projects, `NoProjects(registry)`"
)]
pub trait KeyRegistry: Send + Sync + 'static {
    /// Whether this registry is also the directory of the owners of its keys, and checks their accounts in the
    /// transaction of a change if the terms [require it](Terms::asks_owner).
    ///
    /// If it is not, [`Keyring`](crate::Keyring) asks the directory again after the change, and revokes a
    /// key that its owner may no longer have. Until then such a key works.
    fn is_directory(&self) -> bool;

    /// The audit log, or `None` if none is kept.
    fn audit_log(&self) -> Option<&dyn AuditLog>;

    /// The usage of keys, or `None` if it is not kept.
    fn usage_log(&self) -> Option<&dyn UsageLog>;

    /// The owners and digest methods of the keys, or `None` if the registry cannot list them.
    fn inventory(&self) -> Option<&dyn KeyInventory>;

    /// Adds a key under the policy of the terms, which the same transaction enforces (R30, R33). The current time
    /// is `key.created_at`. If the policy ends other keys, the maker must [cover](crate::store::covers) those
    /// too.
    ///
    /// An imported key that has already ended is added as it is, and the policy does not apply to it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Denied`], [`RegistryError::TooManyKeys`], [`RegistryError::Conflict`] if the id or the
    /// digest is taken, [`RegistryError::Invalid`] if [`KeyRecord::check`] fails, [`RegistryError::TooLong`],
    /// [`RegistryError::Store`]. Nothing has changed then.
    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError>;

    /// Adds many imported keys, each as [`insert`](Self::insert) would, and returns the results in the same order.
    /// Their audit log begins with [`KeyEvent::Imported`](crate::KeyEvent::Imported), whatever their shape.
    ///
    /// A key that has already ended at [`Terms::present`] is added as it is: the policy and the owner are not checked.
    ///
    /// The default adds them one by one. The built-in stores add many keys in one transaction. A registry with an
    /// audit log must override this, since `insert` recognises imported keys only by their shape.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. Some of the keys may have been added then.
    async fn insert_all(
        &self,
        keys: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(match self.insert(key, terms).await {
                Err(RegistryError::Store(error)) => return Err(error),
                answer => answer,
            });
        }
        Ok(answers)
    }

    /// Replaces `old` by a fresh key. `old` must be active at `fresh.created_at` (the current time) and not
    /// replaced yet, so that of two concurrent calls one fails. The new record is [`KeyRecord::successor`], and
    /// [`KeyRecord::replace`] ends the old one at `old_ends`. Returns the new record.
    ///
    /// The policy applies as in [`insert`](Self::insert). If the old key has a grace period, both keys count. Under
    /// [`KeyPolicy::Single`](crate::KeyPolicy::Single) all other keys of the owner and environment end.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Ended`] if `old` is revoked, expired or replaced,
    /// [`RegistryError::Denied`], [`RegistryError::NoGrace`] if the policy allows none,
    /// [`RegistryError::TooManyKeys`], [`RegistryError::Conflict`] if the fresh id or digest is taken,
    /// [`RegistryError::Invalid`] if the environment in the fresh prefix is not the old key's,
    /// [`RegistryError::Store`]. Nothing has changed then, and the old key works as before.
    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError>;

    /// Ends a key for good, and writes the reason to the audit log. Returns whether this call ended the key, and
    /// whether its family ended with it. Ending a key again changes nothing and is not an error (R39).
    ///
    /// This one transaction is enough to end a key. A key may always end itself. This must not wait behind work
    /// that takes no access away, nor behind the work of another owner (R42).
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Denied`], [`RegistryError::Store`].
    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError>;

    /// [Ends](Self::end) a key [on request](Revocation::ByHand). Returns whether this call ended it.
    ///
    /// # Errors
    ///
    /// As [`end`](Self::end).
    async fn revoke(&self, id: &KeyId, now: Timestamp, terms: &Terms) -> Result<bool, RegistryError> {
        Ok(self.end(id, Revocation::ByHand, now, terms).await?.changed)
    }

    /// Updates a key, by [`Terms::updated`]. An update that changes nothing writes nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Ended`] if the key is revoked, [`RegistryError::Denied`],
    /// [`RegistryError::TooManyChanges`], [`RegistryError::TooLong`], [`RegistryError::Store`].
    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError>;

    /// Replaces the digest of a key, if its current digest is `from`, so that of two concurrent calls one fails.
    /// Everything else stays.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Ended`] if the key is revoked, [`RegistryError::Conflict`] if
    /// its digest is not `from` or the new digest is taken, [`RegistryError::Store`].
    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError>;

    /// Returns the record of a key, ended or not.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed.
    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// Returns the records of those keys that exist, in no particular order.
    ///
    /// The default looks them up one by one. A registry should override this if it can look up many at once, because
    /// a repeated import looks up all of its keys.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    async fn get_all(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(self.get(id).await?);
        }
        Ok(found)
    }

    /// Returns the keys of one owner that a query selects: ordered by age and id, oldest or newest first, starting
    /// after [`KeyQuery::after`], or those directly before [`KeyQuery::before`].
    ///
    /// Use [`KeyQuery::selects`], [`KeyQuery::cursor`] and [`KeyQuery::is_read_descending`] to implement this.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if the cursor is not a key of this owner, [`RegistryError::Store`].
    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError>;

    /// Like [`list`](Self::list), but the page also ends when its keys have [`MAX_PAGE_LEN`] bytes of stored text
    /// or more, and says whether more keys follow. It contains at least one key if there is one, except that a
    /// [search](KeyQuery::is_search) looks at no more than [`MAX_SEARCHED`] keys, and its page may be empty.
    ///
    /// The default lists one key more than asked for, and drops what is too much. A registry that may contain large
    /// or many keys should override this, and not read them.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        let with_next = KeyQuery { limit: query.limit.saturating_add(1), ..query.clone() };
        let mut keys = self.list(owner, &with_next).await?;
        if query.before.is_some() {
            keys.reverse();
        }
        let (limit, mut before) = (usize::try_from(query.limit).unwrap_or(usize::MAX), 0_usize);
        let mut fits = |key: &KeyRecord| {
            let fits = before < MAX_PAGE_LEN;
            before = before.saturating_add(key.text_len());
            fits
        };
        let count = keys.iter().take(limit).take_while(|key| fits(key)).count();
        let more = keys.len() > count;
        keys.truncate(count);
        Ok(KeyPage::new(keys, more).turned(query))
    }

    /// Counts the keys of one owner that a query selects, ignoring its cursor and limit. Counting stops at `most`
    /// and, for a [search](KeyQuery::is_search), after [`MAX_SEARCHED`] keys were looked at.
    ///
    /// The default reads pages. A registry that can count without reading keys should override this.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`].
    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        let limit = most.saturating_add(1);
        let mut query = KeyQuery { after: None, before: None, limit, ..query.clone() };
        let mut counted = 0_usize;
        loop {
            let page = self.page(owner, &query).await?;
            counted = counted.saturating_add(page.keys.len());
            let enough = usize::try_from(most).is_ok_and(|most| counted > most);
            // One page of a search has already looked at the maximum number of keys.
            if enough || !page.more || page.last.is_none() || query.is_search() {
                return Ok(KeyCount::new(counted, most, page.more));
            }
            query.after = page.last;
        }
    }
}

/// The audit log of keys.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Returns the entries of a key, newest first, up to `limit`; empty for an unknown key.
    ///
    /// The registry writes each entry in the transaction that makes the change. Every change of a key has an entry,
    /// also the revocations of [`Accounts::remove_member`], by [`Authority::System`](crate::Authority::System).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed.
    async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}

/// The usage of keys.
#[async_trait]
pub trait UsageLog: Send + Sync {
    /// Adds usage: for each key and channel, the counts are added up and the latest time is kept, whatever the
    /// order of the calls. This changes no key, and an unknown key is not an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed. Nothing was written then, except perhaps after
    /// [`StoreError::Timeout`].
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError>;

    /// Returns the usage of these keys, ordered by id and then by the text of the channel. One call is enough for a
    /// whole page of a list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed.
    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError>;
}

/// Lists the owners and counts the digest methods of the keys in a registry.
#[async_trait]
pub trait KeyInventory: Send + Sync {
    /// Counts the keys that are not revoked, by [`DigestMethod::kind`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed.
    async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError>;

    /// Returns the owners of all keys, ended ones too, ordered by id, byte by byte, starting after `after`: at most
    /// `limit` of them, and at most a thousand.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed.
    async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError>;
}
