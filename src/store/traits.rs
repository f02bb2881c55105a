//! What the layer asks stores, and what management tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::accounts::Project;
use super::error::{RegistryError, StoreError};
use super::key_query::{KeyCount, KeyPage, KeyQuery, MAX_PAGE_LEN};
use super::terms::{Ended, Terms, Updated};
#[cfg(doc)]
use super::{Accounts, MAX_SEARCHED};
use crate::access::AccountStatus;
use crate::audit::{AuditEntry, Revocation};
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, ProjectId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyRecord};
use crate::usage::Usage;

/// What a store knows of a key without asking anybody: see [`KeyStore::find_cached`].
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
    /// What [`KeyStore::find`] would answer, or `None` if that is to be asked.
    pub fn known(self) -> Option<Option<Arc<KeyRecord>>> {
        match self {
            Self::Found(key) => Some(Some(key)),
            Self::NotFound => Some(None),
            Self::Miss => None,
        }
    }

    /// Whether [`KeyStore::find`] need not be asked.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        !matches!(self, Self::Miss)
    }
}

/// An answer of [`KeyStore::find`] that is at hand.
impl From<Option<Arc<KeyRecord>>> for CachedKey {
    fn from(found: Option<Arc<KeyRecord>>) -> Self {
        found.map_or(Self::NotFound, Self::Found)
    }
}

/// Finds keys: the one question that every request asks.
///
/// The answer must be what the store holds *now*. A store that answers from a copy keeps revoked keys alive.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `KeyStore`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a store of your own implements `KeyStore::find`",
    note = "to join a key store and a directory, pass `(keys, directory)`; if your API has no projects, `NoProjects(keys)`"
)]
pub trait KeyStore: Send + Sync + 'static {
    /// The record with exactly this digest; `None` only if there certainly is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not tell. The client gets 503, never 401.
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError>;

    /// The same for a request at `now`, which refuses a key that has ended by then. Of such a key a store may tell no more
    /// than that needs, so that a refusal takes as long as that of an unknown key (C7-02): the id, owner, level, digest,
    /// environment, family, successor and times are then the key's, [`restrictions`](KeyRecord::restrictions) allow nothing, and all else is
    /// empty. The default tells all.
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

    /// The answer of [`find`](Self::find), if it is at hand without waiting and is as true as `find`'s. Must not block.
    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        let _ = digest;
        CachedKey::Miss
    }
}

/// Knows people and projects: who may do what, at this moment (R17, R22).
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Directory`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a directory of your own implements `Directory::account_status`",
    note = "to join a key store and a directory, pass `(keys, directory)`; if your API has no projects, `NoProjects(keys)`"
)]
pub trait Directory: Send + Sync + 'static {
    /// What `user` may do on `project`, or in their account where it is `None`.
    ///
    /// An unknown project is a role of `None`, not an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory could not tell. The client gets 503, never 403.
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError>;

    /// The answer of [`account_status`](Self::account_status), if it is at hand without waiting and is as true;
    /// `None` means ask. Must not block.
    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        let _ = (user, project);
        None
    }
}

/// Lists projects: for people, who choose one, and for clients that ask which they may use. No request depends on it.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `ProjectDirectory`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a directory of your own implements `ProjectDirectory::projects`"
)]
pub trait ProjectDirectory: Send + Sync + 'static {
    /// Every project that `user` may access, in a stable order (R51).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory could not tell.
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError>;
}

/// Records keys: what [`Keyring`](crate::keyring::Keyring) needs. Each method is one transaction.
///
/// Methods that change keys are told on which [`Terms`]. The transaction that makes the change holds them: a change by a
/// key ([`Authority::Key`](crate::Authority::Key)) is refused unless that key is active at that moment and covers what is
/// made or changed, so that no key is made by a key whose end has returned. Whether a registry keeps an audit
/// log, and when keys were last used, is its own matter: it says so by name, so that what wraps a registry cannot lose it in
/// silence. What wraps one implements [`RegistryProxy`](super::RegistryProxy), which forwards all that it does not change.
///
/// When a method that ends keys has returned, [`KeyStore::find`] must show it to every request that asks after that.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `KeyRegistry`",
    note = "`MemoryStore`, `SqliteStore` and `PostgresStore` are; a registry of your own implements the methods that have no default",
    note = "to join a registry and a directory, pass `(registry, directory)`; if your API has no projects, `NoProjects(registry)`"
)]
pub trait KeyRegistry: Send + Sync + 'static {
    /// Whether this registry is also the directory of the owners of its keys, and looks at their standing in the transaction
    /// of a change where the terms [ask for it](Terms::asks_owner).
    ///
    /// Where it is not, [`Keyring`](crate::keyring::Keyring) asks the directory after the change, and takes back
    /// what an owner may no longer have: between the two, such a key works.
    fn is_directory(&self) -> bool;

    /// The log of what became of keys, or `None` if none is kept.
    fn audit_log(&self) -> Option<&dyn AuditLog>;

    /// What is known of how keys were used, or `None` if that is not kept.
    fn usage_log(&self) -> Option<&dyn UsageLog>;

    /// Whose keys there are, and how they were digested, or `None` if that cannot be told.
    fn inventory(&self) -> Option<&dyn KeyInventory>;

    /// Adds a key under the policy of the terms, which is kept by the same transaction (R30, R33). The present is
    /// `key.created_at`. Where the policy ends other keys, a maker must [cover](crate::authority::covers) those too.
    ///
    /// A key that has already ended (an imported one) is added as it is, and the policy asks nothing of it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Denied`], [`RegistryError::TooManyKeys`], [`RegistryError::Conflict`] if the id or the digest is taken,
    /// [`RegistryError::Invalid`] if [`KeyRecord::check`] finds fault with it, [`RegistryError::TooLong`],
    /// [`RegistryError::Store`]. Nothing has changed then.
    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError>;

    /// Adds many keys from elsewhere, each as [`insert`](Self::insert) would; the answers are in their order. Their trail
    /// begins with [`KeyEvent::Imported`](crate::audit::KeyEvent::Imported), whatever their shape.
    ///
    /// This is one by one, unless the registry can do better: what one transaction costs, many keys share in the built-in ones.
    /// One that keeps a trail must do better, since `insert` tells keys from elsewhere by their looks.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. Any of the keys may have been added then.
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

    /// Puts a fresh key in the place of `old`, which must be active at `fresh.created_at` (the present) and not replaced
    /// yet: of two that race, one wins. The new record is [`KeyRecord::successor`], the old one ends by
    /// [`KeyRecord::replace`] at `old_ends`. Returns the new record.
    ///
    /// The policy is kept as by [`insert`](Self::insert): where the old key has a grace, both count; under
    /// [`KeyPolicy::Single`](crate::store::KeyPolicy::Single) all others of the owner and environment end.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Ended`] if `old` is revoked, expired or replaced,
    /// [`RegistryError::Denied`], [`RegistryError::NoGrace`] if the policy allows none, [`RegistryError::TooManyKeys`],
    /// [`RegistryError::Conflict`] if the fresh id or digest is taken, [`RegistryError::Invalid`] if the fresh prefix is
    /// not of the old key's environment, [`RegistryError::Store`]. Nothing has changed then, and the old key works as
    /// before.
    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError>;

    /// Ends a key for good, and the trail says why. Returns whether it did, and whether its family ended with it: ending it
    /// again changes nothing and is no error (R39).
    ///
    /// This one transaction is all that it takes to end a key. A key may always end itself. Work of this kind must not wait
    /// behind work that takes no access away, nor one owner's behind another's (R42).
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

    /// [Ends](Self::end) a key because somebody [asked for it](Revocation::ByHand). Returns whether it did.
    ///
    /// # Errors
    ///
    /// As [`end`](Self::end).
    async fn revoke(&self, id: &KeyId, now: Timestamp, terms: &Terms) -> Result<bool, RegistryError> {
        Ok(self.end(id, Revocation::ByHand, now, terms).await?.changed)
    }

    /// Changes what may be changed of a key, by [`Terms::updated`]. A change that changes nothing writes
    /// nothing.
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

    /// Has the same key found by another digest from now on, if `from` is the one that it is found by: of two that
    /// race, one wins. The key itself does not change.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::Ended`] if the key is revoked, [`RegistryError::Conflict`] if it is not
    /// found by `from` or the new digest is taken, [`RegistryError::Store`].
    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError>;

    /// The record of a key, ended or not.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry could not tell.
    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// The keys of one owner that a query selects, oldest first (then by id) or newest first (then by id, backwards), from
    /// after [`KeyQuery::after`], or those before [`KeyQuery::before`] in the same order.
    ///
    /// [`KeyQuery::selects`], [`KeyQuery::cursor`] and [`KeyQuery::is_read_descending`] say what is asked for.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] if the cursor is not a key of this owner, [`RegistryError::Store`].
    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError>;

    /// The same as [`list`](Self::list), but a page ends early before it is [longer](MAX_PAGE_LEN) than one key beyond that
    /// many bytes of what is stored of them, and says whether there are more keys. It holds at least one key if there is
    /// one; but a [search](KeyQuery::is_search) looks at [`MAX_SEARCHED`] keys at most, and its page may hold none of them.
    ///
    /// The default asks for a list, and one key more, and leaves out what is too much. A registry that may hold large or many
    /// keys does better, and does not read them.
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

    /// How many keys of one owner a query selects, its cursor and limit aside. Counting ends at `most`; and of a
    /// [search](KeyQuery::is_search), when [`MAX_SEARCHED`] keys were looked at.
    ///
    /// The default reads pages. A registry that can count without reading keys does better.
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
            // A page of a search has looked at as much as counting may.
            if enough || !page.more || page.last.is_none() || query.is_search() {
                return Ok(KeyCount::new(counted, most, page.more));
            }
            query.after = page.last;
        }
    }
}

/// Tells what became of keys.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// What became of a key, newest first, up to so many entries; none of a key that is not there.
    ///
    /// A registry that keeps a trail writes each entry in the transaction that makes the change. Whatever changes a key
    /// is in it: also [`Accounts::remove_member`], as [`Authority::System`](crate::Authority::System).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry could not tell.
    async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}

/// Keeps how keys were used.
#[async_trait]
pub trait UsageLog: Send + Sync {
    /// Adds to what is known of how keys were used: per key and way, counts are added up and the latest time stays,
    /// whatever comes first. Touches no key: a revoked one stays revoked, and one that is not there is no error.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed: nothing was written then, or with [`StoreError::Timeout`] perhaps.
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError>;

    /// How these keys were used, in the order of their ids and then of the ways' texts. One question for a whole page
    /// of a list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry could not tell.
    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError>;
}

/// Tells whose keys a registry holds, and how they were digested.
#[async_trait]
pub trait KeyInventory: Send + Sync {
    /// How many keys that are not revoked were digested in which way, by [`DigestMethod::kind`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry could not tell.
    async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError>;

    /// Whose keys there are, ended ones too: by id, byte by byte, from after `after`, and at most `limit` of them, and at most
    /// a thousand.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry could not tell.
    async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError>;
}
