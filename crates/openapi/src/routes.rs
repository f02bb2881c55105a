//! The routes of `tower-api-key-manage`, for documents of APIs that have them.
//!
//! They are written down as JSON beside this file, as they are read.

use utoipa::openapi::{OpenApi, RefOr};

use crate::answers;

const ROUTES: &str = include_str!("routes.json");

/// `api_keys` of `tower-api-key-manage`, nested at `at`. [Merge](OpenApi::merge) it into the document of your
/// API; what the layer adds is written by [`AuthDoc`](crate::AuthDoc).
#[must_use]
pub fn api_keys(at: &str) -> OpenApi {
    let at = at.trim_end_matches('/');
    let routes = ["/v1/api-keys", "/v1/api-keys/{id}", "/v1/api-keys/{id}/rotate", "/v1/api-keys/{id}/usage"];
    let mut document =
        mounted(&routes, |path| format!("{at}{}", path.strip_prefix("/v1/api-keys").unwrap_or_default()));
    with_problem(&mut document);
    document
}

/// `explain` of `tower-api-key-manage`, merged into [`api_keys`] and nested with it at `at`.
#[must_use]
pub fn explain(at: &str) -> OpenApi {
    let at = at.trim_end_matches('/');
    let mut document = alone("/v1/api-keys/{id}/explain", &format!("{at}/{{id}}/explain"));
    with_problem(&mut document);
    document
}

/// `Leaks` of `tower-api-key-manage` at a path. Where it stands inside of a layer, declare it public there.
#[must_use]
pub fn leaks(at: &str) -> OpenApi {
    let mut document = alone("/leaks", at);
    with_problem(&mut document);
    document
}

/// `self_revoke` of `tower-api-key-manage` at a path.
#[must_use]
pub fn self_revoke(at: &str) -> OpenApi {
    let mut document = alone("/v1/api-keys/self-revoke", at);
    with_problem(&mut document);
    document
}

fn with_problem(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components.schemas.insert("ApiKeyProblem".to_owned(), RefOr::T(answers::problem()));
}

/// `validate` of `tower-api-key-manage` at a path.
#[must_use]
pub fn validate(at: &str) -> OpenApi {
    alone("/validate", at)
}

/// `projects` of `tower-api-key-manage` at a path.
#[must_use]
pub fn projects(at: &str) -> OpenApi {
    alone("/projects", at)
}

/// One of the routes that refer to no components, or to [`with_problem`]'s only.
fn alone(route: &str, at: &str) -> OpenApi {
    let mut document = mounted(&[route], |_| at.to_owned());
    document.components = None;
    document
}

/// Some of the routes, each at another path.
fn mounted(routes: &[&str], at: impl Fn(&str) -> String) -> OpenApi {
    // A text that is part of the crate, and read by its tests.
    let mut document: OpenApi = serde_json::from_str(ROUTES).unwrap_or_default();
    let mut paths = std::mem::take(&mut document.paths.paths);
    let chosen = |route: &&str| Some((at(route), paths.remove(*route)?));
    document.paths.paths = routes.iter().filter_map(chosen).collect();
    document
}
