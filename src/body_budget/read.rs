//! Reads a body to its end, or discards it, within a deadline and a budget: 413, 408 and 503.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use super::budget::Charge;
use crate::auth_error::AuthErrorKind;

/// The number of frames without data after which a body counts as an attack.
const MAX_EMPTY_FRAMES: usize = 1024;

/// A body that was read to its end. `Debug` does not show its content.
#[non_exhaustive]
pub struct Collected {
    /// Its bytes.
    pub data: Bytes,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// The charge to the budget. Keep it as long as the bytes or anything that contains them.
    pub charge: Charge,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("charge", &self.charge).finish_non_exhaustive()
    }
}

/// Reads a body to its end: at most `limit` bytes, charged as they arrive, within the deadline `within`.
///
/// # Errors
///
/// [`BodyTooLarge`](AuthErrorKind::BodyTooLarge), [`BodyTimeout`](AuthErrorKind::BodyTimeout),
/// [`Overloaded`](AuthErrorKind::Overloaded) if the budget is exhausted, and
/// [`MalformedBody`](AuthErrorKind::MalformedBody) if the body ends early. The rest of the body stays unread.
pub(crate) async fn read<B: Body<Data = Bytes>>(
    body: Pin<&mut B>,
    limit: usize,
    within: Duration,
    charge: Charge,
) -> Result<Collected, AuthErrorKind> {
    let (budget, sender) = (charge.budget.clone(), charge.sender.clone());
    let mut reading = pin!(collect(body, limit, charge));
    // A body that is already there needs no timer.
    if let Poll::Ready(read) = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        return read;
    }
    let started = Instant::now();
    // The budget may fill while the body arrives, so the deadline is computed again at each step.
    let step = within / 10;
    loop {
        let left = budget.patience(within, sender.as_ref()).saturating_sub(started.elapsed());
        match timeout(left.min(step), reading.as_mut()).await {
            Ok(read) => return read,
            Err(_) if started.elapsed() >= budget.patience(within, sender.as_ref()) => {
                return Err(AuthErrorKind::BodyTimeout);
            }
            Err(_) => {}
        }
    }
}

async fn collect<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    limit: usize,
    mut charge: Charge,
) -> Result<Collected, AuthErrorKind> {
    let expected = body.size_hint();
    let Some(least) = usize::try_from(expected.lower()).ok().filter(|least| *least <= limit) else {
        return Err(AuthErrorKind::BodyTooLarge);
    };
    // Does not poll for data that would not fit.
    if expected.exact() != Some(0) && !charge.has_room_for(least.max(1)) {
        return Err(AuthErrorKind::Overloaded);
    }
    let mut parts = ReceivedBytes::default();
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
    Ok(Collected { data: parts.into_bytes(), trailers, charge })
}

/// The bytes received so far. A body of one frame is never copied.
#[derive(Default)]
struct ReceivedBytes {
    first: Bytes,
    all: BytesMut,
}

impl ReceivedBytes {
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
            // Allocates little more than has arrived, so that announcing a large length costs us nothing.
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

/// Reads and discards the rest of a body. Returns whether it ended within this many bytes and this time.
pub(crate) async fn drain<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    most: usize,
    within: Duration,
    mut charge: Charge,
) -> bool {
    let least = usize::try_from(body.size_hint().lower()).ok().filter(|least| *least <= most);
    if least.is_none_or(|least| !charge.has_room_for(least.max(1))) {
        return false;
    }
    let within = charge.budget.patience(within, charge.sender.as_ref());
    let reading = async {
        let (mut left, mut empty) = (most, 0);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let Some(data) = frame.data_ref() else { continue };
            empty += usize::from(data.is_empty());
            // Discarded bytes stay charged until the end, so that they count towards the sender's share.
            if data.len() > left || empty > MAX_EMPTY_FRAMES || !charge.add(data.len()) {
                return false;
            }
            left -= data.len();
        }
        true
    };
    timeout(within, reading).await.unwrap_or(false)
}
