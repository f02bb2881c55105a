//! What a request to change a key asks for.
//!
//! # Format
//!
//! ```json
//! {"name": "CI", "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}, "limits": ["12/min", "200/30d"]}
//! ```
//!
//! What is left out stays as it is (RFC 7396). Restrictions and limits are replaced as a whole, and `null` takes them away.

use axum::extract::Request;

use super::body::Members;
use super::caller::Caller;
use super::refusal::{self, Refusal};
use crate::error::AuthErrorKind;
use crate::record::Amendment;

/// What the caller asks for, within what it may ask for.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<Amendment, Refusal> {
    let mut members = Members::read(caller, request).await?;
    let name = members.text(caller, "name")?;
    let (restrictions, limits) = (members.restrictions(), members.limits());
    members.end(&refusal::UNCHANGEABLE_FIELD)?;
    let mut amendment = Amendment::new();
    if let Some(name) = name {
        amendment = amendment.name(name.ok_or(&refusal::INVALID_NAME)?);
    }
    if let Some(restrictions) = restrictions? {
        let restrictions = restrictions.unwrap_or_default();
        if !caller.may_restrict_to(&restrictions) {
            return Err(caller.refuse(AuthErrorKind::Forbidden));
        }
        amendment = amendment.restrictions(restrictions);
    }
    if let Some(limits) = limits? {
        // Whether other limits are tighter is not worked out either: of the keys that share its count, a limited one
        // leaves the limits alone.
        let own = caller.who.limits();
        if own.is_some() && limits.as_ref() != own {
            return Err(caller.refuse(AuthErrorKind::Forbidden));
        }
        amendment = amendment.limits(limits);
    }
    Ok(amendment)
}
