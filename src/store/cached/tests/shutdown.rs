//! Shutdown of a node: after it, the store is asked at every request, and no change waits for the node.

use std::future::poll_fn;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::Dice;
use super::world::{Connection, StoreFault, World, Write};
use crate::clock::Timestamp;
use crate::key::{KeyDigest, KeyId, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::AccountStatus;
use crate::store::change_log::{ChangeLog, Changes, NodeId, Position};
use crate::store::{CacheOptions, Cached, Directory, KeyStore, StoreError};

/// The longest lease, so that a test notices if something ends only with the lease.
const LEASE: Duration = Duration::from_secs(60);

/// A simulated store that records whether its node still had a lease when it left.
#[derive(Clone)]
struct Watched {
    store: Connection,
    node: Arc<OnceLock<Cached<Watched>>>,
    left_with_a_lease: Arc<AtomicBool>,
    left: Arc<AtomicBool>,
}

#[async_trait]
impl KeyStore for Watched {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.store.find(digest).await
    }
}

#[async_trait]
impl Directory for Watched {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.store.account_status(user, project).await
    }
}

#[async_trait]
impl ChangeLog for Watched {
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError> {
        self.store.join(node, lease).await
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        self.store.changes(after).await
    }

    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError> {
        self.store.acknowledge(node, position).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        let holds = self.node.get().is_some_and(Cached::has_lease);
        self.left_with_a_lease.fetch_or(holds, Ordering::SeqCst);
        self.store.leave(node).await?;
        self.left.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn announce(&self, user: &UserId) -> Result<(), StoreError> {
        self.store.announce(user).await
    }
}

fn record(revoked: bool) -> Write {
    let (id, owner) = (KeyId::new("key_1").unwrap(), UserId::new("u1").unwrap());
    let mut record = KeyRecord::new(id, KeyDigest::of("key"), owner, Timestamp::from_secs(1));
    record.revoked_at = revoked.then_some(Timestamp::from_secs(2));
    Write::Key(Arc::new(record))
}

fn is_valid(found: Option<Arc<KeyRecord>>) -> bool {
    found.is_some_and(|record| record.revoked_at.is_none())
}

/// A node of a store with one valid key, which it answers from memory.
async fn node(world: &Arc<World>) -> (Cached<Watched>, Watched) {
    world.found(&[record(false)]);
    let (store, _) = world.connect(Dice::new(1));
    let watched =
        Watched { store, node: Arc::default(), left_with_a_lease: Arc::default(), left: Arc::default() };
    let cached = CacheOptions::new().lease(LEASE).unwrap().start(watched.clone());
    let _ = watched.node.set(cached.clone());
    let warm = async {
        while cached.warm_key().is_none() {
            assert!(is_valid(cached.find(&KeyDigest::of("key")).await.unwrap()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LEASE, warm).await.expect("a node gets its lease");
    (cached, watched)
}

impl Cached<Watched> {
    fn warm_key(&self) -> Option<Option<Arc<KeyRecord>>> {
        KeyStore::find_cached(self, &KeyDigest::of("key")).known()
    }
}

#[tokio::test(start_paused = true)]
async fn c17_g_after_shutdown_nothing_is_answered_from_memory_and_nobody_waits_for_the_node() {
    let world = World::new(StoreFault::None, false);
    let (cached, watched) = node(&world).await;
    let began = Instant::now();
    timeout(LEASE, cached.shutdown()).await.expect("it ends");
    assert!(began.elapsed() < LEASE / 4, "{:?}: it waits for no round", began.elapsed());
    assert!(watched.left.load(Ordering::SeqCst));
    assert!(!watched.left_with_a_lease.load(Ordering::SeqCst), "first the lease ends, then the node leaves");
    for node in [&cached, &cached.clone()] {
        assert!(!node.has_lease());
        assert!(node.warm_key().is_none());
        assert!(is_valid(node.find(&KeyDigest::of("key")).await.unwrap()), "the store is asked");
    }

    let began = Instant::now();
    let (mut dice, writes) = (Dice::new(2), [record(true)]);
    timeout(LEASE, world.change(&mut dice, &writes)).await.expect("nobody waits for a node that has left");
    assert!(began.elapsed() < LEASE / 4, "{:?}", began.elapsed());
    assert!(cached.warm_key().is_none());
    assert!(!is_valid(cached.find(&KeyDigest::of("key")).await.unwrap()));
    assert!(!cached.has_lease(), "and it stays so");
}

#[tokio::test(start_paused = true)]
async fn c17_g_whoever_calls_shutdown_returns_when_it_is_done() {
    let (cached, watched) = node(&World::new(StoreFault::None, false)).await;
    let ended = async |node: &Cached<Watched>| {
        timeout(LEASE, node.shutdown()).await.expect("it ends");
        !node.has_lease() && watched.left.load(Ordering::SeqCst)
    };
    // One call is dropped as soon as it has begun, and two run concurrently.
    let mut begun = Box::pin(cached.shutdown());
    let pending = poll_fn(|context| Poll::Ready(begun.as_mut().poll(context).is_pending())).await;
    assert!(pending, "it takes a moment");
    drop(begun);
    let other = cached.clone();
    assert_eq!(tokio::join!(ended(&cached), ended(&other)), (true, true));
    timeout(LEASE, cached.shutdown()).await.expect("there is nothing left to end");
}

/// The runtime that follows the log has ended before, so no task can end the lease or leave.
#[test]
fn c17_g_after_shutdown_there_is_no_lease_though_the_runtime_has_ended() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let first = runtime();
    let (cached, _) = first.block_on(node(&World::new(StoreFault::None, false)));
    drop(first);
    runtime().block_on(async {
        timeout(LEASE, cached.shutdown()).await.expect("it ends");
        assert!(!cached.has_lease() && cached.warm_key().is_none());
    });
}

/// The options are respected: keys have their own maximum, and unknown keys a small one in addition.
#[tokio::test(start_paused = true)]
async fn c17_g_a_cache_has_the_room_that_it_was_given() {
    let world = World::new(StoreFault::None, false);
    let digest = |number: u32| KeyDigest::of(&number.to_string());
    let keys: Vec<Write> = (0..100)
        .map(|number| {
            let id = KeyId::new(format!("key_{number}")).unwrap();
            let owner = UserId::new("u1").unwrap();
            Write::Key(Arc::new(KeyRecord::new(id, digest(number), owner, Timestamp::from_secs(1))))
        })
        .collect();
    world.found(&keys);
    let (store, _) = world.connect(Dice::new(1));
    let options = CacheOptions::new()
        .lease(LEASE)
        .unwrap()
        .keys(NonZero::new(5000).unwrap())
        .misses(NonZero::new(16).unwrap());
    let cached = options.start(store);
    let ready = async {
        while !cached.has_lease() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LEASE, ready).await.expect("a node gets its lease");
    for number in 0..100 {
        assert!(cached.find(&digest(number)).await.unwrap().is_some());
    }
    assert_eq!(cached.len(), 100);
    for number in 1000..1500 {
        assert!(cached.find(&digest(number)).await.unwrap().is_none());
        assert!(cached.len() <= 100 + 16, "{} after {number}", cached.len());
    }
    assert_eq!(cached.len(), 100 + 16);
    assert!((0..100).all(|number| KeyStore::find_cached(&cached, &digest(number)).is_hit()));
    timeout(LEASE, cached.shutdown()).await.expect("it ends");
}
