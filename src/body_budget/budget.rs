//! [`Budget`], from which a [`Charge`] takes bytes for a [`Sender`].

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::key::UserId;
use crate::limit::Client;

/// The client whose share of the budget a body is charged to, as far as it is known.
///
/// A client is an IPv4 address, an IPv6 /64, or a user.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sender(Option<SenderId>);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum SenderId {
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
    pub(super) fn patience(&self, whole: Duration, sender: Option<&SenderId>) -> Duration {
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

/// The bytes that one body takes from a budget, until it is dropped.
pub struct Charge {
    pub(super) budget: Budget,
    pub(super) sender: Option<SenderId>,
    bytes: usize,
}

impl Charge {
    /// Whether the budget allows this many more bytes now.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
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
