//! The real stacks, each with a few nodes: layers with a store, as a service would run them.

use std::future::Future;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Method, Request, Response};
use tower_api_key::observer::{Decision, Observer};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{
    Accounts, CacheOptions, Cached, ChangeLog, Directory, KeyRegistry, KeyStore, MemoryStore, StoreError,
};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    AccountStatus, ApiKeyAuth, Deprecation, Digests, Endpoints, Environment, KeyDigest, KeyFormat, KeyPolicy,
    KeyRecord, Keyring, Pepper, Principal, ProjectId, Timestamp, UserId, Verifier,
};
use tower_api_key_postgres::PostgresOptions;
use tower_api_key_sqlite::SqliteStore;

use super::logged::Logged;
use super::model;
use tower_api_key::ApiKeys;

/// Longer than even a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    /// A cache over a store with a change log, and a node without a cache.
    Cached,
    Postgres,
    /// A cache that is never told about changes. The test must find this error.
    Lying,
}

/// What all nodes of a sequence share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) clock: ManualClock,
    pub(crate) ring: Digests,
    pub(crate) decided: Decided,
}

/// The number of decisions without and with waiting.
#[derive(Clone, Default)]
pub(crate) struct Decided(pub Arc<[AtomicU64; 2]>);

impl Observer for Decided {
    fn decided(&self, decision: &Decision<'_>) {
        self.0[usize::from(decision.warm)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Common {
    pub(crate) fn new() -> Self {
        let secret = || KeyFormat::default().generate(Environment::Live).unwrap();
        let ring = Digests::peppered(Pepper::new("new", secret().expose_secret()).unwrap()).unwrap();
        let old = Pepper::new("old", OLD_PEPPER).unwrap();
        let ring = ring.accept_pepper(old).unwrap().accept_sha256().accept_sha512().accept_sanctum();
        let clock = ManualClock::new(Timestamp::from_micros(model::BEGIN));
        Self { clock, ring, decided: Decided::default() }
    }
}

/// The pepper of a service that does not exist; the test makes its digests.
pub(crate) const OLD_PEPPER: [u8; 32] = *b"a pepper that guards only a test";

pub(crate) struct Node {
    pub(crate) all: Router,
    pub(crate) live_only: Router,
}

type Starting = Pin<Box<dyn Future<Output = Node> + Send>>;

pub(crate) struct Stack {
    /// Allows up to [`model::MOST_KEYS`] keys per user.
    pub(crate) keyring: Keyring,
    /// Allows one key per user.
    pub(crate) single: Keyring,
    pub(crate) registry: Arc<dyn KeyRegistry>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) nodes: Vec<Node>,
    /// Restarts the node with this number.
    pub(crate) start: Box<dyn Fn(usize) -> Starting + Send + Sync>,
    _kept: Box<dyn Send + Sync>,
}

impl Stack {
    pub(crate) async fn new(kind: Kind, common: &Common) -> Self {
        match kind {
            Kind::Memory => {
                let store = MemoryStore::new();
                let nodes = store.clone();
                Self::of(store, common, 2, (), move |number, common| {
                    let store = nodes.clone();
                    Box::pin(async move {
                        if number == 0 { node(store, &common) } else { node(Cold(store), &common) }
                    })
                })
                .await
            }
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("keys.db");
                let store = SqliteStore::open(&path).await.unwrap();
                let first = store.clone();
                Self::of(store, common, 2, folder, move |number, common| {
                    let (first, path) = (first.clone(), path.clone());
                    Box::pin(async move {
                        // As if in another process.
                        let store = if number == 0 { first } else { SqliteStore::open(&path).await.unwrap() };
                        node(store, &common)
                    })
                })
                .await
            }
            Kind::Cached => {
                let store = Logged::new();
                let shared = store.clone();
                Self::shared(store, common, (), move || {
                    let store = shared.connect();
                    Box::pin(async move { store })
                })
                .await
            }
            Kind::Postgres => {
                let schema = Schema::new();
                let options = schema.options();
                let store = options.clone().connect().await.unwrap();
                Self::shared(store, common, schema, move || {
                    let options = options.clone();
                    Box::pin(async move { options.connect().await.unwrap() })
                })
                .await
            }
            Kind::Lying => {
                let store = MemoryStore::new();
                let nodes = store.clone();
                Self::of(store, common, 1, (), move |_, common| {
                    let store = Lying { store: nodes.clone(), said: Arc::default() };
                    Box::pin(async move { node(store, &common) })
                })
                .await
            }
        }
    }

    /// Two nodes with a cache, and one without.
    async fn shared<S>(
        store: S,
        common: &Common,
        kept: impl Send + Sync + 'static,
        connect: impl Fn() -> Pin<Box<dyn Future<Output = S> + Send>> + Send + Sync + 'static,
    ) -> Self
    where
        S: KeyStore + Directory + ChangeLog + KeyRegistry + Accounts + Clone,
    {
        Self::of(store, common, 3, kept, move |number, common| {
            let connected = connect();
            Box::pin(async move {
                let store = connected.await;
                if number == 2 {
                    return node(store, &common);
                }
                let cached: Cached<S> =
                    CacheOptions::new().lease(Duration::from_secs(5)).unwrap().start(store);
                while !cached.has_lease() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                node(cached, &common)
            })
        })
        .await
    }

    async fn of<S: KeyRegistry + Directory + Accounts + Clone>(
        store: S,
        common: &Common,
        nodes: usize,
        kept: impl Send + Sync + 'static,
        start: impl Fn(usize, Common) -> Starting + Send + Sync + 'static,
    ) -> Self {
        let most = u32::try_from(model::MOST_KEYS).unwrap();
        let keyring = ApiKeys::new(store.clone()).clock(common.clock.clone()).digests(common.ring.clone());
        let keyring = keyring.change_deadline(PATIENCE).unwrap().keyring();
        let single = keyring.clone().policy(KeyPolicy::Single { grace: false });
        let keyring = keyring.policy(KeyPolicy::Multiple { max: NonZero::new(most).unwrap() });
        let common = common.clone();
        let start = Box::new(move |number| start(number, common.clone()));
        let (registry, accounts) = (Arc::new(store.clone()), Arc::new(store));
        let mut stack =
            Self { keyring, single, registry, accounts, nodes: Vec::new(), start, _kept: Box::new(kept) };
        for number in 0..nodes {
            let node = (stack.start)(number).await;
            stack.nodes.push(node);
        }
        stack
    }
}

fn node(store: impl KeyStore + Directory, common: &Common) -> Node {
    let keys = ApiKeys::new(store).digests(common.ring.clone()).clock(common.clock.clone());
    let verifier = keys.lookup_deadline(PATIENCE).unwrap().observer(common.decided.clone()).verifier();
    let live = verifier.clone().environment(Environment::Live);
    let sunset = Deprecation::new(Timestamp::from_micros(model::BEGIN)).unwrap();
    let sunset = sunset.sunset(Timestamp::from_micros(model::SUNSET)).unwrap();
    Node {
        all: guarded(verifier.accept_foreign_keys(), ApiKeyHeader::default()),
        live_only: guarded(live, ApiKeyHeader::default().deprecated(sunset)),
    }
}

fn guarded(verifier: Verifier, header: ApiKeyHeader) -> Router {
    let bearer = Bearer::default().project_header("X-Project-ID").unwrap().accept_pipes();
    let endpoints = Endpoints::new()
        .read(Method::POST, "/status")
        .project_optional(Method::GET, "/projects")
        .project_optional(Method::POST, "/projects")
        .manage(Method::POST, "/keys")
        .optional(Method::GET, "/prices")
        .optional(Method::POST, "/prices")
        .public(Method::GET, "/health");
    let auth = ApiKeyAuth::with_verifier(verifier, bearer).or(header).or(JsonBody::default());
    let auth = auth.endpoints(endpoints).unwrap();
    let paths = ["/things", "/status", "/projects", "/keys", "/prices", "/health"];
    paths.into_iter().fold(Router::new(), |router, path| router.route(path, any(say))).layer(auth)
}

/// Returns the principal to the sender of the request.
async fn say(request: Request<Body>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if let Some(principal) = request.extensions().get::<Principal>() {
        response.extensions_mut().insert(principal.clone());
    }
    response
}

/// A store that is always cold.
struct Cold<S>(S);

#[async_trait]
impl<S: KeyStore> KeyStore for Cold<S> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find(digest).await
    }
}

#[async_trait]
impl<S: Directory> Directory for Cold<S> {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.0.account_status(user, project).await
    }
}

/// Repeats its first answer about each key forever.
struct Lying {
    store: MemoryStore,
    said: Arc<std::sync::Mutex<std::collections::HashMap<[u8; 32], Arc<KeyRecord>>>>,
}

#[async_trait]
impl KeyStore for Lying {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let found = self.store.find(digest).await?;
        let mut said = self.said.lock().unwrap();
        Ok(found.map(|found| Arc::clone(said.entry(*digest.as_bytes()).or_insert(found))))
    }
}

#[async_trait]
impl Directory for Lying {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.store.account_status(user, project).await
    }
}

/// A PostgreSQL schema that is dropped with this value.
struct Schema {
    name: String,
}

fn server() -> String {
    let server = std::env::var("TOWER_API_KEY_POSTGRES");
    server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

impl Schema {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("oracle_{}_{count}_{began}", std::process::id()) }
    }

    fn options(&self) -> PostgresOptions {
        let options = PostgresOptions::new(&server()).unwrap().schema(&self.name).unwrap();
        options.connections(5).unwrap().deadline(PATIENCE).unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A separate runtime, because the test's own is in use.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&server(), tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let drop = format!("SET lock_timeout = '5s'; DROP SCHEMA IF EXISTS {name} CASCADE");
                if let Err(error) = client.batch_execute(&drop).await {
                    eprintln!("the schema {name} is left: {error}");
                }
            });
        });
        let _ = dropped.join();
    }
}
