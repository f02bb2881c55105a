//! [`KeyPolicy`]: how many keys a user may have, and what a registry does about it before it adds one.

use std::num::NonZeroU32;

use super::RegistryError;

/// How many keys a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPolicy {
    /// One per user and environment: issuing another revokes all earlier ones, even one in a grace period (R30).
    Single {
        /// Whether a rotation may have a grace period, during which two keys work.
        grace: bool,
    },
    /// Several per user and environment (R33), up to a maximum of active ones. A key in a grace period counts.
    Multiple {
        /// The maximum number of active keys.
        max: NonZeroU32,
    },
}

/// How many keys a user may have by default.
const HUNDRED: NonZeroU32 = NonZeroU32::new(100).unwrap();

impl Default for KeyPolicy {
    /// Up to a hundred keys.
    fn default() -> Self {
        Self::Multiple { max: HUNDRED }
    }
}

/// What a registry must do before it adds a key: see [`Terms::make_room`](super::Terms::make_room). A registry must handle every variant, so
/// no compatible release adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum MakeRoom {
    /// Nothing.
    Nothing,
    /// Revoke every other key of the same owner and environment as
    /// [superseded](crate::Revocation::Superseded), except for the replaced key, which ends as its rotation
    /// says. Ending each must be [allowed](super::Terms::allow_change).
    EndOthers,
    /// Fail with [`RegistryError::TooManyKeys`] if this many keys of the same owner and environment are active.
    Count {
        /// The maximum number of active keys.
        max: u32,
    },
}

impl KeyPolicy {
    /// See [`Terms::make_room`](super::Terms::make_room).
    pub(super) fn make_room(self, replaces: bool, grace: bool) -> Result<MakeRoom, RegistryError> {
        match self {
            Self::Single { grace: false } if grace => Err(RegistryError::NoGrace),
            Self::Single { .. } => Ok(MakeRoom::EndOthers),
            Self::Multiple { .. } if replaces && !grace => Ok(MakeRoom::Nothing),
            // If every number is allowed, nothing is counted: otherwise an import of many keys of one owner would
            // count them all for each key.
            Self::Multiple { max: NonZeroU32::MAX } => Ok(MakeRoom::Nothing),
            Self::Multiple { max } => Ok(MakeRoom::Count { max: max.get() }),
        }
    }
}
