//! [`ApiKeyService`]: the whole story of a request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{Extensions, Method, Request, Response};
use tower::Service;

use crate::client_addr::ClientAddr;
use crate::credentials::Head;
use crate::endpoint::{Access, EndpointTable};
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
                admit_nobody(request.extensions_mut(), Nobody::Open);
                ResponseFuture::open(shared, self.inner.call(request))
            }
            Decision::Anonymous => {
                admit_nobody(request.extensions_mut(), Nobody::Anonymous);
                ResponseFuture::anonymous(shared, self.inner.call(request))
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
            Decision::Wait(access) => {
                // The service that was polled ready is the one to call: its clone may not be.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let decision = Box::pin(Arc::clone(&shared).decide(request, access, started));
                ResponseFuture::deciding(shared, decision, ready)
            }
        }
    }
}

/// What can be said at once about a request.
enum Decision {
    /// Anybody may come in.
    Open,
    /// No credential was sent where one is optional.
    Anonymous,
    Accepted(Principal),
    Refused(AuthError),
    /// A store must be asked, or a body read.
    Wait(Access),
}

impl Decision {
    /// What is said where no credential was sent.
    fn without_credentials(access: Access) -> Self {
        match access {
            Access::Open => Self::Open,
            Access::Optional(_) => Self::Anonymous,
            Access::Required(_) => Self::Refused(refusal(AuthErrorKind::MissingCredentials)),
        }
    }
}

impl<Sch, R> Shared<Sch, R> {
    fn decide_at_once<B>(&self, head: Head<'_>) -> Decision
    where
        Sch: Scheme<B>,
    {
        if self.pass_preflight && is_preflight(head) {
            return Decision::Open;
        }
        let access = self.endpoints.of(&head);
        let (Access::Optional(endpoint) | Access::Required(endpoint)) = access else {
            return Decision::Open;
        };
        if self.require_https && !self.client.is_secure(&head) {
            return Decision::Refused(refusal(AuthErrorKind::InsecureTransport));
        }
        match self.scheme.read_head(head) {
            Err(error) => Decision::Refused(error),
            Ok(Some(credentials)) => {
                match self.verifier.verify_warm(&credentials, endpoint, || self.facts(head)) {
                    Ok(Some(principal)) => Decision::Accepted(principal),
                    Ok(None) => Decision::Wait(access),
                    Err(error) => Decision::Refused(error),
                }
            }
            Ok(None) => match self.scheme.body_interest(head) {
                Err(error) => Decision::Refused(error),
                Ok(BodyInterest::Wanted) => Decision::Wait(access),
                Ok(BodyInterest::OtherType) if matches!(access, Access::Required(_)) => {
                    Decision::Refused(refusal(AuthErrorKind::UnsupportedMediaType))
                }
                Ok(BodyInterest::OtherType | BodyInterest::None) => Decision::without_credentials(access),
            },
        }
    }

    async fn decide<B>(
        self: Arc<Self>,
        request: Request<B>,
        access: Access,
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
            let credentials = match (found, access) {
                (Some(credentials), Access::Optional(endpoint) | Access::Required(endpoint))
                    if !credentials.are_null() =>
                {
                    Some((credentials, endpoint))
                }
                (None, Access::Optional(_)) => None,
                _ => return Err(refusal(AuthErrorKind::MissingCredentials)),
            };
            let who = match credentials {
                Some((credentials, endpoint)) => {
                    Some(self.verifier.verify_by(&credentials, endpoint, || self.facts(head)).await?)
                }
                None => None,
            };
            Ok((who, body))
        };
        let decided = decided.await;
        if let Some(started) = started {
            let facts = || self.facts(Head::from(&parts));
            match &decided {
                Ok((None, _)) => self.verifier.show_open(started, false),
                Ok((Some(who), _)) => self.verifier.show(started, false, Ok(who), facts),
                Err(error) => self.verifier.show(started, false, Err(error), facts),
            }
        }
        let (who, body) = decided.map_err(|error| self.complete(error, is_grpc(Head::from(&parts))))?;
        match who {
            Some(principal) => {
                parts.extensions.insert(principal);
            }
            None => admit_nobody(&mut parts.extensions, Nobody::Anonymous),
        }
        Ok(Request::from_parts(parts, body))
    }

    /// Shows what could be said at once. The rest is shown when it is decided.
    #[cold]
    fn show(&self, started: Instant, decision: &Decision, head: Head<'_>) {
        match decision {
            Decision::Open | Decision::Anonymous => self.verifier.show_open(started, true),
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
    pub(crate) fn complete(&self, error: AuthError, grpc: bool) -> AuthError {
        error.answering(self.stamps.first(), grpc)
    }
}

/// Whatever principal stands there is not our evidence. (Where somebody is let in with a key, ours replaces it.)
fn admit_nobody(extensions: &mut Extensions, nobody: Nobody) {
    extensions.remove::<Principal>();
    extensions.insert(nobody);
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
