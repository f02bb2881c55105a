//! How header schemes read values: each header once, as visible ASCII, not trimmed.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::MalformedCredential;
use crate::ascii;
use crate::config_error::ConfigError;
use crate::credentials::Head;

/// Returns the only line of a header that must not be repeated.
pub(super) fn single<'r>(
    headers: &'r HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'r HeaderValue>, MalformedCredential> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    if first.is_some() && lines.next().is_some() { Err(MalformedCredential::Repeated) } else { Ok(first) }
}

/// Returns the text of a value if it is visible ASCII and not empty. It is not trimmed.
pub(super) fn visible(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    let visible = !bytes.is_empty() && ascii::all(bytes, |byte| byte.is_ascii_graphic());
    visible.then(|| str::from_utf8(bytes).ok()).flatten()
}

/// Reads the project from a header. A value that is not text becomes an invalid id, which is refused where ids are
/// checked.
pub(super) fn project<'r>(head: Head<'r>, name: &HeaderName) -> Result<Option<&'r str>, MalformedCredential> {
    Ok(single(head.headers, name)?.map(|value| visible(value).unwrap_or_default()))
}

/// Checks a header name for this role: no other header of this crate, and none that HTTP itself uses.
pub(super) fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    const TAKEN: [HeaderName; 10] = [
        http::header::AUTHORIZATION,
        http::header::PROXY_AUTHORIZATION,
        http::header::COOKIE,
        http::header::HOST,
        http::header::CONTENT_LENGTH,
        http::header::CONTENT_TYPE,
        http::header::TRANSFER_ENCODING,
        http::header::CONNECTION,
        http::header::EXPECT,
        http::header::UPGRADE,
    ];
    HeaderName::from_bytes(name.as_bytes())
        .ok()
        .filter(|name| !TAKEN.contains(name))
        .ok_or_else(|| ConfigError::HeaderName(name.to_owned()))
}
