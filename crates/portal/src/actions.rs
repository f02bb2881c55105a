//! The handlers of forms that change something.

use askama::Template;
use http::header::REFERRER_POLICY;
use http::{HeaderValue, StatusCode};
use tower_api_key::delivery::Delivery;
use tower_api_key::{Grace, IssuedKey, KeyringError};

use super::csrf_form::{CsrfForm, Visitor};
use super::csrf_token::{CsrfToken, Spent};
use super::drafts::Draft;
use super::forms::{self, ChangeForm, KeyForm, SettingsForm};
use super::pages::{new_page, restrictions_page, settings_page};
use super::response::{self, EarlyResponse, Frame, PageResult, page, see};
use super::time::Time;
use super::view::KeyView;

#[derive(Template)]
#[template(path = "portal/once.html")]
struct OncePage<'a> {
    frame: &'a Frame,
    key: &'a KeyView,
    secret: &'a str,
    /// Title and text of each command line.
    lines: &'a [(String, String)],
    /// The key that this one replaced: its id, and until when it works.
    before: Option<(&'a str, Option<Time>)>,
    /// Whether its owner was notified by a message.
    delivery: Delivery,
}

impl OncePage<'_> {
    fn told(&self) -> Option<&'static str> {
        match self.delivery {
            Delivery::Queued => Some("A message that there is a new key is being sent to you, too."),
            Delivery::Done => Some("You were also sent a message that there is a new key."),
            Delivery::Failed => {
                Some("The message that there is a new key could not be sent. The key works all the same.")
            }
            _ => None,
        }
    }
}

pub(super) async fn create(CsrfForm { visitor, mut fields, ticket, mut typed }: CsrfForm) -> PageResult {
    let mut form = KeyForm::read(&mut fields);
    if !fields.is_empty() {
        return Err(visitor.say(response::UNEXPECTED_FIELD));
    }
    visitor.must_be_fresh_maker(&mut typed).await?;
    let projects = visitor.projects().await?;
    let keyring = &visitor.keyring;
    let Some(new) = form.understand(visitor.user.id(), &projects, keyring.now()) else {
        return new_page(StatusCode::UNPROCESSABLE_ENTITY, &visitor, &form, &projects);
    };
    match visitor.portal.tickets.spend(&visitor.user, &ticket, keyring.now()) {
        Spent::Now => {}
        Spent::Before => return Err(visitor.say(response::ALREADY_SENT)),
        Spent::TooOld => {
            form.errors.form = Some("This page was open for more than an hour. Check it, and send it again.");
            return new_page(StatusCode::CONFLICT, &visitor, &form, &projects);
        }
    }
    let issued = keyring.issue(new).await;
    unless_made(&visitor, &ticket, &issued);
    match issued {
        Ok(issued) => shown_once(&visitor, &issued, None).await,
        Err(KeyringError::TooManyKeys) => {
            form.errors.form = Some("You have the largest allowed number of active keys. Revoke one first.");
            new_page(StatusCode::CONFLICT, &visitor, &form, &projects)
        }
        Err(error) => Err(visitor.explain(&error)),
    }
}

pub(super) async fn rotate(CsrfForm { visitor, mut fields, ticket, mut typed }: CsrfForm) -> PageResult {
    let old = visitor.own_key().await?;
    let grace = forms::grace(&fields.take("grace"));
    let (Some(grace), true) = (grace, fields.is_empty()) else {
        return Err(visitor.say(response::UNEXPECTED_FIELD));
    };
    visitor.must_be_fresh_maker(&mut typed).await?;
    spend(&visitor, &ticket, typed)?;
    let issued = visitor.keyring.rotate(&old.id, grace).await;
    unless_made(&visitor, &ticket, &issued);
    let issued = issued.map_err(|error| visitor.explain(&error))?;
    let ends = match grace {
        Grace::None => None,
        // From the store, because the old key may expire before the grace period is over.
        _ => visitor.find(&old.id).await?.and_then(|old| old.expires_at).map(Time::from),
    };
    shown_once(&visitor, &issued, Some((old.id.as_str(), ends))).await
}

pub(super) async fn change(CsrfForm { visitor, mut fields, mut typed, .. }: CsrfForm) -> PageResult {
    let key = visitor.own_key().await?;
    let mut form = SettingsForm::read(&mut fields);
    if !fields.is_empty() {
        return Err(visitor.say(response::UNEXPECTED_FIELD));
    }
    visitor.must_be_fresh_maker(&mut typed).await?;
    if !key.is_active(visitor.keyring.now()) {
        return Err(visitor.say(response::ENDED));
    }
    if let Some(now) = form.outdated(&key) {
        return settings_page(StatusCode::CONFLICT, &visitor, &key, &now).await;
    }
    let Some(update) = form.understand(&key) else {
        return settings_page(StatusCode::UNPROCESSABLE_ENTITY, &visitor, &key, &form).await;
    };
    // An update that changes nothing is not recorded.
    if !update.parts().is_empty() {
        let done = visitor.keyring.update(&key.id, update).await;
        done.map_err(|error| visitor.explain(&error))?;
    }
    Ok(see(&format!("{}/keys/{}", visitor.base, key.id)))
}

pub(super) async fn restrict(CsrfForm { visitor, mut fields, mut typed, .. }: CsrfForm) -> PageResult {
    let key = visitor.own_key().await?;
    let mut form = ChangeForm::read(&mut fields);
    if !fields.is_empty() {
        return Err(visitor.say(response::UNEXPECTED_FIELD));
    }
    visitor.must_be_fresh_maker(&mut typed).await?;
    if !key.is_active(visitor.keyring.now()) {
        return Err(visitor.say(response::ENDED));
    }
    if let Some(now) = form.outdated(&key) {
        return restrictions_page(StatusCode::CONFLICT, &visitor, &key, &now).await;
    }
    let Some(restrictions) = form.restrictions.understand() else {
        return restrictions_page(StatusCode::UNPROCESSABLE_ENTITY, &visitor, &key, &form).await;
    };
    match visitor.keyring.restrict(&key.id, &restrictions).await {
        Ok(_) => {}
        Err(KeyringError::Restrictions) => {
            form.restrictions.error = Some(forms::TOO_LONG);
            return restrictions_page(StatusCode::UNPROCESSABLE_ENTITY, &visitor, &key, &form).await;
        }
        Err(error) => return Err(visitor.explain(&error)),
    }
    Ok(see(&format!("{}/keys/{}", visitor.base, key.id)))
}

/// Revokes a key. It does not require a fresh sign-in, so that a key in danger is revoked at once (R42).
pub(super) async fn revoke(CsrfForm { visitor, fields, .. }: CsrfForm) -> PageResult {
    let key = visitor.own_key().await?;
    if !fields.is_empty() {
        return Err(visitor.say(response::UNEXPECTED_FIELD));
    }
    let done = visitor.keyring.revoke(&key.id).await;
    done.map_err(|error| visitor.explain(&error))?;
    Ok(see(&format!("{}/keys/{}", visitor.base, key.id)))
}

fn spend(visitor: &Visitor, ticket: &CsrfToken, typed: Option<Draft>) -> Result<(), EarlyResponse> {
    match visitor.portal.tickets.spend(&visitor.user, ticket, visitor.keyring.now()) {
        Spent::Now => Ok(()),
        Spent::Before => Err(visitor.say(response::ALREADY_SENT)),
        Spent::TooOld => Err(visitor.old_form(typed)),
    }
}

/// Makes the CSRF token usable again if certainly no key was made.
fn unless_made(visitor: &Visitor, ticket: &CsrfToken, outcome: &Result<IssuedKey, KeyringError>) {
    match outcome {
        // After a store error, the outcome is unknown.
        Ok(_) | Err(KeyringError::Store(_)) => {}
        Err(_) => visitor.portal.tickets.give_back(&visitor.user, ticket),
    }
}

/// The only response that contains the secret (R29).
async fn shown_once(
    visitor: &Visitor,
    issued: &IssuedKey,
    before: Option<(&str, Option<Time>)>,
) -> PageResult {
    // The key is made and must be shown, so a failure here only leaves details out.
    let projects = visitor.projects().await.unwrap_or_default();
    let frame = visitor.frame().scripted();
    let curl = &visitor.portal.curl;
    let shown = OncePage {
        frame: &frame,
        key: &KeyView::of(issued.record(), &projects, visitor.keyring.now()),
        secret: issued.key().expose_secret(),
        lines: &curl.iter().map(|curl| (curl.title(), curl.line(issued))).collect::<Vec<_>>(),
        before,
        delivery: issued.delivery(),
    };
    let mut response = page(StatusCode::CREATED, &frame, &shown);
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}
