//! A bounded, sharded map of what was spent: expired entries are evicted first, then those of the lowest rank.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gcra::{FullAt, Ticks};
use crate::clock::Timestamp;

/// The least number of shards of a map with more entries than this. Shards of a large map are no larger than this.
const SHARDS: usize = 16;
const SHARD: usize = 4096;
/// A full shard evicts one part in this many at once. This ranks all of its entries, so an insertion costs this many
/// steps on average, and no eviction is random.
const PARTS: usize = 16;

/// What is stored for one key.
pub(super) trait Evictable: Default {
    /// Entries with the lowest rank are evicted first.
    type Rank: Ord;

    /// When the entry expires: from then on it means the same as no entry.
    fn expires_at(&self) -> FullAt;

    /// How much would be lost if the entry were evicted now.
    fn rank(&self, now: Ticks) -> Self::Rank;
}

/// A map split into shards with a lock each. No lock is held across an `.await`.
pub(super) struct Shards<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    room: usize,
}

/// Hashed with a random seed, so that nobody can choose keys that collide (C7-04).
type Shard<K, V> = HashMap<K, V>;

impl<K: Hash + Eq + Clone, V: Evictable> Shards<K, V> {
    /// Creates a map with room for at least `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        let shards = if capacity < SHARDS { 1 } else { capacity.div_ceil(SHARD).max(SHARDS) };
        let shard = || Mutex::new(HashMap::new());
        Self {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            hasher: RandomState::new(),
            room: capacity.div_ceil(shards).max(1),
        }
    }

    /// Applies `read` to an entry, if there is one.
    pub(super) fn read<T>(&self, key: &K, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.shard(key)?.get(key).map(read)
    }

    /// Applies `change` to an entry, which starts as its default, and keeps the entry unless it has expired.
    pub(super) fn update<T>(&self, key: &K, now: Timestamp, change: impl FnOnce(&mut V) -> T) -> T {
        let Some(mut shard) = self.shard(key) else { return change(&mut V::default()) };
        if let Some(entry) = shard.get_mut(key) {
            return change(entry);
        }
        let mut entry = V::default();
        let result = change(&mut entry);
        let now = Ticks::at(now);
        if entry.expires_at().0 > now {
            make_room(&mut shard, self.room, now);
            shard.insert(key.clone(), entry);
        }
        result
    }

    /// Changes an entry, if there is one.
    pub(super) fn change(&self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some(mut shard) = self.shard(key)
            && let Some(entry) = shard.get_mut(key)
        {
            change(entry);
        }
    }

    /// Removes an entry.
    pub(super) fn forget(&self, key: &K) {
        if let Some(mut shard) = self.shard(key) {
            shard.remove(key);
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, key: &K) -> Option<MutexGuard<'_, Shard<K, V>>> {
        let shards = u64::try_from(self.shards.len()).ok()?;
        let index = self.hasher.hash_one(key).checked_rem(shards)?;
        self.shards.get(usize::try_from(index).ok()?).map(lock)
    }
}

/// Ignores poisoning: every change is complete before anything can panic, so the data is still consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_room<K: Hash + Eq, V: Evictable>(shard: &mut Shard<K, V>, room: usize, now: Ticks) {
    if shard.len() < room {
        return;
    }
    shard.retain(|_, entry| entry.expires_at().0 > now);
    let stay = room.saturating_sub(room.div_ceil(PARTS));
    let mut ranks: Vec<V::Rank> = shard.values().map(|entry| entry.rank(now)).collect();
    let Some(last_to_go) = ranks.len().checked_sub(stay).and_then(|too_many| too_many.checked_sub(1)) else {
        return;
    };
    let (lower, highest, _) = ranks.select_nth_unstable(last_to_go);
    // Among entries of equal rank, only some may have to go.
    let mut alike = 1 + lower.iter().filter(|rank| *rank == &*highest).count();
    shard.retain(|_, entry| match entry.rank(now).cmp(highest) {
        Ordering::Less => false,
        Ordering::Equal if alike > 0 => {
            alike -= 1;
            false
        }
        Ordering::Equal | Ordering::Greater => true,
    });
}
