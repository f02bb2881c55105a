//! Start and end of the example server, as an operator sees them: whether it is ready, and what it leaves behind.

use std::time::{Duration, Instant};

use conformance::server_kit::demo::Demo;
use tokio_postgres::{Client, NoTls};

fn server() -> String {
    let server = std::env::var("TOWER_API_KEY_POSTGRES");
    server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A separate database; it is dropped at the end, after all connections to it were closed.
struct Database {
    name: String,
    url: String,
    operator: Client,
}

impl Database {
    async fn new() -> Self {
        let name = format!("ready_{}", std::process::id());
        let operator = connect(&server()).await;
        operator.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
        operator.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let server = server();
        let (start, end) = server.split_at(server.rfind('/').unwrap() + 1);
        let options = end.find('?').map_or("", |at| &end[at..]);
        Self { url: format!("{start}{name}{options}"), name, operator }
    }

    async fn lets_in(&self, lets_in: bool) {
        let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {lets_in}", self.name);
        self.operator.batch_execute(&allow).await.unwrap();
        if !lets_in {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            self.operator.query(end, &[&self.name]).await.unwrap();
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A separate runtime, because the test's own is in use.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect(&server()).await.batch_execute(&drop).await.unwrap() });
        });
        let _ = dropped.join();
    }
}

/// Asks repeatedly until the server is ready.
fn says(demo: &Demo, status: u16, text: &str) {
    let began = Instant::now();
    loop {
        let answer = demo.request("GET", "/ready").send();
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if (answer.status, body.trim()) == (status, text) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{} {body}, not {status} {text}", answer.status);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn c17_f6_a_server_on_a_file_is_ready() {
    let demo = Demo::start();
    says(&demo, 200, "ready");
    assert_eq!(demo.request("GET", "/ready").send().header("cache-control"), ["no-store"]);
    assert_eq!(demo.request("POST", "/ready").send().status, 405);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f6_a_server_says_when_it_is_ready_and_ends_in_order() {
    let database = Database::new().await;
    let demo = Demo::start_with(&[("DATABASE_URL", &database.url)]);
    says(&demo, 200, "ready");
    let asks = || demo.bearer("GET", "/v1/users/usr_123", demo.key("alice")).status;
    assert_eq!(asks(), 200);
    database.lets_in(false).await;
    says(&demo, 503, "the store does not answer");
    database.lets_in(true).await;
    says(&demo, 200, "ready");

    let after = connect(&database.url).await;
    let count = async |sql: &str| after.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(
        count("SELECT count(*) FROM tower_api_key.nodes WHERE seen_at > now() - interval '5 s'").await,
        1
    );
    // Usage is written once a second; the shutdown writes the rest.
    let used = "SELECT coalesce(sum(count), 0)::bigint FROM tower_api_key.usage";
    let before = count(used).await;
    let asked = 7;
    for _ in 0..asked {
        assert_eq!(asks(), 200);
    }
    demo.program.tell_to_stop();
    assert!(demo.program.ended_well());
    assert!(count(used).await >= before + asked);
    assert_eq!(
        count("SELECT count(*) FROM tower_api_key.nodes WHERE seen_at > now() - interval '5 s'").await,
        0
    );
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    // PostgreSQL notices with a short delay that a connection was closed.
    let began = Instant::now();
    while count(connections).await != 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "a connection is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
