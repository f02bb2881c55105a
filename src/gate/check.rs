//! The names of the questions.

use std::fmt;

use crate::restriction::RestrictionKind;

/// One question that is asked about a request and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Did the request come over TLS, where the layer demands it (R14)?
    Https,
    /// Is the scheme still in use, or is its sunset over?
    Sunset,
    /// Has the text the shape of a key that is looked up at all?
    Shape,
    /// May the client ask about the key, or was it, or were others, wrong too often from its address?
    Throttle,
    /// Does the store know the key?
    Known,
    /// Is the key not revoked?
    Revocation,
    /// Is the key not expired?
    Expiry,
    /// Is the key of an environment that is accepted (R55)?
    Environment,
    /// Is the key's owner in good standing?
    Owner,
    /// Is the claimed user the key's owner (R9)?
    User,
    /// Is the request within this restriction of the key (R56)?
    Restriction(RestrictionKind),
    /// Is a project named properly, where one must be, and is it the key's (R45, R46)?
    Project,
    /// May the owner access the project (R11)?
    Access,
    /// Does the owner's role cover what the endpoint does (R20)?
    Role,
    /// Does the key's level cover what the endpoint does (R40)?
    Level,
    /// Is the request within the key's limits?
    Limits,
}

impl Check {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 19] = [
        Self::Https,
        Self::Sunset,
        Self::Shape,
        Self::Throttle,
        Self::Known,
        Self::Revocation,
        Self::Expiry,
        Self::Environment,
        Self::Owner,
        Self::Restriction(RestrictionKind::Scheme),
        Self::User,
        Self::Restriction(RestrictionKind::Ip),
        Self::Restriction(RestrictionKind::Referrer),
        Self::Restriction(RestrictionKind::Endpoint),
        Self::Project,
        Self::Access,
        Self::Role,
        Self::Level,
        Self::Limits,
    ];

    /// For programs: `https`, `sunset`, ..., `ip`, `referrer`, `endpoint`, `scheme`, ..., `limits`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Sunset => "sunset",
            Self::Shape => "shape",
            Self::Throttle => "throttle",
            Self::Known => "known",
            Self::Revocation => "revocation",
            Self::Expiry => "expiry",
            Self::Environment => "environment",
            Self::Owner => "owner",
            Self::User => "user",
            Self::Restriction(kind) => kind.as_str(),
            Self::Project => "project",
            Self::Access => "access",
            Self::Role => "role",
            Self::Level => "level",
            Self::Limits => "limits",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
