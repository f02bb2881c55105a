//! Who is signed in: the host's business, asked at every request.

use std::fmt;

use async_trait::async_trait;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use tower_api_key::key::UserId;
use tower_api_key::store::StoreError;

/// The host's session, as the portal asks for it.
///
/// Both questions are asked with the head of the request as the router got it: what a layer around the portal has put
/// into its extensions is there, and `OriginalUri` says where people wanted to go.
#[async_trait]
pub trait PortalSession: Send + Sync + 'static {
    /// Who sends this request.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the session could not be read: 503, and nobody is taken for signed out.
    async fn user(&self, head: &Parts) -> Result<SignedIn, StoreError>;

    /// Whether this person has proven lately who they are. Asked before a key is made, rotated or restricted; the answer
    /// [`Fresh`](Freshness::Fresh) to everybody is a host's decision, and not a default.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the session could not be read: 503.
    async fn freshness(&self, head: &Parts, user: &PortalUser) -> Result<Freshness, StoreError>;
}

/// Whether somebody is signed in.
#[derive(Debug)]
pub enum SignedIn {
    /// This person.
    User(PortalUser),
    /// Nobody.
    Nobody {
        /// Where to sign in: an address that the host has made, which may say where to come back to. Who comes back to the
        /// page of a form that they have sent finds in it what they had typed.
        sign_in_at: String,
    },
}

/// Whether somebody has proven lately who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// They have.
    Fresh,
    /// Not lately enough.
    Stale {
        /// Where to do so, such as by giving the password again, and then come back to the same page.
        confirm_at: String,
    },
}

/// Somebody who is signed in.
pub struct PortalUser {
    id: UserId,
    name: String,
    secret: [u8; 32],
}

impl PortalUser {
    /// The owner of the keys that are shown and made; what to call them; and their session's secret: 32 bytes drawn
    /// at random when the session began, kept in it, and of no other session. Forms are bound to it.
    #[must_use]
    pub fn new(id: UserId, name: impl Into<String>, session_secret: &[u8; 32]) -> Self {
        // Derived, so that nothing of the host's own secret can be learned from a page.
        let secret = Sha256::new().chain_update("tower-api-key portal\0").chain_update(session_secret);
        Self { id, name: name.into(), secret: secret.finalize().into() }
    }

    /// Whose keys they are.
    #[must_use]
    pub fn id(&self) -> &UserId {
        &self.id
    }

    /// What to call them.
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
