//! Requests, the principal that a handler sees, and responses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::{Json, Router};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_api_key::{ApiKey, Principal, ProjectId};

/// A handler that returns what it received.
pub async fn echo(request: Request<Body>) -> Json<Value> {
    let principal = request.extensions().get::<Principal>().map(|principal| {
        json!({
            "user": principal.user_id().as_str(),
            "project": principal.project().map(ProjectId::as_str),
            "level": principal.level().as_str(),
            "role": format!("{:?}", principal.role()),
            "environment": principal.environment().as_str(),
            "scheme": principal.scheme(),
        })
    });
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let collected = request.into_body().collect().await.unwrap();
    let trailers = collected.trailers().map(|trailers| trailers.len()).unwrap_or_default();
    let body = collected.to_bytes();
    Json(json!({
        "handler": true, "principal": principal, "method": method, "path": path,
        "body": String::from_utf8_lossy(&body), "trailers": trailers,
    }))
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub extensions: http::Extensions,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `200:h`, or the status and the error code.
    pub fn verdict(&self) -> String {
        let json = self.json();
        if json["handler"] == true {
            return format!("{}:h", self.status.as_u16());
        }
        format!("{}/{}", self.status.as_u16(), json["error"].as_str().unwrap_or("-"))
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

pub async fn answer<B>(response: Response<B>) -> Answer
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, extensions: parts.extensions, body }
}

pub async fn send(app: &Router, request: Request<Body>) -> Answer {
    answer(app.clone().oneshot(request).await.unwrap()).await
}

pub fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    request("GET", path, headers, Body::empty())
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap()
}

pub fn post_json(path: &str, body: impl ToString) -> Request<Body> {
    request("POST", path, &[("content-type", "application/json")], body.to_string())
}

pub fn bearer(key: &ApiKey) -> String {
    format!("Bearer {}", key.expose_secret())
}

/// A body that yields these pieces, and then ends, or never yields anything more.
pub struct Pieces {
    left: std::vec::IntoIter<Bytes>,
    ends: bool,
    polls: Arc<AtomicUsize>,
    claimed: Option<u64>,
}

impl Pieces {
    pub fn new(pieces: impl IntoIterator<Item = impl Into<Bytes>>, ends: bool) -> Self {
        let pieces: Vec<_> = pieces.into_iter().map(Into::into).collect();
        Self { left: pieces.into_iter(), ends, polls: Arc::default(), claimed: None }
    }

    /// Declares a length, like HTTP bodies with a `Content-Length`.
    pub fn claiming(self, length: u64) -> Self {
        Self { claimed: Some(length), ..self }
    }

    /// How often it was polled.
    pub fn polls(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.polls)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        match self.left.next() {
            Some(piece) => Poll::Ready(Some(Ok(http_body::Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.claimed.map(http_body::SizeHint::with_exact).unwrap_or_default()
    }
}
