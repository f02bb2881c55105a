//! What a request for a new key asks for.
//!
//! # Format
//!
//! ```json
//! {"name": "CI", "level": "PROJECT", "project_id": "p1", "environment": "live", "expires_at": "2030-01-01T00:00:00Z",
//!  "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}, "limits": "12/min,200/30d"}
//! ```
//!
//! Only `name` is required. `level` is `USER` or `PROJECT` in any case, and `USER` if it is left out; `environment` is
//! the caller's if it is left out; `restrictions` are written as [`restriction`](crate::restriction) says, and `limits`
//! as [`limit`](crate::limit) says, in one text or in a list. `null` is the same as left out.

use axum::extract::Request;

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, Refusal};
use crate::clock::Timestamp;
use crate::error::AuthErrorKind;
use crate::key::{Environment, ProjectId};
use crate::keyring::NewKey;
use crate::limit::Limits;
use crate::record::KeyLevel;
use crate::restriction::Restrictions;

/// What the caller asks for, within what it may ask for.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<NewKey, Refusal> {
    let mut members = Members::read(caller, request).await?;
    let mut texts = [const { None }; 5];
    for (place, name) in texts.iter_mut().zip(["name", "level", "project_id", "environment", "expires_at"]) {
        *place = members.text(caller, name)?.flatten();
    }
    let [name, level, project_id, environment, expires_at] = texts;
    let (restrictions, limits) = (members.restrictions(), members.limits());
    members.end(&refusal::UNKNOWN_FIELD)?;
    let name = name.ok_or(&refusal::INVALID_NAME)?;
    let level = match level.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None | Some("USER") => KeyLevel::User,
        Some("PROJECT") => {
            let project = project_id.as_ref().and_then(|id| ProjectId::new(id).ok());
            KeyLevel::Project(project.ok_or(&refusal::INVALID_PROJECT_ID)?)
        }
        Some(_) => return Err((&refusal::INVALID_LEVEL).into()),
    };
    // A project beside the wider level is a mistake, and never widened in silence (R35).
    if level == KeyLevel::User && project_id.is_some() {
        return Err((&refusal::INVALID_PROJECT_ID).into());
    }
    let environment = match &environment {
        None => None,
        Some(name) => {
            let known = Environment::from_name(&name.to_ascii_lowercase());
            Some(known.ok_or(&refusal::INVALID_ENVIRONMENT)?)
        }
    };
    let expires_at = match &expires_at {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| &refusal::INVALID_EXPIRES_AT)?),
    };
    let (restrictions, limits) = (restrictions?.flatten(), limits?.flatten());
    Asked { name, level, environment, expires_at, restrictions, limits }.within(caller)
}

/// What the members mean.
struct Asked {
    name: String,
    level: KeyLevel,
    environment: Option<Environment>,
    expires_at: Option<Timestamp>,
    restrictions: Option<Restrictions>,
    limits: Option<Limits>,
}

impl Asked {
    /// The caller's own key, cut further: never more than that (C11-02).
    fn within(self, caller: &Caller) -> Result<NewKey, Refusal> {
        let who = &caller.who;
        let other_environment = self.environment.is_some_and(|environment| environment != who.environment());
        let outlives = who.expires_at().is_some_and(|own| self.expires_at.is_none_or(|end| end > own));
        let widens = self.restrictions.as_ref().is_some_and(|asked| !caller.may_restrict_to(asked));
        // A new key has a count of its own: whoever is limited would have twice as much.
        let unlimited = who.limits().is_some();
        if other_environment || outlives || widens || unlimited {
            return Err(caller.refuse(AuthErrorKind::Forbidden));
        }
        let own = || who.restrictions().clone();
        let mut new = NewKey::of_level(who.user_id().clone(), self.name, self.level)
            .environment(who.environment())
            .restrictions(self.restrictions.unwrap_or_else(own))
            .scopes(who.scopes().iter().cloned());
        for (name, value) in who.metadata() {
            new = new.metadata(name, value);
        }
        if let Some(limits) = self.limits {
            new = new.limits(limits);
        }
        Ok(match self.expires_at {
            Some(end) => new.expires_at(end),
            None => new,
        })
    }
}
