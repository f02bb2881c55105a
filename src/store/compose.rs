//! Stores put together from parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Directory, Ended, KeyCount, KeyPage, KeyQuery, KeyRegistry, KeyStore, Project, RegistryError, StoreError,
    Terms, Updated,
};
use crate::access::{AccountStatus, Role};
use crate::audit::{AuditEntry, Revocation};
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, ProjectId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::{FreshKey, KeyRecord};
use crate::store::traits::CachedKey;
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

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        self.0.find_cached(digest)
    }
}

#[async_trait]
impl<K: Send + Sync + 'static> Directory for NoProjects<K> {
    async fn account_status(
        &self,
        _user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        Ok(without_projects(project))
    }

    async fn projects(&self, _user: &UserId) -> Result<Vec<Project>, StoreError> {
        Ok(Vec::new())
    }

    fn account_status_cached(&self, _user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        Some(without_projects(project))
    }
}

fn without_projects(project: Option<&ProjectId>) -> AccountStatus {
    AccountStatus::Active { role: project.is_none().then_some(Role::Owner) }
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

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        self.0.find_cached(digest)
    }
}

#[async_trait]
impl<K: Send + Sync + 'static, D: Directory> Directory for (K, D) {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.1.account_status(user, project).await
    }

    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.1.projects(user).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        self.1.account_status_cached(user, project)
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

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        KeyStore::find_cached(&**self, digest)
    }
}

#[async_trait]
impl<D: Directory + ?Sized> Directory for Arc<D> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        (**self).account_status(user, project).await
    }

    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        (**self).projects(user).await
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        Directory::account_status_cached(&**self, user, project)
    }
}

/// Passes a registry through: what is put together from parts is managed like what it holds.
macro_rules! pass_registry_through {
    ($this:ident => $registry:expr, directory: $directory:expr; impl[$($generics:tt)*] for $whole:ty) => {
        #[async_trait]
        impl<$($generics)*> KeyRegistry for $whole {
            fn is_directory(&self) -> bool {
                let $this = self;
                $directory && $registry.is_directory()
            }

            async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
                let $this = self;
                $registry.insert(key, terms).await
            }

            async fn insert_all(
                &self,
                keys: Vec<KeyRecord>,
                terms: &Terms,
            ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
                let $this = self;
                $registry.insert_all(keys, terms).await
            }

            async fn replace(
                &self,
                old: &KeyId,
                fresh: FreshKey,
                old_ends: Timestamp,
                terms: &Terms,
            ) -> Result<KeyRecord, RegistryError> {
                let $this = self;
                $registry.replace(old, fresh, old_ends, terms).await
            }

            async fn end(
                &self,
                id: &KeyId,
                why: Revocation,
                now: Timestamp,
                terms: &Terms,
            ) -> Result<Ended, RegistryError> {
                let $this = self;
                $registry.end(id, why, now, terms).await
            }

            async fn update(
                &self,
                id: &KeyId,
                update: &KeyUpdate,
                now: Timestamp,
                terms: &Terms,
            ) -> Result<Updated, RegistryError> {
                let $this = self;
                $registry.update(id, update, now, terms).await
            }

            async fn rehash(
                &self,
                id: &KeyId,
                from: &KeyDigest,
                to: &KeyDigest,
                method: &DigestMethod,
                now: Timestamp,
            ) -> Result<(), RegistryError> {
                let $this = self;
                $registry.rehash(id, from, to, method, now).await
            }

            async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
                let $this = self;
                $registry.get(id).await
            }

            async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
                let $this = self;
                $registry.list(owner, query).await
            }

            async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
                let $this = self;
                $registry.page(owner, query).await
            }

            async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
                let $this = self;
                $registry.count(owner, query, most).await
            }

            async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError> {
                let $this = self;
                $registry.count_by_digest_method().await
            }

            async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
                let $this = self;
                $registry.history(id, limit).await
            }

            async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
                let $this = self;
                $registry.record_usage(batch).await
            }

            async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
                let $this = self;
                $registry.usage(keys).await
            }

            async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
                let $this = self;
                $registry.owners(after, limit).await
            }
        }
    };
}

pass_registry_through!(whole => whole.0, directory: false; impl[K: KeyRegistry] for NoProjects<K>);
pass_registry_through!(whole => whole.0, directory: false; impl[K: KeyRegistry, D: Send + Sync + 'static] for (K, D));
pass_registry_through!(whole => (**whole), directory: true; impl[K: KeyRegistry + ?Sized] for Arc<K>);
#[cfg(feature = "cache")]
pass_registry_through!(whole => whole.store(), directory: true; impl[S: KeyRegistry] for super::Cached<S>);
