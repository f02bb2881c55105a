//! `/v1/api-keys/{id}/explain`: why a request with this key is refused.
//!
//! # Format
//!
//! ```json
//! {"method": "POST", "route": "/v1/charges", "scheme": "bearer", "project_id": "p1", "user_id": "alice",
//!  "address": "192.0.2.7", "referrer": "https://app.example.com/", "origin": "https://app.example.com", "proto": "https"}
//! ```
//!
//! Every member may be missing or `null`; `method` is then `GET`, and `proto` is `https`. Use `path` instead of
//! `route` for a path that no router has matched.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::Method;
use http::header::CACHE_CONTROL;
use serde_json::json;
use tower_api_key::Keyring;
use tower_api_key::explain::{Explainer, Question};

use super::body::{self, Members};
use super::caller::Caller;
use super::path_key::{Params, known};
use super::refusal::{self, RouteError};

/// The members that are read, and the error for a value that is not a text.
const MEMBERS: [(&str, &refusal::RouteProblem); 10] = [
    ("method", &refusal::INVALID_METHOD),
    ("route", &refusal::INVALID_ROUTE),
    ("path", &refusal::INVALID_PATH),
    ("scheme", &refusal::INVALID_SCHEME),
    ("project_id", &refusal::INVALID_PROJECT),
    ("user_id", &refusal::INVALID_USER),
    ("address", &refusal::INVALID_ADDRESS),
    ("referrer", &refusal::INVALID_REFERRER),
    ("origin", &refusal::INVALID_ORIGIN),
    ("proto", &refusal::INVALID_PROTO),
];

/// Explains what the layer would answer to a request with a key. Merge it into [`api_keys`](super::api_keys).
///
/// `POST /{id}/explain` with a description of the request answers 200 with every check, its outcome and what it
/// found, in the layer's order ([`Explanation`](tower_api_key::explain::Explanation)). Nothing is counted or
/// changed.
///
/// ```json
/// {"method": "POST", "route": "/v1/charges", "address": "192.0.2.7"}
/// ```
///
/// | member | if missing |
/// |---|---|
/// | `method` | `GET` |
/// | `route`, as the router declares it, or `path`, if the layer compares paths | the endpoint is unknown |
/// | `scheme`, such as `bearer` | the layer's first |
/// | `project_id` | no project is named |
/// | `user_id` | the owner |
/// | `address`, `referrer`, `origin` | unknown |
/// | `proto`: `http` or `https` | `https` |
///
/// The answer contains everything, so only keys that may rotate the key get it, and the key itself. Others learn no
/// more than from the other routes (403, 404). The answer also shows which endpoints the layer knows, and whether
/// the [throttle](tower_api_key::Verifier::throttle) slows an address down.
///
/// ```
/// use axum::Router;
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{ApiKeyAuth, Endpoints, Keyring};
/// use tower_api_key_manage as manage;
///
/// let store = MemoryStore::new();
/// let keyring = Keyring::new(store.clone());
/// let auth = ApiKeyAuth::new(store, Bearer::default())
///     .endpoints(manage::declare(Endpoints::new(), "/v1/api-keys"))?;
/// let keys = manage::api_keys(keyring.clone()).merge(manage::explain(keyring, auth.explainer()));
/// let app: Router = Router::new().nest("/v1/api-keys", keys).layer(auth);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
pub fn explain<S>(keyring: Keyring, explainer: Explainer) -> Router<S> {
    let budget = body::room();
    Router::new()
        .route("/{id}/explain", post(answer))
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer(from_fn(move |request, next| body::settle(budget.clone(), request, next)))
        .with_state((keyring, explainer))
}

async fn answer(
    State((keyring, explainer)): State<(Keyring, Explainer)>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Result<Response, RouteError> {
    caller.may_manage(&keyring).await?;
    let question = asked(&caller, request).await?;
    let key = known(&caller, &keyring, params).await?;
    caller.still_covers(&keyring, &key).await?;
    let explanation = explainer.explain(&key, &question).await;
    let explanation = explanation.map_err(|_| &refusal::INVALID_SCHEME)?;
    let body = json!({"success": true, "data": explanation});
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

async fn asked(caller: &Caller, request: Request) -> Result<Question, RouteError> {
    let mut members = Members::read(caller, request).await?;
    let mut texts = [const { None }; MEMBERS.len()];
    for (place, (name, invalid)) in texts.iter_mut().zip(MEMBERS) {
        *place = members.text(name, invalid)?.flatten();
    }
    members.end(&refusal::UNKNOWN_MEMBER)?;
    let [method, route, path, scheme, project, user, address, referrer, origin, proto] = texts;
    let method = match method {
        None => Method::GET,
        Some(name) => Method::from_bytes(name.as_bytes()).map_err(|_| &refusal::INVALID_METHOD)?,
    };
    let mut question = Question::new(method);
    question = match (route, path) {
        (None, None) => question,
        (Some(route), None) => question.route(route),
        (None, Some(path)) => question.path(path),
        (Some(_), Some(_)) => return Err((&refusal::ROUTE_OR_PATH).into()),
    };
    if let Some(scheme) = scheme {
        question = question.scheme(scheme);
    }
    if let Some(project) = project {
        question = question.project(project);
    }
    if let Some(user) = user {
        question = question.user(user);
    }
    if let Some(address) = address {
        question = question.address(address.parse::<IpAddr>().map_err(|_| &refusal::INVALID_ADDRESS)?);
    }
    if let Some(referrer) = referrer {
        question = question.referrer(referrer);
    }
    if let Some(origin) = origin {
        question = question.origin(origin);
    }
    match proto.as_deref() {
        None | Some("https") => Ok(question),
        Some("http") => Ok(question.in_clear()),
        Some(_) => Err((&refusal::INVALID_PROTO).into()),
    }
}
