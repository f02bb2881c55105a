//! The key that a path names by its id.

use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use tower_api_key::KeyId;
use tower_api_key::keyring::Keyring;
use tower_api_key::record::KeyRecord;

use super::caller::Caller;
use super::refusal::{self, Refusal};

/// What a path parameter comes as, or not.
pub(super) type Params = Result<RawPathParams, RawPathParamsRejection>;

/// The key that the path names, if the caller may know of it; otherwise nobody learns why not.
pub(super) async fn known(caller: &Caller, keyring: &Keyring, params: Params) -> Result<KeyRecord, Refusal> {
    let key = caller.with(keyring).get(&named(params)?).await.map_err(|error| caller.explain(error))?;
    Ok(key.filter(|key| caller.knows(key)).ok_or(&refusal::KEY_NOT_FOUND)?)
}

/// The id that the path names. What is no id is nobody's key.
pub(super) fn named(params: Params) -> Result<KeyId, &'static refusal::Own> {
    let params = params.map_err(|_| &refusal::KEY_NOT_FOUND)?;
    // The last, since an outer router may have an `id` of its own.
    let named = params.iter().filter(|(name, _)| *name == "id").last();
    named.and_then(|(_, text)| KeyId::new(text).ok()).ok_or(&refusal::KEY_NOT_FOUND)
}
