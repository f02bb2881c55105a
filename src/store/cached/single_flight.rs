//! [`SingleFlight`]: at most one look-up at a time for each question, whose answer all waiting requests share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::StoreError;

/// How many requests may wait for one answer. Further requests are refused as overloaded.
const WAITING: usize = 16_384;

/// The look-ups that are in flight.
///
/// Each question in flight has a tokio mutex, which is fair: it passes to the waiting requests in the order of
/// their arrival, also if the holder is dropped or panics. So no request depends on another one to finish (C8-06).
pub(super) struct SingleFlight<Q, V> {
    open: Mutex<HashMap<Q, Arc<Turn<V>>>>,
    /// A counter for the arrivals of requests and the starts of look-ups, which shows which came first.
    count: AtomicU64,
}

pub(super) type Turn<V> = tokio::sync::Mutex<Option<LookupResult<V>>>;

/// The answer of the last look-up.
pub(super) struct LookupResult<V> {
    pub(super) began: u64,
    pub(super) answer: Result<V, Arc<StoreError>>,
}

impl<V: Clone> LookupResult<V> {
    /// Returns the answer to a request that arrived before the look-up began: for this request it is as current as
    /// an answer of its own look-up. For a later request it may be outdated.
    pub(super) fn for_arrival(&self, arrived: u64) -> Option<Result<V, StoreError>> {
        (arrived < self.began).then(|| self.answer.clone().map_err(shared))
    }
}

/// Makes a copy of an error for each waiting request.
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

    /// Joins the requests that wait for this question.
    pub(super) fn enter(&self, question: Q) -> Result<Waiting<'_, Q, V>, StoreError> {
        let turn = Arc::clone(self.open().entry(question.clone()).or_default());
        // One of the references is the map's.
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

/// A request that waits for a question. The last one to leave removes the question from the map.
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
