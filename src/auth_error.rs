//! [`AuthError`]: why a request was refused.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::key::{Environment, KeyId};
use crate::limit::RateLimitStatus;
use crate::scheme_info::SchemeInfo;

/// Why a request was refused.
///
/// [`kind`](Self::kind) is for logs, metrics and audit: it tells a revoked key from an expired or unknown one. The
/// client may see [`status`](Self::status), [`public_code`](Self::public_code) and [`message`](Self::message),
/// which are the same for all three. No part of the error contains a secret or repeats what the client sent.
///
/// Every refusal by the layer, or by a guard, extractor or route behind it that returns an `AuthError`, has it in
/// the response's extensions, so that outer layers can see the reason. Errors that the routes of `manage` report
/// about keys (an unknown key, an invalid name, ...) do not refuse the caller, and have none.
///
/// ```
/// # fn f<B>(response: &http::Response<B>) {
/// use tower_api_key::AuthError;
///
/// if let Some(error) = response.extensions().get::<AuthError>() {
///     println!("refused: {:?}", error.kind());
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct AuthError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: AuthErrorKind,
    scheme: Option<SchemeInfo>,
    grpc: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
    wait: Option<Wait>,
    about: Option<(KeyId, Environment)>,
    after_body: bool,
}

/// Why the client must wait, and how long.
#[derive(Clone, Debug)]
pub(crate) enum Wait {
    /// The client sent too many wrong keys. It is told how long to wait, but not what is counted.
    Failures(Duration),
    /// A rate limit of the key, which the client may know.
    Limit(Arc<RateLimitStatus>),
}

/// What went wrong, for operators. Do not show it to clients: it tells a revoked key from an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// No credential was sent.
    MissingCredentials,
    /// The text that was sent is not a key: its grammar, shape or checksum is wrong. No store was asked.
    MalformedKey,
    /// The store does not know the key.
    UnknownKey,
    /// The key was revoked or replaced.
    RevokedKey,
    /// The key is expired.
    ExpiredKey,
    /// The key is of an environment that the layer does not accept (R55).
    WrongEnvironment,
    /// The scheme's sunset is over, so it accepts no more keys.
    SchemeEnded,
    /// The key's owner is unknown, removed or suspended.
    OwnerDisabled,
    /// The key is restricted to other schemes than the one through which it was sent.
    SchemeNotAllowed,
    /// The claimed user is missing, or is not the key's owner (R9).
    UserMismatch,
    /// The request has a user-level key, and names no project although one is required (R5, R45).
    ProjectRequired,
    /// The named project is not a valid id.
    InvalidProject,
    /// The key belongs to another project than the one named (R46).
    ProjectMismatch,
    /// The owner has no access to the project, or the key has no access to this kind of endpoint (R11).
    Forbidden,
    /// The owner may only read in this project (R20).
    ReadOnly,
    /// A restriction of the key forbids the request (R57). The source of the [`AuthError`] says which.
    Restricted,
    /// The request came over plain HTTP, and the layer requires HTTPS (R14). The key was not looked at.
    InsecureTransport,
    /// The key lacks a scope that a guard requires.
    MissingScope,
    /// The client's address sent this wrong key, or other wrong keys, too often, or the key's rate limit is
    /// exceeded.
    RateLimited,
    /// The request has more than one credential, or a credential header is repeated (R62).
    ConflictingCredentials,
    /// The body is not a JSON object that contains each credential at most once, or it broke off.
    MalformedBody,
    /// The body's content type or encoding is not supported.
    UnsupportedMediaType,
    /// The body is larger than the layer's limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The layer is at a limit: of the bytes of buffered bodies, of concurrent slow-hash checks, or of waiting
    /// look-ups of this client.
    Overloaded,
    /// A store failed, or returned data that is corrupt. The source of the [`AuthError`] says more.
    StoreFailed,
    /// A store did not answer in time.
    StoreTimeout,
}

impl AuthErrorKind {
    /// Its name in snake case, such as `revoked_key`: for logs and metrics, and not for clients.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingCredentials => "missing_credentials",
            Self::MalformedKey => "malformed_key",
            Self::UnknownKey => "unknown_key",
            Self::RevokedKey => "revoked_key",
            Self::ExpiredKey => "expired_key",
            Self::WrongEnvironment => "wrong_environment",
            Self::SchemeEnded => "scheme_ended",
            Self::OwnerDisabled => "owner_disabled",
            Self::SchemeNotAllowed => "scheme_not_allowed",
            Self::UserMismatch => "user_mismatch",
            Self::ProjectRequired => "project_required",
            Self::InvalidProject => "invalid_project",
            Self::ProjectMismatch => "project_mismatch",
            Self::Forbidden => "forbidden",
            Self::ReadOnly => "read_only",
            Self::Restricted => "restricted",
            Self::InsecureTransport => "insecure_transport",
            Self::MissingScope => "missing_scope",
            Self::RateLimited => "rate_limited",
            Self::ConflictingCredentials => "conflicting_credentials",
            Self::MalformedBody => "malformed_body",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::Overloaded => "overloaded",
            Self::StoreFailed => "store_failed",
            Self::StoreTimeout => "store_timeout",
        }
    }

    /// The HTTP status of a refusal of this kind.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::MissingCredentials
            | Self::MalformedKey
            | Self::UnknownKey
            | Self::RevokedKey
            | Self::ExpiredKey
            | Self::WrongEnvironment
            | Self::SchemeEnded
            | Self::OwnerDisabled
            | Self::SchemeNotAllowed
            | Self::UserMismatch => StatusCode::UNAUTHORIZED,
            Self::ProjectRequired
            | Self::InvalidProject
            | Self::ConflictingCredentials
            | Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::ProjectMismatch
            | Self::Forbidden
            | Self::ReadOnly
            | Self::Restricted
            | Self::InsecureTransport
            | Self::MissingScope => StatusCode::FORBIDDEN,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded | Self::StoreFailed | Self::StoreTimeout => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The machine-readable code, which clients may see. Unknown, revoked and expired keys have the same code.
    #[must_use]
    pub fn public_code(self) -> &'static str {
        match self {
            Self::MissingCredentials => "missing_api_key",
            Self::MalformedKey
            | Self::UnknownKey
            | Self::RevokedKey
            | Self::ExpiredKey
            | Self::WrongEnvironment
            | Self::SchemeEnded
            | Self::OwnerDisabled
            | Self::SchemeNotAllowed => "invalid_api_key",
            Self::UserMismatch => "invalid_user",
            Self::ProjectRequired => "project_required",
            Self::InvalidProject => "invalid_project",
            Self::ProjectMismatch => "project_mismatch",
            Self::Forbidden | Self::MissingScope => "forbidden",
            Self::ReadOnly => "read_only",
            Self::Restricted => "restricted",
            Self::InsecureTransport => "https_required",
            Self::RateLimited => "rate_limited",
            Self::ConflictingCredentials => "conflicting_credentials",
            Self::MalformedBody => "malformed_body",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::Overloaded | Self::StoreFailed | Self::StoreTimeout => "auth_unavailable",
        }
    }
}

impl AuthError {
    /// Creates a refusal with the messages of a scheme; without a scheme, with those of the layer's first.
    ///
    /// For schemes of your own that read bodies: [`Scheme`](crate::scheme::Scheme).
    #[must_use]
    pub fn new(kind: AuthErrorKind, scheme: Option<&SchemeInfo>) -> Self {
        Self(Arc::new(Inner {
            kind,
            scheme: scheme.cloned(),
            grpc: false,
            source: None,
            wait: None,
            about: None,
            after_body: false,
        }))
    }

    /// Marks that the request's body has been read to its end, so that an HTTP/1.x connection can be kept open. For
    /// your own schemes that read bodies.
    #[must_use]
    pub fn after_body(mut self) -> Self {
        Arc::make_mut(&mut self.0).after_body = true;
        self
    }

    pub(crate) fn is_after_body(&self) -> bool {
        self.0.after_body
    }

    /// Adds the cause, for operators. Clients never see it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(source.into().into());
        self
    }

    /// Adds how long the client should wait, for `Retry-After`: for [`RateLimited`](AuthErrorKind::RateLimited).
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.with_wait(Wait::Failures(wait))
    }

    /// Sets whether the client speaks gRPC; see [`Head::is_grpc`](crate::Head::is_grpc).
    #[must_use]
    pub fn for_grpc(mut self, grpc: bool) -> Self {
        Arc::make_mut(&mut self.0).grpc = grpc;
        self
    }

    pub(crate) fn with_wait(mut self, wait: Wait) -> Self {
        Arc::make_mut(&mut self.0).wait = Some(wait);
        self
    }

    /// Adds the key that was refused, for observers.
    pub(crate) fn with_about(mut self, about: (KeyId, Environment)) -> Self {
        Arc::make_mut(&mut self.0).about = Some(about);
        self
    }

    pub(crate) fn about(&self) -> Option<&(KeyId, Environment)> {
        self.0.about.as_ref()
    }

    pub(crate) fn wait(&self) -> Option<&Wait> {
        self.0.wait.as_ref()
    }

    /// Replaces the reason.
    pub(crate) fn of_kind(mut self, kind: AuthErrorKind) -> Self {
        Arc::make_mut(&mut self.0).kind = kind;
        self
    }

    /// Adds what only the layer knows: the first scheme, whose messages apply if no scheme was used, and whether
    /// the client speaks gRPC.
    pub(crate) fn answering(mut self, first: Option<&SchemeInfo>, grpc: bool) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.scheme = inner.scheme.take().or_else(|| first.cloned());
        inner.grpc = grpc;
        self
    }

    /// What went wrong, for operators.
    #[must_use]
    pub fn kind(&self) -> AuthErrorKind {
        self.0.kind
    }

    /// The HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.kind.status()
    }

    /// The machine-readable code, which clients may see: `error` in the default body; see
    /// [`problems`](crate::problems).
    #[must_use]
    pub fn public_code(&self) -> &'static str {
        self.0.kind.public_code()
    }

    /// The message for the client, in the exact words of the scheme that was used; see [`problems`](crate::problems).
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        let default = crate::scheme_info::Messages::default;
        let words = |pick: fn(&crate::scheme_info::Messages) -> &Cow<'static, str>| match &self.0.scheme {
            Some(scheme) => Cow::Borrowed(&**pick(scheme.get_words())),
            None => Cow::Owned(pick(&default()).clone().into_owned()),
        };
        match self.0.kind {
            AuthErrorKind::MissingCredentials
            | AuthErrorKind::MalformedKey
            | AuthErrorKind::UnknownKey
            | AuthErrorKind::RevokedKey
            | AuthErrorKind::ExpiredKey
            | AuthErrorKind::WrongEnvironment
            | AuthErrorKind::SchemeEnded
            | AuthErrorKind::OwnerDisabled
            | AuthErrorKind::SchemeNotAllowed => words(|words| &words.unauthorized),
            AuthErrorKind::UserMismatch => words(|words| &words.invalid_user),
            AuthErrorKind::ProjectMismatch
            | AuthErrorKind::Forbidden
            | AuthErrorKind::ReadOnly
            | AuthErrorKind::Restricted
            | AuthErrorKind::MissingScope => words(|words| &words.forbidden),
            AuthErrorKind::ProjectRequired | AuthErrorKind::InvalidProject => {
                words(|words| &words.project_required)
            }
            AuthErrorKind::InsecureTransport => "HTTPS is required".into(),
            AuthErrorKind::RateLimited => "Too many requests".into(),
            AuthErrorKind::ConflictingCredentials => "More than one credential was sent".into(),
            AuthErrorKind::MalformedBody => "Malformed request body".into(),
            AuthErrorKind::UnsupportedMediaType => "Unsupported media type".into(),
            AuthErrorKind::BodyTooLarge => "Request body too large".into(),
            AuthErrorKind::BodyTimeout => "Request body timed out".into(),
            AuthErrorKind::Overloaded | AuthErrorKind::StoreFailed | AuthErrorKind::StoreTimeout => {
                "Authentication is temporarily unavailable".into()
            }
        }
    }

    /// How long the client should wait, after [`AuthErrorKind::RateLimited`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.wait.as_ref()? {
            Wait::Failures(wait) => Some(*wait),
            Wait::Limit(tally) => tally.retry_after(),
        }
    }

    /// Whether the client speaks gRPC (`POST` over HTTP/2 with its content type), and wants a `grpc-status` instead
    /// of a body.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.0.grpc
    }

    pub(crate) fn scheme_info(&self) -> Option<&SchemeInfo> {
        self.0.scheme.as_ref()
    }

    /// The scheme that was used, or the layer's first if none was.
    #[must_use]
    pub fn scheme(&self) -> Option<&'static str> {
        self.0.scheme.as_ref().map(SchemeInfo::name)
    }
}

impl fmt::Debug for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthError")
            .field("kind", &self.0.kind)
            .field("scheme", &self.scheme())
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl Error for AuthError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
