//! [`Bulkhead`]: limits concurrency overall and per key, such as a client or owner, so that a key with very much
//! work delays only itself.
//!
//! ```
//! use tower_api_key::bulkhead::{Bulkhead, Capacity, Full};
//!
//! # async fn f() -> Result<(), Full> {
//! let bulkhead = Bulkhead::new(Capacity { permits: 16, permits_per_key: 4, places: 256 });
//! let permit = bulkhead.acquire(&"alice").await?;
//! // This runs at most sixteen times at once, and at most four times for Alice.
//! drop(permit);
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of a [`Bulkhead`].
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// How many permits there are.
    pub permits: usize,
    /// How many of them one key may hold.
    pub permits_per_key: usize,
    /// How many tasks may hold a permit or wait. One key may take at most as many places as it leaves free for others.
    pub places: usize,
}

/// Limits concurrency overall and per key. A task beyond the limits waits, first for the others of its key, then
/// for all.
pub struct Bulkhead<K> {
    capacity: Capacity,
    turns: Arc<Semaphore>,
    shares: Arc<Mutex<Shares<K>>>,
}

struct Shares<K> {
    taken: usize,
    /// Only keys with a task that runs or waits.
    of: HashMap<K, Share>,
}

struct Share {
    taken: usize,
    turns: Arc<Semaphore>,
}

/// The error if no place is left to wait in.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many tasks are waiting")]
pub struct Full;

impl<K: Clone + Eq + Hash> Bulkhead<K> {
    /// Creates a bulkhead with these limits.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        let shares = Shares { taken: 0, of: HashMap::new() };
        Self {
            capacity,
            turns: Arc::new(Semaphore::new(capacity.permits)),
            shares: Arc::new(Mutex::new(shares)),
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`Full`], without waiting, if no place is left to wait in.
    pub async fn acquire(&self, of: &K) -> Result<Permit<K>, Full> {
        let (seat, own) = self.seat(of)?;
        if let Ok(own) = Arc::clone(&own).try_acquire_owned()
            && let Ok(common) = Arc::clone(&self.turns).try_acquire_owned()
        {
            return Ok(Permit { _common: common, _own: own, _seat: seat, waited: false });
        }
        // The semaphores are never closed.
        let own = own.acquire_owned().await.map_err(|_| Full)?;
        let common = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Full)?;
        Ok(Permit { _common: common, _own: own, _seat: seat, waited: true })
    }

    fn seat(&self, of: &K) -> Result<(Seat<K>, Arc<Semaphore>), Full> {
        let mut shares = lock(&self.shares);
        let free = self.capacity.places.saturating_sub(shares.taken);
        let new = || Share { taken: 0, turns: Arc::new(Semaphore::new(self.capacity.permits_per_key)) };
        let share = shares.of.entry(of.clone()).or_insert_with(new);
        if share.taken >= free {
            // An entry is kept only for keys with a task that runs or waits.
            if share.taken == 0 {
                shares.of.remove(of);
            }
            return Err(Full);
        }
        share.taken += 1;
        let turns = Arc::clone(&share.turns);
        shares.taken += 1;
        Ok((Seat { shares: Arc::clone(&self.shares), of: of.clone() }, turns))
    }
}

/// Ignores poisoning: every change is complete before anything can panic.
fn lock<K>(shares: &Mutex<Shares<K>>) -> MutexGuard<'_, Shares<K>> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allows a task to run until it is dropped.
#[must_use = "the permit is returned when it is dropped"]
pub struct Permit<K: Eq + Hash> {
    _common: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _seat: Seat<K>,
    waited: bool,
}

impl<K: Eq + Hash> Permit<K> {
    /// Whether the task had to wait for it.
    #[must_use]
    pub fn was_waited_for(&self) -> bool {
        self.waited
    }
}

impl<K> fmt::Debug for Bulkhead<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("waited", &self.waited).finish_non_exhaustive()
    }
}

struct Seat<K: Eq + Hash> {
    shares: Arc<Mutex<Shares<K>>>,
    of: K,
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut shares = lock(&self.shares);
        shares.taken = shares.taken.saturating_sub(1);
        if let Some(share) = shares.of.get_mut(&self.of) {
            share.taken = share.taken.saturating_sub(1);
            if share.taken == 0 {
                shares.of.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const CAPACITY: Capacity = Capacity { permits: 16, permits_per_key: 4, places: 512 };

    type Waiting<'b> = Pin<Box<dyn Future<Output = Result<Permit<u32>, Full>> + 'b>>;

    /// Polls `acquire` once.
    fn come(bulkhead: &Bulkhead<u32>, of: u32) -> (Waiting<'_>, Poll<Result<Permit<u32>, Full>>) {
        let mut waiting: Waiting<'_> = Box::pin(async move { bulkhead.acquire(&of).await });
        let polled = poll(&mut waiting);
        (waiting, polled)
    }

    fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<Permit<u32>, Full>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn c17_b1_one_has_a_few_turns_and_waits_in_half_of_the_room() {
        let bulkhead = Bulkhead::new(CAPACITY);
        let (mut turns, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..2 * CAPACITY.places {
            let (future, polled) = come(&bulkhead, 1);
            match polled {
                Poll::Ready(Ok(turn)) => turns.push(turn),
                Poll::Ready(Err(Full)) => refused += 1,
                Poll::Pending => waiting.push(future),
            }
        }
        let expected = (
            CAPACITY.permits_per_key,
            CAPACITY.places / 2 - CAPACITY.permits_per_key,
            CAPACITY.places * 3 / 2,
        );
        assert_eq!((turns.len(), waiting.len(), refused), expected);
        // Other keys get a permit at once.
        for other in [2, 3] {
            assert!(matches!(come(&bulkhead, other).1, Poll::Ready(Ok(_))));
        }
        // A released permit goes to the next waiter, and so does the place of a waiter that was dropped.
        turns.pop();
        drop(waiting.remove(0));
        assert!(matches!(poll(&mut waiting[0]), Poll::Ready(Ok(turn)) if turn.was_waited_for()));
        drop((turns, waiting));
        let shares = lock(&bulkhead.shares);
        assert_eq!((shares.taken, shares.of.len()), (0, 0), "nothing is left of them");
    }

    #[test]
    fn c17_b1_however_many_come_the_room_is_bounded_and_some_is_left() {
        let bulkhead = Bulkhead::new(CAPACITY);
        let mut kept = Vec::new();
        for round in (0_u32..100).cycle().take(4 * CAPACITY.places) {
            let (future, polled) = come(&bulkhead, round);
            if !matches!(polled, Poll::Ready(Err(Full))) {
                kept.push((future, polled));
            }
        }
        assert!((CAPACITY.places * 9 / 10..CAPACITY.places).contains(&kept.len()), "{}", kept.len());
        // A new key finds a place to wait in.
        assert!(come(&bulkhead, 1_000).1.is_pending());
        drop(kept);
        assert!(lock(&bulkhead.shares).of.is_empty());
        assert!(matches!(come(&bulkhead, 1_000).1, Poll::Ready(Ok(_))));
    }
}
