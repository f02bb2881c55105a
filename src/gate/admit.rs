//! [`Pass`]: what the inner service is called with, and what binds the evidence to its request.

use std::task::{Context, Poll};

use http::Request;
use tower::Service;

use super::evidence::Principal;

/// The right to call the inner service once. Only this module makes one, and the call takes it.
#[must_use = "a pass lets nobody in by itself"]
pub(crate) struct Pass(Holder);

enum Holder {
    Nobody(Nobody),
    Principal(Principal),
}

/// Why a request was let in without a principal. It stands in the request's extensions: where neither this nor a principal
/// does, no layer has run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nobody {
    /// No key was looked at: the endpoint is public.
    Open,
    /// No credential was sent, where one is optional.
    Anonymous,
}

impl From<Principal> for Pass {
    fn from(principal: Principal) -> Self {
        Self(Holder::Principal(principal))
    }
}

impl Pass {
    /// For a request that needs no credential. [`Access::enter`](super::Access::enter) says which does not.
    #[inline(always)]
    pub(super) fn nobody(why: Nobody) -> Self {
        Self(Holder::Nobody(why))
    }

    /// Who comes in, or why nobody does.
    #[inline(always)]
    pub(crate) fn holder(&self) -> Result<&Principal, Nobody> {
        match &self.0 {
            Holder::Principal(principal) => Ok(principal),
            Holder::Nobody(nobody) => Err(*nobody),
        }
    }
}

/// The inner service, which is called with a [`Pass`] only.
#[derive(Clone)]
pub(crate) struct Guarded<S>(S);

impl<S> Guarded<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self(inner)
    }

    pub(crate) fn poll_ready<B>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Request<B>>,
    {
        self.0.poll_ready(cx)
    }

    /// Calls the inner service for the holder of the pass. A principal that stands in the request's extensions is not our
    /// evidence: ours replaces it, or it goes.
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
