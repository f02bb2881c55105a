//! What a request to rotate a key asks for.
//!
//! # Format
//!
//! ```json
//! {"grace": "7d"}
//! ```
//!
//! `grace` is how long the old key works beside the new one: a number and a unit as in [`limit`](crate::limit), from
//! `1s` to `90d`. Without a body, or with `null`, the old key is dead when the answer comes (R31).

use axum::extract::Request;

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, Refusal};
use crate::keyring::Grace;
use crate::limit;
use crate::record::LONGEST_GRACE;

/// What the caller asks for.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<Grace, Refusal> {
    let Some(mut members) = Members::read_if_any(caller, request).await? else { return Ok(Grace::None) };
    let grace = members.text("grace", &refusal::INVALID_GRACE)?;
    members.end(&refusal::UNKNOWN_OF_ROTATION)?;
    let Some(text) = grace.flatten() else { return Ok(Grace::None) };
    let grace = limit::period(&text).filter(|grace| *grace <= LONGEST_GRACE);
    Ok(Grace::For(grace.ok_or(&refusal::INVALID_GRACE)?))
}
