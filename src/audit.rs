//! What becomes of keys, and who did it: the trail that a registry keeps.
//!
//! Entries name keys by their ids, and hold nothing of a secret: no digest, no prefix, no last characters.

use std::fmt;
use std::str::FromStr;

use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;

/// One change of one key. Registries write it in the transaction that makes the change, and never change it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// When, by the clock of the one who made the change. Of an imported key, when it was made.
    pub at: Timestamp,
    /// The key.
    pub key: KeyId,
    /// Whose key it is.
    pub owner: UserId,
    /// Who did it: the text of an [`Authority`].
    pub by: String,
    /// What happened.
    pub event: KeyEvent,
}

impl AuditEntry {
    /// An entry, as a registry makes one.
    #[must_use]
    pub fn new(at: Timestamp, key: &KeyRecord, by: &Authority, event: KeyEvent) -> Self {
        Self::from_parts(at, key.id.clone(), key.owner.clone(), by.to_string(), event)
    }

    /// An entry, as a registry reads one back.
    #[must_use]
    pub fn from_parts(at: Timestamp, key: KeyId, owner: UserId, by: String, event: KeyEvent) -> Self {
        Self { at, key, owner, by, event }
    }
}

/// What happened to a key.
///
/// A registry keeps its text, such as `issued`, `replaced_by:key_...`, `revoked:by_hand` or `amended:name,limits`, and
/// parses it strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEvent {
    /// It was made.
    Issued,
    /// It came from elsewhere.
    Imported,
    /// It was made, in the place of another.
    Replaces(KeyId),
    /// Another took its place. Unless it was revoked with that, it works until its grace is over.
    ReplacedBy(KeyId),
    /// It ended for good.
    Revoked(Revocation),
    /// These parts of it were changed.
    Updated(Vec<UpdatedPart>),
    /// It is found by a digest of another [kind](crate::key::DigestMethod::kind).
    Rehashed(String),
}

impl KeyEvent {
    /// How the trail of a key that was [inserted](crate::store::KeyRegistry::insert) begins: one that already has ended, or is
    /// of a foreign shape, was imported.
    #[must_use]
    pub fn of_new(key: &KeyRecord) -> Self {
        let issued_here = key.is_active(key.created_at) && !key.prefix.is_empty();
        if issued_here { Self::Issued } else { Self::Imported }
    }

    /// What the trail of a key says when it [was just replaced](KeyRecord::replace).
    #[must_use]
    pub fn of_replaced(key: &KeyRecord) -> Vec<Self> {
        let replaced = key.replaced_by.clone().map(Self::ReplacedBy);
        let revoked = key.revoked_at.map(|_| Self::Revoked(Revocation::Replaced));
        replaced.into_iter().chain(revoked).collect()
    }

    /// The first word of its text.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
            Self::Replaces(_) => "replaces",
            Self::ReplacedBy(_) => "replaced_by",
            Self::Revoked(_) => "revoked",
            Self::Updated(_) => "amended",
            Self::Rehashed(_) => "rehashed",
        }
    }
}

impl fmt::Display for KeyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Issued | Self::Imported => Ok(()),
            Self::Replaces(key) | Self::ReplacedBy(key) => write!(f, ":{key}"),
            Self::Revoked(why) => write!(f, ":{}", why.as_str()),
            Self::Rehashed(kind) => write!(f, ":{kind}"),
            Self::Updated(parts) => parts.iter().enumerate().try_for_each(|(place, part)| {
                f.write_str(if place == 0 { ":" } else { "," })?;
                f.write_str(part.as_str())
            }),
        }
    }
}

/// A text is no event of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is no event of a key")]
pub struct ParseKeyEventError;

impl FromStr for KeyEvent {
    type Err = ParseKeyEventError;

    fn from_str(text: &str) -> Result<Self, ParseKeyEventError> {
        let id = |text: &str| KeyId::new(text).map_err(|_| ParseKeyEventError);
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        match (name, rest) {
            ("issued", None) => Ok(Self::Issued),
            ("imported", None) => Ok(Self::Imported),
            ("replaces", Some(key)) => id(key).map(Self::Replaces),
            ("replaced_by", Some(key)) => id(key).map(Self::ReplacedBy),
            ("revoked", Some(why)) => Revocation::from_name(why).map(Self::Revoked).ok_or(ParseKeyEventError),
            ("rehashed", Some(kind)) if !kind.is_empty() => Ok(Self::Rehashed(kind.to_owned())),
            // Nothing was asked for, and nothing was changed: that is said, too.
            ("amended", None) => Ok(Self::Updated(Vec::new())),
            ("amended", Some(parts)) => {
                let parts: Option<_> = parts.split(',').map(UpdatedPart::from_name).collect();
                parts.map(Self::Updated).ok_or(ParseKeyEventError)
            }
            _ => Err(ParseKeyEventError),
        }
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// Its name in the text of a [`KeyEvent`].
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    /// Why a key was revoked.
    Revocation {
        /// Somebody asked for it.
        ByHand => "by_hand",
        /// Somebody who held it ended it by its secret (`manage::self_revoke`).
        BySecret => "by_secret",
        /// It was found where others can read it (`manage::Leaks`).
        Leaked => "leaked",
        /// It was replaced without a grace.
        Replaced => "replaced",
        /// Another was issued where there may be one ([`KeyPolicy::Single`](crate::store::KeyPolicy::Single)).
        Superseded => "superseded",
        /// Its owner was removed from their account.
        MemberRemoved => "member_removed",
    }
}

names! {
    /// What an [`KeyUpdate`](crate::key_update::KeyUpdate) changes.
    UpdatedPart {
        /// The name.
        Name => "name",
        /// From where, and for what, it may be used.
        Restrictions => "restrictions",
        /// How often it may be used.
        Limits => "limits",
    }
}
