//! One look-up at a time for each question, however many ask.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::StoreError;

/// So many may wait for one answer; whoever comes then is told that there is too much to do.
const WAITING: usize = 16_384;

/// Who asks the store, and who waits for whom.
///
/// Each question that is being asked has a lock of tokio's: it hands over in the order of arrival, and to the next when
/// the one whose turn it is is dropped or panics. So nobody hangs on somebody else's fate (C8-06).
pub(super) struct SingleFlight<Q, V> {
    open: Mutex<HashMap<Q, Arc<Turn<V>>>>,
    /// Counts arrivals and beginnings, so that one can tell which came first.
    count: AtomicU64,
}

pub(super) type Turn<V> = tokio::sync::Mutex<Option<LookupResult<V>>>;

/// What the last look-up found.
pub(super) struct LookupResult<V> {
    pub(super) began: u64,
    pub(super) answer: Result<V, Arc<StoreError>>,
}

impl<V: Clone> LookupResult<V> {
    /// The answer, for whoever arrived before the look-up began: it is as true as one that they would ask for
    /// themselves. For others it may be too old.
    pub(super) fn for_arrival(&self, arrived: u64) -> Option<Result<V, StoreError>> {
        (arrived < self.began).then(|| self.answer.clone().map_err(shared))
    }
}

/// The same error, said to several.
pub(super) fn shared(error: Arc<StoreError>) -> StoreError {
    match &*error {
        StoreError::Timeout => StoreError::Timeout,
        StoreError::Overloaded => StoreError::Overloaded,
        StoreError::Corrupt(row) => StoreError::Corrupt(row.clone()),
        StoreError::NotKept => StoreError::NotKept,
        StoreError::Failed(_) => StoreError::Failed(Box::new(error)),
    }
}

impl<Q: Hash + Eq + Clone, V> SingleFlight<Q, V> {
    pub(super) fn new() -> Self {
        Self { open: Mutex::new(HashMap::new()), count: AtomicU64::new(0) }
    }

    pub(super) fn tick(&self) -> u64 {
        self.count.fetch_add(1, Ordering::SeqCst)
    }

    /// A place among those who want to know.
    pub(super) fn enter(&self, question: Q) -> Result<Waiting<'_, Q, V>, StoreError> {
        let turn = Arc::clone(self.open().entry(question.clone()).or_default());
        // One is the map's.
        if Arc::strong_count(&turn) > WAITING {
            return Err(StoreError::Overloaded);
        }
        Ok(Waiting { turns: self, question, turn: Some(turn) })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open().len()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Q, Arc<Turn<V>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever leaves last closes the question.
pub(super) struct Waiting<'t, Q: Hash + Eq + Clone, V> {
    turns: &'t SingleFlight<Q, V>,
    question: Q,
    turn: Option<Arc<Turn<V>>>,
}

impl<Q: Hash + Eq + Clone, V> Waiting<'_, Q, V> {
    pub(super) fn turn(&self) -> Option<&Turn<V>> {
        self.turn.as_deref()
    }
}

impl<Q: Hash + Eq + Clone, V> Drop for Waiting<'_, Q, V> {
    fn drop(&mut self) {
        let mut open = self.turns.open();
        self.turn = None;
        if open.get(&self.question).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            open.remove(&self.question);
        }
    }
}
