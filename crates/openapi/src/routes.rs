//! OpenAPI descriptions of the routes of `tower-api-key-manage`.
//!
//! They are JSON files beside this file, parsed at each call.

use utoipa::openapi::{OpenApi, RefOr};

use crate::answers;

const ROUTES: &str = include_str!("routes.json");

/// The routes of `api_keys` of `tower-api-key-manage`, nested at `at`. [Merge](OpenApi::merge) the result into your
/// API's document, before [`AuthDoc`](crate::AuthDoc) adds what the layer does.
#[must_use]
pub fn api_keys(at: &str) -> OpenApi {
    let at = at.trim_end_matches('/');
    let routes = ["/v1/api-keys", "/v1/api-keys/{id}", "/v1/api-keys/{id}/rotate", "/v1/api-keys/{id}/usage"];
    let mut document =
        mounted(&routes, |path| format!("{at}{}", path.strip_prefix("/v1/api-keys").unwrap_or_default()));
    with_problem(&mut document);
    document
}

/// The route of `explain` of `tower-api-key-manage`, merged into [`api_keys`] and nested with it at `at`.
#[must_use]
pub fn explain(at: &str) -> OpenApi {
    let at = at.trim_end_matches('/');
    let mut document = alone("/v1/api-keys/{id}/explain", &format!("{at}/{{id}}/explain"));
    with_problem(&mut document);
    document
}

/// The route of `Leaks` of `tower-api-key-manage` at a path. If it is inside a layer, declare it public there.
#[must_use]
pub fn leaks(at: &str) -> OpenApi {
    let mut document = alone("/leaks", at);
    with_problem(&mut document);
    document
}

/// The route of `self_revoke` of `tower-api-key-manage` at a path.
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

/// The route of `validate` of `tower-api-key-manage` at a path.
#[must_use]
pub fn validate(at: &str) -> OpenApi {
    alone("/validate", at)
}

/// The route of `projects` of `tower-api-key-manage` at a path.
#[must_use]
pub fn projects(at: &str) -> OpenApi {
    alone("/projects", at)
}

/// A route that refers to no components except that of [`with_problem`].
fn alone(route: &str, at: &str) -> OpenApi {
    let mut document = mounted(&[route], |_| at.to_owned());
    document.components = None;
    document
}

/// Some of the routes, each moved to another path.
fn mounted(routes: &[&str], at: impl Fn(&str) -> String) -> OpenApi {
    // The text is part of the crate, and its tests check that it parses.
    let mut document: OpenApi = serde_json::from_str(ROUTES).unwrap_or_default();
    let mut paths = std::mem::take(&mut document.paths.paths);
    let chosen = |route: &&str| Some((at(route), paths.remove(*route)?));
    document.paths.paths = routes.iter().filter_map(chosen).collect();
    document
}
