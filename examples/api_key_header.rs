//! How do I take keys from `X-API-Key`, and the project from `X-Project-ID`?
//!
//! ```text
//! cargo run --example api_key_header
//! ```
//!
//! It makes keys and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use http::Method;
use tokio::net::TcpListener;
use tower_api_key::scheme::ApiKeyHeader;
use tower_api_key::store::{Accounts as _, MemoryStore, Project};
use tower_api_key::{ApiKeyAuth, Endpoints, Keyring, NewKey, Principal, ProjectId, UserId};

async fn sites(who: Principal) -> String {
    let project = who.project().map_or("no project", ProjectId::as_str);
    format!("the sites of {project}, for {}\n", who.user_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let (alice, p1) = (UserId::new("alice")?, ProjectId::new("p1")?);
    store.create_account("acme", &alice).await?;
    store.create_project("acme", &Project::new(p1.clone(), "The first")).await?;
    let keyring = Keyring::new(store.clone());
    let user_level = keyring.issue(NewKey::user_level(alice.clone(), "All my projects")).await?;
    let project_level = keyring.issue(NewKey::project_level(alice, "Only p1", p1)).await?;

    // User-level keys must name the project, except where it is declared optional. A key is needed everywhere.
    let auth = ApiKeyAuth::new(store, ApiKeyHeader::default())
        .endpoints(Endpoints::new().project_optional(Method::GET, "/validate"))?;
    let app = Router::new()
        .route("/sites", get(sites))
        .route("/validate", get(async |who: Principal| format!("{:?}\n", who.level())))
        .layer(auth);

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (user_level, project_level) = (user_level.key().expose_secret(), project_level.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url}/sites -H 'X-API-Key: {user_level}' -H 'X-Project-ID: p1'");
    println!("# 200, because the key is for p1 alone\ncurl -i {url}/sites -H 'X-API-Key: {project_level}'");
    println!(
        "# 200, because no project is needed there\ncurl -i {url}/validate -H 'X-API-Key: {user_level}'"
    );
    println!("# 400\ncurl -i {url}/sites -H 'X-API-Key: {user_level}'");
    println!("# 403\ncurl -i {url}/sites -H 'X-API-Key: {project_level}' -H 'X-Project-ID: p2'");
    println!("# 401\ncurl -i {url}/validate");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
