//! [`Pass`]: without one the inner service cannot be called. The call binds the principal to its request.

use std::task::{Context, Poll};

use http::Request;
use tower::Service;

use super::evidence::Principal;

/// The right to call the inner service once. Only `gate` makes one, and the call consumes it.
#[must_use = "a pass has no effect by itself"]
pub(crate) struct Pass(Holder);

enum Holder {
    Nobody(Nobody),
    Principal(Principal),
}

/// Why a request was let in without a principal. It is in the request's extensions: if neither it nor a principal
/// is there, no layer has run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nobody {
    /// The endpoint is public, and no key was looked at.
    Open,
    /// A credential is optional, and none was sent.
    Anonymous,
}

impl From<Principal> for Pass {
    fn from(principal: Principal) -> Self {
        Self(Holder::Principal(principal))
    }
}

impl Pass {
    /// Makes a pass without a principal. [`Access::enter`](super::Access::enter) decides which requests need none.
    #[inline(always)]
    pub(super) fn nobody(why: Nobody) -> Self {
        Self(Holder::Nobody(why))
    }

    /// The principal, or why there is none.
    #[inline(always)]
    pub(crate) fn holder(&self) -> Result<&Principal, Nobody> {
        match &self.0 {
            Holder::Principal(principal) => Ok(principal),
            Holder::Nobody(nobody) => Err(*nobody),
        }
    }
}

/// The inner service, which can only be called with a [`Pass`].
#[derive(Clone)]
pub(crate) struct GatedService<S>(S);

impl<S> GatedService<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self(inner)
    }

    pub(crate) fn poll_ready<B>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Request<B>>,
    {
        self.0.poll_ready(cx)
    }

    /// Calls the inner service for the holder of the pass. A principal that is already in the request's extensions
    /// is not evidence of this layer: it is replaced or removed.
    #[inline(always)]
    pub(crate) fn call<B>(&mut self, pass: Pass, mut request: Request<B>) -> S::Future
    where
        S: Service<Request<B>>,
    {
        let extensions = request.extensions_mut();
        match pass.0 {
            Holder::Principal(principal) => {
                extensions.insert(principal);
            }
            Holder::Nobody(nobody) => {
                extensions.remove::<Principal>();
                extensions.insert(nobody);
            }
        }
        self.0.call(request)
    }
}
