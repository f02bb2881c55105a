//! Guards: layers for single routes. They restrict what [`Endpoints`](crate::Endpoints) allows, and never
//! extend it.
//!
//! They check the [`Principal`] that [`ApiKeyAuth`](crate::ApiKeyAuth) has put into the request. Their refusals
//! look exactly like the layer's, because the layer renders them.
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::post};
//! use tower_api_key::guard::{RequireEnvironment, RequireScope};
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKeyAuth, Environment};
//!
//! let app: Router = Router::new()
//!     .route("/v1/payouts", post(async || "paid"))
//!     .route_layer(RequireScope::new("payouts:write")) // 403 for keys without it
//!     .route_layer(RequireEnvironment(Environment::Live)) // 403 for test keys (R55)
//!     .layer(ApiKeyAuth::new(MemoryStore::new(), Bearer::default()));
//! ```
//!
//! # Deployment caveat
//!
//! A guard needs the layer outside of it. Where there is no principal, because there is no layer or because the endpoint
//! is declared public, every request gets a 500 that says so. Where a key is [optional](crate::Endpoints::optional), who
//! sends none gets 401 `missing_api_key`.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::auth_error::AuthErrorKind;
use crate::credentials::Head;
use crate::gate::Principal;
use crate::key::Environment;
use crate::record::KeyLevel;
use crate::render::{self, Unrendered};
use crate::role::AccessClass;
use crate::unread_body;

/// Accepts principals who may use an endpoint of this class (R20, R40). Others get 403.
///
/// ```
/// use tower_api_key::guard::RequireClass;
/// use tower_api_key::AccessClass;
///
/// let guard = RequireClass(AccessClass::Write); // not for READONLY members, even if the method is GET
/// # let _ = guard;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a guard does nothing until it is added to a route"]
pub struct RequireClass(pub AccessClass);

/// Accepts keys with exactly this scope. Others get 403.
#[derive(Clone, Debug)]
#[must_use = "a guard does nothing until it is added to a route"]
pub struct RequireScope(Arc<str>);

impl RequireScope {
    /// Requires this scope. It can be computed at start, for example from the configuration:
    ///
    /// ```
    /// use tower_api_key::guard::RequireScope;
    ///
    /// # let area = "payouts";
    /// let guard = RequireScope::new(format!("{area}:write"));
    /// # let _ = guard;
    /// ```
    pub fn new(scope: impl Into<Arc<str>>) -> Self {
        Self(scope.into())
    }
}

/// Accepts keys of this environment (R55). Others get 403.
#[derive(Clone, Copy, Debug)]
#[must_use = "a guard does nothing until it is added to a route"]
pub struct RequireEnvironment(pub Environment);

/// What a guard requires of a principal. You cannot implement this trait. A guard of your own is a layer that reads
/// the [`Principal`] from the request's extensions.
pub trait Guard: sealed::Demand {}

mod sealed {
    use crate::auth_error::AuthErrorKind;
    use crate::gate::Principal;

    pub trait Demand {
        /// Why this principal is refused; `None` accepts it.
        fn refuses(&self, who: &Principal) -> Option<AuthErrorKind>;
    }
}

impl sealed::Demand for RequireClass {
    fn refuses(&self, who: &Principal) -> Option<AuthErrorKind> {
        if !who.role().allows(self.0) {
            Some(AuthErrorKind::ReadOnly)
        } else if self.0 == AccessClass::Manage && *who.level() != KeyLevel::User {
            Some(AuthErrorKind::Forbidden)
        } else {
            None
        }
    }
}

impl sealed::Demand for RequireScope {
    fn refuses(&self, who: &Principal) -> Option<AuthErrorKind> {
        (!who.has_scope(&self.0)).then_some(AuthErrorKind::MissingScope)
    }
}

impl sealed::Demand for RequireEnvironment {
    fn refuses(&self, who: &Principal) -> Option<AuthErrorKind> {
        (who.environment() != self.0).then_some(AuthErrorKind::Forbidden)
    }
}

macro_rules! guard {
    ($($guard:ty),*) => {$(
        impl Guard for $guard {}

        impl<S> Layer<S> for $guard {
            type Service = Guarded<S, Self>;

            fn layer(&self, inner: S) -> Self::Service {
                Guarded { inner, guard: self.clone() }
            }
        }
    )*};
}

guard!(RequireClass, RequireScope, RequireEnvironment);

/// A service behind a guard.
#[derive(Clone, Copy, Debug)]
pub struct Guarded<S, G> {
    inner: S,
    guard: G,
}

impl<S, G, B, ResB> Service<Request<B>> for Guarded<S, G>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    G: Guard,
    ResB: From<Bytes>,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = GuardedFuture<S::Future, ResB, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let head = Head::of(&request);
        let mut refusal = match request.extensions().get::<Principal>() {
            None => {
                let nobody = request.extensions().get().copied();
                render::missing_principal(nobody, head.is_grpc())
            }
            Some(who) => match self.guard.refuses(who) {
                None => {
                    return GuardedFuture { state: GuardState::Passed { answer: self.inner.call(request) } };
                }
                Some(kind) => Unrendered::response(who.refuse(kind).answering(None, head.is_grpc())),
            },
        };
        unread_body::close_after(head, refusal.headers_mut());
        GuardedFuture::stopped(refusal)
    }
}

pin_project! {
    /// The future of a [`Guarded`] service.
    pub struct GuardedFuture<F, ResB, E> {
        #[pin]
        state: GuardState<F, ResB, E>,
    }
}

pin_project! {
    #[project = Now]
    enum GuardState<F, ResB, E> {
        Passed { #[pin] answer: F },
        Stopped { #[pin] answer: Ready<Result<Response<ResB>, E>> },
    }
}

impl<F, ResB, E> GuardedFuture<F, ResB, E> {
    fn stopped(response: Response<ResB>) -> Self {
        Self { state: GuardState::Stopped { answer: ready(Ok(response)) } }
    }
}

impl<F, ResB, E> Future for GuardedFuture<F, ResB, E>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().state.project() {
            Now::Passed { answer } => answer.poll(cx),
            Now::Stopped { answer } => answer.poll(cx),
        }
    }
}

impl<F, ResB, E> fmt::Debug for GuardedFuture<F, ResB, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedFuture").finish_non_exhaustive()
    }
}
