//! Faults that tests inject, one at a time, to show that the tests find them. They exist only in this crate's own
//! tests.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg_attr(not(test), allow(dead_code, reason = "only tests plant them"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Entries are returned without a lease.
    LeaseNotChecked = 1,
    /// The lease starts at the acknowledgement, instead of before the log was read.
    LeaseFromAcknowledgement,
    /// The lease is much longer than the table of nodes says.
    LeaseTooLong,
    /// The stamp of an entry is taken after the read, instead of before.
    StampedAfterRead,
    /// Changes are acknowledged, but not applied to entries of existing keys.
    NotApplied,
    /// Changes are acknowledged, and applied some time later.
    AppliedLate,
    /// Entries of unknown keys stay for ever: changes do not remove them, and they do not expire.
    AbsentForEver,
    /// A node that was fenced keeps its entries.
    FenceIgnored,
    /// A node keeps its id although it does not know whether an acknowledgement has arrived.
    DoubtForgotten,
    /// A request that waits for another's look-up takes its answer, although the look-up began before a change.
    OldAnswerShared,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    #[cfg(test)]
    planted: Arc<AtomicUsize>,
}

impl Faults {
    #[cfg(not(test))]
    #[inline]
    #[allow(clippy::unused_self, reason = "as in tests")]
    pub(super) const fn has(&self, _: Fault) -> bool {
        false
    }

    #[cfg(test)]
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.planted.load(Ordering::SeqCst) == fault as usize
    }

    #[cfg(test)]
    pub(super) fn plant(&self, fault: Fault) {
        self.planted.store(fault as usize, Ordering::SeqCst);
    }
}
