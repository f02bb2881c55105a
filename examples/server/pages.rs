//! The start page, and the page for unknown addresses, for browsers.

use axum::response::Response;
use http::header::ACCEPT;
use http::{HeaderMap, Method, StatusCode};

use crate::auth::{guard, page};
use crate::portal::PORTAL;

/// Whether the client is a browser: browsers ask for HTML, other programs accept anything.
pub(crate) fn wanted(method: &Method, headers: &HeaderMap) -> bool {
    let html =
        |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"));
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    matches!(*method, Method::GET | Method::HEAD) && accepted.flat_map(|line| line.split(',')).any(html)
}

/// The page at `/`.
pub(crate) async fn home() -> Response {
    let content = format!(
        "<h1>Example API</h1><div class=\"card message\">\
         <p>This is the example server of tower-api-key. People make and revoke their keys here, and programs use \
         them.</p>\
         <p class=\"actions\"><a class=\"button primary\" href=\"{PORTAL}\">API keys</a>\
         <a class=\"button\" href=\"/openapi.json\">OpenAPI</a></p></div>"
    );
    guard(page(StatusCode::OK, "Welcome", &content)).await
}

pub(crate) async fn no_such_page() -> Response {
    let content = format!(
        "<h1>There is no such page</h1><div class=\"card message\"><p>Perhaps the address is wrong.</p>\
         <p class=\"actions\"><a class=\"button primary\" href=\"{PORTAL}\">API keys</a></p></div>"
    );
    guard(page(StatusCode::NOT_FOUND, "There is no such page", &content)).await
}
