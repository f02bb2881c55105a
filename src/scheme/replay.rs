//! The body, read once and handed on: the same bytes, the same trailers, an exact size.

use std::convert::Infallible;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::error::AuthErrorKind;

/// Frames without data that a body may hold before it is taken for an attack.
const MAX_EMPTY_FRAMES: usize = 1024;

/// A body that can be made anew from what was read of it, so that a layer can look into it and the next service gets
/// the type it expects.
///
/// Implemented for axum's `Body` (feature `axum`) and http_body_util's `BoxBody`, `UnsyncBoxBody` and `Full`. Map other bodies
/// into one of these before the layer.
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
    /// A body of this type has no trailers that could be lost.
    fn rebuild(replay: Replay) -> Self {
        Self::new(replay.data)
    }
}

/// A body that was read: one frame of all its bytes, then its trailers.
pub struct Replay {
    pub(super) data: Bytes,
    trailers: Option<HeaderMap>,
    /// Gives the bytes back to the budget once nobody holds them here.
    _charge: Charge,
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

/// Reads a body to its end: at most `limit` bytes, all of them charged to `budget` as they come.
pub(super) async fn read<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
    budget: &Arc<Budget>,
) -> Result<Replay, AuthErrorKind> {
    let expected = body.size_hint();
    if expected.lower() > limit as u64 {
        return Err(AuthErrorKind::BodyTooLarge);
    }
    let mut body = pin!(body);
    let mut charge = budget.charge();
    let mut parts = Parts::default();
    let mut trailers = None;
    let mut empty = 0;
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| AuthErrorKind::MalformedBody)?.into_data() {
            Ok(data) if data.is_empty() => {
                empty += 1;
                if empty > MAX_EMPTY_FRAMES {
                    return Err(AuthErrorKind::MalformedBody);
                }
            }
            Ok(data) => {
                if data.len() > limit.saturating_sub(parts.len()) {
                    return Err(AuthErrorKind::BodyTooLarge);
                }
                if !charge.add(data.len()) {
                    return Err(AuthErrorKind::Overloaded);
                }
                parts.push(data, expected.exact());
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Replay { data: parts.into_bytes(), trailers, _charge: charge })
}

/// The bytes so far: a body of one frame is never copied.
#[derive(Default)]
struct Parts {
    first: Bytes,
    all: BytesMut,
}

impl Parts {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, data: Bytes, expected: Option<u64>) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            // Never much more than has arrived: a declared length costs nobody who declares it anything.
            let arrived = first.len() + data.len();
            let expected = expected.and_then(|expected| usize::try_from(expected).ok()).unwrap_or_default();
            self.all.reserve(expected.clamp(arrived, 2 * arrived));
            self.all.extend_from_slice(&first);
        }
        self.all.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// How many bytes of bodies may be held at once.
pub(super) struct Budget {
    used: AtomicUsize,
    cap: usize,
}

impl Budget {
    pub(super) fn new(cap: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), cap })
    }

    /// Whether there is room for so many bytes at this moment.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.cap
    }

    fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: Arc::clone(self), bytes: 0 }
    }
}

/// What one body takes of the budget, until it is dropped.
struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Takes more, or nothing and returns `false`.
    fn add(&mut self, bytes: usize) -> bool {
        let within = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.budget.cap);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
