//! The one who follows the log: applies what it says, acknowledges it, and renews the lease.

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

/// How long to wait after something failed, as a part of the lease.
const BACKOFF: u32 = 16;
/// Rounds per lease: one may fail and another be late, and the lease is renewed in time all the same.
const ROUNDS: u32 = 4;

/// Follows until it is told to stop, or until nobody is left who could tell.
///
/// Whatever fails, the lease is not renewed, and nothing is served from memory when it has run out: there is nothing that
/// must be done for that.
pub(super) async fn follow<L: ChangeLog>(log: Arc<L>, memory: Arc<Memory>, stop: watch::Receiver<()>) {
    loop {
        // In a task of its own, so that a panic of the store's does not end it for ever (C8-09).
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
        // Nobody is left whom it would help to know that this failed.
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

    /// Begins a term: what was read before is worth nothing in it.
    async fn join(&self, stays_as: &mut Option<NodeId>) -> Result<(NodeId, Position), StoreError> {
        // Another id each time: what is still on its way from the last stay means nothing in this one.
        let node = NodeId::random()?;
        let last = stays_as.replace(node.clone());
        let position = self.in_time(self.log.join(&node, self.memory.lease_for)).await?;
        if !self.memory.faults.has(Fault::FenceIgnored) {
            self.memory.lease.begin();
            self.memory.clear();
        }
        if let Some(last) = last {
            // If this fails, a change will wait for it, once.
            let _ = self.in_time(self.log.leave(&last)).await;
        }
        Ok((node, position))
    }

    /// Renews the lease, round after round, until this node is fenced or may be.
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
                // If it is still on its way, it may arrive after the next one and take back what that said: then the row
                // is fenced for a change that was acknowledged, and the lease that was granted for it goes on.
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

    /// Reads what there is to read, and applies it: what is acknowledged has been applied. Says when it began: a change
    /// that it did not see is later than that.
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
        // The same whether there is news or time is up.
        let _ = in_time::<_, StoreError>(self.memory.lease_for / ROUNDS, async {
            self.log.hint().await;
            Ok(())
        })
        .await;
    }

    async fn back_off(&self) {
        sleep(self.memory.lease_for / BACKOFF).await;
    }

    /// What takes longer than a lease comes too late for it.
    async fn in_time<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        in_time(self.memory.lease_for, question).await
    }
}
