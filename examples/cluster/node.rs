//! One node: a process with a layer, a cache and a connection to the database.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};
use tower_api_key::scheme::ApiKeyHeader;
use tower_api_key::store::{CacheOptions, Directory, KeyStore};
use tower_api_key::{ApiKeyAuth, Principal};
use tower_api_key_postgres::PostgresOptions;

use crate::database::named;
use crate::naive::Naive;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::{Failure, LEASE};

/// The main function of a node's process.
pub(crate) async fn run(database_url: &str, options: &Options) -> Result<(), Failure> {
    let store = loop {
        // The node may be started while the database cannot be reached.
        match PostgresOptions::new(database_url)?.schema(&options.schema)?.connect().await {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    if options.naive {
        return serve(Naive::new(store)).await;
    }
    let store = CacheOptions::new().lease(LEASE)?.start(store);
    serve(store.clone()).await?;
    store.shutdown().await;
    Ok(())
}

async fn serve(store: impl KeyStore + Directory) -> Result<(), Failure> {
    let auth = ApiKeyAuth::new(store, ApiKeyHeader::default().project_optional());
    let app = Router::new()
        .route("/", get(async |who: Principal| who.key_id().to_string()).post(async |_: Principal| "written"))
        .layer(auth);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            // Ends when the parent closes our stdin or is gone.
            let mut nothing = String::new();
            let _ = BufReader::new(tokio::io::stdin()).read_line(&mut nothing).await;
        })
        .await?;
    Ok(())
}

/// A node's process, as its parent sees it.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) proxy: Arc<Proxy>,
    /// Where it listens, which changes at each start.
    pub(crate) address: watch::Sender<Option<String>>,
    child: Mutex<Option<Child>>,
    arguments: Vec<String>,
}

impl Node {
    pub(crate) async fn start(number: usize, options: &Options) -> Result<Self, Failure> {
        let url = &options.database_url;
        let host = host(url).ok_or("the database's URL wants a host: postgres://user@host:port/name")?;
        let proxy = Proxy::start(with_port(host)).await?;
        let url = named(&url.replacen(host, &proxy.address.to_string(), 1), &options.schema);
        let mut arguments = vec!["--node".to_owned(), url, "--schema".to_owned(), options.schema.clone()];
        if options.naive {
            arguments.push("--naive".to_owned());
        }
        let node =
            Self { number, proxy, address: watch::Sender::new(None), child: Mutex::new(None), arguments };
        node.revive().await?;
        Ok(node)
    }

    /// Starts the process if it is not running.
    pub(crate) async fn revive(&self) -> io::Result<()> {
        let mut child = self.child.lock().await;
        if child.is_some() {
            return Ok(());
        }
        let mut started = Command::new(std::env::current_exe()?)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(output) = started.stdout.take() {
            let address = self.address.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    address.send_replace(Some(line));
                }
            });
        }
        *child = Some(started);
        Ok(())
    }

    /// Kills it, like a loss of power.
    pub(crate) async fn kill(&self) {
        self.address.send_replace(None);
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.kill().await;
        }
    }

    /// Asks it to shut down, and waits for that.
    pub(crate) async fn stop(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            drop(child.stdin.take());
            if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    /// Sends it a signal: `STOP` pauses it wherever it is, `CONT` resumes it.
    pub(crate) async fn signal(&self, signal: &str) {
        let child = self.child.lock().await;
        if let Some(id) = child.as_ref().and_then(Child::id) {
            let _ = Command::new("kill").args(["-s", signal, &id.to_string()]).status().await;
        }
    }
}

/// `host:port`, of `postgres://user:password@host:port/name?...`.
fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (!host.is_empty()).then_some(host)
}

fn with_port(host: &str) -> String {
    if host.contains(':') { host.to_owned() } else { format!("{host}:5432") }
}
