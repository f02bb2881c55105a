//! `/v1/api-keys`: list, show, create, change, rotate and revoke.

use std::slice;

use axum::Json;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{CACHE_CONTROL, PRAGMA};
use serde_json::{Value, json};
use tower_api_key::delivery::Delivery;
use tower_api_key::keyring::{Report, RetirementStatus};
use tower_api_key::store::StoreError;
use tower_api_key::{
    IssuedKey, KeyId, KeyPage, KeyQuery, KeyRecord, Keyring, KeyringError, Usage, UsageChannel,
};

use super::caller::Caller;
use super::path_key::{Params, known, named};
use super::refusal::{self, RouteError};
use super::{body, change as changes, new_key_body, rotation, time};

const MAX_LIMIT: u32 = 100;

type Pairs = Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>;

/// Lists, shows, creates, changes, rotates and revokes the caller's keys. [Nest](Router::nest) it under a path of
/// your choice.
///
/// | | answer |
/// |---|---|
/// | `GET /` | the active keys, oldest first; `?limit` of 1 to 100, `?cursor` (R38); a page with large keys may be shorter |
/// | `POST /` | 201, and the secret once (R29); 422 for an invalid body |
/// | `GET /{id}` | 200, and the key as in the list, even if it has ended |
/// | `PATCH /{id}` | 200, and the updated key; a missing member stays as it was |
/// | `GET /{id}/usage` | through which schemes it was used, when last and how often; a replaced key is `safe_to_end` after a week without use |
/// | `POST /{id}/rotate` | 201, and the new secret once; the old key is revoked (R31), or works on for the `grace` in the body: `{"grace": "7d"}`, `1s` to `90d`; 422 for an invalid one |
/// | `DELETE /{id}` | 200, even if the key is already revoked (R39) |
///
/// Another method is a 405 whose `Allow` lists the methods.
///
/// A client that lost the response to `POST /` and repeats it has two keys; it should revoke the first by its id.
///
/// What a key may do to other keys, and the problems, are in [the module's documentation](super). Declare the
/// routes with [`declare`](super::declare).
///
/// ```
/// use axum::Router;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::Keyring;
/// use tower_api_key_manage as manage;
///
/// let keyring = Keyring::new(MemoryStore::new());
/// let app: Router = Router::new().nest("/v1/api-keys", manage::api_keys(keyring));
/// ```
pub fn api_keys<S>(keyring: Keyring) -> Router<S> {
    let budget = body::room();
    Router::new()
        .route("/", get(list).post(create))
        .route("/{id}", get(show).delete(revoke).patch(change))
        .route("/{id}/rotate", post(rotate))
        .route("/{id}/usage", get(show_usage))
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer(from_fn(move |request, next| body::settle(budget.clone(), request, next)))
        .with_state(keyring)
}

async fn list(
    State(keyring): State<Keyring>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<Value>, RouteError> {
    caller.may_list()?;
    let mut query = asked_for(pairs)?;
    query.environment = Some(caller.who.environment());
    query.active_at = Some(keyring.now());
    let KeyPage { keys, more, .. } = match caller.with(&keyring).page(caller.who.user_id(), &query).await {
        Ok(page) => page,
        Err(KeyringError::NotFound) => return Err((&refusal::INVALID_QUERY).into()),
        Err(error) => return Err(caller.explain(error)),
    };
    let ids: Vec<_> = keys.iter().map(|key| key.id.clone()).collect();
    let used = usage(&caller, &keyring, &ids).await?.unwrap_or_default();
    let rows: Vec<_> = keys.iter().map(|key| shown(key, &used)).collect();
    let mut answer = json!({"success": true, "data": rows});
    if let (true, Some(last), Value::Object(members)) = (more, keys.last(), &mut answer) {
        members.insert("next_cursor".to_owned(), last.id.as_str().into());
    }
    Ok(Json(answer))
}

async fn show(
    State(keyring): State<Keyring>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, RouteError> {
    caller.may_list()?;
    let key = known(&caller, &keyring, params).await?;
    let used = usage(&caller, &keyring, slice::from_ref(&key.id)).await?.unwrap_or_default();
    Ok(Json(json!({"success": true, "data": shown(&key, &used)})))
}

async fn create(
    State(keyring): State<Keyring>,
    caller: Caller,
    request: Request,
) -> Result<Response, RouteError> {
    caller.may_manage(&keyring).await?;
    let new = new_key_body::read(&caller, request).await?;
    let issued = caller.with(&keyring).issue(new).await.map_err(|error| caller.explain(error))?;
    Ok(shown_once(&issued))
}

async fn change(
    State(keyring): State<Keyring>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Json<Value>, RouteError> {
    caller.may_manage(&keyring).await?;
    let update = changes::read(&caller, request).await?;
    let updated = caller.with(&keyring).update(&named(params)?, update).await;
    let key = updated.map_err(|error| caller.explain(error))?;
    // The change is made, so a failure here only leaves the usage out.
    let used = usage(&caller, &keyring, slice::from_ref(&key.id)).await.ok().flatten().unwrap_or_default();
    Ok(Json(json!({"success": true, "data": shown(&key, &used)})))
}

async fn rotate(
    State(keyring): State<Keyring>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Response, RouteError> {
    caller.may_manage(&keyring).await?;
    let grace = rotation::read(&caller, request).await?;
    let rotated = caller.with(&keyring).rotate(&named(params)?, grace).await;
    Ok(shown_once(&rotated.map_err(|error| caller.explain(error))?))
}

async fn revoke(
    State(keyring): State<Keyring>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, RouteError> {
    caller.may_manage(&keyring).await?;
    // A client that lost the response and repeats the request gets the same answer.
    let revoked = caller.with(&keyring).revoke(&named(params)?).await;
    revoked.map_err(|error| match error {
        // Repeating it does no harm.
        KeyringError::OutcomeUnknown(error) => caller.store_failed(error),
        error => caller.explain(error),
    })?;
    Ok(Json(json!({"success": true, "message": "API key revoked successfully"})))
}

/// Shows through which schemes a key was used, and for a replaced key whether it is safe to end it.
async fn show_usage(
    State(keyring): State<Keyring>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, RouteError> {
    caller.may_list()?;
    let key = known(&caller, &keyring, params).await?;
    let used = usage(&caller, &keyring, slice::from_ref(&key.id)).await?;
    let ways = used.as_ref().map(|used| {
        let shown = |usage: &Usage| {
            json!({"by": way(&usage.through), "last_used": time::format(usage.last), "count": usage.count})
        };
        used.iter().map(shown).collect::<Vec<_>>()
    });
    let ending = match (&ways, &key.replaced_by) {
        (Some(_), Some(_)) => {
            let report =
                caller.with(&keyring).report_of(&key.id).await.map_err(|error| caller.explain(error))?;
            report.ending(&key.id, Report::QUIET)
        }
        _ => None,
    };
    let (safe, safe_at) = match ending {
        Some(RetirementStatus::Safe) => (Some(true), None),
        Some(RetirementStatus::Wait(until)) => (Some(false), Some(time::format(until))),
        _ => (None, None),
    };
    Ok(Json(json!({"success": true, "data": {
        "id": key.id.as_str(),
        "usage": ways,
        "replaced_by": key.replaced_by.as_ref().map(|id| id.as_str()),
        "replaced_at": key.replaced_at.map(time::format),
        "expires_at": key.expires_at.map(time::format),
        "safe_to_end": safe,
        "safe_to_end_at": safe_at,
    }})))
}

/// Returns `None` if the store keeps no usage.
async fn usage(caller: &Caller, keyring: &Keyring, ids: &[KeyId]) -> Result<Option<Vec<Usage>>, RouteError> {
    match caller.with(keyring).usage(ids).await {
        Ok(usage) => Ok(Some(usage)),
        Err(KeyringError::Store(StoreError::NotKept)) => Ok(None),
        Err(error) => Err(caller.explain(error)),
    }
}

fn way(through: &UsageChannel) -> &str {
    match through {
        UsageChannel::Scheme(name) => name,
        _ => "direct",
    }
}

fn asked_for(pairs: Pairs) -> Result<KeyQuery, &'static refusal::RouteProblem> {
    let Query(pairs) = pairs.map_err(|_| &refusal::INVALID_QUERY)?;
    let (mut limit, mut cursor) = (None, None);
    for (name, value) in pairs {
        let before = match &*name {
            "limit" => limit.replace(value),
            "cursor" => cursor.replace(value),
            _ => None,
        };
        if before.is_some() {
            return Err(&refusal::INVALID_QUERY);
        }
    }
    let limit = match limit.map(|text| text.parse()) {
        None => MAX_LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => return Err(&refusal::INVALID_QUERY),
    };
    let after = cursor.map(KeyId::new).transpose().map_err(|_| &refusal::INVALID_QUERY)?;
    let mut query = KeyQuery::default();
    (query.after, query.limit) = (after, limit);
    Ok(query)
}

/// The JSON of a key: what the bearer document shows (R38, C11-07), what the key is for, and further members if
/// they apply.
fn shown(key: &KeyRecord, used: &[Usage]) -> Value {
    let last = used.iter().filter(|usage| usage.key == key.id).max_by_key(|usage| usage.last);
    let mut shown = json!({
        "id": key.id.as_str(),
        "name": key.name,
        "prefix": key.prefix,
        "last4": key.last4,
        "level": key.level.as_str(),
        "project_id": key.level.project().map(|project| project.as_str()),
        "environment": key.environment.as_str(),
        "created_at": time::format(key.created_at),
        "expires_at": key.expires_at.map(time::format),
        "last_used": last.map(|usage| time::format(usage.last)),
    });
    let narrowed = !key.restrictions.is_none();
    let more = [
        ("last_used_by", last.map(|usage| json!(way(&usage.through)))),
        ("restrictions", narrowed.then(|| json!(key.restrictions))),
        ("limits", key.limits.as_ref().map(|limits| json!(limits.to_string()))),
        ("scopes", (!key.scopes.is_empty()).then(|| json!(key.scopes))),
        ("replaced_by", key.replaced_by.as_ref().map(|id| json!(id.as_str()))),
        ("revoked_at", key.revoked_at.map(|at| json!(time::format(at)))),
    ];
    if let Value::Object(members) = &mut shown {
        let there = more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        members.extend(there);
    }
    shown
}

fn shown_once(issued: &IssuedKey) -> Response {
    let mut data = shown(issued.record(), &[]);
    if let Value::Object(members) = &mut data {
        let delivery = issued.delivery();
        if delivery != Delivery::None {
            members.insert("delivery".to_owned(), json!(delivery.as_str()));
        }
        members.insert("key".to_owned(), json!(issued.key().expose_secret()));
    }
    // No cache may keep a secret, not even one for HTTP/1.0.
    let headers = [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
    (StatusCode::CREATED, headers, Json(json!({"success": true, "data": data}))).into_response()
}
