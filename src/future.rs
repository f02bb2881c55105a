//! [`ResponseFuture`]: the states of a request until its response is ready.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use crate::auth_error::AuthError;
use crate::authenticate::{Authenticator, DeniedRequest};
use crate::gate::{GatedService, Nobody, Pass};
use crate::render::{ErrorRenderer, Unrendered};
use crate::response_notes::ResponseNotes;
use crate::scheme_info::SchemeInfo;
use crate::unread_body::{self, Unread};

/// The decision about a request, while a store is asked or the body is read.
type Deciding<B> = Pin<Box<dyn Future<Output = Result<(Pass, Request<B>), DeniedRequest>> + Send>>;

/// How a request was let in, as far as the response headers depend on it.
pub(crate) enum Admitted {
    Principal(Option<Box<ResponseNotes>>),
    Nobody(Nobody),
}

impl Admitted {
    #[inline(always)]
    pub(crate) fn of(pass: &Pass) -> Self {
        match pass.holder() {
            Ok(who) => Self::Principal(ResponseNotes::of(who)),
            Err(nobody) => Self::Nobody(nobody),
        }
    }
}

pin_project! {
    /// The future of [`ApiKeyService`](crate::service::ApiKeyService).
    pub struct ResponseFuture<S, Sch, R, B>
    where
        S: Service<Request<B>>,
    {
        authenticator: Arc<Authenticator<Sch, R>>,
        #[pin]
        state: FutureState<S, S::Future, B>,
    }
}

pin_project! {
    #[project = Now]
    enum FutureState<S, F, B> {
        /// The decision is being made. The inner service is ready, and is called if the request is accepted.
        Deciding { decision: Deciding<B>, service: GatedService<S> },
        /// The inner service handles the request.
        Entered { #[pin] answer: F, holder: Admitted },
        /// The request is refused. `notes` is set if a guard refused it after it was accepted.
        Refused { error: AuthError, notes: Option<Box<ResponseNotes>>, unread: Unread },
    }
}

impl<S: Service<Request<B>>, Sch, R, B> ResponseFuture<S, Sch, R, B> {
    pub(crate) fn deciding(
        authenticator: Arc<Authenticator<Sch, R>>,
        decision: Deciding<B>,
        service: GatedService<S>,
    ) -> Self {
        Self { authenticator, state: FutureState::Deciding { decision, service } }
    }

    /// The inner service was called, and handles the request.
    #[inline(always)]
    pub(crate) fn entered(
        authenticator: Arc<Authenticator<Sch, R>>,
        holder: Admitted,
        answer: S::Future,
    ) -> Self {
        Self { authenticator, state: FutureState::Entered { answer, holder } }
    }

    pub(crate) fn refused(authenticator: Arc<Authenticator<Sch, R>>, denied: DeniedRequest) -> Self {
        Self { authenticator, state: FutureState::refused(denied) }
    }
}

impl<S, F, B> FutureState<S, F, B> {
    fn refused(DeniedRequest { error, unread }: DeniedRequest) -> Self {
        Self::Refused { error, notes: None, unread }
    }
}

impl<S, Sch, R, B, ResB> Future for ResponseFuture<S, Sch, R, B>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: ErrorRenderer<ResB>,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                Now::Deciding { decision, service } => match ready!(decision.as_mut().poll(cx)) {
                    Ok((pass, request)) => {
                        let holder = Admitted::of(&pass);
                        FutureState::Entered { answer: service.call(pass, request), holder }
                    }
                    Err(denied) => FutureState::refused(denied),
                },
                Now::Entered { answer, holder: Admitted::Nobody(Nobody::Open) } => return answer.poll(cx),
                Now::Entered { answer, holder } => {
                    let mut response = ready!(answer.poll(cx))?;
                    let refused_inside = response.extensions_mut().remove();
                    let stamps = &this.authenticator.stamps;
                    let (error, notes) = match (holder, refused_inside) {
                        (Admitted::Principal(notes), None) => {
                            stamps.authenticated(&mut response, notes.as_deref());
                            return Poll::Ready(Ok(response));
                        }
                        (Admitted::Nobody(_), None) => {
                            stamps.anonymous(&mut response);
                            return Poll::Ready(Ok(response));
                        }
                        // An inner guard refused the request. Its error is rendered here, like every other.
                        (Admitted::Principal(notes), Some(Unrendered(error))) => (error, notes.take()),
                        // An inner extractor or guard requires a principal, and does not know the layer's messages.
                        (Admitted::Nobody(_), Some(Unrendered(error))) => {
                            let grpc = error.is_grpc();
                            (this.authenticator.complete_for(error, grpc), None)
                        }
                    };
                    this.authenticator.verifier.show_guarded(&error);
                    let unread = Unread::said_by(response.headers());
                    FutureState::Refused { error, notes, unread }
                }
                Now::Refused { error, notes, unread } => {
                    let closes = ready!(Pin::new(unread).poll(cx));
                    let mut response = this.authenticator.renderer.render(error);
                    let is_over =
                        |scheme: &SchemeInfo| this.authenticator.verifier.gate.rules.is_over(scheme);
                    this.authenticator.stamps.refused(
                        &mut response,
                        error.clone(),
                        notes.as_deref(),
                        is_over,
                    );
                    if closes {
                        unread_body::say_close(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response));
                }
            };
            this.state.set(next);
        }
    }
}

impl<S: Service<Request<B>>, Sch, R, B> fmt::Debug for ResponseFuture<S, Sch, R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
