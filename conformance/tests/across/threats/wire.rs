//! Rows about bytes on a connection, tested with a real server on a free port of this machine.

use std::net::SocketAddr;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{ApiKeyAuth, Principal};

use super::kit::endpoints;
use test_kit::Counted;
use test_kit::{World, echo};

/// Nothing here takes long; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    addr: SocketAddr,
    reached: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn count(State(reached): State<Arc<AtomicUsize>>, request: Request<Body>, next: Next) -> Response {
    reached.fetch_add(1, SeqCst);
    next.run(request).await
}

/// Upgrades the connection, and returns what it receives.
async fn upgrade(mut request: Request<Body>) -> Response {
    assert!(request.extensions().get::<Principal>().is_some());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 5];
        io.read_exact(&mut bytes).await.unwrap();
        io.write_all(&bytes).await.unwrap();
        io.shutdown().await.unwrap();
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::empty())
        .unwrap()
}

/// Responds before it has read the body.
async fn quick(_: Request<Body>) -> &'static str {
    "quick"
}

impl Server {
    async fn start(world: &World, body: JsonBody) -> Self {
        let store = Counted::new(world, false);
        let calls = Arc::clone(&store.calls);
        let auth = ApiKeyAuth::new(store, Bearer::default()).or(ApiKeyHeader::default()).or(body);
        let reached = Arc::<AtomicUsize>::default();
        let app = Router::new()
            .route("/upgrade", axum::routing::any(upgrade))
            .route("/quick", axum::routing::any(quick))
            .route("/projects", axum::routing::any(echo))
            .fallback(echo)
            .layer(from_fn_with_state(Arc::clone(&reached), count))
            .layer(auth.endpoints(endpoints()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, reached, calls, serving }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap(), read: Vec::new() }
    }

    /// Sends one request on a new connection.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> Heard {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.hear().await
    }

    fn seen(&self) -> (usize, usize) {
        (self.reached.load(SeqCst), self.calls.load(SeqCst))
    }
}

/// A connection, and bytes that were read too early.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Heard {
    status: u16,
    body: Vec<u8>,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more; returns `false` at the end of the connection, however it ended.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("the server says nothing") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }

    /// Reads one response with a declared length; interim responses count, too.
    async fn hear(&mut self) -> Heard {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(
                self.more().await,
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        };
        let rest = self.read.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap().to_lowercase();
        let status = head["http/1.1 ".len()..][..3].parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more().await);
        }
        let rest = self.read.split_off(length);
        Heard { status, body: std::mem::replace(&mut self.read, rest) }
    }

    /// Reads until the server closes the connection.
    async fn closes(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }
}

fn credentials(world: &World) -> String {
    json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"}).to_string()
}

fn post(headers: &str) -> String {
    format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n")
}

#[tokio::test]
async fn c1_16_header_names_with_a_space_are_refused() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let key = world.own.expose_secret();
    for line in [format!("X-API-Key : {key}"), format!(" X-API-Key: {key}"), format!("X-API-Key\t: {key}")] {
        let heard = server.ask(format!("GET /projects HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n")).await;
        assert!(matches!(heard.status, 400 | 401), "C1-16: {line:?}: {heard:?}");
    }
    assert_eq!(server.seen(), (0, 0));
    let heard = server.ask(format!("GET /projects HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n")).await;
    assert_eq!((heard.status, server.seen()), (200, (1, 2)));
}

#[tokio::test]
async fn c1_17_trailers_are_never_credentials() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let key = world.own.expose_secret();
    for body in ["", "{}"] {
        let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let heard = server
            .ask(format!(
                "{}{chunk}0\r\nX-API-Key: {key}\r\nAuthorization: Bearer {key}\r\n\r\n",
                post("transfer-encoding: chunked\r\ntrailer: X-API-Key\r\n")
            ))
            .await;
        assert_eq!(
            (heard.status, &heard.json()["error"]),
            (401, &json!("missing_api_key")),
            "C1-17: {body:?}"
        );
    }
    assert_eq!(server.seen(), (0, 0));
}

#[tokio::test]
async fn c2_11_too_many_headers_are_the_servers_matter() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let many = (0..150).map(|at| format!("x-{at}: y\r\n")).collect::<String>();
    let key = world.own.expose_secret();
    let heard =
        server.ask(format!("GET /projects HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n{many}\r\n")).await;
    assert_eq!((heard.status, server.seen()), (431, (0, 0)));
    for control in ["\0", "\x01", "\x7f"] {
        let heard = server
            .ask(format!("GET /projects HTTP/1.1\r\nhost: a\r\nx-api-key: {key}{control}\r\n\r\n"))
            .await;
        assert_eq!((heard.status, server.seen()), (400, (0, 0)), "C2-11: {control:?}");
    }
}

#[tokio::test]
async fn c3_19_a_body_that_is_too_long_gets_no_100_continue() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default().limit(NonZero::new(1000).unwrap())).await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut client = server.connect().await;
        client.send(post(&format!("content-length: 100000\r\n{expect}"))).await;
        // The response comes at once, before any byte of the body and without a 100, and the connection is closed.
        let heard = client.hear().await;
        assert_eq!(
            (heard.status, &heard.json()["error"]),
            (413, &json!("body_too_large")),
            "C3-19: {expect:?}"
        );
        if !expect.is_empty() {
            assert!(client.closes().await.is_empty(), "C3-19: the connection goes on");
        }
    }
    // The refusal of a header credential does not wait for the body either.
    let mut client = server.connect().await;
    client.send(post("content-length: 100000\r\nexpect: 100-continue\r\nx-api-key: garbage\r\n")).await;
    assert_eq!(client.hear().await.status, 401);
    assert_eq!(server.seen(), (0, 0));
}

#[tokio::test]
async fn c3_20_a_chunked_body_has_the_same_limit() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default().limit(NonZero::new(1000).unwrap())).await;
    let base = credentials(&world);
    for (length, status) in [(999, 200), (1000, 200), (1001, 413)] {
        let body = format!("{base}{}", " ".repeat(length - base.len()));
        let chunks: String = body.bytes().map(|byte| format!("1\r\n{}\r\n", char::from(byte))).collect();
        let heard = server.ask(format!("{}{chunks}0\r\n\r\n", post("transfer-encoding: chunked\r\n"))).await;
        assert_eq!(heard.status, status, "C3-20: {length}");
        if status == 200 {
            assert_eq!(heard.json()["body"], body, "{length:?}");
        }
    }
}

#[tokio::test]
async fn c3_21_a_chunk_size_that_overflows() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    for size in ["FFFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF0", "-1", "0x5", "g", "", "10000000000000000"] {
        let mut client = server.connect().await;
        client.send(format!("{}{size}\r\n{{}}", post("transfer-encoding: chunked\r\n"))).await;
        let heard = client.hear().await;
        assert_eq!((heard.status, &heard.json()["error"]), (400, &json!("malformed_body")), "C3-21: {size}");
        client.closes().await;
    }
    assert_eq!(server.seen(), (0, 0));
}

#[tokio::test]
async fn c3_22_a_needed_body_gets_100_continue() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let body = credentials(&world);
    let mut client = server.connect().await;
    client.send(post(&format!("content-length: {}\r\nexpect: 100-continue\r\n", body.len()))).await;
    assert_eq!(client.hear().await.status, 100);
    client.send(&body).await;
    let heard = client.hear().await;
    assert_eq!((heard.status, &heard.json()["body"]), (200, &json!(body)));
    // A body that only the handler could use is not requested until the handler reads it. This one never does.
    let mut client = server.connect().await;
    let bearer = format!("authorization: Bearer {}\r\n", world.own.expose_secret());
    let head =
        post(&format!("content-length: 10\r\nexpect: 100-continue\r\n{bearer}")).replace("/x", "/quick");
    client.send(head).await;
    let heard = client.hear().await;
    assert_eq!((heard.status, heard.body.as_slice()), (200, &b"quick"[..]));
}

#[tokio::test]
async fn c3_23_a_body_that_does_not_come() {
    let world = World::new().await;
    let deadline = Duration::from_millis(50);
    let server = Server::start(&world, JsonBody::default().read_deadline(deadline).unwrap()).await;
    for start in ["", "{", "{\"apiKey\""] {
        let mut client = server.connect().await;
        client.send(format!("{}{start}", post("content-length: 500\r\n"))).await;
        let heard = client.hear().await;
        assert_eq!((heard.status, &heard.json()["error"]), (408, &json!("body_timeout")), "C3-23: {start}");
        client.closes().await;
    }
    assert_eq!(server.seen(), (0, 0));
}

#[tokio::test]
async fn c3_25_a_client_that_goes_away() {
    let world = World::new().await;
    let text = credentials(&world);
    let body = JsonBody::default()
        .limit(NonZero::new(text.len()).unwrap())
        .buffer_cap(NonZero::new(text.len()).unwrap());
    let server = Server::start(&world, body).await;
    for sent in [0, 2, text.len() - 1] {
        let mut client = server.connect().await;
        client
            .send(format!("{}{}", post(&format!("content-length: {}\r\n", text.len())), &text[..sent]))
            .await;
        // The client closes its side; the server can still respond.
        client.stream.shutdown().await.unwrap();
        let heard = String::from_utf8(client.closes().await).unwrap();
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 400"), "C3-25: {heard}");
        drop(client);
    }
    assert_eq!(server.seen(), (0, 0));
    whole_body_fits(&server, &text).await;
}

/// Until the server notices that other clients are gone, there is no memory; then there is.
async fn whole_body_fits(server: &Server, text: &str) {
    let all = async {
        loop {
            let heard =
                server.ask(format!("{}{text}", post(&format!("content-length: {}\r\n", text.len())))).await;
            if heard.status == 200 {
                return;
            }
            assert_eq!(heard.status, 503, "{heard:?}");
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all).await.expect("the room for bodies was lost");
}

#[tokio::test]
async fn c3_32_after_a_refusal_the_next_request_is_the_next_request() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default().limit(NonZero::new(1000).unwrap())).await;
    let own =
        format!("GET /projects HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", world.own.expose_secret());
    // The heads are refused and the bodies are not read. Each body contains a request, which must never be executed.
    let smuggled = own.clone();
    for headers in ["x-api-key: garbage\r\n", "", "content-encoding: gzip\r\n"] {
        let mut client = server.connect().await;
        let head = post(&format!("content-length: {}\r\n{headers}", smuggled.len()));
        let head = if headers.is_empty() { head.replace("application/json", "text/plain") } else { head };
        client.send(format!("{head}{smuggled}{own}")).await;
        let first = client.hear().await;
        assert!(matches!(first.status, 401 | 415), "C3-32: {first:?}");
        let before = server.reached.load(SeqCst);
        // Either one more response comes, or the connection is closed.
        client.stream.shutdown().await.ok();
        let rest = String::from_utf8(client.closes().await).unwrap();
        let served = server.reached.load(SeqCst) - before;
        assert!(served <= 1, "C3-32: the body was taken for a request: {rest}");
    }
    // Read and refused: the connection stays open.
    let mut client = server.connect().await;
    client.send(format!("{}[]{own}", post("content-length: 2\r\n"))).await;
    assert_eq!(client.hear().await.status, 400);
    let heard = client.hear().await;
    assert_eq!((heard.status, &heard.json()["path"]), (200, &json!("/projects")));
}

#[tokio::test]
async fn c4_08_targets_on_the_wire() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let key = world.own.expose_secret();
    let ask = async |line: &str, key: &str| {
        let heard = server.ask(format!("{line} HTTP/1.1\r\nhost: a\r\n{key}\r\n")).await;
        (heard.status, heard.json()["error"].as_str().unwrap_or("-").to_owned())
    };
    let with = format!("x-api-key: {key}\r\n");
    let missing = (401, "missing_api_key".to_owned());
    let required = (400, "project_required".to_owned());
    assert_eq!(ask("GET http://evil/validate", &with).await.0, 400, "no such route here: nothing is exempt");
    assert_eq!(ask("GET http://evil/health", "").await, missing);
    for line in
        ["OPTIONS *", "GET /..", "GET /health/../x", "GET //health", "GET /%68ealth", "GET /health%00"]
    {
        assert_eq!(ask(line, "").await, missing, "C4-08: {line}");
        assert_eq!(ask(line, &with).await, required, "C4-08: {line}");
    }
    assert_eq!(server.reached.load(SeqCst), 0);
}

#[tokio::test]
async fn c14_07_an_upgrade_is_the_handlers() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let head = |key: &str| {
        format!(
            "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\nauthorization: Bearer {key}\r\n\r\n"
        )
    };
    let mut client = server.connect().await;
    client.send(head(world.own.expose_secret())).await;
    assert_eq!(client.hear().await.status, 101);
    client.send("hello").await;
    assert_eq!(client.closes().await, b"hello");
    assert_eq!(server.ask(head("garbage")).await.status, 401);
    assert_eq!(server.reached.load(SeqCst), 1);
}

type Lines<'a> = &'a [(&'static str, &'a [u8])];
type H2 = hyper::client::conn::http2::SendRequest<Body>;

async fn h2(server: &Server) -> H2 {
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        // It ends when the sender is dropped, or with the server.
        let _ = connection.await;
    });
    sender
}

async fn h2_send(sender: &mut H2, headers: Lines<'_>, body: Body) -> Result<(u16, Value), hyper::Error> {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    let mut request = Request::post("http://a/x").body(body).unwrap();
    *request.headers_mut() = all;
    let response = timeout(PATIENCE, sender.send_request(request)).await.expect("no answer")?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

#[tokio::test]
async fn c1_22_repeated_http2_fields_are_refused() {
    let world = World::new().await;
    let server = Server::start(&world, JsonBody::default()).await;
    let mut sender = h2(&server).await;
    let key = world.own.expose_secret().as_bytes();
    let bearer = [b"Bearer ", key].concat();
    let spaced = [b" ", key, b" "].concat();
    let conflict = json!("conflicting_credentials");
    let cases: [(Lines<'_>, u16, &Value); 6] = [
        (&[("authorization", &bearer), ("authorization", &bearer)], 400, &conflict),
        (&[("authorization", &bearer), ("authorization", b"Basic x")], 400, &conflict),
        (&[("x-api-key", key), ("x-api-key", key)], 400, &conflict),
        (&[("x-api-key", key), ("authorization", &bearer)], 400, &conflict),
        // C2-05: values are never trimmed.
        (&[("x-api-key", &spaced)], 401, &json!("invalid_api_key")),
        (&[("x-api-key", key), ("x-project-id", b"p1"), ("x-project-id", b"p1")], 400, &conflict),
    ];
    for (headers, status, error) in cases {
        let (got, json) = h2_send(&mut sender, headers, Body::empty()).await.unwrap();
        assert_eq!((got, &json["error"]), (status, error), "C1-22: {headers:?}");
    }
    assert_eq!(server.seen(), (0, 0));
    let fine: Lines<'_> = &[("authorization", &bearer), ("host", b"evil")];
    assert_eq!(h2_send(&mut sender, fine, Body::empty()).await.unwrap().0, 200);
}

/// Yields some frames, and then an error.
struct Breaks(std::vec::IntoIter<Bytes>);

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(self.0.next().map(Frame::data).ok_or("gone")))
    }
}

#[tokio::test]
async fn c3_26_http2_bodies_with_a_wrong_length_or_reset() {
    let world = World::new().await;
    let text = credentials(&world);
    let body = JsonBody::default()
        .limit(NonZero::new(text.len()).unwrap())
        .buffer_cap(NonZero::new(text.len()).unwrap());
    let server = Server::start(&world, body).await;
    let json = ("content-type", &b"application/json"[..]);
    let mut refused = 0;
    for (length, sent) in [("10", "{}"), ("1", "{}"), ("0", "{}"), ("500", text.as_str())] {
        let mut sender = h2(&server).await;
        let headers = [json, ("content-length", length.as_bytes())];
        match h2_send(&mut sender, &headers, Body::new(Full::<Bytes>::from(sent.to_owned()))).await {
            Ok((status, _)) => assert_eq!(status / 100, 4, "C3-26: {length}"),
            Err(_) => refused += 1,
        }
    }
    println!("the server reset {refused} streams by itself");
    // A stream that is reset in the middle, and a client that stops sending in the middle.
    for cut in [0, 1, text.len() - 1, text.len()] {
        let mut sender = h2(&server).await;
        let chunks = vec![Bytes::copy_from_slice(&text.as_bytes()[..cut])].into_iter();
        let outcome = h2_send(&mut sender, &[json], Body::new(Breaks(chunks))).await;
        assert!(!outcome.is_ok_and(|(status, _)| status == 200), "C3-26: cut at {cut}");
    }
    let mut sender = h2(&server).await;
    let (frames, receiver) = tokio::sync::mpsc::channel(1);
    frames.send(Bytes::copy_from_slice(&text.as_bytes()[..10])).await.unwrap();
    let pending = {
        let mut request = Request::post("http://a/x").body(Body::new(Channel(receiver))).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        sender.send_request(request)
    };
    let given_up = timeout(Duration::from_millis(20), pending).await;
    assert!(given_up.is_err(), "C3-26: answered before the body was there");
    assert_eq!(server.seen(), (0, 0));
    // The connection still works, the memory is free, and no task keeps a body.
    drop(frames);
    whole_body_fits(&server, &text).await;
    let (status, json) = h2_send(&mut sender, &[json], Body::from(text.clone())).await.unwrap();
    assert_eq!((status, &json["body"]), (200, &json!(text)));
}

/// A body that comes through a channel.
struct Channel(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
