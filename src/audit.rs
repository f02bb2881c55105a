//! Who changes keys.

use std::fmt;

use crate::key::{KeyId, UserId};

/// Who makes a change, for the trail that a ledger keeps.
///
/// What is written down is its text: `system`, `operator`, `user:alice`, `key:key_...`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// The application by itself.
    #[default]
    System,
    /// Somebody with a command line on the store.
    Operator,
    /// A person who is signed in.
    User(UserId),
    /// The holder of a key, by the routes of `manage`.
    Key(KeyId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Operator => f.write_str("operator"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Key(key) => write!(f, "key:{key}"),
        }
    }
}
