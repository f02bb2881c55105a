//! A TCP proxy between a node and the database that can stall or cut connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The state of the connection to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections stay open but carry no data, like half-open connections.
    Stalled,
    /// Connections break, and new ones are refused.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    pub(crate) async fn start(database: String) -> std::io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (way, watched) = watch::channel(Way::Open);
        let proxy = Arc::new(Self { address: listener.local_addr()?, way });
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let (database, watched) = (database.clone(), watched.clone());
                tokio::spawn(async move { pass(node, &database, watched).await });
            }
        });
        Ok(proxy)
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn pass(node: TcpStream, database: &str, mut way: watch::Receiver<Way>) {
    if *way.borrow() == Way::Cut {
        return;
    }
    let Ok(database) = TcpStream::connect(database).await else { return };
    for stream in [&node, &database] {
        // A delay by Nagle's algorithm (40 ms) is not one of the faults to test.
        let _ = stream.set_nodelay(true);
    }
    let ((from_node, to_node), (from_database, to_database)) = (node.into_split(), database.into_split());
    tokio::select! {
        () = copy(from_node, to_database, way.clone()) => {}
        () = copy(from_database, to_node, way.clone()) => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if way.wait_for(|way| *way != Way::Stalled).await.is_err() {
            return;
        }
        let Some(read) = bytes.get(..count) else { return };
        if to.write_all(read).await.is_err() {
            return;
        }
    }
}
