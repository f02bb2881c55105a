//! The cache, and calls that wait for nodes, over a store of the test's own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tower_api_key::store::{
    CacheOptions, Cached, Change, ChangeLog, Changes, Directory, Followers, KeyStore, NodeId, Position,
    StoreError, WithDirectory, outlived, settle,
};
use tower_api_key::{AccountStatus, KeyDigest, KeyId, KeyRecord, ProjectId, Role, Timestamp, UserId};

use test_kit::user;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn key(name: &str, owner: &str) -> KeyRecord {
    KeyRecord::new(KeyId::new(name).unwrap(), KeyDigest::of(name), user(owner), NOW)
}

/// The longest possible lease, which does not end during these tests.
const LEASE: Duration = Duration::from_secs(60);

/// A store with one key of one person, both valid or both invalid, and a log. It can hold its answers back.
#[derive(Default)]
struct Told {
    ended: AtomicBool,
    holds: AtomicBool,
    asked: AtomicUsize,
    go_on: Notify,
    log: Mutex<Vec<Change>>,
    acknowledged: AtomicUsize,
    news: Notify,
}

impl Told {
    /// Holds back an answer that was already read.
    async fn said<T>(&self, read: T) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.holds.load(Ordering::SeqCst) {
            self.go_on.notified().await;
        }
        Ok(read)
    }

    fn end(&self, news: Change) {
        self.ended.store(true, Ordering::SeqCst);
        self.log.lock().unwrap().push(news);
        self.news.notify_one();
    }
}

#[async_trait]
impl KeyStore for Told {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let mut record = key("one", "u");
        record.revoked_at = self.ended.load(Ordering::SeqCst).then_some(NOW);
        self.said(Some(Arc::new(record))).await
    }
}

#[async_trait]
impl Directory for Told {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        let ended = self.ended.load(Ordering::SeqCst);
        self.said(if ended { AccountStatus::Disabled } else { OWNER }).await
    }
}

#[async_trait]
impl ChangeLog for Told {
    async fn join(&self, _: &NodeId, _: Duration) -> Result<Position, StoreError> {
        Ok(Position::new("0"))
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        let log = self.log.lock().unwrap();
        let changes = log[after.as_str().parse::<usize>().unwrap()..].to_vec();
        Ok(Changes { changes, position: Position::new(log.len().to_string()) })
    }

    async fn acknowledge(&self, _: &NodeId, position: &Position) -> Result<bool, StoreError> {
        self.acknowledged.store(position.as_str().parse().unwrap(), Ordering::SeqCst);
        Ok(true)
    }

    async fn leave(&self, _: &NodeId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn announce(&self, user: &UserId) -> Result<(), StoreError> {
        let length = {
            let mut log = self.log.lock().unwrap();
            log.push(Change::Owner(user.clone()));
            log.len()
        };
        self.news.notify_one();
        while self.acknowledged.load(Ordering::SeqCst) < length {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn hint(&self) {
        self.news.notified().await;
    }
}

const OWNER: AccountStatus = AccountStatus::Active { role: Some(Role::Owner) };

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looks = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LEASE, looks).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

/// An answer that was read before a change and arrives after the node has acknowledged the change must not be given
/// to later requests. This is also true if the log says `Everything`.
#[tokio::test(start_paused = true)]
async fn c17_g_answers_from_before_a_change_are_not_kept() {
    let (digest, owner) = (key("one", "u").digest, user("u"));
    let everything = || Change::Everything;
    for (what, news, of_key, of_owner) in [
        ("the key", Change::Key(digest), true, false),
        ("its owner", Change::Owner(owner.clone()), false, true),
        ("everything", everything(), true, true),
    ] {
        let store = Arc::new(Told::default());
        let cached: Cached<_> = CacheOptions::new().lease(LEASE).unwrap().start(Arc::clone(&store));
        until("the lease", || cached.has_lease()).await;
        store.holds.store(true, Ordering::SeqCst);
        let (for_key, for_owner) = (cached.clone(), (cached.clone(), owner.clone()));
        let found = tokio::spawn(async move { for_key.find(&digest).await });
        let stands = tokio::spawn(async move { for_owner.0.account_status(&for_owner.1, None).await });
        until("both questions", || store.asked.load(Ordering::SeqCst) == 2).await;
        store.end(news);
        until("the acknowledgement", || store.acknowledged.load(Ordering::SeqCst) == 1).await;
        store.holds.store(false, Ordering::SeqCst);
        store.go_on.notify_waiters();
        // A request from before the change may get the old answer.
        assert!(found.await.unwrap().unwrap().is_some_and(|key| key.is_active(NOW)), "{what}");
        assert_eq!(stands.await.unwrap().unwrap(), OWNER, "{what}");
        until("a lease again", || cached.has_lease()).await;
        if of_key {
            assert!(!KeyStore::find_cached(&cached, &digest).is_hit(), "{what}: the key is remembered");
            assert!(!cached.find(&digest).await.unwrap().unwrap().is_active(NOW), "{what}");
        }
        if of_owner {
            assert!(
                Directory::account_status_cached(&cached, &owner, None).is_none(),
                "{what}: the owner is remembered"
            );
            assert_eq!(cached.account_status(&owner, None).await.unwrap(), AccountStatus::Disabled, "{what}");
        }
        cached.shutdown().await;
    }
}

/// Nodes: the length of each lease, and when the node acknowledges the change, if ever.
struct Nodes {
    began: Instant,
    rows: Mutex<Vec<(Duration, Option<Duration>)>>,
    /// When a node was fenced, and up to which length of lease.
    fenced: Mutex<Vec<(Duration, Duration)>>,
}

#[async_trait]
impl Followers for Nodes {
    type Committed = ();

    async fn behind(&self, (): &()) -> Result<Option<Duration>, StoreError> {
        let now = self.began.elapsed();
        let rows = self.rows.lock().unwrap();
        let behind = rows.iter().filter(|(_, acknowledges)| acknowledges.is_none_or(|at| now < at));
        Ok(behind.map(|(lease, _)| *lease).max())
    }

    async fn fence(&self, (): &(), lease: Duration) -> Result<(), StoreError> {
        let now = self.began.elapsed();
        self.fenced.lock().unwrap().push((now, lease));
        self.rows.lock().unwrap().retain(|(of, at)| *of > lease || at.is_some_and(|at| at <= now));
        Ok(())
    }
}

/// A node is removed from the table when its lease has certainly ended on the slowest clock. The change returns
/// shortly after the last of them, and not earlier.
#[tokio::test(start_paused = true)]
async fn c17_g_a_change_fences_a_silent_node_when_its_lease_is_over_on_every_clock() {
    let ms = Duration::from_millis;
    // The interval between two queries of the nodes.
    let look = ms(33);
    for lease in [100, 437, 2000, 60_000].map(ms) {
        assert_eq!(outlived(lease), lease + lease / 20 + ms(20));
    }
    assert_eq!(outlived(Duration::MAX), Duration::MAX);
    for (rows, fences, returns) in [
        (vec![], vec![], ms(0)),
        (vec![(ms(100), None)], vec![ms(100)], outlived(ms(100))),
        (vec![(ms(437), None)], vec![ms(437)], outlived(ms(437))),
        (vec![(ms(2000), None)], vec![ms(2000)], outlived(ms(2000))),
        (vec![(ms(60_000), None)], vec![ms(60_000)], outlived(ms(60_000))),
        // Just in time, and slightly too late.
        (vec![(ms(2000), Some(ms(2050)))], vec![], ms(2050)),
        (vec![(ms(2000), Some(ms(2200)))], vec![ms(2000)], outlived(ms(2000))),
        (vec![(ms(60_000), Some(ms(45_000)))], vec![], ms(45_000)),
        // The silent node is noticed when the slower node has answered.
        (vec![(ms(300), None), (ms(5000), Some(ms(2000)))], vec![ms(300)], ms(2000)),
        (vec![(ms(300), None), (ms(5000), None)], vec![ms(5000)], outlived(ms(5000))),
    ] {
        let nodes = Nodes { began: Instant::now(), rows: Mutex::new(rows.clone()), fenced: Mutex::default() };
        settle(&nodes, &()).await.unwrap();
        let took = nodes.began.elapsed();
        assert!(took >= returns && took <= returns + 2 * look, "{rows:?}: {took:?}");
        let fenced = nodes.fenced.lock().unwrap();
        assert_eq!(fenced.iter().map(|(_, lease)| *lease).collect::<Vec<_>>(), fences, "{rows:?}");
        assert!(fenced.iter().all(|(at, lease)| *at >= outlived(*lease)), "{rows:?}: {fenced:?}");
    }
}

/// A directory of an application: one flag in its own tables.
#[derive(Clone, Default)]
struct Staff {
    gone: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Directory for Staff {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(if self.gone.load(Ordering::SeqCst) { AccountStatus::Disabled } else { OWNER })
    }
}

/// The store cannot see changes in an application's own directory. Once a change is announced, no request gets an old
/// answer (R42).
#[tokio::test(start_paused = true)]
async fn r42_a_change_in_a_directory_of_the_application_holds_once_it_is_announced() {
    let (staff, owner) = (Staff::default(), user("u"));
    let store = WithDirectory::new(Arc::new(Told::default()), staff.clone());
    let cached = CacheOptions::new().lease(LEASE).unwrap().start(store);
    until("the lease", || cached.has_lease()).await;
    for _ in 0..3 {
        assert_eq!(cached.account_status(&owner, None).await.unwrap(), OWNER);
    }
    assert_eq!(staff.asked.load(Ordering::SeqCst), 1, "it is remembered");
    staff.gone.store(true, Ordering::SeqCst);
    assert_eq!(cached.account_status(&owner, None).await.unwrap(), OWNER, "nobody announced it");
    cached.invalidate(&owner).await.unwrap();
    assert_eq!(Directory::account_status_cached(&cached, &owner, None), None);
    assert_eq!(cached.account_status(&owner, None).await.unwrap(), AccountStatus::Disabled);
    cached.shutdown().await;
}
