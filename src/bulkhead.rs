//! Shares out turns and places to wait: by client or owner before by all, so that one with very much work keeps only
//! itself waiting.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much there is to share out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// How much is done at once.
    pub(crate) turns: usize,
    /// How much of that may be for one.
    pub(crate) turns_of_one: usize,
    /// How much is done or waits. As much is for one as there is room left for others.
    pub(crate) places: usize,
}

/// Lets a few in at once, and some of one. What is more waits, first with its own like and then with the others.
pub(crate) struct Bulkhead<K> {
    room: Room,
    turns: Arc<Semaphore>,
    shares: Arc<Mutex<Shares<K>>>,
}

struct Shares<K> {
    taken: usize,
    /// Of those only who have something done or waiting now.
    of: HashMap<K, Share>,
}

struct Share {
    taken: usize,
    turns: Arc<Semaphore>,
}

/// There is no room to wait in.
#[derive(Debug)]
pub(crate) struct Full;

impl<K: Clone + Eq + Hash> Bulkhead<K> {
    pub(crate) fn new(room: Room) -> Self {
        let shares = Shares { taken: 0, of: HashMap::new() };
        Self { room, turns: Arc::new(Semaphore::new(room.turns)), shares: Arc::new(Mutex::new(shares)) }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, of: &K) -> Result<Turn<K>, Full> {
        let (seat, own) = self.seat(of)?;
        if let Ok(own) = Arc::clone(&own).try_acquire_owned()
            && let Ok(common) = Arc::clone(&self.turns).try_acquire_owned()
        {
            return Ok(Turn { _common: common, _own: own, _seat: seat, waited: false });
        }
        // Semaphores that are never closed.
        let own = own.acquire_owned().await.map_err(|_| Full)?;
        let common = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Full)?;
        Ok(Turn { _common: common, _own: own, _seat: seat, waited: true })
    }

    fn seat(&self, of: &K) -> Result<(Seat<K>, Arc<Semaphore>), Full> {
        let mut shares = lock(&self.shares);
        let free = self.room.places.saturating_sub(shares.taken);
        let new = || Share { taken: 0, turns: Arc::new(Semaphore::new(self.room.turns_of_one)) };
        let share = shares.of.entry(of.clone()).or_insert_with(new);
        if share.taken >= free {
            // An entry is kept only for those who have something done or waiting.
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

/// Every change is complete before anything can panic.
fn lock<K>(shares: &Mutex<Shares<K>>) -> MutexGuard<'_, Shares<K>> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A turn, which ends when it is dropped.
pub(crate) struct Turn<K: Eq + Hash> {
    _common: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _seat: Seat<K>,
    waited: bool,
}

impl<K: Eq + Hash> Turn<K> {
    /// Whether it did not come at once.
    pub(crate) fn was_waited_for(&self) -> bool {
        self.waited
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

    const ROOM: Room = Room { turns: 16, turns_of_one: 4, places: 512 };

    type Waiting<'b> = Pin<Box<dyn Future<Output = Result<Turn<u32>, Full>> + 'b>>;

    /// Comes in, and waits if it must.
    fn come(bulkhead: &Bulkhead<u32>, of: u32) -> (Waiting<'_>, Poll<Result<Turn<u32>, Full>>) {
        let mut waiting: Waiting<'_> = Box::pin(async move { bulkhead.turn(&of).await });
        let polled = poll(&mut waiting);
        (waiting, polled)
    }

    fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<Turn<u32>, Full>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn c17_b1_one_has_a_few_turns_and_waits_in_half_of_the_room() {
        let bulkhead = Bulkhead::new(ROOM);
        let (mut turns, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..2 * ROOM.places {
            let (future, polled) = come(&bulkhead, 1);
            match polled {
                Poll::Ready(Ok(turn)) => turns.push(turn),
                Poll::Ready(Err(Full)) => refused += 1,
                Poll::Pending => waiting.push(future),
            }
        }
        let expected = (ROOM.turns_of_one, ROOM.places / 2 - ROOM.turns_of_one, ROOM.places * 3 / 2);
        assert_eq!((turns.len(), waiting.len(), refused), expected);
        // Others come in at once.
        for other in [2, 3] {
            assert!(matches!(come(&bulkhead, other).1, Poll::Ready(Ok(_))));
        }
        // A turn that ends is the next one's, and so is one that nobody waits for any more.
        turns.pop();
        drop(waiting.remove(0));
        assert!(matches!(poll(&mut waiting[0]), Poll::Ready(Ok(turn)) if turn.was_waited_for()));
        drop((turns, waiting));
        let shares = lock(&bulkhead.shares);
        assert_eq!((shares.taken, shares.of.len()), (0, 0), "nothing is left of them");
    }

    #[test]
    fn c17_b1_however_many_come_the_room_is_bounded_and_some_is_left() {
        let bulkhead = Bulkhead::new(ROOM);
        let mut kept = Vec::new();
        for round in (0_u32..100).cycle().take(4 * ROOM.places) {
            let (future, polled) = come(&bulkhead, round);
            if !matches!(polled, Poll::Ready(Err(Full))) {
                kept.push((future, polled));
            }
        }
        assert!((ROOM.places * 9 / 10..ROOM.places).contains(&kept.len()), "{}", kept.len());
        // A newcomer finds a place to wait in.
        assert!(come(&bulkhead, 1_000).1.is_pending());
        drop(kept);
        assert!(lock(&bulkhead.shares).of.is_empty());
        assert!(matches!(come(&bulkhead, 1_000).1, Poll::Ready(Ok(_))));
    }
}
