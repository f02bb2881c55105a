//! [`RouteError`]: the error responses of these routes.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use tower_api_key::AuthError;
use tower_api_key::render::ProblemDetails;

/// Why a request was refused.
pub(super) enum RouteError {
    /// An error of the layer's kinds, rendered by the layer.
    Auth(AuthError),
    /// A value that was not understood. The reason is for the person who wrote it.
    Unprocessable(&'static str, String),
    /// An error that only these routes have. It contains nothing from the request.
    RouteProblem(&'static RouteProblem),
}

/// Status, machine-readable code, and message.
pub(super) struct RouteProblem(StatusCode, &'static str, &'static str);

impl RouteProblem {
    #[cfg(feature = "leaks")]
    pub(super) const fn new(status: StatusCode, error: &'static str, message: &'static str) -> Self {
        Self(status, error, message)
    }
}

const METHOD_NOT_ALLOWED: RouteProblem =
    RouteProblem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed");
pub(super) const NOT_A_KEY: RouteProblem = RouteProblem(
    StatusCode::BAD_REQUEST,
    "not_a_key",
    "This can be no API key: send it whole, as it was issued",
);
pub(super) const KEY_NOT_FOUND: RouteProblem =
    RouteProblem(StatusCode::NOT_FOUND, "key_not_found", "API key not found");
pub(super) const KEY_ENDED: RouteProblem = RouteProblem(
    StatusCode::CONFLICT,
    "key_ended",
    "API key is revoked, expired or already replaced: create a new one",
);
pub(super) const TOO_MANY_KEYS: RouteProblem =
    RouteProblem(StatusCode::CONFLICT, "too_many_keys", "Too many active API keys: revoke one first");
pub(super) const OUTCOME_UNKNOWN: RouteProblem = RouteProblem(
    StatusCode::SERVICE_UNAVAILABLE,
    "outcome_unknown",
    "The change may have been made: list your keys",
);
pub(super) const NO_GRACE: RouteProblem =
    unprocessable("invalid_grace", "grace is not possible where a user has one key: leave it out");
pub(super) const INVALID_GRACE: RouteProblem =
    unprocessable("invalid_grace", "grace is a time from 1s to 90d, in s, min, h or d, such as 7d");
pub(super) const INVALID_QUERY: RouteProblem = RouteProblem(
    StatusCode::BAD_REQUEST,
    "invalid_query",
    "limit is a number from 1 to 100, and cursor the next_cursor of an answer",
);
pub(super) const UNKNOWN_FIELD: RouteProblem = unprocessable(
    "unknown_field",
    "Unknown field: only name, level, project_id, environment, expires_at, restrictions and limits are read",
);
pub(super) const UNKNOWN_OF_ROTATION: RouteProblem =
    unprocessable("unknown_field", "Unknown field: only grace is read");
pub(super) const UNCHANGEABLE_FIELD: RouteProblem =
    unprocessable("unknown_field", "Unknown field: only name, restrictions and limits can be changed");
pub(super) const INVALID_NAME: RouteProblem = unprocessable(
    "invalid_name",
    "name is required: 1 to 64 characters without control, bidirectional and invisible characters",
);
pub(super) const INVALID_LEVEL: RouteProblem = unprocessable("invalid_level", "level is USER or PROJECT");
pub(super) const INVALID_PROJECT_ID: RouteProblem = unprocessable(
    "invalid_project_id",
    "project_id is the id of a project if level is PROJECT, and left out if it is USER",
);
pub(super) const INVALID_ENVIRONMENT: RouteProblem =
    unprocessable("invalid_environment", "environment is live or test");
pub(super) const INVALID_EXPIRES_AT: RouteProblem =
    unprocessable("invalid_expires_at", "expires_at is a time in the future, as RFC 3339 writes it");
pub(super) const INVALID_LIMITS: RouteProblem =
    unprocessable("invalid_limits", "limits are a text such as 12/min,200/30d, or a list of such");

pub(super) const UNKNOWN_MEMBER: RouteProblem = unprocessable(
    "unknown_field",
    "Unknown field: only method, route, path, scheme, project_id, user_id, address, referrer, origin and proto are read",
);
pub(super) const INVALID_METHOD: RouteProblem =
    unprocessable("invalid_method", "method is a method of HTTP, such as GET");
pub(super) const INVALID_ROUTE: RouteProblem =
    unprocessable("invalid_route", "route is a text, such as /v1/users/{id}");
pub(super) const INVALID_PATH: RouteProblem =
    unprocessable("invalid_path", "path is a text, such as /v1/users/7");
pub(super) const INVALID_PROJECT: RouteProblem =
    unprocessable("invalid_project_id", "project_id is a text, as a client sends it");
pub(super) const INVALID_USER: RouteProblem =
    unprocessable("invalid_user_id", "user_id is a text, as a client sends it");
pub(super) const INVALID_REFERRER: RouteProblem =
    unprocessable("invalid_referrer", "referrer is a text, as a browser sends it");
pub(super) const INVALID_ORIGIN: RouteProblem =
    unprocessable("invalid_origin", "origin is a text, as a browser sends it");
pub(super) const ROUTE_OR_PATH: RouteProblem = unprocessable("invalid_route", "name either route or path");
pub(super) const INVALID_SCHEME: RouteProblem =
    unprocessable("invalid_scheme", "scheme is the name of a scheme of this API, such as bearer");
pub(super) const INVALID_ADDRESS: RouteProblem =
    unprocessable("invalid_address", "address is an IP address, such as 192.0.2.7 or 2001:db8::7");
pub(super) const INVALID_PROTO: RouteProblem = unprocessable("invalid_proto", "proto is http or https");

const fn unprocessable(error: &'static str, message: &'static str) -> RouteProblem {
    RouteProblem(StatusCode::UNPROCESSABLE_ENTITY, error, message)
}

impl RouteError {
    pub(super) fn unprocessable(error: &'static str, reason: &impl fmt::Display) -> Self {
        Self::Unprocessable(error, reason.to_string())
    }
}

impl From<&'static RouteProblem> for RouteError {
    fn from(own: &'static RouteProblem) -> Self {
        Self::RouteProblem(own)
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        match self {
            Self::Auth(error) => error.into_response(),
            Self::Unprocessable(error, reason) => own(StatusCode::UNPROCESSABLE_ENTITY, error, &reason),
            Self::RouteProblem(RouteProblem(status, error, message)) => own(*status, error, message),
        }
    }
}

/// Answers a method that the route does not have. axum lists the methods in `Allow`.
pub(super) async fn method_not_allowed() -> RouteError {
    (&METHOD_NOT_ALLOWED).into()
}

fn own(status: StatusCode, error: &str, message: &str) -> Response {
    let mut response: Response = ProblemDetails::default().response(status, error, message);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
