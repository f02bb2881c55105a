//! [`ChangeLog`]: the log of changes, which caching nodes follow, so that a cache never returns an outdated answer.
//!
//! A store that several processes share can be cached by them if it implements [`ChangeLog`], which the nodes call,
//! and [`Followers`], which the store itself uses. The protocol and its proof are in
//! [`lease_protocol`](crate::lease_protocol). In short: every change writes to a log in its own transaction. A node
//! answers from memory only under a lease, which it renews by reading that log. A change returns when each node has
//! acknowledged it, or when the leases of the nodes that have not have expired.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::StoreError;
use crate::key::{KeyDigest, UserId};

/// The speeds of the clocks of two nodes differ by at most one part in this many: 5 %. A quartz is off by at most
/// 0.02 %, a clock that is being slewed by 0.05 %, the clock of a virtual machine by a little more.
const DRIFT: u32 = 20;
/// A safety margin, by which a change waits longer than computed.
const MARGIN: Duration = Duration::from_millis(20);
/// The first and the longest interval at which a change polls for acknowledgements.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

/// A log of changes, which a caching node follows.
///
/// # Every change is in it
///
/// Every change that alters an answer of [`KeyStore::find`](super::KeyStore::find) or
/// [`Directory::account_status`](super::Directory::account_status) is written to the log by its own transaction.
/// This includes new keys (a node may have cached that there was none), changed and ended keys, people and
/// projects, and, by triggers, changes made by hand. Every method of the store that makes such a change calls
/// [`settle`] before it returns, even if there was nothing left to do: an earlier attempt may have been committed
/// without being confirmed (C9-12).
///
/// # A position is a set of transactions, not a number
///
/// Transactions do not become visible in the order of their numbers (C9-06). A node that stored only the highest
/// number it saw would miss a transaction with a lower number that commits later. In PostgreSQL a position is a
/// `pg_snapshot`.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no log of changes, and cannot be cached",
    note = "`PostgresStore` has one; `MemoryStore` and `SqliteStore` answer fast enough without a cache",
    note = "a directory that stands beside a store is cached with it by `WithDirectory`, if every change of it is announced; or not at all: `(cached, directory)`"
)]
pub trait ChangeLog: Send + Sync + 'static {
    /// Registers the node, so that changes wait for it, and *then*, after that is committed, reads the end of the
    /// log.
    ///
    /// `lease` is how long this node may answer from memory after it last read the log. Writers must know it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The node may or may not be registered then. It does not use this id again.
    async fn join(&self, node: &NodeId, lease: Duration) -> Result<Position, StoreError>;

    /// Returns all committed changes that are not in `after`, and the position that includes them. Both come from
    /// one snapshot, which is taken after this is called, and from the primary database, not from a replica
    /// (C9-04).
    ///
    /// A store that no longer has all of them returns [`Change::Everything`]. Returning a change twice does no
    /// harm.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The node calls again with the same position.
    async fn changes(&self, after: &Position) -> Result<Changes, StoreError>;

    /// Records that this node has applied all changes in `position`. Returns whether the node is still registered;
    /// if it is not, nothing is recorded.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the result is unknown. It may have been recorded.
    async fn acknowledge(&self, node: &NodeId, position: &Position) -> Result<bool, StoreError>;

    /// Unregisters the node, which no longer answers from memory.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. Then the next change waits until the node's lease has expired.
    async fn leave(&self, node: &NodeId) -> Result<(), StoreError>;

    /// Writes to the log that what `user` may do has changed outside of this store. Like every change, this returns
    /// when no node uses the earlier answer any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The change may be in the log; the caller announces it again.
    async fn announce(&self, user: &UserId) -> Result<(), StoreError>;

    /// Returns when there may be new changes. This is only a hint, which may be lost, late or wrong. The future is
    /// dropped when the node reads the log for another reason. A hint that comes while nobody waits should be kept
    /// for the next call.
    ///
    /// The default never returns. Then nodes read the log at intervals, and changes wait for that.
    async fn hint(&self) {
        std::future::pending().await
    }
}

/// The nodes that follow a log, for [`settle`].
#[async_trait]
pub trait Followers: Send + Sync {
    /// Identifies a committed change; in PostgreSQL this is the id of its transaction.
    type Committed: Send + Sync;

    /// Returns the longest lease of the nodes that have not acknowledged a position with this change; `None` if all
    /// have.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store failed.
    async fn behind(&self, change: &Self::Committed) -> Result<Option<Duration>, StoreError>;

    /// Unregisters the nodes that have not acknowledged this change and whose lease is at most `lease`, in one
    /// statement with that check.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store failed.
    async fn fence(&self, change: &Self::Committed, lease: Duration) -> Result<(), StoreError>;
}

/// Waits until no node can answer from memory with what was before a change. A store calls this *after* its commit,
/// and before it reports success.
///
/// This takes as long as the slowest live node takes to acknowledge the change. If a node has stopped or is cut
/// off, this waits once until [its lease has expired](outlived). Then the node is fenced, and no later change waits
/// for it.
///
/// # Errors
///
/// [`StoreError`] if the store failed. The change is committed then, and every node will see it within its lease,
/// but it is unknown whether all have.
pub async fn settle<F: Followers + ?Sized>(followers: &F, change: &F::Committed) -> Result<(), StoreError> {
    // This is later than the commit, so it errs on the safe side.
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

/// How long a node must wait on its own clock until a lease of this length that another node was granted before has
/// expired.
#[must_use]
pub fn outlived(lease: Duration) -> Duration {
    lease.saturating_add(lease / DRIFT).saturating_add(MARGIN)
}

/// A change, after which cached answers about its subject are outdated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// The key with this digest was added, changed or ended.
    Key(KeyDigest),
    /// What this user may do has changed, in any project.
    Owner(UserId),
    /// Anything may have changed: all cached answers are dropped.
    Everything,
}

/// New changes from the log.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The changes, in any order.
    pub changes: Vec<Change>,
    /// The position that includes them.
    pub position: Position,
}

/// What a node has read of the log, in a format of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(Arc<str>);

impl Position {
    /// Creates a position from the store's text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The store's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of one registration of a node. A node that was fenced registers again with a new id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Creates an id: `node_` and 32 random hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the random source of the system fails.
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
