//! [`Or`]: joins two schemes.

use std::fmt;
use std::sync::Arc;

use super::{BodyInterest, Describe, Draining, Scheme, Sender};
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::credentials::{Credentials, Head};
use crate::scheme_info::SchemeInfo;

/// Accepts either of two schemes, but not both at once; made by [`ApiKeyAuth::or`](crate::ApiKeyAuth::or).
///
/// If both find a credential in the head, even a broken one, the request is refused with 400 (R62).
pub struct Or<L, R> {
    // Shared, so that a clone of it clones neither.
    left: Arc<L>,
    right: Arc<R>,
}

impl<L, R> Or<L, R> {
    /// Joins two schemes, for your own routes that read credentials themselves. For a layer use
    /// [`ApiKeyAuth::or`](crate::ApiKeyAuth::or).
    pub fn new(left: L, right: R) -> Self {
        Self::of(Arc::new(left), right)
    }

    pub(crate) fn of(left: Arc<L>, right: R) -> Self {
        Self { left, right: Arc::new(right) }
    }
}

impl<L, R> Clone for Or<L, R> {
    fn clone(&self) -> Self {
        Self { left: Arc::clone(&self.left), right: Arc::clone(&self.right) }
    }
}

impl<L: fmt::Debug, R: fmt::Debug> fmt::Debug for Or<L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, right } = self;
        f.debug_struct("Or").field("left", left).field("right", right).finish()
    }
}

impl<L: Describe, R: Describe> Describe for Or<L, R> {
    fn describe_each<'a>(&'a self, each: &mut dyn FnMut(&'a SchemeInfo)) {
        self.left.describe_each(each);
        self.right.describe_each(each);
    }
}

impl<B: Send, L: Scheme<B>, R: Scheme<B>> Scheme<B> for Or<L, R> {
    fn read_head<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, AuthError> {
        // Usually one of them finds nothing, and the other's answer is returned as it is.
        let right = self.right.read_head(head);
        if let Ok(None) = right {
            return self.left.read_head(head);
        }
        match self.left.read_head(head) {
            Ok(None) => right,
            Ok(Some(left)) => Err(AuthError::new(AuthErrorKind::ConflictingCredentials, left.scheme())),
            Err(left) => Err(left.of_kind(AuthErrorKind::ConflictingCredentials)),
        }
    }

    fn body_interest(&self, head: Head<'_>) -> Result<BodyInterest, AuthError> {
        let most = self.left.body_interest(head)?.max(self.right.body_interest(head)?);
        // If there are other schemes, a body of another type counts as no credential, not as a broken one.
        Ok(if most == BodyInterest::OtherType { BodyInterest::None } else { most })
    }

    async fn read_body(
        &self,
        head: Head<'_>,
        sender: &Sender,
        body: B,
    ) -> Result<(Option<Credentials<'static>>, B), AuthError> {
        let wants = |interest| interest == BodyInterest::Wanted;
        let (left, body) = match wants(self.left.body_interest(head)?) {
            true => self.left.read_body(head, sender, body).await?,
            false => (None, body),
        };
        let (right, body) = match wants(self.right.body_interest(head)?) {
            true => self.right.read_body(head, sender, body).await?,
            false => (None, body),
        };
        match (left, right) {
            (Some(null), other) | (other, Some(null)) if null.are_null() => Ok((other.or(Some(null)), body)),
            (Some(left), Some(_)) => {
                Err(AuthError::new(AuthErrorKind::ConflictingCredentials, left.scheme()).after_body())
            }
            (left, right) => Ok((left.or(right), body)),
        }
    }

    fn drain(&self, sender: &Sender, body: B) -> Result<Draining, B> {
        self.left.drain(sender, body).or_else(|body| self.right.drain(sender, body))
    }
}
