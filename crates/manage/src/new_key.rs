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
//! the caller's if it is left out; `restrictions` are written as [`restriction`](tower_api_key::restriction) says, and `limits`
//! as [`limit`](tower_api_key::limit) says, in one text or in a list. `null` is the same as left out.

use axum::extract::Request;
use tower_api_key::clock::Timestamp;
use tower_api_key::key::{Environment, ProjectId};
use tower_api_key::keyring::NewKey;
use tower_api_key::limit::Limits;
use tower_api_key::record::KeyLevel;
use tower_api_key::restriction::Restrictions;

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, Refusal};

/// What the caller asks for.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<NewKey, Refusal> {
    let mut members = Members::read(caller, request).await?;
    let mut text = |name, invalid| members.text(name, invalid).map(Option::flatten);
    let name = text("name", &refusal::INVALID_NAME)?;
    let level = text("level", &refusal::INVALID_LEVEL)?;
    let project_id = text("project_id", &refusal::INVALID_PROJECT_ID)?;
    let environment = text("environment", &refusal::INVALID_ENVIRONMENT)?;
    let expires_at = text("expires_at", &refusal::INVALID_EXPIRES_AT)?;
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
    Ok(Asked { name, level, environment, expires_at, restrictions, limits }.of(caller))
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
    /// A key of the caller's, which has what the caller's has where nothing else is asked for. Whether that is within what
    /// the caller may pass on (C11-02), the ledger judges when it adds the key.
    fn of(self, caller: &Caller) -> NewKey {
        let who = &caller.who;
        let mut new = NewKey::of_level(who.user_id().clone(), self.name, self.level)
            .environment(self.environment.unwrap_or(who.environment()))
            .restrictions(self.restrictions.unwrap_or_else(|| who.restrictions().clone()))
            .scopes(who.scopes().iter().cloned());
        for (name, value) in who.metadata() {
            new = new.metadata(name, value);
        }
        if let Some(limits) = self.limits {
            new = new.limits(limits);
        }
        match self.expires_at {
            Some(end) => new.expires_at(end),
            None => new,
        }
    }
}
