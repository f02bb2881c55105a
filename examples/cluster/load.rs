//! Sends requests to the nodes as fast as they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;
use crate::change::Keys;
use crate::check::{Asked, History};
use crate::node::Node;
use crate::options::Dice;

/// The number of clients for each node.
const CLIENTS: u64 = 3;
/// Longer than any fault lasts, so that every request is answered in the end.
const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    pub(crate) async fn finish(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while self.clients.join_next().await.is_some() {}
    }
}

pub(crate) fn start(nodes: &[Arc<Node>], keys: &Arc<Keys>, history: &Arc<History>) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for node in nodes {
        for client in 0..CLIENTS {
            let dice = Dice(node.number as u64 * CLIENTS + client);
            let (node, keys) = (Arc::clone(node), Arc::clone(keys));
            clients.spawn(client_of(node, keys, Arc::clone(history), dice, Arc::clone(&stop)));
        }
    }
    Load { stop, clients }
}

async fn client_of(
    node: Arc<Node>,
    keys: Arc<Keys>,
    history: Arc<History>,
    mut dice: Dice,
    stop: Arc<AtomicBool>,
) {
    let mut connection: Option<(String, SendRequest<Empty<Bytes>>)> = None;
    while !stop.load(Ordering::SeqCst) {
        let Some(address) = node.address.borrow().clone() else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if connection.as_ref().is_none_or(|(to, sender)| *to != address || sender.is_closed()) {
            connection = connect(&address).await.ok().map(|sender| (address.clone(), sender));
        }
        let Some((_, sender)) = &mut connection else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (key, writes) = (keys.any(&mut dice), dice.roll(4) == 0);
        let method = if writes { Method::POST } else { Method::GET };
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", &address)
            .header("x-api-key", keys.secret(key).expose_secret())
            .body(Empty::new());
        let Ok(request) = request else { return };
        let began = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, async {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            answer.into_body().collect().await?;
            Ok::<_, hyper::Error>(status)
        });
        match answer.await {
            Ok(Ok(status)) => {
                let ended = Instant::now();
                history.answered(Asked { node: node.number, key, writes, began, ended, status }, &keys);
            }
            // The node is gone, or was stopped for too long.
            Ok(Err(_)) | Err(_) => connection = None,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn connect(address: &str) -> Result<SendRequest<Empty<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
