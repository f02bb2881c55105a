//! A common cache with a time to live, for which the test must fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tower_api_key::store::{Directory, KeyStore, StoreError};
use tower_api_key::{AccountStatus, KeyDigest, KeyRecord, ProjectId, UserId};

/// A short time for such a cache: others keep keys for five seconds to an hour.
const TIME_TO_LIVE: Duration = Duration::from_millis(500);

type Remembered<K, V> = Arc<Mutex<HashMap<K, (Instant, V)>>>;

/// Keys and standings with a time to live.
#[derive(Clone)]
pub(crate) struct Naive<S> {
    store: S,
    keys: Remembered<[u8; 32], Option<Arc<KeyRecord>>>,
    standings: Remembered<UserId, AccountStatus>,
}

impl<S> Naive<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store, keys: Arc::default(), standings: Arc::default() }
    }
}

fn remembered<K: Eq + std::hash::Hash, V: Clone>(cache: &Remembered<K, V>, key: &K) -> Option<V> {
    let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.get(key).filter(|(since, _)| since.elapsed() < TIME_TO_LIVE).map(|(_, value)| value.clone())
}

fn remember<K: Eq + std::hash::Hash, V>(cache: &Remembered<K, V>, key: K, value: V) {
    cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), value));
}

#[async_trait]
impl<S: KeyStore> KeyStore for Naive<S> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        if let Some(found) = remembered(&self.keys, digest.as_bytes()) {
            return Ok(found);
        }
        let found = self.store.find(digest).await?;
        remember(&self.keys, *digest.as_bytes(), found.clone());
        Ok(found)
    }
}

#[async_trait]
impl<S: Directory> Directory for Naive<S> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        if let Some(standing) = remembered(&self.standings, user) {
            return Ok(standing);
        }
        let standing = self.store.account_status(user, project).await?;
        remember(&self.standings, user.clone(), standing);
        Ok(standing)
    }
}
