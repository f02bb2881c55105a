//! Revokes keys by their secret, which the holder of the key or the finder of a leaked key sends.

use std::net::IpAddr;
use std::sync::Arc;

use super::error::KeyringError;
use super::keyring::Keyring;
use crate::audit::Revocation;
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::authority::Authority;
use crate::credentials::Credentials;
use crate::delivery::{Delivery, Notice, NoticeKind};
use crate::record::KeyRecord;
use crate::verifier::Verifier;

/// A key that was found by its secret and is revoked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExposedKey {
    /// Its record before it was revoked.
    pub record: Arc<KeyRecord>,
    /// Whether it was active until now.
    pub was_active: bool,
    /// Whether its owner was notified. This happens only if the key was active, and the keyring has a
    /// [delivery](Keyring::deliver).
    pub delivery: Delivery,
}

impl Keyring {
    /// Revokes the key with this secret, for the holder of the key, and notifies its owner if the key was active
    /// (R42). Returns `None` if there is no such key. Do not let the client learn which of both it was.
    ///
    /// The audit log names the key itself as the authority, whatever the keyring [acts as](Self::acting_as). No
    /// request that is checked after this returns is accepted with the key.
    ///
    /// `verifier` finds the key: pass your layer's. If it has a [throttle](Verifier::throttle), the attempts of
    /// `client` have a [budget of their own](crate::limit::KeyThrottle::self_revokes).
    ///
    /// # Errors
    ///
    /// [`RateLimited`](AuthErrorKind::RateLimited) if the budget is used up. An error with status 503 if a store
    /// failed; the key may or may not be revoked then.
    pub async fn revoke_by_secret(
        &self,
        verifier: &Verifier,
        secret: &str,
        client: Option<IpAddr>,
    ) -> Result<Option<ExposedKey>, AuthError> {
        let Some(key) = find(verifier, secret, client).await? else { return Ok(None) };
        let keyring = self.acting_as(Authority::Key(key.id.clone()));
        keyring.revoke_exposed(key, NoticeKind::SelfRevoked, Revocation::BySecret).await.map(Some)
    }

    /// Revokes the key with a secret that was found in a public place, and notifies its owner if the key was active
    /// (R42). Returns `None` if there is no such key.
    ///
    /// `url` is where the secret was found, if that is known. No request that is checked after this returns is
    /// accepted with the key.
    ///
    /// # Errors
    ///
    /// An error with status 503 if a store failed: repeat the call then. The store's error is the source.
    pub async fn revoke_leaked(
        &self,
        verifier: &Verifier,
        secret: &str,
        url: Option<String>,
    ) -> Result<Option<ExposedKey>, AuthError> {
        let Some(key) = find(verifier, secret, None).await? else { return Ok(None) };
        self.revoke_exposed(key, NoticeKind::Leaked { url }, Revocation::Leaked).await.map(Some)
    }

    async fn revoke_exposed(
        &self,
        record: Arc<KeyRecord>,
        kind: NoticeKind,
        why: Revocation,
    ) -> Result<ExposedKey, AuthError> {
        let was_active = record.is_active(self.now());
        let mut delivery = Delivery::None;
        if record.revoked_at.is_none() {
            let ended = self.end(&record.id, why).await.map_err(could_not_tell)?;
            if let Some(deliverer) = self.delivery.as_ref().filter(|_| was_active && ended) {
                delivery = self.in_time(deliverer.notify(&Notice::new(kind, &record))).await;
            }
        }
        Ok(ExposedKey { record, was_active, delivery })
    }
}

async fn find(
    verifier: &Verifier,
    secret: &str,
    client: Option<IpAddr>,
) -> Result<Option<Arc<KeyRecord>>, AuthError> {
    verifier.gate.find_leaked(&Credentials::new(secret), client).await
}

/// Converts a keyring's error for a caller who is not authenticated and must not learn more.
fn could_not_tell(error: KeyringError) -> AuthError {
    AuthError::new(AuthErrorKind::StoreFailed, None).with_source(error)
}
