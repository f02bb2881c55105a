//! The log of changes, and the nodes that follow it: what makes a cache that cannot lie.
//!
//! A store that several processes share lets them keep copies of what it holds, if it implements [`ChangeLog`] for those
//! who read and [`Followers`] for itself. The protocol, and why it is right, is in
//! [`lease_protocol`](crate::lease_protocol). In short: every change writes to a log in its own transaction; a node
//! serves from memory only under a lease, which it renews by reading that log; and a change returns when each node has
//! acknowledged it, or when the lease of those that have not has certainly run out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::StoreError;
use crate::key::{KeyDigest, UserId};

/// Clocks of two nodes differ in speed by at most one part in this many: 5 %. Quartz is off by 0.02 % at worst, a clock
/// that is being slewed by 0.05 %, a virtual machine's by a little more.
const DRIFT: u32 = 20;
/// What a change waits longer than the arithmetic asks for.
const MARGIN: Duration = Duration::from_millis(20);
/// How long a change waits between two looks at the nodes, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

/// A log of changes, as a node sees it that keeps a copy.
///
/// # Every change is in it
///
/// Whatever makes an answer of [`KeyStore::find`](super::KeyStore::find) or
/// [`Directory::account_status`](super::Directory::account_status) another one is in the log when it is committed, by the same
/// transaction: keys that are added (a node may remember that there was none), changed and ended, people and projects
/// likewise, and changes made by hand (by triggers). And whatever method of the store makes it calls [`settle`] before it
/// returns, also when it found nothing left to do: the first attempt may have been committed and not confirmed (C9-12).
///
/// # A position is a set of transactions, not a number
///
/// Transactions do not become visible in the order in which they draw numbers (C9-06): a node that remembers the highest
/// number it saw misses the one that was drawn before and committed after. In PostgreSQL a position is a `pg_snapshot`.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no log of changes, and cannot be cached",
    note = "`PostgresStore` has one; `MemoryStore` and `SqliteStore` answer fast enough without a cache",
    note = "a directory that stands beside a store is cached with it by `WithDirectory`, if every change of it is announced; or not at all: `(cached, directory)`"
)]
pub trait ChangeLog: Send + Sync + 'static {
    /// Puts the node among those that changes wait for, and *then*, when that is committed, reads where the log ends.
    ///
    /// `lease` is how long this node may serve from memory after it last read the log: those who write must know it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The node may be among them or not; it will not use this id again.
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError>;

    /// All that was committed and is not in `after`, and the position that includes it: both from one snapshot, taken
    /// after this was called, of the database that is written to and not of a replica (C9-04).
    ///
    /// A store that no longer has all of it says [`Change::Everything`]. To say a change twice does no harm.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The node asks again from the same position.
    async fn changes(&self, after: &Position) -> Result<Changes, StoreError>;

    /// Notes that this node has applied all that is in `position`. Returns whether the node is still among those that
    /// changes wait for; if it is not, nothing is noted.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if that is not known. It may have been noted.
    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError>;

    /// Takes the node from those that changes wait for. It serves nothing from memory any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. Then one change will wait for it until its lease has run out.
    async fn leave(&self, node: &NodeId) -> Result<(), StoreError>;

    /// Writes to the log that what `user` may do has changed outside of this store, and returns as every change does: when no
    /// node answers by what was before.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. It may be in the log; whoever asked announces it again.
    async fn announce(&self, user: &UserId) -> Result<(), StoreError>;

    /// Comes back when there may be news: a hint, which may be lost, late, or wrong. Dropped when the node reads the log
    /// for another reason. One that comes while nobody waits should be kept for the next call.
    ///
    /// The default never comes back: then nodes read the log at intervals, and changes wait for that.
    async fn hint(&self) {
        std::future::pending().await
    }
}

/// The nodes that follow a log, as the store sees them after a change. For [`settle`].
#[async_trait]
pub trait Followers: Send + Sync {
    /// Names a committed change; in PostgreSQL the id of its transaction.
    type Committed: Send + Sync;

    /// The longest lease of those nodes that have not acknowledged a position with this change in it; `None` if all
    /// have.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not tell.
    async fn behind(&self, change: &Self::Committed) -> Result<Option<Duration>, StoreError>;

    /// Takes from the table of nodes those that have not acknowledged this change and whose lease is no longer than
    /// `lease`. In one statement with the question whether they have.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not tell.
    async fn fence(&self, change: &Self::Committed, lease: Duration) -> Result<(), StoreError>;
}

/// Waits until no node can serve from memory what a change has ended. Called by a store *after* its commit, and before it
/// says that the change is made.
///
/// That takes as long as the slowest living node takes to acknowledge it. For one that has stopped, or is cut off, it
/// takes [the time in which a lease runs out](outlived), once: then the node is fenced, and no change waits for it again.
///
/// # Errors
///
/// [`StoreError`] of the store. The change is committed then and will be seen by every node within its lease, but that it
/// has been is not known.
pub async fn settle<F: Followers + ?Sized>(followers: &F, change: &F::Committed) -> Result<(), StoreError> {
    // Later than the commit, and that is the safe side.
    let committed = Instant::now();
    let (mut pause, longest) = LOOKS;
    while let Some(lease) = followers.behind(change).await? {
        if committed.elapsed() >= outlived(lease) {
            followers.fence(change, lease).await?;
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
    Ok(())
}

/// After this long on one node's clock, a lease of that length that began before on another's has ended.
#[must_use]
pub fn outlived(lease: Duration) -> Duration {
    lease.saturating_add(lease / DRIFT).saturating_add(MARGIN)
}

/// What was changed, and whose answers are not true any more.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// The key with this digest: added, changed or ended.
    Key(KeyDigest),
    /// What this user may do, anywhere.
    Owner(UserId),
    /// Anything: whatever is remembered is forgotten.
    Everything,
}

/// News from the log.
#[derive(Clone, Debug)]
pub struct Changes {
    /// In any order.
    pub changes: Vec<Change>,
    /// What has been seen with them.
    pub position: Position,
}

/// What a node has seen of the log, in the store's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(Arc<str>);

impl Position {
    /// From whatever the store will understand again.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// What the store said.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One stay of a node among those that changes wait for. A node that was fenced comes back under another.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// `node_` and 32 random hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the system has no random numbers.
    pub fn random() -> Result<Self, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| StoreError::failed(error.to_string()))?;
        Ok(Self(format!("node_{:032x}", u128::from_be_bytes(random)).into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[async_trait]
impl<L: ChangeLog + ?Sized> ChangeLog for Arc<L> {
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError> {
        (**self).join(node, lease).await
    }

    async fn changes(&self, after: &Position) -> Result<Changes, StoreError> {
        (**self).changes(after).await
    }

    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError> {
        (**self).acknowledge(node, position).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        (**self).leave(node).await
    }

    async fn announce(&self, user: &UserId) -> Result<(), StoreError> {
        (**self).announce(user).await
    }

    async fn hint(&self) {
        (**self).hint().await;
    }
}
