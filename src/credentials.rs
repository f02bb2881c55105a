//! [`Credentials`]: what a client claims, not yet checked; and [`Head`], from which schemes read it.

use std::borrow::Cow;
use std::fmt;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use zeroize::Zeroize as _;

use crate::scheme_info::SchemeInfo;

/// The head of a request, as schemes see it.
///
/// `Debug` shows the method, the path and the names of the headers, because values and queries may be secret.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Head<'r> {
    /// The method.
    pub method: &'r Method,
    /// The request target.
    pub uri: &'r Uri,
    /// The HTTP version.
    pub version: Version,
    /// The headers; those that carry secrets are marked sensitive.
    pub headers: &'r HeaderMap,
    /// The request's extensions, set by outer layers.
    pub extensions: &'r Extensions,
}

impl<'r> Head<'r> {
    /// Borrows the head of a request.
    #[must_use]
    pub fn of<B>(request: &'r Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// Whether the client speaks gRPC and expects a `grpc-status` instead of a body: `POST` over HTTP/2 with gRPC's
    /// content type. No other client can choose to get a refusal as a 200.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        let is_its_type = |value: &HeaderValue| {
            let rest = value.as_bytes().strip_prefix(b"application/grpc");
            rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
        };
        *self.method == Method::POST
            && self.version >= Version::HTTP_2
            && self.headers.get(CONTENT_TYPE).is_some_and(is_its_type)
    }
}

impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<'r> From<&'r Parts> for Head<'r> {
    fn from(parts: &'r Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            extensions: &parts.extensions,
        }
    }
}

/// What a client claims: a key, and perhaps a user and a project. None of it has been checked.
///
/// [`Verifier::verify`](crate::Verifier::verify) turns it into a principal or refuses it. `Debug` shows no secret.
pub struct Credentials<'r> {
    key: Secret<'r>,
    null: bool,
    claims: Claims<'r>,
}

/// What a client claims in addition to its key: for [`Verifier::explain`](crate::Verifier::explain), which explains
/// requests without having their key.
#[derive(Clone, Debug, Default)]
pub struct Claims<'r> {
    user: Claim<'r>,
    project: Claim<'r>,
    scheme: Option<SchemeInfo>,
}

/// The key's text, borrowed from a header, or owned (from a body) and overwritten on drop.
struct Secret<'r>(Cow<'r, str>);

impl Drop for Secret<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

/// A client's claim about a user or a project.
#[derive(Clone, Debug, Default)]
pub(crate) enum Claim<'r> {
    /// The scheme does not read it.
    #[default]
    NotAsked,
    /// The scheme reads it, but the client sent none.
    Missing,
    /// The client sent this text, which may not be a valid id.
    Named(Cow<'r, str>),
}

impl Claim<'_> {
    fn copied(&self) -> Claim<'static> {
        match self {
            Self::NotAsked => Claim::NotAsked,
            Self::Missing => Claim::Missing,
            Self::Named(text) => Claim::Named(Cow::Owned(text.clone().into_owned())),
        }
    }
}

impl<'r> Credentials<'r> {
    /// Creates credentials with a key and no claim about user or project.
    #[must_use]
    pub fn new(key: impl Into<Cow<'r, str>>) -> Self {
        Self { key: Secret(key.into()), null: false, claims: Claims::default() }
    }

    /// Credentials whose key is present but null: `"apiKey": null`. They are refused like a missing key, even where
    /// a key is optional.
    pub(crate) fn null() -> Self {
        Self { null: true, ..Self::new("") }
    }

    /// Sets the claimed user, which must be the key's owner (R9). `None` means that the scheme requires one and the
    /// client sent none.
    #[must_use]
    pub fn claim_user(mut self, user: Option<impl Into<Cow<'r, str>>>) -> Self {
        self.claims = self.claims.user(user);
        self
    }

    /// Sets the selected project; `None` means that the client sent none.
    #[must_use]
    pub fn select_project(mut self, project: Option<impl Into<Cow<'r, str>>>) -> Self {
        self.claims = self.claims.project(project);
        self
    }

    /// Sets the scheme through which they came. The layer does this for what schemes read; call it for credentials
    /// that did not come in a request.
    #[must_use]
    pub fn through(mut self, scheme: &SchemeInfo) -> Self {
        self.claims = self.claims.through(scheme);
        self
    }

    /// The scheme through which the credentials came.
    #[must_use]
    pub fn scheme(&self) -> Option<&SchemeInfo> {
        self.claims.scheme()
    }

    /// The claims other than the key.
    #[must_use]
    pub fn claims(&self) -> &Claims<'r> {
        &self.claims
    }

    /// Copies the credentials for the time of the decision. The copy's text is overwritten on drop too.
    #[cold]
    pub(crate) fn copied(&self) -> Credentials<'static> {
        let key = Secret(Cow::Owned(self.expose_secret().to_owned()));
        Credentials { key, null: self.null, claims: self.claims.copied() }
    }

    pub(crate) fn are_null(&self) -> bool {
        self.null
    }

    /// Returns the key's text as it was sent, for your own routes that look up keys themselves. Do not log it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.key.0
    }
}

impl<'r> Claims<'r> {
    /// Creates claims without user or project.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Like [`Credentials::claim_user`].
    #[must_use]
    pub fn user(mut self, user: Option<impl Into<Cow<'r, str>>>) -> Self {
        self.user = user.map_or(Claim::Missing, |user| Claim::Named(user.into()));
        self
    }

    /// Like [`Credentials::select_project`].
    #[must_use]
    pub fn project(mut self, project: Option<impl Into<Cow<'r, str>>>) -> Self {
        self.project = project.map_or(Claim::Missing, |project| Claim::Named(project.into()));
        self
    }

    /// Like [`Credentials::through`].
    #[must_use]
    pub fn through(mut self, scheme: &SchemeInfo) -> Self {
        self.scheme = Some(scheme.clone());
        self
    }

    /// The scheme through which they came.
    #[must_use]
    pub fn scheme(&self) -> Option<&SchemeInfo> {
        self.scheme.as_ref()
    }

    fn copied(&self) -> Claims<'static> {
        Claims { user: self.user.copied(), project: self.project.copied(), scheme: self.scheme.clone() }
    }

    pub(crate) fn claimed_user(&self) -> &Claim<'r> {
        &self.user
    }

    pub(crate) fn selected_project(&self) -> &Claim<'r> {
        &self.project
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("scheme", &self.claims.scheme)
            .field("user", &self.claims.user)
            .field("project", &self.claims.project)
            .finish_non_exhaustive()
    }
}
