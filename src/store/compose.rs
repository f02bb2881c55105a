//! Combinations of stores: [`NoProjects`], pairs, and `Arc`.

use std::sync::Arc;

use async_trait::async_trait;

use super::proxy::RegistryProxy;
use super::{Directory, KeyRegistry, KeyStore, Project, StoreError};
use crate::role::{AccountStatus, Role};

use crate::clock::Timestamp;
use crate::key::{KeyDigest, ProjectId, UserId};

use crate::record::KeyRecord;
use crate::store::ProjectDirectory;
use crate::store::traits::CachedKey;

/// Turns a key store into one for an API without projects: the account of every owner counts as active, with the
/// role of an owner. A request that names a project is refused with 403.
///
/// Tell schemes that require a project that it is optional
/// ([`ApiKeyHeader::project_optional`](crate::scheme::ApiKeyHeader::project_optional),
/// [`JsonBody::project_optional`](crate::scheme::JsonBody::project_optional)).
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

    fn account_status_cached(&self, _user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        Some(without_projects(project))
    }
}

#[async_trait]
impl<K: Send + Sync + 'static> ProjectDirectory for NoProjects<K> {
    async fn projects(&self, _user: &UserId) -> Result<Vec<Project>, StoreError> {
        Ok(Vec::new())
    }
}

fn without_projects(project: Option<&ProjectId>) -> AccountStatus {
    AccountStatus::Active { role: project.is_none().then_some(Role::Owner) }
}

/// A key store and a separate directory.
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

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        self.1.account_status_cached(user, project)
    }
}

#[async_trait]
impl<K: Send + Sync + 'static, D: ProjectDirectory> ProjectDirectory for (K, D) {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.1.projects(user).await
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

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        Directory::account_status_cached(&**self, user, project)
    }
}

#[async_trait]
impl<D: ProjectDirectory + ?Sized> ProjectDirectory for Arc<D> {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        (**self).projects(user).await
    }
}

impl<K: KeyRegistry> RegistryProxy for NoProjects<K> {
    type Inner = K;

    fn inner(&self) -> &K {
        &self.0
    }

    fn is_directory(&self) -> bool {
        false
    }
}

impl<K: KeyRegistry, D: Send + Sync + 'static> RegistryProxy for (K, D) {
    type Inner = K;

    fn inner(&self) -> &K {
        &self.0
    }

    fn is_directory(&self) -> bool {
        false
    }
}

impl<K: KeyRegistry + ?Sized> RegistryProxy for Arc<K> {
    type Inner = K;

    fn inner(&self) -> &K {
        self
    }
}
