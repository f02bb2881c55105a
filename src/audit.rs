//! The audit log: what happened to keys, and who did it.

use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;
use crate::serde_text::serialize_as_text;

/// One change of one key. A registry writes it in the same transaction as the change, and never modifies it.
///
/// Serde writes a map of its fields, with the event as its text.
///
/// Entries name keys by their ids, and contain nothing of a secret: no digest, no prefix, no last characters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// When it happened, by the clock of the process that made the change. For an imported key, when the key was made.
    pub at: Timestamp,
    /// The key.
    pub key: KeyId,
    /// The key's owner.
    pub owner: UserId,
    /// Who made the change: the text of an [`Authority`].
    pub by: String,
    /// What happened.
    pub event: KeyEvent,
}

impl AuditEntry {
    /// Creates an entry for a change that a registry makes.
    #[must_use]
    pub fn new(at: Timestamp, key: &KeyRecord, by: &Authority, event: KeyEvent) -> Self {
        Self::from_parts(at, key.id.clone(), key.owner.clone(), by.to_string(), event)
    }

    /// Creates an entry that a registry reads back.
    #[must_use]
    pub fn from_parts(at: Timestamp, key: KeyId, owner: UserId, by: String, event: KeyEvent) -> Self {
        Self { at, key, owner, by, event }
    }
}

impl Serialize for AuditEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { at, key, owner, by, event } = self;
        let mut entry = serializer.serialize_struct("AuditEntry", 5)?;
        entry.serialize_field("at", at)?;
        entry.serialize_field("key", key)?;
        entry.serialize_field("owner", owner)?;
        entry.serialize_field("by", by)?;
        entry.serialize_field("event", event)?;
        entry.end()
    }
}

/// What happened to a key.
///
/// A registry stores its text, such as `issued`, `replaced_by:key_...`, `revoked:by_hand` or `amended:name,limits`, and
/// parses it strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEvent {
    /// The key was issued.
    Issued,
    /// The key was imported.
    Imported,
    /// The key was issued and replaces another.
    Replaces(KeyId),
    /// Another key replaces it. Unless it was revoked at the same time, it works until its grace is over.
    ReplacedBy(KeyId),
    /// The key was revoked.
    Revoked(Revocation),
    /// These parts of it were updated.
    Updated(Vec<UpdatedPart>),
    /// Its digest was replaced by one of another [kind](crate::DigestMethod::kind).
    Rehashed(String),
}

impl KeyEvent {
    /// The first event of a key that was [inserted](crate::store::KeyRegistry::insert). A key that has already
    /// ended or is of a foreign shape was imported.
    #[must_use]
    pub fn of_new(key: &KeyRecord) -> Self {
        let issued_here = key.is_active(key.created_at) && !key.prefix.is_empty();
        if issued_here { Self::Issued } else { Self::Imported }
    }

    /// The events of a key that [was just replaced](KeyRecord::replace).
    #[must_use]
    pub fn of_replaced(key: &KeyRecord) -> Vec<Self> {
        let replaced = key.replaced_by.clone().map(Self::ReplacedBy);
        let revoked = key.revoked_at.map(|_| Self::Revoked(Revocation::Replaced));
        replaced.into_iter().chain(revoked).collect()
    }

    /// The first word of the event's text.
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

serialize_as_text!(KeyEvent);

/// The error for a text that is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a known event of a key")]
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
            // An update that changes nothing is recorded too.
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
            /// The name in the text of a [`KeyEvent`].
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
        /// A person asked for it.
        ByHand => "by_hand",
        /// A holder of the key revoked it by its secret (`manage::self_revoke`).
        BySecret => "by_secret",
        /// It was found in a place that others can read (`manage::Leaks`).
        Leaked => "leaked",
        /// It was replaced without a grace period.
        Replaced => "replaced",
        /// Another key was issued where only one is allowed ([`KeyPolicy::Single`](crate::KeyPolicy::Single)).
        Superseded => "superseded",
        /// Its owner was removed from the account.
        MemberRemoved => "member_removed",
    }
}

names! {
    /// A part that a [`KeyUpdate`](crate::KeyUpdate) changes.
    UpdatedPart {
        /// The name.
        Name => "name",
        /// The restrictions.
        Restrictions => "restrictions",
        /// The rate limits.
        Limits => "limits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_serialized_as_its_texts() {
        let (key, owner) = (KeyId::new("key_1").unwrap(), UserId::new("alice").unwrap());
        let event = KeyEvent::Revoked(Revocation::ByHand);
        let entry = AuditEntry::from_parts(Timestamp::from_secs(1), key, owner, "operator".to_owned(), event);
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"at":"1970-01-01T00:00:01Z","key":"key_1","owner":"alice","by":"operator","event":"revoked:by_hand"}"#
        );
    }
}
