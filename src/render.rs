//! Renders refusals: [`ErrorRenderer`], and the default [`ProblemDetails`].
//!
//! The renderer makes the status and the body. The layer adds the headers that must never be missing: challenges on
//! every 401, `Cache-Control: no-store`, `Vary`, `Retry-After`; and the [`AuthError`] in the response's extensions.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::ascii;
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::gate::Nobody;
use crate::response_headers::ResponseHeaders;
use crate::scheme::Describe;
use crate::scheme_info::SchemeInfo;

/// Makes the response to a refused request.
///
/// A closure can be a renderer:
///
/// ```
/// use http::Response;
/// use tower_api_key::AuthError;
///
/// let render = |error: &AuthError| {
///     let mut response = Response::new(format!("no: {}\n", error.message()));
///     *response.status_mut() = error.status();
///     response
/// };
/// # fn check(_: impl tower_api_key::render::ErrorRenderer<String>) {}
/// # check(render);
/// ```
///
/// # Security
///
/// Show clients only [`message`](AuthError::message) and [`public_code`](AuthError::public_code), never
/// [`kind`](AuthError::kind) or the error's source.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make refusals with a body of type `{B}`",
    note = "the default, `ProblemDetails`, needs a body that is `From<Bytes>`; `EmptyOrGrpc` needs one that is `Default`",
    note = "or pass a closure to `ApiKeyAuth::render_errors`: `|error: &AuthError| -> http::Response<B>`"
)]
pub trait ErrorRenderer<B>: Send + Sync + 'static {
    /// Makes the status, the body, and the headers that describe the body.
    fn render(&self, error: &AuthError) -> Response<B>;
}

impl<B, F> ErrorRenderer<B> for F
where
    F: Fn(&AuthError) -> Response<B> + Send + Sync + 'static,
{
    fn render(&self, error: &AuthError) -> Response<B> {
        self(error)
    }
}

/// The default renderer: one JSON body that satisfies all five documents and RFC 9457, and trailers-only responses
/// for gRPC.
///
/// ```json
/// {"type": "https://docs.rs/tower-api-key/latest/tower_api_key/problems/#invalid_api_key",
///  "title": "Invalid API key", "status": 401,
///  "success": false, "message": "Invalid API key", "error": "invalid_api_key", "code": 401}
/// ```
///
/// `title` and `message` are the exact message of the scheme that was used, `error` is the machine-readable code,
/// `code` repeats the status. Nothing in it depends on a secret or echoes the request.
#[derive(Clone, Debug)]
pub struct ProblemDetails {
    base: Cow<'static, str>,
    content_type: HeaderValue,
}

impl Default for ProblemDetails {
    fn default() -> Self {
        Self {
            base: Cow::Borrowed("https://docs.rs/tower-api-key/latest/tower_api_key/problems/#"),
            content_type: HeaderValue::from_static("application/problem+json"),
        }
    }
}

impl ProblemDetails {
    /// Sets where your documentation explains the errors: `type` is this text followed by the machine-readable code.
    #[must_use]
    pub fn type_base(self, base: impl Into<Cow<'static, str>>) -> Self {
        Self { base: base.into(), ..self }
    }

    /// Uses `application/json` as content type, for clients that do not know RFC 9457.
    #[must_use]
    pub fn plain_json(self) -> Self {
        Self { content_type: HeaderValue::from_static("application/json"), ..self }
    }

    pub(crate) fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// Makes a response in the same form, for a route of your own that refuses for its own reason, with a status, a
    /// machine-readable code and a message for people.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Response, StatusCode};
    /// use tower_api_key::render::ProblemDetails;
    ///
    /// let problem = ProblemDetails::default().type_base("https://docs.example.com/errors#");
    /// let gone: Response<Bytes> = problem.response(StatusCode::GONE, "order_gone", "This order was cancelled");
    /// assert_eq!(gone.status(), 410);
    /// ```
    pub fn response<B: From<Bytes>>(&self, status: StatusCode, error: &str, message: &str) -> Response<B> {
        let mut response = Response::new(self.body(status, error, message).into());
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, self.content_type.clone());
        response
    }

    fn body(&self, status: StatusCode, error: &str, message: &str) -> Bytes {
        let (base, error, message) = (escaped(&self.base), escaped(error), escaped(message));
        let body = [
            r#"{"type":""#,
            &base,
            &error,
            r#"","title":""#,
            &message,
            r#"","status":"#,
            status.as_str(),
            r#","success":false,"message":""#,
            &message,
            r#"","error":""#,
            &error,
            r#"","code":"#,
            status.as_str(),
            "}",
        ];
        body.concat().into()
    }
}

/// Escapes a text for a JSON string. Usually it stays as it is.
fn escaped(text: &str) -> Cow<'_, str> {
    let plain = |byte| (byte >= b' ') & (byte != b'"') & (byte != b'\\');
    if ascii::all(text.as_bytes(), plain) {
        return Cow::Borrowed(text);
    }
    let quoted = serde_json::to_string(text).unwrap_or_default();
    Cow::Owned(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned())
}

impl<B: From<Bytes>> ErrorRenderer<B> for ProblemDetails {
    fn render(&self, error: &AuthError) -> Response<B> {
        if error.is_grpc() {
            return grpc(error, Bytes::new().into());
        }
        self.response(error.status(), error.public_code(), &error.message())
    }
}

/// Renders no body at all, for services whose body type cannot be made from bytes, such as tonic's. gRPC requests get
/// trailers-only responses, others the status and the headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyOrGrpc;

impl<B: Default> ErrorRenderer<B> for EmptyOrGrpc {
    fn render(&self, error: &AuthError) -> Response<B> {
        if error.is_grpc() {
            return grpc(error, B::default());
        }
        let mut response = Response::new(B::default());
        *response.status_mut() = error.status();
        response
    }
}

/// A trailers-only response: status 200, and everything in the headers. gRPC servers set the gRPC status themselves,
/// because clients map HTTP statuses differently.
fn grpc<B>(error: &AuthError, body: B) -> Response<B> {
    let status = match error.status() {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => "8",
        StatusCode::SERVICE_UNAVAILABLE => "14",
        _ => "3",
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&error.message())) {
        headers.insert("grpc-message", message);
    }
    response
}

/// Percent-encodes a message for gRPC: visible ASCII and spaces stay, `%` and everything else are encoded.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            plain => encoded.push(char::from(plain)),
        }
    }
    encoded
}

/// Renders refusals for a route outside of every layer, such as a webhook, with the headers that a layer adds.
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_api_key::render::Refusals;
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::{AuthError, AuthErrorKind};
///
/// let refusals = Refusals::of(&Bearer::default());
/// let response: Response<Bytes> = refusals.response(AuthError::new(AuthErrorKind::MissingCredentials, None));
/// assert_eq!(response.status(), 401);
/// assert!(response.headers().contains_key("www-authenticate"));
/// ```
#[derive(Clone, Debug)]
pub struct Refusals(ResponseHeaders);

impl Refusals {
    /// Uses the messages of this scheme (of the first, if several are joined) and the challenges of all of them.
    #[must_use]
    pub fn of(scheme: &impl Describe) -> Self {
        Self(ResponseHeaders::of(scheme))
    }

    /// Marks the request headers in which the schemes look for keys as sensitive, so that nothing prints their values.
    /// `Authorization` and `X-API-Key` are always included.
    pub fn mark_secrets(&self, headers: &mut HeaderMap) {
        self.0.mark_secrets(headers);
    }

    /// Makes the response: the body of [`ProblemDetails`], challenges on a 401, `Cache-Control`, `Vary` and
    /// `Retry-After`, and the error in the extensions.
    #[must_use]
    pub fn response<B: From<Bytes>>(&self, error: AuthError) -> Response<B> {
        let grpc = error.is_grpc();
        let error = error.answering(self.0.first(), grpc);
        let mut response = ProblemDetails::default().render(&error);
        self.0.refused(&mut response, error, None, |_| false);
        response
    }
}

/// Without a scheme: no challenges, and the default messages.
impl Default for Refusals {
    fn default() -> Self {
        struct NoScheme;
        impl Describe for NoScheme {
            fn describe_each<'a>(&'a self, _: &mut dyn FnMut(&'a SchemeInfo)) {}
        }
        Self::of(&NoScheme)
    }
}

/// Marks a response as a refusal that is not rendered yet: an inner guard makes it and the outer layer renders it,
/// so that all rendering is in one place.
#[derive(Clone, Debug)]
pub(crate) struct Unrendered(pub(crate) AuthError);

impl Unrendered {
    pub(crate) fn response<B: From<Bytes>>(error: AuthError) -> Response<B> {
        let mut response = Response::new(Bytes::new().into());
        *response.status_mut() = error.status();
        response.extensions_mut().insert(Self(error));
        response
    }
}

/// The response if a principal is needed and the request has none. It is never a 200.
///
/// If a key is optional, the client has to send one, and the outer layer renders the refusal. Otherwise the service is
/// misconfigured, and the message tells its developer the fix.
pub(crate) fn missing_principal<B: From<Bytes>>(nobody: Option<Nobody>, grpc: bool) -> Response<B> {
    if let Some(Nobody::Anonymous) = nobody {
        let error = AuthError::new(AuthErrorKind::MissingCredentials, None);
        return Unrendered::response(error.answering(None, grpc));
    }
    let mut response = ProblemDetails::default().response(
        StatusCode::INTERNAL_SERVER_ERROR,
        "missing_principal",
        MISSING_PRINCIPAL,
    );
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) const MISSING_PRINCIPAL: &str = "This route needs a principal, and there is none: add `.layer(auth)` \
    with an `ApiKeyAuth` outside of it, and do not declare it public";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_whatever_the_words() {
        let problem = ProblemDetails::default().type_base(r#"https://example.com/"a\b"#);
        for words in ["No", r#"a "quoted" \ word""#, "\u{0}\u{1f}\n\u{7f}\u{2028}ü", ""] {
            let body = problem.body(StatusCode::FORBIDDEN, "a_word", words);
            let expected = serde_json::json!({
                "type": r#"https://example.com/"a\ba_word"#, "title": words, "status": 403,
                "success": false, "message": words, "error": "a_word", "code": 403,
            });
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
        }
    }
}
