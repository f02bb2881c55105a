//! The example server. `main.rs` documents its variables and routes.

mod auth;
mod charges;
mod demo;
mod document;
mod outside;
mod pages;
mod peppers;
mod portal;
#[cfg(feature = "postgres")]
mod postgres;
mod ready;
mod routes;
mod serve;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tower_api_key::client_addr::{ClientAddr, ProxyHeader};
use tower_api_key::limit::{KeyThrottle, Limit};
use tower_api_key::observer::{Tracing, UsageRecorder};
use tower_api_key::store::{Accounts, Directory, KeyRegistry, KeyStore};
use tower_api_key::{ConfigError, Digests};
use tower_api_key_sqlite::SqliteStore;

use crate::auth::People;
use crate::charges::Charges;
use crate::routes::Guards;
use tower_api_key::ApiKeys;
use tower_api_key::store::ProjectDirectory;

/// The error that ends the server. It is printed with its causes.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The optional features: the variable that needs it, the feature, and whether it is compiled in.
const ON_DEMAND: [(&str, &str, bool); 3] = [
    ("DATABASE_URL", "postgres", cfg!(feature = "postgres")),
    ("SMTP_URL", "smtp", cfg!(feature = "smtp")),
    ("LEAK_KEYS", "leaks", cfg!(feature = "leaks")),
];

/// Runs the server with the settings in the environment until it is told to stop.
///
/// # Errors
///
/// Any error in the environment, the files or the database.
pub async fn run() -> Result<(), Failure> {
    for (variable, feature, is_here) in ON_DEMAND {
        if !is_here && std::env::var_os(variable).is_some() {
            return Err(format!(
                "{variable} is set, and this server was built without the feature `{feature}`: \
                 run `cargo run --example server --features {feature}`"
            )
            .into());
        }
    }
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

    // Before the address is printed, so that a signal after that is handled.
    let stop = serve::told_to_stop()?;
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}. ADDR sets another address"))?;
    let address = listener.local_addr()?;
    let start = Start { listener, file, fixture, throttle, clients, ring };
    #[cfg(feature = "postgres")]
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return postgres::run(&url, start, stop).await;
    }
    let opened = SqliteStore::open(&start.file).await;
    let store =
        opened.map_err(|error| format!("cannot use {}: {}", start.file.display(), with_causes(&error)))?;
    println!("Listening on http://{address}, with keys in {}", start.file.display());
    // SQLite needs no lease, so this node is always ready.
    run_on(store.clone(), store, start, || true, stop).await
}

/// The settings that do not depend on the store.
struct Start {
    listener: TcpListener,
    file: PathBuf,
    fixture: Option<PathBuf>,
    throttle: KeyThrottle,
    clients: ClientAddr,
    ring: Digests,
}

/// `asked` answers requests, and `store` is behind it. `has_lease` returns whether it may answer from memory.
async fn run_on(
    asked: impl KeyStore + KeyRegistry + Directory + ProjectDirectory + Clone,
    store: impl KeyRegistry + Accounts + Directory + Clone,
    start: Start,
    has_lease: impl Fn() -> bool + Send + Sync + 'static,
    stop: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure> {
    let Start { listener, file, fixture, throttle, clients, ring } = start;
    let address = listener.local_addr()?;
    // The store was opened first, because it checks that the file is its own. The application's tables are in the
    // same file.
    let opened = open(&file);
    let (charges, people) = opened.map_err(|error| format!("cannot use {}: {error}", file.display()))?;
    // Set once, so that the keyring makes no key that the layers do not find.
    let keys = ApiKeys::new(asked.clone()).digests(ring);
    let keyring = keys.keyring();
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
        // Last, so that an interrupted start is repeated as a whole.
        charges.demo_was_made().await?;
        demo.print(&format!("http://{address}"));
    }
    println!("\nStop with Ctrl-C.");

    let recorder = UsageRecorder::new(store.clone()).write_every(Duration::from_secs(1))?;
    let verifier = keys.verifier().renew_digests(store.clone()).throttle(throttle).observer(recorder.clone());
    // Both stores quote no values in their errors.
    let verifier = if log { verifier.observer(Tracing::with_causes()) } else { verifier };
    let ready = ready::route(verifier.clone(), has_lease);
    let url = format!("http://{address}");
    // Browsers keep secure cookies of this machine without HTTPS. Elsewhere, put an HTTPS proxy before it.
    let secure = !address.ip().is_loopback();
    // From here on, because the demo's keys need no mails.
    #[cfg(feature = "smtp")]
    let keyring = outside::told_by_mail(keyring)?;
    // The verifier is told of revoked keys, whose rate-limit state it evicts first.
    let keyring = keyring.observer(verifier.clone());
    #[cfg(feature = "leaks")]
    let leaks = outside::leaks(&keyring, &verifier, &clients)?;
    #[cfg(not(feature = "leaks"))]
    let leaks = None;
    let people = {
        let (keyring, projects, clients) = (keyring.clone(), asked.clone(), clients.clone());
        move |samples: &[portal::Sample<'_>]| {
            portal::routes(keyring, projects, people, clients, &url, secure, samples)
        }
    };
    let app = routes::app(&Guards { verifier, clients }, asked, keyring, charges, people, leaks)?;
    let app = app.merge(ready);
    let writing = tokio::spawn(recorder.clone().run());
    let served = serve::serve(listener, app, stop).await;
    writing.abort();
    // Writes the usage since the last write, however serving ended.
    let flushed = recorder.flush().await;
    served?;
    flushed.map_err(|error| format!("cannot write when keys were used: {}", with_causes(&error)))?;
    Ok(())
}

/// Whether to log decisions and changes to stderr, as `LOG` says.
fn log() -> Result<bool, Failure> {
    let Ok(level) = std::env::var("LOG") else { return Ok(false) };
    let level: tracing::Level = level.parse().map_err(|error| format!("LOG: {error}"))?;
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(false).init();
    Ok(true)
}

/// The client's address is the peer's, unless the peer is one of these proxies.
fn clients(proxies: &str) -> Result<ClientAddr, ConfigError> {
    if proxies.is_empty() {
        return Ok(ClientAddr::peer());
    }
    ClientAddr::trusted_proxies(proxies.split(','), ProxyHeader::XForwardedFor)
}

fn open(file: &Path) -> Result<(Charges, People), Failure> {
    Ok((Charges::open(file)?, People::open(file)?))
}

/// An error and its causes, in one line.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
