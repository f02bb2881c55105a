//! Bodies that were read once and are passed on unchanged: the same bytes, the same trailers, an exact size.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::body_budget::{Charge, Collected};

/// A body type that can be rebuilt from what was read of it, so that a layer can read the body and the next service
/// still gets the type it expects.
///
/// Implemented for axum's `Body` (feature `axum`) and http_body_util's `BoxBody`, `UnsyncBoxBody` and `Full`.
/// Convert other bodies into one of these before the layer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made anew after it was read",
    note = "`JsonBody` works with axum's `Body`, and with http_body_util's `BoxBody` and `UnsyncBoxBody`: map the body before the layer"
)]
pub trait Rebuild: Body<Data = Bytes> + Send + 'static {
    /// Makes a body that yields the same bytes and trailers.
    fn rebuild(replay: Replay) -> Self;
}

#[cfg(feature = "axum")]
impl Rebuild for axum::body::Body {
    fn rebuild(replay: Replay) -> Self {
        Self::new(replay)
    }
}

impl<E: 'static> Rebuild for http_body_util::combinators::UnsyncBoxBody<Bytes, E> {
    fn rebuild(replay: Replay) -> Self {
        Self::new(replay.map_err(|never| match never {}))
    }
}

impl<E: 'static> Rebuild for http_body_util::combinators::BoxBody<Bytes, E> {
    fn rebuild(replay: Replay) -> Self {
        Self::new(replay.map_err(|never| match never {}))
    }
}

impl Rebuild for http_body_util::Full<Bytes> {
    // A body of this type cannot have trailers, so none are lost.
    fn rebuild(replay: Replay) -> Self {
        Self::new(replay.data)
    }
}

/// A body that was read: one frame with all its bytes, then its trailers.
pub struct Replay {
    pub(super) data: Bytes,
    trailers: Option<HeaderMap>,
    /// Returns the bytes to the budget when this body is dropped.
    _charge: Charge,
}

impl From<Collected> for Replay {
    fn from(Collected { data, trailers, charge }: Collected) -> Self {
        Self { data, trailers, _charge: charge }
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.data);
        let frame =
            if data.is_empty() { self.trailers.take().map(Frame::trailers) } else { Some(Frame::data(data)) };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("len", &self.data.len()).finish_non_exhaustive()
    }
}
