//! The areas of the server, each behind its own layer.

use std::num::NonZeroUsize;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, OriginalUri, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::extract::{LivePrincipal, TestPrincipal};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, Describe, JsonBody};
use tower_api_key::store::ProjectDirectory;
use tower_api_key::{
    ApiKeyAuth, AuthError, ConfigError, Endpoints, Keyring, LayerDescription, Principal, ProjectId, Verifier,
};
use tower_api_key_manage as manage;
use tower_api_key_openapi::AuthDoc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::charges::Charges;
use crate::document;
use crate::outside::LEAKS;
use crate::pages;
use crate::portal::Sample;

/// The largest body at the route for clients that move between schemes.
const MIGRATED: NonZeroUsize = NonZeroUsize::new(8 << 20).unwrap();

/// The parts that the layers of all areas share. They count failures together, because they share one verifier.
pub(crate) struct Guards {
    pub(crate) verifier: Verifier,
    pub(crate) clients: ClientAddr,
}

impl Guards {
    fn layer<S: Describe + Clone>(&self, scheme: S) -> ApiKeyAuth<S> {
        ApiKeyAuth::with_verifier(self.verifier.clone(), scheme).client_addr(self.clients.clone())
    }
}

pub(crate) fn app(
    guards: &Guards,
    store: impl ProjectDirectory,
    keyring: Keyring,
    charges: Charges,
    people: impl FnOnce(&[Sample<'_>]) -> Router,
    leaks: Option<MethodRouter>,
) -> Result<Router, ConfigError> {
    let (in_the_body, of_bodies) = in_the_body(guards)?;
    let (in_a_header, of_headers) = in_a_header(guards, store)?;
    let (as_a_bearer, of_bearers) = as_a_bearer(guards, keyring, charges)?;
    let (in_either, of_either) = in_either(guards)?;
    let layers = [
        AuthDoc::of(&of_bodies).under("/pixelStripeApi"),
        AuthDoc::of(&of_headers).under("/api/v1"),
        AuthDoc::of(&of_bearers).under("/v1"),
        AuthDoc::of(&of_either).under("/migrate"),
    ];
    let people = people(&[
        (Method::GET, "/v1/users/usr_123", &of_bearers),
        (Method::GET, "/api/v1/sites", &of_headers),
        (Method::POST, "/pixelStripeApi/projects/status", &of_bodies),
    ]);
    let document = Json(document::of(&layers, leaks.is_some()));
    // Outside of all layers, because scanners sign their requests and have no key.
    let outside = leaks.map_or_else(Router::new, |leaks| Router::new().route(LEAKS, leaks));
    let app = Router::new()
        .merge(outside)
        .nest("/pixelStripeApi", in_the_body)
        .nest("/api/v1", in_a_header)
        .nest("/v1", as_a_bearer)
        .merge(in_either)
        .merge(people)
        .route("/", get(home))
        .route("/openapi.json", get(async move || document.clone()))
        .route("/health", get(async || "ok\n"))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_allowed)
        // Ends a connection whose body arrives too slowly.
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(30)))
        .layer(CatchPanicLayer::new());
    Ok(app)
}

/// `{"apiKey", "userId", "projectId", ..}`. Every call is a `POST` here, and one of them only reads.
fn in_the_body(guards: &Guards) -> Result<(Router, LayerDescription), ConfigError> {
    let endpoints = Endpoints::new().read(Method::POST, "/pixelStripeApi/projects/status");
    let auth = guards.layer(JsonBody::default()).endpoints(endpoints)?;
    let description = auth.description();
    let routes = Router::new()
        .route("/projects/upload-file", post(saw))
        .route("/projects/status", post(saw))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(auth);
    Ok((routes, description))
}

/// `X-API-Key`, with `X-Project-ID` everywhere except at two routes. `/projects/{id}` is not one of them.
fn in_a_header(
    guards: &Guards,
    store: impl ProjectDirectory,
) -> Result<(Router, LayerDescription), ConfigError> {
    let endpoints = Endpoints::new()
        .project_optional(Method::GET, "/api/v1/validate")
        .project_optional(Method::GET, "/api/v1/projects");
    let auth = guards.layer(ApiKeyHeader::default()).endpoints(endpoints)?;
    let description = auth.description();
    let routes = Router::new()
        .route("/validate", manage::validate())
        .route("/projects", manage::projects(store))
        .route("/projects/{id}", get(project))
        .route("/sites", get(saw))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(auth);
    Ok((routes, description))
}

/// `Authorization: Bearer`, and the routes that manage keys.
fn as_a_bearer(
    guards: &Guards,
    keyring: Keyring,
    charges: Charges,
) -> Result<(Router, LayerDescription), ConfigError> {
    // Anybody who finds a key can revoke it. This route accepts no key as a login.
    let (verifier, clients) = (guards.verifier.clone(), guards.clients.clone());
    let self_revoke = manage::self_revoke(keyring.clone(), verifier, clients);
    let endpoints = manage::declare(Endpoints::new(), "/v1/api-keys")
        .public(Method::POST, "/v1/api-keys/self-revoke")
        .optional(Method::GET, "/v1/prices");
    let auth = guards.layer(Bearer::default()).endpoints(endpoints)?;
    let keys = manage::api_keys(keyring.clone()).merge(manage::explain(keyring, auth.explainer()));
    let description = auth.description();
    let routes = Router::new()
        .route("/users/{id}", get(saw))
        .route("/prices", get(prices))
        .route("/charges", post(charge).get(list_charges).layer(DefaultBodyLimit::max(10_000)))
        .with_state(charges)
        .route("/api-keys/self-revoke", self_revoke)
        .nest("/api-keys", keys)
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(auth);
    Ok((routes, description))
}

/// For clients that move from one scheme to another. Two credentials in one request are refused.
fn in_either(guards: &Guards) -> Result<(Router, LayerDescription), ConfigError> {
    let body = JsonBody::default().limit(MIGRATED);
    let auth = guards.layer(Bearer::default()).or(ApiKeyHeader::default()).or(body);
    let description = auth.description();
    let echo = any(saw).layer(DefaultBodyLimit::max(MIGRATED.get()));
    Ok((Router::new().route("/migrate/echo", echo).route_layer(auth), description))
}

/// What a handler sees of a request.
struct Seen(Value);

impl<S: Send + Sync> FromRequest<S> for Seen {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let who =
            Principal::from_request_parts(&mut parts, state).await.map_err(IntoResponse::into_response)?;
        let OriginalUri(uri) =
            OriginalUri::from_request_parts(&mut parts, state).await.map_err(IntoResponse::into_response)?;
        let method = parts.method.to_string();
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(unreadable)?;
        let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(json!({
            "principal": shown(&who),
            "method": method,
            "path": uri.path(),
            "body_len": body.len(),
            "body_sha256": digest,
        })))
    }
}

/// Everything about a principal except times.
fn shown(who: &Principal) -> Value {
    let role = who.role().as_str();
    json!({
        "key_id": who.key_id().as_str(),
        "key_name": who.key_name(),
        "user_id": who.user_id().as_str(),
        "level": who.level().as_str(),
        "project_id": who.project().map(ProjectId::as_str),
        "role": role,
        "environment": who.environment().as_str(),
        "scheme": who.scheme(),
        "scopes": who.scopes(),
        "metadata": who.metadata(),
    })
}

async fn saw(Seen(seen): Seen) -> Json<Value> {
    Json(seen)
}

/// One price list for requests without a key, another for those with one.
async fn prices(who: Option<Principal>) -> Json<Value> {
    let per_build = if who.is_some() { 8 } else { 10 };
    Json(json!({"success": true, "data": {"per_build": per_build, "for": who.as_ref().map(shown)}}))
}

/// One project: only the one that the request selected (C4-09).
async fn project(who: Principal, Path(id): Path<String>, Seen(seen): Seen) -> Result<Json<Value>, AuthError> {
    if who.project().is_some_and(|project| project.as_str() == id) {
        Ok(Json(seen))
    } else {
        Err(who.forbidden())
    }
}

async fn charge(
    State(charges): State<Charges>,
    live: Result<LivePrincipal, Response>,
    test: Result<TestPrincipal, Response>,
    Seen(mut seen): Seen,
) -> Result<Json<Value>, Response> {
    // The content of a charge does not matter here; the hash of the body is enough to find it again.
    let body_sha256 = seen["body_sha256"].as_str().unwrap_or_default().to_owned();
    seen["charge"] = match (live, test) {
        (Ok(live), _) => {
            charges.charge(&live, body_sha256).await.map_err(|error| failed(error).into_response())?
        }
        (Err(_), Ok(test)) => charges.pretend(&test, body_sha256),
        (Err(refusal), Err(_)) => return Err(refusal),
    };
    Ok(Json(seen))
}

async fn list_charges(State(charges): State<Charges>, who: Principal) -> Result<Json<Value>, StatusCode> {
    let list = charges.list(&who).await.map_err(failed)?;
    Ok(Json(json!({"success": true, "data": list})))
}

fn failed(error: impl std::fmt::Display) -> StatusCode {
    eprintln!("charges: {error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

/// The response for a body that cannot be read, with the layer's messages and format.
fn unreadable(rejection: BytesRejection) -> Response {
    match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => problem(status, "body_too_large", "Request body too large"),
        status => problem(status, "malformed_body", "Malformed request body"),
    }
}

/// The fallback within an area.
async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "not_found", "Not found")
}

/// axum lists the methods in `Allow`.
async fn not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
}

/// The fallback outside of all areas, which people with browsers may reach.
async fn nowhere(method: Method, headers: HeaderMap) -> Response {
    if pages::wanted(&method, &headers) { pages::no_such_page().await } else { not_found().await }
}

async fn home(method: Method, headers: HeaderMap) -> Response {
    if pages::wanted(&method, &headers) { pages::home().await } else { not_found().await }
}

fn problem(status: StatusCode, error: &str, message: &str) -> Response {
    let body = json!({
        "title": message, "status": status.as_u16(), "success": false, "message": message, "error": error,
        "code": status.as_u16(),
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
}
