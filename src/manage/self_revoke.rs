//! `/v1/api-keys/self-revoke`: whoever finds a key can end it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde_json::json;

use super::caller;
use crate::authority::Authority;
use crate::body_budget::Room;
use crate::client_addr::ClientAddr;
use crate::credentials::Head;
use crate::delivery::Occasion;
use crate::error::{AuthError, AuthErrorKind};
use crate::keyring::Keyring;
use crate::render::{Problem, RenderError as _};
use crate::scheme::{Bearer, BodyInterest, JsonBody, Or, Scheme};
use crate::stamps::Stamps;
use crate::unread_body;
use crate::verify::Verifier;

/// Longer than any key, and the members beside it.
const MAX_BODY_LEN: usize = 16 * 1024;
/// For the bodies of all clients together.
const CAP: usize = 256 * MAX_BODY_LEN;

/// Revokes the key that is sent: by whoever holds it, be it its owner in an emergency or somebody who found it (R42).
///
/// ```text
/// POST /v1/api-keys/self-revoke          POST /v1/api-keys/self-revoke
/// Authorization: Bearer sk_live_...      {"apiKey": "sk_live_..."}
/// ```
///
/// The answer is 200 and always the same, whether the key was known, revoked, expired or never there, and repeating it
/// changes nothing. Only who sends no key at all, or more than one, is refused like by the layer; a store that cannot tell
/// is a 503, and nothing is certain then.
///
/// A key that was active is revoked before the answer, and its owner is told by the keyring's
/// [delivery](Keyring::deliver).
///
/// Pass the verifier of your layer ([`ApiKeyAuth::with_verifier`](crate::ApiKeyAuth::with_verifier)), so that attempts
/// count for one [throttle](Verifier::throttle), and its [`ClientAddr`]. Here each attempt counts. Declare the
/// route public, since keys that have ended are welcome:
///
/// ```
/// use axum::Router;
/// use http::Method;
/// use tower_api_key::client_addr::ClientAddr;
/// use tower_api_key::limit::Limit;
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::{ApiKeyAuth, Endpoints, Keyring, MemoryStore, Verifier, manage};
///
/// let store = MemoryStore::new();
/// let verifier = Verifier::new(store.clone()).throttle("10/min".parse::<Limit>()?);
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
    let budget = Arc::clone(body.budget());
    // Of whatever shape the keys are: a key that is not read is not revoked, and the answer says that it is.
    let scheme = Or::new(Bearer::default().accept_pipes(), body);
    let addresses = client.clone();
    let route = SelfRevoke { keyring, verifier, client, stamps: Stamps::of(&scheme), scheme };
    let route = Arc::new(route);
    let settle = from_fn(move |request: Request, next: Next| {
        let room = Room { budget: Arc::clone(&budget), sender: addresses.sender(&Head::of(&request)) };
        unread_body::settle(request, next, room)
    });
    post(async move |request: Request| route.answer(request).await).layer(settle)
}

struct SelfRevoke {
    keyring: Keyring,
    verifier: Verifier,
    client: ClientAddr,
    scheme: Or<Bearer, JsonBody>,
    stamps: Stamps,
}

impl SelfRevoke {
    async fn answer(&self, mut request: Request) -> Response {
        self.stamps.mark_secrets(request.headers_mut());
        if let Err(error) = self.revoke(request).await {
            let error = error.answering(self.stamps.first(), false);
            let mut response: Response = Problem::default().render(&error);
            self.stamps.refused(&mut response, error, None, |_| false);
            return response;
        }
        let message = "If this was a valid API key, it is revoked now";
        let mut response = Json(json!({"success": true, "message": message})).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn revoke(&self, request: Request) -> Result<(), AuthError> {
        let (parts, body) = request.into_parts();
        let head = Head::from(&parts);
        let client = self.client.of(&head);
        let sender = self.client.sender(&head);
        let missing = || AuthError::new(AuthErrorKind::MissingCredentials, None);
        let found = match Scheme::<Body>::read_head(&self.scheme, head) {
            Ok(Some(credentials)) => Some(credentials),
            // What is broken cannot be a key; two of them are not told apart.
            Err(error) if error.kind() == AuthErrorKind::MalformedKey => return Ok(()),
            Err(error) => return Err(error),
            Ok(None) => match Scheme::<Body>::body_interest(&self.scheme, head)? {
                BodyInterest::Wanted => {
                    if !sender.is_known() {
                        self.verifier.sender_is_unknown();
                    }
                    self.scheme.read_body(head, &sender, body).await?.0
                }
                _ => None,
            },
        };
        let credentials = found.ok_or_else(missing)?;
        let Some(key) = self.verifier.find_exposed(&credentials, client).await? else { return Ok(()) };
        let keyring = self.keyring.acting_as(Authority::Key(key.id.clone()));
        let revoked = keyring.revoke_exposed(&key, Occasion::SelfRevoked).await;
        revoked.map(drop).map_err(caller::could_not_tell)
    }
}
