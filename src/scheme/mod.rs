//! Schemes: where a request carries its credentials, and how they are read. Each scheme is one file.
//!
//! | scheme | where the key is |
//! |---|---|
//! | [`Bearer`] | `Authorization: Bearer sk_live_...` |
//! | [`ApiKeyHeader`] | `X-API-Key`, with `X-Project-ID` |
//! | [`JsonBody`] | `{"apiKey", "userId", "projectId"}` in a JSON body |
//! | [`Or`] | two of them, joined by [`ApiKeyAuth::or`](crate::ApiKeyAuth::or) |
//!
//! A scheme of your own implements [`HeaderScheme`]: two small methods. `Box<dyn HeaderScheme>` is a scheme, for
//! schemes that are chosen at start; so is `Option` of any scheme, for one that can be switched off: `None` finds
//! nothing and offers nothing.
//!
//! A scheme answers: no credential, a broken credential, or a credential. A broken credential is refused and never
//! passed on to the next scheme. Two credentials in one head are refused, even if they are equal (R62). Every
//! scheme reads the head; a body is read only if the head contains no credential.
//!
//! # Caveat
//!
//! On HTTP/1.x a refusal before the body was read closes the connection, and the response says so. With header
//! schemes, a refused `POST` therefore costs a connection. If [`JsonBody`] is among the schemes, up to 64 KiB are
//! read first, for up to a second, and the connection stays open. A client that uploads more may see a reset
//! instead of the refusal ([`problems`](crate::problems#the-connection-after-a-refusal)).

mod api_key_header;
mod bearer;
mod header_value;
mod json_body;
mod json_scan;
mod json_strict;
mod or;
mod replay;

use std::future::Future;

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::body_budget::Sender;
use crate::credentials::{Credentials, Head};
use crate::scheme_info::SchemeInfo;
use crate::unread_body::Draining;

pub use self::api_key_header::ApiKeyHeader;
pub use self::bearer::Bearer;
pub use self::json_body::{JsonBody, is_plain_json};
pub use self::or::Or;
pub use self::replay::{Rebuild, Replay};

/// A scheme that reads its credentials from the head of a request.
///
/// ```
/// use http::HeaderName;
/// use tower_api_key::scheme::{HeaderScheme, MalformedCredential};
/// use tower_api_key::scheme_info::{Challenge, SchemeInfo};
/// use tower_api_key::{ConfigError, Credentials, Head};
///
/// /// `X-Device-Token: ...`
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
    /// Reads this scheme's credentials; `Ok(None)` if the head contains nothing of this scheme.
    ///
    /// # Errors
    ///
    /// [`MalformedCredential`] if the head contains something of this scheme that is broken. The request is then
    /// refused, whatever other schemes read.
    fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential>;

    /// The scheme's name, challenge, headers and messages. It must be the same at every call.
    fn describe(&self) -> &SchemeInfo;
}

/// A scheme that is chosen at start, such as by the configuration.
///
/// ```
/// use tower_api_key::scheme::{ApiKeyHeader, Bearer, HeaderScheme, JsonBody};
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::ApiKeyAuth;
///
/// # let (in_a_header, in_a_body) = (true, false);
/// let first: Box<dyn HeaderScheme> =
///     if in_a_header { Box::new(ApiKeyHeader::default()) } else { Box::new(Bearer::default()) };
/// let second = in_a_body.then(JsonBody::default);
/// let auth = ApiKeyAuth::new(MemoryStore::new(), first).or(second);
/// assert_eq!(auth.description().schemes().len(), 1);
/// ```
impl<S: HeaderScheme + ?Sized> HeaderScheme for Box<S> {
    fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential> {
        (**self).read(head)
    }

    fn describe(&self) -> &SchemeInfo {
        (**self).describe()
    }
}

/// The error for a credential that is present but broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedCredential {
    /// It cannot be a key: 401, with the scheme's ordinary message.
    Malformed,
    /// It occurs more than once: 400.
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

/// A scheme, or several joined schemes, for requests with a body of type `B`.
///
/// Every [`HeaderScheme`] implements it for every body. Implement it yourself only to read credentials from a body.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot read requests with a body of type `{B}`",
    note = "`JsonBody` hands a body on under the type it came with, and so needs one that can be made anew: \
            axum's `Body`, or http_body_util's `BoxBody`, `UnsyncBoxBody` and `Full`",
    note = "map the body before the layer: `ServiceBuilder::new().map_request(|r: Request<_>| r.map(UnsyncBoxBody::new))`",
    note = "a scheme of your own implements `HeaderScheme`"
)]
pub trait Scheme<B>: Describe {
    /// Reads credentials from the head.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the head contains something of this scheme that is broken.
    fn read_head<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, AuthError>;

    /// Whether the body may contain credentials. It is called if the head contains none.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the body is for this scheme but cannot be read.
    fn body_interest(&self, head: Head<'_>) -> Result<BodyInterest, AuthError> {
        let _ = head;
        Ok(BodyInterest::None)
    }

    /// Reads the body to its end, and returns the credentials and the unchanged body. The bytes held at once for
    /// `sender` stay within its share of the buffer for bodies.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the body cannot be read, or what it contains is broken. On HTTP/1.x the response closes the
    /// connection, unless the error says that the body [was read](AuthError::after_body).
    fn read_body(
        &self,
        head: Head<'_>,
        sender: &Sender,
        body: B,
    ) -> impl Future<Output = Result<(Option<Credentials<'static>>, B), AuthError>> + Send;

    /// Reads and discards the body of a refused request, so that the connection can stay open. It is called for
    /// short bodies on HTTP/1.x that have not been read.
    ///
    /// # Errors
    ///
    /// Returns the body if this scheme cannot read bodies of its type, as this default and every [`HeaderScheme`]
    /// do. The response then closes the connection.
    fn drain(&self, sender: &Sender, body: B) -> Result<Draining, B> {
        let _ = sender;
        Err(body)
    }
}

/// Whether a scheme wants to read a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BodyInterest {
    /// The body contains nothing for this scheme.
    None,
    /// It might, but it has another content type. If there is no other scheme and none is interested, the answer is
    /// 415.
    OtherType,
    /// The scheme wants to read it.
    Wanted,
}

/// Describes each part of a (joined) scheme.
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

impl<S: Describe> Describe for Option<S> {
    fn describe_each<'a>(&'a self, each: &mut dyn FnMut(&'a SchemeInfo)) {
        if let Some(scheme) = self {
            scheme.describe_each(each);
        }
    }
}

/// `None` finds no credential, and asks for no body. A layer without any other scheme then refuses each request
/// that needs a key, with a 401 that has no challenge.
#[diagnostic::do_not_recommend]
impl<S: Scheme<B>, B: Send> Scheme<B> for Option<S> {
    fn read_head<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, AuthError> {
        self.as_ref().map_or(Ok(None), |scheme| scheme.read_head(head))
    }

    fn body_interest(&self, head: Head<'_>) -> Result<BodyInterest, AuthError> {
        self.as_ref().map_or(Ok(BodyInterest::None), |scheme| scheme.body_interest(head))
    }

    async fn read_body(
        &self,
        head: Head<'_>,
        sender: &Sender,
        body: B,
    ) -> Result<(Option<Credentials<'static>>, B), AuthError> {
        match self {
            Some(scheme) => scheme.read_body(head, sender, body).await,
            None => Ok((None, body)),
        }
    }

    fn drain(&self, sender: &Sender, body: B) -> Result<Draining, B> {
        match self {
            Some(scheme) => scheme.drain(sender, body),
            None => Err(body),
        }
    }
}
