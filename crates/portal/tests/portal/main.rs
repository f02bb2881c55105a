//! The portal, through its router, with a store in memory.

mod back;
mod forgery;
mod framing;
mod html;
mod listing;
mod meddled;
mod once;
mod owners;
mod pages;
mod past;
mod settings;

use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use test_kit::{Answer, World, send};
use tower_api_key::scheme::{Bearer, JsonBody};
use tower_api_key::store::{MemoryStore, ProjectDirectory, StoreError};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{ApiKeyAuth, ApiKeys, KeyQuery, KeyRecord, Keyring, Timestamp, UserId};
use tower_api_key_portal::{Freshness, Portal, PortalSession, PortalUser, SignedIn};

const AT: &str = "/account/api-keys";
const HOST: &str = "app.example.com";
/// 2025-01-01.
const NOW: i64 = 1_735_689_600;

/// Sessions in a cookie: `session=u_own.1`, or `session=u_own.1.stale`. The number identifies the session.
struct Cookies;

fn cookie(head: &Parts) -> Option<Vec<&str>> {
    let cookie = head.headers.get("cookie")?.to_str().unwrap();
    Some(cookie.strip_prefix("session=")?.split('.').collect())
}

#[async_trait]
impl PortalSession for Cookies {
    async fn user(&self, head: &Parts) -> Result<SignedIn, StoreError> {
        let Some(session) = cookie(head) else {
            return Ok(SignedIn::Nobody { sign_in_at: "https://sso.example.com/?to=keys".to_owned() });
        };
        if session[0] == "down" {
            return Err(StoreError::Overloaded);
        }
        let secret = [session[1].parse().unwrap(); 32];
        Ok(SignedIn::User(PortalUser::new(UserId::new(session[0]).unwrap(), "Some <Person>", &secret)))
    }

    async fn freshness(&self, head: &Parts, user: &PortalUser) -> Result<Freshness, StoreError> {
        let session = cookie(head).unwrap();
        assert_eq!(session[0], user.id().as_str());
        Ok(match session.get(2) {
            None => Freshness::Fresh,
            Some(_) => Freshness::Stale { confirm_at: "https://sso.example.com/again".to_owned() },
        })
    }
}

/// The test world, with a portal in front of it.
struct Site {
    world: World,
    clock: ManualClock,
    app: Router,
}

impl Site {
    async fn new() -> Self {
        Self::with(|keyring| keyring).await
    }

    async fn with(keyring: impl FnOnce(Keyring) -> Keyring) -> Self {
        let world = World::new().await;
        let clock = ManualClock::new(Timestamp::from_secs(NOW));
        let keyring = keyring(ApiKeys::new(world.store.clone()).clock(clock.clone()).keyring());
        let app = Router::new().nest(AT, portal(keyring, world.store.clone()).router());
        Self { world, clock, app }
    }

    async fn get(&self, session: &str, path: &str) -> Answer {
        send(&self.app, asked(session, path)).await
    }

    /// The text of a page, which must exist.
    async fn page(&self, session: &str, path: &str) -> String {
        let page = self.get(session, path).await;
        assert_eq!(page.status, StatusCode::OK, "{session} {path}: {}", text(&page));
        text(&page)
    }

    /// The form of a page as a browser would send it: with its default values, and these fields.
    async fn form(&self, session: &str, path: &str, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut form = html::sealed(&self.page(session, path).await);
        form.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        form
    }

    async fn post(&self, session: &str, path: &str, fields: &[(String, String)]) -> Answer {
        send(&self.app, posted(session, path, fields)).await
    }

    /// Opens a form, fills it in and sends it.
    async fn submit(&self, session: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = self.form(session, path, fields).await;
        self.post(session, path, &form).await
    }

    async fn keys(&self, owner: &str) -> Vec<KeyRecord> {
        let mut query = KeyQuery::default();
        query.limit = u32::MAX;
        Keyring::new(self.world.store.clone()).list(&test_kit::user(owner), &query).await.unwrap()
    }

    /// The record of the key on a page.
    async fn shown(&self, owner: &str, page: &Answer) -> KeyRecord {
        assert_eq!(page.status, StatusCode::CREATED, "{}", text(page));
        let secret = html::secret(&text(page));
        let mut keys = self.keys(owner).await;
        keys.retain(|key| secret.ends_with(&key.last4));
        assert_eq!(keys.len(), 1);
        keys.remove(0)
    }

    /// All keys of all owners, in a form that can be compared.
    async fn rows(&self) -> String {
        let mut rows = String::new();
        for owner in ["u_own", "u_full", "u_ro", "u_b", "u_nobody"] {
            rows += &format!("{:?}", self.keys(owner).await);
        }
        rows
    }

    /// The path of the first active key of an owner.
    async fn first(&self, owner: &str) -> String {
        let keys = self.keys(owner).await;
        let key = keys.iter().find(|key| key.is_active(Timestamp::from_secs(NOW))).unwrap();
        format!("/keys/{}", key.id)
    }

    fn pass(&self, days: u64) {
        self.clock.advance(Duration::from_secs(days * 24 * 60 * 60));
    }
}

fn portal(keyring: Keyring, projects: impl ProjectDirectory) -> Portal {
    let bearer = ApiKeyAuth::new(MemoryStore::new(), Bearer::default()).description();
    let body = ApiKeyAuth::new(MemoryStore::new(), JsonBody::default()).description();
    Portal::new(keyring, projects, Cookies)
        .title("Acme & Sons")
        .curl(Method::GET, "https://api.example.com/v1/users/usr_123", &bearer)
        .curl(Method::POST, "https://api.example.com/status?a=1&b=it's", &body)
}

fn asked(session: &str, path: &str) -> Request<Body> {
    let path = if path == "/" { "" } else { path };
    let request = Request::get(format!("{AT}{path}")).header("host", HOST);
    signed_in(request, session).body(Body::empty()).unwrap()
}

fn signed_in(request: http::request::Builder, session: &str) -> http::request::Builder {
    if session.is_empty() { request } else { request.header("cookie", format!("session={session}")) }
}

/// Sends the form of a page as a browser does.
fn posted(session: &str, path: &str, fields: &[(String, String)]) -> Request<Body> {
    let request = Request::post(format!("{AT}{path}"))
        .header("host", HOST)
        .header("origin", format!("https://{HOST}"))
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded");
    signed_in(request, session).body(encoded(fields).into()).unwrap()
}

fn encoded(fields: &[(String, String)]) -> String {
    let escape = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pair = |(name, value): &(String, String)| format!("{}={}", escape(name), escape(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// The fields of a new key without special settings.
const NEW: [(&str, &str); 4] =
    [("name", "CI"), ("level", "USER"), ("environment", "live"), ("expires", "never")];

fn store(site: &Site) -> MemoryStore {
    site.world.store.clone()
}
