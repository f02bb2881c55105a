//! The body of a request for a new key.
//!
//! # Format
//!
//! ```json
//! {"name": "CI", "level": "PROJECT", "project_id": "p1", "environment": "live", "expires_at": "2030-01-01T00:00:00Z",
//!  "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}}
//! ```
//!
//! Only `name` is required. `level` is `USER` or `PROJECT` in any case, and `USER` if it is left out; `environment` is
//! the caller's if it is left out; `restrictions` are written as [`restriction`](crate::restriction) says. `null` is the same as left out. Anything else in the object is refused: who owns a
//! key and what it may do is never the client's to say (C11-01).

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
use super::refusal::{self, Refusal};
use super::time;
use crate::clock::Timestamp;
use crate::error::AuthErrorKind;
use crate::key::{Environment, ProjectId};
use crate::keyring::NewKey;
use crate::record::KeyLevel;
use crate::restriction::Restrictions;
use crate::scheme::{JsonType, json_type};

/// Five short strings fit many times.
const MAX_BODY_LEN: usize = 16 * 1024;
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// What the caller asks for, within what it may ask for.
pub(super) async fn read(caller: &Caller, request: Request) -> Result<NewKey, Refusal> {
    let mut types = request.headers().get_all(CONTENT_TYPE).iter().map(json_type);
    if !matches!((types.next(), types.next()), (Some(JsonType::Utf8), None)) {
        return Err(caller.refuse(AuthErrorKind::UnsupportedMediaType));
    }
    let body = collect(request.into_body(), MAX_BODY_LEN).await.map_err(|kind| caller.refuse(kind))?;
    let fields = Fields::read(&body).map_err(|_| caller.refuse(AuthErrorKind::MalformedBody))?;
    let asked = Asked::of(&fields)?;
    asked.within(caller)
}

/// A body of bytes that came in time.
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

/// The members of the object, as they stand there.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    level: Option<String>,
    project_id: Option<String>,
    environment: Option<String>,
    expires_at: Option<String>,
    /// Read once more, strictly and with a reason where it is wrong.
    restrictions: Option<Box<RawValue>>,
    unknown: bool,
}

impl Fields {
    /// One object, each member at most once; strings and `null` only, but for the restrictions. Of what serde says nothing is kept: it quotes
    /// values.
    fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        // Not a derived struct, which would take an array of five strings, too.
        let fields = deserializer.deserialize_map(Object)?;
        deserializer.end()?;
        Ok(fields)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = [false; 5];
        let mut restrictions_seen = false;
        while let Some(member) = members.next_key::<Cow<'_, str>>()? {
            let (seen, field) = match (&*member, &mut seen) {
                ("name", [seen, ..]) => (seen, &mut fields.name),
                ("level", [_, seen, ..]) => (seen, &mut fields.level),
                ("project_id", [_, _, seen, ..]) => (seen, &mut fields.project_id),
                ("environment", [.., seen, _]) => (seen, &mut fields.environment),
                ("expires_at", [.., seen]) => (seen, &mut fields.expires_at),
                ("restrictions", _) => {
                    if std::mem::replace(&mut restrictions_seen, true) {
                        return Err(A::Error::custom("a member is said twice"));
                    }
                    fields.restrictions = members.next_value()?;
                    continue;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    fields.unknown = true;
                    continue;
                }
            };
            if std::mem::replace(seen, true) {
                return Err(A::Error::custom("a member is said twice"));
            }
            *field = members.next_value()?;
        }
        Ok(fields)
    }
}

/// What the members mean.
struct Asked {
    name: String,
    level: KeyLevel,
    environment: Option<Environment>,
    expires_at: Option<Timestamp>,
    restrictions: Option<Restrictions>,
}

impl Asked {
    fn of(fields: &Fields) -> Result<Self, Refusal> {
        if fields.unknown {
            return Err((&refusal::UNKNOWN_FIELD).into());
        }
        let name = fields.name.clone().ok_or(&refusal::INVALID_NAME)?;
        let level = match fields.level.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("USER") => KeyLevel::User,
            Some("PROJECT") => {
                let project = fields.project_id.as_ref().and_then(|id| ProjectId::new(id).ok());
                KeyLevel::Project(project.ok_or(&refusal::INVALID_PROJECT_ID)?)
            }
            Some(_) => return Err((&refusal::INVALID_LEVEL).into()),
        };
        // A project beside the wider level is a mistake, and never widened in silence (R35).
        if level == KeyLevel::User && fields.project_id.is_some() {
            return Err((&refusal::INVALID_PROJECT_ID).into());
        }
        let environment = match &fields.environment {
            None => None,
            Some(name) => Some(
                Environment::from_name(&name.to_ascii_lowercase()).ok_or(&refusal::INVALID_ENVIRONMENT)?,
            ),
        };
        let expires_at = match &fields.expires_at {
            None => None,
            Some(text) => Some(time::parse(text).ok_or(&refusal::INVALID_EXPIRES_AT)?),
        };
        let restrictions = fields.restrictions.as_ref().map(|text| text.get().parse()).transpose();
        let restrictions = restrictions.map_err(Refusal::Restrictions)?;
        Ok(Self { name, level, environment, expires_at, restrictions })
    }

    /// The caller's own key, cut further: never more than that (C11-02).
    fn within(self, caller: &Caller) -> Result<NewKey, Refusal> {
        let who = &caller.who;
        let other_environment = self.environment.is_some_and(|environment| environment != who.environment());
        let outlives = who.expires_at().is_some_and(|own| self.expires_at.is_none_or(|end| end > own));
        // Whether one set of restrictions is within another is not worked out: a restricted caller passes on its own.
        let own = who.restrictions();
        let widens = !own.is_none() && self.restrictions.as_ref().is_some_and(|asked| asked != own);
        // A new key has a count of its own: whoever is limited would have twice as much.
        let unlimited = who.limited_family().is_some();
        if other_environment || outlives || widens || unlimited {
            return Err(caller.refuse(AuthErrorKind::Forbidden));
        }
        let new = NewKey::of_level(who.user_id().clone(), self.name, self.level)
            .environment(who.environment())
            .restrictions(self.restrictions.unwrap_or_else(|| own.clone()))
            .scopes(who.scopes().iter().cloned());
        let new = who.metadata().iter().fold(new, |new, (name, value)| new.metadata(name, value));
        Ok(match self.expires_at {
            Some(end) => new.expires_at(end),
            None => new,
        })
    }
}
