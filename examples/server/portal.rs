//! The key portal, for signed-in users.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::Router;
use axum::extract::OriginalUri;
use http::Method;
use http::request::Parts;
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::store::StoreError;
use tower_api_key::{Keyring, LayerDescription, Timestamp};
use tower_api_key_portal::{Freshness, Portal, PortalSession, PortalUser, SignedIn};
use tower_sessions::cookie::SameSite;
use tower_sessions::cookie::time::Duration as Span;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

use crate::auth::{self, People, Person};
use tower_api_key::store::ProjectDirectory;

/// The path of the portal.
pub(crate) const PORTAL: &str = "/portal";

/// Making and changing keys needs a password that was given within this time.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// A request that the portal shows for a new key, and the layer that will see it.
pub(crate) type Sample<'l> = (Method, &'static str, &'l LayerDescription);

/// The portal and the sign-in, with sessions around both. Sessions are kept in memory and end with the server.
pub(crate) fn routes(
    keyring: Keyring,
    projects: impl ProjectDirectory,
    people: People,
    clients: ClientAddr,
    url: &str,
    secure: bool,
    samples: &[Sample<'_>],
) -> Router {
    let mut portal = Portal::new(keyring, projects, Sessions).title("Example API").account_at("/account");
    for (method, path, layer) in samples {
        portal = portal.curl(method.clone(), format!("{url}{path}"), layer);
    }
    let sessions = SessionManagerLayer::new(MemoryStore::default())
        .with_name("session")
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        .with_secure(secure)
        .with_expiry(Expiry::OnInactivity(Span::hours(8)));
    Router::new().nest(PORTAL, portal.router()).merge(auth::routes(people, clients)).layer(sessions)
}

struct Sessions;

#[async_trait]
impl PortalSession for Sessions {
    async fn user(&self, head: &Parts) -> Result<SignedIn, StoreError> {
        Ok(match person(head).await? {
            Some(person) => SignedIn::User(PortalUser::new(person.id, person.name, &person.secret)),
            None => SignedIn::Nobody { sign_in_at: sign_in_at(head) },
        })
    }

    async fn freshness(&self, head: &Parts, _: &PortalUser) -> Result<Freshness, StoreError> {
        let now = Timestamp::from(SystemTime::now());
        let fresh = person(head).await?.is_some_and(|person| now < person.signed_in_at.saturating_add(FRESH));
        Ok(if fresh { Freshness::Fresh } else { Freshness::Stale { confirm_at: sign_in_at(head) } })
    }
}

async fn person(head: &Parts) -> Result<Option<Person>, StoreError> {
    let session = head.extensions.get::<Session>().ok_or_else(|| StoreError::failed("no session layer"))?;
    Person::of(session).await.map_err(StoreError::failed)
}

fn sign_in_at(head: &Parts) -> String {
    auth::sign_in_at(head.extensions.get::<OriginalUri>().map_or(PORTAL, |OriginalUri(uri)| uri.path()))
}
