//! Runs every small example. The requests that it prints must get the responses that it announces.

use bytes::Bytes;
use conformance::server_kit::{Announced, Answer, Program};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Runs an example, sends everything that it prints, and returns the responses.
fn run(name: &str) -> Vec<Answer> {
    let program = Program::start(name, &[]);
    program
        .announced()
        .into_iter()
        .map(|Announced { status: expected, curl, .. }| {
            let answer = curl.request.send();
            assert_eq!(answer.status, expected, "{name}: {:?} got {answer:?}", curl.request);
            answer
        })
        .collect()
}

#[test]
fn bearer() {
    let answers = run("bearer");
    assert!(answers[0].text().starts_with("hello alice, you came with key_"));
    assert_eq!(answers[1].verdict().1, "Missing or invalid API key");
}

#[test]
fn api_key_header() {
    let answers = run("api_key_header");
    assert_eq!(answers[0].text(), "the sites of p1, for alice\n");
    assert_eq!(answers[1].text(), "the sites of p1, for alice\n");
    assert_eq!(answers[3].verdict().1, "X-Project-ID header is required");
    assert_eq!(answers[4].verdict().1, "Insufficient permissions");
    assert_eq!(answers[5].verdict().1, "Invalid API key");
}

#[test]
fn json_body() {
    let answers = run("json_body");
    assert!(answers[0].text().contains(&"*".repeat(47)), "{}", answers[0].text());
    assert_eq!(answers[2].verdict().1, "Forbidden");
    assert_eq!(answers[3].verdict().1, "Invalid User");
    assert_eq!(answers[4].verdict().1, "Unauthorized: Invalid API Key");
}

#[test]
fn three_schemes() {
    let answers = run("three_schemes");
    for (answer, scheme) in answers.iter().zip(["bearer", "api-key-header", "json-body"]) {
        assert_eq!(answer.text(), format!("alice came through {scheme}\n"));
    }
    assert_eq!(answers[5].header("www-authenticate").len(), 3);
}

#[test]
fn moving_schemes() {
    let answers = run("moving_schemes");
    let says = |name| answers.iter().map(|answer| answer.header(name).len()).collect::<Vec<_>>();
    //                                1        2        3                 4
    assert_eq!(says("deprecation"), [0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]);
    assert_eq!(says("sunset"), [0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]);
    assert_eq!(answers[8].header("link")[0], "<https://example.com/docs/new-keys>; rel=\"deprecation\"");
    assert_eq!(answers[12].verdict().1, "Unauthorized: Invalid API Key");
    assert_eq!(answers[12].header("www-authenticate"), [r#"Bearer realm="api""#]);
    let reports = [2, 5, 11, 14].map(|at: usize| answers[at].text());
    let shops = "shop: scheme:api-key-header x1, scheme:json-body x1\n";
    assert!(reports[0].contains("shop: scheme:json-body x1\n"), "{}", reports[0]);
    assert!(
        reports[1].contains(shops) && reports[1].contains("nightly job: scheme:json-body x2\n"),
        "{}",
        reports[1]
    );
    let replaced = "second shop: scheme:bearer x1; replaced: not safe to end yet\n";
    assert!(
        reports[2].contains(replaced) && reports[2].contains("second shop: scheme:bearer x1\n"),
        "{}",
        reports[2]
    );
    assert!(reports[3].contains("nightly job: scheme:bearer x1, scheme:json-body x3\n"), "{}", reports[3]);
    assert!(reports[3].ends_with("keys that came by json-body: 2\n"), "{}", reports[3]);
}

#[test]
fn custom_store() {
    let answers = run("custom_store");
    assert_eq!(answers[0].text(), "hello alice\n");
    assert_eq!(answers[1].verdict().1, "Insufficient permissions");
}

#[test]
fn custom_errors() {
    let answers = run("custom_errors");
    let fault = r#"{"fault":{"code":"invalid_api_key","text":"Missing or invalid API key"}}"#;
    assert_eq!(answers[1].text(), fault);
    assert_eq!(answers[1].header("www-authenticate"), [r#"Bearer realm="api", error="invalid_token""#]);
    assert_eq!(answers[2].json()["fault"]["code"], "missing_api_key");
}

#[test]
fn plain_hyper() {
    let answers = run("plain_hyper");
    assert_eq!(answers[0].text(), "hello alice\n");
    assert_eq!(answers[1].text(), "hello whoever you are\n");
    assert_eq!(answers[2].verdict().1, "Missing or invalid API key");
}

#[test]
fn guards() {
    let answers = run("guards");
    assert_eq!(answers[0].text(), "paid out for alice\n");
    for refused in &answers[1..3] {
        assert_eq!(refused.verdict().1, "API key doesn't have permission for this resource");
    }
    assert_eq!(answers[4].text(), "the test balance of alice\n");
}

#[test]
fn layer_order() {
    let answers = run("layer_order");
    assert_eq!(answers[0].text(), "5 bytes from alice\n");
    assert_eq!(answers[1].header("access-control-allow-methods"), ["*"]);
    assert_eq!(answers[2].header("access-control-allow-origin"), ["*"]);
    assert_eq!(answers[2].verdict().1, "Missing or invalid API key");
    assert!(answers[3].text().ends_with(" bytes from alice\n"));
}

#[tokio::test]
async fn grpc_tonic() {
    let program = Program::start("grpc_tonic", &[]);
    for Announced { status: expected, curl, .. } in program.announced() {
        let request = curl.request;
        assert!(curl.http2);
        let stream = tokio::net::TcpStream::connect(&request.host).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let uri = format!("http://{}{}", request.host, request.path);
        let mut builder = http::Request::builder().method(&*request.method).uri(uri);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let response = sender.send_request(builder.body(Full::new(Bytes::from(request.body))).unwrap()).await;
        let (head, body) = response.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        // Errors are in the head, everything else is in the trailers.
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = head.headers.get("grpc-status").or(trailers.get("grpc-status")).unwrap();
        assert_eq!(status.to_str().unwrap(), expected.to_string());
        assert_eq!(head.status, 200);
        if expected == 0 {
            assert_eq!(&body.to_bytes()[5..], b"alice says hello to world");
        } else {
            assert_eq!(head.headers["grpc-message"], "Missing or invalid API key");
        }
    }
}
