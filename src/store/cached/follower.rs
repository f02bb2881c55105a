//! The task that follows the log: it applies changes, acknowledges them, and renews the lease.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::sleep;

use super::faults::Fault;
use super::lease::Moment;
use super::memory::Memory;
use crate::store::change_log::{ChangeLog, NodeId, Position};
use crate::store::{StoreError, in_time};

/// After a failure, the task waits for the lease divided by this.
const BACKOFF: u32 = 16;
/// Rounds per lease: one may fail and another may be late, and the lease is still renewed in time.
const ROUNDS: u32 = 4;

/// Follows the log until it is told to stop, or until the last `Cached` is dropped.
///
/// If anything fails, the lease is not renewed, and after it has expired nothing is answered from memory. No action
/// is needed for that.
pub(super) async fn follow<L: ChangeLog>(log: Arc<L>, memory: Arc<Memory>, stop: watch::Receiver<()>) {
    loop {
        // In a task of its own, so that a panic of the store does not end the following for ever (C8-09).
        let following = tokio::spawn(stay(Arc::clone(&log), Arc::clone(&memory), stop.clone()));
        match following.await {
            Ok(()) => return,
            Err(error) if error.is_cancelled() => return,
            Err(_) => sleep(memory.lease_for).await,
        }
    }
}

async fn stay<L: ChangeLog>(log: Arc<L>, memory: Arc<Memory>, mut stop: watch::Receiver<()>) {
    let mut node = None;
    let follower = Follower { log: &*log, memory: &memory };
    {
        let (mut stopped, mut follows) = (pin!(stop.changed()), pin!(follower.follow(&mut node)));
        let either = poll_fn(|cx| match stopped.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => follows.as_mut().poll(cx).map(|never| match never {}),
        });
        either.await;
    }
    memory.lease.end();
    if let Some(node) = node {
        // The node stops, so nobody needs to know whether this failed.
        let _ = in_time(memory.lease_for, log.leave(&node)).await;
    }
}

struct Follower<'f, L> {
    log: &'f L,
    memory: &'f Arc<Memory>,
}

enum Never {}

impl<L: ChangeLog> Follower<'_, L> {
    async fn follow(&self, stays_as: &mut Option<NodeId>) -> Never {
        loop {
            match self.join(stays_as).await {
                Ok((node, position)) => self.rounds(&node, position).await,
                Err(_) => self.back_off().await,
            }
        }
    }

    /// Begins a term, in which all earlier entries are invalid.
    async fn join(&self, stays_as: &mut Option<NodeId>) -> Result<(NodeId, Position), StoreError> {
        // A new id each time, so that a message of the last registration that is still on its way has no effect on
        // this one.
        let node = NodeId::random()?;
        let last = stays_as.replace(node.clone());
        let position = self.in_time(self.log.join(&node, self.memory.lease_for)).await?;
        if !self.memory.faults.has(Fault::FenceIgnored) {
            self.memory.lease.begin();
            self.memory.clear();
        }
        if let Some(last) = last {
            // If this fails, the next change waits once until that lease has expired.
            let _ = self.in_time(self.log.leave(&last)).await;
        }
        Ok((node, position))
    }

    /// Renews the lease, round after round, until this node is fenced or may have been.
    async fn rounds(&self, node: &NodeId, mut position: Position) {
        loop {
            let before = match self.read(&mut position).await {
                Ok(before) => before,
                Err(_) => {
                    self.back_off().await;
                    continue;
                }
            };
            let faults = &self.memory.faults;
            match self.in_time(self.log.acknowledge(node, &position)).await {
                Ok(true) => {}
                Ok(false) if faults.has(Fault::FenceIgnored) => {}
                Err(_) if faults.has(Fault::DoubtForgotten) => continue,
                // If this acknowledgement is still on its way, it may arrive after the next one and overwrite it.
                // Then the node would be fenced for a change that it has acknowledged, while the lease that it was
                // granted continues.
                Ok(false) | Err(_) => {
                    self.memory.lease.end();
                    return self.back_off().await;
                }
            }
            let late = faults.has(Fault::LeaseFromAcknowledgement);
            self.grant(if late { self.memory.lease.now() } else { before });
            self.pause().await;
        }
    }

    /// Reads new changes and applies them, before they are acknowledged. Returns when it began: every change that
    /// it did not see is later than that.
    async fn read(&self, position: &mut Position) -> Result<Moment, StoreError> {
        let before = self.memory.lease.now();
        let news = self.in_time(self.log.changes(position)).await?;
        if self.memory.faults.has(Fault::AppliedLate) {
            let (memory, changes) = (Arc::clone(self.memory), news.changes);
            tokio::spawn(async move {
                sleep(memory.lease_for / 8).await;
                changes.iter().for_each(|change| memory.apply(change));
            });
        } else if !self.memory.faults.has(Fault::NotApplied) {
            news.changes.iter().for_each(|change| self.memory.apply(change));
        }
        *position = news.position;
        Ok(before)
    }

    fn grant(&self, before: Moment) {
        let memory = self.memory;
        let long = if memory.faults.has(Fault::LeaseTooLong) { 100 } else { 1 };
        memory.lease.grant(before.plus(memory.lease_for * long));
    }

    async fn pause(&self) {
        // The next step is the same after a hint and after a timeout.
        let _ = in_time::<_, StoreError>(self.memory.lease_for / ROUNDS, async {
            self.log.hint().await;
            Ok(())
        })
        .await;
    }

    async fn back_off(&self) {
        sleep(self.memory.lease_for / BACKOFF).await;
    }

    /// Waits for the store no longer than a lease, because a later answer is of no use.
    async fn in_time<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        in_time(self.memory.lease_for, question).await
    }
}
