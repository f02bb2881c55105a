//! C17-C1: on HTTP/1.x, an unread body precedes the next request of the connection. A refusal that does not read it
//! says `Connection: close`, or reads a short rest if it can. HTTP/2 needs neither.

use std::num::NonZero;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::{Next, from_fn};
use axum::routing::{any, post};
use http::{HeaderValue, Method, Request, Response, Version};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tower_api_key::extract::TestPrincipal;
use tower_api_key::guard::RequireScope;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, Describe, JsonBody, Scheme};
use tower_api_key::{ApiKeyAuth, AuthError, Endpoints, Principal};

use test_kit::Counted;
use test_kit::{Pieces, World, answer, bearer, echo};
use tower::ServiceExt as _;

/// Nothing here takes long; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the head of a request says about an unread body.
#[derive(Clone, Copy, Debug)]
enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

fn asked(headers: &[(&str, &str)], announced: Announced, body: Body) -> Request<Body> {
    let mut request = Request::post("/x").body(body).unwrap();
    match announced {
        Announced::Nothing => {}
        Announced::Length(length) => drop(request.headers_mut().insert("content-length", length.into())),
        Announced::Chunked => {
            request.headers_mut().insert("transfer-encoding", HeaderValue::from_static("chunked"));
        }
    }
    for (name, value) in headers {
        request.headers_mut().append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    request
}

/// Apps with a warm and with a cold store.
fn apps<S>(world: &World, scheme: impl Fn() -> S) -> [Router; 2]
where
    S: Scheme<Body> + Describe + Clone,
{
    [true, false].map(|warm| {
        let endpoints = Endpoints::new().public(Method::POST, "/public").optional(Method::POST, "/optional");
        let auth = ApiKeyAuth::new(Counted::new(world, warm), scheme()).endpoints(endpoints).unwrap();
        Router::new()
            .route("/scope", post(echo).layer(RequireScope::new("nobody:has")))
            .route("/test", post(async |_: TestPrincipal| "test"))
            .route("/public", post(async |_: Principal| "nobody"))
            .route("/optional", post(async |_: Principal| "nobody"))
            .fallback(echo)
            .layer(auth)
    })
}

/// The status, and whether the response closes the connection.
async fn closes(app: &Router, request: Request<Body>) -> (u16, bool) {
    let answer = timeout(PATIENCE, async { answer(app.clone().oneshot(request).await.unwrap()).await });
    let answer = answer.await.expect("no answer");
    let said = answer.header("connection");
    assert!(said.is_empty() || said == ["close"], "{said:?}");
    (answer.status.as_u16(), !said.is_empty())
}

#[tokio::test]
async fn c17_c1_a_refusal_by_a_header_scheme_closes_a_connection_with_an_unread_body() {
    let world = World::new().await;
    let revoked = bearer(&world.revoked);
    let refused: [&[(&str, &str)]; 4] = [
        &[("authorization", &revoked)],
        &[],
        &[("authorization", "Bearer garbage")],
        &[("authorization", &revoked), ("authorization", &revoked)],
    ];
    for app in apps(&world, Bearer::default) {
        for headers in refused {
            for (announced, expected) in [
                (Announced::Nothing, false),
                (Announced::Length(0), false),
                (Announced::Length(1), true),
                (Announced::Length(1 << 30), true),
                (Announced::Chunked, true),
            ] {
                for (version, http1) in [
                    (Version::HTTP_10, true),
                    (Version::HTTP_11, true),
                    (Version::HTTP_2, false),
                    (Version::HTTP_3, false),
                ] {
                    let body = Pieces::new(["x"], true);
                    let polls = body.polls();
                    let mut request = asked(headers, announced, Body::new(body));
                    *request.version_mut() = version;
                    let (status, closes) = closes(&app, request).await;
                    assert!(matches!(status, 400 | 401), "{announced:?}, {version:?}, {http1:?}");
                    assert_eq!(closes, expected && http1, "{headers:?} {announced:?} {version:?}");
                    // The layer does not know how to read this body.
                    assert_eq!(polls.load(SeqCst), 0, "{announced:?}, {version:?}, {http1:?}");
                }
            }
        }
    }
}

/// Responses of the handler are not changed.
#[tokio::test]
async fn c17_c1_responses_of_a_handler_are_not_changed() {
    let world = World::new().await;
    let own = bearer(&world.own);
    for app in apps(&world, Bearer::default) {
        let request = asked(&[("authorization", &own)], Announced::Length(1), "x".into());
        assert_eq!(closes(&app, request).await, (200, false));
    }
}

#[tokio::test]
async fn c17_c1_a_short_body_of_a_known_type_is_read_instead() {
    let world = World::new().await;
    let (most, revoked) = (64 * 1024, world.revoked.expose_secret());
    let plain: &[(&str, &str)] = &[("content-type", "text/plain")];
    let expecting: &[(&str, &str)] = &[("content-type", "text/plain"), ("expect", "100-continue")];
    let by_header: &[(&str, &str)] = &[("x-api-key", revoked), ("x-project-id", "p1")];
    let of =
        |length: usize| vec![vec![b'x'; 1000]; length / 1000].into_iter().chain([vec![b'x'; length % 1000]]);
    for headers in [plain, by_header, expecting] {
        let waits = headers == expecting;
        for app in three(&world) {
            for (announced, length, read) in [
                (Announced::Length(1), 1, true),
                (Announced::Length(most as u64), most, true),
                (Announced::Chunked, 1, true),
                (Announced::Chunked, most, true),
                // The body is not read at all, because its declared length is too large.
                (Announced::Length(most as u64 + 1), most + 1, false),
                // The layer begins to read, and gives up.
                (Announced::Chunked, most + 1, false),
            ] {
                let body = Pieces::new(of(length), true);
                let polls = body.polls();
                let (status, closes) = closes(&app, asked(headers, announced, Body::new(body))).await;
                assert_eq!(status, 401, "{headers:?}, {announced:?}, {length:?}");
                assert_eq!(closes, waits || !read, "{headers:?} {announced:?} {length}");
                if waits || matches!(announced, Announced::Length(length) if length > most as u64) {
                    assert_eq!(polls.load(SeqCst), 0, "{headers:?} {announced:?}: it was asked for");
                }
            }
        }
    }
}

/// The three schemes, with warm and cold stores.
fn three(world: &World) -> [Router; 2] {
    [true, false].map(|warm| {
        let auth = ApiKeyAuth::new(Counted::new(world, warm), Bearer::default())
            .or(ApiKeyHeader::default())
            .or(JsonBody::default());
        Router::new().fallback(echo).layer(auth)
    })
}

#[tokio::test(start_paused = true)]
async fn c17_c1_a_missing_rest_is_not_waited_for() {
    let world = World::new().await;
    for app in three(&world) {
        let start = Instant::now();
        let body = Pieces::new(["x"], false);
        let request = asked(&[("x-api-key", "garbage")], Announced::Length(10), Body::new(body));
        assert_eq!(closes(&app, request).await, (401, true));
        assert_eq!(start.elapsed().as_millis() / 10, 100, "it is one second");
    }
}

/// A sender can send any number of empty frames for free, so only a limited number is read.
#[tokio::test]
async fn c17_g_a_rest_of_empty_frames_is_read_up_to_a_limit() {
    let world = World::new().await;
    for app in three(&world) {
        for (frames, ends) in [(1024, true), (1025, false), (100_000, false)] {
            let body = Pieces::new(vec![""; frames], true);
            let polls = body.polls();
            let request = asked(&[("x-api-key", "garbage")], Announced::Chunked, Body::new(body));
            assert_eq!(closes(&app, request).await, (401, !ends), "{frames}");
            assert_eq!(polls.load(SeqCst), frames.min(1024) + 1, "{frames}");
        }
    }
}

/// A body that was read to its end does not block the next request, whether the layer or a guard refuses this one.
#[tokio::test]
async fn c17_c1_after_a_body_that_was_read_the_connection_goes_on() {
    let world = World::new().await;
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    let text = |key: &str| json!({"apiKey": key, "userId": "u_own", "projectId": "p1"}).to_string();
    let (own, revoked) = (text(world.own.expose_secret()), text(world.revoked.expose_secret()));
    let padded = format!("{own}{}", " ".repeat(200_000));
    for app in apps(&world, JsonBody::default) {
        for (path, body, status) in [
            ("/x", "[]", 400),
            ("/x", "{}", 401),
            ("/x", &*revoked, 401),
            ("/scope", &*own, 403),
            ("/scope", &*padded, 403),
            ("/test", &*own, 403),
            ("/test", &*padded, 403),
        ] {
            for announced in [Announced::Length(body.len() as u64), Announced::Chunked] {
                let mut request = asked(json, announced, body.to_owned().into());
                *request.uri_mut() = path.parse().unwrap();
                assert_eq!(closes(&app, request).await, (status, false), "{path} {body:.9} {announced:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c17_c1_a_body_whose_reading_was_given_up_ends_the_connection() {
    let world = World::new().await;
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    let scheme =
        || JsonBody::default().limit(NonZero::new(1000).unwrap()).buffer_cap(NonZero::new(5000).unwrap());
    for app in apps(&world, scheme) {
        let chunks = |count: usize| Pieces::new(vec![vec![b' '; 500]; count], true);
        let silent = Pieces::new(Vec::<Vec<u8>>::new(), false);
        for (announced, body, expected) in [
            (Announced::Length(10), silent, (408, true)),
            // Too long for the scheme. The rest is short and was read; or long; or longer than the memory.
            (Announced::Chunked, chunks(6), (413, false)),
            (Announced::Chunked, chunks(200), (413, true)),
            (Announced::Length(100_000), chunks(200), (413, true)),
        ] {
            assert_eq!(
                closes(&app, asked(json, announced, Body::new(body))).await,
                expected,
                "{announced:?}"
            );
        }
        // There is no memory left, so nothing is read.
        let held: Vec<_> = (0..5)
            .map(|_| {
                let body = Pieces::new([vec![b' '; 1000]], false);
                tokio::spawn(app.clone().oneshot(asked(json, Announced::Chunked, Body::new(body))))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let body = Pieces::new(["{}"], true);
        let polls = body.polls();
        assert_eq!(closes(&app, asked(json, Announced::Length(2), Body::new(body))).await, (503, true));
        assert_eq!(polls.load(SeqCst), 0);
        held.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn c17_c1_guards_and_extractors_close_the_connection_too() {
    let world = World::new().await;
    let own = bearer(&world.own);
    let headers: &[(&str, &str)] = &[("authorization", &own)];
    for app in apps(&world, Bearer::default) {
        for (path, status) in [("/scope", 403), ("/test", 403), ("/public", 500)] {
            for (announced, version, expected) in [
                (Announced::Nothing, Version::HTTP_11, false),
                (Announced::Length(0), Version::HTTP_11, false),
                (Announced::Length(1), Version::HTTP_11, true),
                (Announced::Chunked, Version::HTTP_10, true),
                (Announced::Chunked, Version::HTTP_2, false),
            ] {
                let mut request = asked(headers, announced, "x".into());
                *request.uri_mut() = path.parse().unwrap();
                *request.version_mut() = version;
                assert_eq!(
                    closes(&app, request).await,
                    (status, expected),
                    "{path} {announced:?} {version:?}"
                );
            }
        }
    }
}

/// A key is optional, but something inside the layer needs one.
#[tokio::test]
async fn c17_c1_a_missing_key_at_an_optional_endpoint_is_refused_like_others() {
    let world = World::new().await;
    for (app, reads) in apps(&world, Bearer::default)
        .map(|app| (app, false))
        .into_iter()
        .chain(apps(&world, JsonBody::default).map(|app| (app, true)))
    {
        for (body, announced) in
            [("{}", Announced::Length(2)), ("{}", Announced::Chunked), ("", Announced::Nothing)]
        {
            let json: &[(&str, &str)] = &[("content-type", "application/json")];
            let mut request = asked(json, announced, body.into());
            *request.uri_mut() = "/optional".parse().unwrap();
            let ahead = !reads && !matches!(announced, Announced::Nothing);
            assert_eq!(closes(&app, request).await, (401, ahead), "{announced:?}, read: {reads}");
        }
    }
}

/// The renderer makes the body of the response, and the layer decides about the connection.
#[tokio::test]
async fn c17_c1_a_custom_renderer_does_not_change_the_connection() {
    let world = World::new().await;
    let render = |error: &AuthError| {
        Response::builder()
            .status(error.status())
            .header("connection", "keep-alive")
            .body(Body::empty())
            .unwrap()
    };
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).render_errors(render);
    let app = Router::new().fallback(echo).layer(auth);
    assert_eq!(closes(&app, asked(&[], Announced::Length(1), "x".into())).await, (401, true));
}

// -- over a real connection

/// Serves this app over HTTP/1.1 with hyper.
struct Server {
    address: std::net::SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, serving }
    }
}

/// A client that reuses its connection until the server closes it, like the connection pool of a proxy.
struct Pooled<'s> {
    server: &'s Server,
    stream: Option<TcpStream>,
    opened: usize,
}

impl<'s> Pooled<'s> {
    fn of(server: &'s Server) -> Self {
        Self { server, stream: None, opened: 0 }
    }

    /// Sends the first part, and the second a moment later, so that the server may respond in between; returns the
    /// status.
    async fn ask(&mut self, before: &[u8], after: &[u8]) -> Option<u16> {
        if self.stream.is_none() {
            self.stream = Some(TcpStream::connect(self.server.address).await.unwrap());
            self.opened += 1;
        }
        let mut stream = self.stream.take().unwrap();
        stream.write_all(before).await.ok()?;
        let (mut reading, mut writing) = stream.split();
        let send = async {
            if !after.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                // It does not matter to the client whether the server reads this.
                let _ = writing.write_all(after).await;
            }
        };
        let ((), heard) = tokio::join!(send, hear(&mut reading));
        let (status, closes) = heard?;
        if !closes {
            self.stream = Some(stream);
        }
        Some(status)
    }
}

/// The status of one response, and whether it closes the connection.
async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u16, bool)> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("the server says nothing") {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse().unwrap());
    let mut left = (end + length).saturating_sub(read.len());
    while left > 0 {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        left = left.saturating_sub(count);
    }
    let status = head["http/1.1 ".len()..][..3].parse().unwrap();
    Some((status, head.lines().any(|line| line == "connection: close")))
}

/// Two requests: the first is refused and has a body of this length, of which a part is sent at once; the second is
/// valid.
#[tokio::test]
async fn c17_c1_the_next_request_of_a_pooled_client_is_answered() {
    let world = World::new().await;
    // Like the handler of a real service: it takes a moment, while other tasks run.
    let pause = from_fn(async |request: Request<Body>, next: Next| {
        tokio::task::yield_now().await;
        next.run(request).await
    });
    let auth = ApiKeyAuth::new(Counted::new(&world, false), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default());
    let app = Router::new()
        .route("/scope", any(echo).layer(RequireScope::new("nobody:has")))
        .route("/test", any(async |_: TestPrincipal| "test"))
        .fallback(echo)
        .layer(pause)
        .layer(auth);
    let server = Server::start(app).await;
    let own = format!("authorization: Bearer {}\r\n", world.own.expose_secret());
    let revoked = format!("authorization: Bearer {}\r\n", world.revoked.expose_secret());
    let good = format!("POST /x HTTP/1.1\r\nhost: a\r\n{own}content-length: 2\r\n\r\n{{}}");
    let refused = [
        ("/x", revoked.as_str(), 401),
        ("/x", "", 401),
        ("/x", "x-api-key: garbage\r\n", 401),
        ("/x", "content-type: application/json\r\n", 400),
        ("/scope", own.as_str(), 403),
        ("/test", own.as_str(), 403),
    ];
    for (path, headers, status) in refused {
        for (length, at_once) in
            [(1, 0), (2, 1), (1000, 0), (20_000, 500), (65_536, 20_000), (65_537, 0), (200_000, 20_000)]
        {
            for chunked in [false, true] {
                let framing = if chunked {
                    "transfer-encoding: chunked".to_owned()
                } else {
                    format!("content-length: {length}")
                };
                let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{headers}{framing}\r\n\r\n");
                let body = vec![b'x'; length];
                let body = if chunked {
                    [format!("{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
                } else {
                    body
                };
                let (before, after) = body.split_at(at_once);
                let mut client = Pooled::of(&server);
                let at = format!("{path} {headers:.20} {length} {at_once} {chunked}");
                let heard = client.ask(&[head.as_bytes(), before].concat(), after).await;
                // A long upload may be cut off (see the documentation); a short one gets its response.
                assert!(heard == Some(status) || (heard.is_none() && length > 65_536), "{at}: {heard:?}");
                for _ in 0..2 {
                    assert_eq!(
                        client.ask(good.as_bytes(), b"").await,
                        Some(200),
                        "{at}: the next one failed"
                    );
                }
            }
        }
    }
}

/// A short refused body does not close the connection, if the layer knows how to read it.
#[tokio::test]
async fn c17_c1_a_short_refused_body_costs_no_connection() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(Counted::new(&world, false), Bearer::default()).or(JsonBody::default());
    let server = Server::start(Router::new().fallback(echo).layer(auth)).await;
    let mut client = Pooled::of(&server);
    let body = vec![b'x'; 20_000];
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: 20000\r\n\r\n";
    for _ in 0..20 {
        let (before, after) = body.split_at(1);
        assert_eq!(client.ask(&[head.as_bytes(), before].concat(), after).await, Some(401));
    }
    assert_eq!(client.opened, 1);
    // With `Expect: 100-continue` nothing is read, because that would ask the client for the body.
    let expecting = head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.ask(expecting.as_bytes(), b"").await, Some(401));
    assert!(client.stream.is_none());
}
