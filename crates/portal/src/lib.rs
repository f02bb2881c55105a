//! Web pages on which people make, change, rotate, restrict and revoke their own keys. An axum app mounts them
//! under any path.
//!
//! ```
//! use async_trait::async_trait;
//! use axum::Router;
//! use http::Method;
//! use http::request::Parts;
//! use tower_api_key_portal::{Freshness, Portal, PortalSession, PortalUser, SignedIn};
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::store::{MemoryStore, StoreError};
//! use tower_api_key::{ApiKeyAuth, Keyring, UserId};
//!
//! /// What your session stores about a signed-in user.
//! #[derive(Clone)]
//! struct Session {
//!     user: UserId,
//!     /// Random; set at sign-in, and renewed when another user signs in.
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
//!         // If the user gave their password too long ago, return where to give it again.
//!         Ok(Freshness::Fresh)
//!     }
//! }
//!
//! let store = MemoryStore::new();
//! let auth = ApiKeyAuth::new(store.clone(), Bearer::default()); // the layer of your API
//! let portal = Portal::new(Keyring::new(store.clone()), store, Sessions)
//!     .title("Example API")
//!     .curl(Method::GET, "https://api.example.com/v1/users/usr_123", &auth.description());
//! let app: Router = Router::new().nest("/account/api-keys", portal.router());
//! ```
//!
//! # Guarantees
//!
//! - A secret is only in the response to the form that made it: not in a URL, not in a redirect, and not in the
//!   response to the same form sent again (R29).
//! - The signed-in user owns what is made, and keys of others do not exist for them (404).
//! - Every change is a form sent from these pages: the session's token, `Origin` and `Sec-Fetch-Site` must all
//!   agree. API keys give no access: `Authorization` and `X-API-Key` are not read.
//! - The pages work without JavaScript. The only script copies a key and prevents a form from being sent twice.
//!
//! Every member of an account may make, change and rotate keys, even one who may only read (R24): a key has its
//! owner's role at each request, so the key of a user who may only read can only read. This requires a
//! [fresh](Freshness) sign-in; what was typed is filled in again afterwards, for the same user only. Everybody may
//! revoke their keys, without a fresh sign-in (R42).
//!
//! # Deployment caveat
//!
//! The session's cookie is yours: make it `HttpOnly`, `Secure`, and `SameSite=Lax` or `Strict`. HSTS is yours too.
//! A proxy that changes `Host` makes every form look as if it came from another site: set [`Portal::public_origin`]
//! then.
//!
//! Each process remembers, for an hour, which forms were answered and what users typed before they had to sign in
//! again. With several processes, a user who sends the same form twice may reach another process and make a second
//! key, which they see and can revoke; and a form may come back empty.

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
pub use self::portal::Portal;
pub use self::session::{Freshness, PortalSession, PortalUser, SignedIn};
