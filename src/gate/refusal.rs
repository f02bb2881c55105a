//! [`Refusal`]: why a check refuses, before a scheme's message is added.

use std::error::Error;
use std::sync::Arc;

use crate::auth_error::{AuthError, AuthErrorKind, Wait};
use crate::credentials::Claims;
use crate::record::KeyRecord;
use crate::restriction::Verdict;
use crate::store::StoreError;

/// A refusal without a scheme.
pub(crate) struct Refusal {
    pub(crate) kind: AuthErrorKind,
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
    pub(super) wait: Option<Wait>,
    /// The refused key, once it is known.
    pub(super) key: Option<Arc<KeyRecord>>,
}

impl Refusal {
    fn new(kind: AuthErrorKind) -> Self {
        Self { kind, source: None, wait: None, key: None }
    }

    /// Adds the key.
    #[cold]
    pub(super) fn of(self, key: Arc<KeyRecord>) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Adds the scheme through which the claims came, and so its message.
    #[cold]
    pub(super) fn said(self, claims: &Claims<'_>) -> AuthError {
        let mut error = AuthError::new(self.kind, claims.scheme());
        if let Some(wait) = self.wait {
            error = error.with_wait(wait);
        }
        if let Some(key) = self.key {
            error = error.with_about((key.id.clone(), key.environment));
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl From<AuthErrorKind> for Refusal {
    fn from(kind: AuthErrorKind) -> Self {
        Self::new(kind)
    }
}

impl From<Wait> for Refusal {
    fn from(wait: Wait) -> Self {
        Self { wait: Some(wait), ..Self::new(AuthErrorKind::RateLimited) }
    }
}

impl From<Verdict> for Refusal {
    fn from(source: Verdict) -> Self {
        Self { source: Some(Box::new(source)), ..Self::new(AuthErrorKind::Restricted) }
    }
}

impl From<StoreError> for Refusal {
    fn from(source: StoreError) -> Self {
        let kind = match source {
            StoreError::Timeout => AuthErrorKind::StoreTimeout,
            _ => AuthErrorKind::StoreFailed,
        };
        Self { source: Some(Box::new(source)), ..Self::new(kind) }
    }
}
