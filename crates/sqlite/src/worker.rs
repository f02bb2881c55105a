//! [`Queue`]: threads that own the connections, because SQLite blocks and an async runtime must not.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::failure::Failure;
use tower_api_key::store::StoreError;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Jobs in reserved places run first; after this many of them in a row, one of the others runs.
const IN_A_ROW: u32 = 8;

/// A bounded queue of jobs, and one thread for each connection that takes from it.
///
/// The threads end, and the connections close, when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Queue(Arc<QueueOwner>);

/// Tells the threads to end when it is dropped.
struct QueueOwner(Arc<QueueState>);

struct QueueState {
    waiting: Mutex<PendingJobs>,
    news: Condvar,
    /// How many jobs may wait.
    common: usize,
    reserved: usize,
}

#[derive(Default)]
struct PendingJobs {
    common: VecDeque<Job>,
    reserved: VecDeque<Job>,
    in_a_row: u32,
    closed: bool,
}

/// The kind of place in which a job waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    /// For every job.
    Common,
    /// For jobs that take access away, which run first.
    Reserved,
}

impl Queue {
    /// Starts the threads. At most `common` jobs wait in common places, and `reserved` more in reserved places.
    pub(crate) fn start(
        name: &str,
        connections: Vec<Connection>,
        common: usize,
        reserved: usize,
    ) -> io::Result<Self> {
        let shared = QueueState { waiting: Mutex::default(), news: Condvar::new(), common, reserved };
        // Dropped on return if a thread cannot be started, so that those already started end.
        let queue = Self(Arc::new(QueueOwner(Arc::new(shared))));
        for connection in connections {
            let shared = Arc::clone(&queue.0.0);
            thread::Builder::new().name(name.to_owned()).spawn(move || serve(&shared, connection))?;
        }
        Ok(queue)
    }

    /// Has a thread run `work`. It is not started if the caller was cancelled meanwhile.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        places: Places,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !reply.is_closed() {
                // If the caller was cancelled, the work is done nevertheless, and its result is dropped.
                drop(reply.send(work(connection)));
            }
        });
        self.0.0.put(places, job)?;
        // The sender is dropped unused if the work panicked.
        answer.await.map_err(|_| StoreError::failed(NoResult))?
    }

    /// Has a thread run `step` until it returns a result, each time as a separate job in a common place, so that other jobs
    /// run in between. Once it has started, it continues even if the caller is cancelled.
    pub(crate) async fn ask_again<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Connection) -> Result<Option<T>, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.begin(Box::new(step), reply)?;
        answer.await.map_err(|_| StoreError::failed(NoResult))?
    }

    /// The same in the background.
    pub(crate) fn do_again(
        &self,
        step: impl FnMut(&mut Connection) -> Result<Option<()>, Failure> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.begin(Box::new(step), oneshot::channel().0)
    }

    fn begin<T: Send + 'static>(&self, step: Step<T>, reply: Reply<T>) -> Result<(), StoreError> {
        self.0.0.put(Places::Common, one_step(Arc::downgrade(&self.0.0), step, reply))
    }
}

type Step<T> = Box<dyn FnMut(&mut Connection) -> Result<Option<T>, Failure> + Send>;
type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A job that runs one step, and then puts the next one at the end of the queue.
fn one_step<T: Send + 'static>(shared: Weak<QueueState>, mut step: Step<T>, reply: Reply<T>) -> Job {
    Box::new(move |connection| match step(connection) {
        Ok(None) => {
            if let Some(queue) = shared.upgrade() {
                queue.put_again(one_step(shared, step, reply));
            }
        }
        Ok(Some(done)) => drop(reply.send(Ok(done))),
        Err(failure) => drop(reply.send(Err(failure))),
    })
}

impl Drop for QueueOwner {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.news.notify_all();
    }
}

impl QueueState {
    fn put(&self, places: Places, job: Job) -> Result<(), StoreError> {
        let mut waiting = self.waiting();
        let (jobs, most) = match places {
            Places::Common => (&mut waiting.common, self.common),
            Places::Reserved => (&mut waiting.reserved, self.reserved),
        };
        if jobs.len() >= most {
            return Err(StoreError::Overloaded);
        }
        jobs.push_back(job);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Puts the next step of a job at the end, even if the queue is full, unless the queue is closed.
    fn put_again(&self, job: Job) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.common.push_back(job);
            drop(waiting);
            self.news.notify_one();
        }
    }

    /// Waits for the next job; `None` when there will be no more.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting();
        loop {
            if let Some(job) = waiting.next() {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ignores poisoning: every change is complete before anything can panic.
    fn waiting(&self) -> MutexGuard<'_, PendingJobs> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingJobs {
    fn next(&mut self) -> Option<Job> {
        if (self.in_a_row < IN_A_ROW || self.common.is_empty())
            && let Some(job) = self.reserved.pop_front()
        {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(job);
        }
        self.in_a_row = 0;
        self.common.pop_front()
    }
}

fn serve(shared: &QueueState, mut connection: Connection) {
    while let Some(job) = shared.next() {
        // A panic affects only one job: its caller gets an error, unwinding has rolled the transaction back, and
        // the thread continues.
        drop(catch_unwind(AssertUnwindSafe(|| job(&mut connection))));
        if !connection.is_autocommit() {
            // The rollback failed, perhaps because the disk is full. Without this, every later write would fail too.
            drop(connection.execute_batch("ROLLBACK"));
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the database thread ended the call without a result")]
struct NoResult;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use tower_api_key::store::RegistryError;

    fn queue(common: usize, reserved: usize) -> Queue {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE done (what TEXT)").unwrap();
        Queue::start("test", vec![connection], common, reserved).unwrap()
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
                Err(RegistryError::Conflict.into())
            })
            .await;
        assert!(matches!(left.unwrap_err().into_registry_error(), RegistryError::Conflict));
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

        // The abandoned job is polled once, so that it is in the queue, and then cancelled.
        let mut abandoned = Box::pin(queue.ask(Places::Common, |connection| {
            connection.execute("INSERT INTO done VALUES ('abandoned')", [])?;
            Ok(())
        }));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(abandoned.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        let refused = queue.ask(Places::Common, |_| Ok(())).await.unwrap_err();
        assert!(matches!(refused.into_store_error(), StoreError::Overloaded));
        drop(abandoned);
        // Exactly one place is reserved.
        let urgent = || async {
            let mut urgent = Box::pin(queue.ask(Places::Reserved, |connection| {
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
        assert_eq!(counted, 1, "the urgent job, and not the abandoned one");
    }

    /// C17-B1: a job that takes access away waits for at most one other job, whatever the load, and does not starve the
    /// others.
    #[tokio::test]
    async fn c17_b1_what_is_kept_is_done_first_and_the_rest_has_its_turn() {
        let queue = queue(64, 64);
        let (started, has_started) = channel();
        let (go, may_go) = channel::<()>();
        let busy = queue.ask(Places::Common, move |_| {
            started.send(()).unwrap();
            may_go.recv().unwrap();
            Ok(())
        });
        let mut busy = Box::pin(busy);
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(busy.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        has_started.recv().unwrap();
        let mut all = Vec::new();
        for (places, name) in [(Places::Common, "common"), (Places::Reserved, "reserved")] {
            for _ in 0..10 {
                let work = queue.ask(places, move |connection| {
                    connection.execute("INSERT INTO done VALUES (?1)", [name])?;
                    Ok(())
                });
                let mut work = Box::pin(work);
                let polled =
                    std::future::poll_fn(|context| std::task::Poll::Ready(work.as_mut().poll(context)));
                assert!(polled.await.is_pending());
                all.push(work);
            }
        }
        go.send(()).unwrap();
        busy.await.unwrap();
        for work in all {
            work.await.unwrap();
        }
        let done = queue.ask(Places::Common, |connection| {
            let mut names = connection.prepare("SELECT what FROM done ORDER BY rowid")?;
            let names = names.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.collect::<Result<Vec<_>, _>>()?)
        });
        let (first, rest) = (["reserved"; 8], ["common", "reserved", "reserved"]);
        let expected: Vec<_> = first.into_iter().chain(rest).chain(["common"; 9]).collect();
        assert_eq!(done.await.unwrap(), expected);
    }

    /// Other jobs run between the steps, which continue after the caller is cancelled.
    #[tokio::test]
    async fn c17_b1_what_takes_many_steps_lets_others_in_and_goes_on() {
        const STEPS: u32 = 20;
        let queue = queue(4, 4);
        let (stepped, step) = channel();
        let (go, may_go) = channel::<()>();
        let mut steps = 0;
        let mut long = Box::pin(queue.ask_again(move |connection| {
            steps += 1;
            connection.execute("INSERT INTO done VALUES ('step')", [])?;
            stepped.send(()).unwrap();
            may_go.recv().unwrap();
            Ok((steps == STEPS).then_some(()))
        }));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(long.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        step.recv().unwrap();
        let mut urgent = Box::pin(queue.ask(Places::Reserved, |connection| {
            connection.execute("INSERT INTO done VALUES ('urgent')", [])?;
            Ok(())
        }));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(urgent.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        drop(long);
        for _ in 0..STEPS {
            go.send(()).unwrap();
        }
        urgent.await.unwrap();
        for _ in 1..STEPS {
            step.recv().unwrap();
        }
        let done = queue.ask(Places::Common, |connection| {
            let mut names = connection.prepare("SELECT what FROM done ORDER BY rowid LIMIT 3")?;
            let names = names.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.collect::<Result<Vec<_>, _>>()?)
        });
        assert_eq!(done.await.unwrap(), ["step", "urgent", "step"]);
    }
}
