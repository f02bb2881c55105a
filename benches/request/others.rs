//! The alternatives, each as short as possible: SHA-256, a hash map, and an `Arc` in the extensions. None of them
//! checks anything else.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tower::{Layer, Service};
use tower_http::auth::AsyncAuthorizeRequest;

use crate::world::{Table, Who};

fn by_header(table: &Table, headers: &HeaderMap) -> Option<Arc<Who>> {
    let key = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    by_text(table, key)
}

fn by_text(table: &Table, key: &str) -> Option<Arc<Who>> {
    let digest: [u8; 32] = Sha256::digest(key).into();
    table.get(&digest).cloned()
}

fn unauthorized() -> Response<Body> {
    StatusCode::UNAUTHORIZED.into_response()
}

/// A layer written by hand.
#[derive(Clone)]
pub struct Minimal(pub Table);

#[derive(Clone)]
pub struct MinimalService<S> {
    inner: S,
    table: Table,
}

impl<S> Layer<S> for Minimal {
    type Service = MinimalService<S>;

    fn layer(&self, inner: S) -> MinimalService<S> {
        MinimalService { inner, table: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request<Body>> for MinimalService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MinimalFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match by_header(&self.table, request.headers()) {
            Some(who) => {
                request.extensions_mut().insert(who);
                MinimalFuture::Inner { answer: self.inner.call(request) }
            }
            None => MinimalFuture::Refused,
        }
    }
}

pin_project! {
    #[project = Now]
    pub enum MinimalFuture<F> {
        Inner { #[pin] answer: F },
        Refused,
    }
}

impl<F: Future<Output = Result<Response<Body>, E>>, E> Future for MinimalFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Now::Inner { answer } => answer.poll(cx),
            Now::Refused => Poll::Ready(Ok(unauthorized())),
        }
    }
}

/// For axum's `from_fn_with_state`.
pub async fn middleware(
    axum::extract::State(table): axum::extract::State<Table>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    match by_header(&table, request.headers()) {
        Some(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        None => unauthorized(),
    }
}

/// For tower-http's `AsyncRequireAuthorizationLayer`.
#[derive(Clone)]
pub struct Authorize(pub Table);

impl<B> AsyncAuthorizeRequest<B> for Authorize {
    type RequestBody = B;
    type ResponseBody = Body;
    type Future = Ready<Result<Request<B>, Response<Body>>>;

    fn authorize(&mut self, mut request: Request<B>) -> Self::Future {
        ready(match by_header(&self.0, request.headers()) {
            Some(who) => {
                request.extensions_mut().insert(who);
                Ok(request)
            }
            None => Err(unauthorized()),
        })
    }
}

/// A hand-written layer that reads a JSON body, as strictly as `serde_json::Value` does, and passes it on.
#[derive(Clone)]
pub struct MinimalJson(pub Table);

#[derive(Clone)]
pub struct MinimalJsonService<S> {
    inner: S,
    table: Table,
}

impl<S> Layer<S> for MinimalJson {
    type Service = MinimalJsonService<S>;

    fn layer(&self, inner: S) -> MinimalJsonService<S> {
        MinimalJsonService { inner, table: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request<Body>> for MinimalJsonService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let table = Arc::clone(&self.table);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let Ok(body) = axum::body::to_bytes(body, 2 << 20).await else { return Ok(unauthorized()) };
            let Some(who) = by_json(&table, &body) else { return Ok(unauthorized()) };
            parts.extensions.insert(who);
            inner.call(Request::from_parts(parts, Body::from(body))).await
        })
    }
}

fn by_json(table: &Table, body: &Bytes) -> Option<Arc<Who>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let fields = deserializer.deserialize_map(Object).ok()?;
    deserializer.end().ok()?;
    let who = by_text(table, &fields.key?)?;
    (who.user.as_str() == fields.user? && fields.project.is_some()).then_some(who)
}

#[derive(Default)]
struct Fields {
    key: Option<String>,
    user: Option<String>,
    project: Option<String>,
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(member) = members.next_key_seed(MemberName)? {
            let field = match member {
                0 => &mut fields.key,
                1 => &mut fields.user,
                2 => &mut fields.project,
                _ => {
                    members.next_value_seed(Strict)?;
                    continue;
                }
            };
            *field = Some(members.next_value()?);
        }
        Ok(fields)
    }
}

struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = u8;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u8, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<u8, E> {
        Ok(match name {
            "apiKey" => 0,
            "userId" => 1,
            "projectId" => 2,
            _ => 3,
        })
    }
}

/// Skips a value, but checks all of it.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Strict)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Strict)?.is_some() {
            members.next_value_seed(Strict)?;
        }
        Ok(())
    }
}
