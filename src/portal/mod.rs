//! Pages on which people make, change, rotate, restrict and revoke their own keys; an axum app mounts them under any path.
//!
//! ```
//! use async_trait::async_trait;
//! use axum::Router;
//! use http::request::Parts;
//! use tower_api_key::portal::{Curl, Freshness, Portal, PortalSession, PortalUser, SignedIn};
//! use tower_api_key::store::{MemoryStore, StoreError};
//! use tower_api_key::{Keyring, UserId};
//!
//! /// What your session keeps of somebody who has signed in.
//! #[derive(Clone)]
//! struct Session {
//!     user: UserId,
//!     /// Drawn at sign-in, and renewed when somebody else signs in.
//!     secret: [u8; 32],
//! }
//!
//! struct Sessions;
//!
//! #[async_trait]
//! impl PortalSession for Sessions {
//!     async fn user(&self, head: &Parts) -> Result<SignedIn, StoreError> {
//!         Ok(match head.extensions.get::<Session>() {
//!             Some(session) => SignedIn::User(PortalUser::new(session.user.clone(), "Alice", &session.secret)),
//!             None => SignedIn::Nobody { sign_in_at: "/sign-in".to_owned() },
//!         })
//!     }
//!
//!     async fn freshness(&self, _: &Parts, _: &PortalUser) -> Result<Freshness, StoreError> {
//!         // Or, if their password was asked for a while ago, where to give it again.
//!         Ok(Freshness::Fresh)
//!     }
//! }
//!
//! let portal = Portal::new(Keyring::new(MemoryStore::new()), Sessions)
//!     .title("Example API")
//!     .curl(Curl::bearer("https://api.example.com/v1/users/usr_123"))
//!     .curl(Curl::api_key_header("https://api.example.com/api/v1/projects"));
//! let app: Router = Router::new().nest("/account/api-keys", portal.router());
//! ```
//!
//! # What it holds to
//!
//! - A secret stands in the answer to the form that made it, and nowhere else: not in an address, not in a redirect, and
//!   not in a second answer to the same form (R29).
//! - Whoever is signed in is the owner of what is made, and keys of others do not exist (404) for them.
//! - Everything that changes something is a form sent from these pages: the session's token, `Origin` and
//!   `Sec-Fetch-Site` must all agree. API keys are no way in: `Authorization` and `X-API-Key` are not looked at.
//! - The pages work without JavaScript. The one script copies a key and keeps a form from being sent twice.
//!
//! Making, changing and rotating keys is for everybody who has a place in their account, be it to read only (R24): what a key
//! may do is asked of its owner's role at each request, so that a key of somebody who reads only reads. It asks for a
//! [fresh](Freshness) sign-in; what was typed meanwhile is still there afterwards, for the same person only. Revoking is
//! for everybody, at once (R42).
//!
//! # Deployment caveat
//!
//! The session's cookie is yours: `HttpOnly`, `Secure`, and `SameSite=Lax` or `Strict`. So is HSTS. A proxy that changes
//! `Host` makes every form look as if it came from elsewhere: say [`Portal::public_origin`] then.
//!
//! That a form is answered once is remembered by each process, and so is, for an hour, what somebody has typed before they
//! had to sign in again. Where several serve the portal, somebody who sends the very same form again may reach another one
//! and make a second key, which they see and can revoke; and the form may come back empty.

mod actions;
mod answer;
mod assets;
mod curl;
mod drafts;
mod fields;
mod forms;
mod pages;
mod past;
mod posted;
mod session;
mod tickets;
mod time;
mod view;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::body_budget::{Budget, Room, Sender};
use crate::config_error::ConfigError;
use crate::keyring::Keyring;
use crate::unread_body;

pub use self::assets::stylesheet;
pub use self::curl::Curl;
pub use self::session::{Freshness, PortalSession, PortalUser, SignedIn};

use self::drafts::Drafts;
use self::tickets::Tickets;

/// The portal: see [the module](self).
#[must_use = "a portal is nothing before it is a router"]
pub struct Portal {
    keyring: Keyring,
    session: Box<dyn PortalSession>,
    title: String,
    account_at: Option<String>,
    curl: Vec<Curl>,
    public_origin: Option<String>,
    tickets: Tickets,
    drafts: Drafts,
    nobodys: Semaphore,
    budget: Arc<Budget>,
}

/// How many forms of people who are not signed in are read at once.
const NOBODYS: usize = 64;

/// What every handler has.
type Shared = Arc<Portal>;

impl Portal {
    /// Pages on these keys, for those whom this session knows.
    pub fn new(keyring: Keyring, session: impl PortalSession) -> Self {
        Self {
            keyring,
            session: Box::new(session),
            title: "API keys".to_owned(),
            account_at: None,
            curl: Vec::new(),
            public_origin: None,
            tickets: Tickets::default(),
            drafts: Drafts::default(),
            nobodys: Semaphore::new(NOBODYS),
            budget: posted::room(),
        }
    }

    /// What stands at the top of every page: the name of your API. The default is `API keys`.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Where people find their account, and can sign out: their name becomes a link to it.
    pub fn account_at(mut self, address: impl Into<String>) -> Self {
        self.account_at = Some(address.into());
        self
    }

    /// Shows this command line under a new key: add one for each scheme that your API reads.
    pub fn curl(mut self, line: Curl) -> Self {
        self.curl.push(line);
        self
    }

    /// The origin at which browsers see the portal, such as `https://keys.example.com`; by default what `Host` says,
    /// and either scheme.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Link`] if that is no origin: a scheme, a host, and a port if it is not the scheme's own.
    pub fn public_origin(mut self, origin: impl Into<String>) -> Result<Self, ConfigError> {
        let origin = origin.into();
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(ConfigError::Link(origin));
        }
        self.public_origin = Some(origin.to_ascii_lowercase());
        Ok(self)
    }

    /// The router; [nest](Router::nest) it where it shall stand, or merge it to have it at the root.
    pub fn router<S>(self) -> Router<S> {
        let budget = Arc::clone(&self.budget);
        // Who sends a form that nobody reads is not asked.
        let settle = from_fn(move |request: Request, next: Next| {
            let room = Room { budget: Arc::clone(&budget), sender: Sender::UNKNOWN };
            unread_body::settle(request, next, room)
        });
        Router::new()
            .route("/", get(pages::keys))
            .route("/new", get(pages::new_key).post(actions::create))
            .route("/keys/{id}", get(pages::key))
            .route("/keys/{id}/rotate", get(pages::rotate).post(actions::rotate))
            .route("/keys/{id}/settings", get(pages::settings).post(actions::change))
            .route("/keys/{id}/restrictions", get(pages::restrictions).post(actions::restrict))
            .route("/keys/{id}/revoke", get(pages::revoke).post(actions::revoke))
            .route("/assets/{file}", get(assets::serve))
            .layer(map_response(answer::guard))
            .layer(settle)
            .with_state(Arc::new(self))
    }
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("keyring", &self.keyring)
            .field("title", &self.title)
            .field("public_origin", &self.public_origin)
            .finish_non_exhaustive()
    }
}
