//! [`VersionedMap`]: cached answers, each valid until its subject changes or the lease ends.

use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::clock_map::ClockMap;
use super::faults::{Fault, Faults};
use super::lease::{Lease, Moment, Term};
use super::single_flight::{LookupResult, SingleFlight, shared};
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::AccountStatus;
use crate::store::StoreError;

/// The seed is random, so that nobody can choose keys that collide (C7-04). Tests that replay a run use a fixed
/// hasher.
#[cfg(not(test))]
pub(super) type Seeded = foldhash::quality::RandomState;
#[cfg(test)]
pub(super) type Seeded = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// The number of version counters, a power of two. Subjects that share a counter are invalidated together.
const VERSIONS: usize = 1 << 14;
const SHARDS: usize = 64;
/// A map for fewer entries than this has one shard. With several, a shard could be full while the others are empty.
const SMALL: usize = 4096;
/// A map for fewer bytes than this has one shard too, because the heaviest key must fit into each shard.
const SMALL_BYTES: usize = SHARDS * 256 * 1024;

/// A look-up whose answer may be cached, in borrowed form.
pub(super) trait CacheLookup: Copy {
    /// The owned form, which is the key of the map.
    type Kept: Hash + Eq + Clone;

    /// The hash of the subject, which a change names: everything about it is invalidated together.
    fn subject(self, hasher: &Seeded) -> u64;
    /// The hash of the whole question.
    fn hash(self, subject: u64, hasher: &Seeded) -> u64;
    fn is(self, kept: &Self::Kept) -> bool;
    fn keep(self) -> Self::Kept;
    /// How many bytes it points to.
    fn weight(self) -> usize;
}

impl CacheLookup for &KeyDigest {
    /// The whole digest, and nothing else (C8-03).
    type Kept = [u8; 32];

    fn subject(self, hasher: &Seeded) -> u64 {
        hasher.hash_one(self.as_bytes())
    }

    fn hash(self, subject: u64, _: &Seeded) -> u64 {
        subject
    }

    fn is(self, kept: &[u8; 32]) -> bool {
        self.as_bytes() == kept
    }

    fn keep(self) -> [u8; 32] {
        *self.as_bytes()
    }

    fn weight(self) -> usize {
        0
    }
}

impl CacheLookup for (&UserId, Option<&ProjectId>) {
    type Kept = (UserId, Option<ProjectId>);

    fn subject(self, hasher: &Seeded) -> u64 {
        hasher.hash_one(self.0)
    }

    fn hash(self, subject: u64, hasher: &Seeded) -> u64 {
        self.1.map_or(subject, |project| hasher.hash_one((subject, project)))
    }

    fn is(self, kept: &Self::Kept) -> bool {
        self.0 == &kept.0 && self.1 == kept.1.as_ref()
    }

    fn keep(self) -> Self::Kept {
        (self.0.clone(), self.1.cloned())
    }

    fn weight(self) -> usize {
        self.0.as_str().len() + self.1.map_or(0, |project| project.as_str().len())
    }
}

/// An answer that may be cached.
pub(super) trait CachedAnswer: Clone {
    /// Whether the answer gives access. The number of such answers is limited by the keys and memberships in the
    /// store. A client can cause any number of others, so they have a small map of their own (C8-01).
    fn opens(&self) -> bool;
    /// How many bytes it points to.
    fn weight(&self) -> usize;
}

impl CachedAnswer for Option<Arc<KeyRecord>> {
    fn opens(&self) -> bool {
        self.is_some()
    }

    fn weight(&self) -> usize {
        self.as_ref().map_or(0, |key| key.memory_len())
    }
}

impl CachedAnswer for AccountStatus {
    fn opens(&self) -> bool {
        matches!(self, Self::Active { role: Some(_) })
    }

    fn weight(&self) -> usize {
        0
    }
}

/// How many answers are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheLimits {
    pub(super) open: usize,
    pub(super) closed: usize,
    /// The limit in bytes of the answers that give access. The others are small.
    pub(super) bytes: usize,
    pub(super) open_for: Duration,
    pub(super) closed_for: Duration,
}

/// The term and version under which an answer was read. It is taken *before* the read, so that a change that is
/// applied later invalidates the answer, whenever the answer arrives (C8-07).
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    term: Term,
    version: u64,
    at: Moment,
}

/// Caches answers, and returns them only under a lease.
pub(super) struct VersionedMap<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    /// Counters of the changes of subjects. Several subjects share a counter, and counters only increase.
    versions: Box<[AtomicU64]>,
    turns: SingleFlight<K, V>,
    hasher: Seeded,
    room: CacheLimits,
    faults: Faults,
}

struct Shard<K, V> {
    open: ClockMap<K, Kept<V>>,
    closed: ClockMap<K, Kept<V>>,
}

#[derive(Clone)]
struct Kept<V> {
    answer: V,
    term: Term,
    version: u64,
    until: Moment,
}

impl<K: Hash + Eq + Clone, V: CachedAnswer> VersionedMap<K, V> {
    pub(super) fn new(room: CacheLimits, faults: Faults) -> Self {
        let small = room.open.min(room.closed) < SMALL || room.bytes < SMALL_BYTES;
        let shards = if small { 1 } else { SHARDS };
        let shelves = || Shard {
            open: ClockMap::new(room.open.div_ceil(shards), room.bytes.div_ceil(shards)),
            closed: ClockMap::new(room.closed.div_ceil(shards), usize::MAX),
        };
        Self {
            shards: std::iter::repeat_with(|| RwLock::new(shelves())).take(shards).collect(),
            versions: std::iter::repeat_with(AtomicU64::default).take(VERSIONS).collect(),
            turns: SingleFlight::new(),
            hasher: Seeded::default(),
            room,
            faults,
        }
    }

    /// Returns the cached answer, if it is as current as the store's. Takes a lock that is never held for long, and
    /// allocates nothing.
    pub(super) fn warm<Q: CacheLookup<Kept = K>>(&self, lease: &Lease, question: Q) -> Option<V> {
        let subject = question.subject(&self.hasher);
        let hash = question.hash(subject, &self.hasher);
        let kept = {
            let shard = self.shard(subject)?.read().unwrap_or_else(PoisonError::into_inner);
            let is = |other: &K| question.is(other);
            shard.open.get(hash, is).or_else(|| shard.closed.get(hash, is))?.clone()
        };
        // After the entry was read, check in this order: is the lease in force, and has no change been applied that
        // invalidates the entry? A change that returned before this `now` has either ended the lease or been
        // applied. In the opposite order, a change between the two checks would be missed.
        let now = lease.holds(kept.term)?;
        let fresh =
            self.version(subject)?.load(Ordering::SeqCst) == kept.version || self.for_ever(&kept.answer);
        let young = now.is_before(kept.until) || self.for_ever(&kept.answer);
        (fresh && young).then_some(kept.answer)
    }

    /// Returns the answer from the cache, or by `look_up`. Of concurrent requests for the same question, one at a
    /// time asks the store, and the others share its answer.
    pub(super) async fn get<Q: CacheLookup<Kept = K>>(
        &self,
        lease: &Lease,
        question: Q,
        look_up: impl AsyncFnOnce() -> Result<V, StoreError>,
    ) -> Result<V, StoreError> {
        if let Some(answer) = self.warm(lease, question) {
            return Ok(answer);
        }
        if !lease.is_held() {
            // Without a lease, do as without a cache: a request must not use an answer whose look-up began before
            // it arrived.
            return look_up().await;
        }
        let arrived = self.turns.tick();
        let waiting = self.turns.enter(question.keep())?;
        let Some(turn) = waiting.turn() else { return look_up().await };
        let mut last = turn.lock().await;
        if let Some(answer) = self.warm(lease, question) {
            return Ok(answer);
        }
        let arrived = if self.faults.has(Fault::OldAnswerShared) { 0 } else { arrived };
        if let Some(answer) = last.as_ref().and_then(|outcome| outcome.for_arrival(arrived)) {
            return answer;
        }
        let (stamp, began) = (self.stamp(lease, question), self.turns.tick());
        let answer = look_up().await.map_err(Arc::new);
        if let (Ok(answer), Some(stamp)) = (&answer, stamp) {
            let late = self.faults.has(Fault::StampedAfterRead);
            let stamp = if late { self.stamp(lease, question).unwrap_or(stamp) } else { stamp };
            self.put(question, answer.clone(), stamp);
        }
        let outcome = last.insert(LookupResult { began, answer });
        outcome.answer.clone().map_err(shared)
    }

    /// Invalidates every answer about the subject of this question.
    pub(super) fn forget<Q: CacheLookup<Kept = K>>(&self, question: Q) {
        let subject = question.subject(&self.hasher);
        if let Some(version) = self.version(subject) {
            version.fetch_add(1, Ordering::SeqCst);
        }
        // The answer is invalid already. This frees its memory. Other answers about the subject are evicted later.
        let hash = question.hash(subject, &self.hasher);
        if let Some(shard) = self.shard(subject) {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.open.remove(hash, |other| question.is(other));
            if !self.faults.has(Fault::AbsentForEver) {
                shard.closed.remove(hash, |other| question.is(other));
            }
        }
    }

    /// Frees all memory. The answers become invalid by a new term.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.open.clear();
            shard.closed.clear();
        }
    }

    /// The number of answers, valid or not.
    pub(super) fn len(&self) -> usize {
        let len = |shard: &RwLock<Shard<_, _>>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.open.len() + shard.closed.len()
        };
        self.shards.iter().map(len).sum()
    }

    /// Their approximate size in bytes.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |shard: &RwLock<Shard<_, _>>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.open.bytes() + shard.closed.bytes()
        };
        self.shards.iter().map(bytes).sum()
    }

    /// The number of questions in flight.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.turns.len()
    }

    fn stamp<Q: CacheLookup<Kept = K>>(&self, lease: &Lease, question: Q) -> Option<Stamp> {
        let version = self.version(question.subject(&self.hasher))?.load(Ordering::SeqCst);
        Some(Stamp { term: lease.term(), version, at: lease.now() })
    }

    fn put<Q: CacheLookup<Kept = K>>(&self, question: Q, answer: V, stamp: Stamp) {
        let opens = answer.opens();
        let weight = question.weight() + answer.weight();
        let lasts = if opens { self.room.open_for } else { self.room.closed_for };
        let kept = Kept { answer, term: stamp.term, version: stamp.version, until: stamp.at.plus(lasts) };
        let subject = question.subject(&self.hasher);
        let hash = question.hash(subject, &self.hasher);
        let Some(shard) = self.shard(subject) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let (this, other) = match &mut *shard {
            Shard { open, closed } if opens => (open, closed),
            Shard { open, closed } => (closed, open),
        };
        this.put(hash, question.keep(), kept, weight);
        other.remove(hash, |other| question.is(other));
    }

    fn for_ever(&self, answer: &V) -> bool {
        !answer.opens() && self.faults.has(Fault::AbsentForEver)
    }

    // Different bits of the hash select the shard and the version, so that the subjects of one shard do not share a
    // counter.

    fn shard(&self, subject: u64) -> Option<&RwLock<Shard<K, V>>> {
        let last = self.shards.len().checked_sub(1)?;
        self.shards.get((subject >> 48) as usize & last)
    }

    fn version(&self, subject: u64) -> Option<&AtomicU64> {
        self.versions.get((subject >> 32) as usize & (VERSIONS - 1))
    }
}
