//! The server's sign-in: names and passwords in its file, sessions in memory. Replace it by your own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use axum::extract::{DefaultBodyLimit, Form, FromRequestParts, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::json;
use tokio::sync::Semaphore;
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::limit::{Throttle, retry_after};
use tower_api_key::{Head, Timestamp, UserId};
use tower_api_key_portal::stylesheet;
use tower_http::csrf::CsrfLayer;
use tower_sessions::Session;

use crate::Failure;
use crate::portal::PORTAL;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS demo_people (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, password TEXT NOT NULL
) STRICT";
const SET: &str = "INSERT OR REPLACE INTO demo_people (id, name, password) VALUES (?1, ?2, ?3)";
const FIND: &str = "SELECT name, password FROM demo_people WHERE id = ?1";

/// How many passwords are checked at once: each takes 19 MiB and some milliseconds of a core.
const AT_ONCE: usize = 2;
/// The session key of the signed-in person.
const PERSON: &str = "person";

/// The people who can sign in.
#[derive(Clone)]
pub(crate) struct People(Arc<PeopleState>);

struct PeopleState {
    file: Mutex<Connection>,
    at_once: Semaphore,
    failures: Throttle,
    /// The hash of an unknown password, checked for unknown names, so that both take the same time.
    nobodys: String,
}

/// A signed-in person, as stored in the session.
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) name: String,
    /// The secret to which the forms of this session are bound.
    pub(crate) secret: [u8; 32],
    /// When the password was given.
    pub(crate) signed_in_at: Timestamp,
}

impl Person {
    pub(crate) async fn of(session: &Session) -> Result<Option<Self>, Failure> {
        let Some(kept) = session.get_value(PERSON).await? else { return Ok(None) };
        let text = |name: &str| kept[name].as_str().unwrap_or_default().to_owned();
        let secret: Vec<u8> = serde_json::from_value(kept["secret"].clone())?;
        Ok(Some(Self {
            id: UserId::new(text("id"))?,
            name: text("name"),
            secret: secret.try_into().map_err(|_| "the session's secret has another length")?,
            signed_in_at: Timestamp::from_micros(kept["signed_in_at"].as_i64().unwrap_or_default()),
        }))
    }

    async fn keep(&self, session: &Session) -> Result<(), Failure> {
        let kept = json!({
            "id": self.id.as_str(), "name": self.name, "secret": self.secret,
            "signed_in_at": self.signed_in_at.as_micros(),
        });
        session.insert_value(PERSON, kept).await?;
        Ok(())
    }
}

impl People {
    pub(crate) fn open(file: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(file)?;
        connection.execute_batch(TABLE)?;
        Ok(Self(Arc::new(PeopleState {
            file: Mutex::new(connection),
            at_once: Semaphore::new(AT_ONCE),
            failures: Throttle::new("10/min".parse()?),
            nobodys: hashed(&password()?)?,
        })))
    }

    /// Sets a new password for a person and returns it. Only its hash is stored.
    pub(crate) async fn welcome(&self, id: &'static str, name: &'static str) -> Result<String, Failure> {
        let password = password()?;
        let hash = hashed(&password)?;
        self.ask(move |file| file.execute(SET, (id, name, hash)).map(drop)).await?;
        Ok(password)
    }

    /// Returns the name of the person with this id and password.
    async fn check(&self, id: &UserId, password: String) -> Result<Option<String>, Failure> {
        let _turn = self.0.at_once.acquire().await?;
        let id = id.as_str().to_owned();
        let found = self.ask(move |file| {
            file.query_row(FIND, [id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
                .optional()
        });
        let (name, hash) =
            found.await?.map_or((None, self.0.nobodys.clone()), |(name, hash)| (Some(name), hash));
        let fits = tokio::task::spawn_blocking(move || {
            let hash = PasswordHash::new(&hash)?;
            Ok::<_, argon2::password_hash::Error>(
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(),
            )
        });
        Ok(if fits.await?? { name } else { None })
    }

    /// Runs a query on a thread for blocking work, because SQLite blocks.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let inner = Arc::clone(&self.0);
        let answer = tokio::task::spawn_blocking(move || {
            question(&inner.file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(answer.await??)
    }
}

fn hashed(password: &str) -> Result<String, Failure> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

/// A random password of eighty bits that is easy to type.
fn password() -> Result<String, Failure> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let random: [u8; 16] = random()?;
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    Ok(letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-"))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[derive(Clone)]
struct Accounts {
    people: People,
    /// How to find a client's address for counting failures: the same as for keys.
    clients: ClientAddr,
}

/// `/account`: shows who is signed in, signs in and out. Forms from other sites are refused.
pub(crate) fn routes(people: People, clients: ClientAddr) -> Router {
    Router::new()
        .route("/account", get(account))
        .route("/account/sign-in", get(sign_in_page).post(sign_in))
        .route("/account/sign-out", post(sign_out))
        .layer(DefaultBodyLimit::max(4096))
        .layer(CsrfLayer::new())
        .layer(middleware::map_response(guard))
        .with_state(Accounts { people, clients })
}

/// The URL to sign in, or to give the password again, and then return to `path`.
pub(crate) fn sign_in_at(path: &str) -> String {
    format!("/account/sign-in?next={}", next(path))
}

/// Where to go after the sign-in: only to pages of the portal, by a plain path.
fn next(path: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    let within = path.strip_prefix(PORTAL).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if within && path.bytes().all(plain) { path } else { PORTAL }
}

/// The client's address.
struct Client(IpAddr);

impl FromRequestParts<Accounts> for Client {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, accounts: &Accounts) -> Result<Self, StatusCode> {
        let address = accounts.clients.of(&Head::from(&*parts));
        address.map(Self).ok_or(StatusCode::BAD_REQUEST)
    }
}

async fn sign_in_page(
    session: Session,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Wrong> {
    let person = Person::of(&session).await?;
    let next = query.get("next").map_or(PORTAL, |path| next(path));
    Ok(form(StatusCode::OK, person.as_ref().map_or("", |person| person.id.as_str()), next, ""))
}

async fn sign_in(
    State(Accounts { people, .. }): State<Accounts>,
    session: Session,
    Client(client): Client,
    Form(mut fields): Form<HashMap<String, String>>,
) -> Result<Response, Wrong> {
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let (user, password, path) = (field("user"), field("password"), field("next"));
    let next = next(&path);
    let now = Timestamp::from(SystemTime::now());
    if let Some(wait) = people.0.failures.retry_after(client, now) {
        let mut answer =
            form(StatusCode::TOO_MANY_REQUESTS, &user, next, "Too many attempts. Try again in a minute.");
        answer.headers_mut().insert(RETRY_AFTER, retry_after(wait));
        return Ok(answer);
    }
    let found = match UserId::new(&user) {
        Ok(id) => people.check(&id, password).await?.map(|name| (id, name)),
        Err(_) => None,
    };
    let Some((id, name)) = found else {
        people.0.failures.failed(client, now);
        return Ok(form(StatusCode::UNAUTHORIZED, &user, next, "The name or the password is wrong."));
    };
    // If the same person gave the password again, forms that are open stay valid.
    let before = Person::of(&session).await?.filter(|before| before.id == id);
    let secret = before.map_or_else(random, |before| Ok(before.secret))?;
    session.clear().await;
    // A session id that was set before the sign-in, perhaps by an attacker, must not stay valid.
    session.cycle_id().await?;
    Person { id, name, secret, signed_in_at: now }.keep(&session).await?;
    Ok(Redirect::to(next).into_response())
}

async fn sign_out(session: Session) -> Result<Redirect, Wrong> {
    session.flush().await?;
    Ok(Redirect::to("/account/sign-in"))
}

async fn account(session: Session) -> Result<Response, Wrong> {
    let Some(person) = Person::of(&session).await? else {
        return Ok(Redirect::to("/account/sign-in").into_response());
    };
    let name = escaped(&person.name);
    let content = format!(
        "<h1>{name}</h1><div class=\"card\"><p>You are signed in as <strong>{name}</strong>.</p>\
         <form method=\"post\" action=\"/account/sign-out\" class=\"actions\">\
         <a class=\"button\" href=\"{PORTAL}\">API keys</a>\
         <button class=\"button\" type=\"submit\">Sign out</button></form></div>"
    );
    Ok(page(StatusCode::OK, "Your account", &content))
}

fn form(status: StatusCode, user: &str, next: &str, error: &str) -> Response {
    let alert = if error.is_empty() {
        String::new()
    } else {
        format!("<p class=\"alert\" role=\"alert\">{error}</p>")
    };
    let user = escaped(user);
    let content = format!(
        "<h1>Sign in</h1>{alert}<form method=\"post\" action=\"/account/sign-in\" class=\"card stack\">\
         <input type=\"hidden\" name=\"next\" value=\"{next}\">\
         <div class=\"field\"><label for=\"user\">Name</label>\
         <input id=\"user\" name=\"user\" value=\"{user}\" required autocomplete=\"username\" autocapitalize=\"off\"></div>\
         <div class=\"field\"><label for=\"password\">Password</label>\
         <input id=\"password\" name=\"password\" type=\"password\" required autocomplete=\"current-password\"></div>\
         <div class=\"actions\"><button class=\"button primary\" type=\"submit\">Sign in</button></div></form>"
    );
    page(status, "Sign in", &content)
}

/// A page in the style of the portal.
pub(crate) fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title} · Example API</title>\
         <link rel=\"stylesheet\" href=\"{PORTAL}{}\"></head><body>\
         <header class=\"top\"><div class=\"wrap\"><a class=\"site\" href=\"{PORTAL}\">Example API</a></div></header>\
         <main class=\"wrap narrow\">{content}</main></body></html>",
        stylesheet()
    );
    (status, Html(html)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) async fn guard(mut response: Response) -> Response {
    let policy =
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An error during which nobody is signed in.
struct Wrong(Failure);

impl<E: Into<Failure>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        eprintln!("account: {}", self.0);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
