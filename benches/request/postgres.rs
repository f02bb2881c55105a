//! The cost of a database: look-ups, and requests that wait for them or use a cache.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, StatusCode};
use tokio_postgres::NoTls;
use tower::Service as _;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{Cached, Directory, KeyStore};
use tower_api_key::{ApiKeyAuth, KeyDigest};
use tower_api_key_postgres::PostgresOptions;

use crate::world::{enter, fresh};

const KEYS: usize = 1000;
const TURNS: usize = 5000;
const SCHEMA: &str = "tower_api_key_bench";

/// Measures calls one after the other on one thread: how long a single caller waits.
pub fn times() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop_schema().await;
        let options = PostgresOptions::new(&server()).unwrap().schema(SCHEMA).unwrap();
        let store = options.connect().await.unwrap();
        let keys: Vec<String> = (0..KEYS).map(|_| fresh()).collect();
        let mut owners = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            owners.push(enter(&store, index, key, false).await);
        }
        println!("| PostgreSQL, {KEYS} keys, {TURNS} times | p50, us | p99, us |\n|---|--:|--:|");
        let digests: Vec<KeyDigest> = keys.iter().map(|key| KeyDigest::of(key)).collect();
        line("`find`", async |turn| {
            assert!(store.find(&digests[turn % KEYS]).await.unwrap().is_some());
        })
        .await;
        line("`find` and `standing`", async |turn| {
            assert!(store.find(&digests[turn % KEYS]).await.unwrap().is_some());
            store.account_status(&owners[turn % KEYS], None).await.unwrap();
        })
        .await;
        requests(
            "a request through `PostgresStore`",
            ApiKeyAuth::new(store.clone(), Bearer::default()),
            &keys,
        )
        .await;
        crate::refusals::postgres(&store).await;
        println!();
        let cached = Cached::start(store);
        while !cached.has_lease() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        requests(
            "a request through `Cached`, warm",
            ApiKeyAuth::new(cached.clone(), Bearer::default()),
            &keys,
        )
        .await;
        cached.shutdown().await;
        drop_schema().await;
    });
}

async fn requests(name: &str, auth: ApiKeyAuth<Bearer>, keys: &[String]) {
    let mut app = Router::new().route("/", get(|| async { "ok" })).layer(auth);
    let mut ask = async |turn: usize| {
        let authorization = format!("Bearer {}", keys[turn % KEYS]);
        let request = Request::builder().uri("/").header("authorization", authorization);
        let response = app.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    };
    for turn in 0..KEYS {
        ask(turn).await;
    }
    line(name, ask).await;
}

async fn line(name: &str, mut ask: impl AsyncFnMut(usize)) {
    let mut times = Vec::new();
    for turn in 0..TURNS {
        let began = Instant::now();
        ask(turn).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |place: usize| times[place].as_nanos() as f64 / 1e3;
    println!("| {name} | {:.1} | {:.1} |", at(TURNS / 2), at(TURNS - TURNS / 100));
}

fn server() -> String {
    let server = std::env::var("TOWER_API_KEY_POSTGRES");
    server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

async fn drop_schema() {
    let (client, connection) = tokio_postgres::connect(&server(), NoTls).await.unwrap();
    let served = tokio::spawn(connection);
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await.unwrap();
    drop(client);
    served.await.unwrap().unwrap();
}
