//! [`Check`]: the names of the checks.

use std::fmt;

use crate::restriction::RestrictionKind;

/// One check of a request and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Did the request come over TLS, if the layer requires it (R14)?
    Https,
    /// Is the scheme still accepted, or is its sunset over?
    Sunset,
    /// Does the text have the shape of a key that is looked up at all?
    Shape,
    /// May the client's address try another key? Not if it has sent this wrong key, or other wrong keys, too often.
    Throttle,
    /// Does the store know the key?
    Known,
    /// Is the key not revoked?
    Revocation,
    /// Is the key not expired?
    Expiry,
    /// Is the key of an environment that is accepted (R55)?
    Environment,
    /// Is the account of the key's owner active?
    Owner,
    /// Is the claimed user the key's owner (R9)?
    User,
    /// Is the request within this restriction of the key (R56)?
    Restriction(RestrictionKind),
    /// Is a valid project named where one is required, and does it match the project of the key (R45, R46)?
    Project,
    /// May the owner access the project (R11)?
    Access,
    /// Does the owner's role allow what the endpoint does (R20)?
    Role,
    /// Does the key's level allow what the endpoint does (R40)?
    Level,
    /// Is the request within the key's rate limits?
    Limits,
}

impl Check {
    /// All of them, in the order in which they are made.
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

    /// The name for programs: `https`, `sunset`, ..., `ip`, `referrer`, `endpoint`, `scheme`, ..., `limits`.
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
