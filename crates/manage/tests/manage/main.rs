//! The routes for the holders of keys, end to end: through the layer, with a store in memory.

mod answers;
mod bodies;
mod changes;
mod explain;
mod framing;
mod leaks;
mod restrictions;
mod rights;
mod rotation;
mod self_revoke;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use http::Method;
use serde_json::Value;
use test_kit::{Answer, World, bearer, request, send};
use tower_api_key::delivery::{Delivery, KeyDelivery, Notice, NoticeKind};
use tower_api_key::scheme::{ApiKeyHeader, Bearer};
use tower_api_key::store::{KeyStore as _, MemoryStore, StoreError};
use tower_api_key::{ApiKey, ApiKeyAuth, Endpoints, KeyDigest, KeyQuery, KeyRecord, Keyring};
use tower_api_key_manage as manage;

const AT: &str = "/v1/api-keys";

/// The routes, mounted as in the documentation.
fn routes(keyring: Keyring, store: MemoryStore) -> Router {
    Router::new()
        .nest(AT, manage::api_keys(keyring))
        .route("/validate", manage::validate())
        .route("/projects", manage::projects(store))
}

fn guarded(routes: Router, store: MemoryStore) -> Router {
    let endpoints = Endpoints::new()
        .project_optional(Method::GET, "/validate")
        .project_optional(Method::GET, "/projects");
    let auth = ApiKeyAuth::new(store, Bearer::default())
        .or(ApiKeyHeader::default())
        .endpoints(manage::declare(endpoints, AT))
        .unwrap();
    routes.layer(auth)
}

async fn world() -> (World, Router) {
    let world = World::new().await;
    let app = app(&world, Keyring::new(world.store.clone()));
    (world, app)
}

fn app(world: &World, keyring: Keyring) -> Router {
    guarded(routes(keyring, world.store.clone()), world.store.clone())
}

async fn call(app: &Router, method: &str, path: &str, key: &ApiKey) -> Answer {
    send(app, request(method, path, &[("authorization", &bearer(key))], "")).await
}

async fn create(app: &Router, key: &ApiKey, body: &Value) -> Answer {
    let headers = [("authorization", &*bearer(key)), ("content-type", "application/json")];
    send(app, request("POST", AT, &headers, body.to_string())).await
}

async fn record(world: &World, key: &ApiKey) -> KeyRecord {
    KeyRecord::clone(&world.store.find(&key.digest()).await.unwrap().unwrap())
}

/// The path `/v1/api-keys/{id}` of a key.
async fn path_of(world: &World, key: &ApiKey) -> String {
    format!("{AT}/{}", record(world, key).await.id)
}

/// All keys of all owners, in a form that can be compared.
async fn rows(world: &World) -> String {
    let keyring = Keyring::new(world.store.clone());
    let mut rows = String::new();
    for owner in ["u_own", "u_full", "u_ro", "u_b", "u_nobody"] {
        let mut query = KeyQuery::default();
        query.limit = u32::MAX;
        rows += &format!("{:?}", keyring.list(&test_kit::user(owner), &query).await.unwrap());
    }
    rows
}

/// The notices that owners received.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(NoticeKind, String)>>>);

impl Told {
    fn take(&self) -> Vec<(NoticeKind, String)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl KeyDelivery for Told {
    async fn deliver(&self, _: &ApiKey, _: &Notice<'_>) -> Delivery {
        Delivery::Done
    }

    async fn notify(&self, notice: &Notice<'_>) -> Delivery {
        self.0.lock().unwrap().push((notice.kind().clone(), notice.key().id.to_string()));
        Delivery::Queued
    }
}

/// A key store that fails.
#[derive(Clone)]
struct Down;

#[async_trait]
impl tower_api_key::store::KeyStore for Down {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Err(StoreError::Overloaded)
    }
}
