//! How do I move clients from keys in bodies to keys in headers, and break none of them?
//!
//! ```text
//! cargo run --example moving_schemes
//! ```
//!
//! It serves the steps of docs/migration.md side by side, each under a path of its own, makes a key, and prints requests
//! to try, each under the status that it gets. `ADDR` sets the address.

use std::error::Error;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::any;
use tokio::net::TcpListener;
use tower_api_key::deprecation::Deprecation;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::Project;
use tower_api_key::{Accounts as _, ApiKeyAuth, Keyring, MemoryStore, NewKey, Principal, ProjectId, UserId};

const GUIDE: &str = "https://example.com/docs/keys-in-headers";
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

async fn echo(who: Principal) -> String {
    format!("{} came through {}\n", who.user_id(), who.scheme().unwrap_or("no scheme"))
}

fn routes() -> Router {
    Router::new().route("/echo", any(echo))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let alice = UserId::new("alice")?;
    store.create_account("acme", &alice).await?;
    store.create_project("acme", &Project::new(ProjectId::new("p1")?, "The first")).await?;
    let issued = Keyring::new(store.clone()).issue(NewKey::user_level(alice, "For trying out")).await?;
    let now = SystemTime::now();
    let since = |time: SystemTime| Deprecation::new(time.into());

    // 1. As it was: the key in the body.
    let before = ApiKeyAuth::new(store.clone(), JsonBody::default());

    // 2. The new way is open, and answers through the old one say that it is deprecated.
    let old = JsonBody::default().deprecated(since(now)?.link(GUIDE)?);
    let both = ApiKeyAuth::new(store.clone(), Bearer::default()).or(ApiKeyHeader::default()).or(old);

    // 3. They say when it ends.
    let ends = since(now)?.sunset((now + 6 * MONTH).into())?.link(GUIDE)?;
    let ending = ApiKeyAuth::new(store.clone(), Bearer::default()).or(JsonBody::default().deprecated(ends));

    // 4. It has ended: 401, and the challenge names what is left. Later the scheme is taken out.
    let over = since(now - 6 * MONTH)?.sunset((now - MONTH).into())?.link(GUIDE)?;
    let ended = ApiKeyAuth::new(store, Bearer::default()).or(JsonBody::default().deprecated(over));

    let app = Router::new()
        .nest("/1", routes().layer(before))
        .nest("/2", routes().layer(both))
        .nest("/3", routes().layer(ending))
        .nest("/4", routes().layer(ended));

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}", listener.local_addr()?), issued.key().expose_secret());
    println!("Listening on {url}");
    let body = format!(r#"{{"apiKey": "{key}", "userId": "alice", "projectId": "p1"}}"#);
    for (step, status) in [
        (1, "200"),
        (2, "200, with Deprecation and Link"),
        (3, "200, with Deprecation, Sunset and Link"),
        (4, "401, because its sunset is over"),
    ] {
        println!("# {status}\ncurl -i {url}/{step}/echo -H 'Content-Type: application/json' \\");
        println!("  -d '{body}'");
    }
    for step in 2..=4 {
        println!("# 200, with the same key\ncurl -i {url}/{step}/echo -H 'Authorization: Bearer {key}'");
    }
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
