//! Threads that own the connections: SQLite blocks, and an async runtime must not.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::super::StoreError;
use super::failure::Failure;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A bounded queue of work, and one thread for each connection that takes from it.
///
/// The threads end, and the connections close, when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: SyncSender<Job>,
    /// The places that anybody's work may wait in.
    common: Arc<Semaphore>,
}

/// Which places of a queue work may wait in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// All but those that are kept.
    Common,
    /// All.
    Kept,
}

impl Queue {
    /// Starts the threads. At most `common` jobs wait in places for everybody, and `kept` more in those that are kept.
    pub(super) fn start(
        name: &str,
        connections: Vec<Connection>,
        common: usize,
        kept: usize,
    ) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel(common + kept);
        let waiting = Arc::new(Mutex::new(waiting));
        for connection in connections {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name(name.to_owned()).spawn(move || serve(&waiting, connection))?;
        }
        Ok(Self { jobs, common: Arc::new(Semaphore::new(common)) })
    }

    /// Has a thread do `work`. Work is not begun if nobody waits for its answer any more.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        places: Places,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let place = match places {
            Places::Kept => None,
            Places::Common => {
                let place = Arc::clone(&self.common).try_acquire_owned();
                Some(place.map_err(|_| StoreError::Overloaded)?)
            }
        };
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // It waits no more.
            drop(place);
            if !reply.is_closed() {
                // If nobody waits now, the work is done all the same, and its result is theirs to find.
                drop(reply.send(work(connection)));
            }
        });
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Disconnected(_) => StoreError::failed(Gone),
        })?;
        // The sender is dropped unused if the work panicked.
        answer.await.map_err(|_| StoreError::failed(Gone))?
    }
}

fn serve(waiting: &Mutex<Receiver<Job>>, mut connection: Connection) {
    loop {
        // One thread waits for the next job, and the others wait for their turn to wait.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // A panic is that of one job: its caller is told, the transaction was rolled back while unwinding, and the
        // thread goes on.
        drop(catch_unwind(AssertUnwindSafe(|| job(&mut connection))));
        if !connection.is_autocommit() {
            // A rollback that failed, on a full disk perhaps. Without this every later write would fail too.
            drop(connection.execute_batch("ROLLBACK"));
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the thread that was asked gave no answer")]
struct Gone;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::store::LedgerError;

    fn queue(common: usize, kept: usize) -> Queue {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE done (what TEXT)").unwrap();
        Queue::start("test", vec![connection], common, kept).unwrap()
    }

    async fn count(queue: &Queue) -> i64 {
        let counted = queue.ask(Places::Common, |connection| {
            Ok(connection.query_row("SELECT count(*) FROM done", [], |row| row.get::<_, i64>(0))?)
        });
        counted.await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_its_caller_and_for_nobody_else() {
        let queue = queue(4, 0);
        let panicked: Result<(), _> = queue
            .ask(Places::Common, |connection| {
                let transaction = connection.transaction()?;
                transaction.execute("INSERT INTO done VALUES ('half')", [])?;
                panic!("a bug");
            })
            .await;
        assert!(matches!(panicked.unwrap_err().into_store_error(), StoreError::Failed(_)));
        assert_eq!(count(&queue).await, 0);
    }

    #[tokio::test]
    async fn c10_08_a_transaction_left_open_does_not_stick() {
        let queue = queue(4, 0);
        let left: Result<(), _> = queue
            .ask(Places::Common, |connection| {
                connection.execute_batch("BEGIN; INSERT INTO done VALUES ('left')")?;
                Err(LedgerError::Conflict.into())
            })
            .await;
        assert!(matches!(left.unwrap_err().into_ledger_error(), LedgerError::Conflict));
        assert_eq!(count(&queue).await, 0);
    }

    #[tokio::test]
    async fn c10_03_a_full_queue_is_overload_at_once_and_abandoned_work_is_skipped() {
        let queue = queue(1, 1);
        let (started, has_started) = channel();
        let (go, may_go) = channel::<()>();
        let busy = tokio::spawn({
            let queue = queue.clone();
            async move {
                let work = queue.ask(Places::Common, move |_| {
                    started.send(()).unwrap();
                    may_go.recv().unwrap();
                    Ok(())
                });
                work.await
            }
        });
        while has_started.try_recv().is_err() {
            tokio::task::yield_now().await;
        }

        // One waits. It is polled once, so that it stands in the queue, and then nobody waits for it any more.
        let mut abandoned = Box::pin(queue.ask(Places::Common, |connection| {
            connection.execute("INSERT INTO done VALUES ('abandoned')", [])?;
            Ok(())
        }));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(abandoned.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        let refused = queue.ask(Places::Common, |_| Ok(())).await.unwrap_err();
        assert!(matches!(refused.into_store_error(), StoreError::Overloaded));
        drop(abandoned);
        // One place is kept, and no more than one.
        let urgent = || async {
            let mut urgent = Box::pin(queue.ask(Places::Kept, |connection| {
                connection.execute("INSERT INTO done VALUES ('urgent')", [])?;
                Ok(())
            }));
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(urgent.as_mut().poll(context)));
            let polled = polled.await;
            (urgent, polled)
        };
        let (waiting, polled) = urgent().await;
        assert!(polled.is_pending());
        let (_, refused) = urgent().await;
        let std::task::Poll::Ready(Err(refused)) = refused else { panic!("{refused:?}") };
        assert!(matches!(refused.into_store_error(), StoreError::Overloaded));

        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        waiting.await.unwrap();
        // The place in the queue is free once the abandoned job was taken out of it.
        let counted = loop {
            let counted = queue.ask(Places::Common, |connection| {
                Ok(connection.query_row("SELECT count(*) FROM done", [], |row| row.get::<_, i64>(0))?)
            });
            match counted.await.map_err(Failure::into_store_error) {
                Err(StoreError::Overloaded) => tokio::task::yield_now().await,
                counted => break counted.unwrap(),
            }
        };
        assert_eq!(counted, 1, "what was urgent, and not what was abandoned");
    }
}
