//! On which terms a registry makes a change: by whom, under which policy, and what it must ask of itself.

use super::RegistryError;
use crate::access::{AccessClass, AccountStatus};
use crate::authority::{Authority, Denied, covers};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::key_update::KeyUpdate;
use crate::record::KeyRecord;

/// What became of an update.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Updated {
    /// The record as it is now.
    pub key: KeyRecord,
    /// Whether anything was changed.
    pub changed: bool,
}

impl Updated {
    /// The record as it is after a change.
    #[must_use]
    pub fn now(key: KeyRecord) -> Self {
        Self { key, changed: true }
    }

    /// The record as it was before, since nothing was to be changed.
    #[must_use]
    pub fn as_before(key: KeyRecord) -> Self {
        Self { key, changed: false }
    }
}

/// What became of ending a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Whether this ended it, and nothing before.
    pub changed: bool,
    /// Its [family](KeyRecord::family), if this ended it, it has limits and was not replaced, and no other key of the family
    /// works: what the family has spent of its limits is of no use any more. A registry that cannot tell says `None`.
    pub family: Option<KeyId>,
}

impl Ended {
    /// This ended it, and its family with it, if that is known.
    #[must_use]
    pub fn now(family: Option<KeyId>) -> Self {
        Self { changed: true, family }
    }

    /// It had ended before.
    #[must_use]
    pub fn before() -> Self {
        Self { changed: false, family: None }
    }
}

/// How often a key may be updated within an hour by those who hold or own it: each change is a row in its trail.
const MOST_CHANGES: u64 = 60;

/// The time from which changes of a key count, at this one.
#[must_use]
pub fn an_hour_before(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_sub(60 * 60 * 1_000_000))
}

/// How many keys a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPolicy {
    /// One per user and environment: issuing another revokes all before it, even one in a rotation's grace (R30).
    Single {
        /// Whether a rotation may leave the old key a grace. Two keys work until it is over.
        grace: bool,
    },
    /// Several per user and environment (R33), up to this many that are active; one in a rotation's grace counts.
    Multiple {
        /// The most that may be active at once.
        max: u32,
    },
}

impl Default for KeyPolicy {
    /// Up to a hundred.
    fn default() -> Self {
        Self::Multiple { max: 100 }
    }
}

/// What a registry does before it adds a key: see [`Terms::make_room`]. A registry must know every kind, so this enum never grows
/// in a compatible release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum MakeRoom {
    /// Nothing is to be done.
    Nothing,
    /// Every other key of the same owner and environment ends, as [superseded](crate::audit::Revocation::Superseded); the one
    /// that is replaced is spared, and ends as its rotation says. Each must be [allowed](Terms::allow_change) to end.
    EndOthers,
    /// If so many keys of the same owner and environment are active, it is [`RegistryError::TooManyKeys`].
    Count {
        /// The most that may be active.
        max: u32,
    },
}

/// The terms of a change: who makes it, and under which [`KeyPolicy`].
///
/// A registry of your own reads the record of [`maker`](Self::maker) inside its transaction, locked, and passes it to
/// [`allow_new`](Self::allow_new) or [`allow_change`](Self::allow_change). What wraps a registry passes its terms on as
/// they are.
///
/// ```
/// use tower_api_key::store::{KeyPolicy, Terms};
/// use tower_api_key::Authority;
///
/// let terms = Terms::by(Authority::Operator).policy(KeyPolicy::Multiple { max: 10 });
/// assert_eq!(terms.maker(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Terms {
    by: Authority,
    policy: KeyPolicy,
    asks_owner: bool,
}

impl Terms {
    /// A change by this authority, under the default policy.
    #[must_use]
    pub fn by(authority: Authority) -> Self {
        Self { by: authority, policy: KeyPolicy::default(), asks_owner: false }
    }

    /// Another policy for keys that are added or replaced.
    #[must_use]
    pub fn policy(mut self, policy: KeyPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The registry looks at the standing of the key's owner in the same transaction. Only for registries that are the
    /// directory of their keys' owners ([`KeyRegistry::is_directory`](super::KeyRegistry::is_directory)).
    #[must_use]
    pub fn ask_owner(mut self, asks: bool) -> Self {
        self.asks_owner = asks;
        self
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

    /// What the [policy](Self::key_policy) asks of a registry, in the same transaction, before it adds a key. `replaces` says
    /// whether the key takes another one's place, and `grace` whether that one goes on for a while.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NoGrace`].
    pub fn make_room(&self, replaces: bool, grace: bool) -> Result<MakeRoom, RegistryError> {
        match self.policy {
            KeyPolicy::Single { grace: false } if grace => Err(RegistryError::NoGrace),
            KeyPolicy::Single { .. } => Ok(MakeRoom::EndOthers),
            KeyPolicy::Multiple { .. } if replaces && !grace => Ok(MakeRoom::Nothing),
            // Nothing is counted where every number will do: an import of many keys of one owner would count them all each
            // time.
            KeyPolicy::Multiple { max: u32::MAX } => Ok(MakeRoom::Nothing),
            KeyPolicy::Multiple { max } => Ok(MakeRoom::Count { max }),
        }
    }

    /// Whether the registry must pass the owner's standing to [`allow_owner`](Self::allow_owner).
    #[must_use]
    pub fn asks_owner(&self) -> bool {
        self.asks_owner
    }

    /// The same for a change of a key that is there: the application itself and an operator may narrow or rename one whose
    /// owner is suspended.
    #[must_use]
    pub fn asks_owner_to_amend(&self) -> bool {
        self.asks_owner && matches!(self.by, Authority::User(_) | Authority::Key(_))
    }

    /// The key that makes the change, if one does: the transaction must read its record.
    #[must_use]
    pub fn maker(&self) -> Option<&KeyId> {
        match &self.by {
            Authority::Key(id) => Some(id),
            _ => None,
        }
    }

    /// Whether this key may be added. `maker` is the record of [`maker`](Self::maker) in this transaction, if there is one.
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

    /// Whether this key, which is in the registry, may be replaced, changed or ended. For a change, ask with the record
    /// before and the one after it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a key of another owner or environment: who asks does not learn that it is there.
    /// [`RegistryError::Denied`].
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

    /// The record that an update makes of a key, or nothing if it changes nothing. Registries call this inside the
    /// transaction that updates a key; `changes` tells how often the key was updated within
    /// [the hour before](an_hour_before), and is asked only where that counts.
    ///
    /// What takes access away for certain is never refused for its number, and neither are changes by the application
    /// itself or an operator.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] and [`RegistryError::Denied`] as [`allow_change`](Self::allow_change),
    /// [`RegistryError::Ended`] if the key is revoked, [`RegistryError::TooLong`] by [`KeyUpdate::check`],
    /// [`RegistryError::TooManyChanges`], and what `changes` says.
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

    /// Whether the owner of a key may have it made or changed: is in good standing in their account, and where the key
    /// is for a project has access to that. A key makes changes only for an owner who may write in their account (R40).
    ///
    /// `in_account` is what [`Directory::account_status`](super::Directory::account_status) says of the owner without a project, and
    /// `on_project` what it says with the project of a project-level key.
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
