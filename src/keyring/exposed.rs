//! The end of a key whose secret somebody sends: its holder, or a stranger who found it.

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

/// A key that was found by its secret, and has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExposedKey {
    /// What the store had of it before.
    pub record: Arc<KeyRecord>,
    /// Whether it worked until now.
    pub was_active: bool,
    /// Whether its owner was told: of a key that worked, where the keyring has a [delivery](Keyring::deliver).
    pub delivery: Delivery,
}

impl Keyring {
    /// Ends the key of this secret, by whoever holds it, and tells its owner if it worked until now (R42). `None` if there is no
    /// such key: nobody who sends it should learn that.
    ///
    /// Whatever the keyring [acts as](Self::acting_as), the trail names the key itself. No request that is checked after this
    /// has returned is accepted with it.
    ///
    /// `verifier` finds the key: pass the one of your layer. Where it has a [throttle](Verifier::throttle), attempts of
    /// `client` have a [budget of their own](crate::limit::KeyThrottle::self_revokes).
    ///
    /// # Errors
    ///
    /// [`RateLimited`](AuthErrorKind::RateLimited) beyond that budget; of status 503 where a store could not tell: nothing is
    /// certain then.
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

    /// Ends the key of a secret that was found where others can read it, whatever its state, and tells its owner if it worked
    /// until now (R42). `None` if there is no such key.
    ///
    /// `url` is where it was found, if that is known. No request that is checked after this has returned is accepted with it.
    ///
    /// # Errors
    ///
    /// Of status 503, where a store could not tell: repeat it then. What the store said is the error's source.
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

/// What a keyring's error means where nobody calls that may know more.
fn could_not_tell(error: KeyringError) -> AuthError {
    AuthError::new(AuthErrorKind::StoreFailed, None).with_source(error)
}
