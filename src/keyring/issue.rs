//! New keys: issued, and put in the place of others.

use crate::access::AccountStatus;
use crate::audit::{KeyEvent, Revocation};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::delivery::{Delivery, Notice, NoticeKind};
use crate::key::{ApiKey, Environment, KeyId, UserId};

use crate::record::{FreshKey, KeyLevel, KeyRecord};
use crate::store::KeyRegistry;

use super::error::KeyringError;
use super::issued::{Grace, IssuedKey};
use super::keyring::Keyring;
use super::new_key::NewKey;

impl Keyring {
    /// Makes a key and stores its digest. This is the only time its secret can be had.
    ///
    /// A registry that is the directory of its owners looks at the owner's standing in the transaction that adds the key.
    /// Where the directory stands beside the registry, it is asked before and after, and a key whose owner has lost access
    /// in between is revoked again: for that moment it works, though nobody has seen its secret.
    ///
    /// # Errors
    ///
    /// [`KeyringError`]: what is asked for cannot be, the owner may not have it or has just lost it, the
    /// [authority](Self::acting_as) may not make it, the policy's number is reached, or the store or the random source
    /// failed. No key works then, save that after [`KeyringError::OutcomeUnknown`] there may be one whose secret nobody
    /// knows. Where issuing ends the keys before ([`KeyPolicy::Single`](crate::store::KeyPolicy::Single)), they may have ended.
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

    /// Puts a new key in the place of an active one, which ends now or after a grace. Everything but the secret, the
    /// id and the date of issue is carried over. Of two who rotate the same key, one wins.
    ///
    /// Without grace, no request that is checked after this has returned is accepted with the old key (R31). The owner is
    /// looked at as by [`issue`](Self::issue), and the [policy](Self::policy) is kept: with a grace, two keys count.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`], [`KeyringError::Ended`], [`KeyringError::Forbidden`] if the owner could not be
    /// issued such a key now, [`KeyringError::Denied`], [`KeyringError::NoGrace`], [`KeyringError::TooManyKeys`], or the
    /// store or the random source failed. The old key works as before then, save that after
    /// [`KeyringError::OutcomeUnknown`] it may have been replaced by one whose secret nobody knows, and that it has ended
    /// where its owner has just lost access.
    pub async fn rotate(&self, id: &KeyId, grace: Grace) -> Result<IssuedKey, KeyringError> {
        let old = self.get(id).await?.ok_or(KeyringError::NotFound)?;
        let now = self.clock.now();
        // A key of somebody else is refused by the registry, and nothing is told of its owner before.
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

    /// The key is made and stored: whatever becomes of its delivery, it is returned.
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

    /// Rights are never copied into a key, but a key for a project that is out of reach would wait for its owner to
    /// come back to it.
    pub(super) async fn owner_may_have(&self, owner: &UserId, level: &KeyLevel) -> Result<(), KeyringError> {
        match (self.standing_at(owner, level.project()).await?, level) {
            // Whoever is in good standing may hold a key for what they may do, be it nothing at the moment.
            (AccountStatus::Active { .. }, KeyLevel::User) => Ok(()),
            (AccountStatus::Active { role: Some(_) }, KeyLevel::Project(_)) => Ok(()),
            _ => Err(KeyringError::Forbidden),
        }
    }

    /// The same again, of a key that was made by a registry that is not the directory of its owners. Whoever took the owner's
    /// access away in between has revoked the keys that were there, and not this one.
    pub(super) async fn owner_may_still_have(&self, made: &KeyRecord) -> Result<(), KeyringError> {
        if self.registry.is_directory() {
            return Ok(());
        }
        let may = match self.owner_may_have(&made.owner, &made.level).await {
            Ok(()) => self.maker_may_still_manage(&made.owner).await,
            refused => refused,
        };
        let Err(refused) = may else { return Ok(()) };
        // Nobody ever learns its secret.
        let system = self.acting_as(Authority::System);
        match system.end(&made.id, Revocation::ByHand).await {
            Ok(_) => Err(refused),
            Err(KeyringError::Store(error)) => Err(KeyringError::OutcomeUnknown(error)),
            Err(error) => Err(error),
        }
    }
}
