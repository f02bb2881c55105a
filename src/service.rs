//! [`ApiKeyService`]: the whole story of a request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{Method, Request, Response};
use tower::Service;

use crate::client_addr::ClientAddr;
use crate::credentials::Head;
use crate::endpoint::{Endpoint, EndpointTable};
use crate::error::{AuthError, AuthErrorKind};
use crate::future::ResponseFuture;
use crate::principal::{Nobody, Principal};
use crate::render::{RenderError, is_grpc};
use crate::restriction::Facts;
use crate::scheme::{BodyInterest, Scheme};
use crate::stamps::Stamps;
use crate::verify::Verifier;

/// The service that [`ApiKeyAuth`](crate::ApiKeyAuth) makes of another.
pub struct ApiKeyService<S, Sch, R> {
    inner: S,
    shared: Arc<Shared<Sch, R>>,
}

/// What all services of one layer share.
#[derive(Clone)]
pub(crate) struct Shared<Sch, R> {
    pub(crate) scheme: Sch,
    pub(crate) verifier: Verifier,
    pub(crate) endpoints: EndpointTable,
    pub(crate) renderer: R,
    pub(crate) stamps: Stamps,
    pub(crate) pass_preflight: bool,
    pub(crate) client: ClientAddr,
    pub(crate) require_https: bool,
}

impl<S, Sch, R> ApiKeyService<S, Sch, R> {
    pub(crate) fn new(inner: S, shared: Arc<Shared<Sch, R>>) -> Self {
        Self { inner, shared }
    }
}

impl<S, Sch, R, B, ResB> Service<Request<B>> for ApiKeyService<S, Sch, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    Sch: Scheme<B>,
    R: RenderError<ResB>,
    B: Send + 'static,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Sch, R, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        shared.stamps.mark_secrets(request.headers_mut());
        let started = shared.verifier.started();
        let decision = shared.decide_at_once(Head::of(&request));
        if let Some(started) = started {
            shared.show(started, &decision, Head::of(&request));
        }
        match decision {
            Decision::Open => {
                // Whatever stands there is not our evidence. (Wherever else a request gets through, ours replaces it.)
                request.extensions_mut().remove::<Principal>();
                request.extensions_mut().insert(Nobody);
                ResponseFuture::open(shared, self.inner.call(request))
            }
            Decision::Accepted(principal) => {
                let notes = principal.notes();
                request.extensions_mut().insert(principal);
                ResponseFuture::accepted(shared, self.inner.call(request), notes)
            }
            Decision::Refused(error) => {
                let error = shared.complete(error, is_grpc(Head::of(&request)));
                ResponseFuture::refused(shared, error)
            }
            Decision::Wait(endpoint) => {
                // The service that was polled ready is the one to call: its clone may not be.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let decision = Box::pin(Arc::clone(&shared).decide(request, endpoint, started));
                ResponseFuture::deciding(shared, decision, ready)
            }
        }
    }
}

/// What can be said at once about a request.
enum Decision {
    /// Anybody may come in.
    Open,
    Accepted(Principal),
    Refused(AuthError),
    /// A store must be asked, or a body read.
    Wait(Endpoint),
}

impl<Sch, R> Shared<Sch, R> {
    fn decide_at_once<B>(&self, head: Head<'_>) -> Decision
    where
        Sch: Scheme<B>,
    {
        if self.pass_preflight && is_preflight(head) {
            return Decision::Open;
        }
        let Some(endpoint) = self.endpoints.of(&head) else { return Decision::Open };
        if self.require_https && !self.client.is_secure(&head) {
            return Decision::Refused(refusal(AuthErrorKind::InsecureTransport));
        }
        match self.scheme.read_head(head) {
            Err(error) => Decision::Refused(error),
            Ok(Some(credentials)) => {
                match self.verifier.verify_warm(&credentials, endpoint, || self.facts(head)) {
                    Ok(Some(principal)) => Decision::Accepted(principal),
                    Ok(None) => Decision::Wait(endpoint),
                    Err(error) => Decision::Refused(error),
                }
            }
            Ok(None) => match self.scheme.body_interest(head) {
                Err(error) => Decision::Refused(error),
                Ok(BodyInterest::Wanted) => Decision::Wait(endpoint),
                Ok(BodyInterest::OtherType) => {
                    Decision::Refused(refusal(AuthErrorKind::UnsupportedMediaType))
                }
                Ok(BodyInterest::None) => Decision::Refused(refusal(AuthErrorKind::MissingCredentials)),
            },
        }
    }

    async fn decide<B>(
        self: Arc<Self>,
        request: Request<B>,
        endpoint: Endpoint,
        started: Option<Instant>,
    ) -> Result<Request<B>, AuthError>
    where
        Sch: Scheme<B>,
    {
        let (mut parts, body) = request.into_parts();
        let decided = async {
            let head = Head::from(&parts);
            let (found, body) = match self.scheme.read_head(head)? {
                Some(credentials) => (Some(credentials), body),
                None => self.scheme.read_body(head, body).await?,
            };
            let credentials = found.ok_or_else(|| refusal(AuthErrorKind::MissingCredentials))?;
            let principal = self.verifier.verify_by(&credentials, endpoint, || self.facts(head)).await?;
            Ok((principal, body))
        };
        let decided = decided.await;
        if let Some(started) = started {
            let result = decided.as_ref().map(|(principal, _)| principal);
            self.verifier.show(started, false, result, || self.facts(Head::from(&parts)));
        }
        let (principal, body) = decided.map_err(|error| self.complete(error, is_grpc(Head::from(&parts))))?;
        parts.extensions.insert(principal);
        Ok(Request::from_parts(parts, body))
    }

    /// Shows what could be said at once. The rest is shown when it is decided.
    #[cold]
    fn show(&self, started: Instant, decision: &Decision, head: Head<'_>) {
        match decision {
            Decision::Open => self.verifier.show_open(started),
            Decision::Accepted(who) => self.verifier.show(started, true, Ok(who), || self.facts(head)),
            Decision::Refused(error) => self.verifier.show(started, true, Err(error), || self.facts(head)),
            Decision::Wait(_) => {}
        }
    }

    /// What a key's restrictions look at.
    fn facts<'r>(&self, head: Head<'r>) -> Facts<'r> {
        let facts = Facts::of(&head).by_path(self.endpoints.compares_paths());
        match self.client.of(&head) {
            Some(address) => facts.address(address),
            None => facts,
        }
    }

    /// Adds to an error what only the layer knows.
    fn complete(&self, error: AuthError, grpc: bool) -> AuthError {
        error.answering(self.stamps.first(), grpc)
    }
}

fn refusal(kind: AuthErrorKind) -> AuthError {
    AuthError::new(kind, None)
}

fn is_preflight(head: Head<'_>) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl<S: Clone, Sch, R> Clone for ApiKeyService<S, Sch, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, Sch: fmt::Debug, R> fmt::Debug for ApiKeyService<S, Sch, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyService").field("scheme", &self.shared.scheme).finish_non_exhaustive()
    }
}
