//! What does the client claim? Each scheme is one file: where its credentials stand, and how they are read.
//!
//! | scheme | where the key stands |
//! |---|---|
//! | [`Bearer`] | `Authorization: Bearer sk_live_...` |
//! | [`ApiKeyHeader`] | `X-API-Key`, with `X-Project-ID` |
//! | [`JsonBody`] | `{"apiKey", "userId", "projectId"}` in a JSON body |
//! | [`Or`] | two of them, joined by [`ApiKeyAuth::or`](crate::ApiKeyAuth::or) |
//!
//! A scheme of your own implements [`HeaderScheme`]: two small methods.
//!
//! Absent, unusable and found are three answers. A credential that is there and broken never falls through to the
//! next scheme, and two of them in one head are refused, even if they are equal (R62). Every scheme looks at the head;
//! only if the head holds nothing may one read the body.
//!
//! # Caveat
//!
//! On HTTP/1.x a refusal that comes before the body was read ends the connection, and says so: a refused `POST` of header
//! schemes costs one. Where [`JsonBody`] is among the schemes, up to 64 KiB are read first, for up to a second, and the
//! connection goes on. Somebody who uploads more may see a reset instead of the refusal
//! ([`problems`](crate::problems#the-connection-after-a-refusal)).

mod api_key_header;
mod bearer;
mod json_body;
mod json_fields;
mod or;
mod replay;

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::credentials::{Credentials, Head};
use crate::scheme_info::SchemeInfo;

pub use self::api_key_header::ApiKeyHeader;
pub use self::bearer::Bearer;
pub use self::json_body::{JsonBody, is_plain_json};
pub use self::or::Or;
pub use self::replay::{Rebuild, Replay};
pub use crate::body_budget::Sender;
pub use crate::unread_body::Draining;

/// A scheme whose credentials stand in the head of a request.
///
/// ```
/// use http::HeaderName;
/// use tower_api_key::scheme::{HeaderScheme, MalformedCredential};
/// use tower_api_key::{Challenge, ConfigError, Credentials, Head, SchemeInfo};
///
/// /// `X-Device-Token: ...`
/// #[derive(Clone)] // the builder of the layer wants it
/// struct DeviceToken(SchemeInfo);
///
/// const NAME: HeaderName = HeaderName::from_static("x-device-token");
///
/// impl DeviceToken {
///     fn new() -> Result<Self, ConfigError> {
///         let challenge = Challenge::new("DeviceToken", "api")?;
///         Ok(Self(SchemeInfo::new("device-token", challenge).secret_header(NAME)))
///     }
/// }
///
/// impl HeaderScheme for DeviceToken {
///     fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential> {
///         let mut lines = head.headers.get_all(NAME).iter();
///         match (lines.next(), lines.next()) {
///             (None, _) => Ok(None),
///             (Some(_), Some(_)) => Err(MalformedCredential::Repeated),
///             (Some(line), None) => {
///                 let token = line.to_str().map_err(|_| MalformedCredential::Malformed)?;
///                 Ok(Some(Credentials::new(token)))
///             }
///         }
///     }
///
///     fn describe(&self) -> &SchemeInfo {
///         &self.0
///     }
/// }
/// ```
pub trait HeaderScheme: Send + Sync + 'static {
    /// Looks for this scheme's credentials: `Ok(None)` if there is nothing of this scheme in the head.
    ///
    /// # Errors
    ///
    /// [`MalformedCredential`] if there is something of this scheme, and it is broken. The request is refused then, whatever other
    /// schemes would say.
    fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential>;

    /// The scheme's name, challenge, headers and words: the same at every call.
    fn describe(&self) -> &SchemeInfo;
}

/// A credential is there, and broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedCredential {
    /// It is no key: 401, in the ordinary words of the scheme.
    Malformed,
    /// It is there more than once: 400.
    Repeated,
}

impl MalformedCredential {
    fn kind(self) -> AuthErrorKind {
        match self {
            Self::Malformed => AuthErrorKind::MalformedKey,
            Self::Repeated => AuthErrorKind::ConflictingCredentials,
        }
    }
}

/// A scheme, or several that are joined, for requests with a body of type `B`.
///
/// Every [`HeaderScheme`] is one, whatever the body. Implement this one only for credentials that stand in a body.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot read requests with a body of type `{B}`",
    note = "`JsonBody` hands a body on under the type it came with, and so needs one that can be made anew: \
            axum's `Body`, or http_body_util's `BoxBody`, `UnsyncBoxBody` and `Full`",
    note = "map the body before the layer: `ServiceBuilder::new().map_request(|r: Request<_>| r.map(UnsyncBoxBody::new))`",
    note = "a scheme of your own implements `HeaderScheme`"
)]
pub trait Scheme<B>: Describe {
    /// Looks for credentials in the head.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if there is something of this scheme, and it is broken.
    fn read_head<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, AuthError>;

    /// Whether the body of such a request may hold credentials. The head held none.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the body is for this scheme, and cannot be read.
    fn body_interest(&self, head: Head<'_>) -> Result<BodyInterest, AuthError> {
        let _ = head;
        Ok(BodyInterest::None)
    }

    /// Reads credentials from the body, to its end, and gives it back as it came. What `sender` sends at once is within
    /// its share of the room for bodies.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the body cannot be read, or what it holds is broken. On HTTP/1.x the connection ends with that
    /// answer, unless the error says that the body [was read](AuthError::after_body).
    fn read_body(
        &self,
        head: Head<'_>,
        sender: &Sender,
        body: B,
    ) -> impl Future<Output = Result<(Option<Credentials<'static>>, B), AuthError>> + Send;

    /// Reads the body of a request that is refused, and keeps nothing of it, so that the connection can go on. It is asked
    /// for short bodies on HTTP/1.x that nobody has touched.
    ///
    /// # Errors
    ///
    /// Gives the body back if this scheme cannot read bodies of its type. The connection ends with the answer then. So does
    /// this default, and every [`HeaderScheme`].
    fn drain(&self, sender: &Sender, body: B) -> Result<Draining, B> {
        let _ = sender;
        Err(body)
    }
}

/// Whether a scheme wants to see a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BodyInterest {
    /// It holds nothing for this scheme.
    None,
    /// It could, but its content type is another. If nothing else wants it, and there is no other scheme, that is
    /// a 415.
    OtherType,
    /// Read it.
    Wanted,
}

/// What each part of a (joined) scheme says of itself.
pub trait Describe: Send + Sync + 'static {
    /// Calls `each` for every part, in the order in which they were joined.
    fn describe_each<'a>(&'a self, each: &mut dyn FnMut(&'a SchemeInfo));
}

impl<S: HeaderScheme> Describe for S {
    fn describe_each<'a>(&'a self, each: &mut dyn FnMut(&'a SchemeInfo)) {
        each(self.describe());
    }
}

#[diagnostic::do_not_recommend]
impl<S: HeaderScheme, B: Send> Scheme<B> for S {
    fn read_head<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, AuthError> {
        match self.read(head) {
            Ok(None) => Ok(None),
            Ok(Some(credentials)) => Ok(Some(credentials.through(self.describe()))),
            Err(unusable) => Err(AuthError::new(unusable.kind(), Some(self.describe()))),
        }
    }

    async fn read_body(
        &self,
        _head: Head<'_>,
        _sender: &Sender,
        body: B,
    ) -> Result<(Option<Credentials<'static>>, B), AuthError> {
        Ok((None, body))
    }
}

/// The one line of a header that must not be repeated.
fn single<'r>(
    headers: &'r HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'r HeaderValue>, MalformedCredential> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    if first.is_some() && lines.next().is_some() { Err(MalformedCredential::Repeated) } else { Ok(first) }
}

/// The text of a value of visible ASCII, not empty and not trimmed.
fn visible(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    // Without stopping at the first that is not, so that many are compared at a time.
    let visible = !bytes.is_empty() && bytes.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    visible.then(|| str::from_utf8(bytes).ok()).flatten()
}

/// What a header says about the project. A value that is no text is no id either: it is refused where ids are judged.
fn project<'r>(head: Head<'r>, name: &HeaderName) -> Result<Option<&'r str>, MalformedCredential> {
    Ok(single(head.headers, name)?.map(|value| visible(value).unwrap_or_default()))
}

/// A header that may be given this role: nobody else's, and one that HTTP itself does not use.
fn header_name(name: &str) -> Result<HeaderName, crate::config_error::ConfigError> {
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
        .ok_or_else(|| crate::config_error::ConfigError::HeaderName(name.to_owned()))
}
