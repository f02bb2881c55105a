//! [`JsonBody`]: reads the key from a JSON body.
//!
//! # Format
//!
//! ```json
//! {"apiKey": "sk_live_...", "userId": "u1", "projectId": "p1", "and": "whatever the handler wants"}
//! ```
//!
//! One object at the top level, each credential at most once and a string (`null` counts as missing). The handler
//! gets the body unchanged: the same bytes and the same trailers.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::header_value::single;
use super::json_scan;
use super::json_strict::{Fields, MemberNames};
use super::replay::{Rebuild, Replay};
use super::{BodyInterest, Describe, Draining, Scheme, Sender};
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::body_budget::{self, Budget};
use crate::config_error::ConfigError;
use crate::credentials::{Credentials, Head};
use crate::deprecation::Deprecation;
use crate::scheme_info::{Challenge, Messages, SchemeInfo, is_token};
use crate::unread_body;

/// Reads `apiKey`, `userId` and `projectId` from a JSON body (R2 to R7).
///
/// The head decides whether the body is read: the method is `POST`, `PUT` or `PATCH`, the content type is
/// `application/json` or `application/*+json` in UTF-8, there is no content coding, and the declared length is
/// within the limit. The body of a request with a credential in its head is never read.
///
/// # Caveat
///
/// The handler sees the key too, and handlers may log bodies: see [`redact_key`](Self::redact_key). Prefer a header
/// scheme if you can choose.
#[derive(Clone)]
pub struct JsonBody {
    info: SchemeInfo,
    names: MemberNames,
    limit: usize,
    deadline: Duration,
    budget: Budget,
    methods: Vec<Method>,
    redact: bool,
}

impl Default for JsonBody {
    /// Bodies up to 1 MiB (ten times the largest example in the source documents), ten seconds to receive one, 64
    /// MiB for all bodies at once, and the realm `api`.
    fn default() -> Self {
        let challenge = Challenge::from_static(r#"ApiKey realm="api", in="body", name="apiKey""#);
        Self {
            info: info(challenge, ["apiKey", "userId", "projectId"]),
            names: MemberNames::documented(),
            limit: LIMIT,
            deadline: Duration::from_secs(10),
            budget: Budget::new(64 << 20, LIMIT),
            methods: METHODS.to_vec(),
            redact: false,
        }
    }
}

const LIMIT: usize = 1 << 20;

/// The methods whose bodies are read by default.
const METHODS: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

fn info(challenge: Challenge, names: [&str; 3]) -> SchemeInfo {
    let [_, _, project] = names;
    let words = Messages {
        unauthorized: "Unauthorized: Invalid API Key".into(),
        invalid_user: "Invalid User".into(),
        forbidden: "Forbidden".into(),
        project_required: format!("{project} is required").into(),
    };
    SchemeInfo::new("json-body", challenge).words(words).body(names, &METHODS).require_project()
}

impl JsonBody {
    /// Uses other names for the three members and another realm.
    ///
    /// # Errors
    ///
    /// [`ConfigError::FieldName`] if a name is empty or two differ only in case and separators,
    /// [`ConfigError::Challenge`] if the realm or the key's name is not visible ASCII and spaces.
    pub fn named(key: &str, user: &str, project: &str, realm: &str) -> Result<Self, ConfigError> {
        let names = MemberNames::new([key, user, project])?;
        let challenge = Challenge::new("ApiKey", realm)?.param("in", "body")?.param("name", key)?;
        let info = info(challenge, [key, user, project]);
        Ok(Self { info, names, ..Self::default() })
    }

    /// Sets the size in bytes of the largest body that is read. Larger ones are refused with 413, before reading if
    /// their length is declared.
    #[must_use]
    pub fn limit(self, bytes: NonZeroUsize) -> Self {
        let limit = bytes.get();
        Self { limit, budget: Budget::new(self.budget.cap(), limit), ..self }
    }

    /// Sets how long it may take to receive a body; 408 after that. The time shrinks while more than half of
    /// [`buffer_cap`](Self::buffer_cap), or of the client's share, is in use, down to a tenth when all of it is.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`] if it is 0.
    pub fn read_deadline(self, deadline: Duration) -> Result<Self, ConfigError> {
        if deadline.is_zero() {
            return Err(ConfigError::Zero("the deadline of a body"));
        }
        Ok(Self { deadline, ..self })
    }

    /// Sets how many bytes of bodies this layer and its clones may hold at once, until handlers have taken them;
    /// 503 beyond that.
    ///
    /// A client with a known [address](crate::client_addr) may hold at most a third of what is free. So no client
    /// ever has more than a quarter of the whole, and several clients cannot fill it. A single body of the largest
    /// size is always allowed if the cap has room for it. There are no shares if the address is unknown, or if all
    /// requests come from a proxy that is not listed;
    /// [`Warning::BodySenderUnknown`](crate::observer::Warning::BodySenderUnknown) reports this.
    #[must_use]
    pub fn buffer_cap(self, bytes: NonZeroUsize) -> Self {
        Self { budget: Budget::new(bytes.get(), self.limit), ..self }
    }

    /// Also reads the bodies of this method, which is not read by default: `DELETE`, or an extension method.
    #[must_use]
    pub fn also_method(mut self, method: Method) -> Self {
        self.methods.push(method);
        let members = self.info.body_members().to_vec();
        self.info = self.info.body(members, &self.methods);
        self
    }

    /// Announces the scheme's deprecation in every response to a request that uses it, and refuses such requests
    /// after its sunset; see [`Deprecation`].
    #[must_use]
    pub fn deprecated(self, deprecation: Deprecation) -> Self {
        Self { info: self.info.deprecated(deprecation), ..self }
    }

    /// User-level keys need not name a project. The default is that they must, unless the endpoint declares it optional.
    #[must_use]
    pub fn project_optional(self) -> Self {
        Self { info: self.info.project_optional(), ..self }
    }

    /// Replaces the key by as many `*` in the body that the handler gets.
    ///
    /// A key written with JSON escapes cannot be replaced in place: it is then refused with 400.
    #[must_use]
    pub fn redact_key(self) -> Self {
        Self { redact: true, ..self }
    }

    /// The budget for the bodies that it reads, for routes that [settle](crate::unread_body::settle) unread ones.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn refuse(&self, kind: AuthErrorKind) -> AuthError {
        AuthError::new(kind, Some(&self.info))
    }

    fn interest(&self, head: Head<'_>) -> Result<BodyInterest, AuthErrorKind> {
        if !self.methods.contains(head.method) {
            return Ok(BodyInterest::None);
        }
        let repeated = |_| AuthErrorKind::ConflictingCredentials;
        match single(head.headers, &CONTENT_TYPE).map_err(repeated)?.map(json_type) {
            None | Some(JsonType::Other) => return Ok(BodyInterest::OtherType),
            Some(JsonType::OtherCharset) => return Err(AuthErrorKind::UnsupportedMediaType),
            Some(JsonType::Utf8) => {}
        }
        if is_coded(head.headers) {
            return Err(AuthErrorKind::UnsupportedMediaType);
        }
        let declared = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let declared = declared.and_then(|length| length.parse::<usize>().ok()).unwrap_or_default();
        if declared > self.limit {
            Err(AuthErrorKind::BodyTooLarge)
        } else if !self.budget.has_room_for(declared.max(1)) {
            Err(AuthErrorKind::Overloaded)
        } else {
            Ok(BodyInterest::Wanted)
        }
    }

    fn credentials(&self, replay: &mut Replay) -> Result<Option<Credentials<'static>>, AuthErrorKind> {
        // An empty body counts as no credential, not as a broken one.
        if replay.data.is_empty() {
            return Ok(None);
        }
        let Fields { key, names_key, user, project } =
            json_scan::read(&replay.data, &self.names).map_err(|_| AuthErrorKind::MalformedBody)?;
        let Some(key) = key else { return Ok(names_key.then(Credentials::null)) };
        let place = match &key {
            Cow::Borrowed(key) if self.redact => Some(place_of(key, &replay.data)),
            Cow::Owned(_) if self.redact => return Err(AuthErrorKind::MalformedBody),
            _ => None,
        };
        let credentials = Credentials::new(key.into_owned())
            .claim_user(user.map(Cow::into_owned))
            .select_project(project.map(Cow::into_owned));
        if let Some(place) = place {
            replay.data = fill(std::mem::take(&mut replay.data), place);
        }
        Ok(Some(credentials))
    }
}

/// The byte range of `part`, a slice of `text`, in `text`.
fn place_of(part: &str, text: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.len()
}

/// Returns the same bytes with one range replaced by `*`.
fn fill(text: Bytes, place: std::ops::Range<usize>) -> Bytes {
    let mut text = text.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    if let Some(key) = text.get_mut(place) {
        key.fill(b'*');
    }
    text.freeze()
}

impl Describe for JsonBody {
    fn describe_each<'a>(&'a self, each: &mut dyn FnMut(&'a SchemeInfo)) {
        each(&self.info);
    }
}

impl<B: Rebuild> Scheme<B> for JsonBody {
    fn read_head<'r>(&self, _: Head<'r>) -> Result<Option<Credentials<'r>>, AuthError> {
        Ok(None)
    }

    fn body_interest(&self, head: Head<'_>) -> Result<BodyInterest, AuthError> {
        self.interest(head).map_err(|kind| self.refuse(kind))
    }

    async fn read_body(
        &self,
        head: Head<'_>,
        sender: &Sender,
        body: B,
    ) -> Result<(Option<Credentials<'static>>, B), AuthError> {
        let mut body = pin!(body);
        let charge = self.budget.charge(sender);
        let mut replay = match body_budget::read(body.as_mut(), self.limit, self.deadline, charge).await {
            Ok(whole) => Replay::from(whole),
            Err(kind) => {
                let error = self.refuse(kind);
                let ended = kind == AuthErrorKind::BodyTooLarge
                    && unread_body::is_ahead(head)
                    && unread_body::may_be_drained(head)
                    && unread_body::drain(body, self.budget.charge(sender)).await;
                return Err(if ended { error.after_body() } else { error });
            }
        };
        let found = self.credentials(&mut replay).map_err(|kind| self.refuse(kind).after_body())?;
        Ok((found.map(|credentials| credentials.through(&self.info)), B::rebuild(replay)))
    }

    fn drain(&self, sender: &Sender, body: B) -> Result<Draining, B> {
        Ok(Draining::of(body, &self.budget, sender))
    }
}

impl fmt::Debug for JsonBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonBody")
            .field("names", &self.names)
            .field("limit", &self.limit)
            .field("deadline", &self.deadline)
            .field("methods", &self.methods)
            .field("redact", &self.redact)
            .finish_non_exhaustive()
    }
}

/// Whether these headers describe JSON in UTF-8 that [`JsonBody`] reads: one unambiguous `Content-Type` and no
/// `Content-Encoding`.
#[must_use]
pub fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(json_type);
    matches!((types.next(), types.next()), (Some(JsonType::Utf8), None)) && !is_coded(headers)
}

enum JsonType {
    Utf8,
    OtherCharset,
    Other,
}

/// Accepts the types that axum's `Json` accepts, but not other charsets, which axum ignores and would misread. A
/// value that two parsers could read differently (tabs, two types merged into one line, broken parameters) counts
/// as no type.
fn json_type(value: &HeaderValue) -> JsonType {
    // The most common spelling.
    if value == "application/json" {
        return JsonType::Utf8;
    }
    let Ok(text) = value.to_str() else { return JsonType::Other };
    let (essence, mut parameters) = text.split_once(';').unwrap_or((text, ""));
    let Some((kind, subtype)) = essence.trim_matches(' ').split_once('/') else { return JsonType::Other };
    let subtype = subtype.to_ascii_lowercase();
    // gRPC adds frames around its messages, even around JSON.
    let vendor = |vendor: &str| !vendor.is_empty() && !vendor.starts_with("grpc");
    let json = subtype == "json" || subtype.strip_suffix("+json").is_some_and(vendor);
    if !kind.eq_ignore_ascii_case("application") || !json || !is_token(&subtype) {
        return JsonType::Other;
    }
    let mut found = JsonType::Utf8;
    loop {
        parameters = parameters.trim_start_matches([' ', ';']);
        if parameters.is_empty() {
            return found;
        }
        let Some((name, value, rest)) = parameter(parameters) else { return JsonType::Other };
        if name.eq_ignore_ascii_case("charset") && !is_utf8(value) {
            found = JsonType::OtherCharset;
        }
        parameters = rest;
    }
}

/// Whether a charset is UTF-8, by its name, a common misspelling, or as its subset ASCII.
fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// Whether the body has a content coding. `identity` and an empty value mean none.
fn is_coded(headers: &HeaderMap) -> bool {
    let codings =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Splits off a media type's first parameter: its name, its value without quotes, and the rest (RFC 9110 section
/// 5.6.6).
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, after) = text.split_once('=')?;
    let (value, rest) = match after.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
        None => {
            let (value, rest) = after.split_at(after.find([';', ' ']).unwrap_or(after.len()));
            (is_token(value).then_some(value)?, rest)
        }
    };
    let rest = rest.trim_start_matches(' ');
    (is_token(name) && (rest.is_empty() || rest.starts_with(';'))).then_some((name, value, rest))
}
