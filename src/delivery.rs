//! How owners hear of their keys (R28).
//!
//! A [`KeyDelivery`] is told of every key that a [`Keyring`](crate::Keyring) issues or rotates, and of keys that
//! leaked. `EmailDelivery` of the package `tower-api-key-email` writes to the owner that there is a new key, and
//! does not send the key.
//!
//! Delivery never loses a key: whoever asked for it gets it, whatever becomes of the delivery, and
//! [`IssuedKey::delivery`](crate::IssuedKey::delivery) says what did.
//!
//! ```
//! use async_trait::async_trait;
//! use tower_api_key::delivery::{Delivery, KeyDelivery, Notice};
//! use tower_api_key::{ApiKey, Keyring, MemoryStore};
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

/// Tells owners of their keys.
///
/// Each method is waited for by whoever asked for the key, up to the keyring's deadline: hand over what takes
/// longer, and say [`Delivery::Queued`].
#[async_trait]
pub trait KeyDelivery: Send + Sync + 'static {
    /// A key was issued or rotated, and this is its secret: once, and never again.
    ///
    /// # Security
    ///
    /// Whoever keeps the secret, or sends it where others read, makes it theirs. Prefer to [`notify`](Self::notify).
    async fn deliver(&self, secret: &ApiKey, notice: &Notice<'_>) -> Delivery;

    /// Something happened to a key that its owner should know.
    async fn notify(&self, notice: &Notice<'_>) -> Delivery;
}

/// What happened, and to which key. No secret is in it.
#[derive(Clone, Debug)]
pub struct Notice<'k> {
    kind: NoticeKind,
    key: &'k KeyRecord,
}

impl<'k> Notice<'k> {
    /// This happened to that key.
    #[must_use]
    pub fn new(kind: NoticeKind, key: &'k KeyRecord) -> Self {
        Self { kind, key }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &NoticeKind {
        &self.kind
    }

    /// What is stored of the key, its owner among it.
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
    /// It took the place of this one.
    Rotated {
        /// The key before.
        old: KeyId,
    },
    /// It was found where others can read it, and was revoked.
    Leaked {
        /// Where, if whoever found it said so. Others wrote it: escape it.
        url: Option<String>,
    },
    /// Its holder ended it by the secret itself.
    SelfRevoked,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Nobody was asked to.
    #[default]
    None,
    /// It was taken, and is tried until it is done.
    Queued,
    /// It is done.
    Done,
    /// It was not taken, and is not tried again.
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
