//! The stylesheet and the script: compiled in, with a hash in their names, and cached by browsers for ever.

use std::sync::LazyLock;

use axum::extract::RawPathParams;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

const CSS: &str = include_str!("assets/portal.css");
const JS: &str = include_str!("assets/portal.js");

static CSS_NAME: LazyLock<String> = LazyLock::new(|| named(CSS, "css"));
static JS_NAME: LazyLock<String> = LazyLock::new(|| named(JS, "js"));

fn named(content: &str, extension: &str) -> String {
    let digest: String = Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("portal-{digest}.{extension}")
}

/// The path of the portal's stylesheet below its mount, such as `/assets/portal-0123456789abcdef.css`, for pages of
/// the host that should have the same style, such as a sign-in. Each version has another name.
#[must_use]
pub fn stylesheet() -> String {
    format!("/assets/{}", *CSS_NAME)
}

pub(super) fn script() -> String {
    format!("/assets/{}", *JS_NAME)
}

pub(super) async fn serve(params: RawPathParams) -> Response {
    // The last one, because an outer router may have a `file` of its own.
    let file = params.iter().filter(|(name, _)| *name == "file").last().map(|(_, file)| file);
    let (content, content_type) = match file {
        Some(file) if file == *CSS_NAME => (CSS, "text/css; charset=utf-8"),
        Some(file) if file == *JS_NAME => (JS, "text/javascript; charset=utf-8"),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, content).into_response()
}
