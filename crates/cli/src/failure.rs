//! Why a command did not do what it was asked for, and the exit code that says so.

use std::fmt::Display;

use tower_api_key::keyring::KeyringError;
use tower_api_key::store::{RegistryError, StoreError};

/// Why nothing, or not all, was done. Nothing secret is in it.
pub(crate) enum Failure {
    /// It cannot be: 1.
    Refused(String),
    /// It is written wrongly: 2, as of clap.
    Usage(String),
    /// The store could not tell: 3.
    Store(String),
}

impl Failure {
    pub(crate) fn refused(why: impl Display) -> Self {
        Self::Refused(why.to_string())
    }

    pub(crate) fn usage(why: impl Display) -> Self {
        Self::Usage(why.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(with_causes(&error))
    }
}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Store(error) => error.into(),
            // Whoever reads "refused" takes it that nothing has changed.
            error @ (KeyringError::OutcomeUnknown(_) | KeyringError::RandomSource(_)) => {
                Self::Store(with_causes(&error))
            }
            KeyringError::NotFound => {
                Self::refused("there is no such key: `tower-api-key list --owner USER` shows those of a user")
            }
            KeyringError::TooManyKeys => Self::refused(
                "the user has as many active keys as they may: revoke one, or say how many by --max-keys, as the service does",
            ),
            error => Self::refused(error),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => error.into(),
            error => Self::refused(error),
        }
    }
}

/// What a store says of itself, down to the driver: this is an operator's terminal.
fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
