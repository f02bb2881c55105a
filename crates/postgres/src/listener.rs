//! [`Listener`]: receives `NOTIFY` hints that the change log has grown. A lost hint only causes a delay.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::select;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Config, Socket};

use crate::session::in_schema;

const LISTEN: &str = "LISTEN tower_api_key";

/// How often a half-open connection is detected.
const HEARTBEAT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Listener {
    news: Arc<Notify>,
    start: Option<Box<dyn Fn() -> JoinHandle<()> + Send + Sync>>,
    task: OnceLock<JoinHandle<()>>,
}

impl Listener {
    /// Creates a listener that connects at the first call of `hint`.
    pub(crate) fn new<T>(server: Config, tls: T, schema: &str, deadline: Duration) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let news = Arc::new(Notify::new());
        let listen: Arc<str> = in_schema(LISTEN, schema).into();
        let for_task = Arc::clone(&news);
        let start = move || {
            let (server, tls, news) = (server.clone(), tls.clone(), Arc::clone(&for_task));
            tokio::spawn(hear(server, tls, Arc::clone(&listen), deadline, news))
        };
        Self { news, start: Some(Box::new(start)), task: OnceLock::new() }
    }

    /// Creates a listener that receives no hints.
    pub(crate) fn deaf() -> Self {
        Self { news: Arc::default(), start: None, task: OnceLock::new() }
    }

    pub(crate) async fn hint(&self) {
        if let Some(start) = &self.start {
            self.task.get_or_init(start);
        }
        self.news.notified().await;
    }
}

impl Listener {
    /// Stops listening.
    pub(crate) fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

async fn hear<T>(server: Config, tls: T, listen: Arc<str>, deadline: Duration, news: Arc<Notify>)
where
    T: MakeTlsConnect<Socket> + Clone,
{
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(Ok((client, mut connection))) = timeout(deadline, server.connect(tls.clone())).await {
            let heard = async {
                while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                    if matches!(message, AsyncMessage::Notification(_)) {
                        tell(&news);
                    }
                }
            };
            let mut listening = false;
            let alive = async {
                let mut word: &str = &listen;
                while let Ok(Ok(())) = timeout(deadline, client.batch_execute(word)).await {
                    if !listening {
                        listening = true;
                        // Hints may have been missed before the connection was made.
                        tell(&news);
                    }
                    word = "";
                    sleep(HEARTBEAT).await;
                }
            };
            select(pin!(heard), pin!(alive)).await;
            if listening {
                pause = FIRST_PAUSE;
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Wakes all tasks that wait for news, and the next one that starts to wait.
fn tell(news: &Notify) {
    news.notify_waiters();
    news.notify_one();
}
