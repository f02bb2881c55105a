//! When keys were last used: noted at requests, written down now and then.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Decision, Observer, Observers, Outcome, Warning};
use crate::clock::Timestamp;
use crate::config_error::ConfigError;
use crate::key::KeyId;
use crate::store::{KeyRegistry, StoreError, in_time};
use crate::usage::{Usage, UsageChannel};

/// How long a note waits at most, and how often a key is written at most.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How many keys may wait.
const CAPACITY: usize = 65_536;
/// How many entries the registry gets at once: some milliseconds of a disk, so that nothing else waits long behind them.
const BATCH: usize = 512;
/// How long one of these may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Notes when, how often and through what keys are used, and has a registry keep it (R38, R43).
///
/// A request leaves a note in memory, and waits for nothing. Notes are written by [`run`](Self::run), which your
/// application spawns: of each key at most one a minute, however often it is used. What could not be written is kept and
/// tried again; of more keys than there is room for, those that wait longest are forgotten, and
/// [counted](Self::forgotten). Whatever happens to notes, requests do not notice.
///
/// ```
/// use tower_api_key::observer::UsageRecorder;
/// use tower_api_key::{MemoryStore, Verifier};
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
/// recorder.flush().await.expect("the store is there"); // what the last minute has seen
/// # }
/// ```
///
/// # Deployment caveat
///
/// Without [`run`](Self::run) nothing is written. What was noted and not written is lost with the process: on shutdown
/// [`flush`](Self::flush), after the last request.
#[derive(Clone)]
pub struct UsageRecorder {
    registry: Arc<dyn KeyRegistry>,
    write_every: Duration,
    capacity: usize,
    observers: Observers,
    shared: Arc<Shared>,
}

/// What all clones share.
#[derive(Default)]
struct Shared {
    notes: Mutex<Notes>,
    forgotten: AtomicU64,
    /// Who writes holds it, so that whoever flushes has waited for them.
    writing: tokio::sync::Mutex<()>,
}

/// What was noted of each key: how it was used, when last, and how often.
#[derive(Default)]
struct Notes {
    /// A few at most: as many as there are schemes and restrictions.
    of_key: HashMap<KeyId, Vec<Noted>>,
    /// Each key that was noted, the longest first.
    waiting: VecDeque<KeyId>,
    /// The registry keeps no usage, and there is no use in notes.
    in_vain: bool,
}

struct Noted {
    through: UsageChannel,
    last: Timestamp,
    count: u64,
}

impl UsageRecorder {
    /// Writes to `registry`, once a minute.
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

    /// How often to write; the default is a minute.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn write_every(mut self, every: Duration) -> Result<Self, ConfigError> {
        if every.is_zero() {
            return Err(ConfigError::Zero("the time between two writes of usage"));
        }
        self.write_every = every;
        Ok(self)
    }

    /// How many keys may wait to be written; the default is 65536.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn capacity(mut self, keys: usize) -> Result<Self, ConfigError> {
        if keys == 0 {
            return Err(ConfigError::Zero("the number of keys whose usage waits"));
        }
        self.capacity = keys;
        Ok(self)
    }

    /// Tells an [`Observer`] when [`run`](Self::run) could not write.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Writes what was noted, again and again, for as long as it is polled. Must run in a tokio runtime with its timer on.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(self.write_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once.
        tick.tick().await;
        loop {
            tick.tick().await;
            if self.flush().await.is_err() {
                self.observers.warned(Warning::UsageNotWritten);
            }
        }
    }

    /// Writes what was noted, now.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the registry failed; what it has not written waits for the next time.
    /// [`StoreError::NotKept`] if it keeps no usage; then nothing is noted any more.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _writing = self.shared.writing.lock().await;
        // Not what comes in meanwhile: it would never end.
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

    /// How many notes on keys were forgotten before they could be written.
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
    /// Notes are complete between any two statements that can panic, so that a poisoned lock still guards what is true.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that have waited longest, of at most so many.
    fn take(&self, keys: usize) -> Batch<'_> {
        let mut batch = Batch { of: self, keys: 0, usage: Vec::new() };
        let mut notes = self.notes();
        while batch.keys < keys
            && batch.usage.len() < BATCH
            && let Some(key) = notes.waiting.pop_front()
        {
            batch.keys += 1;
            let noted = notes.of_key.remove(&key).into_iter().flatten();
            let usage = |noted: Noted| Usage::new(key.clone(), noted.through, noted.last, noted.count);
            batch.usage.extend(noted.map(usage));
        }
        batch
    }
}

impl Notes {
    /// How many keys had to be forgotten for it.
    fn add(&mut self, key: &KeyId, through: UsageChannel, at: Timestamp, count: u64, capacity: usize) -> u64 {
        if self.in_vain {
            return 0;
        }
        if let Some(ways) = self.of_key.get_mut(key) {
            match ways.iter_mut().find(|noted| noted.through == through) {
                Some(noted) => {
                    noted.last = noted.last.max(at);
                    noted.count = noted.count.saturating_add(count);
                }
                None => ways.push(Noted { through, last: at, count }),
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
        self.of_key.insert(key.clone(), vec![Noted { through, last: at, count }]);
        self.waiting.push_back(key.clone());
        forgot
    }
}

/// What is being written. If it is not, it goes back: also when whoever waits for it does not wait any longer.
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
                *self.of.notes() = Notes { in_vain: true, ..Notes::default() };
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
