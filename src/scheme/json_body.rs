//! The key in the JSON body.
//!
//! # Format
//!
//! ```json
//! {"apiKey": "sk_live_...", "userId": "u1", "projectId": "p1", "and": "whatever the handler wants"}
//! ```
//!
//! One object at the top level, each credential at most once and a string (`null` counts as missing). The body reaches
//! the handler as it came: the same bytes, the same trailers.

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::json_fields::{self, Fields, Names};
use super::replay::{Rebuild, Replay};
use super::{BodyInterest, Describe, Draining, Scheme, Sender, single};
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::body_budget::{self, Budget};
use crate::config_error::ConfigError;
use crate::credentials::{Credentials, Head};
use crate::deprecation::Deprecation;
use crate::scheme_info::{Challenge, Messages, SchemeInfo, is_token};
use crate::unread_body;

/// Reads `apiKey`, `userId` and `projectId` from a JSON body (R2 to R7).
///
/// Whether to read at all is decided from the head: the method is `POST`, `PUT` or `PATCH`, the content type is
/// `application/json` or `application/*+json` in UTF-8, no coding is applied, and the declared length is within the
/// limit. A request with a credential in its head is never read.
///
/// # Caveat
///
/// The handler sees the key, too, and handlers log bodies: see [`redact_key`](Self::redact_key). Prefer a header scheme
/// where you can choose.
#[derive(Clone)]
pub struct JsonBody {
    info: SchemeInfo,
    names: Names,
    limit: usize,
    deadline: Duration,
    budget: Budget,
    methods: Vec<Method>,
    redact: bool,
}

impl Default for JsonBody {
    /// 1 MiB a body (a call that carries credentials in JSON is a call and no upload; ten times the largest that the
    /// documents show would do), ten seconds for it to arrive, 64 MiB of bodies at once, the realm `api`.
    fn default() -> Self {
        let challenge = Challenge::from_static(r#"ApiKey realm="api", in="body", name="apiKey""#);
        Self {
            info: info(challenge, ["apiKey", "userId", "projectId"]),
            names: Names::documented(),
            limit: LIMIT,
            deadline: Duration::from_secs(10),
            budget: Budget::new(64 << 20, LIMIT),
            methods: METHODS.to_vec(),
            redact: false,
        }
    }
}

const LIMIT: usize = 1 << 20;

/// Those whose bodies are read, unless told otherwise.
const METHODS: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

fn info(challenge: Challenge, names: [&str; 3]) -> SchemeInfo {
    let [_, _, project] = names;
    let words = Messages {
        unauthorized: "Unauthorized: Invalid API Key".into(),
        invalid_user: "Invalid User".into(),
        forbidden: "Forbidden".into(),
        project_required: format!("{project} is required").into(),
    };
    SchemeInfo::new("json-body", challenge).words(words).body(names, &METHODS).requires_project(true)
}

impl JsonBody {
    /// Other names of the three members, and a realm.
    ///
    /// # Errors
    ///
    /// [`ConfigError::FieldName`] if one is empty or two are the same but for case and separators,
    /// [`ConfigError::Challenge`] unless the realm and the key's name are visible ASCII and spaces.
    pub fn named(key: &str, user: &str, project: &str, realm: &str) -> Result<Self, ConfigError> {
        let names = Names::new([key, user, project])?;
        let challenge = Challenge::new("ApiKey", realm)?.param("in", "body")?.param("name", key)?;
        let info = info(challenge, [key, user, project]);
        Ok(Self { info, names, ..Self::default() })
    }

    /// The largest body that is read, in bytes; larger ones are refused with 413, by their declared length where
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn limit(self, bytes: usize) -> Result<Self, ConfigError> {
        if bytes == 0 {
            Err(ConfigError::Zero("the limit of a body"))
        } else {
            Ok(Self { limit: bytes, budget: Budget::new(self.budget.cap(), bytes), ..self })
        }
    }

    /// How long a body may take to arrive, as a whole; 408 after that. It is less while more than half of
    /// [`buffer_cap`](Self::buffer_cap) is taken, or of the client's share: a tenth when all of it is.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn read_deadline(self, deadline: Duration) -> Result<Self, ConfigError> {
        if deadline.is_zero() {
            return Err(ConfigError::Zero("the deadline of a body"));
        }
        Ok(Self { deadline, ..self })
    }

    /// How many bytes of bodies may be held at once by this layer and its clones, until handlers have taken them; 503
    /// beyond that.
    ///
    /// A client whose [address](crate::client_addr) is known holds at most a third of what is left free, so that it never
    /// has more than a quarter of the whole, and several do not fill it; but always one body of the largest size, if that
    /// is what the cap has room for. Where no address is known, or all requests come from a proxy that the layer was not
    /// told of, there are no shares, and [`Warning::BodySenderUnknown`](crate::observer::Warning::BodySenderUnknown) says so.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn buffer_cap(self, bytes: usize) -> Result<Self, ConfigError> {
        if bytes == 0 {
            return Err(ConfigError::Zero("the cap of buffered bodies"));
        }
        Ok(Self { budget: Budget::new(bytes, self.limit), ..self })
    }

    /// Also reads the bodies of this method, which by default is asked for no body: `DELETE`, or an extension.
    #[must_use]
    pub fn also_method(mut self, method: Method) -> Self {
        self.methods.push(method);
        let members = self.info.body_members().to_vec();
        self.info = self.info.body(members, &self.methods);
        self
    }

    /// Says in every answer through this scheme that it is deprecated, and refuses after its sunset; see
    /// [`Deprecation`].
    #[must_use]
    pub fn deprecated(self, deprecation: Deprecation) -> Self {
        Self { info: self.info.deprecated(deprecation), ..self }
    }

    /// Whether user-level keys must name a project, at endpoints that are not declared otherwise. The default is yes.
    #[must_use]
    pub fn requires_project(self, required: bool) -> Self {
        Self { info: self.info.requires_project(required), ..self }
    }

    /// Whether the key's characters are replaced by as many `*` in the body that the handler gets. The default is no.
    ///
    /// A key that is spelled with JSON escapes cannot be replaced in place: with this on it is refused with 400.
    #[must_use]
    pub fn redact_key(self, redact: bool) -> Self {
        Self { redact, ..self }
    }

    /// Where the bodies that it reads find room: for routes that [settle](crate::unread_body::settle) what it has left.
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
        match declared.and_then(|length| length.parse::<usize>().ok()) {
            Some(length) if length > self.limit => Err(AuthErrorKind::BodyTooLarge),
            Some(length) if !self.budget.has_room_for(length) => Err(AuthErrorKind::Overloaded),
            _ if !self.budget.has_room_for(1) => Err(AuthErrorKind::Overloaded),
            _ => Ok(BodyInterest::Wanted),
        }
    }

    fn credentials(&self, replay: &mut Replay) -> Result<Option<Credentials<'static>>, AuthErrorKind> {
        // Nothing was sent: no credential, rather than a broken one.
        if replay.data.is_empty() {
            return Ok(None);
        }
        let text = replay.data.clone();
        let Fields { key, names_key, user, project } =
            json_fields::read(&text, &self.names).map_err(|_| AuthErrorKind::MalformedBody)?;
        let Some(key) = key else { return Ok(names_key.then(Credentials::null)) };
        let place = match &key {
            Cow::Borrowed(key) if self.redact => Some(place_of(key, &text)),
            Cow::Owned(_) if self.redact => return Err(AuthErrorKind::MalformedBody),
            _ => None,
        };
        let credentials = Credentials::new(key.into_owned())
            .claim_user(user.map(Cow::into_owned))
            .select_project(project.map(Cow::into_owned));
        if let Some(place) = place {
            drop(text);
            replay.data = fill(std::mem::take(&mut replay.data), place);
        }
        Ok(Some(credentials))
    }
}

/// Where in `text` the slice `part` of it stands.
fn place_of(part: &str, text: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.len()
}

/// The same bytes with `*` in one place.
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

/// Whether these headers say that a body is JSON in UTF-8 as [`JsonBody`] reads it: one `Content-Type` that leaves no doubt,
/// and no `Content-Encoding`.
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

/// What axum's `Json` takes for JSON, but for other charsets, which it overlooks: they would be read wrongly. A value
/// that two readers could read differently (tabs, two types merged into one line, broken parameters) is of no type.
fn json_type(value: &HeaderValue) -> JsonType {
    // As nearly everybody spells it.
    if value == "application/json" {
        return JsonType::Utf8;
    }
    let Ok(text) = value.to_str() else { return JsonType::Other };
    let (essence, mut parameters) = text.split_once(';').unwrap_or((text, ""));
    let Some((kind, subtype)) = essence.trim_matches(' ').split_once('/') else { return JsonType::Other };
    let subtype = subtype.to_ascii_lowercase();
    // gRPC frames its messages, whatever they are made of.
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

/// Whether a charset is UTF-8, in its name or a usual misspelling, or a part of it.
fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// Whether a body is not the bytes that it stands for. `identity` and nothing at all say that it is.
fn is_coded(headers: &HeaderMap) -> bool {
    let codings =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// A media type's first parameter, without quotes, and what follows it (RFC 9110 section 5.6.6).
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
