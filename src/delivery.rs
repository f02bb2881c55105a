//! Notification of owners about their keys (R28).
//!
//! A [`Keyring`](crate::Keyring) calls its [`KeyDelivery`] for every key that it issues or rotates, and for keys
//! that leaked. `EmailDelivery` of the package `tower-api-key-email` tells the owner by mail that there is a new
//! key, and does not send the key.
//!
//! A failed delivery never loses a key: the caller who issued it gets it in any case, and
//! [`IssuedKey::delivery`](crate::IssuedKey::delivery) returns the result of the delivery.
//!
//! ```
//! use async_trait::async_trait;
//! use tower_api_key::delivery::{Delivery, KeyDelivery, Notice};
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKey, Keyring};
//!
//! /// Writes to a log that somebody reads.
//! struct Announced;
//!
//! #[async_trait]
//! impl KeyDelivery for Announced {
//!     async fn deliver(&self, _secret: &ApiKey, notice: &Notice<'_>) -> Delivery {
//!         self.notify(notice).await
//!     }
//!
//!     async fn notify(&self, notice: &Notice<'_>) -> Delivery {
//!         println!("{}: {:?}", notice.key().owner, notice.kind());
//!         Delivery::Done
//!     }
//! }
//!
//! let keyring = Keyring::new(MemoryStore::new()).deliver(Announced);
//! ```

use async_trait::async_trait;

use crate::key::{ApiKey, KeyId};
use crate::record::KeyRecord;

/// Notifies owners about their keys.
///
/// The caller who issues a key waits for each method, up to the keyring's deadline. Put longer work into a queue,
/// and return [`Delivery::Queued`].
#[async_trait]
pub trait KeyDelivery: Send + Sync + 'static {
    /// Called when a key was issued or rotated. This is the only call with its secret.
    ///
    /// # Security
    ///
    /// If you store the secret, or send it over a channel that others can read, others may use the key. Prefer to
    /// [`notify`](Self::notify).
    async fn deliver(&self, secret: &ApiKey, notice: &Notice<'_>) -> Delivery;

    /// Called when something happened to a key that its owner should know about.
    async fn notify(&self, notice: &Notice<'_>) -> Delivery;
}

/// What happened, and to which key. It contains no secret.
#[derive(Clone, Debug)]
pub struct Notice<'k> {
    kind: NoticeKind,
    key: &'k KeyRecord,
}

impl<'k> Notice<'k> {
    /// Creates a notice about a key.
    #[must_use]
    pub fn new(kind: NoticeKind, key: &'k KeyRecord) -> Self {
        Self { kind, key }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &NoticeKind {
        &self.kind
    }

    /// The stored record of the key, with its owner.
    #[must_use]
    pub fn key(&self) -> &'k KeyRecord {
        self.key
    }
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeKind {
    /// It was issued.
    Issued,
    /// It replaced another key.
    Rotated {
        /// The replaced key.
        old: KeyId,
    },
    /// Its secret was found in a public place, and it was revoked.
    Leaked {
        /// Where it was found, if the reporter said so. The text comes from outside: escape it.
        url: Option<String>,
    },
    /// Its holder revoked it by its secret.
    SelfRevoked,
}

/// The result of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// There is no delivery.
    #[default]
    None,
    /// It was queued, and is retried until it succeeds.
    Queued,
    /// It succeeded.
    Done,
    /// It failed, and is not tried again.
    Failed,
}

impl Delivery {
    /// `none`, `queued`, `done` or `failed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}
