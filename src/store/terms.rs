//! [`Terms`] of a change: who makes it, under which policy, and what the registry must check.

use super::RegistryError;
use super::key_policy::{KeyPolicy, MakeRoom};
use crate::authority::{Authority, Denied, covers};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::key_update::KeyUpdate;
use crate::record::KeyRecord;
use crate::role::{AccessClass, AccountStatus};

/// The result of an update.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Updated {
    /// The current record.
    pub key: KeyRecord,
    /// Whether the update changed anything.
    pub changed: bool,
}

impl Updated {
    /// The update changed the record to this.
    #[must_use]
    pub fn now(key: KeyRecord) -> Self {
        Self { key, changed: true }
    }

    /// The update changed nothing of this record.
    #[must_use]
    pub fn as_before(key: KeyRecord) -> Self {
        Self { key, changed: false }
    }
}

/// The result of ending a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Whether this call ended the key, which was active before.
    pub changed: bool,
    /// The key's [family](KeyRecord::family), if its rate-limit state is no longer needed: this call ended the key,
    /// the key has limits and was not replaced, and no other key of the family is active. `None` if the registry
    /// does not know.
    pub family: Option<KeyId>,
}

impl Ended {
    /// This call ended the key, and this family with it, if set.
    #[must_use]
    pub fn now(family: Option<KeyId>) -> Self {
        Self { changed: true, family }
    }

    /// The key had already ended.
    #[must_use]
    pub fn before() -> Self {
        Self { changed: false, family: None }
    }
}

/// How often the holder or owner of a key may update it within an hour. Each change is a row in the audit log.
const MOST_CHANGES: u64 = 60;

/// The start of the hour that ends at this time, in which changes of a key are counted.
#[must_use]
pub fn an_hour_before(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_sub(60 * 60 * 1_000_000))
}

/// The terms of a change: who makes it, and under which [`KeyPolicy`].
///
/// A registry of your own reads and locks the record of [`maker`](Self::maker) inside its transaction, and passes
/// it to [`allow_new`](Self::allow_new) or [`allow_change`](Self::allow_change). A wrapper of a registry forwards
/// the terms unchanged.
///
/// ```
/// use std::num::NonZero;
///
/// use tower_api_key::store::Terms;
/// use tower_api_key::{Authority, KeyPolicy};
///
/// let policy = KeyPolicy::Multiple { max: NonZero::new(10).unwrap() };
/// let terms = Terms::by(Authority::Operator).policy(policy);
/// assert_eq!(terms.maker(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Terms {
    by: Authority,
    policy: KeyPolicy,
    asks_owner: bool,
    at: Option<Timestamp>,
}

impl Terms {
    /// Creates the terms of a change by this authority, under the default policy.
    #[must_use]
    pub fn by(authority: Authority) -> Self {
        Self { by: authority, policy: KeyPolicy::default(), asks_owner: false, at: None }
    }

    /// Sets the policy for keys that are added or replaced.
    #[must_use]
    pub fn policy(mut self, policy: KeyPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Makes the registry check the account of the key's owner in the same transaction. Only a registry that is
    /// also the directory of its owners can do this
    /// ([`KeyRegistry::is_directory`](super::KeyRegistry::is_directory)).
    #[must_use]
    pub fn ask_owner(mut self) -> Self {
        self.asks_owner = true;
        self
    }

    /// Sets the time of a change that adds keys which were issued earlier. A key that has ended by then is added as it is.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.at = Some(now);
        self
    }

    /// The time at which a key is added: [`at`](Self::at), or by default when it was issued.
    #[must_use]
    pub fn present(&self, key: &KeyRecord) -> Timestamp {
        self.at.unwrap_or(key.created_at)
    }

    /// Who makes the change.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.by
    }

    /// The policy for keys that are added or replaced.
    #[must_use]
    pub fn key_policy(&self) -> KeyPolicy {
        self.policy
    }

    /// Returns what the [policy](Self::key_policy) requires of a registry in the transaction that adds a key,
    /// before it adds the key. `replaces` says whether the key replaces another, and `grace` whether the other has
    /// a grace period.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NoGrace`].
    pub fn make_room(&self, replaces: bool, grace: bool) -> Result<MakeRoom, RegistryError> {
        self.policy.make_room(replaces, grace)
    }

    /// Whether the registry must pass the owner's account status to [`allow_owner`](Self::allow_owner).
    #[must_use]
    pub fn asks_owner(&self) -> bool {
        self.asks_owner
    }

    /// Like [`asks_owner`](Self::asks_owner), for an update of an existing key. The application itself and an
    /// operator may update a key whose owner is suspended.
    #[must_use]
    pub fn asks_owner_to_amend(&self) -> bool {
        self.asks_owner && matches!(self.by, Authority::User(_) | Authority::Key(_))
    }

    /// The key that makes the change, if a key does. The transaction must read its record.
    #[must_use]
    pub fn maker(&self) -> Option<&KeyId> {
        match &self.by {
            Authority::Key(id) => Some(id),
            _ => None,
        }
    }

    /// Checks whether this key may be added. `maker` is the record of [`maker`](Self::maker) in this transaction,
    /// if there is one.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Denied`], and [`RegistryError::TooLong`] if it is [out of bounds](KeyRecord::check_bounds).
    pub fn allow_new(
        &self,
        maker: Option<&KeyRecord>,
        key: &KeyRecord,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.covers(maker, key, now).map_err(RegistryError::Denied)?;
        key.check_bounds().map_err(RegistryError::TooLong)
    }

    /// Checks whether this existing key may be replaced, changed or ended. For a change, call this with the record
    /// before and with the record after it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a key of another owner or environment, so that the caller does not learn
    /// that it exists. [`RegistryError::Denied`].
    pub fn allow_change(
        &self,
        maker: Option<&KeyRecord>,
        key: &KeyRecord,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.covers(maker, key, now).map_err(|denied| match denied {
            Denied::Foreign => RegistryError::NotFound,
            denied => RegistryError::Denied(denied),
        })
    }

    /// Returns the updated record of a key, or `None` if the update changes nothing. Registries call this inside
    /// the transaction that updates a key. `changes` returns how often the key was updated within [the hour
    /// before](an_hour_before). It is called only if that matters.
    ///
    /// An update that certainly takes access away is never refused for the number of changes, and neither is one by
    /// the application itself or an operator.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] and [`RegistryError::Denied`] as [`allow_change`](Self::allow_change),
    /// [`RegistryError::Ended`] if the key is revoked, [`RegistryError::TooLong`] by [`KeyUpdate::check`],
    /// [`RegistryError::TooManyChanges`], and the error of `changes`.
    pub fn updated(
        &self,
        maker: Option<&KeyRecord>,
        before: &KeyRecord,
        update: &KeyUpdate,
        now: Timestamp,
        changes: impl FnOnce() -> Result<u64, RegistryError>,
    ) -> Result<Option<KeyRecord>, RegistryError> {
        self.allow_change(maker, before, now)?;
        if before.revoked_at.is_some() {
            return Err(RegistryError::Ended);
        }
        let Some(after) = update.of(before) else { return Ok(None) };
        update.check(before).map_err(RegistryError::TooLong)?;
        self.allow_change(maker, &after, now)?;
        let counts =
            matches!(self.by, Authority::User(_) | Authority::Key(_)) && !after.is_narrower_than(before);
        if counts && changes()? >= MOST_CHANGES {
            return Err(RegistryError::TooManyChanges);
        }
        Ok(Some(after))
    }

    fn covers(&self, maker: Option<&KeyRecord>, key: &KeyRecord, now: Timestamp) -> Result<(), Denied> {
        match &self.by {
            Authority::System | Authority::Operator => Ok(()),
            Authority::User(user) if *user == key.owner => Ok(()),
            Authority::User(_) => Err(Denied::Foreign),
            Authority::Key(_) => covers(maker.ok_or(Denied::UnknownKey)?, key, now),
        }
    }

    /// Checks whether the owner of a key may have it made or changed: their account must be active, and for a
    /// project-level key they must have access to the project. If a key makes the change, its owner must also be
    /// allowed to write in their account (R40).
    ///
    /// `in_account` is the owner's [`Directory::account_status`](super::Directory::account_status) without a
    /// project, and `on_project` the status with the project of a project-level key.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Denied`].
    pub fn allow_owner(
        &self,
        in_account: AccountStatus,
        on_project: Option<AccountStatus>,
    ) -> Result<(), RegistryError> {
        let AccountStatus::Active { role } = in_account else {
            return Err(RegistryError::Denied(Denied::Owner));
        };
        let denied = match (&self.by, role) {
            (Authority::Key(_), None) => Some(Denied::Owner),
            (Authority::Key(_), Some(role)) if !role.allows(AccessClass::Manage) => Some(Denied::ReadOnly),
            _ => match on_project {
                None | Some(AccountStatus::Active { role: Some(_) }) => None,
                Some(_) => Some(Denied::Owner),
            },
        };
        denied.map_or(Ok(()), |denied| Err(RegistryError::Denied(denied)))
    }
}
