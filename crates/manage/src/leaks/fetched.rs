//! The public keys of a scanner that changes them.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tower_api_key::clock::{Clock, SystemClock, Timestamp};

use super::signature::{PublicKey, PublicKeyList, PublicKeys};

/// How long a list is taken as it is; how long it counts where no newer one can be had.
const FRESH: Duration = Duration::from_secs(60 * 60);
const USABLE: Duration = Duration::from_secs(24 * 60 * 60);
/// There is one attempt within this time, whoever asks for what.
const PAUSE: Duration = Duration::from_secs(60);
/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(5);

type AnyError = Box<dyn Error + Send + Sync>;
type Fetching = Pin<Box<dyn Future<Output = Result<PublicKeyList, AnyError>> + Send>>;

/// The list of a scanner that changes its keys: fetched when it is first needed, and kept.
///
/// It is fetched again when it is an hour old, or when an identifier is asked for that is not in it; but once a minute at most,
/// and once at a time, whatever is sent. An identifier that is not in a list of the last minute is certainly none. Where the
/// list cannot be had, which takes five seconds at most, the one of before counts for a day; what it does not hold cannot be
/// told then, and the scanner gets 503.
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
    kept: Arc<Mutex<Kept>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is known of the list.
#[derive(Default)]
struct Kept {
    list: Option<(PublicKeyList, Timestamp)>,
    asked: Option<Timestamp>,
}

/// What that says of an identifier.
enum Said {
    Known(Option<PublicKey>),
    /// It cannot be told now.
    Nothing,
    /// The list must be fetched.
    Ask,
}

impl FetchedKeys {
    /// Has the list fetched by `fetch`, in the tokio runtime that the report is in.
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

    /// The clock that the age of a list is judged by; the default is the system's.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    fn said(&self, identifier: &str) -> Said {
        lock(&self.kept).says(identifier, self.clock.now())
    }
}

impl Kept {
    fn says(&self, identifier: &str, now: Timestamp) -> Said {
        // A clock that jumps back makes everything old.
        let within = |since: Timestamp, span| since <= now && now < since.saturating_add(span);
        let asked = self.asked.is_some_and(|at| within(at, PAUSE));
        let Some((list, fetched)) = &self.list else { return if asked { Said::Nothing } else { Said::Ask } };
        let (key, lately) = (list.get(identifier), within(*fetched, PAUSE));
        match key {
            Some(key) if within(*fetched, FRESH) => Said::Known(Some(key.clone())),
            None if lately => Said::Known(None),
            _ if !asked => Said::Ask,
            Some(key) if within(*fetched, USABLE) => Said::Known(Some(key.clone())),
            _ => Said::Nothing,
        }
    }
}

/// Every change is complete before anything can panic.
fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl PublicKeys for FetchedKeys {
    async fn find(&self, identifier: &str) -> Result<Option<PublicKey>, AnyError> {
        let mut said = self.said(identifier);
        if !matches!(said, Said::Known(_)) {
            // Somebody may be asking: what they hear is for all.
            let turn = Arc::clone(&self.turn).lock_owned().await;
            said = self.said(identifier);
            if let Said::Ask = said {
                let (kept, now, fetching) = (Arc::clone(&self.kept), self.clock.now(), (self.fetch)());
                lock(&kept).asked = Some(now);
                // Whoever asks may go away before the answer is there: it is kept all the same.
                let task = tokio::spawn(async move {
                    let _turn = turn;
                    let list = timeout(DEADLINE, fetching).await.map_err(AnyError::from)??;
                    lock(&kept).list = Some((list, now));
                    Ok::<(), AnyError>(())
                });
                let fetched = task.await.map_err(AnyError::from).flatten();
                said = self.said(identifier);
                if let (Err(error), Said::Nothing | Said::Ask) = (fetched, &said) {
                    return Err(error);
                }
            }
        }
        match said {
            Said::Known(key) => Ok(key),
            Said::Nothing | Said::Ask => Err("the public keys could not be fetched a moment ago".into()),
        }
    }
}

impl fmt::Debug for FetchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedKeys").finish_non_exhaustive()
    }
}
