//! How do I guard a gRPC service?
//!
//! ```text
//! cargo run -p conformance --example grpc_tonic
//! ```
//!
//! It makes a key and prints requests to try, each below the `grpc-status` that it gets. `ADDR` sets the address.
//!
//! The service is written by hand, and its messages are plain text, so that no protobuf compiler is needed. With
//! generated code the layer goes to the same place: `Server::builder().layer(auth).add_service(..)`.

use std::convert::Infallible;
use std::error::Error;

use bytes::{Buf as _, BufMut as _};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tower::{ServiceBuilder, service_fn};
use tower_api_key::render::EmptyOrGrpc;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{MemoryStore, NoProjects};
use tower_api_key::{ApiKeyAuth, Keyring, NewKey, Principal, UserId};

/// The method itself. The principal is in the extensions of tonic's request, where the layer put it.
async fn hello(request: tonic::Request<String>) -> Result<tonic::Response<String>, Status> {
    let who = request.extensions().get::<Principal>();
    let who = who.ok_or_else(|| Status::internal("the layer is missing"))?.user_id().clone();
    Ok(tonic::Response::new(format!("{who} says hello to {}", request.into_inner())))
}

/// What tonic's build step would generate.
async fn greeter(request: Request<Incoming>) -> Result<http::Response<tonic::body::Body>, Infallible> {
    Ok(match request.uri().path() {
        "/demo.Greeter/Hello" => Grpc::new(PlainText).unary(service_fn(hello), request).await,
        _ => Status::unimplemented("no such method").into_http(),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = NoProjects(MemoryStore::new());
    let alice = UserId::new("alice")?;
    let issued = Keyring::new(store.clone()).issue(NewKey::user_level(alice, "For trying out")).await?;

    // tonic's body cannot be made from bytes. gRPC refusals need no body, because they are in the headers.
    let auth = ApiKeyAuth::new(store, Bearer::default()).render_errors(EmptyOrGrpc);
    let service = TowerToHyperService::new(ServiceBuilder::new().layer(auth).service(service_fn(greeter)));

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}", listener.local_addr()?), issued.key().expose_secret());
    let curl = |credential: &str| {
        println!(r"printf '\0\0\0\0\5world' | curl -i --http2-prior-knowledge {url}/demo.Greeter/Hello \");
        println!("  -H 'Content-Type: application/grpc' -H 'TE: trailers'{credential} --data-binary @- -o -");
    };
    println!("Listening on {url}");
    println!("# 0, which is OK");
    curl(&format!(" -H 'Authorization: Bearer {key}'"));
    println!("# 16, which is UNAUTHENTICATED");
    curl("");
    println!("Stop with Ctrl-C.");
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let connection =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// A codec for plain text, in place of protobuf.
#[derive(Clone, Copy)]
struct PlainText;

impl Codec for PlainText {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for PlainText {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for PlainText {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(bytes.into()).map_err(|_| Status::invalid_argument("not UTF-8"))?;
        Ok(Some(text))
    }
}
