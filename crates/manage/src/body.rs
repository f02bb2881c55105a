//! The body of a request that makes, changes or explains a key: one JSON object.

use std::fmt;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::MethodRouter;
use http::HeaderMap;
use http_body::Body as _;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tower_api_key::Principal;
use tower_api_key::auth_error::AuthErrorKind;
use tower_api_key::body_budget::{Budget, Charge, Collected, Room, Sender};
use tower_api_key::limit::{Limit, Limits};
use tower_api_key::restriction::Restrictions;
use tower_api_key::scheme::is_plain_json;
use tower_api_key::unread_body;

use super::caller::Caller;
use super::refusal::{self, Refusal};

/// A few short strings fit many times.
const MAX_BODY_LEN: usize = 16 * 1024;
/// For the bodies of all owners together.
const CAP: usize = 256 * MAX_BODY_LEN;
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(10);

/// Where the bodies of some routes find room, shared out by owner.
pub(super) fn room() -> Budget {
    Budget::new(CAP, MAX_BODY_LEN)
}

/// Around those routes: whatever they answer, the body of the request is cared for.
pub(super) async fn settle(budget: Budget, request: Request, next: Next) -> Response {
    let sender = request.extensions().get::<Principal>().map(|who| Sender::owner(who.user_id()));
    unread_body::settle(request, next, budget.room(sender.unwrap_or(Sender::UNKNOWN))).await
}

/// A route that reads no body, and is sent one all the same.
pub(super) fn settled<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    let budget = room();
    let route = route.fallback(refusal::method_not_allowed);
    route.layer(from_fn(move |request, next| settle(budget.clone(), request, next)))
}

/// The members of the object as they stand there, each at most once. Of what serde says nothing is kept: it quotes values.
pub(super) struct Members {
    members: Vec<(String, Box<RawValue>)>,
    /// The room that they take.
    _charge: Option<Charge>,
}

impl Members {
    pub(super) async fn read(caller: &Caller, request: Request) -> Result<Self, Refusal> {
        must_be_json(caller, request.headers())?;
        Self::of_whole(caller, whole(caller, request).await?)
    }

    /// The same where there may be no body, or one of no length, of whatever type.
    pub(super) async fn read_if_any(caller: &Caller, request: Request) -> Result<Option<Self>, Refusal> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        let is_json = must_be_json(caller, request.headers());
        // In pieces, or over HTTP/2, it is its end that tells that there is nothing.
        let whole = whole(caller, request).await?;
        if whole.data.is_empty() {
            return Ok(None);
        }
        is_json?;
        Self::of_whole(caller, whole).map(Some)
    }

    fn of_whole(caller: &Caller, Collected { data, charge, .. }: Collected) -> Result<Self, Refusal> {
        let members = Self::of(&data).map_err(|_| caller.refuse(AuthErrorKind::MalformedBody))?;
        Ok(Self { _charge: Some(charge), ..members })
    }

    fn of(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        // Not a derived struct, which would take an array, too.
        let members = deserializer.deserialize_map(Object)?;
        deserializer.end()?;
        Ok(members)
    }

    fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(at).1)
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
        if self.members.is_empty() { Ok(()) } else { Err(unknown.into()) }
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
        Ok(Members { members, _charge: None })
    }
}

fn must_be_json(caller: &Caller, headers: &HeaderMap) -> Result<(), Refusal> {
    if !is_plain_json(headers) {
        return Err(caller.refuse(AuthErrorKind::UnsupportedMediaType));
    }
    Ok(())
}

async fn whole(caller: &Caller, request: Request) -> Result<Collected, Refusal> {
    // Nothing is read by routes around which nobody has put `settle`.
    let room = request.extensions().get::<Room>().cloned();
    let room = room.ok_or_else(|| caller.refuse(AuthErrorKind::Overloaded))?;
    let read = room.read(request.into_body(), MAX_BODY_LEN, READ_DEADLINE).await;
    read.map_err(|kind| caller.refuse(kind))
}
