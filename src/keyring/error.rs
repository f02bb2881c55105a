//! [`KeyringError`]: why a key was not issued, replaced or revoked.

use crate::authority::Denied;
use crate::key::RandomSourceError;
use crate::store::{RegistryError, StoreError};

/// Why a keyring refused or failed a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The name is not valid.
    #[error("a key's name is 1 to 64 characters, without control, bidirectional and invisible characters")]
    Name,
    /// The expiry is not in the future.
    #[error("a key expires in the future: pass a later `expires_at`, or none")]
    Expiry,
    /// A scope is not valid, or there are too many.
    #[error("a key has at most 64 scopes, each 1 to 64 visible ASCII characters without \" and \\")]
    Scopes,
    /// An entry of the metadata is too long, or there are too many.
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
    /// The owner may not have such a key now.
    #[error(
        "the owner's account is not active, or the owner has no access to the key's project: change that in the directory"
    )]
    Forbidden,
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The key cannot be rotated.
    #[error("the key is revoked, expired or already replaced: issue a new one")]
    Ended,
    /// The user has as many keys as the policy allows.
    #[error(
        "the user has as many active keys as the policy allows: revoke one, or raise `KeyPolicy::Multiple`"
    )]
    TooManyKeys,
    /// The policy allows one key at a time, and no grace period for a replaced one.
    #[error(
        "the policy allows one key at a time: rotate without a grace, or let `KeyPolicy::Single` have one"
    )]
    NoGrace,
    /// The key was changed too often.
    #[error("the key was changed 60 times within an hour: wait, or revoke it")]
    TooManyChanges,
    /// The [authority](super::Keyring::acting_as) of the keyring may not make this change.
    #[error("the change is not allowed: {0}")]
    Denied(Denied),
    /// The store did not answer in time, so it is unknown whether the change was made. Look the key up, or repeat
    /// the call if that is safe.
    #[error("the change may have been made: the store did not say so in time")]
    OutcomeUnknown(#[source] StoreError),
    /// The random source failed, so no key was made.
    #[error(transparent)]
    RandomSource(#[from] RandomSourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RegistryError> for KeyringError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound => Self::NotFound,
            RegistryError::Ended => Self::Ended,
            RegistryError::TooManyKeys => Self::TooManyKeys,
            // It cannot be the metadata: the keyring has checked that of a new key, and that of an old key never
            // changes.
            RegistryError::TooLong(_) => Self::Restrictions,
            RegistryError::NoGrace => Self::NoGrace,
            RegistryError::TooManyChanges => Self::TooManyChanges,
            RegistryError::Denied(denied) => Self::denied(denied),
            RegistryError::Store(error) => Self::Store(error),
            // Ids of 131 bits and digests of 256 bits do not collide by chance, and all records made here are
            // valid: the registry is broken.
            broken @ (RegistryError::Conflict | RegistryError::Invalid(_)) => {
                Self::Store(StoreError::failed(broken))
            }
        }
    }
}

impl KeyringError {
    /// Converts a registry's refusal. [`Denied::Owner`] becomes the same error as the keyring's own check of the
    /// owner.
    pub(super) fn denied(denied: Denied) -> Self {
        match denied {
            Denied::Owner => Self::Forbidden,
            denied => Self::Denied(denied),
        }
    }
}
