//! Why the verifier says no, before it is put in a scheme's words.

use std::error::Error;

use crate::error::{AuthErrorKind, Wait};
use crate::restriction::Verdict;
use crate::store::StoreError;

/// A refusal before it knows its scheme.
pub(super) struct Refusal {
    pub(super) kind: AuthErrorKind,
    pub(super) source: Option<Box<dyn Error + Send + Sync>>,
    pub(super) wait: Option<Wait>,
}

impl From<AuthErrorKind> for Refusal {
    fn from(kind: AuthErrorKind) -> Self {
        Self { kind, source: None, wait: None }
    }
}

impl From<Wait> for Refusal {
    fn from(wait: Wait) -> Self {
        Self { kind: AuthErrorKind::RateLimited, source: None, wait: Some(wait) }
    }
}

impl From<Verdict> for Refusal {
    fn from(source: Verdict) -> Self {
        Self { kind: AuthErrorKind::Restricted, source: Some(Box::new(source)), wait: None }
    }
}

impl From<StoreError> for Refusal {
    fn from(source: StoreError) -> Self {
        let kind = match source {
            StoreError::Timeout => AuthErrorKind::StoreTimeout,
            _ => AuthErrorKind::StoreFailed,
        };
        Self { kind, source: Some(Box::new(source)), wait: None }
    }
}
