//! [`PortalSession`]: the host's session, which says at every request who is signed in.

use std::fmt;

use async_trait::async_trait;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use tower_api_key::UserId;
use tower_api_key::store::StoreError;

/// The host's session.
///
/// Both methods get the head of the request as the router got it: it includes extensions set by a layer around the
/// portal, and `OriginalUri` is the page that was requested.
#[async_trait]
pub trait PortalSession: Send + Sync + 'static {
    /// Returns the user who sends this request.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the session could not be read: 503, and the user is not treated as signed out.
    async fn user(&self, head: &Parts) -> Result<SignedIn, StoreError>;

    /// Whether this user has signed in recently. It is called before a key is made, rotated or restricted. There is
    /// no default: a host that always returns [`Fresh`](Freshness::Fresh) must decide so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the session could not be read: 503.
    async fn freshness(&self, head: &Parts, user: &PortalUser) -> Result<Freshness, StoreError>;
}

/// Whether somebody is signed in.
#[derive(Debug)]
#[non_exhaustive]
pub enum SignedIn {
    /// This user.
    User(PortalUser),
    /// Nobody.
    Nobody {
        /// The URL of the host's sign-in, which may include where to return to. If the user returns to the page of
        /// a form that they have sent, it contains what they typed.
        sign_in_at: String,
    },
}

/// Whether the user has signed in recently.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Recently enough.
    Fresh,
    /// Not recently enough.
    Stale {
        /// The URL at which to confirm, such as by giving the password again, before returning to the same page.
        confirm_at: String,
    },
}

/// A signed-in user.
pub struct PortalUser {
    id: UserId,
    name: String,
    secret: [u8; 32],
}

impl PortalUser {
    /// Creates a user: the owner of the keys, the name to show, and the secret of the session: 32 random bytes,
    /// made when the session began, stored in it, and used by no other session. Forms are bound to it.
    #[must_use]
    pub fn new(id: UserId, name: impl Into<String>, session_secret: &[u8; 32]) -> Self {
        // A derived secret, so that a page reveals nothing about the host's own secret.
        let secret = Sha256::new().chain_update("tower-api-key portal\0").chain_update(session_secret);
        Self { id, name: name.into(), secret: secret.finalize().into() }
    }

    /// The owner of the keys.
    #[must_use]
    pub fn id(&self) -> &UserId {
        &self.id
    }

    /// The name to show.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for PortalUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortalUser").field("id", &self.id).finish_non_exhaustive()
    }
}
