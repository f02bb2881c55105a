//! The lease: until when this node may answer from memory, and on the strength of what.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::faults::{Fault, Faults};
use crate::clock::{Clock, Timestamp};

/// A moment on both clocks. The monotonic one stands still in a suspended machine, the other one may be set: what ends
/// has ended as soon as either says so (C8-08).
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Nanoseconds of the monotonic clock since the lease was made.
    nanos: u64,
    wall: Timestamp,
}

impl Moment {
    pub(super) fn plus(self, by: Duration) -> Self {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        Self { nanos: self.nanos.saturating_add(nanos), wall: self.wall.saturating_add(by) }
    }

    pub(super) fn is_before(self, end: Self) -> bool {
        self.nanos < end.nanos && self.wall < end.wall
    }
}

/// One stay among the nodes that changes wait for. What was read in one is worth nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term(u64);

/// What is granted is a pair: "no change that was not applied in this term has returned before that moment". As that is
/// true for ever once it is true, readers need no lock: whichever granted moment of the right term they see, they may
/// go by.
pub(super) struct Lease {
    began: Instant,
    clock: Arc<dyn Clock>,
    until: AtomicU64,
    wall_until: AtomicI64,
    term: AtomicU64,
    faults: Faults,
}

impl Lease {
    pub(super) fn new(clock: Arc<dyn Clock>, faults: Faults) -> Self {
        Self {
            began: Instant::now(),
            clock,
            until: AtomicU64::new(0),
            wall_until: AtomicI64::new(i64::MIN),
            term: AtomicU64::new(0),
            faults,
        }
    }

    pub(super) fn now(&self) -> Moment {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Moment { nanos, wall: self.clock.now() }
    }

    /// The present, if a lease of this term is in force.
    ///
    /// Asked *after* the entry was read: whatever happens in between, the answer is about the moment of the question.
    pub(super) fn holds(&self, term: Term) -> Option<Moment> {
        let now = self.now();
        // First the end, then the term: `begin` goes the other way round, so an end of the next term is never taken
        // for one of this.
        let end = Moment {
            nanos: self.until.load(Ordering::SeqCst),
            wall: Timestamp::from_micros(self.wall_until.load(Ordering::SeqCst)),
        };
        let granted = now.is_before(end) && self.term() == term;
        (granted || self.faults.has(Fault::LeaseNotChecked)).then_some(now)
    }

    pub(super) fn term(&self) -> Term {
        Term(self.term.load(Ordering::SeqCst))
    }

    pub(super) fn is_held(&self) -> bool {
        self.holds(self.term()).is_some()
    }

    /// Another term begins, without a lease.
    pub(super) fn begin(&self) {
        self.end();
        self.term.fetch_add(1, Ordering::SeqCst);
    }

    /// Nothing is served any more until the next grant.
    pub(super) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Grants the present term, by the only one who begins terms.
    pub(super) fn grant(&self, end: Moment) {
        self.wall_until.store(end.wall.as_micros(), Ordering::SeqCst);
        self.until.store(end.nanos, Ordering::SeqCst);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("held", &self.is_held()).finish_non_exhaustive()
    }
}
