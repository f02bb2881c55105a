//! How do I answer refusals in my own format, and log why they were refused?
//!
//! ```text
//! cargo run --example custom_errors
//! ```
//!
//! It makes a key and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{MemoryStore, NoProjects};
use tower_api_key::{ApiKeyAuth, AuthError, Keyring, NewKey, Principal, UserId};

/// Makes status and body; the layer adds challenges, `Cache-Control` and `Retry-After`.
///
/// Clients may see the status, the code and the message. They must not see the kind, which distinguishes a revoked
/// key from an unknown one.
fn render(error: &AuthError) -> Response<Body> {
    let fault = json!({"fault": {"code": error.public_code(), "text": error.message()}});
    (error.status(), Json(fault)).into_response()
}

/// Logs refusals: every refusal carries its `AuthError` in the extensions, so outer layers can read why.
async fn log(response: Response) -> Response {
    if let Some(error) = response.extensions().get::<AuthError>() {
        eprintln!("refused with {}: {:?}", error.status(), error.kind());
    }
    response
}

async fn hello(who: Principal) -> String {
    format!("hello {}\n", who.user_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = NoProjects(MemoryStore::new());
    let keyring = Keyring::new(store.clone());
    let alice = UserId::new("alice")?;
    let issued = keyring.issue(NewKey::user_level(alice.clone(), "Works")).await?;
    let revoked = keyring.issue(NewKey::user_level(alice, "Does not")).await?;
    keyring.revoke(revoked.id()).await?;

    let auth = ApiKeyAuth::new(store, Bearer::default()).render_errors(render);
    let app =
        Router::new().route("/hello", get(hello)).layer(auth).layer(axum::middleware::map_response(log));

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (key, revoked) = (issued.key().expose_secret(), revoked.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url}/hello -H 'Authorization: Bearer {key}'");
    println!("# 401, and only the log says that it was revoked");
    println!("curl -i {url}/hello -H 'Authorization: Bearer {revoked}'");
    println!("# 401\ncurl -i {url}/hello");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
