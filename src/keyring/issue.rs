//! Issuing and rotating keys.

use crate::audit::{KeyEvent, Revocation};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::delivery::{Delivery, Notice, NoticeKind};
use crate::key::{ApiKey, Environment, KeyId, UserId};
use crate::role::AccountStatus;

use crate::record::{FreshKey, KeyLevel, KeyRecord};
use crate::store::KeyRegistry;

use super::error::KeyringError;
use super::issued::{Grace, IssuedKey};
use super::keyring::Keyring;
use super::new_key::NewKey;

impl Keyring {
    /// Issues a key and stores its digest. This is the only time that its secret is available.
    ///
    /// If the registry is also the directory, it checks the owner's account in the transaction that adds the key.
    /// If the directory is separate, it is asked before and after. A key whose owner has lost access in between is
    /// revoked again: it is active for that moment, but nobody has seen its secret.
    ///
    /// # Errors
    ///
    /// A [`KeyringError`] if the key is not valid, if the owner or the [authority](Self::acting_as) may not have it
    /// made, if the policy's maximum is reached, or if the store or the random source failed. No key was issued
    /// then, except that after [`KeyringError::OutcomeUnknown`] there may be one whose secret nobody knows. With
    /// [`KeyPolicy::Single`](crate::KeyPolicy::Single), the earlier keys may already have been revoked.
    pub async fn issue(&self, new: NewKey) -> Result<IssuedKey, KeyringError> {
        let now = self.clock.now();
        let new = new.check(now)?;
        self.owner_may_have(&new.owner, &new.level).await?;
        let (key, fresh) = self.make(new.environment, now)?;
        let record = new.into_record(fresh);
        self.change(self.registry.insert(record.clone(), &self.terms())).await?;
        self.changed(now, &record.id, KeyEvent::Issued);
        self.owner_may_still_have(&record).await?;
        Ok(self.delivered(key, record, NoticeKind::Issued).await)
    }

    /// Replaces an active key by a new one. The old key ends now, or after a grace period. The new key has the same
    /// properties, except for the secret, the id and the date of issue. If two calls rotate the same key, one of
    /// them fails.
    ///
    /// Without a grace period, no request that is checked after this returns is accepted with the old key (R31).
    /// The owner is checked as in [`issue`](Self::issue), and the [policy](Self::policy) applies: during a grace
    /// period both keys count.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`], [`KeyringError::Ended`], [`KeyringError::Forbidden`] if the owner could not be
    /// issued such a key now, [`KeyringError::Denied`], [`KeyringError::NoGrace`], [`KeyringError::TooManyKeys`],
    /// or the store or the random source failed. The old key works as before then, with two exceptions: after
    /// [`KeyringError::OutcomeUnknown`] it may have been replaced by a key whose secret nobody knows, and it has
    /// ended if its owner has just lost access.
    pub async fn rotate(&self, id: &KeyId, grace: Grace) -> Result<IssuedKey, KeyringError> {
        let old = self.get(id).await?.ok_or(KeyringError::NotFound)?;
        let now = self.clock.now();
        // The registry refuses a key of somebody else. Until then, the answer must not depend on that key's owner.
        let own = self.behalf.as_ref().is_none_or(|owner| *owner == old.owner);
        if own && !self.registry.is_directory() {
            self.owner_may_have(&old.owner, &old.level).await?;
        }
        let (key, fresh) = self.make(old.environment, now)?;
        let record = self.change(self.registry.replace(id, fresh, grace.end(now), &self.terms())).await?;
        self.changed(now, id, KeyEvent::ReplacedBy(record.id.clone()));
        self.changed(now, &record.id, KeyEvent::Replaces(id.clone()));
        self.owner_may_still_have(&record).await?;
        Ok(self.delivered(key, record, NoticeKind::Rotated { old: old.id }).await)
    }

    pub(super) fn make(
        &self,
        environment: Environment,
        now: Timestamp,
    ) -> Result<(ApiKey, FreshKey), KeyringError> {
        let key = self.format.generate(environment)?;
        let (text, newest) = (key.expose_secret(), self.digests.newest());
        let fresh = FreshKey {
            id: KeyId::generate()?,
            digest: newest.digest(text),
            digested_by: newest.method(),
            prefix: self.format.prefix(environment).to_owned(),
            last4: text.get(text.len().saturating_sub(4)..).unwrap_or_default().to_owned(),
            created_at: now,
        };
        Ok((key, fresh))
    }

    /// Delivers a key that was stored, and returns it even if the delivery fails.
    pub(super) async fn delivered(&self, key: ApiKey, record: KeyRecord, kind: NoticeKind) -> IssuedKey {
        let notice = Notice::new(kind, &record);
        let delivery = match &self.delivery {
            None => Delivery::None,
            Some(delivery) => self.in_time(delivery.deliver(&key, &notice)).await,
        };
        IssuedKey::new(key, record, delivery)
    }

    pub(super) async fn in_time(&self, delivering: impl Future<Output = Delivery>) -> Delivery {
        tokio::time::timeout(self.store_deadline, delivering).await.unwrap_or(Delivery::Failed)
    }

    /// Checks that the owner may have a key of this level now. Otherwise a key for a project that the owner cannot
    /// access would start to work when the owner gets access.
    pub(super) async fn owner_may_have(&self, owner: &UserId, level: &KeyLevel) -> Result<(), KeyringError> {
        match (self.standing_at(owner, level.project()).await?, level) {
            // Every user with an active account may have a user-level key, even if they have no access to any
            // project yet.
            (AccountStatus::Active { .. }, KeyLevel::User) => Ok(()),
            (AccountStatus::Active { role: Some(_) }, KeyLevel::Project(_)) => Ok(()),
            _ => Err(KeyringError::Forbidden),
        }
    }

    /// Checks the owner again after the key was added, if the registry is not the directory. If the owner lost
    /// access in the meantime, that change revoked only the keys that existed then, and not this one.
    pub(super) async fn owner_may_still_have(&self, made: &KeyRecord) -> Result<(), KeyringError> {
        if self.registry.is_directory() {
            return Ok(());
        }
        let may = match self.owner_may_have(&made.owner, &made.level).await {
            Ok(()) => self.maker_may_still_manage(&made.owner).await,
            refused => refused,
        };
        let Err(refused) = may else { return Ok(()) };
        // The secret is dropped, so nobody learns it.
        let system = self.acting_as(Authority::System);
        match system.end(&made.id, Revocation::ByHand).await {
            Ok(_) => Err(refused),
            Err(KeyringError::Store(error)) => Err(KeyringError::OutcomeUnknown(error)),
            Err(error) => Err(error),
        }
    }
}
