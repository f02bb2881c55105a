//! Renders responses: pages, the security headers of every response, and pages with only a message.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use tower_api_key::KeyId;

use super::assets;
use super::portal::Portal;
use super::session::PortalUser;

/// The result of a handler.
pub(super) type PageResult = Result<Response, EarlyResponse>;

/// A response that replaces the requested page.
pub(super) struct EarlyResponse(Box<Response>);

impl From<Response> for EarlyResponse {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for EarlyResponse {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The parts that every page has.
pub(super) struct Frame {
    pub(super) site: String,
    /// The path at which the portal is mounted; empty at the root.
    pub(super) base: String,
    pub(super) css: String,
    pub(super) js: String,
    /// The nonce that allows the script; without it, no script runs.
    pub(super) nonce: Option<String>,
    pub(super) user: Option<String>,
    pub(super) account_at: Option<String>,
}

impl Portal {
    pub(super) fn frame(&self, base: &str, user: Option<&PortalUser>) -> Frame {
        Frame {
            site: self.title.clone(),
            base: base.to_owned(),
            css: assets::stylesheet(),
            js: assets::script(),
            nonce: None,
            user: user.map(|user| user.name().to_owned()),
            account_at: self.account_at.clone(),
        }
    }
}

impl Frame {
    /// The URL of the page with all keys.
    pub(super) fn home(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }

    /// Includes the script, which copies a key and prevents a form from being sent twice.
    pub(super) fn scripted(mut self) -> Self {
        // The same random source as for ids. Without random bytes, the page has no script.
        self.nonce = KeyId::generate().ok().map(|id| id.as_str().to_owned());
        self
    }
}

/// Renders a page.
pub(super) fn page(status: StatusCode, frame: &Frame, page: &impl Template) -> Response {
    let Ok(html) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Some(nonce) = &frame.nonce
        && let Ok(policy) = HeaderValue::from_str(&policy(&format!("'nonce-{nonce}'")))
    {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn policy(scripts: &str) -> String {
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// Sets the security headers that every response has (C11-15).
pub(super) async fn guard(mut response: Response) -> Response {
    const FIXED: [(HeaderName, &str); 6] = [
        (CACHE_CONTROL, "no-store"),
        // Not `no-referrer` for all of them, because browsers would then send forms with `Origin: null`.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (http::header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&policy("'none'")) {
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(policy);
    }
    response
}

/// Redirects to another page, with `GET`.
pub(super) fn see(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A page with only a message.
#[derive(Template)]
#[template(path = "portal/message.html")]
struct MessagePage<'a> {
    frame: &'a Frame,
    message: &'a Message,
}

/// A message, and a link to continue.
pub(super) struct Message {
    status: StatusCode,
    heading: &'static str,
    text: &'static str,
    link: Option<(String, &'static str)>,
}

impl Message {
    pub(super) const fn new(status: StatusCode, heading: &'static str, text: &'static str) -> Self {
        Self { status, heading, text, link: None }
    }

    fn heading(&self) -> &str {
        self.heading
    }

    fn text(&self) -> &str {
        self.text
    }

    fn link(&self) -> Option<&(String, &'static str)> {
        self.link.as_ref()
    }

    /// Links to another page instead of the list of keys.
    pub(super) fn linked(mut self, address: impl Into<String>, text: &'static str) -> Self {
        self.link = Some((address.into(), text));
        self
    }

    pub(super) fn answer(&self, frame: &Frame) -> Response {
        let mut response = page(self.status, frame, &MessagePage { frame, message: self });
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// For another user's key, an unknown one, or a malformed id, so that nobody learns which (C11-04).
pub(super) const NO_SUCH_KEY: Message = Message::new(
    StatusCode::NOT_FOUND,
    "There is no such key",
    "Perhaps the address is wrong, or the key belongs to somebody else.",
);
pub(super) const UNAVAILABLE: Message = Message::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "This does not work at the moment",
    "The keys cannot be read right now. Try again in a moment.",
);
/// After a change was started.
pub(super) const UNKNOWN_OUTCOME: Message = Message::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "This did not work",
    "The store did not answer in time, so the change may or may not have been made. Check your keys before you try again.",
);
pub(super) const NO_ACCESS: Message = Message::new(
    StatusCode::FORBIDDEN,
    "You have no access to this at the moment",
    "Your account is not active, or you cannot access it or the project of this key any more. You can still revoke your keys.",
);
pub(super) const ENDED: Message = Message::new(
    StatusCode::CONFLICT,
    "This key has ended or was replaced",
    "It cannot be changed any more. Make a new one instead.",
);
pub(super) const ALREADY_SENT: Message = Message::new(
    StatusCode::CONFLICT,
    "This form was already sent",
    "A form works once, and a key is shown once. If your list has a key that you did not see, revoke it and create another.",
);
pub(super) const SIGN_IN: Message = Message::new(
    StatusCode::UNAUTHORIZED,
    "You are not signed in",
    "Your session has ended. Nothing was changed.",
);
pub(super) const SIGN_IN_KEPT: Message = Message::new(
    StatusCode::UNAUTHORIZED,
    "You are not signed in",
    "Your session has ended. Nothing was changed. What you typed is still there when you come back to the form.",
);
pub(super) const CONFIRM: Message = Message::new(
    StatusCode::FORBIDDEN,
    "Confirm that it is you",
    "You signed in a while ago. Nothing was changed.",
);
pub(super) const CONFIRM_KEPT: Message = Message::new(
    StatusCode::FORBIDDEN,
    "Confirm that it is you",
    "You signed in a while ago. Nothing was changed. What you typed is still there when you come back to the form.",
);
pub(super) const FROM_ELSEWHERE: Message = Message::new(
    StatusCode::FORBIDDEN,
    "This form came from another site",
    "Your browser says that another site sent this form. Nothing was changed.",
);
pub(super) const OLD_FORM: Message = Message::new(
    StatusCode::FORBIDDEN,
    "This page is out of date",
    "It was opened before you signed in, or too long ago. Nothing was changed. Open it again.",
);
pub(super) const OLD_FORM_KEPT: Message = Message::new(
    StatusCode::FORBIDDEN,
    "This page is out of date",
    "It was opened before you signed in, or too long ago. Nothing was changed. What you typed is still there.",
);
/// After a form whose page was outdated.
pub(super) const CHANGED_MEANWHILE: &str =
    "Nothing was saved: this was changed elsewhere while the page was open. This is how it is now.";
pub(super) const NO_FORM: Message = Message::new(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "This is not a form of this page",
    "Nothing was changed.",
);
pub(super) const TOO_LARGE: Message = Message::new(
    StatusCode::PAYLOAD_TOO_LARGE,
    "This is too much",
    "The form is too long. Nothing was changed.",
);
pub(super) const TOO_SLOW: Message = Message::new(
    StatusCode::REQUEST_TIMEOUT,
    "This took too long",
    "The form did not arrive in time. Nothing was changed.",
);
pub(super) const UNEXPECTED_FIELD: Message = Message::new(
    StatusCode::UNPROCESSABLE_ENTITY,
    "This form has an unexpected field",
    "A field is unknown or appears twice. Nothing was changed.",
);
