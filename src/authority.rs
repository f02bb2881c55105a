//! [`Authority`]: who makes a change, and whether they may. A key that has been revoked cannot make a key.

use std::fmt;

use crate::clock::Timestamp;
use crate::key::{KeyId, UserId};
use crate::record::{KeyLevel, KeyRecord};

/// Who makes a change.
///
/// The audit log of a key keeps its text: `system`, `operator`, `user:alice`, `key:key_...`.
///
/// Every change carries an [`Authority`]. A registry calls [`covers`] inside the transaction that makes the change,
/// with the record that the maker's key has at that moment. Routes only attempt the change and report the
/// registry's answer. The exception is the route that explains a key: it changes nothing, so it calls [`covers`]
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Authority {
    /// The application itself.
    #[default]
    System,
    /// Somebody with command-line access to the store.
    Operator,
    /// A signed-in user, who may change their own keys.
    User(UserId),
    /// The holder of a key, through the routes of `manage`: may change what that key [covers], while the key is active.
    Key(KeyId),
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Operator => f.write_str("operator"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Key(key) => write!(f, "key:{key}"),
        }
    }
}

/// Why an [`Authority`] may not make a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The key that makes the change does not exist.
    #[error("the key that makes the change is unknown")]
    UnknownKey,
    /// The key that makes the change is revoked.
    #[error("the key that makes the change is revoked")]
    RevokedKey,
    /// The key that makes the change is expired.
    #[error("the key that makes the change is expired")]
    ExpiredKey,
    /// The key that is made or changed belongs to another user or environment.
    #[error("the key that is changed belongs to another user or environment")]
    Foreign,
    /// The key that is made or changed may do more than the one that makes the change.
    #[error("the key that is changed may do more than the one that makes the change")]
    Exceeds,
    /// The owner's account is disabled, or the owner has no access to the key's project.
    #[error("the owner of the key is disabled or has no access to its project")]
    Owner,
    /// The owner of the key that makes the change may only read in their account (R40).
    #[error("the owner of the key that makes the change may only read")]
    ReadOnly,
}

/// Checks whether the key `maker` may make, replace, change or revoke the key `made` at `now`: `maker` must be
/// active and of user level, and `made` must not grant more than `maker` does (R40, C11-02).
///
/// This means: the same owner and environment; an end that is no later; no other scope; if `maker` has
/// restrictions, the same ones (whether different restrictions are narrower is not computed); if `maker` has
/// limits, the same limits and the same rotation family, since other families are counted separately. A user-level
/// key covers both levels.
///
/// # Errors
///
/// The first [`Denied`] that applies, in the order of its variants. [`Denied::Owner`] and [`Denied::ReadOnly`]
/// depend on the directory and are not checked here.
///
/// ```
/// use tower_api_key::store::{covers, Denied};
/// use tower_api_key::{KeyDigest, KeyId, KeyRecord, Timestamp, UserId};
///
/// let (alice, now) = (UserId::new("alice")?, Timestamp::from_secs(1));
/// let key = |id: &str| Ok::<_, tower_api_key::key::ParseIdError>(KeyRecord::new(
///     KeyId::new(id)?, KeyDigest::from_bytes([0; 32]), alice.clone(), now,
/// ));
/// let (mut maker, made) = (key("key_1")?, key("key_2")?);
/// assert_eq!(covers(&maker, &made, now), Ok(()));
/// maker.revoked_at = Some(now);
/// assert_eq!(covers(&maker, &made, now), Err(Denied::RevokedKey));
/// # Ok::<(), tower_api_key::key::ParseIdError>(())
/// ```
pub fn covers(maker: &KeyRecord, made: &KeyRecord, now: Timestamp) -> Result<(), Denied> {
    if maker.revoked_at.is_some() {
        return Err(Denied::RevokedKey);
    }
    if !maker.is_active(now) {
        return Err(Denied::ExpiredKey);
    }
    if made.owner != maker.owner || made.environment != maker.environment {
        return Err(Denied::Foreign);
    }
    let ends_in_time = match (maker.expires_at, made.expires_at) {
        (None, _) => true,
        (Some(own), Some(end)) => end <= own,
        (Some(_), None) => false,
    };
    let as_restricted = maker.restrictions.is_none() || made.restrictions == maker.restrictions;
    let as_limited = maker
        .limits
        .as_ref()
        .is_none_or(|own| made.family == maker.family && made.limits.as_ref() == Some(own));
    let within = maker.level == KeyLevel::User
        && ends_in_time
        && as_restricted
        && as_limited
        && made.scopes.is_subset(&maker.scopes);
    if within { Ok(()) } else { Err(Denied::Exceeds) }
}
