//! `/v1/api-keys/self-revoke`: whoever finds a key can end it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use tower_api_key::Verifier;
use tower_api_key::auth_error::{AuthError, AuthErrorKind};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::credentials::{Credentials, Head};
use tower_api_key::keyring::Keyring;
use tower_api_key::render::Refusals;
use tower_api_key::scheme::{Bearer, BodyInterest, JsonBody, Or, Scheme};
use tower_api_key::unread_body;

use super::refusal::{self, Refusal};

/// Longer than any key, and the members beside it.
const MAX_BODY_LEN: usize = 16 * 1024;
/// For the bodies of all clients together.
const CAP: usize = 256 * MAX_BODY_LEN;
/// How many keys one text is searched for: each is a question to the store.
const MAX_KEYS: usize = 16;

/// Revokes the key that is sent: by whoever holds it, be it its owner in an emergency or somebody who found it (R42).
///
/// ```text
/// POST /v1/api-keys/self-revoke          POST /v1/api-keys/self-revoke
/// Authorization: Bearer sk_live_...      {"apiKey": "sk_live_..."}
/// ```
///
/// The answer is 200 and always the same, whether the key was known, revoked, expired or never there, and repeating it
/// changes nothing. Who sends no key at all, or `Authorization` more than once, is refused like by the layer; a store that
/// cannot tell is a 503, and nothing is certain then.
///
/// What people paste holds more than a key: white space, quotes, a comma, `Bearer` once more, or several keys. Every key
/// that is found in the text is revoked, in the header and in the body. A text that holds nothing which could be a key, or
/// more than sixteen such pieces, is a 400 `not_a_key`: a 200 says that what was sent is of no use to anybody.
///
/// A key that was active is revoked before the answer, and its owner is told by the keyring's
/// [delivery](Keyring::deliver).
///
/// Pass the verifier of your layer ([`ApiKeyAuth::with_verifier`](tower_api_key::ApiKeyAuth::with_verifier)) and its [`ClientAddr`].
/// Where that verifier has a [throttle](Verifier::throttle), attempts at this route have a
/// [budget of their own](tower_api_key::limit::KeyThrottle::self_revokes), in which each counts, whatever it finds; a key that the
/// verifier has accepted lately can always be ended. Declare the route public, since keys that have ended are welcome:
///
/// ```
/// use axum::Router;
/// use http::Method;
/// use tower_api_key::client_addr::ClientAddr;
/// use tower_api_key::limit::KeyThrottle;
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::{ApiKeyAuth, Endpoints, Keyring, MemoryStore, Verifier};
/// use tower_api_key_manage as manage;
///
/// let store = MemoryStore::new();
/// let verifier = Verifier::new(store.clone()).throttle(KeyThrottle::default());
/// let keyring = Keyring::new(store);
/// let self_revoke = manage::self_revoke(keyring.clone(), verifier.clone(), ClientAddr::peer());
/// let endpoints = Endpoints::new().public(Method::POST, "/v1/api-keys/self-revoke");
/// let app: Router = Router::new()
///     .route("/v1/api-keys/self-revoke", self_revoke)
///     .nest("/v1/api-keys", manage::api_keys(keyring))
///     .layer(ApiKeyAuth::with_verifier(verifier, Bearer::default()).endpoints(endpoints)?);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
pub fn self_revoke<S: Clone + Send + Sync + 'static>(
    keyring: Keyring,
    verifier: Verifier,
    client: ClientAddr,
) -> MethodRouter<S> {
    // Only a limit of zero would be refused.
    let body =
        JsonBody::default().limit(MAX_BODY_LEN).and_then(|body| body.buffer_cap(CAP)).unwrap_or_default();
    let budget = body.budget().clone();
    // Of whatever shape the keys are: a key that is not read is not revoked, and the answer says that it is.
    let scheme = Or::new(Bearer::default().accept_pipes(), body);
    let addresses = client.clone();
    let route = SelfRevoke { keyring, verifier, client, refusals: Refusals::of(&scheme), scheme };
    let route = Arc::new(route);
    let settle = from_fn(move |request: Request, next: Next| {
        let room = budget.room(addresses.sender(&Head::of(&request)));
        unread_body::settle(request, next, room)
    });
    let route = post(async move |request: Request| route.answer(request).await);
    route.fallback(refusal::method_not_allowed).layer(settle)
}

struct SelfRevoke {
    keyring: Keyring,
    verifier: Verifier,
    client: ClientAddr,
    scheme: Or<Bearer, JsonBody>,
    refusals: Refusals,
}

impl SelfRevoke {
    async fn answer(&self, mut request: Request) -> Response {
        self.refusals.mark_secrets(request.headers_mut());
        match self.revoke(request).await {
            Ok(()) => {}
            Err(Refusal::Auth(error)) => return self.refusals.response(error),
            Err(refusal) => return refusal.into_response(),
        }
        let message = "If this was a valid API key, it is revoked now";
        let mut response = Json(json!({"success": true, "message": message})).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn revoke(&self, request: Request) -> Result<(), Refusal> {
        let (parts, body) = request.into_parts();
        let head = Head::from(&parts);
        let client = self.client.of(&head);
        let in_head = match Scheme::<Body>::read_head(&self.scheme, head) {
            Ok(None) => None,
            Ok(Some(credentials)) => Some(self.end_all_in(credentials.expose_secret(), client).await?),
            Err(error) if error.kind() == AuthErrorKind::MalformedKey => {
                Some(self.end_all_in(&line(&parts.headers), client).await?)
            }
            Err(error) => return Err(Refusal::Auth(error)),
        };
        let in_body = match self.read_body(head, body).await {
            Ok(None) => None,
            Ok(Some(credentials)) => Some(self.end_all_in(credentials.expose_secret(), client).await?),
            // As the head holds a key, a body need hold none.
            Err(_) if in_head.is_some() => None,
            Err(error) => return Err(Refusal::Auth(error)),
        };
        let missing = || Refusal::Auth(AuthError::new(AuthErrorKind::MissingCredentials, None));
        match in_head.into_iter().chain(in_body).reduce(Found::and).ok_or_else(missing)? {
            Found::All => Ok(()),
            Found::None | Found::TooMany => Err((&refusal::NOT_A_KEY).into()),
        }
    }

    async fn read_body(&self, head: Head<'_>, body: Body) -> Result<Option<Credentials<'static>>, AuthError> {
        if Scheme::<Body>::body_interest(&self.scheme, head)? != BodyInterest::Wanted {
            return Ok(None);
        }
        let sender = self.client.sender(&head);
        self.verifier.observe_sender(&sender);
        Ok(self.scheme.read_body(head, &sender, body).await?.0)
    }

    /// Ends every key that stands in the text.
    async fn end_all_in(&self, text: &str, client: Option<IpAddr>) -> Result<Found, Refusal> {
        let mut found = Found::None;
        for (count, key) in pieces(text).filter(|piece| self.verifier.may_be_key(piece)).enumerate() {
            if count == MAX_KEYS {
                return Ok(Found::TooMany);
            }
            let revoked = self.keyring.revoke_by_secret(&self.verifier, key, client).await;
            revoked.map_err(Refusal::Auth)?;
            found = Found::All;
        }
        Ok(found)
    }
}

/// What a text was found to hold.
enum Found {
    /// Nothing that could be a key.
    None,
    /// What could be a key was looked for, all of it.
    All,
    /// More than was looked for.
    TooMany,
}

impl Found {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::TooMany, _) | (_, Self::TooMany) => Self::TooMany,
            (Self::None, Self::None) => Self::None,
            _ => Self::All,
        }
    }
}

/// The one line of the header.
fn line(headers: &HeaderMap) -> Cow<'_, str> {
    String::from_utf8_lossy(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default())
}

/// What in a text could be a key: the whole of it, what stands between white space, quotes, commas, brackets and signs
/// that no header carries, and of that what stands between other signs. Each is said once, one after the other.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    /// Of what no key is shorter than, so that words beside a key are not looked for.
    const MIN_LEN: usize = 8;
    let between = |c: char| !c.is_ascii_graphic() || "\"'`\\,;<>()[]{}".contains(c);
    let letters = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let parts = text.split(between).flat_map(move |part| {
        let smaller = part.split(letters).filter(move |smaller| smaller.len() < part.len());
        std::iter::once(part).filter(move |part| part.len() < text.len()).chain(smaller)
    });
    std::iter::once(text).chain(parts.filter(|part| part.len() >= MIN_LEN))
}
