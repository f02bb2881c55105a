//! Who may wait for a store: each client has its share, so that one with very many requests keeps only itself waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::limit::Client;

/// How many requests ask a store at once: as many as the queues of the built-in ones take.
const AT_ONCE: usize = 1024;
/// How many of them may be of one client.
const OF_ONE: usize = AT_ONCE / 4;
/// How many ask or wait for their turn to ask.
const PLACES: usize = 32 * AT_ONCE;

/// Whose look-ups share what.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// Requests of a client. Those whose address nobody knows are one.
    Request(Option<Client>),
    /// Keys that are to be ended by themselves: a flood of requests does not hold that up.
    #[cfg(feature = "manage")]
    SelfRevoke(Option<Client>),
}

/// Lets a quarter of all look-ups be of one client. What is more waits, by client and then with the others; and as many
/// wait of one client as there is room for others.
pub(super) struct Bulkhead {
    turns: Semaphore,
    shares: Mutex<Shares>,
}

#[derive(Default)]
struct Shares {
    taken: usize,
    /// Of those only who ask or wait now.
    of: HashMap<Asker, Share>,
}

struct Share {
    taken: usize,
    turns: Arc<Semaphore>,
}

/// There is no room to wait in.
#[derive(Debug)]
pub(super) struct Full;

impl Bulkhead {
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), shares: Mutex::default() }
    }

    /// Waits for a turn to ask the store.
    pub(super) async fn turn(&self, asker: Asker) -> Result<Turn<'_>, Full> {
        let (seat, own) = self.seat(asker)?;
        if let Ok(own) = Arc::clone(&own).try_acquire_owned()
            && let Ok(common) = self.turns.try_acquire()
        {
            return Ok(Turn { _common: common, _own: own, _seat: seat, waited: false });
        }
        // Semaphores that are never closed.
        let own = own.acquire_owned().await.map_err(|_| Full)?;
        let common = self.turns.acquire().await.map_err(|_| Full)?;
        Ok(Turn { _common: common, _own: own, _seat: seat, waited: true })
    }

    fn seat(&self, asker: Asker) -> Result<(Seat<'_>, Arc<Semaphore>), Full> {
        let mut shares = self.shares();
        let free = PLACES.saturating_sub(shares.taken);
        let share = shares.of.entry(asker);
        let share = share.or_insert_with(|| Share { taken: 0, turns: Arc::new(Semaphore::new(OF_ONE)) });
        if share.taken >= free {
            // Whoever holds none has found room.
            if share.taken == 0 {
                shares.of.remove(&asker);
            }
            return Err(Full);
        }
        share.taken += 1;
        let turns = Arc::clone(&share.turns);
        shares.taken += 1;
        Ok((Seat { bulkhead: self, asker }, turns))
    }

    /// Every change is complete before anything can panic.
    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look-up's turn, which ends when it is dropped.
pub(super) struct Turn<'b> {
    _common: SemaphorePermit<'b>,
    _own: OwnedSemaphorePermit,
    _seat: Seat<'b>,
    waited: bool,
}

impl Turn<'_> {
    pub(super) fn was_waited_for(&self) -> bool {
        self.waited
    }
}

struct Seat<'b> {
    bulkhead: &'b Bulkhead,
    asker: Asker,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut shares = self.bulkhead.shares();
        shares.taken = shares.taken.saturating_sub(1);
        if let Some(share) = shares.of.get_mut(&self.asker) {
            share.taken = share.taken.saturating_sub(1);
            if share.taken == 0 {
                shares.of.remove(&self.asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Waiting<'b> = Pin<Box<dyn Future<Output = Result<Turn<'b>, Full>> + 'b>>;

    fn of(last: u32) -> Asker {
        Asker::Request(Some(IpAddr::from(last.to_be_bytes()).into()))
    }

    /// Comes in, and waits if it must.
    fn come(bulkhead: &Bulkhead, asker: Asker) -> (Waiting<'_>, Poll<Result<Turn<'_>, Full>>) {
        let mut waiting: Waiting<'_> = Box::pin(bulkhead.turn(asker));
        let polled = poll(&mut waiting);
        (waiting, polled)
    }

    fn poll<'b>(waiting: &mut Waiting<'b>) -> Poll<Result<Turn<'b>, Full>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn c17_b1_one_client_asks_a_quarter_and_waits_in_half_of_the_room() {
        let bulkhead = Bulkhead::new();
        let (mut turns, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..2 * PLACES {
            let (future, polled) = come(&bulkhead, of(1));
            match polled {
                Poll::Ready(Ok(turn)) => turns.push(turn),
                Poll::Ready(Err(Full)) => refused += 1,
                Poll::Pending => waiting.push(future),
            }
        }
        assert_eq!((turns.len(), waiting.len(), refused), (OF_ONE, PLACES / 2 - OF_ONE, PLACES * 3 / 2));
        assert_eq!(bulkhead.shares().of.len(), 1);
        // Others come in at once, as does the same client's revocation.
        for other in [
            of(2),
            Asker::Request(None),
            #[cfg(feature = "manage")]
            Asker::SelfRevoke(None),
        ] {
            assert!(matches!(come(&bulkhead, other).1, Poll::Ready(Ok(_))));
        }
        // A turn that ends is the next one's, and so is one that nobody waits for any more.
        turns.pop();
        drop(waiting.remove(0));
        assert!(matches!(poll(&mut waiting[0]), Poll::Ready(Ok(_))));
        drop((turns, waiting));
        let shares = bulkhead.shares();
        assert_eq!((shares.taken, shares.of.len()), (0, 0), "nothing is left of them");
    }

    #[test]
    fn c17_b1_however_many_clients_there_are_the_room_is_bounded_and_some_is_left() {
        let bulkhead = Bulkhead::new();
        let mut kept = Vec::new();
        for round in 0..4 * PLACES {
            let client = u32::try_from(round % 100).unwrap();
            let (future, polled) = come(&bulkhead, of(client));
            if !matches!(polled, Poll::Ready(Err(Full))) {
                kept.push((future, polled));
            }
        }
        assert!((PLACES * 9 / 10..PLACES).contains(&kept.len()), "{}", kept.len());
        // A newcomer finds a place to wait in.
        assert!(come(&bulkhead, of(1_000)).1.is_pending());
        drop(kept);
        assert!(bulkhead.shares().of.is_empty());
        assert!(matches!(come(&bulkhead, of(1_000)).1, Poll::Ready(Ok(_))));
    }
}
