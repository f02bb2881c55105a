//! [`Memory`]: the cached answers of a node.

use std::sync::Arc;
use std::time::Duration;

use super::faults::Faults;
use super::lease::Lease;
use super::versioned::VersionedMap;
use crate::key::{ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::AccountStatus;
use crate::store::change_log::Change;

/// The cached answers, and the lease under which they may be used.
pub(super) struct Memory {
    pub(super) keys: VersionedMap<[u8; 32], Option<Arc<KeyRecord>>>,
    pub(super) standings: VersionedMap<(UserId, Option<ProjectId>), AccountStatus>,
    pub(super) lease: Lease,
    pub(super) lease_for: Duration,
    pub(super) faults: Faults,
}

impl Memory {
    pub(super) fn apply(&self, change: &Change) {
        match change {
            Change::Key(digest) => self.keys.forget(digest),
            Change::Owner(user) => self.standings.forget((user, None)),
            Change::Everything => {
                self.lease.begin();
                self.clear();
            }
        }
    }

    pub(super) fn clear(&self) {
        self.keys.clear();
        self.standings.clear();
    }
}
