//! Who asks, and for a form: whether it is one of ours. A handler that changes something takes a [`Posted`], and there is
//! no other way to have one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, RawPathParams, Request};
use axum::response::IntoResponse as _;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderName, StatusCode};

use super::answer::{self, Frame, Instead, Message};
use super::fields::Fields;
use super::session::{Freshness, PortalUser, SignedIn};
use super::tickets::Ticket;
use super::{Portal, Shared};
use crate::access::{AccessClass, Standing};
use crate::audit::Actor;
use crate::body_budget::{self, Budget, Sender, Whole};
use crate::error::AuthErrorKind;
use crate::key::KeyId;
use crate::keyring::{Keyring, KeyringError};
use crate::record::KeyRecord;

/// Three lists of a hundred entries of 512 characters, each character in up to three bytes; the fourth is short.
const MAX_FORM_LEN: usize = 512 * 1024;
/// For the forms of all people together.
const CAP: usize = 16 << 20;
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// Where forms find room, shared out by person.
pub(super) fn room() -> Arc<Budget> {
    Budget::new(CAP, MAX_FORM_LEN)
}

/// Somebody who is signed in and asks for a page.
pub(super) struct Visitor {
    pub(super) portal: Shared,
    /// The portal's, in the visitor's hands.
    pub(super) keyring: Keyring,
    pub(super) user: PortalUser,
    /// Where the portal is mounted.
    pub(super) base: String,
    head: Parts,
}

impl FromRequestParts<Shared> for Visitor {
    type Rejection = Instead;

    async fn from_request_parts(head: &mut Parts, portal: &Shared) -> Result<Self, Instead> {
        let base = mount(head);
        match portal.session.user(head).await {
            Ok(SignedIn::User(user)) => {
                let keyring = portal.keyring.acting_as(Actor::User(user.id().clone()));
                Ok(Self { portal: Shared::clone(portal), keyring, user, base, head: head.clone() })
            }
            Ok(SignedIn::Nobody { sign_in_at }) if head.method.is_safe() => {
                Err(answer::see(&sign_in_at).into())
            }
            // Not a redirect: browsers that hold forms to this origin would not follow it elsewhere.
            Ok(SignedIn::Nobody { sign_in_at }) => {
                Err(answer::SIGN_IN.linked(sign_in_at, "Sign in").answer(&portal.frame(&base, None)).into())
            }
            Err(_) => Err(answer::UNAVAILABLE.answer(&portal.frame(&base, None)).into()),
        }
    }
}

impl Visitor {
    pub(super) fn frame(&self) -> Frame {
        self.portal.frame(&self.base, Some(&self.user))
    }

    pub(super) fn say(&self, message: Message) -> Instead {
        Instead::from(message.answer(&self.frame()))
    }

    /// The key that the path names, if it is the visitor's own.
    pub(super) async fn own_key(&self) -> Result<KeyRecord, Instead> {
        let no_such_key = || self.say(answer::NO_SUCH_KEY);
        let mut head = self.head.clone();
        let params = RawPathParams::from_request_parts(&mut head, &()).await.map_err(|_| no_such_key())?;
        // The last, since an outer router may have an `id` of its own.
        let named = params.iter().filter(|(name, _)| *name == "id").last();
        let id = named.and_then(|(_, text)| KeyId::new(text).ok()).ok_or_else(no_such_key)?;
        self.find(&id).await?.ok_or_else(no_such_key)
    }

    pub(super) async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, Instead> {
        let key = self.keyring.get(id).await.map_err(|_| self.say(answer::UNAVAILABLE))?;
        Ok(key.filter(|key| key.owner == *self.user.id()))
    }

    /// Whether the visitor may make and change keys (R24).
    pub(super) async fn may_write(&self) -> Result<bool, Instead> {
        match self.keyring.standing(self.user.id()).await {
            Ok(Standing::Active { role }) => Ok(role.is_some_and(|role| role.allows(AccessClass::Manage))),
            Ok(Standing::Disabled) => Ok(false),
            Err(_) => Err(self.say(answer::UNAVAILABLE)),
        }
    }

    /// Lets through who may make and change keys, and has proven lately who they are (C11-17).
    pub(super) async fn must_be_fresh_writer(&self) -> Result<(), Instead> {
        if !self.may_write().await? {
            return Err(self.say(answer::READ_ONLY));
        }
        match self.portal.session.freshness(&self.head, &self.user).await {
            Ok(Freshness::Fresh) => Ok(()),
            Ok(Freshness::Stale { confirm_at }) if self.head.method.is_safe() => {
                Err(answer::see(&confirm_at).into())
            }
            Ok(Freshness::Stale { confirm_at }) => {
                Err(self.say(answer::CONFIRM.linked(confirm_at, "Confirm")))
            }
            Err(_) => Err(self.say(answer::UNAVAILABLE)),
        }
    }

    /// What a keyring's error means to the visitor.
    pub(super) fn explain(&self, error: &KeyringError) -> Instead {
        self.say(match error {
            KeyringError::NotFound => answer::NO_SUCH_KEY,
            KeyringError::Ended => answer::ENDED,
            KeyringError::Forbidden => answer::NO_ACCESS,
            KeyringError::Store(_) => answer::UNKNOWN_OUTCOME,
            _ => answer::UNAVAILABLE,
        })
    }
}

/// A form that was sent from one of these pages, by the one who is signed in.
pub(super) struct Posted {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
    pub(super) ticket: Ticket,
}

impl FromRequest<Shared> for Posted {
    type Rejection = Instead;

    async fn from_request(request: Request, portal: &Shared) -> Result<Self, Instead> {
        let (mut head, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut head, portal).await?;
        if !came_from_here(portal, &head) {
            return Err(visitor.say(answer::FROM_ELSEWHERE));
        }
        let charge = portal.budget.charge(&Sender::owner(visitor.user.id()));
        let read = body_budget::read(pin!(body), MAX_FORM_LEN, READ_DEADLINE, charge).await;
        let Whole { data, charge, .. } = read.map_err(|kind| {
            visitor.say(match kind {
                AuthErrorKind::BodyTooLarge => answer::TOO_LARGE,
                AuthErrorKind::BodyTimeout => answer::TOO_SLOW,
                AuthErrorKind::Overloaded => answer::UNAVAILABLE,
                _ => answer::NO_FORM,
            })
        })?;
        let request = Request::from_parts(head, axum::body::Body::from(data));
        let Form(pairs) =
            Form::<Vec<(String, String)>>::from_request(request, &()).await.map_err(|rejection| {
                visitor.say(match rejection.into_response().status() {
                    StatusCode::PAYLOAD_TOO_LARGE => answer::TOO_LARGE,
                    _ => answer::NO_FORM,
                })
            })?;
        let Some(mut fields) = Fields::new(pairs) else {
            return Err(visitor.say(answer::UNEXPECTED_FIELD));
        };
        fields.keep(charge);
        let ticket = Ticket { text: fields.take("ticket"), proof: fields.take("proof") };
        if !ticket.is_of(&visitor.user) {
            return Err(visitor.say(answer::OLD_FORM));
        }
        Ok(Self { visitor, fields, ticket })
    }
}

/// Where the portal is mounted: what the host's router has taken from the path. Empty at the root.
fn mount(head: &Parts) -> String {
    let inner = head.uri.path();
    let outer = head.extensions.get::<OriginalUri>().map_or(inner, |OriginalUri(uri)| uri.path());
    // `/` inside is the mount itself, which may be asked for with and without a slash.
    let inner = if inner == "/" { "" } else { inner };
    outer.strip_suffix(inner).unwrap_or_default().trim_end_matches('/').to_owned()
}

/// Whether a browser says that one of our own pages sent this. One that says nothing is not believed.
fn came_from_here(portal: &Portal, head: &Parts) -> bool {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let one = |name: HeaderName| {
        let mut lines = head.headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (line, None) => line.map(|line| line.to_str().map(str::to_ascii_lowercase)),
            (_, Some(_)) => Some(Ok(String::new())),
        }
    };
    let site = one(SEC_FETCH_SITE).map(|site| site.is_ok_and(|site| site == "same-origin"));
    let origin = one(ORIGIN).map(|origin| origin.is_ok_and(|origin| is_ours(portal, head, &origin)));
    // Whatever is said must agree, and something must be said.
    site.or(origin).is_some() && site.unwrap_or(true) && origin.unwrap_or(true)
}

/// Whether an origin, in lower case, is the one at which this request was sent.
fn is_ours(portal: &Portal, head: &Parts, origin: &str) -> bool {
    if let Some(public) = &portal.public_origin {
        return origin == public;
    }
    // HTTP/2 says it in the URI.
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let (Some(host), Some((scheme, claimed))) = (host, origin.split_once("://")) else { return false };
    matches!(scheme, "http" | "https") && claimed == host.to_ascii_lowercase()
}
