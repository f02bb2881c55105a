//! Reads a request to change a key.
//!
//! # Format
//!
//! ```json
//! {"name": "CI", "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}, "limits": ["12/min", "200/30d"]}
//! ```
//!
//! A missing member stays as it is (RFC 7396). Restrictions and limits are replaced as a whole, and removed by `null`.

use axum::extract::Request;
use tower_api_key::KeyUpdate;

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, RouteError};

/// Reads the change. The registry decides whether the caller may make it.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<KeyUpdate, RouteError> {
    let mut members = Members::read(caller, request).await?;
    let name = members.text("name", &refusal::INVALID_NAME)?;
    let (restrictions, limits) = (members.restrictions(), members.limits());
    members.end(&refusal::UNCHANGEABLE_FIELD)?;
    let mut update = KeyUpdate::new();
    if let Some(name) = name {
        update = update.name(name.ok_or(&refusal::INVALID_NAME)?);
    }
    if let Some(restrictions) = restrictions? {
        update = update.restrictions(restrictions.unwrap_or_default());
    }
    if let Some(limits) = limits? {
        update = update.limits(limits);
    }
    Ok(update)
}
