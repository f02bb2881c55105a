//! Faults that tests plant, one at a time, to see that they are found. Outside of this crate's own tests there are none.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg_attr(not(test), allow(dead_code, reason = "only tests plant them"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Entries are served whether there is a lease or not.
    LeaseNotChecked = 1,
    /// The lease runs from the acknowledgement, and not from before the log was read.
    LeaseFromAcknowledgement,
    /// The lease runs much longer than the table of nodes says.
    LeaseTooLong,
    /// What an entry was read under is looked up after it was read.
    StampedAfterRead,
    /// What the log says is acknowledged and not applied to what is known to be there.
    NotApplied,
    /// It is acknowledged, and applied some time later.
    AppliedLate,
    /// What is known not to be there stays so: changes do not drop it, and it does not age.
    AbsentForEver,
    /// A node that was fenced goes on with what it has.
    FenceIgnored,
    /// A node goes on under its id when it does not know whether an acknowledgement has arrived.
    DoubtForgotten,
    /// Whoever waits for somebody else's look-up takes what that finds, though it began before a change.
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
