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
//! | `FAILURES` | `100/s` | how often each client may fail with a key of the right shape; less, such as `10/min`, is for services |
//! | `PROXIES` | | networks of trusted proxies, such as `10.0.0.0/8,192.168.0.1`: their `X-Forwarded-For` is believed |
//! | `FIXTURE` | | where to write the demo's keys, people and projects as JSON, for scripts; only when the file is fresh |
//!
//! | route | behind |
//! |---|---|
//! | `POST /pixelStripeApi/projects/upload-file` | key, user and project in the JSON body |
//! | `POST /pixelStripeApi/projects/status`, which only reads | the same |
//! | `GET /api/v1/validate`, `GET /api/v1/projects` | `X-API-Key`; `X-Project-ID` is optional |
//! | `GET /api/v1/projects/{id}`, `GET /api/v1/sites` | `X-API-Key` and `X-Project-ID` |
//! | `GET /v1/users/{id}`, `POST /v1/charges`, `GET /v1/charges` | `Authorization: Bearer` |
//! | `GET /v1/api-keys`, `POST`, `PATCH /{id}`, `DELETE /{id}`, `POST /{id}/rotate`, `POST /{id}/explain` | the same |
//! | any method, `/migrate/echo` | either of the three |
//! | `/portal`: the key portal | a sign-in at `/account/sign-in` |
//! | `GET /health` | nothing |
//!
//! Within an area every request needs a key, even for routes that do not exist: without one the answer is 401, with one
//! 404. So nobody learns without a key which routes there are. Outside of the areas there is nothing, and it is 404.

mod auth;
mod charges;
mod demo;
mod portal;
mod routes;
mod serve;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::net::TcpListener;
use tower_api_key::client_addr::{ClientAddr, ProxyHeader};
use tower_api_key::limit::Limit;
use tower_api_key::{ConfigError, Keyring, SqliteStore, Verifier};

use crate::auth::People;
use crate::charges::Charges;
use crate::routes::Guards;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let address = std::env::var("ADDR").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let file = std::env::var_os("DB").map_or_else(|| PathBuf::from("tower-api-key-demo.db"), PathBuf::from);
    let fixture = std::env::var_os("FIXTURE").map(PathBuf::from);

    let failures = std::env::var("FAILURES").unwrap_or_else(|_| "100/s".to_owned());
    let throttle: Limit = failures.parse().map_err(|error| format!("FAILURES: {error}"))?;
    let proxies = std::env::var("PROXIES").unwrap_or_default();
    let clients = clients(&proxies).map_err(|error| format!("PROXIES: {error}"))?;

    // Before anybody is told that the server runs: whoever then ends it shall find it listening.
    let stop = serve::told_to_stop()?;
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}. ADDR sets another address"))?;
    let address = listener.local_addr()?;
    let opened = open(&file).await;
    let (store, charges, people) =
        opened.map_err(|error| format!("cannot use {}: {}", file.display(), with_causes(&*error)))?;

    let keyring = Keyring::new(store.clone());
    println!("Listening on http://{address}, with keys in {}", file.display());
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

    let verifier = Verifier::new(store.clone()).throttle(throttle);
    let url = format!("http://{address}");
    // Browsers keep cookies of this machine's own servers without HTTPS; elsewhere, put HTTPS before it.
    let secure = !address.ip().is_loopback();
    let people = portal::routes(keyring.clone(), people, &url, secure);
    let app = routes::app(&Guards { verifier, clients }, store, keyring, charges, people)?;
    serve::serve(listener, app, stop).await
}

/// Whose address counts: the peer's, if it is none of these proxies.
fn clients(proxies: &str) -> Result<ClientAddr, ConfigError> {
    if proxies.is_empty() {
        return Ok(ClientAddr::peer());
    }
    ClientAddr::trusted_proxies(proxies.split(','), ProxyHeader::XForwardedFor)
}

async fn open(file: &Path) -> Result<(SqliteStore, Charges, People), Failure> {
    // The store first: it makes the file its own. The application's tables live beside the store's.
    let store = SqliteStore::open(file).await?;
    Ok((store, Charges::open(file)?, People::open(file)?))
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
