//! Reads a request to rotate a key.
//!
//! # Format
//!
//! ```json
//! {"grace": "7d"}
//! ```
//!
//! `grace` is how long the old key works beside the new one: a number and a unit as in
//! [`limit`](tower_api_key::limit), from `1s` to `90d`. Without a body, or with `null`, the old key no longer works
//! when the response arrives (R31).

use axum::extract::Request;
use tower_api_key::Grace;

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, RouteError};

/// Reads the grace period.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<Grace, RouteError> {
    let Some(mut members) = Members::read_if_any(caller, request).await? else { return Ok(Grace::None) };
    let grace = members.text("grace", &refusal::INVALID_GRACE)?;
    members.end(&refusal::UNKNOWN_OF_ROTATION)?;
    let Some(text) = grace.flatten() else { return Ok(Grace::None) };
    Ok(text.parse::<Grace>().map_err(|_| &refusal::INVALID_GRACE)?)
}
