//! Ids of users, projects and keys: short, plain text, compared byte by byte.

use std::fmt;
use std::sync::Arc;

use super::base62;
use super::format::RandomSourceError;

const MAX_ID_LEN: usize = 128;

/// The text is not an id: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -")]
pub struct IdError;

pub(crate) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'-');
    (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(plain)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 128 of `A-Z a-z 0-9 . _ : @ -`; compared byte by byte, so `p1` and `P1` are two ids. Cloning is cheap.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            ///
            /// [`IdError`] if a character or the length is not an id's.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                if is_id(text) { Ok(Self(text.into())) } else { Err(IdError) }
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

        // `Hash`, `Eq` and `Ord` above are those of the text.
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

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

id! {
    /// Who owns keys.
    UserId
}
id! {
    /// What keys give access to.
    ProjectId
}
id! {
    /// Names a key without being secret: `key_` and 22 random characters when made here.
    KeyId
}

impl KeyId {
    /// A new id: 22 characters of base62, 131 bits, independent of the key's secret.
    pub(crate) fn generate() -> Result<Self, RandomSourceError> {
        let random = base62::random::<22>(getrandom::fill).map_err(RandomSourceError)?;
        let text: String = "key_".chars().chain(random.iter().map(|byte| char::from(*byte))).collect();
        Ok(Self(text.into()))
    }

    /// The id of keys that only a test knows.
    #[cfg(feature = "test-util")]
    pub(crate) fn of_a_test() -> Self {
        Self("key_test".into())
    }
}
