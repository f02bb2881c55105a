//! What narrows a key: from which addresses, from which pages and at which endpoints it may be used (R56).
//!
//! # Format
//!
//! ```json
//! {"ip":{"allow":["192.0.2.0/24","2001:db8::/32"]},
//!  "referrer":{"mode":"observe","allow":["https://*.example.com/app"],"origin":true},
//!  "endpoints":{"allow":["GET /v1/users/{id}"]}}
//! ```
//!
//! This is the text for stores and management alike. A member that is left out does not restrict; `mode` is `enforce`
//! unless it says `observe`, and `origin` is false. Unknown and repeated members are errors.
//!
//! # How they judge
//!
//! Each is a list of what is allowed; a key with several needs them all. An empty list allows nobody, and what is not
//! known about a request is not allowed: without a peer address, a key with an IP restriction is refused. A
//! restriction that is set to [`Mode::Observe`] lets the request through and says what it would have refused, so that
//! a key in use can be tightened without an outage.

pub mod endpoint;
mod facts;
pub mod ip;
pub mod referrer;
mod text;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

pub use self::endpoint::{EndpointRestriction, EndpointRule};
pub use self::facts::Facts;
pub use self::ip::{IpRestriction, Network};
pub use self::referrer::{ReferrerRestriction, ReferrerRule};

/// The restrictions of one key; by default none, which costs a request one comparison.
///
/// ```
/// use tower_api_key::restriction::{EndpointRestriction, Facts, IpRestriction, Restrictions};
///
/// let restrictions = Restrictions::none()
///     .ip(IpRestriction::allow(["192.0.2.0/24"])?)
///     .endpoints(EndpointRestriction::allow(["GET /v1/users/{id}"])?.observe());
///
/// let verdict = restrictions.judge(&Facts::new().address([192, 0, 2, 7]));
/// assert!(verdict.is_allowed());
/// // No endpoint is known, so that the second one would have refused.
/// assert_eq!(verdict.observed().count(), 1);
/// # Ok::<(), tower_api_key::restriction::RestrictionError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions(Option<Box<Parts>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    ip: Option<IpRestriction>,
    referrer: Option<ReferrerRestriction>,
    endpoints: Option<EndpointRestriction>,
}

impl Restrictions {
    /// No restriction.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether there is no restriction, so that nothing needs to be found out about a request.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Restricts the client's address; replaces an earlier restriction of it.
    #[must_use]
    pub fn ip(mut self, restriction: IpRestriction) -> Self {
        self.parts().ip = Some(restriction);
        self
    }

    /// Restricts the page that sends the request; replaces an earlier restriction of it.
    #[must_use]
    pub fn referrer(mut self, restriction: ReferrerRestriction) -> Self {
        self.parts().referrer = Some(restriction);
        self
    }

    /// Restricts the endpoints; replaces an earlier restriction of them.
    #[must_use]
    pub fn endpoints(mut self, restriction: EndpointRestriction) -> Self {
        self.parts().endpoints = Some(restriction);
        self
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }

    /// The restriction of the client's address.
    #[must_use]
    pub fn get_ip(&self) -> Option<&IpRestriction> {
        self.0.as_ref()?.ip.as_ref()
    }

    /// The restriction of the page that sends the request.
    #[must_use]
    pub fn get_referrer(&self) -> Option<&ReferrerRestriction> {
        self.0.as_ref()?.referrer.as_ref()
    }

    /// The restriction of the endpoints.
    #[must_use]
    pub fn get_endpoints(&self) -> Option<&EndpointRestriction> {
        self.0.as_ref()?.endpoints.as_ref()
    }

    /// Judges a request by every restriction, in the order of [`RestrictionKind::ALL`].
    pub fn judge(&self, facts: &Facts<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        for kind in RestrictionKind::ALL {
            if let Some((mode, false)) = self.check(kind, facts) {
                match mode {
                    Mode::Enforce => verdict.refused.add(kind),
                    Mode::Observe => verdict.observed.add(kind),
                }
            }
        }
        verdict
    }

    /// What one restriction says of a request: its mode, and whether it allows the request. `None` if there is none.
    #[must_use]
    pub fn check(&self, kind: RestrictionKind, facts: &Facts<'_>) -> Option<(Mode, bool)> {
        let parts = self.0.as_deref()?;
        match kind {
            RestrictionKind::Ip => parts.ip.as_ref().map(|ip| (ip.mode(), ip.allows(facts))),
            RestrictionKind::Referrer => {
                parts.referrer.as_ref().map(|referrer| (referrer.mode(), referrer.allows(facts)))
            }
            RestrictionKind::Endpoint => {
                parts.endpoints.as_ref().map(|endpoints| (endpoints.mode(), endpoints.allows(facts)))
            }
        }
    }
}

/// What a restriction looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestrictionKind {
    /// The client's address.
    Ip,
    /// The page that sends the request.
    Referrer,
    /// The method and the route.
    Endpoint,
}

impl RestrictionKind {
    /// All of them, in the order in which they are judged.
    pub const ALL: [Self; 3] = [Self::Ip, Self::Referrer, Self::Endpoint];

    /// For logs and metrics: `ip`, `referrer`, `endpoint`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Referrer => "referrer",
            Self::Endpoint => "endpoint",
        }
    }
}

impl fmt::Display for RestrictionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a restriction refuses, or only says what it would have refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It refuses.
    #[default]
    Enforce,
    /// It lets the request through.
    Observe,
}

impl Mode {
    /// `enforce` or `observe`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// What restrictions say of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    refused: Kinds,
    observed: Kinds,
}

impl Verdict {
    /// Whether no enforced restriction refuses.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.refused == Kinds::default()
    }

    /// Whether this restriction is enforced and refuses.
    #[must_use]
    pub fn refuses(&self, kind: RestrictionKind) -> bool {
        self.refused.has(kind)
    }

    /// The enforced restrictions that refuse.
    pub fn refused(&self) -> impl Iterator<Item = RestrictionKind> + use<> {
        self.refused.iter()
    }

    /// The observed restrictions that would have refused.
    pub fn observed(&self) -> impl Iterator<Item = RestrictionKind> + use<> {
        self.observed.iter()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused by the key's restrictions:")?;
        self.refused().try_for_each(|kind| write!(f, " {kind}"))
    }
}

/// Why a request is outside of a key's restrictions, for those who run the service.
impl std::error::Error for Verdict {}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    fn add(&mut self, kind: RestrictionKind) {
        self.0 |= 1 << kind as u8;
    }

    fn has(self, kind: RestrictionKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    fn iter(self) -> impl Iterator<Item = RestrictionKind> {
        RestrictionKind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

/// A restriction that was not understood. Its text says what to write instead, and is for whoever makes the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?}: {reason}")]
pub struct RestrictionError {
    entry: String,
    reason: Cow<'static, str>,
}

impl RestrictionError {
    fn new(entry: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        const SHOWN: usize = 80;
        let mut shown: String = entry.chars().take(SHOWN).collect();
        if shown.len() < entry.len() {
            shown.push_str("...");
        }
        Self { entry: shown, reason: reason.into() }
    }

    /// What was not understood, cut off if it is long.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// What is wrong with it, and what to write instead.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// How many entries a list may have, and how long one may be.
const MAX_ENTRIES: usize = 100;
const MAX_ENTRY_LEN: usize = 512;

/// Parses the entries of a list, none twice.
fn parse_list<R, S>(entries: impl IntoIterator<Item = S>) -> Result<Vec<R>, RestrictionError>
where
    R: FromStr<Err = RestrictionError> + PartialEq,
    S: AsRef<str>,
{
    let mut rules = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        if entry.len() > MAX_ENTRY_LEN {
            return Err(RestrictionError::new(entry, "an entry may have 512 characters"));
        }
        let rule = entry.parse()?;
        if rules.contains(&rule) {
            return Err(RestrictionError::new(entry, "it is listed twice: leave one out"));
        }
        if rules.len() == MAX_ENTRIES {
            return Err(RestrictionError::new(
                entry,
                "a list may have 100 entries: widen some, or make two keys",
            ));
        }
        rules.push(rule);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests;
