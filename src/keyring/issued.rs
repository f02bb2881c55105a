//! [`IssuedKey`] with its secret, and [`Grace`].

use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::delivery::Delivery;
use crate::key::{ApiKey, KeyId};
use crate::limit;
use crate::record::{KeyRecord, LONGEST_GRACE};

/// How long a rotated key works beside its successor. It never extends the key's own expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grace {
    /// Not at all: the key is revoked when the rotation returns (R31).
    #[default]
    None,
    /// For this time, unless the key expires or is revoked before.
    For(Duration),
}

impl Grace {
    pub(super) fn end(self, now: Timestamp) -> Timestamp {
        match self {
            Self::None => now,
            Self::For(grace) => now.saturating_add(grace),
        }
    }
}

/// The error for a text that is not a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grace is a time from 1s to 90d, in s, min, h or d, such as 7d")]
#[non_exhaustive]
pub struct InvalidGrace;

/// A number and a unit, `s`, `min`, `h` or `d`, from `1s` to `90d`.
///
/// ```
/// use std::time::Duration;
/// use tower_api_key::Grace;
///
/// assert_eq!("36h".parse(), Ok(Grace::For(Duration::from_secs(36 * 60 * 60))));
/// assert!("91d".parse::<Grace>().is_err());
/// ```
impl FromStr for Grace {
    type Err = InvalidGrace;

    fn from_str(text: &str) -> Result<Self, InvalidGrace> {
        let period = limit::period(text).filter(|period| *period <= LONGEST_GRACE);
        period.map(Self::For).ok_or(InvalidGrace)
    }
}

/// A key that was just issued, and its stored record. Show the secret to its owner now: it is not available again
/// (R29). `Debug` does not show it.
#[derive(Debug)]
#[must_use = "this is the only time that the secret can be had"]
pub struct IssuedKey {
    key: ApiKey,
    record: KeyRecord,
    delivery: Delivery,
}

impl IssuedKey {
    pub(super) fn new(key: ApiKey, record: KeyRecord, delivery: Delivery) -> Self {
        Self { key, record, delivery }
    }

    /// The secret.
    #[must_use]
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    /// The stored record.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// The result of its [delivery](crate::delivery) so far.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The key's id, which is not secret.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.record.id
    }

    /// Returns the secret and the stored record.
    #[must_use]
    pub fn into_parts(self) -> (ApiKey, KeyRecord) {
        (self.key, self.record)
    }
}
