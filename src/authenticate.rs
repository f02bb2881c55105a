//! [`Authenticator`]: asks the scheme what a request claims and the gate whether it is true, and tells the
//! observers.

use std::sync::Arc;
use std::time::Instant;

use http::Request;

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::client_addr::ClientAddr;
use crate::credentials::{Credentials, Head};
use crate::endpoint::EndpointTable;
use crate::gate::{Access, Entry, Pass, Paused};
use crate::response_headers::ResponseHeaders;
use crate::restriction::RequestContext;
use crate::scheme::{BodyInterest, Scheme};
use crate::unread_body::{Unread, WasRead};
use crate::verifier::Verifier;

/// The state that all services of one layer share.
pub(crate) struct Authenticator<Sch, R> {
    /// Shared, so that schemes need not implement `Clone`.
    pub(crate) scheme: Arc<Sch>,
    pub(crate) verifier: Verifier,
    pub(crate) endpoints: EndpointTable,
    pub(crate) renderer: Arc<R>,
    pub(crate) stamps: ResponseHeaders,
    pub(crate) pass_preflight: bool,
    pub(crate) client: ClientAddr,
    pub(crate) require_https: bool,
}

impl<Sch, R> Clone for Authenticator<Sch, R> {
    fn clone(&self) -> Self {
        Self {
            scheme: Arc::clone(&self.scheme),
            verifier: self.verifier.clone(),
            endpoints: self.endpoints.clone(),
            renderer: Arc::clone(&self.renderer),
            stamps: self.stamps.clone(),
            pass_preflight: self.pass_preflight,
            client: self.client.clone(),
            require_https: self.require_https,
        }
    }
}

/// The decision that can be made from the head of a request and from cached facts.
pub(crate) enum HeadDecision {
    Pass(Pass),
    Refused(AuthError),
    /// A store must be asked, or the body must be read.
    Wait(Suspended),
}

/// A request that must wait.
pub(crate) struct Suspended {
    wait: SuspendedOn,
    /// When the decision began, if observers want to know.
    started: Option<Instant>,
}

enum SuspendedOn {
    /// A store must be asked about these credentials.
    Store(Box<(Credentials<'static>, Box<Paused>)>),
    /// The body may hold a credential.
    Body(Access),
}

impl HeadDecision {
    #[cold]
    fn refused(kind: AuthErrorKind) -> Self {
        Self::Refused(refusal(kind))
    }

    #[cold]
    fn wait(wait: SuspendedOn, started: Option<Instant>) -> Self {
        Self::Wait(Suspended { wait, started })
    }
}

impl SuspendedOn {
    #[cold]
    fn store(credentials: &Credentials<'_>, paused: Box<Paused>) -> Self {
        Self::Store(Box::new((credentials.copied(), paused)))
    }
}

/// Why a request is refused, and what must be done with its body before the response is sent.
pub(crate) struct DeniedRequest {
    pub(crate) error: AuthError,
    pub(crate) unread: Unread,
}

/// The body of a request during the decision.
enum Carried<B> {
    Untouched(B),
    /// The body was read to its end, and replaced by a copy of its bytes.
    Read(B),
}

impl<Sch, R> Authenticator<Sch, R> {
    pub(crate) fn mark_secrets<B>(&self, request: &mut Request<B>) {
        self.stamps.mark_secrets(request.headers_mut());
    }

    /// Decides from the head, as far as this is possible without waiting.
    #[inline(always)]
    pub(crate) fn decide_at_once<B>(&self, head: Head<'_>) -> HeadDecision
    where
        Sch: Scheme<B>,
    {
        let started = self.verifier.observers.start();
        let decision = self.by_head(head, started);
        if let Some(started) = started {
            match &decision {
                HeadDecision::Pass(pass) => self.show(started, true, Ok(pass), head),
                HeadDecision::Refused(error) => self.show(started, true, Err(error), head),
                HeadDecision::Wait(_) => {}
            }
        }
        decision
    }

    #[inline(always)]
    fn by_head<B>(&self, head: Head<'_>, started: Option<Instant>) -> HeadDecision
    where
        Sch: Scheme<B>,
    {
        let access = Access::of(&self.endpoints, head, self.pass_preflight);
        let found = if access.is_open() {
            None
        } else {
            if self.require_https && !self.client.is_secure(&head) {
                return HeadDecision::refused(AuthErrorKind::InsecureTransport);
            }
            match self.scheme.read_head(head) {
                Ok(None) => match self.scheme.body_interest(head) {
                    Ok(BodyInterest::Wanted) => {
                        return HeadDecision::wait(SuspendedOn::Body(access), started);
                    }
                    Ok(BodyInterest::OtherType) if access.is_required() => {
                        return HeadDecision::refused(AuthErrorKind::UnsupportedMediaType);
                    }
                    Ok(BodyInterest::OtherType | BodyInterest::None) => None,
                    Err(error) => return HeadDecision::Refused(error),
                },
                Ok(found) => found,
                Err(error) => return HeadDecision::Refused(error),
            }
        };
        let (credentials, endpoint) = match access.enter(found.as_ref()) {
            Ok(Entry::Claims(credentials, endpoint)) => (credentials, endpoint),
            Ok(Entry::Pass(pass)) => return HeadDecision::Pass(pass),
            Err(kind) => return HeadDecision::refused(kind),
        };
        match self.verifier.now(credentials, endpoint, || self.facts(head)) {
            Ok(Ok(principal)) => HeadDecision::Pass(Pass::from(principal)),
            Ok(Err(paused)) => HeadDecision::wait(SuspendedOn::store(credentials, paused), started),
            Err(error) => HeadDecision::Refused(error),
        }
    }

    /// Decides about a request that must wait.
    pub(crate) async fn decide<B>(
        self: Arc<Self>,
        request: Request<B>,
        waiting: Suspended,
    ) -> Result<(Pass, Request<B>), DeniedRequest>
    where
        Sch: Scheme<B>,
    {
        let Suspended { wait, started } = waiting;
        let (mut parts, body) = request.into_parts();
        let head = Head::from(&parts);
        let decided = match wait {
            SuspendedOn::Store(asked) => {
                let (credentials, paused) = *asked;
                let asked = self.verifier.asking(paused, &credentials, || self.facts(head)).await;
                let body = Carried::Untouched(body);
                match asked {
                    Ok(principal) => Ok((Pass::from(principal), body)),
                    Err(error) => Err(DeniedRequest { unread: self.unread(&error, head, body), error }),
                }
            }
            SuspendedOn::Body(access) => self.by_body(head, access, body).await,
        };
        if let Some(started) = started {
            match &decided {
                Ok((pass, _)) => self.show(started, false, Ok(pass), head),
                Err(denied) => self.show(started, false, Err(&denied.error), head),
            }
        }
        match decided {
            Ok((pass, body)) => {
                let body = match body {
                    Carried::Untouched(body) => body,
                    Carried::Read(body) => {
                        parts.extensions.insert(WasRead);
                        body
                    }
                };
                Ok((pass, Request::from_parts(parts, body)))
            }
            Err(DeniedRequest { error, unread }) => {
                Err(DeniedRequest { error: self.complete(error, head), unread })
            }
        }
    }

    async fn by_body<B>(
        &self,
        head: Head<'_>,
        access: Access,
        body: B,
    ) -> Result<(Pass, Carried<B>), DeniedRequest>
    where
        Sch: Scheme<B>,
    {
        let sender = self.client.sender(&head);
        if !sender.is_known() {
            self.verifier.observers.sender_is_unknown();
        }
        let (found, body) = match self.scheme.read_body(head, &sender, body).await {
            Ok((found, body)) => (found, body),
            Err(error) => {
                let unread = if error.is_after_body() { Unread::Nothing } else { Unread::given_up(head) };
                return Err(DeniedRequest { error, unread });
            }
        };
        match self.by_claims(head, access, found).await {
            Ok(pass) => Ok((pass, Carried::Read(body))),
            Err(error) => Err(DeniedRequest { error, unread: Unread::Nothing }),
        }
    }

    async fn by_claims(
        &self,
        head: Head<'_>,
        access: Access,
        found: Option<Credentials<'_>>,
    ) -> Result<Pass, AuthError> {
        let (credentials, endpoint) = match access.enter(found.as_ref()).map_err(refusal)? {
            Entry::Pass(pass) => return Ok(pass),
            Entry::Claims(credentials, endpoint) => (credentials, endpoint),
        };
        let facts = || self.facts(head);
        match self.verifier.now(credentials, endpoint, facts)? {
            Ok(principal) => Ok(Pass::from(principal)),
            Err(paused) => self.verifier.asking(paused, credentials, facts).await.map(Pass::from),
        }
    }

    /// Makes the refusal of a request that did not have to wait.
    #[cold]
    pub(crate) fn denied<B>(&self, error: AuthError, request: Request<B>) -> DeniedRequest
    where
        Sch: Scheme<B>,
    {
        let (parts, body) = request.into_parts();
        let head = Head::from(&parts);
        let error = self.complete(error, head);
        let unread = self.unread(&error, head, Carried::Untouched(body));
        DeniedRequest { error, unread }
    }

    /// What must be done with the body of a refused request.
    fn unread<B>(&self, error: &AuthError, head: Head<'_>, body: Carried<B>) -> Unread
    where
        Sch: Scheme<B>,
    {
        match body {
            // The request was refused because there is no room for its body, so the body is not read.
            Carried::Untouched(_) if error.kind() == AuthErrorKind::Overloaded => Unread::given_up(head),
            Carried::Untouched(body) => {
                Unread::of(head, body, |body| self.scheme.drain(&self.client.sender(&head), body))
            }
            Carried::Read(_) => Unread::Nothing,
        }
    }

    #[cold]
    fn show(&self, started: Instant, warm: bool, decided: Result<&Pass, &AuthError>, head: Head<'_>) {
        let facts = || self.facts(head);
        match decided.map(Pass::holder) {
            Ok(Err(_)) => self.verifier.show_open(started, warm),
            Ok(Ok(who)) => self.verifier.show(started, warm, Ok(who), facts),
            Err(error) => self.verifier.show(started, warm, Err(error), facts),
        }
    }

    /// The facts that a key's restrictions are checked against.
    fn facts<'r>(&self, head: Head<'r>) -> RequestContext<'r> {
        let facts = RequestContext::of(&head).by_path(self.endpoints.compares_paths());
        match self.client.of(&head) {
            Some(address) => facts.address(address),
            None => facts,
        }
    }

    /// Adds to an error what only the layer knows: its first scheme, and whether the client speaks gRPC.
    fn complete(&self, error: AuthError, head: Head<'_>) -> AuthError {
        self.complete_for(error, head.is_grpc())
    }

    pub(crate) fn complete_for(&self, error: AuthError, grpc: bool) -> AuthError {
        error.answering(self.stamps.first(), grpc)
    }
}

fn refusal(kind: AuthErrorKind) -> AuthError {
    AuthError::new(kind, None)
}
