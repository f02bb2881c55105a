//! Ids of users, projects and keys: short ASCII text, compared byte by byte.

use std::fmt;
use std::sync::Arc;

use super::base62;
use super::format::RandomSourceError;
use crate::serde_text::{self, serialize_as_text};

const MAX_ID_LEN: usize = 128;

/// The text is not an id: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`, and for users also of `| + =`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 128 of the characters A-Z a-z 0-9 . _ : @ - (of users also | + =)")]
pub struct ParseIdError;

/// Whether a text is the id of a project, a key or an account: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether a text is a user id, as identity providers write them: `auth0|5f7c`, `alice+ci@example.com`, base64.
fn is_user_id(text: &str) -> bool {
    let plain = |byte: u8| is_plain(byte) || matches!(byte, b'|' | b'+' | b'=');
    (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $is:path) => {
        $(#[$doc])*
        /// Compared byte by byte, so `p1` and `P1` are two ids. Cloning is cheap.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Creates an id after checking the text.
            ///
            /// # Errors
            ///
            /// [`ParseIdError`] if the length or a character is not allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self, ParseIdError> {
                let text = text.as_ref();
                if $is(text) { Ok(Self(text.into())) } else { Err(ParseIdError) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        // `Hash`, `Eq` and `Ord` above are those of the text, as `Borrow` requires.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        serialize_as_text!($name);

        /// Parses a string. A string that is not an id is an error.
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_text::deserialize(deserializer)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = ParseIdError;

            fn try_from(text: &str) -> Result<Self, ParseIdError> {
                Self::new(text)
            }
        }
    };
}

id! {
    /// The id of a user, who owns keys: 1 to 128 of `A-Z a-z 0-9 . _ : @ - | + =`.
    ///
    UserId, is_user_id
}
id! {
    /// The id of a project, to which keys give access: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
    ///
    ProjectId, is_id
}
id! {
    /// The id of a key, which is not secret: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`. This crate generates `key_` and
    /// 22 random characters.
    ///
    KeyId, is_id
}

impl KeyId {
    /// Generates an id: `key_` and 22 characters of base62, 131 bits, independent of the key's secret.
    ///
    /// # Errors
    ///
    /// [`RandomSourceError`] if the operating system returns no random bytes.
    pub fn generate() -> Result<Self, RandomSourceError> {
        let random = base62::random::<22>(getrandom::fill).map_err(RandomSourceError)?;
        let text: String = "key_".chars().chain(random.iter().map(|byte| char::from(*byte))).collect();
        Ok(Self(text.into()))
    }

    /// The fixed id of keys in tests.
    #[cfg(feature = "test-util")]
    pub(crate) fn of_a_test() -> Self {
        Self("key_test".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_for_serde_and_a_text_that_is_none_is_refused() {
        let user = UserId::new("auth0|5f7c").unwrap();
        let json = serde_json::to_string(&user).unwrap();
        assert_eq!(json, r#""auth0|5f7c""#);
        assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), user);
        // Escapes are read, and a reader that has no text to borrow from is one, too.
        assert_eq!(serde_json::from_str::<KeyId>(r#""key\u005f1""#).unwrap().as_str(), "key_1");
        assert_eq!(serde_json::from_value::<ProjectId>("p1".into()).unwrap().as_str(), "p1");
        let long = format!("\"{}\"", "a".repeat(129));
        for text in [r#""""#, r#""a b""#, r#""a|b""#, r#"" p1""#, "1", "null", "[]", &long] {
            assert!(serde_json::from_str::<ProjectId>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<KeyId>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<UserId>(r#""a b""#).is_err());
    }

    #[test]
    fn c17_d7_ids_of_users_are_as_identity_providers_write_them() {
        let longest = "|".repeat(128);
        for id in ["auth0|5f7c", "a+b@example.com", "google-oauth2|1+2", "dXNlcg==", &longest] {
            assert_eq!(UserId::new(id).unwrap().as_str(), id);
            // Key ids occur in paths and project ids in a header, so their alphabet stays as it was.
            assert_eq!((KeyId::new(id), ProjectId::new(id)), (Err(ParseIdError), Err(ParseIdError)), "{id}");
        }
        for text in [
            "",
            "a b",
            "a\tb",
            "a/b",
            "a?b",
            "a%7Cb",
            "a#b",
            "a&b",
            "ä",
            "a\0",
            "a,b",
            "a\"b",
            "<a>",
            &"x".repeat(129),
        ] {
            assert_eq!(UserId::new(text), Err(ParseIdError), "{text:?}");
        }
    }
}
