//! How do I keep keys and people in my application's existing tables?
//!
//! ```text
//! cargo run --manifest-path examples/sqlx-store/Cargo.toml
//! ```
//!
//! It makes keys and prints requests to try, each below the status that it gets. `ADDR` sets the address. With
//! `--check` it sends these requests to itself, checks the answers, and ends.

mod store;

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_api_key::scheme::ApiKeyHeader;
use tower_api_key::{ApiKey, ApiKeyAuth, Environment, KeyFormat, Principal};

use crate::store::{AppStore, TABLES};

const CUSTOMERS: &str = "INSERT INTO customers (id, active) VALUES (1, TRUE), (2, FALSE)";
const SHOPS: &str = "INSERT INTO shops (id, name) VALUES (10, 'Bakery'), (11, 'Florist'), (12, 'Butcher')";
const STAFF: &str =
    "INSERT INTO staff (customer_id, shop_id, may_write) VALUES (1, 10, TRUE), (1, 11, FALSE), (2, 10, TRUE)";
const TOKEN: &str = "INSERT INTO tokens (sha256, customer_id, sandbox, created, expires, revoked) VALUES (?, ?, FALSE, ?, ?, ?)";

async fn orders(who: Principal) -> String {
    format!("customer {} in shop {}\n", who.user_id(), who.project().map_or("none", |shop| shop.as_str()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One connection that is never closed, because the database is in memory.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect("sqlite::memory:")
        .await?;
    for statement in [TABLES, CUSTOMERS, SHOPS, STAFF] {
        sqlx::raw_sql(statement).execute(&pool).await?;
    }
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let good = issue(&pool, 1, now, None, None).await?;
    let revoked = issue(&pool, 1, now, None, Some(now)).await?;
    let expired = issue(&pool, 1, now - 10, Some(now - 1), None).await?;
    let inactive = issue(&pool, 2, now, None, None).await?;

    let auth = ApiKeyAuth::new(AppStore(pool), ApiKeyHeader::default());
    let app = Router::new().route("/orders", get(orders).post(orders)).layer(auth);

    let requests = [
        (200, "GET", &good, "10", ""),
        (200, "POST", &good, "10", ""),
        (200, "GET", &good, "11", ""),
        (403, "POST", &good, "11", ", because the customer may only read there"),
        (403, "GET", &good, "12", ", because the customer has no access there"),
        (403, "GET", &good, "010", ", because that is another id"),
        (401, "GET", &revoked, "10", ", because it is revoked"),
        (401, "GET", &expired, "10", ", because it has expired"),
        (401, "GET", &inactive, "10", ", because the customer is not active any more"),
    ];
    if std::env::args().any(|argument| argument == "--check") {
        for (expected, method, key, shop, why) in requests {
            let request = Request::builder()
                .method(method)
                .uri("/orders")
                .header("X-API-Key", key.expose_secret())
                .header("X-Project-ID", shop)
                .body(Body::empty())?;
            let status = app.clone().oneshot(request).await?.status();
            println!("{method} in shop {shop}: {status}{why}");
            if status != expected {
                return Err(format!("{expected} was expected").into());
            }
        }
        return Ok(());
    }

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("Listening on {url}");
    for (status, method, key, shop, why) in requests {
        println!("# {status}{why}\ncurl -i -X {method} {url}/orders \\");
        println!("  -H 'X-API-Key: {}' -H 'X-Project-ID: {shop}'", key.expose_secret());
    }
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}

/// Makes a key: its text goes to the customer, its digest into the table.
async fn issue(
    pool: &SqlitePool,
    customer: i64,
    created: i64,
    expires: Option<i64>,
    revoked: Option<i64>,
) -> Result<ApiKey, Box<dyn Error>> {
    let key = KeyFormat::default().generate(Environment::Live)?;
    sqlx::query(TOKEN)
        .bind(key.digest().as_bytes().to_vec())
        .bind(customer)
        .bind(created)
        .bind(expires)
        .bind(revoked)
        .execute(pool)
        .await?;
    Ok(key)
}
