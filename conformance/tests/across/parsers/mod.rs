//! Texts from outside, in all interfaces: the routes, the portal, the command line, an import, a store.

mod bounds;
mod doors;
mod panics;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_trait::async_trait;
use axum::Router;
use axum::routing::any;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;
use test_kit::{Answer, bearer, echo, request, send, user};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Accounts as _, StoreError};
use tower_api_key::{ApiKey, ApiKeyAuth, Endpoints, KeyId, KeyRecord, Keyring, NewKey, UserId, Verifier};
use tower_api_key_manage as manage;
use tower_api_key_portal::{Freshness, Portal, PortalSession, PortalUser, SignedIn};
use tower_api_key_sqlite::SqliteStore;

const AT: &str = "/v1/api-keys";
const HOST: &str = "app.example.com";

/// One person, always signed in.
struct Always(UserId);

#[async_trait]
impl PortalSession for Always {
    async fn user(&self, _: &Parts) -> Result<SignedIn, StoreError> {
        Ok(SignedIn::User(PortalUser::new(self.0.clone(), "Somebody", &[7; 32])))
    }

    async fn freshness(&self, _: &Parts, _: &PortalUser) -> Result<Freshness, StoreError> {
        Ok(Freshness::Fresh)
    }
}

/// Everything on one file: account A with one person, who has a key.
struct Site {
    folder: tempfile::TempDir,
    owner: UserId,
    keyring: Keyring,
    key: ApiKey,
    id: KeyId,
    app: Router,
}

impl Site {
    async fn new() -> Self {
        Self::of("alice").await
    }

    async fn of(owner: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
        let owner = user(owner);
        store.create_account("A", &owner).await.unwrap();
        let keyring = Keyring::new(store.clone());
        let issued = keyring.issue(NewKey::user_level(owner.clone(), "first")).await.unwrap();
        let (key, record) = issued.into_parts();
        let app = app(store, &keyring, owner.clone());
        Self { folder, owner, keyring, key, id: record.id, app }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let auth = bearer(&self.key);
        let headers = [("authorization", &*auth), ("content-type", "application/json")];
        send(&self.app, request(method, &format!("{AT}{path}"), &headers, body.to_owned())).await
    }

    /// Makes a key through the route; returns its response.
    async fn create(&self, body: &Value) -> Answer {
        self.call("POST", "", &body.to_string()).await
    }

    async fn patch(&self, id: &KeyId, body: &Value) -> Answer {
        self.call("PATCH", &format!("/{id}"), &body.to_string()).await
    }

    async fn page(&self, path: &str) -> Answer {
        send(&self.app, request("GET", &format!("/portal{path}"), &[("host", HOST)], "")).await
    }

    /// Opens a form of the portal, fills it in, and sends it as a browser would.
    async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.page(path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", text(&page));
        let mut form = hidden(&text(&page));
        form.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.post(path, &encoded(&form)).await
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        let origin = format!("https://{HOST}");
        let headers = [
            ("host", HOST),
            ("origin", &*origin),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        send(&self.app, request("POST", &format!("/portal{path}"), &headers, form.to_owned())).await
    }

    async fn record(&self, id: &KeyId) -> KeyRecord {
        self.keyring.get(id).await.unwrap().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection without anything of this crate, like an operator's.
    fn operator(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("keys.db")).unwrap()
    }

    /// Runs the command line on the same file; returns exit code, stdout and stderr.
    fn shell(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        let mut child = Command::new(program())
            .args(args)
            .env("TOWER_API_KEY_DATABASE", self.path("keys.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let ran = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(ran.stdout), text(ran.stderr));
        assert!(!err.contains("panicked"), "{err}");
        (ran.status.code().unwrap(), out, err)
    }
}

/// The program `tower-api-key`, which is built beside the tests if the whole workspace is tested.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(Path::parent).unwrap().join("tower-api-key");
    assert!(program.exists(), "build the program first: cargo build --package tower-api-key-cli");
    program
}

fn app(store: SqliteStore, keyring: &Keyring, owner: UserId) -> Router {
    let auth = ApiKeyAuth::new(store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default())
        .endpoints(manage::declare(Endpoints::new(), AT).project_optional(Method::POST, "/echo"))
        .unwrap();
    let keys = manage::api_keys(keyring.clone()).merge(manage::explain(keyring.clone(), auth.explainer()));
    let self_revoke = manage::self_revoke(keyring.clone(), Verifier::new(store.clone()), ClientAddr::peer());
    let portal = Portal::new(keyring.clone(), store, Always(owner));
    Router::new()
        .nest(AT, keys)
        .route("/validate", manage::validate())
        .route("/echo", any(echo))
        .layer(auth)
        .route("/self-revoke", self_revoke)
        .nest("/portal", portal.router())
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// The hidden fields of the form on a page.
fn hidden(page: &str) -> Vec<(String, String)> {
    let attribute = |input: &str, name: &str| {
        let (_, rest) = input.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let inputs = page.split("<input").skip(1).filter_map(|rest| rest.split_once('>')).map(|(input, _)| input);
    let hidden = inputs.filter(|input| attribute(input, "type").is_some_and(|kind| kind == "hidden"));
    hidden.map(|input| (attribute(input, "name").unwrap(), attribute(input, "value").unwrap())).collect()
}

fn encoded(fields: &[(String, String)]) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The fields of a new key without special settings.
const NEW: [(&str, &str); 4] =
    [("name", "CI"), ("level", "USER"), ("environment", "live"), ("expires", "never")];

/// More parameters than a router accepts.
fn many_parameters() -> String {
    let route: String = (0..26).map(|number| format!("/{{p{number}}}")).collect();
    format!("GET {route}")
}
