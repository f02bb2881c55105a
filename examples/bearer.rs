//! How do I take API keys from `Authorization: Bearer`?
//!
//! ```text
//! cargo run --example bearer
//! ```
//!
//! It makes a key and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{MemoryStore, NoProjects};
use tower_api_key::{ApiKeyAuth, Keyring, NewKey, Principal, UserId};

async fn hello(who: Principal) -> String {
    format!("hello {}, you came with {}\n", who.user_id(), who.key_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // An API without projects. Its keys are lost when it ends.
    let store = NoProjects(MemoryStore::new());
    let alice = UserId::new("alice")?;
    let issued =
        Keyring::new(store.clone()).issue(NewKey::user_level(alice, "For trying things out")).await?;

    let auth = ApiKeyAuth::new(store, Bearer::default());
    let app = Router::new().route("/hello", get(hello)).layer(auth);

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}", listener.local_addr()?), issued.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url}/hello -H 'Authorization: Bearer {key}'");
    println!(
        "# 401, as for every key that is not known\ncurl -i {url}/hello -H 'Authorization: Bearer {key}x'"
    );
    println!("# 401\ncurl -i {url}/hello");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
