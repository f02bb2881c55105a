//! [`UsageRecorder`]: records when keys were last used, in memory at each request, and writes it periodically.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::MissedTickBehavior;

use super::{Decision, Observer, Observers, Outcome, Warning};
use crate::clock::Timestamp;
use crate::config_error::ConfigError;
use crate::key::KeyId;
use crate::store::{KeyRegistry, StoreError, in_time};
use crate::usage::{Usage, UsageChannel};

/// How often a key's usage is written, and so how long it waits at most.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How many keys may wait to be written.
const CAPACITY: usize = 65_536;
/// How many entries are written at once. This takes a disk some milliseconds, so other writes do not wait long.
const BATCH: usize = 512;
/// How long one write may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Records when, how often and through what keys are used, and has a registry keep it (R38, R43).
///
/// A request only records its usage in memory and never waits. [`run`](Self::run), which your application spawns,
/// writes each key at most once a minute, however often it is used. If a write fails, its entries are kept and
/// written later. If more keys wait than there is room for, the oldest entries are dropped and
/// [counted](Self::forgotten). No failure here affects a request.
///
/// ```
/// use tower_api_key::observer::UsageRecorder;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::Verifier;
///
/// # async fn serve(_: Verifier) {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = MemoryStore::new();
/// let recorder = UsageRecorder::new(store.clone());
/// let verifier = Verifier::new(store).observer(recorder.clone());
/// let writing = tokio::spawn(recorder.clone().run());
///
/// serve(verifier).await;
///
/// writing.abort();
/// recorder.flush().await.expect("the store is there"); // writes the usage of the last minute
/// # }
/// ```
///
/// # Deployment caveat
///
/// Without [`run`](Self::run) nothing is written. Unwritten usage is lost when the process ends: on shutdown call
/// [`flush`](Self::flush) after the last request.
#[derive(Clone)]
pub struct UsageRecorder {
    registry: Arc<dyn KeyRegistry>,
    write_every: Duration,
    capacity: usize,
    observers: Observers,
    shared: Arc<RecorderState>,
}

/// The state that all clones share.
#[derive(Default)]
struct RecorderState {
    notes: Mutex<UnwrittenUsage>,
    forgotten: AtomicU64,
    /// Held while writing, so that `flush` waits for a write that is running.
    writing: tokio::sync::Mutex<()>,
}

/// The unwritten usage of each key: through what, when last, and how often.
#[derive(Default)]
struct UnwrittenUsage {
    /// Few entries per key: at most as many as there are schemes and restrictions.
    of_key: HashMap<KeyId, Vec<UsageEntry>, RandomState>,
    /// The keys with unwritten usage, in the order of waiting, oldest first.
    waiting: VecDeque<KeyId>,
    /// Set if the registry keeps no usage, so that recording is pointless.
    is_unsupported: bool,
}

struct UsageEntry {
    through: UsageChannel,
    last: Timestamp,
    count: u64,
}

impl UsageRecorder {
    /// Creates a recorder that writes to `registry` once a minute.
    #[must_use]
    pub fn new(registry: impl KeyRegistry) -> Self {
        Self {
            registry: Arc::new(registry),
            write_every: WRITE_EVERY,
            capacity: CAPACITY,
            observers: Observers::default(),
            shared: Arc::default(),
        }
    }

    /// Sets how often to write; the default is a minute.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`] if it is zero.
    pub fn write_every(mut self, every: Duration) -> Result<Self, ConfigError> {
        if every.is_zero() {
            return Err(ConfigError::Zero("the time between two writes of usage"));
        }
        self.write_every = every;
        Ok(self)
    }

    /// Sets how many keys may wait to be written; the default is 65,536.
    #[must_use]
    pub fn capacity(mut self, keys: NonZeroUsize) -> Self {
        let keys = keys.get();
        self.capacity = keys;
        self
    }

    /// Sets an [`Observer`] that is warned if [`run`](Self::run) cannot write.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Writes the recorded usage periodically, as long as it is polled. Must run in a tokio runtime with its timer
    /// enabled.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(self.write_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick completes at once.
        tick.tick().await;
        loop {
            tick.tick().await;
            if self.flush().await.is_err() {
                self.observers.warned(Warning::UsageNotWritten);
            }
        }
    }

    /// Writes the recorded usage now.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry fails; unwritten usage is kept for the next time. [`StoreError::NotKept`] if
    /// the registry keeps no usage; from then on nothing is recorded.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _writing = self.shared.writing.lock().await;
        // Usage that is recorded meanwhile is not included, or this might never end.
        let mut left = self.notes().waiting.len();
        while left > 0 {
            let batch = self.take(left);
            left = left.saturating_sub(batch.keys);
            if batch.usage.is_empty() {
                break;
            }
            batch.write().await?;
        }
        Ok(())
    }

    /// How many entries were dropped before they could be written.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.shared.forgotten.load(Ordering::Relaxed)
    }
}

impl Observer for UsageRecorder {
    fn decided(&self, decision: &Decision<'_>) {
        let (Outcome::Accepted, Some(key)) = (decision.outcome, decision.key_id) else { return };
        let through = decision.scheme.map_or(UsageChannel::Direct, |name| UsageChannel::Scheme(name.into()));
        let observed = decision.observed().map(|kind| UsageChannel::Observed(kind.as_str().into()));
        let mut notes = self.notes();
        for through in std::iter::once(through).chain(observed) {
            let forgot = notes.add(key, through, decision.at, 1, self.capacity);
            self.shared.forgotten.fetch_add(forgot, Ordering::Relaxed);
        }
    }
}

impl UsageRecorder {
    /// Ignores poisoning: the entries are consistent between any two statements that can panic.
    fn notes(&self) -> MutexGuard<'_, UnwrittenUsage> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entries of up to this many keys, oldest first.
    fn take(&self, keys: usize) -> Batch<'_> {
        let mut batch = Batch { of: self, keys: 0, usage: Vec::new() };
        let mut notes = self.notes();
        while batch.keys < keys
            && batch.usage.len() < BATCH
            && let Some(key) = notes.waiting.pop_front()
        {
            batch.keys += 1;
            let noted = notes.of_key.remove(&key).into_iter().flatten();
            let usage = |noted: UsageEntry| Usage::new(key.clone(), noted.through, noted.last, noted.count);
            batch.usage.extend(noted.map(usage));
        }
        batch
    }
}

impl UnwrittenUsage {
    /// Adds usage; returns how many keys were dropped to make room.
    fn add(&mut self, key: &KeyId, through: UsageChannel, at: Timestamp, count: u64, capacity: usize) -> u64 {
        if self.is_unsupported {
            return 0;
        }
        if let Some(ways) = self.of_key.get_mut(key) {
            match ways.iter_mut().find(|noted| noted.through == through) {
                Some(noted) => {
                    noted.last = noted.last.max(at);
                    noted.count = noted.count.saturating_add(count);
                }
                None => ways.push(UsageEntry { through, last: at, count }),
            }
            return 0;
        }
        let mut forgot = 0;
        while self.waiting.len() >= capacity
            && let Some(longest) = self.waiting.pop_front()
        {
            self.of_key.remove(&longest);
            forgot += 1;
        }
        self.of_key.insert(key.clone(), vec![UsageEntry { through, last: at, count }]);
        self.waiting.push_back(key.clone());
        forgot
    }
}

/// Entries that are being written. When dropped, unwritten ones are put back, also if the caller is cancelled.
struct Batch<'i> {
    of: &'i UsageRecorder,
    keys: usize,
    usage: Vec<Usage>,
}

impl Batch<'_> {
    async fn write(mut self) -> Result<(), StoreError> {
        let written = match self.of.registry.usage_log() {
            Some(log) => in_time(DEADLINE, log.record_usage(&self.usage)).await,
            None => Err(StoreError::NotKept),
        };
        match &written {
            Ok(()) => self.usage.clear(),
            Err(StoreError::NotKept) => {
                self.usage.clear();
                *self.of.notes() = UnwrittenUsage { is_unsupported: true, ..UnwrittenUsage::default() };
            }
            Err(_) => {}
        }
        written
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut notes = self.of.notes();
        for usage in self.usage.drain(..) {
            let forgot = notes.add(&usage.key, usage.through, usage.last, usage.count, self.of.capacity);
            self.of.shared.forgotten.fetch_add(forgot, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for UsageRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageRecorder")
            .field("write_every", &self.write_every)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
