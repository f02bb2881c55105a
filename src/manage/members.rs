//! The body of a request to these routes: one JSON object, each member at most once.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::header::CONTENT_TYPE;
use http_body_util::LengthLimitError;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::caller::Caller;
use super::refusal::Refusal;
use crate::error::AuthErrorKind;
use crate::scheme::{JsonType, json_type};

/// A dozen short strings fit many times.
const MAX_BODY_LEN: usize = 16 * 1024;
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// The members of an object, as they stand there. `null` is the same as left out.
pub(super) struct Members<const N: usize> {
    /// In the order of the names.
    pub(super) values: [Option<Box<RawValue>>; N],
    /// Whether there is a member of another name.
    pub(super) unknown: bool,
}

impl<const N: usize> Members<N> {
    /// Reads the body of a request.
    pub(super) async fn of(
        caller: &Caller,
        request: Request,
        names: &'static [&'static str; N],
    ) -> Result<Self, Refusal> {
        let mut types = request.headers().get_all(CONTENT_TYPE).iter().map(json_type);
        if !matches!((types.next(), types.next()), (Some(JsonType::Utf8), None)) {
            return Err(caller.refuse(AuthErrorKind::UnsupportedMediaType));
        }
        let body = collect(request.into_body()).await.map_err(|kind| caller.refuse(kind))?;
        Self::read(&body, names).map_err(|_| caller.refuse(AuthErrorKind::MalformedBody))
    }

    /// Of what serde says nothing is kept: it quotes values.
    fn read(text: &[u8], names: &'static [&'static str; N]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        // Not a derived struct, which would take an array of strings, too.
        let members = deserializer.deserialize_map(Object(names))?;
        deserializer.end()?;
        Ok(members)
    }
}

/// The string that a member is, if it is there.
pub(super) fn string(caller: &Caller, member: Option<Box<RawValue>>) -> Result<Option<String>, Refusal> {
    let read = member.map(|value| serde_json::from_str(value.get())).transpose();
    read.map_err(|_| caller.refuse(AuthErrorKind::MalformedBody))
}

struct Object<const N: usize>(&'static [&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for Object<N> {
    type Value = Members<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members<N>, A::Error> {
        let (mut values, mut seen) = ([const { None }; N], [false; N]);
        let mut unknown = false;
        while let Some(member) = members.next_key::<Cow<'_, str>>()? {
            let known =
                self.0.iter().zip(seen.iter_mut().zip(&mut values)).find(|(name, _)| **name == member);
            let Some((_, (seen, value))) = known else {
                members.next_value::<IgnoredAny>()?;
                unknown = true;
                continue;
            };
            if std::mem::replace(seen, true) {
                return Err(A::Error::custom("a member is said twice"));
            }
            *value = members.next_value()?;
        }
        Ok(Members { values, unknown })
    }
}

async fn collect(body: Body) -> Result<bytes::Bytes, AuthErrorKind> {
    match tokio::time::timeout(READ_DEADLINE, axum::body::to_bytes(body, MAX_BODY_LEN)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(AuthErrorKind::BodyTooLarge),
        Ok(Err(_)) => Err(AuthErrorKind::MalformedBody),
        Err(_) => Err(AuthErrorKind::BodyTimeout),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    error.source().is_some_and(|source| source.is::<LengthLimitError>())
}
