//! `/v1/api-keys/self-revoke`: anybody who holds a key can revoke it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroUsize;
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
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::render::Refusals;
use tower_api_key::scheme::{Bearer, BodyInterest, JsonBody, Or, Scheme};
use tower_api_key::{AuthError, AuthErrorKind, Credentials, Head, Keyring, Verifier, unread_body};

use super::refusal::{self, RouteError};

/// Larger than any key with its surrounding members.
const MAX_BODY_LEN: NonZeroUsize = NonZeroUsize::new(16 * 1024).unwrap();
/// The budget for the bodies of all clients together.
const CAP: NonZeroUsize = NonZeroUsize::new(256 * MAX_BODY_LEN.get()).unwrap();
/// How many candidate keys in one text are looked up, since each needs a query.
const MAX_KEYS: usize = 16;

/// Revokes the key that is sent, whether by its owner in an emergency or by somebody who found it (R42).
///
/// ```text
/// POST /v1/api-keys/self-revoke          POST /v1/api-keys/self-revoke
/// Authorization: Bearer sk_live_...      {"apiKey": "sk_live_..."}
/// ```
///
/// The answer is always the same 200, whether the key was active, revoked, expired or unknown, and repeating the
/// request changes nothing. A request without a key, or with more than one `Authorization`, is refused as by the
/// layer. If the store fails, the answer is 503, and the key may not be revoked.
///
/// Pasted text often contains more than a key: white space, quotes, a comma, a second `Bearer`, or several keys.
/// Every key in the header and in the body is revoked. A text without anything that could be a key, or with more
/// than sixteen candidates, is a 400 `not_a_key`: a 200 means that nothing in the text works as a key any more.
///
/// An active key is revoked before the answer, and its owner is notified by the keyring's [delivery](Keyring::deliver).
///
/// Pass the verifier of your layer ([`ApiKeyAuth::with_verifier`](tower_api_key::ApiKeyAuth::with_verifier)) and
/// its [`ClientAddr`]. If that verifier has a [throttle](Verifier::throttle), this route has a [budget of its
/// own](tower_api_key::limit::KeyThrottle::self_revokes), in which every attempt counts; but a key that the
/// verifier has accepted recently can always be revoked. Declare the route public, since it also accepts keys that
/// have ended:
///
/// ```
/// use axum::Router;
/// use http::Method;
/// use tower_api_key::client_addr::ClientAddr;
/// use tower_api_key::limit::KeyThrottle;
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{ApiKeyAuth, Endpoints, Keyring, Verifier};
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
    let body = JsonBody::default().limit(MAX_BODY_LEN).buffer_cap(CAP);
    let budget = body.budget().clone();
    // Accepts keys of every shape: the 200 promises that the key is revoked, so none may be overlooked.
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
            Err(RouteError::Auth(error)) => return self.refusals.response(error),
            Err(refusal) => return refusal.into_response(),
        }
        let message = "If this was a valid API key, it is revoked now";
        let mut response = Json(json!({"success": true, "message": message})).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn revoke(&self, request: Request) -> Result<(), RouteError> {
        let (parts, body) = request.into_parts();
        let head = Head::from(&parts);
        let client = self.client.of(&head);
        let in_head = match Scheme::<Body>::read_head(&self.scheme, head) {
            Ok(None) => None,
            Ok(Some(credentials)) => Some(self.end_all_in(credentials.expose_secret(), client).await?),
            Err(error) if error.kind() == AuthErrorKind::MalformedKey => {
                Some(self.end_all_in(&line(&parts.headers), client).await?)
            }
            Err(error) => return Err(RouteError::Auth(error)),
        };
        let in_body = match self.read_body(head, body).await {
            Ok(None) => None,
            Ok(Some(credentials)) => Some(self.end_all_in(credentials.expose_secret(), client).await?),
            // The head contains a key, so the body need not.
            Err(_) if in_head.is_some() => None,
            Err(error) => return Err(RouteError::Auth(error)),
        };
        let missing = || RouteError::Auth(AuthError::new(AuthErrorKind::MissingCredentials, None));
        match in_head.into_iter().chain(in_body).reduce(SearchResult::and).ok_or_else(missing)? {
            SearchResult::All => Ok(()),
            SearchResult::None | SearchResult::TooMany => Err((&refusal::NOT_A_KEY).into()),
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

    /// Revokes every key in the text.
    async fn end_all_in(&self, text: &str, client: Option<IpAddr>) -> Result<SearchResult, RouteError> {
        let mut found = SearchResult::None;
        for (count, key) in pieces(text).filter(|piece| self.verifier.may_be_key(piece)).enumerate() {
            if count == MAX_KEYS {
                return Ok(SearchResult::TooMany);
            }
            let revoked = self.keyring.revoke_by_secret(&self.verifier, key, client).await;
            revoked.map_err(RouteError::Auth)?;
            found = SearchResult::All;
        }
        Ok(found)
    }
}

/// The result of searching a text for keys.
enum SearchResult {
    /// It contains nothing that could be a key.
    None,
    /// Every candidate was looked up.
    All,
    /// It contains too many candidates.
    TooMany,
}

impl SearchResult {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::TooMany, _) | (_, Self::TooMany) => Self::TooMany,
            (Self::None, Self::None) => Self::None,
            _ => Self::All,
        }
    }
}

/// The header's value, if it occurs exactly once.
fn line(headers: &HeaderMap) -> Cow<'_, str> {
    String::from_utf8_lossy(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default())
}

/// The candidates in a text: the whole text; its parts between white space, quotes, commas, brackets and characters
/// that no header carries; and their parts between other punctuation. Equal neighbours are merged.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    /// No key is shorter, so ordinary words beside a key are skipped.
    const MIN_LEN: usize = 8;
    let between = |c: char| !c.is_ascii_graphic() || "\"'`\\,;<>()[]{}".contains(c);
    let letters = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let parts = text.split(between).flat_map(move |part| {
        let smaller = part.split(letters).filter(move |smaller| smaller.len() < part.len());
        std::iter::once(part).filter(move |part| part.len() < text.len()).chain(smaller)
    });
    std::iter::once(text).chain(parts.filter(|part| part.len() >= MIN_LEN))
}
