//! Scheme restrictions: through which schemes a key may be sent.

use std::fmt;
use std::str::FromStr;

use super::list::SEVERAL;
use super::{AllowList, RequestContext, RestrictionError};
use crate::scheme_info::is_token;

/// Through which schemes a key may be sent. Through any other scheme the key is treated as unknown and refused with
/// 401.
///
/// # Format
///
/// ```text
/// bearer
/// api-key-header
/// ```
///
/// The name of a scheme as [`SchemeInfo::name`](crate::scheme_info::SchemeInfo::name) returns it: 1 to 64 of `A-Z a-z 0-9` and
/// ``! # $ % & ' * + - . ^ _ ` | ~``, compared exactly. The names are not checked when a key is made, because the
/// layer's schemes are not known there: a name that no scheme has allows nothing.
pub type SchemeRestriction = AllowList<SchemeRule>;

impl AllowList<SchemeRule> {
    pub(super) fn allows(&self, facts: &RequestContext<'_>) -> bool {
        facts.scheme.is_some_and(|scheme| self.rules.iter().any(|rule| *rule.0 == *scheme))
    }
}

/// The name of one scheme: see [the format](SchemeRestriction#format).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemeRule(Box<str>);

impl SchemeRule {
    /// How many bytes it allocates on the heap.
    #[cfg(feature = "cache")]
    pub(super) fn heap_len(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for SchemeRule {
    type Err = RestrictionError;

    fn from_str(text: &str) -> Result<Self, RestrictionError> {
        const MAX_LEN: usize = 64;
        if is_token(text) && text.len() <= MAX_LEN {
            return Ok(Self(text.into()));
        }
        let name = "a scheme is written by its name, such as bearer, api-key-header or json-body";
        let reason = if text.contains(',') { SEVERAL } else { name };
        Err(RestrictionError::new(text, reason))
    }
}

impl fmt::Display for SchemeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_exactly_and_nothing_known_is_nothing_allowed() {
        let both = SchemeRestriction::allow(["bearer", "device-token"]).unwrap();
        let at = |name| both.allows(&RequestContext::new().scheme(name));
        assert!(at("bearer") && at("device-token"));
        assert!(!at("Bearer") && !at("bearer ") && !at("bear") && !at(""));
        assert!(!both.allows(&RequestContext::new()));
        assert!(!SchemeRestriction::allow([""; 0]).unwrap().allows(&RequestContext::new().scheme("bearer")));
        for text in ["", " bearer", "bearer,json-body", "a b", "bearer/", "ü", "\"bearer\"", &"x".repeat(65)]
        {
            assert!(text.parse::<SchemeRule>().is_err(), "{text:?}");
        }
    }
}
