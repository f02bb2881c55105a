//! [`ResponseFuture`]: the states of a request that is on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use crate::description::SchemeInfo;
use crate::error::AuthError;
use crate::principal::{Notes, Principal};
use crate::render::{RenderError, Unrendered};
use crate::service::Shared;
use crate::unread_body::{self, Unread};

/// Whether a request may pass, asked of a store or of its body.
type Deciding<B> = Pin<Box<dyn Future<Output = Result<Request<B>, Denied>> + Send>>;

/// Why a request may not pass, and what is to be done about its body before that is said.
pub(crate) struct Denied {
    pub(crate) error: AuthError,
    pub(crate) unread: Unread,
}

pin_project! {
    /// The future of [`ApiKeyService`](crate::service::ApiKeyService).
    pub struct ResponseFuture<S, Sch, R, B>
    where
        S: Service<Request<B>>,
    {
        shared: Arc<Shared<Sch, R>>,
        #[pin]
        state: State<S, S::Future, B>,
    }
}

pin_project! {
    #[project = Now]
    enum State<S, F, B> {
        /// Asked, and not answered yet. The service is ready, and waits for the answer.
        Deciding { decision: Deciding<B>, service: S },
        /// The inner service answers somebody who was let in with a key.
        Accepted { #[pin] answer: F, notes: Option<Box<Notes>> },
        /// The inner service answers somebody who was let in without a credential, where one is optional.
        Anonymous { #[pin] answer: F },
        /// The inner service answers anybody.
        Open { #[pin] answer: F },
        /// The answer is no. With notes if it is a guard's, of somebody who was let in.
        Refused { error: AuthError, notes: Option<Box<Notes>>, unread: Unread },
    }
}

impl<S: Service<Request<B>>, Sch, R, B> ResponseFuture<S, Sch, R, B> {
    pub(crate) fn deciding(shared: Arc<Shared<Sch, R>>, decision: Deciding<B>, service: S) -> Self {
        Self { shared, state: State::Deciding { decision, service } }
    }

    pub(crate) fn accepted(
        shared: Arc<Shared<Sch, R>>,
        answer: S::Future,
        notes: Option<Box<Notes>>,
    ) -> Self {
        Self { shared, state: State::Accepted { answer, notes } }
    }

    pub(crate) fn anonymous(shared: Arc<Shared<Sch, R>>, answer: S::Future) -> Self {
        Self { shared, state: State::Anonymous { answer } }
    }

    pub(crate) fn open(shared: Arc<Shared<Sch, R>>, answer: S::Future) -> Self {
        Self { shared, state: State::Open { answer } }
    }

    pub(crate) fn refused(shared: Arc<Shared<Sch, R>>, error: AuthError, unread: Unread) -> Self {
        Self { shared, state: State::Refused { error, notes: None, unread } }
    }
}

impl<S, Sch, R, B, ResB> Future for ResponseFuture<S, Sch, R, B>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: RenderError<ResB>,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                Now::Deciding { decision, service } => match ready!(decision.as_mut().poll(cx)) {
                    Ok(request) => match request.extensions().get::<Principal>() {
                        Some(principal) => {
                            let notes = principal.notes();
                            State::Accepted { answer: service.call(request), notes }
                        }
                        None => State::Anonymous { answer: service.call(request) },
                    },
                    Err(Denied { error, unread }) => State::Refused { error, notes: None, unread },
                },
                Now::Accepted { answer, notes } => {
                    let mut response = ready!(answer.poll(cx))?;
                    // A guard inside said no: it is said here, like every other.
                    if let Some(Unrendered(error)) = response.extensions_mut().remove() {
                        this.shared.verifier.show_guarded(&error);
                        let unread = Unread::said_by(response.headers());
                        State::Refused { error, notes: notes.take(), unread }
                    } else {
                        this.shared.stamps.authenticated(&mut response, notes.as_deref());
                        return Poll::Ready(Ok(response));
                    }
                }
                Now::Anonymous { answer } => {
                    let mut response = ready!(answer.poll(cx))?;
                    // Something inside wants a principal, and does not know the layer's words.
                    if let Some(Unrendered(error)) = response.extensions_mut().remove() {
                        let grpc = error.is_grpc();
                        let error = this.shared.complete(error, grpc);
                        this.shared.verifier.show_guarded(&error);
                        let unread = Unread::said_by(response.headers());
                        State::Refused { error, notes: None, unread }
                    } else {
                        this.shared.stamps.anonymous(&mut response);
                        return Poll::Ready(Ok(response));
                    }
                }
                Now::Open { answer } => return answer.poll(cx),
                Now::Refused { error, notes, unread } => {
                    let closes = ready!(Pin::new(unread).poll(cx));
                    let mut response = this.shared.renderer.render(error);
                    let is_over = |scheme: &SchemeInfo| this.shared.verifier.is_over(scheme);
                    this.shared.stamps.refused(&mut response, error.clone(), notes.as_deref(), is_over);
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
