//! When the answer is no: how a refusal looks.
//!
//! The renderer makes status and body; the layer adds what must never be forgotten: challenges on every 401,
//! `Cache-Control: no-store`, `Vary`, `Retry-After`, and the [`AuthError`] in the response's extensions.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::gate::Nobody;
use crate::response_headers::ResponseHeaders;
use crate::scheme::Describe;
use crate::scheme_info::SchemeInfo;

/// Makes the answer to a refused request.
///
/// A closure will do:
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
/// # fn check(_: impl tower_api_key::ErrorRenderer<String>) {}
/// # check(render);
/// ```
///
/// # Security
///
/// Show clients [`message`](AuthError::message) and [`public_code`](AuthError::public_code), and neither
/// [`kind`](AuthError::kind) nor the error's source.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make refusals with a body of type `{B}`",
    note = "the default, `ProblemDetails`, needs a body that is `From<Bytes>`; `EmptyOrGrpc` needs one that is `Default`",
    note = "or pass a closure to `ApiKeyAuth::render_errors`: `|error: &AuthError| -> http::Response<B>`"
)]
pub trait ErrorRenderer<B>: Send + Sync + 'static {
    /// The status and the body, and what headers belong to it.
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

/// The default: one JSON body that satisfies all five documents and RFC 9457, and trailers-only answers for gRPC.
///
/// ```json
/// {"type": "https://docs.rs/tower-api-key/latest/tower_api_key/problems/#invalid_api_key",
///  "title": "Invalid API key", "status": 401,
///  "success": false, "message": "Invalid API key", "error": "invalid_api_key", "code": 401}
/// ```
///
/// `title` and `message` are the exact words of the scheme that was used, `error` is the machine's word, `code` repeats
/// the status. Nothing in it varies with a secret or echoes the request.
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
    /// Where your documentation explains the errors: `type` is this, and the machine's word after it.
    #[must_use]
    pub fn type_base(self, base: impl Into<Cow<'static, str>>) -> Self {
        Self { base: base.into(), ..self }
    }

    /// Says `application/json`, for clients that know nothing of RFC 9457.
    #[must_use]
    pub fn plain_json(self) -> Self {
        Self { content_type: HeaderValue::from_static("application/json"), ..self }
    }

    pub(crate) fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// An answer in the same form, for a route of your own that refuses for a reason which the layer does not know: its status,
    /// a machine's word, and a message for people.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Response, StatusCode};
    /// use tower_api_key::ProblemDetails;
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

/// A text as it stands between the quotes of JSON: as it is, almost always.
fn escaped(text: &str) -> Cow<'_, str> {
    let plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
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

/// No body at all: for services whose body cannot be made from bytes, tonic's among them. gRPC requests get
/// trailers-only answers, others their status and the headers.
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

/// A trailers-only answer: status 200, and everything in the headers. gRPC servers map errors themselves, and must not
/// leave it to clients' reading of HTTP statuses.
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

/// As gRPC wants its messages: visible ASCII and spaces as they are, `%` and all else encoded.
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

/// Refusals of a route that stands outside of every layer, such as a webhook: with the headers that a layer adds to its own.
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
    /// In the words of this scheme, or of the first that was joined, and with the challenges of all of them.
    #[must_use]
    pub fn of(scheme: &impl Describe) -> Self {
        Self(ResponseHeaders::of(scheme))
    }

    /// Marks those headers of a request sensitive in which the schemes look for keys: what prints headers does not print
    /// them. `Authorization` and `X-API-Key` are always among them.
    pub fn mark_secrets(&self, headers: &mut HeaderMap) {
        self.0.mark_secrets(headers);
    }

    /// The answer: as [`ProblemDetails`] says it, with challenges on a 401, `Cache-Control`, `Vary` and `Retry-After`, and the error
    /// in its extensions.
    #[must_use]
    pub fn response<B: From<Bytes>>(&self, error: AuthError) -> Response<B> {
        let grpc = error.is_grpc();
        let error = error.answering(self.0.first(), grpc);
        let mut response = ProblemDetails::default().render(&error);
        self.0.refused(&mut response, error, None, |_| false);
        response
    }
}

/// Without a scheme: no challenges, and the default words.
impl Default for Refusals {
    fn default() -> Self {
        struct NoScheme;
        impl Describe for NoScheme {
            fn describe_each<'a>(&'a self, _: &mut dyn FnMut(&'a SchemeInfo)) {}
        }
        Self::of(&NoScheme)
    }
}

/// Marks a response as a refusal that is yet to be rendered: a guard inside makes it, the layer outside renders it, so
/// that there is one place that renders.
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

/// The answer where a principal is needed and none is there. Never a 200, and nobody is let through as anonymous.
///
/// Where a key is optional, it is the client that must send one, and the layer outside says so in its words. Elsewhere
/// whoever built the service made a mistake, and reads here how to mend it.
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
