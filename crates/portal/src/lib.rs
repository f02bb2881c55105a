//! Pages on which people make, change, rotate, restrict and revoke their own keys; an axum app mounts them under any path.
//!
//! ```
//! use async_trait::async_trait;
//! use axum::Router;
//! use http::request::Parts;
//! use tower_api_key_portal::{Curl, Freshness, Portal, PortalSession, PortalUser, SignedIn};
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
//! let store = MemoryStore::new();
//! let portal = Portal::new(Keyring::new(store.clone()), store, Sessions)
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

#![cfg_attr(docsrs, feature(doc_cfg))]
// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod actions;
mod assets;
mod csrf_form;
mod csrf_token;
mod curl;
mod drafts;
mod fields;
mod forms;
mod history;
mod pages;
mod portal;
mod response;
mod router;
mod session;
mod time;
mod view;

pub use self::assets::stylesheet;
pub use self::curl::Curl;
pub use self::portal::Portal;
pub use self::session::{Freshness, PortalSession, PortalUser, SignedIn};
