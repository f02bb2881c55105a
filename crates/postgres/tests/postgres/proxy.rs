//! A network between a store and its server that can be broken.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to existing connections. Later ones pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Pass,
    /// Closes both sides.
    Drop,
    /// Transports nothing, and reports no error.
    Stall,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    fate: Arc<watch::Sender<(u64, Fate)>>,
    /// What happens to new connections.
    next: Arc<watch::Sender<Fate>>,
    accepts: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fate = Arc::new(watch::Sender::new((0, Fate::Pass)));
        let next = Arc::new(watch::Sender::new(Fate::Pass));
        let accepts = tokio::spawn({
            let (fate, next) = (Arc::clone(&fate), Arc::clone(&next));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    match *next.borrow() {
                        Fate::Pass => {}
                        Fate::Drop => continue,
                        Fate::Stall => {
                            // Kept open until the proxy ends.
                            tokio::spawn(async move {
                                let _client = client;
                                std::future::pending::<()>().await;
                            });
                            continue;
                        }
                    }
                    let Ok(server) = TcpStream::connect(server).await else { continue };
                    tokio::spawn(carry(client, server, fate.subscribe()));
                }
            }
        });
        Self { port, fate, next, accepts }
    }

    /// Sets what happens to existing connections.
    pub(super) fn all_of_now(&self, fate: Fate) {
        self.fate.send_modify(|(count, now)| (*count, *now) = (*count + 1, fate));
    }

    /// Sets what happens to new connections.
    pub(super) fn all_to_come(&self, fate: Fate) {
        self.next.send_replace(fate);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut fate: watch::Receiver<(u64, Fate)>) {
    fate.mark_unchanged();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            biased;
            changed = fate.changed() => {
                let now = fate.borrow_and_update().1;
                match (changed, now) {
                    (Ok(()), Fate::Pass) => {}
                    (Ok(()), Fate::Stall) => std::future::pending::<()>().await,
                    _ => return,
                }
            }
            read = from_client.read(&mut up) => match read {
                Ok(len @ 1..) => if to_server.write_all(&up[..len]).await.is_err() { return },
                _ => return,
            },
            read = from_server.read(&mut down) => match read {
                Ok(len @ 1..) => if to_client.write_all(&down[..len]).await.is_err() { return },
                _ => return,
            },
        }
    }
}
