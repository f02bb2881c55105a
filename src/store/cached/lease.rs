//! [`Lease`]: until when this node may answer from memory, and in which term.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::faults::{Fault, Faults};
use crate::clock::{Clock, Timestamp};

/// A moment on both clocks. The monotonic clock stops while the machine is suspended, and the wall clock may be
/// set. So a lease has expired as soon as either clock says so (C8-08).
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

/// A term: one registration of this node. An entry that was read in one term is invalid in every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term(u64);

/// The lease says that every change which returned before a certain moment has been applied in this term. Once
/// true, this stays true, so readers need no lock: they may use any granted moment of the right term that they see.
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

    /// Returns the current moment, if a lease of this term is in force.
    ///
    /// Call this *after* the entry was read, so that the lease is known to be in force at a moment after the read.
    pub(super) fn holds(&self, term: Term) -> Option<Moment> {
        let now = self.now();
        // Load first the end and then the term. `begin` stores them in the opposite order, so the end of the next
        // term is never taken for one of this term.
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

    /// Begins a new term, without a lease.
    pub(super) fn begin(&self) {
        self.end();
        self.term.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends the lease: nothing is answered from memory until the next grant.
    pub(super) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Grants a lease of the current term. Only the task that begins terms calls this.
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
