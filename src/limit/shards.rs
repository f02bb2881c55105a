//! A map of what was spent, with an upper bound: entries that say nothing any more go first, then those of the lowest rank.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gcra::{FullAt, Ticks};
use crate::clock::Timestamp;

/// At least, where there is more room than this; and of a large map no part is larger.
const SHARDS: usize = 16;
const SHARD: usize = 4096;
/// Of a full shard, one part in so many goes at once. All of its entries are ranked for that: so an insertion costs as many
/// steps on average, and nobody stays or goes by chance.
const PARTS: usize = 16;

/// What is remembered of one key.
pub(super) trait Spent: Default {
    /// The lowest go first when there is no room.
    type Rank: Ord;

    /// When it says no more than nothing would.
    fn gone_at(&self) -> FullAt;

    /// How much would be lost if it were forgotten now.
    fn rank(&self, now: Ticks) -> Self::Rank;
}

/// Split into parts with a lock each, which is never held while anything waits.
pub(super) struct Shards<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    picks: RandomState,
    room: usize,
}

/// Hashed with a random seed: nobody can choose keys that collide (C7-04).
type Shard<K, V> = HashMap<K, V>;

impl<K: Hash + Eq + Clone, V: Spent> Shards<K, V> {
    /// With room for `capacity` entries, or a few more.
    pub(super) fn new(capacity: usize) -> Self {
        let shards = if capacity < SHARDS { 1 } else { capacity.div_ceil(SHARD).max(SHARDS) };
        let shard = || Mutex::new(HashMap::new());
        Self {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            picks: RandomState::new(),
            room: capacity.div_ceil(shards).max(1),
        }
    }

    /// What `read` makes of an entry, if there is one.
    pub(super) fn read<T>(&self, key: &K, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.shard(key)?.get(key).map(read)
    }

    /// What `change` makes of an entry, which begins as its default. It is kept if it then says something.
    pub(super) fn update<T>(&self, key: &K, now: Timestamp, change: impl FnOnce(&mut V) -> T) -> T {
        let Some(mut shard) = self.shard(key) else { return change(&mut V::default()) };
        if let Some(entry) = shard.get_mut(key) {
            return change(entry);
        }
        let mut entry = V::default();
        let result = change(&mut entry);
        let now = Ticks::at(now);
        if entry.gone_at().0 > now {
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

    /// Nothing is known of it any more.
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
        let index = self.picks.hash_one(key).checked_rem(shards)?;
        self.shards.get(usize::try_from(index).ok()?).map(lock)
    }
}

/// Every change is complete before anything can panic, so that a poisoned lock still guards what is true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_room<K: Hash + Eq, V: Spent>(shard: &mut Shard<K, V>, room: usize, now: Ticks) {
    if shard.len() < room {
        return;
    }
    shard.retain(|_, entry| entry.gone_at().0 > now);
    let stay = room.saturating_sub(room.div_ceil(PARTS));
    let mut ranks: Vec<V::Rank> = shard.values().map(|entry| entry.rank(now)).collect();
    let Some(last_to_go) = ranks.len().checked_sub(stay).and_then(|too_many| too_many.checked_sub(1)) else {
        return;
    };
    let (lower, highest, _) = ranks.select_nth_unstable(last_to_go);
    // Of those that have the same rank, some may have to go.
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
