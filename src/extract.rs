//! axum's extractors: [`Principal`], and `Option<Principal>` for endpoints that are declared public.
//!
//! ```
//! use tower_api_key::Principal;
//!
//! async fn mine(who: Principal) -> String {
//!     format!("{} came with {}", who.user_id(), who.key_id())
//! }
//!
//! async fn anybody(who: Option<Principal>) -> &'static str {
//!     if who.is_some() { "you are known here" } else { "you are welcome all the same" }
//! }
//! # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(mine).post(anybody));
//! ```
//!
//! A handler that refuses by itself returns an [`AuthError`], which [`Principal::forbidden`] makes.
//!
//! # Deployment caveat
//!
//! Both need [`ApiKeyAuth`](crate::ApiKeyAuth) outside of the handler. Without it they answer 500 and say so:
//! `Option<Principal>` is `None` only where the layer itself let somebody in without a key.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use crate::credentials::Head;
use crate::error::AuthError;
use crate::key::Environment;
use crate::principal::{Nobody, Principal};
use crate::render::{self, Unrendered};
use crate::unread_body;

/// The handler needs a principal and there is none: the layer is missing, or the endpoint is public. A 500 that names
/// the fix.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{}", render::MISSING_PRINCIPAL)]
pub struct MissingPrincipal {
    /// Whether the connection ends with the answer, since the request's body is still ahead.
    closes: bool,
}

impl MissingPrincipal {
    fn of(parts: &Parts) -> Self {
        Self { closes: unread_body::is_ahead(Head::from(parts)) }
    }
}

impl IntoResponse for MissingPrincipal {
    fn into_response(self) -> Response {
        let mut response = render::missing_principal();
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

/// A principal of the live environment: what code asks for that moves real money (R53 to R55).
///
/// A test key gets 403, in the words of its scheme, and the handler never sees it.
///
/// ```
/// use tower_api_key::extract::Live;
///
/// async fn charge(Live(who): Live) -> String {
///     format!("{} pays", who.user_id())
/// }
/// # let _: axum::routing::MethodRouter = axum::routing::post(charge);
/// ```
#[derive(Clone, Debug)]
pub struct Live(pub Principal);

/// A principal of the test environment; a live key gets 403.
#[derive(Clone, Debug)]
pub struct Test(pub Principal);

/// Why an environment was not handed to a handler: its answer is the layer's.
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

impl<S: Send + Sync> FromRequestParts<S> for Live {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        of_environment(parts, Environment::Live).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Test {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        of_environment(parts, Environment::Test).await.map(Self)
    }
}

/// Rendered by the layer outside, like its own refusals; without one it is the bare status.
impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        Unrendered::response(self)
    }
}
