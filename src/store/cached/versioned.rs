//! What is remembered of one kind of question, and what each answer is worth.

use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::clock_map::ClockMap;
use super::faults::{Fault, Faults};
use super::lease::{Lease, Moment, Term};
use super::single_flight::{LookupResult, SingleFlight, shared};
use crate::access::AccountStatus;
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::store::StoreError;

/// With a random seed: nobody can choose keys that collide (C7-04). Tests that replay a seed of theirs need another.
#[cfg(not(test))]
pub(super) type Seeded = std::hash::RandomState;
#[cfg(test)]
pub(super) type Seeded = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// A power of two; subjects that share a place are forgotten together.
const VERSIONS: usize = 1 << 14;
const SHARDS: usize = 64;
/// With less room than this there is one shard: many would be full at odd times.
const SMALL: usize = 4096;
/// And with less bytes than this: in each of many, the heaviest key must find room.
const SMALL_BYTES: usize = SHARDS * 256 * 1024;

/// What a change is about, and what is asked about it, without a copy of either.
pub(super) trait CacheLookup: Copy {
    /// As it is kept.
    type Kept: Hash + Eq + Clone;

    /// Of what changes name: everything about it is forgotten together.
    fn subject(self, hasher: &Seeded) -> u64;
    /// Of the whole question.
    fn hash(self, subject: u64, hasher: &Seeded) -> u64;
    fn is(self, kept: &Self::Kept) -> bool;
    fn keep(self) -> Self::Kept;
    /// How many bytes it points to.
    fn weight(self) -> usize;
}

impl CacheLookup for &KeyDigest {
    /// All of the digest, and nothing but it (C8-03).
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

/// An answer that may be kept.
pub(super) trait CachedAnswer: Clone {
    /// Whether it opens something. There are as many of these as there are keys and memberships; of the others there
    /// are as many as somebody cares to ask for, so they have a small place of their own (C8-01).
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

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheLimits {
    pub(super) open: usize,
    pub(super) closed: usize,
    /// Of what opens something. The rest is small.
    pub(super) bytes: usize,
    pub(super) open_for: Duration,
    pub(super) closed_for: Duration,
}

/// What an answer was read under. Taken *before* the read: a change that is applied after that makes it worthless,
/// whenever the answer arrives (C8-07).
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    term: Term,
    version: u64,
    at: Moment,
}

/// Remembers answers, and says them only under a lease.
pub(super) struct VersionedMap<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    /// How often something about a subject has changed. Places are shared, and only ever count up.
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
            hasher: Seeded::new(),
            room,
            faults,
        }
    }

    /// The answer, if it is known and as true as the store's. Takes a lock that is never held for long, and allocates
    /// nothing.
    pub(super) fn warm<Q: CacheLookup<Kept = K>>(&self, lease: &Lease, question: Q) -> Option<V> {
        let subject = question.subject(&self.hasher);
        let hash = question.hash(subject, &self.hasher);
        let kept = {
            let shard = self.shard(subject)?.read().unwrap_or_else(PoisonError::into_inner);
            let is = |other: &K| question.is(other);
            shard.open.get(hash, is).or_else(|| shard.closed.get(hash, is))?.clone()
        };
        // What is read is judged by what is known afterwards, and in this order: may it be said now, and has nothing
        // been applied until now that makes it untrue? A change that has returned before this `now` has either taken the
        // lease or been applied. Asked the other way round, one that came between the two questions would be missed.
        let now = lease.holds(kept.term)?;
        let fresh =
            self.version(subject)?.load(Ordering::SeqCst) == kept.version || self.for_ever(&kept.answer);
        let young = now.is_before(kept.until) || self.for_ever(&kept.answer);
        (fresh && young).then_some(kept.answer)
    }

    /// The answer, from memory or by `look_up`. However many ask at once, one at a time asks the store, and the others
    /// get what it finds.
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
            // As if there were no cache: nobody may wait for an answer that began before they came.
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

    /// Something about the subject of this question has changed.
    pub(super) fn forget<Q: CacheLookup<Kept = K>>(&self, question: Q) {
        let subject = question.subject(&self.hasher);
        if let Some(version) = self.version(subject) {
            version.fetch_add(1, Ordering::SeqCst);
        }
        // It is worthless already; this gives back its room. What else there is about the subject goes when its turn
        // comes.
        let hash = question.hash(subject, &self.hasher);
        if let Some(shard) = self.shard(subject) {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.open.remove(hash, |other| question.is(other));
            if !self.faults.has(Fault::AbsentForEver) {
                shard.closed.remove(hash, |other| question.is(other));
            }
        }
    }

    /// Gives back all room. What makes it worthless is a new term.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.open.clear();
            shard.closed.clear();
        }
    }

    /// How many answers there are, true or not.
    pub(super) fn len(&self) -> usize {
        let len = |shard: &RwLock<Shard<_, _>>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.open.len() + shard.closed.len()
        };
        self.shards.iter().map(len).sum()
    }

    /// About how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |shard: &RwLock<Shard<_, _>>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.open.bytes() + shard.closed.bytes()
        };
        self.shards.iter().map(bytes).sum()
    }

    /// How many questions are being asked.
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

    // Two parts of one hash, so that those who share a shard do not share versions.

    fn shard(&self, subject: u64) -> Option<&RwLock<Shard<K, V>>> {
        let last = self.shards.len().checked_sub(1)?;
        self.shards.get((subject >> 48) as usize & last)
    }

    fn version(&self, subject: u64) -> Option<&AtomicU64> {
        self.versions.get((subject >> 32) as usize & (VERSIONS - 1))
    }
}
