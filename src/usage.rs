//! When keys were last used, and through what: what a registry keeps beside the keys, and never in them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::key::KeyId;

/// That a key was used in one way.
///
/// A registry is told what is new, and answers with what there is: it adds the counts up and keeps the latest time, in
/// whatever order it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The key.
    pub key: KeyId,
    /// In which way.
    pub through: UsageChannel,
    /// The last time.
    pub last: Timestamp,
    /// How many times. Where a write failed halfway, it may have been counted twice.
    pub count: u64,
}

impl Usage {
    /// That a key was used so.
    #[must_use]
    pub fn new(key: KeyId, through: UsageChannel, last: Timestamp, count: u64) -> Self {
        Self { key, through, last, count }
    }
}

/// In which way a key was used. Ordered like its texts.
///
/// A registry keeps its text, such as `scheme:bearer` or `observed:ip`, and parses it strictly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UsageChannel {
    /// It let a request in, by no scheme: somebody asked the [`Verifier`](crate::Verifier) itself.
    Direct,
    /// It let a request in that this restriction would have refused, were it not set to observe.
    Observed(Cow<'static, str>),
    /// It let a request in, by the scheme of this name.
    Scheme(Cow<'static, str>),
}

impl UsageChannel {
    /// Whether this is a way in, and not a note on one.
    #[must_use]
    pub fn is_use(&self) -> bool {
        !matches!(self, Self::Observed(_))
    }
}

impl fmt::Display for UsageChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Scheme(name) => write!(f, "scheme:{name}"),
            Self::Observed(name) => write!(f, "observed:{name}"),
        }
    }
}

/// A text is no way to use a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is no way to use a key")]
pub struct ThroughError;

impl FromStr for UsageChannel {
    type Err = ThroughError;

    fn from_str(text: &str) -> Result<Self, ThroughError> {
        match text.split_once(':') {
            None if text == "direct" => Ok(Self::Direct),
            Some(("scheme", name)) if !name.is_empty() => Ok(Self::Scheme(name.to_owned().into())),
            Some(("observed", name)) if !name.is_empty() => Ok(Self::Observed(name.to_owned().into())),
            _ => Err(ThroughError),
        }
    }
}
