//! The body of a request that makes, changes or explains a key: one JSON object.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::LengthLimitError;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::caller::Caller;
use super::refusal::{self, Refusal};
use crate::error::AuthErrorKind;
use crate::limit::{Limit, Limits};
use crate::restriction::Restrictions;
use crate::scheme::{JsonType, json_type};

/// A few short strings fit many times.
const MAX_BODY_LEN: usize = 16 * 1024;
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// The members of the object as they stand there, each at most once. Of what serde says nothing is kept: it quotes values.
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    pub(super) async fn read(caller: &Caller, request: Request) -> Result<Self, Refusal> {
        let mut types = request.headers().get_all(CONTENT_TYPE).iter().map(json_type);
        if !matches!((types.next(), types.next()), (Some(JsonType::Utf8), None)) {
            return Err(caller.refuse(AuthErrorKind::UnsupportedMediaType));
        }
        let body = collect(request.into_body(), MAX_BODY_LEN).await.map_err(|kind| caller.refuse(kind))?;
        Self::of(&body).map_err(|_| caller.refuse(AuthErrorKind::MalformedBody))
    }

    /// The same where there may be no body.
    pub(super) async fn read_if_any(caller: &Caller, request: Request) -> Result<Option<Self>, Refusal> {
        if request.body().is_end_stream() { Ok(None) } else { Self::read(caller, request).await.map(Some) }
    }

    fn of(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        // Not a derived struct, which would take an array, too.
        let members = deserializer.deserialize_map(Object)?;
        deserializer.end()?;
        Ok(members)
    }

    fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(member, _)| member == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A string, if the member is there: `Some(None)` is `null`. Anything else is `invalid`.
    pub(super) fn text(
        &mut self,
        name: &str,
        invalid: &'static refusal::Own,
    ) -> Result<Option<Option<String>>, Refusal> {
        let value = self.take(name).map(|value| serde_json::from_str(value.get())).transpose();
        Ok(value.map_err(|_| invalid)?)
    }

    /// `restrictions`, if they are there: `Some(None)` is `null`.
    pub(super) fn restrictions(&mut self) -> Result<Option<Option<Restrictions>>, Refusal> {
        let Some(value) = self.take("restrictions") else { return Ok(None) };
        if value.get() == "null" {
            return Ok(Some(None));
        }
        let read = value.get().parse().map(|restrictions| Some(Some(restrictions)));
        read.map_err(|error| Refusal::unprocessable("invalid_restrictions", &error))
    }

    /// `limits`, if they are there, as one text or several: `Some(None)` is `null`.
    pub(super) fn limits(&mut self) -> Result<Option<Option<Limits>>, Refusal> {
        let Some(value) = self.take("limits") else { return Ok(None) };
        if value.get() == "null" {
            return Ok(Some(None));
        }
        let read = if let Ok(text) = serde_json::from_str::<String>(value.get()) {
            text.parse()
        } else {
            let texts = serde_json::from_str::<Vec<String>>(value.get());
            let texts = texts.map_err(|_| Refusal::from(&refusal::INVALID_LIMITS))?;
            let limits: Result<Vec<Limit>, _> = texts.iter().map(|text| text.parse()).collect();
            limits.and_then(Limits::all)
        };
        read.map(|limits| Some(Some(limits)))
            .map_err(|error| Refusal::unprocessable("invalid_limits", &error))
    }

    /// Whatever else stands in the object is refused: who owns a key and what it may do is never the client's to say
    /// (C11-01).
    pub(super) fn end(self, unknown: &'static refusal::Own) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(unknown.into()) }
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        /// More than are read, so that the search for a second one stays short.
        const MOST: usize = 64;
        let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if members.len() == MOST || members.iter().any(|(member, _)| *member == name) {
                return Err(A::Error::custom("a member is said twice, or there are too many"));
            }
            // A raw value may hold half of a surrogate pair, which no text has.
            if value.get().starts_with('"') {
                serde_json::from_str::<String>(value.get()).map_err(A::Error::custom)?;
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

/// A body that came in time.
pub(super) async fn collect(body: Body, limit: usize) -> Result<bytes::Bytes, AuthErrorKind> {
    match tokio::time::timeout(READ_DEADLINE, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(AuthErrorKind::BodyTooLarge),
        Ok(Err(_)) => Err(AuthErrorKind::MalformedBody),
        Err(_) => Err(AuthErrorKind::BodyTimeout),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    error.source().is_some_and(|source| source.is::<LengthLimitError>())
}
