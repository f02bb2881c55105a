//! Principals for handler tests, made without a key.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::gate::Principal;
use crate::key::{Environment, KeyDigest, KeyId, ProjectId, UserId};
use crate::record::{KeyLevel, KeyRecord};
use crate::role::Role;
use crate::scheme_info::SchemeInfo;

/// Starts to build a principal. The defaults are a user-level live key of `owner`, who owns their account, and no
/// project.
///
/// Put it into the request's extensions, where the layer would put it. Do not use the layer in the same test,
/// because it removes a principal that it finds there.
///
#[cfg_attr(feature = "axum", doc = "```")]
#[cfg_attr(not(feature = "axum"), doc = "```ignore")]
/// use axum::{Extension, Router, routing::get};
/// use tower_api_key::{Principal, Role, UserId, test_util};
///
/// let carol = test_util::principal(UserId::new("carol")?).role(Role::ReadOnly).build();
/// let app: Router = Router::new()
///     .route("/", get(async |who: Principal| who.user_id().to_string()))
///     .layer(Extension(carol));
/// # Ok::<(), tower_api_key::key::ParseIdError>(())
/// ```
pub fn principal(owner: UserId) -> PrincipalBuilder {
    PrincipalBuilder {
        id: None,
        owner,
        level: KeyLevel::User,
        environment: Environment::Live,
        name: "test".to_owned(),
        scopes: Vec::new(),
        metadata: Vec::new(),
        expires_at: None,
        project: None,
        role: Role::Owner,
        scheme: None,
    }
}

/// A principal in the making; see [`principal`].
#[derive(Clone, Debug)]
#[must_use = "it becomes a principal by `build`"]
pub struct PrincipalBuilder {
    id: Option<KeyId>,
    owner: UserId,
    level: KeyLevel,
    environment: Environment,
    name: String,
    scopes: Vec<String>,
    metadata: Vec<(String, String)>,
    expires_at: Option<Timestamp>,
    project: Option<ProjectId>,
    role: Role,
    scheme: Option<SchemeInfo>,
}

impl PrincipalBuilder {
    /// As if it came with the key of this record.
    pub fn of_key(record: &KeyRecord) -> Self {
        let KeyRecord { id, owner, level, environment, name, scopes, metadata, expires_at, .. } =
            record.clone();
        let scopes = scopes.into_iter().collect();
        let metadata = metadata.into_iter().collect();
        let id = Some(id);
        Self { id, level, environment, name, scopes, metadata, expires_at, ..principal(owner) }
    }

    /// The key's id; `key_test` if none is given.
    pub fn key_id(mut self, id: KeyId) -> Self {
        self.id = Some(id);
        self
    }

    /// The key's name.
    pub fn key_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With a key for one project, which is then the request's.
    pub fn project_level(mut self, project: ProjectId) -> Self {
        self.level = KeyLevel::Project(project);
        self
    }

    /// With a request that names a project.
    pub fn project(mut self, project: ProjectId) -> Self {
        self.project = Some(project);
        self
    }

    /// What the owner may do.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Live or test.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Adds scopes.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Adds an entry of metadata.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// When the key ends.
    pub fn expires_at(mut self, end: impl Into<Timestamp>) -> Self {
        self.expires_at = Some(end.into());
        self
    }

    /// The scheme through which it came.
    pub fn through(mut self, scheme: &SchemeInfo) -> Self {
        self.scheme = Some(scheme.clone());
        self
    }

    /// The principal, as the verifier would have made it: with a project-level key the project is the key's, and the
    /// role at most [`Role::Full`].
    #[must_use]
    pub fn build(self) -> Principal {
        let (project, role) = match self.level.project() {
            Some(own) => (Some(own.clone()), self.role.min(Role::Full)),
            None => (self.project, self.role),
        };
        let id = self.id.unwrap_or_else(KeyId::of_a_test);
        let mut record =
            KeyRecord::new(id, KeyDigest::from_bytes([0; 32]), self.owner, Timestamp::from_secs(0));
        record.level = self.level;
        record.environment = self.environment;
        record.name = self.name;
        record.scopes = self.scopes.into_iter().collect();
        record.metadata = self.metadata.into_iter().collect();
        record.expires_at = self.expires_at;
        Principal::of_a_test(Arc::new(record), project, role, self.scheme)
    }
}
