//! Runs three nodes on one PostgreSQL, and rotates and revokes keys under load: no node may accept a key after the
//! call that ended it has returned.
//!
//! ```text
//! cargo run --release -p conformance --example cluster                             # ten seconds without faults
//! cargo run --release -p conformance --example cluster -- --chaos --seconds 600    # nodes are stopped, killed and
//! cut off meanwhile
//! ```
//!
//! Each node is a process with [`Cached`](tower_api_key::store::Cached) in front of
//! [`PostgresStore`](tower_api_key_postgres::PostgresStore). It reaches the database through a proxy in this
//! process that can be cut or stalled. This process makes the changes; it has no cache, and waits for the nodes.
//! All times are read from one clock, so they can be compared:
//!
//! - A request that began after a change had returned, and was answered as before the change, is a **violation**.
//! - A 401 or 403 for a key that was valid all the time is **wrong**, whatever faults there are.
//! - A 503 is right during a fault, and wrong when everything has been repaired for a while.
//!
//! With `--naive` the nodes have a cache with a time to live of half a second instead. This breaks the guarantee,
//! and the program must detect it.
//!
//! `--database-url` (or `DATABASE_URL`) names the database, by default
//! `postgres://postgres@127.0.0.1:5432/postgres`. The test uses a schema that is dropped at the end. `--restart
//! "command"` restarts the server from time to time.

mod change;
mod chaos;
mod check;
mod database;
mod load;
mod naive;
mod node;
mod options;
mod proxy;

use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_api_key_postgres::PostgresOptions;

use self::check::History;
use self::node::Node;
use self::options::Options;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a node may answer from memory without the database. A change waits that long for a node that is gone.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// How long after the last fault everything must work again.
const HEALED: Duration = Duration::from_secs(6);

fn main() -> Result<(), Failure> {
    let options = Options::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(url) = &options.node {
        return runtime.block_on(node::run(url, &options));
    }
    let sound = runtime.block_on(cluster(&options))?;
    runtime.shutdown_background();
    if sound { Ok(()) } else { Err("the guarantee was broken; see above".into()) }
}

/// Runs everything; returns whether the guarantee was kept.
async fn cluster(options: &Options) -> Result<bool, Failure> {
    println!("seed {}, {} seconds", options.seed, options.seconds);
    let store = PostgresOptions::new(&database::named(&options.database_url, &options.schema))?
        .schema(&options.schema)?
        .connect()
        .await?;
    let history = Arc::new(History::new(options.verbose));
    let mut nodes = Vec::new();
    for number in 0..3 {
        nodes.push(Arc::new(Node::start(number, options).await?));
    }
    let keys = Arc::new(change::Keys::prepare(&store).await?);
    let load = load::start(&nodes, &keys, &history);
    let changes = change::start(store.clone(), Arc::clone(&keys), Arc::clone(&history), options.seed);

    let end = Instant::now() + Duration::from_secs(options.seconds);
    if options.chaos {
        chaos::until(end, &nodes, options, &history).await;
        println!("everything is whole again");
    } else {
        tokio::time::sleep_until(end.into()).await;
    }
    // Recovery may take a moment; from then on every valid key must work.
    tokio::time::sleep(HEALED).await;
    history.healed();
    tokio::time::sleep(HEALED).await;
    changes.finish().await;
    load.finish().await;
    for node in &nodes {
        node.stop().await;
    }
    database::drop_schema(&options.database_url, &options.schema).await?;
    Ok(history.judge(&keys))
}
