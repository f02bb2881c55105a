//! Imported keys and peppers: by which digests keys are found, and how they get the newest one.

mod elsewhere;
mod exposed;
mod peppers;
mod refused;
mod slow;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::Body;
use axum::routing::any;
use axum::{Extension, Router};
use http::{Request, StatusCode};
use test_kit::user;
use tower::ServiceExt as _;
use tower_api_key::keyring::{ImportReport, ImportedDigest, ImportedKey};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{
    Accounts as _, CachedKey, Directory, KeyRegistry, KeyStore, MemoryStore, Project, RegistryError,
    RegistryProxy, StoreError,
};
use tower_api_key::{
    AccountStatus, ApiKeyAuth, Authority, DigestMethod, Digests, KeyDigest, KeyId, KeyRecord, Keyring,
    NewKey, Pepper, Principal, ProjectId, Timestamp, UserId, Verifier,
};

fn id(id: &str) -> KeyId {
    KeyId::new(id).unwrap()
}

fn alices(name: &str) -> NewKey {
    NewKey::user_level(user("alice"), name)
}

fn imported(name: &str, digest: ImportedDigest) -> ImportedKey {
    ImportedKey::new(id(name), alices(name), digest)
}

fn pepper(id: &str) -> Pepper {
    Pepper::new(id, format!("{id} is not random, but it is 32 bytes long")).unwrap()
}

/// Alice owns an account with the project p1.
async fn people() -> MemoryStore {
    let store = MemoryStore::new();
    store.create_account("a", &user("alice")).await.unwrap();
    let p1 = Project::new(ProjectId::new("p1").unwrap(), "P1");
    store.create_project("a", &p1).await.unwrap();
    store
}

/// A store that counts look-ups and rehashes. By default it never answers warm.
#[derive(Clone)]
struct Counted<S> {
    store: S,
    warm: bool,
    finds: Arc<AtomicUsize>,
    /// The rehashes that succeeded, and those that were refused.
    rehashes: Arc<[AtomicUsize; 2]>,
}

impl<S> Counted<S> {
    fn new(store: S) -> Self {
        Self { store, warm: false, finds: Arc::default(), rehashes: Arc::default() }
    }

    fn finds(&self) -> usize {
        self.finds.swap(0, Ordering::SeqCst)
    }

    fn rehashes(&self) -> [usize; 2] {
        [0, 1].map(|n| self.rehashes[n].load(Ordering::SeqCst))
    }
}

#[async_trait]
impl<S: KeyStore> KeyStore for Counted<S> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.finds.fetch_add(1, Ordering::SeqCst);
        self.store.find(digest).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        if self.warm { self.store.find_cached(digest) } else { CachedKey::Miss }
    }
}

#[async_trait]
impl<S: Directory> Directory for Counted<S> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.store.account_status(user, project).await
    }
}

#[async_trait]
impl<S: KeyRegistry> RegistryProxy for Counted<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.store
    }

    fn is_directory(&self) -> bool {
        false
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let done = self.store.rehash(id, from, to, method, now).await;
        self.rehashes[usize::from(done.is_err())].fetch_add(1, Ordering::SeqCst);
        done
    }
}

/// The three schemes in front of a handler that returns the owner of the key.
fn site(verifier: Verifier) -> Router {
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default().accept_pipes())
        .or(ApiKeyHeader::default().project_optional())
        .or(JsonBody::default());
    let handler = |Extension(who): Extension<Principal>| async move { who.key_id().to_string() };
    Router::new().route("/", any(handler)).layer(auth)
}

/// The ways to send a key.
const WAYS: [&str; 3] = ["bearer", "header", "json"];

fn request(way: &str, key: &str) -> Request<Body> {
    let builder = Request::post("/");
    match way {
        "bearer" => builder.header("authorization", format!("Bearer {key}")).body(Body::empty()),
        "header" => builder.header("x-api-key", key).body(Body::empty()),
        _ => {
            let body = serde_json::json!({"apiKey": key, "userId": "alice", "projectId": "p1"});
            builder.header("content-type", "application/json").body(body.to_string().into())
        }
    }
    .unwrap()
}

/// The status, and the owner of the key.
async fn send(site: &Router, way: &str, key: &str) -> (StatusCode, String) {
    let response = site.clone().oneshot(request(way, key)).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn status(site: &Router, key: &str) -> u16 {
    send(site, "bearer", key).await.0.as_u16()
}

/// Waits until the key has this kind of digest, because renewals run in the background.
async fn digested_by(keyring: &Keyring, key: &KeyId, kind: &str) {
    for _ in 0..100_000 {
        if keyring.get(key).await.unwrap().unwrap().digested_by.kind() == kind {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{key} is not digested by {kind}");
}

fn reasons(report: &ImportReport) -> Vec<(usize, &str, String)> {
    let mut refused: Vec<_> =
        report.refused.iter().map(|key| (key.index, key.id.as_str(), key.reason.to_string())).collect();
    refused.sort();
    refused
}
