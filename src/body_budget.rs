//! [`Budget`]: limits how many bytes of request bodies are held at once, and gives each client a share.
//!
//! Every place that reads a body has a [`Budget`]. Bytes are charged when they arrive, not when their length is
//! announced, and stay charged until they are dropped.
//!
//! # Shares
//!
//! A known [`Sender`] may hold at most a third of what is free: a quarter of the cap if it is alone, less if there
//! are several. So no number of senders can fill the budget, and a new one always finds room (network switches
//! share their buffers in this way: Choudhury and Hahne, "Dynamic queue length thresholds", 1998). If a quarter of
//! the cap is less than one body of the largest size, that size is the share, as far as it fits into the cap.
//!
//! Unknown senders have no share. For all senders, the read deadline shrinks as the cap or the sender's share
//! fills: it is the full deadline while half of both is free, and a tenth of it when one is full.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use crate::auth_error::AuthErrorKind;
use crate::key::UserId;
use crate::limit::Client;

/// The number of frames without data after which a body counts as an attack.
const MAX_EMPTY_FRAMES: usize = 1024;

/// The client whose share of the budget a body is charged to, as far as it is known.
///
/// A client is an IPv4 address, an IPv6 /64, or a user.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sender(Option<SenderId>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum SenderId {
    Address(Client),
    Owner(UserId),
}

impl Sender {
    /// An unknown client: there is no share, only the deadline.
    pub const UNKNOWN: Self = Self(None);

    /// A client at this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self(Some(SenderId::Address(address.into())))
    }

    /// A client that has proven to be this user.
    #[must_use]
    pub fn owner(user: &UserId) -> Self {
        Self(Some(SenderId::Owner(user.clone())))
    }

    /// Whether the client is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Some(SenderId::Address(_)) => "Sender(address)",
            Some(SenderId::Owner(_)) => "Sender(owner)",
            None => "Sender(unknown)",
        })
    }
}

/// Limits how many bytes of bodies are held at once. Clones share one budget.
///
/// ```
/// use std::time::Duration;
/// use http_body_util::Full;
/// use tower_api_key::body_budget::{Budget, Sender};
///
/// # async fn f() -> Result<(), tower_api_key::AuthErrorKind> {
/// // Four mebibytes for all bodies, and at most 16 KiB for each.
/// let budget = Budget::new(4 << 20, 16 << 10);
/// let room = budget.room(Sender::at([192, 0, 2, 7].into()));
/// let body = room.read(Full::from("{}"), 16 << 10, Duration::from_secs(10)).await?;
/// assert_eq!(body.data, "{}");
/// // Its bytes are returned to the budget when `body.charge` is dropped.
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Budget(Arc<BudgetState>);

struct BudgetState {
    cap: usize,
    /// What a sender may hold if it is the only one.
    most: usize,
    held: Mutex<HeldBytes>,
}

#[derive(Default)]
struct HeldBytes {
    all: usize,
    /// Only senders that hold something.
    by_sender: HashMap<SenderId, usize>,
}

impl Budget {
    /// Creates a budget of `cap` bytes for bodies of at most `largest` bytes each. A budget of zero bytes accepts
    /// no body.
    #[must_use]
    pub fn new(cap: usize, largest: usize) -> Self {
        Self(Arc::new(BudgetState { cap, most: (cap / 4).max(largest).min(cap), held: Mutex::default() }))
    }

    /// Returns the part of the budget that bodies of this sender may use.
    #[must_use]
    pub fn room(&self, sender: Sender) -> Room {
        Room { budget: self.clone(), sender }
    }

    pub(crate) fn cap(&self) -> usize {
        self.0.cap
    }

    /// Whether this many bytes are free now, without regard to shares.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.held().all.saturating_add(bytes) <= self.0.cap
    }

    /// Starts a charge for a body of which nothing has arrived.
    pub(crate) fn charge(&self, sender: &Sender) -> Charge {
        Charge { budget: self.clone(), sender: sender.0.clone(), bytes: 0 }
    }

    /// The deadline for a body of this sender now, up to `whole`. It depends on the fuller of the cap and the
    /// sender's share.
    fn patience(&self, whole: Duration, sender: Option<&SenderId>) -> Duration {
        let held = self.held();
        let (cap, free) = (self.0.cap as u128, self.0.cap.saturating_sub(held.all) as u128);
        let mut scarce = part(free, cap);
        if let Some(who) = sender {
            let (own, most) = (held.of(who) as u128, self.0.most as u128);
            // As much as `fits` would still allow it.
            let more = (free * most).saturating_sub(own * (cap - most)) / cap.max(1);
            scarce = scarce.min(part(more, own + more));
        }
        whole.saturating_mul(100 + scarce * 9 / 10) / 1000
    }

    fn held(&self) -> MutexGuard<'_, HeldBytes> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The free part, in thousandths and doubled, so that it is 1000 while at least half is free.
fn part(free: u128, all: u128) -> u32 {
    u32::try_from((free * 2000 / all.max(1)).min(1000)).unwrap_or(1000)
}

impl HeldBytes {
    fn of(&self, who: &SenderId) -> usize {
        self.by_sender.get(who).copied().unwrap_or_default()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("cap", &self.0.cap)
            .field("held", &self.held().all)
            .finish_non_exhaustive()
    }
}

/// The part of a budget that one sender's bodies may use. [`settle`](crate::unread_body::settle) puts it into the
/// extensions of a request.
#[derive(Clone, Debug)]
pub struct Room {
    budget: Budget,
    sender: Sender,
}

impl Room {
    /// Reads a body to its end: at most `limit` bytes, charged as they arrive, within the deadline `within`, which
    /// shrinks as the budget fills.
    ///
    /// # Errors
    ///
    /// [`BodyTooLarge`](AuthErrorKind::BodyTooLarge), [`BodyTimeout`](AuthErrorKind::BodyTimeout),
    /// [`Overloaded`](AuthErrorKind::Overloaded) if the budget is exhausted, and
    /// [`MalformedBody`](AuthErrorKind::MalformedBody) if the body ends early.
    pub async fn read<B>(&self, body: B, limit: usize, within: Duration) -> Result<Collected, AuthErrorKind>
    where
        B: Body<Data = Bytes>,
    {
        read(pin!(body), limit, within, self.charge()).await
    }

    pub(crate) fn charge(&self) -> Charge {
        self.budget.charge(&self.sender)
    }
}

/// The bytes that one body takes from a budget, until it is dropped.
pub struct Charge {
    budget: Budget,
    sender: Option<SenderId>,
    bytes: usize,
}

impl Charge {
    /// Whether the budget allows this many more bytes now.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.fits(&self.budget.held(), bytes)
    }

    fn fits(&self, held: &HeldBytes, bytes: usize) -> bool {
        let BudgetState { cap, most, .. } = *self.budget.0;
        let Some(free) = held.all.checked_add(bytes).and_then(|all| cap.checked_sub(all)) else {
            return false;
        };
        let Some(who) = &self.sender else { return true };
        let own = held.of(who).saturating_add(bytes);
        // own <= free * most / (cap - most). For the only sender, `free = cap - own`, so that `own <= most`.
        own as u128 * (cap - most) as u128 <= free as u128 * most as u128
    }

    /// Charges more bytes, or returns `false` and charges nothing.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        let mut held = self.budget.held();
        if !self.fits(&held, bytes) {
            return false;
        }
        held.all += bytes;
        if let Some(who) = &self.sender {
            *held.by_sender.entry(who.clone()).or_default() += bytes;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.held();
        held.all = held.all.saturating_sub(self.bytes);
        if let Some(who) = &self.sender {
            let left = held.of(who).saturating_sub(self.bytes);
            if left == 0 {
                held.by_sender.remove(who);
            } else {
                held.by_sender.insert(who.clone(), left);
            }
        }
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In every order of events: never more than the cap, never more than its share for one sender, and all is
        /// returned.
        #[test]
        fn c17_b5_no_sender_has_more_than_its_share(
            cap in 1_usize..10_000,
            largest in 1_usize..5_000,
            steps in vec((0_u8..6, 1_usize..3_000, any::<bool>()), 1..100),
        ) {
            let budget = Budget::new(cap, largest);
            let most = (cap / 4).max(largest.min(cap));
            let mut charges = Vec::new();
            let mut own = [0_usize; 6];
            for (sender, bytes, add) in steps {
                let at = usize::from(sender);
                let named = match sender {
                    0 => Sender::UNKNOWN,
                    last => Sender::at([192, 0, 2, last].into()),
                };
                if add {
                    let mut charge = budget.charge(&named);
                    if charge.add(bytes) {
                        own[at] += bytes;
                        charges.push((at, charge));
                    }
                } else if !charges.is_empty() {
                    let (at, charge) = charges.swap_remove(bytes % charges.len());
                    own[at] -= charge.bytes;
                }
                prop_assert_eq!(budget.held().all, own.iter().sum::<usize>());
                prop_assert!(budget.held().all <= cap);
                prop_assert!(own[1..].iter().all(|own| *own <= most));
                let whole = Duration::from_secs(10);
                let patience = budget.patience(whole, named.0.as_ref());
                prop_assert!((whole / 10..=whole).contains(&patience));
            }
            charges.clear();
            prop_assert_eq!(budget.held().all, 0);
            prop_assert!(budget.held().by_sender.is_empty());
            // A sender that is alone can use its whole share.
            let mut charge = budget.charge(&Sender::at([192, 0, 2, 1].into()));
            prop_assert!(!charge.has_room_for(most + 1));
            prop_assert!(charge.add(most));
        }
    }
}
