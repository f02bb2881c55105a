//! How many bytes of request bodies are held at once, and how they are shared out among those who send them.
//!
//! Every place that reads a body has a [`Budget`]. Bytes are charged as they arrive, never as they are announced, and
//! until nobody holds them any more.
//!
//! # Shares
//!
//! A [`Sender`] that is known holds at most a third of what is left free: a quarter of the cap if it is alone, less if
//! there are several. So no number of senders fills the whole, and a newcomer finds room (this is how switches share their
//! buffers: Choudhury and Hahne, "Dynamic queue length thresholds", 1998). Where a quarter is less than one body of the
//! largest size, that size takes its place, as far as it fits into the cap.
//!
//! Those who are not known have no share. For everybody there is the deadline, which shortens as the cap or the sender's
//! share fills: it is the whole one while half of both is free, and a tenth of it when one is taken.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use crate::auth_error::AuthErrorKind;
use crate::key::UserId;
use crate::limit::Client;

/// Frames without data that a body may hold before it is taken for an attack.
const MAX_EMPTY_FRAMES: usize = 1024;

/// Who sends a body, as far as it is known: whose share of the room for bodies it takes.
///
/// An IPv4 client is an address, an IPv6 client a /64.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sender(Option<Who>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Address(Client),
    Owner(UserId),
}

impl Sender {
    /// Nobody knows who it is: there is no share, and only the deadline.
    pub const UNKNOWN: Self = Self(None);

    /// A client at this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self(Some(Who::Address(address.into())))
    }

    /// Somebody who has proven who they are.
    #[must_use]
    pub fn owner(user: &UserId) -> Self {
        Self(Some(Who::Owner(user.clone())))
    }

    /// Whether it is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Some(Who::Address(_)) => "Sender(address)",
            Some(Who::Owner(_)) => "Sender(owner)",
            None => "Sender(unknown)",
        })
    }
}

/// How many bytes of bodies may be held at once. Clones share them.
///
/// ```
/// use std::time::Duration;
/// use http_body_util::Full;
/// use tower_api_key::body_budget::{Budget, Sender};
///
/// # async fn f() -> Result<(), tower_api_key::AuthErrorKind> {
/// // Four mebibytes for all bodies, of which each has at most 16 KiB.
/// let budget = Budget::new(4 << 20, 16 << 10);
/// let room = budget.room(Sender::at([192, 0, 2, 7].into()));
/// let body = room.read(Full::from("{}"), 16 << 10, Duration::from_secs(10)).await?;
/// assert_eq!(body.data, "{}");
/// // What it takes of the budget is given back with `body.charge`.
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    cap: usize,
    /// What a sender may hold that is alone.
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    /// Only those who hold something.
    by_sender: HashMap<Who, usize>,
}

impl Budget {
    /// At most `cap` bytes of bodies that have at most `largest` bytes each. A budget of zero bytes has room for no body.
    #[must_use]
    pub fn new(cap: usize, largest: usize) -> Self {
        Self(Arc::new(Shared { cap, most: (cap / 4).max(largest).min(cap), held: Mutex::default() }))
    }

    /// Room in it for bodies of this sender, whose share they take.
    #[must_use]
    pub fn room(&self, sender: Sender) -> Room {
        Room { budget: self.clone(), sender }
    }

    pub(crate) fn cap(&self) -> usize {
        self.0.cap
    }

    /// Whether there is room for so many bytes at this moment, without regard to the sender.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.held().all.saturating_add(bytes) <= self.0.cap
    }

    /// Room for a body of which nothing has arrived.
    pub(crate) fn charge(&self, sender: &Sender) -> Charge {
        Charge { budget: self.clone(), sender: sender.0.clone(), bytes: 0 }
    }

    /// How long a body of this sender may take now of `whole`: by the scarcer of the whole room and the sender's share.
    fn patience(&self, whole: Duration, sender: Option<&Who>) -> Duration {
        let held = self.held();
        let (cap, free) = (self.0.cap as u128, self.0.cap.saturating_sub(held.all) as u128);
        let mut scarce = part(free, cap);
        if let Some(who) = sender {
            let (own, most) = (held.of(who) as u128, self.0.most as u128);
            // As much as `fits` would still let it have.
            let more = (free * most).saturating_sub(own * (cap - most)) / cap.max(1);
            scarce = scarce.min(part(more, own + more));
        }
        whole.saturating_mul(100 + scarce * 9 / 10) / 1000
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of it is free, in thousandths: all of it while half is.
fn part(free: u128, all: u128) -> u32 {
    u32::try_from((free * 2000 / all.max(1)).min(1000)).unwrap_or(1000)
}

impl Held {
    fn of(&self, who: &Who) -> usize {
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

/// Where a body finds room, and whose share of it the body takes.
/// [`settle`](crate::unread_body::settle) puts it into the extensions of a request.
#[derive(Clone, Debug)]
pub struct Room {
    budget: Budget,
    sender: Sender,
}

impl Room {
    /// Reads a body to its end: at most `limit` bytes, which are charged as they come, and not longer than `within`, which
    /// shortens as the budget fills.
    ///
    /// # Errors
    ///
    /// [`BodyTooLarge`](AuthErrorKind::BodyTooLarge), [`BodyTimeout`](AuthErrorKind::BodyTimeout),
    /// [`Overloaded`](AuthErrorKind::Overloaded) where there is no room, [`MalformedBody`](AuthErrorKind::MalformedBody)
    /// for one that broke off.
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

/// What one body takes of a budget, until it is dropped.
pub struct Charge {
    budget: Budget,
    sender: Option<Who>,
    bytes: usize,
}

impl Charge {
    /// Whether so many more bytes would be taken at this moment.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.fits(&self.budget.held(), bytes)
    }

    fn fits(&self, held: &Held, bytes: usize) -> bool {
        let Shared { cap, most, .. } = *self.budget.0;
        let Some(free) = held.all.checked_add(bytes).and_then(|all| cap.checked_sub(all)) else {
            return false;
        };
        let Some(who) = &self.sender else { return true };
        let own = held.of(who).saturating_add(bytes);
        // own <= free * most / (cap - most): a sender that is alone has `free = cap - own`, and so at most `most`.
        own as u128 * (cap - most) as u128 <= free as u128 * most as u128
    }

    /// Takes more, or nothing and returns `false`.
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

/// A body that was read to its end. `Debug` does not show it.
#[non_exhaustive]
pub struct Collected {
    /// Its bytes.
    pub data: Bytes,
    /// What came after them.
    pub trailers: Option<HeaderMap>,
    /// What it takes of the budget. Keep it for as long as the bytes, or what was made of them.
    pub charge: Charge,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("charge", &self.charge).finish_non_exhaustive()
    }
}

/// Reads a body to its end: at most `limit` bytes, all of them charged as they come, and not longer than `within`.
///
/// # Errors
///
/// [`BodyTooLarge`](AuthErrorKind::BodyTooLarge), [`BodyTimeout`](AuthErrorKind::BodyTimeout),
/// [`Overloaded`](AuthErrorKind::Overloaded) where there is no room, [`MalformedBody`](AuthErrorKind::MalformedBody)
/// for one that broke off. Its rest stays where it is.
pub(crate) async fn read<B: Body<Data = Bytes>>(
    body: Pin<&mut B>,
    limit: usize,
    within: Duration,
    mut charge: Charge,
) -> Result<Collected, AuthErrorKind> {
    let started = Instant::now();
    let (budget, sender) = (charge.budget.clone(), charge.sender.clone());
    // The room may fill while a body is waited for: how long it may take is asked again and again.
    let step = within / 10;
    let (data, trailers) = {
        let mut reading = pin!(collect(body, limit, &mut charge));
        loop {
            let left = budget.patience(within, sender.as_ref()).saturating_sub(started.elapsed());
            match timeout(left.min(step), reading.as_mut()).await {
                Ok(read) => break read?,
                Err(_) if started.elapsed() >= budget.patience(within, sender.as_ref()) => {
                    return Err(AuthErrorKind::BodyTimeout);
                }
                Err(_) => {}
            }
        }
    };
    Ok(Collected { data, trailers, charge })
}

async fn collect<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    limit: usize,
    charge: &mut Charge,
) -> Result<(Bytes, Option<HeaderMap>), AuthErrorKind> {
    let expected = body.size_hint();
    let Some(least) = usize::try_from(expected.lower()).ok().filter(|least| *least <= limit) else {
        return Err(AuthErrorKind::BodyTooLarge);
    };
    // What would not find room is not asked for.
    if expected.exact() != Some(0) && !charge.has_room_for(least.max(1)) {
        return Err(AuthErrorKind::Overloaded);
    }
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
    Ok((parts.into_bytes(), trailers))
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

/// Reads what is left of a body and keeps none of it: whether it came to its end within so many bytes and this time.
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
            // What was thrown away counts until this is over: so it is shared out like what is kept.
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
        /// Whatever comes and goes: never more than the cap, never more than its most for one sender, and all is given back.
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
            // A sender that is alone has all of its share.
            let mut charge = budget.charge(&Sender::at([192, 0, 2, 1].into()));
            prop_assert!(!charge.has_room_for(most + 1));
            prop_assert!(charge.add(most));
        }
    }
}
