//! Stores put together from parts.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Directory, KeyStore, Project, StoreError};
use crate::access::{Role, Standing};
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;

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

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        self.0.warm(digest)
    }
}

#[async_trait]
impl<K: KeyStore> Directory for NoProjects<K> {
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

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        self.0.warm(digest)
    }
}

#[async_trait]
impl<K: KeyStore, D: Directory> Directory for (K, D) {
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
