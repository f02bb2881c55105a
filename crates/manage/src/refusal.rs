//! What these routes answer when the answer is no.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use tower_api_key::auth_error::AuthError;
use tower_api_key::render::ProblemDetails;

/// Why something was not done.
pub(super) enum Refusal {
    /// Like the layer's own, and rendered by it.
    Auth(AuthError),
    /// What was written for a key is not understood: the reason is for whoever wrote it.
    Unprocessable(&'static str, String),
    /// One that only these routes know. It says nothing of what was sent.
    Own(&'static Own),
}

/// Status, machine's word, and message.
pub(super) struct Own(StatusCode, &'static str, &'static str);

impl Own {
    #[cfg(feature = "leaks")]
    pub(super) const fn new(status: StatusCode, error: &'static str, message: &'static str) -> Self {
        Self(status, error, message)
    }
}

const METHOD_NOT_ALLOWED: Own =
    Own(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed");
pub(super) const NOT_A_KEY: Own =
    Own(StatusCode::BAD_REQUEST, "not_a_key", "This can be no API key: send it whole, as it was issued");
pub(super) const KEY_NOT_FOUND: Own = Own(StatusCode::NOT_FOUND, "key_not_found", "API key not found");
pub(super) const KEY_ENDED: Own = Own(
    StatusCode::CONFLICT,
    "key_ended",
    "API key is revoked, expired or already replaced: create a new one",
);
pub(super) const TOO_MANY_KEYS: Own =
    Own(StatusCode::CONFLICT, "too_many_keys", "Too many active API keys: revoke one first");
pub(super) const OUTCOME_UNKNOWN: Own =
    Own(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", "The change may have been made: list your keys");
pub(super) const NO_GRACE: Own =
    unprocessable("invalid_grace", "grace is not possible where a user has one key: leave it out");
pub(super) const INVALID_GRACE: Own =
    unprocessable("invalid_grace", "grace is a time from 1s to 90d, in s, min, h or d, such as 7d");
pub(super) const INVALID_QUERY: Own = Own(
    StatusCode::BAD_REQUEST,
    "invalid_query",
    "limit is a number from 1 to 100, and cursor the next_cursor of an answer",
);
pub(super) const UNKNOWN_FIELD: Own = unprocessable(
    "unknown_field",
    "Unknown field: only name, level, project_id, environment, expires_at, restrictions and limits are read",
);
pub(super) const UNKNOWN_OF_ROTATION: Own =
    unprocessable("unknown_field", "Unknown field: only grace is read");
pub(super) const UNCHANGEABLE_FIELD: Own =
    unprocessable("unknown_field", "Unknown field: only name, restrictions and limits can be changed");
pub(super) const INVALID_NAME: Own = unprocessable(
    "invalid_name",
    "name is required: 1 to 64 characters without control, bidirectional and invisible characters",
);
pub(super) const INVALID_LEVEL: Own = unprocessable("invalid_level", "level is USER or PROJECT");
pub(super) const INVALID_PROJECT_ID: Own = unprocessable(
    "invalid_project_id",
    "project_id is the id of a project if level is PROJECT, and left out if it is USER",
);
pub(super) const INVALID_ENVIRONMENT: Own =
    unprocessable("invalid_environment", "environment is live or test");
pub(super) const INVALID_EXPIRES_AT: Own =
    unprocessable("invalid_expires_at", "expires_at is a time in the future, as RFC 3339 writes it");
pub(super) const INVALID_LIMITS: Own =
    unprocessable("invalid_limits", "limits are a text such as 12/min,200/30d, or a list of such");

pub(super) const UNKNOWN_MEMBER: Own = unprocessable(
    "unknown_field",
    "Unknown field: only method, route, path, scheme, project_id, user_id, address, referrer, origin and proto are read",
);
pub(super) const INVALID_METHOD: Own =
    unprocessable("invalid_method", "method is a method of HTTP, such as GET");
pub(super) const INVALID_ROUTE: Own =
    unprocessable("invalid_route", "route is a text, such as /v1/users/{id}");
pub(super) const INVALID_PATH: Own = unprocessable("invalid_path", "path is a text, such as /v1/users/7");
pub(super) const INVALID_PROJECT: Own =
    unprocessable("invalid_project_id", "project_id is a text, as a client sends it");
pub(super) const INVALID_USER: Own =
    unprocessable("invalid_user_id", "user_id is a text, as a client sends it");
pub(super) const INVALID_REFERRER: Own =
    unprocessable("invalid_referrer", "referrer is a text, as a browser sends it");
pub(super) const INVALID_ORIGIN: Own =
    unprocessable("invalid_origin", "origin is a text, as a browser sends it");
pub(super) const ROUTE_OR_PATH: Own = unprocessable("invalid_route", "name either route or path");
pub(super) const INVALID_SCHEME: Own =
    unprocessable("invalid_scheme", "scheme is the name of a scheme of this API, such as bearer");
pub(super) const INVALID_ADDRESS: Own =
    unprocessable("invalid_address", "address is an IP address, such as 192.0.2.7 or 2001:db8::7");
pub(super) const INVALID_PROTO: Own = unprocessable("invalid_proto", "proto is http or https");

const fn unprocessable(error: &'static str, message: &'static str) -> Own {
    Own(StatusCode::UNPROCESSABLE_ENTITY, error, message)
}

impl Refusal {
    pub(super) fn unprocessable(error: &'static str, reason: &impl fmt::Display) -> Self {
        Self::Unprocessable(error, reason.to_string())
    }
}

impl From<&'static Own> for Refusal {
    fn from(own: &'static Own) -> Self {
        Self::Own(own)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Auth(error) => error.into_response(),
            Self::Unprocessable(error, reason) => own(StatusCode::UNPROCESSABLE_ENTITY, error, &reason),
            Self::Own(Own(status, error, message)) => own(*status, error, message),
        }
    }
}

/// What a route answers to the methods that it does not have. Which there are, axum says in `Allow`.
pub(super) async fn method_not_allowed() -> Refusal {
    (&METHOD_NOT_ALLOWED).into()
}

fn own(status: StatusCode, error: &str, message: &str) -> Response {
    let mut response: Response = ProblemDetails::default().response(status, error, message);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
