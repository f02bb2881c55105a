//! [`ApiKeyService`]: how a request is decided, step by step.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use crate::authenticate::{Authenticator, HeadDecision};
use crate::credentials::Head;
use crate::future::{Admitted, ResponseFuture};
use crate::gate::GatedService;
use crate::render::ErrorRenderer;
use crate::scheme::Scheme;

/// The service in which [`ApiKeyAuth`](crate::ApiKeyAuth) wraps another.
pub struct ApiKeyService<S, Sch, R> {
    inner: GatedService<S>,
    authenticator: Arc<Authenticator<Sch, R>>,
}

impl<S, Sch, R> ApiKeyService<S, Sch, R> {
    pub(crate) fn new(inner: S, authenticator: Arc<Authenticator<Sch, R>>) -> Self {
        Self { inner: GatedService::new(inner), authenticator }
    }
}

impl<S, Sch, R, B, ResB> Service<Request<B>> for ApiKeyService<S, Sch, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    Sch: Scheme<B>,
    R: ErrorRenderer<ResB>,
    B: Send + 'static,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Sch, R, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let authenticator = Arc::clone(&self.authenticator);
        authenticator.mark_secrets(&mut request);
        match authenticator.decide_at_once(Head::of(&request)) {
            HeadDecision::Pass(pass) => {
                let holder = Admitted::of(&pass);
                ResponseFuture::entered(authenticator, holder, self.inner.call(pass, request))
            }
            HeadDecision::Refused(error) => {
                let denied = authenticator.denied(error, request);
                ResponseFuture::refused(authenticator, denied)
            }
            HeadDecision::Wait(waiting) => {
                // Call the service that was polled ready, and keep its clone, which may not be ready.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let decision = Box::pin(Arc::clone(&authenticator).decide(request, waiting));
                ResponseFuture::deciding(authenticator, decision, ready)
            }
        }
    }
}

impl<S: Clone, Sch, R> Clone for ApiKeyService<S, Sch, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), authenticator: Arc::clone(&self.authenticator) }
    }
}

impl<S, Sch: fmt::Debug, R> fmt::Debug for ApiKeyService<S, Sch, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyService").field("scheme", &self.authenticator.scheme).finish_non_exhaustive()
    }
}
