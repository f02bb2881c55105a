//! What an explanation says.

use std::fmt;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::gate::Check;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;
use crate::scheme_info::SchemeInfo;

/// Why a request is let in or refused: every check with its outcome, in the order in which they are asked.
///
/// It tells everything, and so it is for those who run the service or manage the key: what clients may see of a refusal
/// is in [`error`](Self::error). Its text is for people; as JSON, with serde:
///
/// ```json
/// {"key_id": "key_1", "user_id": "alice", "accepted": false,
///  "answer": {"status": 403, "error": "restricted", "message": "..."}, "decided_by": "ip",
///  "checks": [{"check": "https", "outcome": "passed", "detail": "..."}, ..]}
/// ```
///
/// `answer` and `decided_by` are `null` where the request is let in, and `detail` is left out where there is none. Where
/// a key is [optional](crate::Endpoints::optional), there is also `"key_optional": true`.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub(super) key: KeyId,
    pub(super) owner: UserId,
    pub(super) findings: Vec<Finding>,
    pub(super) error: Option<AuthError>,
    pub(super) optional: bool,
}

/// What one check says.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) check: Check,
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It lets the request through.
    Passed,
    /// It lets the request through, but would refuse it if the restriction were enforced.
    Observed,
    /// It refuses. The first that does is the answer to the request, which is then not asked the others.
    Refused(AuthErrorKind),
    /// Nothing can be said, for want of the answer of a check before it.
    NotReached,
}

impl Outcome {
    /// For programs: `passed`, `observed`, `refused`, `not_reached`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Observed => "observed",
            Self::Refused(_) => "refused",
            Self::NotReached => "not_reached",
        }
    }
}

impl Explanation {
    pub(crate) fn public(key: &KeyRecord) -> Self {
        Self {
            key: key.id.clone(),
            owner: key.owner.clone(),
            findings: Vec::new(),
            error: None,
            optional: false,
        }
    }

    /// Of an endpoint where a key is optional.
    pub(crate) fn where_optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// With the answer of a layer about TLS, which it gives before it looks at a key.
    pub(crate) fn over_tls(mut self, required: bool, in_clear: bool, scheme: Option<&SchemeInfo>) -> Self {
        let refused = required && in_clear;
        if refused {
            self.error = Some(AuthError::new(AuthErrorKind::InsecureTransport, scheme));
        }
        for finding in self.findings.iter_mut().filter(|finding| finding.check == Check::Https) {
            if refused {
                finding.outcome = Outcome::Refused(AuthErrorKind::InsecureTransport);
            }
            finding.detail = match (required, in_clear) {
                (false, _) => "the layer does not demand it".into(),
                (true, true) => "the layer demands it, and the request comes in clear".into(),
                (true, false) => "the layer demands it".into(),
            };
        }
        self
    }

    /// The key.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key
    }

    /// Its owner.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.owner
    }

    /// Every check, in the order in which they are asked: those of [`Check::ALL`]. None at a public endpoint, where no
    /// key is looked at.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The first check that refuses.
    #[must_use]
    pub fn decided_by(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| matches!(finding.outcome, Outcome::Refused(_)))
    }

    /// The refusal, in the words that the client sees; `None` if the request is let in.
    #[must_use]
    pub fn error(&self) -> Option<&AuthError> {
        self.error.as_ref()
    }

    /// Whether the request is let in.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the endpoint is public, so that no key is looked at.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether a key is [optional](crate::Endpoints::optional) at the endpoint: without one, the request is let in as
    /// nobody's, if it comes over TLS where that is demanded. A key that is sent must be good.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.optional
    }
}

impl Finding {
    /// The check.
    #[must_use]
    pub fn check(&self) -> Check {
        self.check
    }

    /// How it ends.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What was seen and what was looked for, for people; empty if there is nothing to say.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: ", self.key, self.owner)?;
        match (&self.error, self.decided_by()) {
            (Some(error), Some(finding)) => writeln!(
                f,
                "refused by {} with {} {}: {}",
                finding.check,
                error.status().as_u16(),
                error.public_code(),
                error.message()
            )?,
            _ if self.is_public() => {
                return writeln!(f, "let in: the endpoint is public, and no key is looked at");
            }
            _ => writeln!(f, "let in")?,
        }
        let mut decided = false;
        for Finding { check, outcome, detail } in &self.findings {
            let mark = match outcome {
                Outcome::Passed => "ok",
                Outcome::Observed => "(no)",
                // In capitals, what answers; those after it are not asked any more.
                Outcome::Refused(_) if decided => "no",
                Outcome::Refused(_) => "NO",
                Outcome::NotReached => "-",
            };
            decided |= matches!(outcome, Outcome::Refused(_));
            let line = format!("  {mark:<5} {check:<12} {detail}");
            writeln!(f, "{}", line.trim_end())?;
        }
        if self.optional {
            writeln!(f, "  a key is optional here, and one that is sent must be good")?;
        }
        Ok(())
    }
}

impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key_id", self.key.as_str())?;
        map.serialize_entry("user_id", self.owner.as_str())?;
        map.serialize_entry("accepted", &self.is_accepted())?;
        map.serialize_entry("answer", &self.error.as_ref().map(Answer))?;
        map.serialize_entry("decided_by", &self.decided_by().map(|finding| finding.check.as_str()))?;
        if self.optional {
            map.serialize_entry("key_optional", &true)?;
        }
        map.serialize_entry("checks", &self.findings)?;
        map.end()
    }
}

/// What the client sees of a refusal.
struct Answer<'e>(&'e AuthError);

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("status", &self.0.status().as_u16())?;
        map.serialize_entry("error", self.0.public_code())?;
        map.serialize_entry("message", &*self.0.message())?;
        map.end()
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("check", self.check.as_str())?;
        map.serialize_entry("outcome", self.outcome.as_str())?;
        if !self.detail.is_empty() {
            map.serialize_entry("detail", &self.detail)?;
        }
        map.end()
    }
}
