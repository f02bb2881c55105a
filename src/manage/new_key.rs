//! The body of a request for a new key.
//!
//! # Format
//!
//! ```json
//! {"name": "CI", "level": "PROJECT", "project_id": "p1", "environment": "live", "expires_at": "2030-01-01T00:00:00Z",
//!  "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}}
//! ```
//!
//! Only `name` is required. `level` is `USER` or `PROJECT` in any case, and `USER` if it is left out; `environment` is
//! the caller's if it is left out; `restrictions` are written as [`restriction`](crate::restriction) says. `null` is the same as left out. Anything else in the object is refused: who owns a
//! key and what it may do is never the client's to say (C11-01).

use axum::extract::Request;
use serde_json::value::RawValue;

use super::caller::Caller;
use super::members::{Members, string};
use super::refusal::{self, Refusal};
use super::time;
use crate::clock::Timestamp;
use crate::error::AuthErrorKind;
use crate::key::{Environment, ProjectId};
use crate::keyring::NewKey;
use crate::record::KeyLevel;
use crate::restriction::Restrictions;

const NAMES: [&str; 6] = ["name", "level", "project_id", "environment", "expires_at", "restrictions"];

/// What the caller asks for, within what it may ask for.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<NewKey, Refusal> {
    let fields = Fields::read(caller, request).await?;
    let asked = Asked::of(&fields)?;
    asked.within(caller)
}

/// The members of the object, as they stand there.
struct Fields {
    name: Option<String>,
    level: Option<String>,
    project_id: Option<String>,
    environment: Option<String>,
    expires_at: Option<String>,
    /// Read once more, strictly and with a reason where it is wrong.
    restrictions: Option<Box<RawValue>>,
    unknown: bool,
}

impl Fields {
    /// Strings and `null` only, but for the restrictions.
    async fn read(caller: &Caller, request: Request) -> Result<Self, Refusal> {
        let Members { values, unknown } = Members::of(caller, request, &NAMES).await?;
        let [name, level, project_id, environment, expires_at, restrictions] = values;
        let string = |member| string(caller, member);
        Ok(Self {
            name: string(name)?,
            level: string(level)?,
            project_id: string(project_id)?,
            environment: string(environment)?,
            expires_at: string(expires_at)?,
            restrictions,
            unknown,
        })
    }
}

/// What the members mean.
struct Asked {
    name: String,
    level: KeyLevel,
    environment: Option<Environment>,
    expires_at: Option<Timestamp>,
    restrictions: Option<Restrictions>,
}

impl Asked {
    fn of(fields: &Fields) -> Result<Self, Refusal> {
        if fields.unknown {
            return Err((&refusal::UNKNOWN_FIELD).into());
        }
        let name = fields.name.clone().ok_or(&refusal::INVALID_NAME)?;
        let level = match fields.level.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("USER") => KeyLevel::User,
            Some("PROJECT") => {
                let project = fields.project_id.as_ref().and_then(|id| ProjectId::new(id).ok());
                KeyLevel::Project(project.ok_or(&refusal::INVALID_PROJECT_ID)?)
            }
            Some(_) => return Err((&refusal::INVALID_LEVEL).into()),
        };
        // A project beside the wider level is a mistake, and never widened in silence (R35).
        if level == KeyLevel::User && fields.project_id.is_some() {
            return Err((&refusal::INVALID_PROJECT_ID).into());
        }
        let environment = match &fields.environment {
            None => None,
            Some(name) => Some(
                Environment::from_name(&name.to_ascii_lowercase()).ok_or(&refusal::INVALID_ENVIRONMENT)?,
            ),
        };
        let expires_at = match &fields.expires_at {
            None => None,
            Some(text) => Some(time::parse(text).ok_or(&refusal::INVALID_EXPIRES_AT)?),
        };
        let restrictions = fields.restrictions.as_ref().map(|text| text.get().parse()).transpose();
        let restrictions = restrictions.map_err(Refusal::Restrictions)?;
        Ok(Self { name, level, environment, expires_at, restrictions })
    }

    /// The caller's own key, cut further: never more than that (C11-02).
    fn within(self, caller: &Caller) -> Result<NewKey, Refusal> {
        let who = &caller.who;
        let other_environment = self.environment.is_some_and(|environment| environment != who.environment());
        let outlives = who.expires_at().is_some_and(|own| self.expires_at.is_none_or(|end| end > own));
        // Whether one set of restrictions is within another is not worked out: a restricted caller passes on its own.
        let own = who.restrictions();
        let widens = !own.is_none() && self.restrictions.as_ref().is_some_and(|asked| asked != own);
        // A new key has a count of its own: whoever is limited would have twice as much.
        let unlimited = who.limited_family().is_some();
        if other_environment || outlives || widens || unlimited {
            return Err(caller.refuse(AuthErrorKind::Forbidden));
        }
        let new = NewKey::of_level(who.user_id().clone(), self.name, self.level)
            .environment(who.environment())
            .restrictions(self.restrictions.unwrap_or_else(|| own.clone()))
            .scopes(who.scopes().iter().cloned());
        let new = who.metadata().iter().fold(new, |new, (name, value)| new.metadata(name, value));
        Ok(match self.expires_at {
            Some(end) => new.expires_at(end),
            None => new,
        })
    }
}
