//! How do I accept several schemes on one route, for example while clients move from one to another?
//!
//! ```text
//! cargo run --example three_schemes
//! ```
//!
//! It makes a key and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;

use axum::Router;
use axum::routing::any;
use tokio::net::TcpListener;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Accounts as _, MemoryStore, Project};
use tower_api_key::{ApiKeyAuth, Keyring, NewKey, Principal, ProjectId, UserId};

async fn echo(who: Principal) -> String {
    format!("{} came through {}\n", who.user_id(), who.scheme().unwrap_or("no scheme"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let alice = UserId::new("alice")?;
    store.create_account("acme", &alice).await?;
    let p1 = Project::new(ProjectId::new("p1")?, "The first");
    store.create_project("acme", &p1).await?;
    let issued = Keyring::new(store.clone()).issue(NewKey::user_level(alice, "For trying out")).await?;

    // If no credential was sent, the first scheme's messages are used. A body is read only if the head contains no
    // credential.
    let auth = ApiKeyAuth::new(store, Bearer::default()).or(ApiKeyHeader::default()).or(JsonBody::default());
    let app = Router::new().route("/echo", any(echo)).layer(auth);

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}/echo", listener.local_addr()?), issued.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url} -H 'Authorization: Bearer {key}'");
    println!("# 200\ncurl -i {url} -H 'X-API-Key: {key}' -H 'X-Project-ID: p1'");
    println!("# 200\ncurl -i {url} -H 'Content-Type: application/json' \\");
    println!(r#"  -d '{{"apiKey": "{key}", "userId": "alice", "projectId": "p1"}}'"#);
    println!("# 400, even though both are the same key");
    println!("curl -i {url} -H 'Authorization: Bearer {key}' -H 'X-API-Key: {key}'");
    println!("# 401, because a broken credential never falls through to the next scheme");
    println!("curl -i {url} -H 'Authorization: Bearer nonsense' -H 'Content-Type: application/json' \\");
    println!(r#"  -d '{{"apiKey": "{key}", "userId": "alice", "projectId": "p1"}}'"#);
    println!("# 401, with one challenge per scheme\ncurl -i {url}");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
