//! [`Visitor`] and [`CsrfForm`]: who sends a request, and whether a form is genuine. A handler that changes
//! something takes a [`CsrfForm`], which only this file makes, after all checks.

use std::time::Duration;

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, RawPathParams, Request};
use axum::response::IntoResponse as _;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use tower_api_key::body_budget::{Charge, Collected, Room, Sender};
use tower_api_key::{
    AccountStatus, AuthErrorKind, Authority, KeyId, KeyLevel, KeyRecord, Keyring, KeyringError, Role,
};

use super::csrf_token::CsrfToken;
use super::drafts::{self, Draft};
use super::fields::Fields;
use super::portal::{MAX_FORM_LEN, Portal, SharedPortal};
use super::response::{self, EarlyResponse, Frame, Message};
use super::session::{Freshness, PortalUser, SignedIn};

const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The size of a draft as a form, in which each byte may take three.
const MAX_DRAFT_LEN: usize = 4 * drafts::MAX_LEN;

/// A signed-in user who requests a page.
pub(super) struct Visitor {
    pub(super) portal: SharedPortal,
    /// The portal's keyring, with the user as authority.
    pub(super) keyring: Keyring,
    pub(super) user: PortalUser,
    /// Where the portal is mounted.
    pub(super) base: String,
    head: Parts,
    /// The budget's charge for the form that was read.
    room: Option<Charge>,
}

impl FromRequestParts<SharedPortal> for Visitor {
    type Rejection = EarlyResponse;

    async fn from_request_parts(head: &mut Parts, portal: &SharedPortal) -> Result<Self, EarlyResponse> {
        match Self::of(head, portal).await? {
            Ok(visitor) => Ok(visitor),
            Err(SignedOut { sign_in_at }) if head.method.is_safe() => Err(response::see(&sign_in_at).into()),
            Err(nobody) => Err(nobody.refused(portal, &mount(head), response::SIGN_IN)),
        }
    }
}

/// A request without a signed-in user.
struct SignedOut {
    sign_in_at: String,
}

impl SignedOut {
    /// Not a redirect, which browsers would not follow for a form, because of `form-action 'self'`.
    fn refused(self, portal: &Portal, base: &str, message: Message) -> EarlyResponse {
        message.linked(self.sign_in_at, "Sign in").answer(&portal.frame(base, None)).into()
    }
}

impl Visitor {
    async fn of(head: &Parts, portal: &SharedPortal) -> Result<Result<Self, SignedOut>, EarlyResponse> {
        let base = mount(head);
        match portal.session.user(head).await {
            Ok(SignedIn::User(user)) => {
                let keyring = portal.keyring.acting_as(Authority::User(user.id().clone()));
                let (portal, head) = (SharedPortal::clone(portal), head.clone());
                Ok(Ok(Self { portal, keyring, user, base, head, room: None }))
            }
            Ok(SignedIn::Nobody { sign_in_at }) => Ok(Err(SignedOut { sign_in_at })),
            Err(_) => Err(response::UNAVAILABLE.answer(&portal.frame(&base, None)).into()),
        }
    }

    pub(super) fn frame(&self) -> Frame {
        self.portal.frame(&self.base, Some(&self.user))
    }

    pub(super) fn say(&self, message: Message) -> EarlyResponse {
        EarlyResponse::from(message.answer(&self.frame()))
    }

    /// The key in the path, if it belongs to the visitor.
    pub(super) async fn own_key(&self) -> Result<KeyRecord, EarlyResponse> {
        let no_such_key = || self.say(response::NO_SUCH_KEY);
        let mut head = self.head.clone();
        let params = RawPathParams::from_request_parts(&mut head, &()).await.map_err(|_| no_such_key())?;
        // The last one, because an outer router may have an `id` of its own.
        let named = params.iter().filter(|(name, _)| *name == "id").last();
        let id = named.and_then(|(_, text)| KeyId::new(text).ok()).ok_or_else(no_such_key)?;
        self.find(&id).await?.ok_or_else(no_such_key)
    }

    pub(super) async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, EarlyResponse> {
        let key = self.keyring.get(id).await.map_err(|_| self.say(response::UNAVAILABLE))?;
        Ok(key.filter(|key| key.owner == *self.user.id()))
    }

    /// The visitor's role in the account; `None` without access. Every role may make and change its own keys (R24),
    /// because a key has only its owner's rights: the key of a user who may only read can only read.
    pub(super) async fn role(&self) -> Result<Option<Role>, EarlyResponse> {
        match self.keyring.account_status(self.user.id(), &KeyLevel::User).await {
            Ok(AccountStatus::Active { role }) => Ok(role),
            Ok(_) => Ok(None),
            Err(_) => Err(self.say(response::UNAVAILABLE)),
        }
    }

    /// Requires that the visitor may make keys and has signed in recently (C11-17). Otherwise what they typed is
    /// kept for later.
    pub(super) async fn must_be_fresh_maker(&self, typed: &mut Option<Draft>) -> Result<(), EarlyResponse> {
        if self.role().await?.is_none() {
            return Err(self.say(response::NO_ACCESS));
        }
        match self.portal.session.freshness(&self.head, &self.user).await {
            Ok(Freshness::Fresh) => Ok(()),
            Ok(Freshness::Stale { confirm_at }) if self.head.method.is_safe() => {
                Err(response::see(&confirm_at).into())
            }
            Ok(Freshness::Stale { confirm_at }) => {
                let message =
                    if self.keep(typed.take()) { response::CONFIRM_KEPT } else { response::CONFIRM };
                Err(self.say(message.linked(confirm_at, "Confirm")))
            }
            Err(_) => Err(self.say(response::UNAVAILABLE)),
        }
    }

    /// Refuses a form that was made for another session or too long ago. What was typed is filled into the new form.
    pub(super) fn old_form(&self, typed: Option<Draft>) -> EarlyResponse {
        if self.keep(typed) {
            let again = format!("{}{}", self.base, self.head.uri.path());
            return self.say(response::OLD_FORM_KEPT.linked(again, "Open it again"));
        }
        self.say(response::OLD_FORM)
    }

    /// Keeps a draft of this visitor; returns whether there was one. A draft of another user is not kept.
    fn keep(&self, typed: Option<Draft>) -> bool {
        let drafts = &self.portal.drafts;
        let typed = typed.filter(|typed| drafts.is_of(typed, self.user.id()));
        typed.map(|typed| drafts.keep(typed, self.keyring.now())).is_some()
    }

    /// What the visitor typed into this page's form before they had to sign in.
    pub(super) fn typed(&self) -> Option<Fields> {
        // A HEAD request must not consume it.
        if self.head.method != http::Method::GET {
            return None;
        }
        self.portal.drafts.take(self.user.id(), self.head.uri.path(), self.keyring.now())
    }

    /// Translates a keyring's error for the visitor.
    pub(super) fn explain(&self, error: &KeyringError) -> EarlyResponse {
        self.say(match error {
            KeyringError::NotFound => response::NO_SUCH_KEY,
            KeyringError::Ended => response::ENDED,
            KeyringError::Forbidden => response::NO_ACCESS,
            KeyringError::Store(_) => response::UNKNOWN_OUTCOME,
            _ => response::UNAVAILABLE,
        })
    }
}

/// A form that was sent from one of these pages by the signed-in user.
pub(super) struct CsrfForm {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
    pub(super) ticket: CsrfToken,
    /// What was typed, for the case that the visitor has to sign in first.
    pub(super) typed: Option<Draft>,
}

impl FromRequest<SharedPortal> for CsrfForm {
    type Rejection = EarlyResponse;

    async fn from_request(request: Request, portal: &SharedPortal) -> Result<Self, EarlyResponse> {
        let (head, body) = request.into_parts();
        let mut visitor = match Visitor::of(&head, portal).await? {
            Ok(visitor) => visitor,
            Err(nobody) => {
                let base = mount(&head);
                let kept = keep_of_nobody(portal, head, body).await.is_some();
                let message = if kept { response::SIGN_IN_KEPT } else { response::SIGN_IN };
                return Err(nobody.refused(portal, &base, message));
            }
        };
        if !came_from_here(portal, &head) {
            return Err(visitor.say(response::FROM_ELSEWHERE));
        }
        let page = head.uri.path().to_owned();
        let room = portal.budget.room(Sender::owner(visitor.user.id()));
        let read = read(head, body, MAX_FORM_LEN, &room).await;
        let (mut fields, charge) = read.map_err(|message| visitor.say(message))?;
        visitor.room = Some(charge);
        let (ticket, typed) = open(portal, &mut fields, &page);
        if !ticket.is_of(&visitor.user) {
            return Err(visitor.old_form(typed));
        }
        Ok(Self { visitor, fields, ticket, typed })
    }
}

/// Reads the fields of a form up to a size limit; returns them with their charge to the budget.
async fn read(
    head: Parts,
    body: axum::body::Body,
    limit: usize,
    room: &Room,
) -> Result<(Fields, Charge), Message> {
    let read = room.read(body, limit, READ_DEADLINE).await;
    let Collected { data, charge, .. } = read.map_err(|kind| match kind {
        AuthErrorKind::BodyTooLarge => response::TOO_LARGE,
        AuthErrorKind::BodyTimeout => response::TOO_SLOW,
        AuthErrorKind::Overloaded => response::UNAVAILABLE,
        _ => response::NO_FORM,
    })?;
    let request = Request::from_parts(head, axum::body::Body::from(data));
    match Form::<Vec<(String, String)>>::from_request(request, &()).await {
        Ok(Form(pairs)) => Ok((Fields::new(pairs).ok_or(response::UNEXPECTED_FIELD)?, charge)),
        Err(rejection) => Err(match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => response::TOO_LARGE,
            _ => response::NO_FORM,
        }),
    }
}

/// Takes the CSRF token out of the fields; the other fields are the draft.
fn open(portal: &Portal, fields: &mut Fields, page: &str) -> (CsrfToken, Option<Draft>) {
    let ticket = CsrfToken { text: fields.take("ticket"), proof: fields.take("proof") };
    let mark = fields.take("draft");
    let draft = || portal.drafts.draft(&mark, &ticket, page, fields, portal.keyring.now());
    let typed = if fields.is_empty() { None } else { draft() };
    (ticket, typed)
}

/// Keeps what a user typed whose session has ended, if the form's mark says for whom it was shown.
async fn keep_of_nobody(portal: &Portal, head: Parts, body: axum::body::Body) -> Option<()> {
    if !came_from_here(portal, &head) {
        return None;
    }
    // A request without a session may come from anybody, so at most four megabytes of such forms are read at once.
    let _turn = portal.nobodys.try_acquire().ok()?;
    let page = head.uri.path().to_owned();
    let room = portal.budget.room(Sender::UNKNOWN);
    let (mut fields, _charge) = read(head, body, MAX_DRAFT_LEN, &room).await.ok()?;
    let (_, typed) = open(portal, &mut fields, &page);
    typed.map(|typed| portal.drafts.keep(typed, portal.keyring.now()))
}

/// The path at which the portal is mounted: what the host's router has removed from the path. Empty at the root.
fn mount(head: &Parts) -> String {
    let inner = head.uri.path();
    let outer = head.extensions.get::<OriginalUri>().map_or(inner, |OriginalUri(uri)| uri.path());
    // The inner path `/` is the mount itself, which may be requested with or without a trailing slash.
    let inner = if inner == "/" { "" } else { inner };
    outer.strip_suffix(inner).unwrap_or_default().trim_end_matches('/').to_owned()
}

/// Whether the browser says that the form came from one of our pages. Without such a header it is refused.
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
    // At least one header must be present, and all must agree.
    site.or(origin).is_some() && site.unwrap_or(true) && origin.unwrap_or(true)
}

/// Whether an origin, in lower case, is that of this request.
fn is_ours(portal: &Portal, head: &Parts, origin: &str) -> bool {
    if let Some(public) = &portal.public_origin {
        return origin == public;
    }
    // In HTTP/2 the host is in the URI.
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let (Some(host), Some((scheme, claimed))) = (host, origin.split_once("://")) else { return false };
    matches!(scheme, "http" | "https") && claimed == host.to_ascii_lowercase()
}
