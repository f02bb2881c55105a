//! How do I require more of a key on a single route: a scope, a live key, the right to write?
//!
//! ```text
//! cargo run --example guards
//! ```
//!
//! It makes keys and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tower_api_key::guard::{RequireEnvironment, RequireScope};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{MemoryStore, NoProjects};
use tower_api_key::{ApiKeyAuth, Environment, Keyring, NewKey, Principal, UserId};

async fn payout(who: Principal) -> String {
    format!("paid out for {}\n", who.user_id())
}

async fn balance(who: Principal) -> String {
    format!("the {} balance of {}\n", who.environment().as_str(), who.user_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = NoProjects(MemoryStore::new());
    let keyring = Keyring::new(store.clone());
    let alice = UserId::new("alice")?;
    let plain = keyring.issue(NewKey::user_level(alice.clone(), "Looks")).await?;
    let payer = NewKey::user_level(alice.clone(), "Pays").scopes(["payouts:write"]);
    let payer = keyring.issue(payer).await?;
    let tester = NewKey::user_level(alice, "Tries").environment(Environment::Test).scopes(["payouts:write"]);
    let tester = keyring.issue(tester).await?;

    // Guards are inside the layer, on single routes. They only restrict what the layer accepts, and their refusals
    // look like the layer's.
    let payouts = Router::new()
        .route("/payouts", post(payout))
        .route_layer(RequireScope::new("payouts:write"))
        .route_layer(RequireEnvironment(Environment::Live));
    let app = Router::new()
        .route("/balance", get(balance))
        .merge(payouts)
        .layer(ApiKeyAuth::new(store, Bearer::default()));

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let [plain, payer, tester] = [&plain, &payer, &tester].map(|issued| issued.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i -X POST {url}/payouts -H 'Authorization: Bearer {payer}'");
    println!(
        "# 403, for want of the scope\ncurl -i -X POST {url}/payouts -H 'Authorization: Bearer {plain}'"
    );
    println!("# 403, for a test key\ncurl -i -X POST {url}/payouts -H 'Authorization: Bearer {tester}'");
    println!("# 200\ncurl -i {url}/balance -H 'Authorization: Bearer {plain}'");
    println!("# 200\ncurl -i {url}/balance -H 'Authorization: Bearer {tester}'");
    println!("# 401\ncurl -i {url}/balance");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
