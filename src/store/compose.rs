//! Stores put together from parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Amended, Directory, Ended, KeyCount, KeyLedger, KeyPage, KeyQuery, KeyStore, LedgerError, Project,
    StoreError, Terms,
};
use crate::access::{Role, Standing};
use crate::audit::{AuditEntry, Revocation};
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, ProjectId, UserId};
use crate::key_update::Amendment;
use crate::record::{FreshKey, KeyRecord};
use crate::usage::Usage;

/// A key store for an API that has no projects, said out loud: every owner of a key is in good standing and owns
/// what there is; a named project is refused with 403.
///
/// Turn off the demand for projects in the schemes that make it
/// ([`ApiKeyHeader::requires_project`](crate::scheme::ApiKeyHeader::requires_project),
/// [`JsonBody::requires_project`](crate::scheme::JsonBody::requires_project)).
#[derive(Clone, Debug)]
pub struct NoProjects<K>(pub K);

#[async_trait]
impl<K: KeyStore> KeyStore for NoProjects<K> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find(digest).await
    }

    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find_at(digest, now).await
    }

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        self.0.warm(digest)
    }
}

#[async_trait]
impl<K: Send + Sync + 'static> Directory for NoProjects<K> {
    async fn standing(&self, _user: &UserId, project: Option<&ProjectId>) -> Result<Standing, StoreError> {
        Ok(without_projects(project))
    }

    async fn projects(&self, _user: &UserId) -> Result<Vec<Project>, StoreError> {
        Ok(Vec::new())
    }

    fn warm(&self, _user: &UserId, project: Option<&ProjectId>) -> Option<Standing> {
        Some(without_projects(project))
    }
}

fn without_projects(project: Option<&ProjectId>) -> Standing {
    Standing::Active { role: project.is_none().then_some(Role::Owner) }
}

/// Keys from one place, people and projects from another.
#[async_trait]
impl<K: KeyStore, D: Directory> KeyStore for (K, D) {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find(digest).await
    }

    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find_at(digest, now).await
    }

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        self.0.warm(digest)
    }
}

#[async_trait]
impl<K: Send + Sync + 'static, D: Directory> Directory for (K, D) {
    async fn standing(&self, user: &UserId, project: Option<&ProjectId>) -> Result<Standing, StoreError> {
        self.1.standing(user, project).await
    }

    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.1.projects(user).await
    }

    fn warm(&self, user: &UserId, project: Option<&ProjectId>) -> Option<Standing> {
        self.1.warm(user, project)
    }
}

#[async_trait]
impl<K: KeyStore + ?Sized> KeyStore for Arc<K> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        (**self).find(digest).await
    }

    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        (**self).find_at(digest, now).await
    }

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        KeyStore::warm(&**self, digest)
    }
}

#[async_trait]
impl<D: Directory + ?Sized> Directory for Arc<D> {
    async fn standing(&self, user: &UserId, project: Option<&ProjectId>) -> Result<Standing, StoreError> {
        (**self).standing(user, project).await
    }

    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        (**self).projects(user).await
    }

    fn warm(&self, user: &UserId, project: Option<&ProjectId>) -> Option<Standing> {
        Directory::warm(&**self, user, project)
    }
}

/// Passes a ledger through: what is put together from parts is managed like what it holds.
macro_rules! pass_ledger_through {
    ($this:ident => $ledger:expr, directory: $directory:expr; impl[$($generics:tt)*] for $whole:ty) => {
        #[async_trait]
        impl<$($generics)*> KeyLedger for $whole {
            fn is_directory(&self) -> bool {
                let $this = self;
                $directory && $ledger.is_directory()
            }

            async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), LedgerError> {
                let $this = self;
                $ledger.insert(key, terms).await
            }

            async fn insert_all(
                &self,
                keys: Vec<KeyRecord>,
                terms: &Terms,
            ) -> Result<Vec<Result<(), LedgerError>>, StoreError> {
                let $this = self;
                $ledger.insert_all(keys, terms).await
            }

            async fn replace(
                &self,
                old: &KeyId,
                fresh: FreshKey,
                old_ends: Timestamp,
                terms: &Terms,
            ) -> Result<KeyRecord, LedgerError> {
                let $this = self;
                $ledger.replace(old, fresh, old_ends, terms).await
            }

            async fn end(
                &self,
                id: &KeyId,
                why: Revocation,
                now: Timestamp,
                terms: &Terms,
            ) -> Result<Ended, LedgerError> {
                let $this = self;
                $ledger.end(id, why, now, terms).await
            }

            async fn amend(
                &self,
                id: &KeyId,
                amendment: &Amendment,
                now: Timestamp,
                terms: &Terms,
            ) -> Result<Amended, LedgerError> {
                let $this = self;
                $ledger.amend(id, amendment, now, terms).await
            }

            async fn rehash(
                &self,
                id: &KeyId,
                from: &KeyDigest,
                to: &KeyDigest,
                method: &DigestMethod,
                now: Timestamp,
            ) -> Result<(), LedgerError> {
                let $this = self;
                $ledger.rehash(id, from, to, method, now).await
            }

            async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
                let $this = self;
                $ledger.get(id).await
            }

            async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, LedgerError> {
                let $this = self;
                $ledger.list(owner, query).await
            }

            async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, LedgerError> {
                let $this = self;
                $ledger.page(owner, query).await
            }

            async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, LedgerError> {
                let $this = self;
                $ledger.count(owner, query, most).await
            }

            async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError> {
                let $this = self;
                $ledger.count_by_digest_method().await
            }

            async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
                let $this = self;
                $ledger.history(id, limit).await
            }

            async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
                let $this = self;
                $ledger.record_usage(batch).await
            }

            async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
                let $this = self;
                $ledger.usage(keys).await
            }

            async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
                let $this = self;
                $ledger.owners(after, limit).await
            }
        }
    };
}

pass_ledger_through!(whole => whole.0, directory: false; impl[K: KeyLedger] for NoProjects<K>);
pass_ledger_through!(whole => whole.0, directory: false; impl[K: KeyLedger, D: Send + Sync + 'static] for (K, D));
pass_ledger_through!(whole => (**whole), directory: true; impl[K: KeyLedger + ?Sized] for Arc<K>);
#[cfg(feature = "cache")]
pass_ledger_through!(whole => whole.store(), directory: true; impl[S: KeyLedger] for super::Cached<S>);
