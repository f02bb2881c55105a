//! How do I take key, user and project from a JSON body, and let some people only read?
//!
//! ```text
//! cargo run --example json_body
//! ```
//!
//! It makes keys and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;

use axum::routing::post;
use axum::{Json, Router};
use http::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use tower_api_key::scheme::JsonBody;
use tower_api_key::store::{Accounts as _, Member, MemberRole, MemoryStore, Project};
use tower_api_key::{ApiKeyAuth, Endpoints, Keyring, NewKey, Principal, ProjectId, UserId};

/// The credentials are in the same object as the handler's data, and the handler gets all of it.
async fn saw(who: Principal, Json(body): Json<Value>) -> String {
    format!("{} sent {body}\n", who.user_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let (alice, carol, p1) = (UserId::new("alice")?, UserId::new("carol")?, ProjectId::new("p1")?);
    store.create_account("acme", &alice).await?;
    store.create_project("acme", &Project::new(p1.clone(), "The first")).await?;
    let reads_p1 = Member::new(MemberRole::ReadOnly, [p1]);
    store.set_member("acme", &carol, &reads_p1).await?;
    let keyring = Keyring::new(store.clone());
    let alices = keyring.issue(NewKey::user_level(alice, "Alice's")).await?;
    let carols = keyring.issue(NewKey::user_level(carol, "Carol's")).await?;

    // Every call is a POST here, so the layer must be told which of them only read.
    let auth = ApiKeyAuth::new(store, JsonBody::default().redact_key())
        .endpoints(Endpoints::new().read(Method::POST, "/projects/status"))?;
    let app = Router::new()
        .route("/projects/status", post(saw))
        .route("/projects/upload-file", post(saw))
        .layer(auth);

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (alices, carols) = (alices.key().expose_secret(), carols.key().expose_secret());
    let curl = |path: &str, key: &str, user: &str| {
        println!("curl -i {url}{path} -H 'Content-Type: application/json' \\");
        println!(r#"  -d '{{"apiKey": "{key}", "userId": "{user}", "projectId": "p1", "n": 1}}'"#);
    };
    println!("Listening on {url}");
    println!("# 200, and the handler sees no key: redact_key is on");
    curl("/projects/upload-file", alices, "alice");
    println!("# 200, because it is declared to read");
    curl("/projects/status", carols, "carol");
    println!("# 403, because carol may only read");
    curl("/projects/upload-file", carols, "carol");
    println!("# 401, because the key is not alice's");
    curl("/projects/status", carols, "alice");
    println!("# 401");
    curl("/projects/status", "not-a-key", "alice");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
