//! Why a key was not made, replaced or ended.

use crate::authority::Denied;
use crate::key::RandomSourceError;
use crate::store::{RegistryError, StoreError};

/// Why a keyring did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The name is none.
    #[error("a key's name is 1 to 64 characters, without control, bidirectional and invisible characters")]
    Name,
    /// The key would be expired from the start.
    #[error("a key expires in the future: pass a later `expires_at`, or none")]
    Expiry,
    /// A scope is none, or there are too many.
    #[error("a key has at most 64 scopes, each 1 to 64 visible ASCII characters without \" and \\")]
    Scopes,
    /// An entry of metadata is too long, or there are too many.
    #[error(
        "a key has at most 32 entries of metadata, names of 1 to 64 bytes and values of up to 512, and 8 KiB of them in all"
    )]
    Metadata,
    /// The restrictions are too long.
    #[error(
        "the restrictions of a key are at most 8 KiB of text: widen some, or make two keys. Longer ones that are there from \
         before can only be made shorter"
    )]
    Restrictions,
    /// The owner may not have such a key at the moment.
    #[error(
        "the owner is not in good standing or has no access to the key's project: change that in the directory"
    )]
    Forbidden,
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The key cannot be rotated.
    #[error("the key is revoked, expired or already replaced: issue a new one")]
    Ended,
    /// The policy's number is reached.
    #[error(
        "the user has as many active keys as the policy allows: revoke one, or raise `KeyPolicy::Multiple`"
    )]
    TooManyKeys,
    /// The policy allows one key at a time, and a replaced one no grace.
    #[error(
        "the policy allows one key at a time: rotate without a grace, or let `KeyPolicy::Single` have one"
    )]
    NoGrace,
    /// The key was changed as often as it may be.
    #[error("the key was changed 60 times within an hour: wait, or revoke it")]
    TooManyChanges,
    /// The one whom the keyring [acts as](super::Keyring::acting_as) may not make this change.
    #[error("the change is not allowed: {0}")]
    Denied(Denied),
    /// The store did not say in time whether the change was made. Nobody else knows either: look for it, or repeat what may
    /// be repeated.
    #[error("the change may have been made: the store did not say so in time")]
    OutcomeUnknown(#[source] StoreError),
    /// No randomness, no key.
    #[error(transparent)]
    RandomSource(#[from] RandomSourceError),
    /// The store could not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RegistryError> for KeyringError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound => Self::NotFound,
            RegistryError::Ended => Self::Ended,
            RegistryError::TooManyKeys => Self::TooManyKeys,
            // Of metadata, what is new was looked at before the registry was asked, and what is old is never changed.
            RegistryError::TooLong(_) => Self::Restrictions,
            RegistryError::NoGrace => Self::NoGrace,
            RegistryError::TooManyChanges => Self::TooManyChanges,
            RegistryError::Denied(denied) => Self::denied(denied),
            RegistryError::Store(error) => Self::Store(error),
            // Ids of 131 bits and digests of 256 do not meet by chance, and what is made here makes sense: the
            // registry is broken.
            broken @ (RegistryError::Conflict | RegistryError::Invalid(_)) => {
                Self::Store(StoreError::failed(broken))
            }
        }
    }
}

impl KeyringError {
    /// That an owner may not have a key is said as before any store was asked to make it.
    pub(super) fn denied(denied: Denied) -> Self {
        match denied {
            Denied::Owner => Self::Forbidden,
            denied => Self::Denied(denied),
        }
    }
}
