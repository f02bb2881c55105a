//! [`Verdict`]: which restrictions a request violates.

use std::fmt;

/// What a restriction checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestrictionKind {
    /// The client's address.
    Ip,
    /// The page that sends the request.
    Referrer,
    /// The method and the route.
    Endpoint,
    /// The scheme through which the key was sent.
    Scheme,
}

impl RestrictionKind {
    /// All kinds, in the order in which they are checked.
    pub const ALL: [Self; 4] = [Self::Scheme, Self::Ip, Self::Referrer, Self::Endpoint];

    /// The name in logs and metrics: `ip`, `referrer`, `endpoint`, `scheme`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Referrer => "referrer",
            Self::Endpoint => "endpoint",
            Self::Scheme => "scheme",
        }
    }
}

impl fmt::Display for RestrictionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a restriction refuses, or only reports what it would have refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
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

/// The result of checking one request against a key's restrictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    refused: Kinds,
    observed: Kinds,
}

impl Verdict {
    pub(super) fn add(&mut self, kind: RestrictionKind, mode: Mode) {
        match mode {
            Mode::Enforce => self.refused.add(kind),
            Mode::Observe => self.observed.add(kind),
        }
    }

    /// Whether every enforced restriction allows the request.
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

/// Says for operators why a request violates a key's restrictions.
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
