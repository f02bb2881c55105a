//! [`CliError`]: why a command failed, and its exit code.

use std::fmt::Display;

use tower_api_key::KeyringError;
use tower_api_key::store::{RegistryError, StoreError};

/// Why a command failed, or succeeded only in part. It contains no secret.
pub(crate) enum CliError {
    /// The request was refused: exit code 1.
    Refused(String),
    /// The arguments or the file are wrong: exit code 2, as clap uses.
    Usage(String),
    /// The store failed: exit code 3.
    Store(String),
}

impl CliError {
    pub(crate) fn refused(why: impl Display) -> Self {
        Self::Refused(why.to_string())
    }

    pub(crate) fn usage(why: impl Display) -> Self {
        Self::Usage(why.to_string())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Store(with_causes(&error))
    }
}

impl From<KeyringError> for CliError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Store(error) => error.into(),
            // "Refused" would suggest that nothing has changed.
            error @ (KeyringError::OutcomeUnknown(_) | KeyringError::RandomSource(_)) => {
                Self::Store(with_causes(&error))
            }
            KeyringError::NotFound => {
                Self::refused("there is no such key: `tower-api-key list --owner USER` shows those of a user")
            }
            KeyringError::TooManyKeys => Self::refused(
                "the user has as many active keys as allowed: revoke one, or set --max-keys as the service does",
            ),
            error => Self::refused(error),
        }
    }
}

impl From<RegistryError> for CliError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => error.into(),
            error => Self::refused(error),
        }
    }
}

/// The error of a store with all its causes, which an operator may see.
fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
