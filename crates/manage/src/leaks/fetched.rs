//! [`FetchedKeys`]: fetches and caches the public keys of a secret scanner, which change over time.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tower_api_key::{Clock, SystemClock, Timestamp};

use super::signature::{PublicKey, PublicKeyList, PublicKeys};

/// How long a list is fresh; how long it is used if no newer one can be fetched.
const FRESH: Duration = Duration::from_secs(60 * 60);
const USABLE: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest time between two attempts to fetch it.
const PAUSE: Duration = Duration::from_secs(60);
/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(5);

type AnyError = Box<dyn Error + Send + Sync>;
type Fetching = Pin<Box<dyn Future<Output = Result<PublicKeyList, AnyError>> + Send>>;

/// The public keys of a scanner, fetched at first use and cached.
///
/// The list is fetched again when it is an hour old, or when an identifier is not in it; but at most once a minute
/// and once at a time, whatever is sent. An identifier that is missing from a list of the last minute does not
/// exist. If fetching fails (after five seconds at most), the previous list is used for up to a day; for an
/// identifier that it lacks, the scanner gets 503.
///
/// ```
/// use tower_api_key_manage::{FetchedKeys, PublicKeyList};
///
/// # async fn get(_: &str) -> Result<String, std::io::Error> { Ok(String::new()) }
/// let keys = FetchedKeys::new(|| async {
///     let text = get("https://api.github.com/meta/public_keys/secret_scanning").await?;
///     Ok(PublicKeyList::from_json(&text)?)
/// });
/// ```
pub struct FetchedKeys {
    fetch: Box<dyn Fn() -> Fetching + Send + Sync>,
    clock: Arc<dyn Clock>,
    kept: Arc<Mutex<CachedList>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The cached list.
#[derive(Default)]
struct CachedList {
    list: Option<(PublicKeyList, Timestamp)>,
    asked: Option<Timestamp>,
}

/// What the cached list says about an identifier.
enum ListAnswer {
    Known(Option<PublicKey>),
    /// Unknown, and it is too early to fetch the list again.
    Nothing,
    /// The list must be fetched.
    Ask,
}

impl FetchedKeys {
    /// Fetches the list with `fetch`, in the tokio runtime that handles the report.
    #[must_use]
    pub fn new<F>(fetch: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<PublicKeyList, AnyError>> + Send + 'static,
    {
        Self {
            fetch: Box::new(move || Box::pin(fetch())),
            clock: Arc::new(SystemClock),
            kept: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// Sets the clock for the age of the list; the default is the system's.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    fn said(&self, identifier: &str) -> ListAnswer {
        lock(&self.kept).says(identifier, self.clock.now())
    }
}

impl CachedList {
    fn says(&self, identifier: &str, now: Timestamp) -> ListAnswer {
        // If the clock has jumped back, every time counts as old.
        let within = |since: Timestamp, span| since <= now && now < since.saturating_add(span);
        let asked = self.asked.is_some_and(|at| within(at, PAUSE));
        let Some((list, fetched)) = &self.list else {
            return if asked { ListAnswer::Nothing } else { ListAnswer::Ask };
        };
        let (key, lately) = (list.get(identifier), within(*fetched, PAUSE));
        match key {
            Some(key) if within(*fetched, FRESH) => ListAnswer::Known(Some(key.clone())),
            None if lately => ListAnswer::Known(None),
            _ if !asked => ListAnswer::Ask,
            Some(key) if within(*fetched, USABLE) => ListAnswer::Known(Some(key.clone())),
            _ => ListAnswer::Nothing,
        }
    }
}

/// Ignores poisoning: every change is complete before anything can panic.
fn lock(kept: &Mutex<CachedList>) -> MutexGuard<'_, CachedList> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl PublicKeys for FetchedKeys {
    async fn find(&self, identifier: &str) -> Result<Option<PublicKey>, AnyError> {
        let mut said = self.said(identifier);
        if !matches!(said, ListAnswer::Known(_)) {
            // If another request is fetching the list, its result is for this one too.
            let turn = Arc::clone(&self.turn).lock_owned().await;
            said = self.said(identifier);
            if let ListAnswer::Ask = said {
                let (kept, now, fetching) = (Arc::clone(&self.kept), self.clock.now(), (self.fetch)());
                lock(&kept).asked = Some(now);
                // The request may be cancelled before the answer arrives; the list is cached nevertheless.
                let task = tokio::spawn(async move {
                    let _turn = turn;
                    let list = timeout(DEADLINE, fetching).await.map_err(AnyError::from)??;
                    lock(&kept).list = Some((list, now));
                    Ok::<(), AnyError>(())
                });
                let fetched = task.await.map_err(AnyError::from).flatten();
                said = self.said(identifier);
                if let (Err(error), ListAnswer::Nothing | ListAnswer::Ask) = (fetched, &said) {
                    return Err(error);
                }
            }
        }
        match said {
            ListAnswer::Known(key) => Ok(key),
            ListAnswer::Nothing | ListAnswer::Ask => {
                Err("the public keys could not be fetched a moment ago".into())
            }
        }
    }
}

impl fmt::Debug for FetchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedKeys").finish_non_exhaustive()
    }
}
