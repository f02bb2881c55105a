//! The audit log and the usage of a [`MemoryStore`](super::MemoryStore).

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::audit::{AuditEntry, KeyEvent};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::usage::{Usage, UsageChannel};

/// How many of the newest entries are kept per key, so that a client that keeps renaming a key cannot fill the
/// memory.
const KEPT_PER_KEY: usize = 100;

/// The entries of each key, oldest first.
#[derive(Default)]
pub(super) struct AuditEntries(HashMap<KeyId, VecDeque<AuditEntry>>);

impl AuditEntries {
    pub(super) fn write(&mut self, at: Timestamp, key: &KeyRecord, by: &Authority, event: KeyEvent) {
        let entries = self.0.entry(key.id.clone()).or_default();
        if entries.len() >= KEPT_PER_KEY {
            entries.pop_front();
        }
        entries.push_back(AuditEntry::new(at, key, by, event));
    }

    /// Counts the updates of a key since a time, among the entries that are kept.
    pub(super) fn changes_since(&self, key: &KeyId, since: Timestamp) -> u64 {
        let entries = self.0.get(key).into_iter().flatten();
        let changes = entries.filter(|entry| entry.at > since && matches!(entry.event, KeyEvent::Updated(_)));
        changes.count().try_into().unwrap_or(u64::MAX)
    }

    pub(super) fn of(&self, key: &KeyId, limit: u32) -> Vec<AuditEntry> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.0.get(key).into_iter().flatten().rev().take(limit).cloned().collect()
    }
}

/// When keys were last used, and how often: one entry for each key and channel.
#[derive(Default)]
pub(super) struct Used(BTreeMap<KeyId, BTreeMap<UsageChannel, (Timestamp, u64)>>);

impl Used {
    pub(super) fn add(&mut self, batch: &[Usage]) {
        for new in batch {
            let ways = self.0.entry(new.key.clone()).or_default();
            let (last, count) = ways.entry(new.through.clone()).or_insert((new.last, 0));
            *last = new.last.max(*last);
            *count = count.saturating_add(new.count);
        }
    }

    pub(super) fn of(&self, keys: &[KeyId]) -> Vec<Usage> {
        let mut keys: Vec<_> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let ways = keys.into_iter().filter_map(|key| self.0.get_key_value(key));
        let usage = |(key, ways): (&KeyId, &BTreeMap<UsageChannel, (Timestamp, u64)>)| {
            let key = key.clone();
            let of_way = move |(through, (last, count)): (&UsageChannel, &(Timestamp, u64))| {
                Usage::new(key.clone(), through.clone(), *last, *count)
            };
            ways.iter().map(of_way).collect::<Vec<_>>()
        };
        ways.flat_map(usage).collect()
    }
}
