//! In which order do I add the layer and others: panics, traces, timeouts, CORS, compression, limits?
//!
//! ```text
//! cargo run -p conformance --example layer_order
//! ```
//!
//! It makes a key and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use http::StatusCode;
use tokio::net::TcpListener;
use tower_api_key::scheme::{Bearer, JsonBody};
use tower_api_key::store::{MemoryStore, NoProjects};
use tower_api_key::{ApiKeyAuth, Keyring, NewKey, Principal, UserId};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

async fn upload(who: Principal, body: Bytes) -> String {
    format!("{} bytes from {}\n", body.len(), who.user_id())
}

async fn broken(_: Principal) {
    panic!("handlers do that");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = NoProjects(MemoryStore::new());
    let alice = UserId::new("alice")?;
    let issued = Keyring::new(store.clone()).issue(NewKey::user_level(alice, "For trying out")).await?;

    let auth = ApiKeyAuth::new(store, Bearer::default()).or(JsonBody::default().project_optional());
    let app = Router::new()
        .route("/upload", post(upload))
        .route("/broken", get(broken))
        // Inside the layer: only for accepted requests. This limit applies to extractors, not to the layer.
        .layer(DefaultBodyLimit::max(1000))
        .layer(auth)
        // Outside the layer, from here on each outside the previous one. These two change the body's type, so each
        // needs its own `.layer`: in one `ServiceBuilder` with `JsonBody` they would not compile. Without this one,
        // a compressed body is refused with 415. The layer's limits apply to the decompressed body.
        .layer(RequestDecompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(10_000))
        .layer(CompressionLayer::new())
        // Browsers send preflights without credentials, and can read refusals only if they have CORS headers.
        .layer(CorsLayer::permissive())
        // Includes the time to read a body and to query a store.
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(30)))
        // Sees refusals. To print headers, add a `SetSensitiveRequestHeadersLayer` outside of it, because our layer
        // marks secrets only for inner layers.
        .layer(TraceLayer::new_for_http())
        // Outermost, so that a panic anywhere becomes a 500.
        .layer(CatchPanicLayer::new());

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}", listener.local_addr()?), issued.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url}/upload -H 'Authorization: Bearer {key}' -d hello");
    println!("# 200, a preflight, which has no key");
    println!("curl -i -X OPTIONS {url}/upload -H 'Origin: http://a.example' \\");
    println!("  -H 'Access-Control-Request-Method: POST'");
    println!("# 401, which a browser's script can read");
    println!("curl -i {url}/upload -H 'Origin: http://a.example' -d hello");
    println!("# 200, though the key is in a compressed body");
    println!(r#"printf '{{"apiKey": "{key}", "userId": "alice"}}' | gzip | curl -i {url}/upload \"#);
    println!("  -H 'Content-Type: application/json' -H 'Content-Encoding: gzip' --data-binary @-");
    println!("# 500\ncurl -i {url}/broken -H 'Authorization: Bearer {key}'");
    println!("# 401, before anything of it runs\ncurl -i {url}/broken");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
