//! axum's extractors: [`Principal`], and `Option<Principal>` for endpoints where a key is
//! [optional](crate::Endpoints::optional).
//!
//! ```
//! use axum::{Router, routing::get};
//! use http::Method;
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKeyAuth, Endpoints, Principal};
//!
//! async fn mine(who: Principal) -> String {
//!     format!("{} came with {}", who.user_id(), who.key_id())
//! }
//!
//! async fn prices(who: Option<Principal>) -> &'static str {
//!     if who.is_some() { "your prices" } else { "everybody's prices" }
//! }
//!
//! let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default())
//!     .endpoints(Endpoints::new().optional(Method::GET, "/prices"))?;
//! let app: Router = Router::new().route("/mine", get(mine)).route("/prices", get(prices)).layer(auth);
//! # Ok::<(), tower_api_key::ConfigError>(())
//! ```
//!
//! A handler that refuses a request returns an [`AuthError`], which [`Principal::forbidden`] creates.
//!
//! | the endpoint is | no key | a good key | a bad key |
//! |---|---|---|---|
//! | not declared otherwise | 401 | `Some` | 401 |
//! | [optional](crate::Endpoints::optional) | `None` | `Some` | 401 |
//! | [public](crate::Endpoints::public) | `None` | `None` | `None` |
//!
//! At a public endpoint no key is looked at, so `Option<Principal>` is always `None` there. If a handler takes a
//! `Principal` and the request has none, the answer is 401 `missing_api_key` at an optional endpoint, where the client can
//! send a key, and 500 at a public one, where a key would be ignored.
//!
//! # Deployment caveat
//!
//! Both extractors need [`ApiKeyAuth`](crate::ApiKeyAuth) around the handler. Without it they answer 500 with a
//! message that says so. `Option<Principal>` is `None` only if the layer itself accepted a request without a key.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use crate::auth_error::AuthError;
use crate::credentials::Head;
use crate::gate::{Nobody, Principal};
use crate::key::Environment;
use crate::render::{self, Unrendered};
use crate::unread_body;

/// The rejection if the handler needs a principal and the request has none.
///
/// If the layer is missing, or the endpoint is public, the answer is a 500 that names the fix. If a key is optional
/// and none was sent, it is the layer's 401 `missing_api_key`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{}", match .nobody {
    Some(Nobody::Anonymous) => "this route needs a principal, and no key was sent",
    Some(Nobody::Open) | None => render::MISSING_PRINCIPAL,
})]
#[non_exhaustive]
pub struct MissingPrincipal {
    nobody: Option<Nobody>,
    grpc: bool,
    /// Whether the connection closes after the response, because the request's body has not been read.
    closes: bool,
}

impl MissingPrincipal {
    fn of(parts: &Parts) -> Self {
        let head = Head::from(parts);
        Self {
            nobody: parts.extensions.get().copied(),
            grpc: head.is_grpc(),
            closes: unread_body::is_ahead(head),
        }
    }
}

impl IntoResponse for MissingPrincipal {
    fn into_response(self) -> Response {
        let mut response = render::missing_principal(self.nobody, self.grpc);
        if self.closes {
            unread_body::say_close(response.headers_mut());
        }
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = MissingPrincipal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingPrincipal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| MissingPrincipal::of(parts))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = MissingPrincipal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, MissingPrincipal> {
        match parts.extensions.get::<Self>() {
            Some(who) => Ok(Some(who.clone())),
            None if parts.extensions.get::<Nobody>().is_some() => Ok(None),
            None => Err(MissingPrincipal::of(parts)),
        }
    }
}

/// A principal of the live environment, for handlers that, for example, move real money (R53 to R55).
///
/// A request with a test key gets 403 with the message of its scheme, and the handler is not called.
///
/// ```
/// use tower_api_key::extract::LivePrincipal;
///
/// async fn charge(LivePrincipal(who): LivePrincipal) -> String {
///     format!("{} pays", who.user_id())
/// }
/// # let _: axum::routing::MethodRouter = axum::routing::post(charge);
/// ```
#[derive(Clone, Debug)]
pub struct LivePrincipal(pub Principal);

/// A principal of the test environment; a live key gets 403.
#[derive(Clone, Debug)]
pub struct TestPrincipal(pub Principal);

/// Returns the principal if it is of this environment, and otherwise a 403, which the layer renders.
async fn of_environment(parts: &mut Parts, environment: Environment) -> Result<Principal, Response> {
    let who = <Principal as FromRequestParts<()>>::from_request_parts(parts, &())
        .await
        .map_err(IntoResponse::into_response)?;
    if who.environment() == environment {
        return Ok(who);
    }
    let mut refusal = who.forbidden().into_response();
    unread_body::close_after(Head::from(&*parts), refusal.headers_mut());
    Err(refusal)
}

impl<S: Send + Sync> FromRequestParts<S> for LivePrincipal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        of_environment(parts, Environment::Live).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TestPrincipal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        of_environment(parts, Environment::Test).await.map(Self)
    }
}

/// The outer layer renders the error like its own refusals. Without a layer, the response is only the status.
impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        Unrendered::response(self)
    }
}
