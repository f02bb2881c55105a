//! How do I use the layer with hyper alone, without axum?
//!
//! ```text
//! cargo run --example plain_hyper
//! ```
//!
//! It makes a key and prints requests to try, each below the status that it gets. `ADDR` sets the address.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{MemoryStore, NoProjects};
use tower_api_key::{ApiKeyAuth, Endpoints, Keyring, NewKey, Principal, UserId};

/// The body is hyper's `Incoming`, because header schemes do not touch it. For `JsonBody`, convert it before the layer:
/// `.map_request(|request: Request<Incoming>| request.map(UnsyncBoxBody::new))`.
async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.extensions().get::<Principal>() {
        Some(who) => format!("hello {}\n", who.user_id()),
        None => "hello whoever you are\n".to_owned(), // without a key, the layer only accepts /health
    };
    Ok(Response::new(Full::from(text)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = NoProjects(MemoryStore::new());
    let alice = UserId::new("alice")?;
    let issued = Keyring::new(store.clone()).issue(NewKey::user_level(alice, "For trying out")).await?;

    // There is no router that reports the matched route, so the path itself is compared.
    let auth = ApiKeyAuth::new(store, Bearer::default())
        .endpoints(Endpoints::new().public(Method::GET, "/health").by_path())?;
    let service = TowerToHyperService::new(ServiceBuilder::new().layer(auth).service(service_fn(hello)));

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}", listener.local_addr()?), issued.key().expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url}/hello -H 'Authorization: Bearer {key}'");
    println!("# 200\ncurl -i {url}/health");
    println!("# 401\ncurl -i {url}/hello");
    println!("Stop with Ctrl-C.");
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10)) // or half a request may stay open for ever
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        });
    }
}
