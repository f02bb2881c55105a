//! Handles a request body that is unread when the response is sent: drains it, or closes the connection.
//!
//! On HTTP/1.x the next request of a connection follows this one's body. A server that answers before it has read
//! the body must read the rest or close the connection, and announce that it closes (RFC 9112 sections 9.3 and
//! 9.6). Otherwise a client, or a proxy with many clients, sends the next request into a closing connection, and an
//! uninvolved client may get a 502.
//!
//! So every response of this crate that precedes the end of an announced body says `Connection: close`. If the
//! body's type is known, up to 64 KiB are read and discarded instead, for up to a second, and the connection stays
//! open. After `Expect` nothing is read, because reading would request the body (RFC 9110 section 10.1.1). HTTP/2
//! has a stream for each request and needs neither.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Version};
use http_body::Body;

use crate::body_budget::{self, Budget, Charge, Sender};
use crate::credentials::Head;

/// How many bytes of the rest are drained at most.
const MOST: usize = 64 * 1024;
/// How long draining may take. Less if the budget for bodies is nearly full.
const WITHIN: Duration = Duration::from_secs(1);

/// In the extensions of a request whose body was read to its end and rebuilt.
#[derive(Clone, Copy)]
pub(crate) struct WasRead;

/// Whether a response to this request must handle its body: the head announces one, it has not been read to its
/// end, and the next request of the connection follows it.
pub(crate) fn is_ahead(head: Head<'_>) -> bool {
    head.version < Version::HTTP_2
        && (head.headers.contains_key(TRANSFER_ENCODING) || declared(head.headers) != Some(0))
        && head.extensions.get::<WasRead>().is_none()
}

/// The announced length of the body. Without a length there is no body, unless it is chunked.
fn declared(headers: &HeaderMap) -> Option<u64> {
    match headers.get(CONTENT_LENGTH) {
        None => Some(0),
        Some(length) => length.to_str().ok()?.parse().ok(),
    }
}

/// Whether the head allows draining the rest of the body.
pub(crate) fn may_be_drained(head: Head<'_>) -> bool {
    !head.headers.contains_key(EXPECT) && declared(head.headers).is_some_and(|length| length <= MOST as u64)
}

/// Announces that the connection closes after this response.
pub(crate) fn say_close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Announces it if the body of this request is unread. For callers that have only the head.
pub(crate) fn close_after(head: Head<'_>, headers: &mut HeaderMap) {
    if is_ahead(head) {
        say_close(headers);
    }
}

/// Drains a body; returns whether it ended. Call [`may_be_drained`] first.
pub(crate) async fn drain<B: Body<Data = Bytes>>(body: Pin<&mut B>, charge: Charge) -> bool {
    body_budget::drain(body, MOST, WITHIN, charge).await
}

/// The future of a body that is being drained; see [`Scheme::drain`](crate::scheme::Scheme::drain).
pub struct Draining(Pin<Box<dyn Future<Output = bool> + Send>>);

impl Draining {
    /// Creates it from a future that returns whether the body was read to its end.
    #[must_use]
    pub fn new(reading: impl Future<Output = bool> + Send + 'static) -> Self {
        Self(Box::pin(reading))
    }

    /// Drains a body within the limits of [this module](self).
    pub(crate) fn of<B>(body: B, budget: &Budget, sender: &Sender) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let charge = budget.charge(sender);
        Self::new(async move { drain(pin!(body), charge).await })
    }
}

impl Future for Draining {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").finish_non_exhaustive()
    }
}

/// What to do about an unread body before its request is refused. As a future, it returns whether the connection
/// closes.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Nothing: no body precedes the next request.
    Nothing,
    /// The body stays unread.
    Left,
    Draining(Draining),
}

impl Unread {
    /// For a body that has not been read. `drain` returns it if its type cannot be read.
    pub(crate) fn of<B>(head: Head<'_>, body: B, drain: impl FnOnce(B) -> Result<Draining, B>) -> Self {
        if !is_ahead(head) {
            Self::Nothing
        } else if !may_be_drained(head) {
            Self::Left
        } else {
            drain(body).map_or(Self::Left, Self::Draining)
        }
    }

    /// For a body whose reading was aborted.
    pub(crate) fn given_up(head: Head<'_>) -> Self {
        if is_ahead(head) { Self::Left } else { Self::Nothing }
    }

    /// For a response from an inner service, which says it by its headers.
    pub(crate) fn said_by(headers: &HeaderMap) -> Self {
        if headers.contains_key(CONNECTION) { Self::Left } else { Self::Nothing }
    }
}

impl Future for Unread {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut *self {
            Self::Nothing => Poll::Ready(false),
            Self::Left => Poll::Ready(true),
            Self::Draining(draining) => Pin::new(draining).poll(cx).map(|ended| !ended),
        }
    }
}

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::routes::settle;

/// For axum's routes, whatever they answer and however much of the body they read.
#[cfg(feature = "axum")]
mod routes {
    use std::pin::{Pin, pin};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::task::{Context, Poll, ready};

    use axum::body::Body;
    use axum::extract::Request;
    use axum::middleware::Next;
    use axum::response::Response;
    use bytes::Bytes;
    use http_body::{Body as _, Frame, SizeHint};

    use super::{drain, is_ahead, may_be_drained, say_close};
    use crate::body_budget::Room;
    use crate::credentials::Head;

    /// Runs the routes, and then drains what they left of the body, or announces that the connection closes. The
    /// routes find the [`Room`] for bodies that they read themselves in the extensions of the request.
    ///
    /// Use it for routes outside of [`ApiKeyAuth`](crate::ApiKeyAuth) that may answer before they have read the body.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::extract::Request;
    /// use axum::middleware::{Next, from_fn};
    /// use axum::routing::post;
    /// use tower_api_key::body_budget::{Budget, Sender};
    /// use tower_api_key::unread_body;
    ///
    /// let budget = Budget::new(4 << 20, 16 << 10);
    /// let settle = from_fn(move |request: Request, next: Next| {
    ///     let room = budget.room(Sender::UNKNOWN);
    ///     unread_body::settle(request, next, room)
    /// });
    /// let app: Router = Router::new().route("/hook", post(|| async { "not now" })).layer(settle);
    /// ```
    pub async fn settle(mut request: Request, next: Next, room: Room) -> Response {
        request.extensions_mut().insert(room.clone());
        if !is_ahead(Head::of(&request)) {
            return next.run(request).await;
        }
        let may_be_drained = may_be_drained(Head::of(&request));
        let (parts, body) = request.into_parts();
        let rest = Arc::new(Mutex::new(Rest::Lent));
        let lent = Lent { body: Some(body), rest: Arc::clone(&rest) };
        let mut response = next.run(Request::from_parts(parts, Body::new(lent))).await;
        let rest = std::mem::take(&mut *rest.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = match rest {
            Rest::Ended => true,
            Rest::Back(body) if may_be_drained => drain(pin!(body), room.charge()).await,
            Rest::Back(_) | Rest::Lent => false,
        };
        if !ended {
            say_close(response.headers_mut());
        }
        response
    }

    /// The state of a body that was lent to a route.
    #[derive(Default)]
    enum Rest {
        /// The route still has it, or it failed.
        #[default]
        Lent,
        Back(Body),
        Ended,
    }

    /// A body that is returned when the route drops it before its end.
    struct Lent {
        body: Option<Body>,
        rest: Arc<Mutex<Rest>>,
    }

    impl Lent {
        fn becomes(&self, rest: Rest) {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
    }

    impl http_body::Body for Lent {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let frame = ready!(Pin::new(body).poll_frame(cx));
            match &frame {
                Some(Ok(_)) => {}
                Some(Err(_)) => self.body = None,
                None => {
                    self.body = None;
                    self.becomes(Rest::Ended);
                }
            }
            Poll::Ready(frame)
        }

        fn is_end_stream(&self) -> bool {
            self.body.as_ref().is_none_or(|body| body.is_end_stream())
        }

        fn size_hint(&self) -> SizeHint {
            self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
        }
    }

    impl Drop for Lent {
        fn drop(&mut self) {
            match self.body.take() {
                Some(body) if body.is_end_stream() => self.becomes(Rest::Ended),
                Some(body) => self.becomes(Rest::Back(body)),
                None => {}
            }
        }
    }
}
