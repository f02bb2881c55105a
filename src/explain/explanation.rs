//! [`Explanation`]: the result of every check, as text and as JSON.

use std::fmt;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::gate::Check;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;
use crate::scheme_info::SchemeInfo;

/// Why a request is accepted or refused: every check with its outcome, in the order of the checks.
///
/// It tells everything, so show it only to operators and to people who manage the key. What a client may see of a
/// refusal is in [`error`](Self::error). `Display` writes text for people; serde writes JSON:
///
/// ```json
/// {"key_id": "key_1", "user_id": "alice", "accepted": false,
///  "answer": {"status": 403, "error": "restricted", "message": "..."}, "decided_by": "ip",
///  "checks": [{"check": "https", "outcome": "passed", "detail": "..."}, ..]}
/// ```
///
/// `answer` and `decided_by` are `null` if the request is accepted. `detail` is omitted if it is empty. At an
/// endpoint where a key is [optional](crate::Endpoints::optional) there is also `"key_optional": true`.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub(super) key: KeyId,
    pub(super) owner: UserId,
    pub(super) findings: Vec<Finding>,
    pub(super) error: Option<AuthError>,
    pub(super) optional: bool,
}

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) check: Check,
    pub(super) outcome: CheckOutcome,
    pub(super) detail: String,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckOutcome {
    /// The check passes.
    Passed,
    /// The check passes, but would refuse if the restriction were enforced.
    Observed,
    /// The check refuses. The first refusal is the answer to a request, which skips the remaining checks.
    Refused(AuthErrorKind),
    /// Unknown, because an earlier check gave no result that this one needs.
    NotReached,
}

impl CheckOutcome {
    /// The name for programs: `passed`, `observed`, `refused`, `not_reached`.
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

    /// Marks that a key is optional at the endpoint.
    pub(crate) fn where_optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Adds the layer's TLS check, which precedes the checks of the key.
    pub(crate) fn over_tls(mut self, required: bool, in_clear: bool, scheme: Option<&SchemeInfo>) -> Self {
        let refused = required && in_clear;
        if refused {
            self.error = Some(AuthError::new(AuthErrorKind::InsecureTransport, scheme));
        }
        for finding in self.findings.iter_mut().filter(|finding| finding.check == Check::Https) {
            if refused {
                finding.outcome = CheckOutcome::Refused(AuthErrorKind::InsecureTransport);
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

    /// Every check, in the order of [`Check::ALL`]. Empty at a public endpoint, where no key is looked at.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The first check that refuses, if any.
    #[must_use]
    pub fn decided_by(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| matches!(finding.outcome, CheckOutcome::Refused(_)))
    }

    /// The refusal as the client sees it; `None` if the request is accepted.
    #[must_use]
    pub fn error(&self) -> Option<&AuthError> {
        self.error.as_ref()
    }

    /// Whether the request is accepted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the endpoint is public, so that no key is looked at.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether a key is [optional](crate::Endpoints::optional) at the endpoint. A request without one is then
    /// accepted without a principal, if it comes over TLS where that is required. A key that is sent must be valid.
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

    /// Its outcome.
    #[must_use]
    pub fn outcome(&self) -> CheckOutcome {
        self.outcome
    }

    /// What was found and what was expected, for people; may be empty.
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
                CheckOutcome::Passed => "ok",
                CheckOutcome::Observed => "(no)",
                // Only the refusal that decides is in capitals; a request would skip the later checks.
                CheckOutcome::Refused(_) if decided => "no",
                CheckOutcome::Refused(_) => "NO",
                CheckOutcome::NotReached => "-",
            };
            decided |= matches!(outcome, CheckOutcome::Refused(_));
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
        map.serialize_entry("answer", &self.error.as_ref().map(ClientView))?;
        map.serialize_entry("decided_by", &self.decided_by().map(|finding| finding.check.as_str()))?;
        if self.optional {
            map.serialize_entry("key_optional", &true)?;
        }
        map.serialize_entry("checks", &self.findings)?;
        map.end()
    }
}

/// The refusal as the client sees it.
struct ClientView<'e>(&'e AuthError);

impl Serialize for ClientView<'_> {
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
