//! The OpenAPI document: this file describes the routes, and the layers describe which need a key.

#![allow(dead_code, reason = "the functions without a body only carry the document's text about handlers")]

use tower_api_key_openapi::{self as openapi, AuthDoc};
use utoipa::{Modify as _, OpenApi};

use crate::outside::LEAKS;

#[derive(OpenApi)]
#[openapi(
    info(title = "The example server of tower-api-key", version = "1"),
    paths(
        upload_file,
        project_status,
        project,
        sites,
        user,
        prices,
        charge,
        list_charges,
        migrate,
        health,
        ready
    )
)]
struct Server;

pub(crate) fn of(layers: &[AuthDoc], leaks: bool) -> utoipa::openapi::OpenApi {
    let mut document = Server::openapi();
    document.merge(openapi::validate("/api/v1/validate"));
    document.merge(openapi::projects("/api/v1/projects"));
    document.merge(openapi::api_keys("/v1/api-keys"));
    document.merge(openapi::explain("/v1/api-keys"));
    if leaks {
        document.merge(openapi::leaks(LEAKS));
    }
    document.merge(openapi::self_revoke("/v1/api-keys/self-revoke"));
    for layer in layers {
        layer.modify(&mut document);
    }
    document
}

#[utoipa::path(post, path = "/pixelStripeApi/projects/upload-file", request_body = Value, responses((status = 200, description = "What was seen", body = Value)))]
fn upload_file() {}

#[utoipa::path(post, path = "/pixelStripeApi/projects/status", request_body = Value, responses((status = 200, description = "What was seen", body = Value)))]
fn project_status() {}

#[utoipa::path(get, path = "/api/v1/projects/{id}", params(("id" = String, Path,)), responses((status = 200, description = "What was seen", body = Value)))]
fn project() {}

#[utoipa::path(get, path = "/api/v1/sites", responses((status = 200, description = "What was seen", body = Value)))]
fn sites() {}

#[utoipa::path(get, path = "/v1/users/{id}", params(("id" = String, Path,)), responses((status = 200, description = "What was seen", body = Value)))]
fn user() {}

#[utoipa::path(get, path = "/v1/prices", responses((status = 200, description = "The prices", body = Value)))]
fn prices() {}

#[utoipa::path(post, path = "/v1/charges", request_body = Value, responses((status = 200, description = "The charge", body = Value)))]
fn charge() {}

#[utoipa::path(get, path = "/v1/charges", responses((status = 200, description = "The charges", body = Value)))]
fn list_charges() {}

#[utoipa::path(post, path = "/migrate/echo", request_body = Value, responses((status = 200, description = "What was seen", body = Value)))]
fn migrate() {}

#[utoipa::path(get, path = "/health", responses((status = 200, description = "It runs", body = String)))]
fn health() {}

#[utoipa::path(get, path = "/ready", responses((status = 200, description = "Requests are welcome", body = String), (status = 503, description = "The store does not answer, or this node has no lease", body = String)))]
fn ready() {}
