//! Reads the body of a request that makes, changes or explains a key: one JSON object.

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
use tower_api_key::body_budget::{Budget, Charge, Collected, Room, Sender};
use tower_api_key::limit::{Limit, Limits};
use tower_api_key::restriction::Restrictions;
use tower_api_key::scheme::is_plain_json;
use tower_api_key::{AuthErrorKind, Principal, unread_body};

use super::caller::Caller;
use super::refusal::{self, RouteError};

/// Large enough for a few short strings.
const MAX_BODY_LEN: usize = 16 * 1024;
/// The budget for the bodies of all owners together.
const CAP: usize = 256 * MAX_BODY_LEN;
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(10);

/// The budget for the bodies of these routes, with a share for each owner.
pub(super) fn room() -> Budget {
    Budget::new(CAP, MAX_BODY_LEN)
}

/// A middleware around these routes: it drains an unread body, or closes the connection.
pub(super) async fn settle(budget: Budget, request: Request, next: Next) -> Response {
    let sender = request.extensions().get::<Principal>().map(|who| Sender::owner(who.user_id()));
    unread_body::settle(request, next, budget.room(sender.unwrap_or(Sender::UNKNOWN))).await
}

/// Wraps a route that reads no body but may be sent one.
pub(super) fn settled<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    let budget = room();
    let route = route.fallback(refusal::method_not_allowed);
    route.layer(from_fn(move |request, next| settle(budget.clone(), request, next)))
}

/// The members of the object, each at most once. The errors of serde are dropped because they quote values.
pub(super) struct Members {
    members: Vec<(String, Box<RawValue>)>,
    /// The charge to the budget.
    _charge: Option<Charge>,
}

impl Members {
    pub(super) async fn read(caller: &Caller, request: Request) -> Result<Self, RouteError> {
        must_be_json(caller, request.headers())?;
        Self::of_whole(caller, whole(caller, request).await?)
    }

    /// Like `read`, but the body may be missing or empty, whatever its type.
    pub(super) async fn read_if_any(caller: &Caller, request: Request) -> Result<Option<Self>, RouteError> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        let is_json = must_be_json(caller, request.headers());
        // With chunked encoding or HTTP/2, only the end of the body shows that it is empty.
        let whole = whole(caller, request).await?;
        if whole.data.is_empty() {
            return Ok(None);
        }
        is_json?;
        Self::of_whole(caller, whole).map(Some)
    }

    fn of_whole(caller: &Caller, Collected { data, charge, .. }: Collected) -> Result<Self, RouteError> {
        let members = Self::of(&data).map_err(|_| caller.refuse(AuthErrorKind::MalformedBody))?;
        Ok(Self { _charge: Some(charge), ..members })
    }

    fn of(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        // Not a derived struct, which would also accept an array.
        let members = deserializer.deserialize_map(Object)?;
        deserializer.end()?;
        Ok(members)
    }

    fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(at).1)
    }

    /// Reads a string member: `None` if it is missing, `Some(None)` if it is `null`. Anything else is `invalid`.
    pub(super) fn text(
        &mut self,
        name: &str,
        invalid: &'static refusal::RouteProblem,
    ) -> Result<Option<Option<String>>, RouteError> {
        let value = self.take(name).map(|value| serde_json::from_str(value.get())).transpose();
        Ok(value.map_err(|_| invalid)?)
    }

    /// Reads `restrictions`: `None` if they are missing, `Some(None)` if they are `null`.
    pub(super) fn restrictions(&mut self) -> Result<Option<Option<Restrictions>>, RouteError> {
        let Some(value) = self.take("restrictions") else { return Ok(None) };
        if value.get() == "null" {
            return Ok(Some(None));
        }
        let read = value.get().parse().map(|restrictions| Some(Some(restrictions)));
        read.map_err(|error| RouteError::unprocessable("invalid_restrictions", &error))
    }

    /// Reads `limits`, one text or a list of texts: `None` if they are missing, `Some(None)` if they are `null`.
    pub(super) fn limits(&mut self) -> Result<Option<Option<Limits>>, RouteError> {
        let Some(value) = self.take("limits") else { return Ok(None) };
        if value.get() == "null" {
            return Ok(Some(None));
        }
        let read = if let Ok(text) = serde_json::from_str::<String>(value.get()) {
            text.parse()
        } else {
            let texts = serde_json::from_str::<Vec<String>>(value.get());
            let texts = texts.map_err(|_| RouteError::from(&refusal::INVALID_LIMITS))?;
            let limits: Result<Vec<Limit>, _> = texts.iter().map(|text| text.parse()).collect();
            limits.and_then(Limits::all)
        };
        read.map(|limits| Some(Some(limits)))
            .map_err(|error| RouteError::unprocessable("invalid_limits", &error))
    }

    /// Refuses all remaining members: a client must not set who owns a key or what it may do (C11-01).
    pub(super) fn end(self, unknown: &'static refusal::RouteProblem) -> Result<(), RouteError> {
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
        /// More members than are ever read. The bound keeps the search for duplicates short.
        const MOST: usize = 64;
        let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if members.len() == MOST || members.iter().any(|(member, _)| *member == name) {
                return Err(A::Error::custom("a member is said twice, or there are too many"));
            }
            // A raw value may contain half of a surrogate pair, which is not valid text.
            if value.get().starts_with('"') {
                serde_json::from_str::<String>(value.get()).map_err(A::Error::custom)?;
            }
            members.push((name, value));
        }
        Ok(Members { members, _charge: None })
    }
}

fn must_be_json(caller: &Caller, headers: &HeaderMap) -> Result<(), RouteError> {
    if !is_plain_json(headers) {
        return Err(caller.refuse(AuthErrorKind::UnsupportedMediaType));
    }
    Ok(())
}

async fn whole(caller: &Caller, request: Request) -> Result<Collected, RouteError> {
    // Routes that are not wrapped in `settle` read no body.
    let room = request.extensions().get::<Room>().cloned();
    let room = room.ok_or_else(|| caller.refuse(AuthErrorKind::Overloaded))?;
    let read = room.read(request.into_body(), MAX_BODY_LEN, READ_DEADLINE).await;
    read.map_err(|kind| caller.refuse(kind))
}
