//! A simulated store for several nodes: transactions that become visible in another order than they began, a table
//! of nodes, and connections that are slow, broken, or dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::Dice;
use crate::key::{KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::{AccountStatus, Role};
use crate::store::change_log::{Change, ChangeLog, Changes, Followers, NodeId, Position, settle};
use crate::store::{Directory, KeyStore, StoreError};

/// A fault of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreFault {
    None,
    /// A change returns when it is committed.
    NoWait,
    /// A change returns after a lease has passed, but does not remove the rows of the nodes that are behind.
    NoFence,
    /// A change waits for the nodes before it commits.
    ReturnsBeforeCommit,
    /// A change is in the log before it is committed.
    LogBeforeCommit,
    /// A position is the highest number seen.
    HighestNumber,
    /// Keys are read from a replica.
    Replica,
    /// Entries are removed from the log, even if a node has not read them, without an entry `Everything`.
    FoldsSilently,
}

/// How often each kind of problem occurred.
pub(super) type Counts = BTreeMap<&'static str, u64>;

pub(super) struct World {
    state: Mutex<State>,
    pub(super) fault: StoreFault,
    /// Whether it removes log entries that some nodes have not read yet.
    folds: bool,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<[u8; 32], Arc<KeyRecord>>,
    /// The outdated answers of a replica, and until when it gives them.
    replica: BTreeMap<[u8; 32], (Option<Arc<KeyRecord>>, Instant)>,
    members: BTreeMap<(UserId, ProjectId), Role>,
    log: Vec<(u64, Change)>,
    next: u64,
    open: BTreeSet<u64>,
    nodes: BTreeMap<NodeId, Row>,
    links: Vec<Arc<Link>>,
    counts: Counts,
}

struct Row {
    acknowledged: Snapshot,
    lease: Duration,
}

/// Like PostgreSQL's `pg_snapshot`: all transactions below `next` that were not open.
#[derive(Clone, Default)]
struct Snapshot {
    next: u64,
    open: BTreeSet<u64>,
}

impl Snapshot {
    fn sees(&self, transaction: u64) -> bool {
        transaction < self.next && !self.open.contains(&transaction)
    }

    fn position(&self) -> Position {
        let open: Vec<String> = self.open.iter().map(u64::to_string).collect();
        Position::new(format!("{}:{}", self.next, open.join(",")))
    }

    fn of(position: &Position) -> Self {
        let (next, open) = position.as_str().split_once(':').unwrap();
        let open = open.split(',').filter(|number| !number.is_empty());
        Self { next: next.parse().unwrap(), open: open.map(|number| number.parse().unwrap()).collect() }
    }
}

/// A write in a transaction.
#[derive(Clone)]
pub(super) enum Write {
    Key(Arc<KeyRecord>),
    Member(UserId, ProjectId, Option<Role>),
}

impl State {
    fn snapshot(&self, fault: StoreFault) -> Snapshot {
        if fault == StoreFault::HighestNumber {
            let next = self.log.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
            return Snapshot { next, open: BTreeSet::new() };
        }
        Snapshot { next: self.next, open: self.open.clone() }
    }

    fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number);
        number
    }

    fn write(&mut self, writes: &[Write]) {
        for write in writes.iter().cloned() {
            match write {
                Write::Key(record) => {
                    let digest = *record.digest.as_bytes();
                    let before = self.keys.insert(digest, record);
                    self.replica.insert(digest, (before, Instant::now() + Duration::from_millis(200)));
                }
                Write::Member(user, project, None) => drop(self.members.remove(&(user, project))),
                Write::Member(user, project, Some(role)) => {
                    self.members.insert((user, project), role);
                }
            }
        }
    }

    fn log(&mut self, number: u64, writes: &[Write]) {
        self.open.remove(&number);
        if self.open.iter().next().is_some_and(|older| *older < number) {
            *self.counts.entry("commits out of order").or_default() += 1;
        }
        self.log.extend(writes.iter().map(|write| match write {
            Write::Key(record) => (number, Change::Key(record.digest)),
            Write::Member(user, ..) => (number, Change::Owner(user.clone())),
        }));
    }
}

impl State {
    /// Replaces all committed log entries by one entry `Everything`.
    fn fold(&mut self, fault: StoreFault) {
        let number = self.begin();
        self.log.clear();
        if fault != StoreFault::FoldsSilently {
            self.log.push((number, Change::Everything));
        }
        self.open.remove(&number);
        *self.counts.entry("foldings of the log").or_default() += 1;
    }
}

impl World {
    pub(super) fn new(fault: StoreFault, folds: bool) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), fault, folds })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.state().counts.entry(what).or_default() += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Returns a handle to the store for one node, with a connection of its own.
    pub(super) fn connect(self: &Arc<Self>, dice: Dice) -> (Connection, Arc<Link>) {
        let link = Arc::new(Link {
            dice: Mutex::new(dice),
            trouble: Mutex::default(),
            dead: AtomicBool::new(false),
            hints: Notify::new(),
            world: Arc::clone(self),
        });
        let mut state = self.state();
        state.links.retain(|link| !link.dead.load(Ordering::SeqCst));
        state.links.push(Arc::clone(&link));
        (Connection { link: Arc::clone(&link) }, link)
    }

    /// Inserts data before the simulation starts.
    pub(super) fn found(&self, writes: &[Write]) {
        self.state().write(writes);
    }

    /// Makes a change, and returns when it is done, with the time that it took after the commit.
    pub(super) async fn change(self: &Arc<Self>, dice: &mut Dice, writes: &[Write]) -> Duration {
        let number = self.state().begin();
        // Other transactions begin later and commit earlier.
        sleep(Duration::from_millis(if dice.percent(20) { dice.between(5, 80) } else { dice.below(5) }))
            .await;
        match self.fault {
            StoreFault::ReturnsBeforeCommit => {
                let (world, writes) = (Arc::clone(self), writes.to_vec());
                tokio::spawn(async move {
                    sleep(Duration::from_millis(20)).await;
                    world.commit(number, &writes);
                    world.hint();
                });
                return Duration::ZERO;
            }
            StoreFault::LogBeforeCommit => {
                self.state().log(number, writes);
                self.hint();
                let committed = Instant::now();
                self.settle(dice, number).await;
                self.state().write(writes);
                return committed.elapsed();
            }
            _ => self.commit(number, writes),
        }
        let committed = Instant::now();
        self.hint();
        match self.fault {
            StoreFault::NoWait => {}
            StoreFault::NoFence => {
                let admin = Admin { world: self, dice: Mutex::new(dice.split()) };
                // Returns without fencing the nodes that are behind.
                while let Ok(Some(lease)) = admin.behind(&number).await {
                    if committed.elapsed() > crate::store::outlived(lease) {
                        break;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            }
            _ => self.settle(dice, number).await,
        }
        committed.elapsed()
    }

    /// Waits until the change is confirmed. A repeated call is a transaction that finds nothing to do, and still
    /// waits (C9-12).
    async fn settle(self: &Arc<Self>, dice: &mut Dice, mut number: u64) {
        loop {
            let admin = Admin { world: self, dice: Mutex::new(dice.split()) };
            if settle(&admin, &number).await.is_ok() {
                return;
            }
            self.count("changes committed and not confirmed");
            sleep(Duration::from_millis(10)).await;
            number = self.state().begin();
            self.state().log(number, &[]);
        }
    }

    fn commit(&self, number: u64, writes: &[Write]) {
        let mut state = self.state();
        state.write(writes);
        state.log(number, writes);
        // This happens now and then, also while transactions are open: nodes must not rely on finding entries that
        // they have not read yet.
        if self.folds && number.is_multiple_of(8) {
            state.fold(self.fault);
        }
    }

    /// Sends a hint to the nodes: in time, late, twice, or never.
    fn hint(&self) {
        let links = self.state().links.clone();
        for link in links {
            let roll = link.dice.lock().unwrap().below(100);
            let (times, delay, what) = match roll {
                0..30 => (0, 0, "hints lost"),
                30..40 => (2, 1, "hints doubled"),
                40..50 => (1, 3000 + roll * 97, "hints delayed"),
                _ => (1, 1, "hints in time"),
            };
            self.count(what);
            for _ in 0..times {
                let link = Arc::clone(&link);
                tokio::spawn(async move {
                    sleep(Duration::from_millis(delay)).await;
                    link.hints.notify_one();
                });
            }
        }
    }
}

/// The connection from a node to the store.
pub(super) struct Link {
    dice: Mutex<Dice>,
    trouble: Mutex<Option<(Trouble, Instant)>>,
    dead: AtomicBool,
    hints: Notify,
    world: Arc<World>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing arrives: messages are lost, or delivered when the problem is over.
    HalfOpen,
    /// The node is paused, with all its tasks.
    Paused,
    /// Every message is slow.
    Slow,
}

impl Link {
    pub(super) fn trouble(&self, trouble: Trouble, lasts: Duration) {
        *self.trouble.lock().unwrap() = Some((trouble, Instant::now() + lasts));
    }

    pub(super) fn heal(&self) {
        *self.trouble.lock().unwrap() = None;
    }

    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        match *self.trouble.lock().unwrap() {
            Some((Trouble::Paused, end)) if end > Instant::now() => Some(end),
            _ => None,
        }
    }

    fn roll(&self, below: u64) -> u64 {
        self.dice.lock().unwrap().below(below)
    }

    /// The transfer of one message.
    async fn way(&self) -> Result<(), StoreError> {
        let trouble = self.trouble.lock().unwrap().filter(|(_, end)| *end > Instant::now());
        let delay = match (trouble, self.roll(100)) {
            (Some((Trouble::HalfOpen, _)), 0..50) => return std::future::pending().await,
            (Some((Trouble::HalfOpen | Trouble::Paused, end)), roll) => {
                sleep_until(end).await;
                roll % 5
            }
            (Some((Trouble::Slow, _)), roll) => 30 + roll * 7,
            (None, 0..3) => 50 + self.roll(650),
            (None, 3..15) => 2 + self.roll(30),
            (None, roll) => roll % 3,
        };
        sleep(Duration::from_millis(delay)).await;
        if self.dead.load(Ordering::SeqCst) {
            return Err(StoreError::failed("the process is gone"));
        }
        Ok(())
    }
}

/// A node's handle on the store.
#[derive(Clone)]
pub(super) struct Connection {
    link: Arc<Link>,
}

impl Connection {
    /// Calls the store. The call continues even if nobody waits for the answer any more.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut State, StoreFault) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let link = Arc::clone(&self.link);
        let asked = tokio::spawn(async move {
            link.way().await?;
            let answer = question(&mut link.world.state(), link.world.fault);
            link.way().await?;
            Ok(answer)
        });
        asked.await.unwrap()
    }
}

#[async_trait]
impl KeyStore for Connection {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let digest = *digest.as_bytes();
        self.ask(move |state, fault| match state.replica.get(&digest) {
            Some((before, until)) if fault == StoreFault::Replica && Instant::now() < *until => {
                before.clone()
            }
            _ => state.keys.get(&digest).cloned(),
        })
        .await
    }
}

#[async_trait]
impl Directory for Connection {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let member = (user.clone(), project.unwrap().clone());
        self.ask(move |state, _| AccountStatus::Active { role: state.members.get(&member).copied() }).await
    }
}

#[async_trait]
impl ChangeLog for Connection {
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError> {
        let node = node.clone();
        self.ask(move |state, _| {
            state.nodes.insert(node, Row { acknowledged: Snapshot::default(), lease });
        })
        .await?;
        self.ask(|state, fault| state.snapshot(fault).position()).await
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        let after = Snapshot::of(after);
        self.ask(move |state, fault| {
            let snapshot = state.snapshot(fault);
            let news = state.log.iter().filter(|(number, _)| !after.sees(*number));
            Changes {
                changes: news.map(|(_, change)| change.clone()).collect(),
                position: snapshot.position(),
            }
        })
        .await
    }

    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError> {
        let (node, acknowledged) = (node.clone(), Snapshot::of(position));
        self.ask(move |state, _| match state.nodes.get_mut(&node) {
            Some(row) => {
                row.acknowledged = acknowledged;
                true
            }
            None => {
                *state.counts.entry("acknowledgements of fenced nodes").or_default() += 1;
                false
            }
        })
        .await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        let node = node.clone();
        self.ask(move |state, _| drop(state.nodes.remove(&node))).await
    }

    async fn announce(&self, _: &UserId) -> Result<(), StoreError> {
        Err(StoreError::NotKept)
    }

    async fn hint(&self) {
        self.link.hints.notified().await;
    }
}

/// The nodes, as the store sees them after a change.
struct Admin<'w> {
    world: &'w World,
    dice: Mutex<Dice>,
}

impl Admin<'_> {
    async fn way(&self) -> Result<(), StoreError> {
        let (delay, fails) = {
            let mut dice = self.dice.lock().unwrap();
            (dice.below(2), dice.percent(2))
        };
        sleep(Duration::from_millis(delay)).await;
        if fails { Err(StoreError::failed("the connection broke")) } else { Ok(()) }
    }
}

#[async_trait]
impl Followers for Admin<'_> {
    type Committed = u64;

    async fn behind(&self, number: &u64) -> Result<Option<Duration>, StoreError> {
        self.way().await?;
        let state = self.world.state();
        let behind = state.nodes.values().filter(|row| !row.acknowledged.sees(*number));
        Ok(behind.map(|row| row.lease).max())
    }

    async fn fence(&self, number: &u64, lease: Duration) -> Result<(), StoreError> {
        self.way().await?;
        let mut state = self.world.state();
        let before = state.nodes.len();
        state.nodes.retain(|_, row| row.acknowledged.sees(*number) || row.lease > lease);
        let fenced = u64::try_from(before - state.nodes.len()).unwrap();
        *state.counts.entry("nodes fenced").or_default() += fenced;
        Ok(())
    }
}
