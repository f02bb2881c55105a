//! [`SchemeInfo`]: the description of a scheme: its name, challenge, headers and error messages.

mod challenge;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{HeaderName, Method};

use crate::deprecation::Deprecation;

pub use self::challenge::Challenge;
pub(crate) use self::challenge::is_token;

/// The description of a scheme: its name, its challenge, its headers, and the messages of its refusals.
///
/// Cloning is cheap. A scheme of your own builds one in its constructor and returns it from
/// [`HeaderScheme::describe`](crate::scheme::HeaderScheme::describe).
///
/// ```
/// use http::HeaderName;
/// use tower_api_key::scheme_info::{Challenge, SchemeInfo};
///
/// let info = SchemeInfo::new("device-token", Challenge::new("DeviceToken", "api")?)
///     .secret_header(HeaderName::from_static("x-device-token"));
/// assert_eq!(info.name(), "device-token");
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct SchemeInfo(Arc<SchemeInfoParts>);

#[derive(Clone)]
struct SchemeInfoParts {
    name: &'static str,
    challenge: Challenge,
    secret_headers: Vec<HeaderName>,
    headers: Vec<HeaderName>,
    body: BodyFields,
    requires_project: bool,
    words: Messages,
    deprecation: Option<Deprecation>,
}

/// What a scheme reads from bodies.
#[derive(Clone, Default)]
struct BodyFields {
    /// The key's member is the first.
    members: Vec<String>,
    methods: Vec<Method>,
}

impl SchemeInfo {
    /// Creates a description with this name, which logs and [`Principal::scheme`](crate::Principal::scheme) show,
    /// and this challenge. It has no headers, requires no project, and has the messages of the bearer document.
    #[must_use]
    pub fn new(name: &'static str, challenge: Challenge) -> Self {
        let (secret_headers, headers) = (Vec::new(), Vec::new());
        let words = Messages::default();
        let (requires_project, deprecation) = (false, None);
        Self(Arc::new(SchemeInfoParts {
            name,
            challenge,
            secret_headers,
            headers,
            body: BodyFields::default(),
            requires_project,
            words,
            deprecation,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut SchemeInfoParts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn challenged(self, challenge: Challenge) -> Self {
        self.with(|inner| inner.challenge = challenge)
    }

    /// Adds a header that carries the secret. It is marked sensitive before anything else reads it, and listed in
    /// `Vary`.
    #[must_use]
    pub fn secret_header(self, name: HeaderName) -> Self {
        self.with(|inner| inner.secret_headers.push(name))
    }

    /// Adds another header that the scheme reads. It is listed in `Vary`.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        self.with(|inner| inner.headers.push(name))
    }

    /// Sets the members of a JSON body that the scheme reads, the key's first, and the methods whose bodies it
    /// reads: for API documents (see [`LayerDescription`](crate::LayerDescription)).
    #[must_use]
    pub fn body<M: Into<String>>(self, members: impl IntoIterator<Item = M>, methods: &[Method]) -> Self {
        let members = members.into_iter().map(Into::into).collect();
        self.with(|inner| inner.body = BodyFields { members, methods: methods.to_vec() })
    }

    /// User-level keys must name a project through this scheme, unless the endpoint declares it optional (R5, R45).
    #[must_use]
    pub fn require_project(self) -> Self {
        self.with(|inner| inner.requires_project = true)
    }

    pub(crate) fn project_optional(self) -> Self {
        self.with(|inner| inner.requires_project = false)
    }

    /// Sets the exact messages of this scheme's refusals.
    #[must_use]
    pub fn words(self, words: Messages) -> Self {
        self.with(|inner| inner.words = words)
    }

    /// Announces the scheme's deprecation in every response to a request that uses it. After its sunset the scheme
    /// refuses with 401 and the challenges of the other schemes.
    #[must_use]
    pub fn deprecated(self, deprecation: Deprecation) -> Self {
        self.with(|inner| inner.deprecation = Some(deprecation))
    }

    /// The scheme's deprecation, if it is deprecated.
    #[must_use]
    pub fn deprecation(&self) -> Option<&Deprecation> {
        self.0.deprecation.as_ref()
    }

    /// The scheme's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The challenge for clients that send no credential.
    #[must_use]
    pub fn challenge(&self) -> &Challenge {
        &self.0.challenge
    }

    /// The headers that carry the secret; none if it is in the body.
    #[must_use]
    pub fn secret_headers(&self) -> &[HeaderName] {
        &self.0.secret_headers
    }

    /// The other headers that the scheme reads, such as the project's.
    #[must_use]
    pub fn other_headers(&self) -> &[HeaderName] {
        &self.0.headers
    }

    /// Whether the scheme reads credentials from JSON bodies.
    #[must_use]
    pub fn reads_bodies(&self) -> bool {
        !self.0.body.members.is_empty()
    }

    /// The members of a JSON body that the scheme reads, the key's first; none if it reads heads only.
    #[must_use]
    pub fn body_members(&self) -> &[String] {
        &self.0.body.members
    }

    /// The methods whose bodies the scheme reads.
    #[must_use]
    pub fn body_methods(&self) -> &[Method] {
        &self.0.body.methods
    }

    /// Whether user-level keys must name a project through this scheme; see
    /// [`require_project`](Self::require_project).
    #[must_use]
    pub fn needs_project(&self) -> bool {
        self.0.requires_project
    }

    /// All headers on which the response depends.
    pub(crate) fn all_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.secret_headers.iter().chain(&self.0.headers)
    }

    pub(crate) fn get_words(&self) -> &Messages {
        &self.0.words
    }
}

impl fmt::Debug for SchemeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchemeInfo").field(&self.0.name).finish()
    }
}

/// The messages of a scheme; see [`problems`](crate::problems). The defaults are those of the bearer document.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Messages {
    /// 401: the key is missing, malformed, unknown, revoked, expired, or of another environment.
    pub unauthorized: Cow<'static, str>,
    /// 401: the claimed user is not the key's owner.
    pub invalid_user: Cow<'static, str>,
    /// 403: no access.
    pub forbidden: Cow<'static, str>,
    /// 400: no project is named, or the named one is not a valid id.
    pub project_required: Cow<'static, str>,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            unauthorized: Cow::Borrowed("Missing or invalid API key"),
            invalid_user: Cow::Borrowed("Invalid User"),
            forbidden: Cow::Borrowed("API key doesn't have permission for this resource"),
            project_required: Cow::Borrowed("X-Project-ID header is required"),
        }
    }
}

/// The usual spelling of a header's name, for people: `X-API-Key` for `x-api-key`.
///
/// ```
/// use tower_api_key::scheme_info::spelled;
///
/// assert_eq!(spelled(&http::HeaderName::from_static("x-api-key")), "X-API-Key");
/// ```
#[must_use]
pub fn spelled(header: &HeaderName) -> String {
    let word = |word: &str| match word {
        "api" | "id" | "url" => word.to_ascii_uppercase(),
        _ => {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
        }
    };
    header.as_str().split('-').map(word).collect::<Vec<_>>().join("-")
}
