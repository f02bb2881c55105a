//! [`Usage`]: when and how often keys were used, and through what. A registry keeps it apart from the keys.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::serde_text::serialize_as_text;

/// The usage of one key through one channel.
///
/// A registry is given new usage and returns the total: it adds the counts up and keeps the latest time, whatever
/// the order of the calls.
///
/// Serde writes a map of its fields, with the channel as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The key.
    pub key: KeyId,
    /// The channel.
    pub through: UsageChannel,
    /// The time of the last use.
    pub last: Timestamp,
    /// The number of uses. After a partly failed write, some may be counted twice.
    pub count: u64,
}

impl Usage {
    /// Creates the usage of a key.
    #[must_use]
    pub fn new(key: KeyId, through: UsageChannel, last: Timestamp, count: u64) -> Self {
        Self { key, through, last, count }
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { key, through, last, count } = self;
        let mut usage = serializer.serialize_struct("Usage", 4)?;
        usage.serialize_field("key", key)?;
        usage.serialize_field("through", through)?;
        usage.serialize_field("last", last)?;
        usage.serialize_field("count", count)?;
        usage.end()
    }
}

serialize_as_text!(UsageChannel);

/// The channel through which a key was used. The order is that of their texts.
///
/// A registry stores its text, such as `scheme:bearer` or `observed:ip`, and parses it strictly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UsageChannel {
    /// A request was accepted without a scheme: the application called the [`Verifier`](crate::Verifier) directly.
    Direct,
    /// A request was accepted that this restriction would have refused if it were enforced.
    Observed(Cow<'static, str>),
    /// A request was accepted through the scheme of this name.
    Scheme(Cow<'static, str>),
}

impl UsageChannel {
    /// Whether this counts as a use, and not as a note on one.
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

/// The error for a text that is not a usage channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a known usage channel")]
pub struct ParseUsageChannelError;

impl FromStr for UsageChannel {
    type Err = ParseUsageChannelError;

    fn from_str(text: &str) -> Result<Self, ParseUsageChannelError> {
        match text.split_once(':') {
            None if text == "direct" => Ok(Self::Direct),
            Some(("scheme", name)) if !name.is_empty() => Ok(Self::Scheme(name.to_owned().into())),
            Some(("observed", name)) if !name.is_empty() => Ok(Self::Observed(name.to_owned().into())),
            _ => Err(ParseUsageChannelError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_serialized_with_the_text_of_its_channel() {
        let channel = UsageChannel::Scheme("bearer".into());
        let usage = Usage::new(KeyId::new("key_1").unwrap(), channel, Timestamp::from_secs(1), 3);
        let json = r#"{"key":"key_1","through":"scheme:bearer","last":"1970-01-01T00:00:01Z","count":3}"#;
        assert_eq!(serde_json::to_string(&usage).unwrap(), json);
    }
}
