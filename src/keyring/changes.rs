//! Updates and revocation of existing keys.

use crate::audit::{KeyEvent, Revocation};
use crate::authority::Authority;

use crate::key::{KeyId, UserId};
use crate::key_update::KeyUpdate;
use crate::observer::KeyChange;
use crate::record::KeyRecord;
use crate::restriction::Restrictions;
use crate::store::{KeyRegistry, RegistryError};

use super::error::KeyringError;
use super::keyring::Keyring;
use super::name;

impl Keyring {
    /// Revokes a key for good. Revoking it again changes nothing and is not an error (R39).
    ///
    /// No request that is checked after this returns is accepted with the key (R42). This is one transaction of the
    /// registry, and waits for nothing else.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`], [`KeyringError::Denied`], or an error of the store, after which you can repeat
    /// the call.
    pub async fn revoke(&self, id: &KeyId) -> Result<(), KeyringError> {
        self.end(id, Revocation::ByHand).await.map(drop)
    }

    /// Revokes a key. Returns whether this call ended it.
    pub(super) async fn end(&self, id: &KeyId, why: Revocation) -> Result<bool, KeyringError> {
        let now = self.clock.now();
        let ended = self.take_away(self.registry.end(id, why, now, &self.terms())).await?;
        if ended.changed {
            let event = KeyEvent::Revoked(why);
            let change = KeyChange::new(now, id, &self.authority, &event);
            self.observers.changed(&change.ending(ended.family.as_ref()));
        }
        Ok(ended.changed)
    }

    /// Changes a key's name, restrictions or limits, and returns the changed record. An update without any change
    /// is not recorded. To see what new restrictions would refuse, set them to observe mode first.
    ///
    /// Every request that is checked after this returns must satisfy the new restrictions and limits.
    ///
    /// If the directory is separate from the registry, the account status of the owner of the key that makes the
    /// change is looked up just before the transaction. So a change can still be made in the moment in which that
    /// owner loses access.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Name`], [`KeyringError::Restrictions`], [`KeyringError::NotFound`], [`KeyringError::Ended`],
    /// [`KeyringError::Denied`], [`KeyringError::TooManyChanges`], or an error of the store, after which you can
    /// repeat the call.
    pub async fn update(&self, id: &KeyId, update: KeyUpdate) -> Result<KeyRecord, KeyringError> {
        let checked = |name: &str| name::check(name).map(str::to_owned).ok_or(KeyringError::Name);
        let update = update.check_name(checked)?;
        if let Some(owner) = self.behalf.as_ref().filter(|_| !self.registry.is_directory()) {
            self.maker_may_still_manage(owner).await?;
        }
        let now = self.clock.now();
        let (terms, share) =
            (self.terms(), if update.may_narrow() { &self.shares.ends } else { &self.shares.changes });
        let updated = self.change_within(share, self.registry.update(id, &update, now, &terms)).await?;
        if updated.changed {
            self.changed(now, id, KeyEvent::Updated(update.parts()));
        }
        Ok(updated.key)
    }

    /// Replaces the restrictions of a key: an [`update`](Self::update) of nothing else.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub async fn restrict(&self, id: &KeyId, restrictions: &Restrictions) -> Result<KeyRecord, KeyringError> {
        self.update(id, KeyUpdate::new().restrictions(restrictions.clone())).await
    }

    /// Checks that the owner of a key that makes keys may write in their account (R40).
    pub(super) async fn maker_may_still_manage(&self, owner: &UserId) -> Result<(), KeyringError> {
        if !matches!(self.authority, Authority::Key(_)) {
            return Ok(());
        }
        let standing = self.standing_at(owner, None).await?;
        match self.terms().allow_owner(standing, None) {
            Err(RegistryError::Denied(denied)) => Err(KeyringError::denied(denied)),
            _ => Ok(()),
        }
    }
}
