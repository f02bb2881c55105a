//! Finds the key whose id is in the path.

use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use tower_api_key::{KeyId, KeyRecord, Keyring};

use super::caller::Caller;
use super::refusal::{self, RouteError};

/// The path parameters, or why they could not be read.
pub(super) type Params = Result<RawPathParams, RawPathParamsRejection>;

/// Returns the key in the path if the caller may see it. Otherwise the caller does not learn why not.
pub(super) async fn known(
    caller: &Caller,
    keyring: &Keyring,
    params: Params,
) -> Result<KeyRecord, RouteError> {
    let key = caller.with(keyring).get(&named(params)?).await.map_err(|error| caller.explain(error))?;
    Ok(key.filter(|key| caller.knows(key)).ok_or(&refusal::KEY_NOT_FOUND)?)
}

/// Returns the id in the path. A malformed id gets the same answer as an unknown key.
pub(super) fn named(params: Params) -> Result<KeyId, &'static refusal::RouteProblem> {
    let params = params.map_err(|_| &refusal::KEY_NOT_FOUND)?;
    // The last one, because an outer router may have an `id` of its own.
    let named = params.iter().filter(|(name, _)| *name == "id").last();
    named.and_then(|(_, text)| KeyId::new(text).ok()).ok_or(&refusal::KEY_NOT_FOUND)
}
