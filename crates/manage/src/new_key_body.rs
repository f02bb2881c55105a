//! Reads a request for a new key.
//!
//! # Format
//!
//! ```json
//! {"name": "CI", "level": "PROJECT", "project_id": "p1", "environment": "live", "expires_at": "2030-01-01T00:00:00Z",
//!  "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}, "limits": "12/min,200/30d"}
//! ```
//!
//! Only `name` is required. `level` is `USER` (default) or `PROJECT`, in any case; `environment` defaults to the
//! caller's; `restrictions` are written as in [`restriction`](tower_api_key::restriction), and `limits` as in
//! [`limit`](tower_api_key::limit), in one text or a list. `null` means missing.

use axum::extract::Request;
use tower_api_key::NewKey;
use tower_api_key::keyring::{NewKeyError, NewKeyRequest};

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, RouteError};

/// Reads the request. The new key belongs to the caller, and takes the caller's values where the request sets none. The
/// registry checks that it is within the caller's rights (C11-02).
pub(super) async fn read(caller: &Caller, request: Request) -> Result<NewKey, RouteError> {
    let who = &caller.who;
    let mut members = Members::read(caller, request).await?;
    let mut text = |name, invalid| members.text(name, invalid).map(Option::flatten);
    let mut asked = NewKeyRequest::default();
    asked.name = text("name", &refusal::INVALID_NAME)?;
    asked.level = text("level", &refusal::INVALID_LEVEL)?;
    asked.project = text("project_id", &refusal::INVALID_PROJECT_ID)?;
    let environment = text("environment", &refusal::INVALID_ENVIRONMENT)?;
    asked.environment = Some(environment.unwrap_or_else(|| who.environment().as_str().to_owned()));
    asked.expires_at = text("expires_at", &refusal::INVALID_EXPIRES_AT)?;
    let (restrictions, limits) = (members.restrictions(), members.limits());
    members.end(&refusal::UNKNOWN_FIELD)?;
    let new = asked.for_owner(who.user_id().clone());
    let new = new.map_err(|errors| invalid(errors.first()))?;
    let (restrictions, limits) = (restrictions?.flatten(), limits?.flatten());
    let mut new = new
        .restrictions(restrictions.unwrap_or_else(|| who.restrictions().clone()))
        .scopes(who.scopes().iter().cloned());
    for (name, value) in who.metadata() {
        new = new.metadata(name, value);
    }
    Ok(match limits {
        Some(limits) => new.limits(limits),
        None => new,
    })
}

fn invalid(error: NewKeyError) -> &'static refusal::RouteProblem {
    match error {
        NewKeyError::Level => &refusal::INVALID_LEVEL,
        NewKeyError::NoProject | NewKeyError::ProjectOfUserLevel => &refusal::INVALID_PROJECT_ID,
        NewKeyError::Environment => &refusal::INVALID_ENVIRONMENT,
        NewKeyError::ExpiresAt => &refusal::INVALID_EXPIRES_AT,
        _ => &refusal::INVALID_NAME,
    }
}
