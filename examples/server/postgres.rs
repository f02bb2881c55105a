//! Keys, people and projects in PostgreSQL, and answers from memory.

use std::io;

use tower_api_key::observer::Tracing;
use tower_api_key::store::{Cached, StoreError};
use tower_api_key_postgres::PostgresOptions;

use crate::{Failure, Start, run_on, with_causes};

pub(crate) async fn run(
    url: &str,
    start: Start,
    stop: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure> {
    // By which TLS is spoken if the URL demands it, as by `?sslmode=verify-full&sslrootcert=ca.pem`. It fails where there
    // is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connected = match PostgresOptions::new(url) {
        // What concerns no request: the same log.
        Ok(options) => options.observer(Tracing).connect().await,
        Err(error) => Err(StoreError::failed(error)),
    };
    let store = connected.map_err(|error| format!("cannot use DATABASE_URL: {}", with_causes(&error)))?;
    println!("Listening on http://{}, with keys in PostgreSQL", start.listener.local_addr()?);
    // Requests are answered from memory; keys are managed in the database, which tells every node.
    let cached = Cached::start(store.clone());
    let node = cached.clone();
    let served = run_on(cached.clone(), store.clone(), start, move || node.has_lease(), stop).await;
    // The order is that of `docs/operations.md`: requests and usage have ended, and now the node leaves those that changes
    // wait for; the connections are last.
    cached.shutdown().await;
    let closed = store.close().await;
    served?;
    Ok(closed?)
}
