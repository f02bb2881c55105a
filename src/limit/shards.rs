//! A map of what was spent, with an upper bound: entries that say nothing any more go first.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{FullAt, Ticks};
use crate::clock::Timestamp;

const SHARDS: usize = 16;
/// How many entries are looked at when one must go before its time.
const SAMPLE: usize = 8;
/// A full shard is swept at most this often, in seconds.
const SWEEP_EVERY: u32 = 1;

/// What is remembered of one key.
pub(super) trait Spent: Default {
    /// When it says no more than nothing would.
    fn gone_at(&self) -> FullAt;
}

/// Split into parts with a lock each, which is never held while anything waits.
pub(super) struct Shards<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    picks: RandomState,
    room: usize,
}

struct Shard<K, V> {
    /// Hashed with a random seed: nobody can choose keys that collide (C7-04).
    entries: HashMap<K, V>,
    swept: Option<Ticks>,
}

impl<K: Hash + Eq + Clone, V: Spent> Shards<K, V> {
    /// With room for `capacity` entries, or a few more.
    pub(super) fn new(capacity: usize) -> Self {
        let shards = if capacity < SHARDS { 1 } else { SHARDS };
        let shard = || Mutex::new(Shard { entries: HashMap::new(), swept: None });
        Self {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            picks: RandomState::new(),
            room: capacity.div_ceil(shards).max(1),
        }
    }

    /// What `read` makes of an entry, if there is one.
    pub(super) fn read<T>(&self, key: &K, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.shard(key)?.entries.get(key).map(read)
    }

    /// What `change` makes of an entry, which begins as its default. It is kept if it then says something.
    pub(super) fn update<T>(&self, key: &K, now: Timestamp, change: impl FnOnce(&mut V) -> T) -> T {
        let Some(mut shard) = self.shard(key) else { return change(&mut V::default()) };
        if let Some(entry) = shard.entries.get_mut(key) {
            return change(entry);
        }
        let mut entry = V::default();
        let result = change(&mut entry);
        let now = Ticks::at(now);
        if entry.gone_at().0 > now {
            shard.make_room(self.room, now);
            shard.entries.insert(key.clone(), entry);
        }
        result
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }

    fn shard(&self, key: &K) -> Option<MutexGuard<'_, Shard<K, V>>> {
        let shards = u64::try_from(self.shards.len()).ok()?;
        let index = self.picks.hash_one(key).checked_rem(shards)?;
        self.shards.get(usize::try_from(index).ok()?).map(lock)
    }
}

/// Every change is complete before anything can panic, so that a poisoned lock still guards what is true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq + Clone, V: Spent> Shard<K, V> {
    fn make_room(&mut self, room: usize, now: Ticks) {
        if self.entries.len() < room {
            return;
        }
        let sweep_every = Ticks::of_secs(SWEEP_EVERY);
        // In either direction: the clock may have jumped back.
        let recently = |swept: Ticks| swept <= now && now < swept.plus(sweep_every);
        if !self.swept.is_some_and(recently) {
            self.swept = Some(now);
            self.entries.retain(|_, entry| entry.gone_at().0 > now);
        }
        while self.entries.len() >= room {
            // Of a few, the one that says least: who has spent most is remembered longest.
            let least = self.entries.iter().take(SAMPLE).min_by_key(|(_, entry)| entry.gone_at());
            let Some(key) = least.map(|(key, _)| key.clone()) else { return };
            self.entries.remove(&key);
        }
    }
}
