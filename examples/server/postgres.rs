//! The variant with PostgreSQL: a store in the database, with a cache in front of it.

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
    // The TLS implementation for a URL with `?sslmode=verify-full&sslrootcert=ca.pem`. The call fails if one is already
    // installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connected = match PostgresOptions::new(url) {
        // For warnings that concern no request.
        Ok(options) => options.observer(Tracing).connect().await,
        Err(error) => Err(StoreError::failed(error)),
    };
    let store = connected.map_err(|error| format!("cannot use DATABASE_URL: {}", with_causes(&error)))?;
    println!("Listening on http://{}, with keys in PostgreSQL", start.listener.local_addr()?);
    // Requests are answered from memory. Keys are managed in the database, which notifies every node.
    let cached = Cached::start(store.clone());
    let node = cached.clone();
    let served = run_on(cached.clone(), store.clone(), start, move || node.has_lease(), stop).await;
    // In the order of `docs/operations.md`: requests and usage have ended; now the node leaves, so that changes no
    // longer wait for it; the connections are closed last.
    cached.shutdown().await;
    let closed = store.close().await;
    served?;
    Ok(closed?)
}
