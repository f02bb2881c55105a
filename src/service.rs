//! [`ApiKeyService`]: the whole story of a request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{Extensions, Method, Request, Response};
use tower::Service;

use crate::client_addr::ClientAddr;
use crate::credentials::{Credentials, Head};
use crate::endpoint::{Access, Endpoint, EndpointTable};
use crate::error::{AuthError, AuthErrorKind};
use crate::future::{Denied, ResponseFuture};
use crate::principal::{Nobody, Principal};
use crate::render::{RenderError, is_grpc};
use crate::restriction::Facts;
use crate::scheme::{BodyInterest, Scheme};
use crate::stamps::Stamps;
use crate::unread_body::{Unread, WasRead};
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
                let (parts, body) = request.into_parts();
                let unread = shared.unread(&error, Head::from(&parts), Carried::Untouched(body));
                ResponseFuture::refused(shared, error, unread)
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

/// The body of a request, while it is decided about.
enum Carried<B> {
    Untouched(B),
    /// It was read to its end, and stands there anew.
    Read(B),
}

impl<B> Carried<B> {
    fn into_inner(self) -> B {
        match self {
            Self::Untouched(body) | Self::Read(body) => body,
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
    ) -> Result<Request<B>, Denied>
    where
        Sch: Scheme<B>,
    {
        let (mut parts, body) = request.into_parts();
        let head = Head::from(&parts);
        let decided = match self.claimed(head, access, body).await {
            Ok((Some((credentials, endpoint)), body)) => {
                match self.verifier.verify_by(&credentials, endpoint, || self.facts(head)).await {
                    Ok(principal) => Ok((Some(principal), body)),
                    Err(error) => {
                        let unread = self.unread(&error, head, body);
                        Err((error, unread))
                    }
                }
            }
            Ok((None, body)) => Ok((None, body)),
            Err(denied) => Err(denied),
        };
        if let Some(started) = started {
            let facts = || self.facts(head);
            match &decided {
                Ok((None, _)) => self.verifier.show_open(started, false),
                Ok((Some(who), _)) => self.verifier.show(started, false, Ok(who), facts),
                Err((error, _)) => self.verifier.show(started, false, Err(error), facts),
            }
        }
        match decided {
            Ok((who, body)) => {
                if let Carried::Read(_) = body {
                    parts.extensions.insert(WasRead);
                }
                match who {
                    Some(principal) => {
                        parts.extensions.insert(principal);
                    }
                    None => admit_nobody(&mut parts.extensions, Nobody::Anonymous),
                }
                Ok(Request::from_parts(parts, body.into_inner()))
            }
            Err((error, unread)) => {
                Err(Denied { error: self.complete(error, is_grpc(Head::from(&parts))), unread })
            }
        }
    }

    /// What the client claims, unless it claims nothing and need not, and its body; or why it is refused, and what is to be
    /// done about the body.
    async fn claimed<'r, B>(
        &self,
        head: Head<'r>,
        access: Access,
        body: B,
    ) -> Result<(Option<(Credentials<'r>, Endpoint)>, Carried<B>), (AuthError, Unread)>
    where
        Sch: Scheme<B>,
    {
        let (found, body) = match self.scheme.read_head(head) {
            Ok(Some(credentials)) => (Some(credentials), Carried::Untouched(body)),
            Ok(None) => {
                let sender = self.client.sender(&head);
                if !sender.is_known() {
                    self.verifier.sender_is_unknown();
                }
                match self.scheme.read_body(head, &sender, body).await {
                    Ok((found, body)) => (found, Carried::Read(body)),
                    Err(error) if error.is_after_body() => return Err((error, Unread::Nothing)),
                    Err(error) => return Err((error, Unread::given_up(head))),
                }
            }
            Err(error) => {
                let unread = self.unread(&error, head, Carried::Untouched(body));
                return Err((error, unread));
            }
        };
        match (found, access) {
            (Some(credentials), Access::Optional(endpoint) | Access::Required(endpoint))
                if !credentials.are_null() =>
            {
                Ok((Some((credentials, endpoint)), body))
            }
            (None, Access::Optional(_)) => Ok((None, body)),
            _ => {
                let error = refusal(AuthErrorKind::MissingCredentials);
                let unread = self.unread(&error, head, body);
                Err((error, unread))
            }
        }
    }

    /// What is to be done about the body of a request that is refused.
    fn unread<B>(&self, error: &AuthError, head: Head<'_>, body: Carried<B>) -> Unread
    where
        Sch: Scheme<B>,
    {
        match body {
            // What there is no room for is not read.
            Carried::Untouched(_) if error.kind() == AuthErrorKind::Overloaded => Unread::given_up(head),
            Carried::Untouched(body) => {
                Unread::of(head, body, |body| self.scheme.drain(&self.client.sender(&head), body))
            }
            Carried::Read(_) => Unread::Nothing,
        }
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
