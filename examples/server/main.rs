//! A whole server: three schemes, each before an area of its own, on an embedded SQLite file.
//!
//! ```text
//! cargo run --example server
//! ```
//!
//! The first start fills the file with two demo accounts, prints their passwords for the portal, their keys, and requests
//! to try, each under the status that it gets. A key is shown once: later starts find the same keys in the file, and
//! cannot show them.
//!
//! | variable | default | what for |
//! |---|---|---|
//! | `ADDR` | `127.0.0.1:3000` | where to listen; with port 0 on a free port, which is printed |
//! | `DB` | `tower-api-key-demo.db` | the file; delete it, its `-wal` and its `-shm` to start afresh |
//! | `FAILURES` | `100/s` | how often the same wrong key may come from one client; less, such as `10/min`, is for services |
//! | `LOOKUPS` | `50/5s` | how many different wrong keys may come from one client |
//! | `PROXIES` | | networks of trusted proxies, such as `10.0.0.0/8,192.168.0.1`: their `X-Forwarded-For` is believed |
//! | `LOG` | | `debug` tells every decision about a request on stderr, `info` changes of keys and what is odd |
//! | `TOWER_API_KEY_PEPPERS`, or `.._FILE` with a file of them | | `2027:secret,2026:secret,sha256`: peppers of at least 32 bytes, newest first |
//! | `DATABASE_URL` | | `postgres://...`: keys, people and projects in PostgreSQL, and answers from memory; `DB` has the charges. With `?sslmode=verify-full&sslrootcert=ca.pem` by TLS |
//! | `SMTP_URL` | | `smtp://127.0.0.1:1025`, `smtps://user:password@host`: owners get a mail about new keys, without the key |
//! | `SMTP_FROM`, `SMTP_TO` | `Example API <keys@example.com>`, `example.com` | from which mailbox; the domain of everybody's own, such as `alice@example.com` |
//! | `LEAK_KEYS` | | a file with a secret scanner's public keys, as GitHub publishes them: turns `/leaks` on |
//! | `FIXTURE` | | where to write the demo's keys, people and projects as JSON, for scripts; only when the file is fresh |
//!
//! | route | behind |
//! |---|---|
//! | `POST /pixelStripeApi/projects/upload-file` | key, user and project in the JSON body |
//! | `POST /pixelStripeApi/projects/status`, which only reads | the same |
//! | `GET /api/v1/validate`, `GET /api/v1/projects` | `X-API-Key`; `X-Project-ID` is optional |
//! | `GET /api/v1/projects/{id}`, `GET /api/v1/sites` | `X-API-Key` and `X-Project-ID` |
//! | `GET /v1/users/{id}`, `POST /v1/charges`, `GET /v1/charges` | `Authorization: Bearer` |
//! | `GET /v1/prices` | nothing, or `Authorization: Bearer`: a key that is sent must be good |
//! | `GET /v1/api-keys`, `POST`, `GET /{id}`, `PATCH /{id}`, `DELETE /{id}`, `POST /{id}/rotate`, `POST /{id}/explain` | the same |
//! | `POST /v1/api-keys/self-revoke` | the key that is to end |
//! | `POST /leaks`, with `LEAK_KEYS` | a signature of the scanner's |
//! | any method, `/migrate/echo`, up to 8 MiB | either of the three |
//! | `/portal`: the key portal | a sign-in at `/account/sign-in` |
//! | `GET /`, for browsers | nothing: where to go from there |
//! | `GET /health` | nothing: it runs |
//! | `GET /ready` | nothing: whether the store answers and, with PostgreSQL, whether this node answers from memory |
//! | `GET /openapi.json` | nothing: what this table says, for machines |
//!
//! Within an area every request but to `/v1/prices` needs a key, even for routes that do not exist: without one the answer is 401, with one
//! 404. So nobody learns without a key which routes there are. Outside of the areas there is nothing, and it is 404:
//! a page for browsers, and JSON for others.

mod auth;
mod charges;
mod demo;
mod document;
mod outside;
mod pages;
mod peppers;
mod portal;
mod ready;
mod routes;
mod serve;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tower_api_key::client_addr::{ClientAddr, ProxyHeader};
use tower_api_key::limit::{KeyThrottle, Limit};
use tower_api_key::observer::{Tracing, UsageRecorder};
use tower_api_key::store::{Cached, StoreError};
use tower_api_key::{Accounts, ConfigError, Digests, Directory, KeyRegistry, KeyStore, Keyring, Verifier};
use tower_api_key_postgres::PostgresOptions;
use tower_api_key_sqlite::SqliteStore;

use crate::auth::People;
use crate::charges::Charges;
use crate::routes::Guards;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let address = std::env::var("ADDR").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let file = std::env::var_os("DB").map_or_else(|| PathBuf::from("tower-api-key-demo.db"), PathBuf::from);
    let fixture = std::env::var_os("FIXTURE").map(PathBuf::from);

    let failures = std::env::var("FAILURES").unwrap_or_else(|_| "100/s".to_owned());
    let failures: Limit = failures.parse().map_err(|error| format!("FAILURES: {error}"))?;
    let lookups = std::env::var("LOOKUPS").unwrap_or_else(|_| "50/5s".to_owned());
    let lookups: Limit = lookups.parse().map_err(|error| format!("LOOKUPS: {error}"))?;
    let throttle = KeyThrottle::default().repeats(failures).lookups(lookups);
    let proxies = std::env::var("PROXIES").unwrap_or_default();
    let clients = clients(&proxies).map_err(|error| format!("PROXIES: {error}"))?;
    let ring = peppers::ring()?;

    // Before anybody is told that the server runs: whoever then ends it shall find it listening.
    let stop = serve::told_to_stop()?;
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}. ADDR sets another address"))?;
    let address = listener.local_addr()?;
    let start = Start { listener, file, fixture, throttle, clients, ring };
    match std::env::var("DATABASE_URL") {
        Err(_) => {
            let opened = SqliteStore::open(&start.file).await;
            let store = opened
                .map_err(|error| format!("cannot use {}: {}", start.file.display(), with_causes(&error)))?;
            println!("Listening on http://{address}, with keys in {}", start.file.display());
            // It is its own, and always at hand.
            run_on(store.clone(), store, start, || true, stop).await
        }
        Ok(url) => {
            // By which TLS is spoken if the URL demands it, as by `?sslmode=verify-full&sslrootcert=ca.pem`. It fails where
            // there is one already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let connected = match PostgresOptions::new(&url) {
                // What concerns no request: the same log.
                Ok(options) => options.observer(Tracing).connect().await,
                Err(error) => Err(StoreError::failed(error)),
            };
            let store =
                connected.map_err(|error| format!("cannot use DATABASE_URL: {}", with_causes(&error)))?;
            println!("Listening on http://{address}, with keys in PostgreSQL");
            // Requests are answered from memory; keys are managed in the database, which tells every node.
            let cached = Cached::start(store.clone());
            let node = cached.clone();
            let served = run_on(cached.clone(), store.clone(), start, move || node.has_lease(), stop).await;
            // The order is that of `docs/operations.md`: requests and usage have ended, and now the node leaves those that
            // changes wait for; the connections are last.
            cached.shutdown().await;
            let closed = store.close().await;
            served?;
            Ok(closed?)
        }
    }
}

/// What does not depend on where keys are.
struct Start {
    listener: TcpListener,
    file: PathBuf,
    fixture: Option<PathBuf>,
    throttle: KeyThrottle,
    clients: ClientAddr,
    ring: Digests,
}

/// `asked` answers requests, `store` is what it answers from; `has_lease` says whether it does so as fast as it should.
async fn run_on(
    asked: impl KeyStore + Directory + Clone,
    store: impl KeyRegistry + Accounts + Directory + Clone,
    start: Start,
    has_lease: impl Fn() -> bool + Send + Sync + 'static,
    stop: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure> {
    let Start { listener, file, fixture, throttle, clients, ring } = start;
    let address = listener.local_addr()?;
    // The store came first: it makes the file its own. The application's tables live beside the store's.
    let opened = open(&file);
    let (charges, people) = opened.map_err(|error| format!("cannot use {}: {error}", file.display()))?;
    let keyring = Keyring::new(store.clone()).digests(ring.clone());
    let log = log()?;
    let keyring = if log { keyring.observer(Tracing) } else { keyring };
    peppers::warn(&keyring).await?;
    if charges.demo_is_made().await? {
        println!(
            "\nThe demo's passwords and keys are those of the first start. They were shown then and are stored nowhere."
        );
        println!("For new ones delete {0}, {0}-wal and {0}-shm.", file.display());
    } else {
        let demo = demo::make(&store, &keyring, &people).await?;
        if let Some(fixture) = &fixture {
            demo.write_fixture(fixture, &address.to_string())
                .map_err(|error| format!("cannot write {}: {error}", fixture.display()))?;
        }
        // Last, so that a start that was broken off is repeated as a whole.
        charges.demo_was_made().await?;
        demo.print(&format!("http://{address}"));
    }
    println!("\nStop with Ctrl-C.");

    let recorder = UsageRecorder::new(store.clone()).write_every(Duration::from_secs(1))?;
    let verifier = Verifier::new(asked.clone())
        .digests(ring)
        .renew_digests(store.clone())
        .throttle(throttle)
        .observer(recorder.clone());
    // Both stores quote no values in their errors.
    let verifier = if log { verifier.observer(Tracing::with_causes()) } else { verifier };
    let ready = ready::route(verifier.clone(), has_lease);
    let url = format!("http://{address}");
    // Browsers keep cookies of this machine's own servers without HTTPS; elsewhere, put HTTPS before it.
    let secure = !address.ip().is_loopback();
    // From here on: the demo's keys were printed.
    let keyring = outside::told_by_mail(keyring)?;
    // It hears which keys were revoked: what they have spent of their limits is forgotten first.
    let keyring = keyring.observer(verifier.clone());
    let leaks = outside::leaks(&keyring, &verifier, &clients)?;
    let people = portal::routes(keyring.clone(), people, clients.clone(), &url, secure);
    let app = routes::app(&Guards { verifier, clients }, asked, keyring, charges, people, leaks)?;
    let app = app.merge(ready);
    let writing = tokio::spawn(recorder.clone().run());
    let served = serve::serve(listener, app, stop).await;
    writing.abort();
    // The uses since the last write, however the serving has ended.
    let flushed = recorder.flush().await;
    served?;
    flushed.map_err(|error| format!("cannot write when keys were used: {}", with_causes(&error)))?;
    Ok(())
}

/// Whether decisions and changes are told on stderr, if `LOG` names a level.
fn log() -> Result<bool, Failure> {
    let Ok(level) = std::env::var("LOG") else { return Ok(false) };
    let level: tracing::Level = level.parse().map_err(|error| format!("LOG: {error}"))?;
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(false).init();
    Ok(true)
}

/// Whose address counts: the peer's, if it is none of these proxies.
fn clients(proxies: &str) -> Result<ClientAddr, ConfigError> {
    if proxies.is_empty() {
        return Ok(ClientAddr::peer());
    }
    ClientAddr::trusted_proxies(proxies.split(','), ProxyHeader::XForwardedFor)
}

fn open(file: &Path) -> Result<(Charges, People), Failure> {
    Ok((Charges::open(file)?, People::open(file)?))
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
