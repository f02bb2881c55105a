//! c17: poolers between a store and its server, with the strictest behaviour that a pooler may have.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_api_key::Authority;
use tower_api_key::store::{KeyRegistry as _, KeyStore as _, StoreError, Terms};

use super::{MANY, NOW, Schema, insert, is_active, key, revoke, server_behind};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A client keeps one server connection.
    Session,
    /// Each transaction may get another server connection.
    Transaction,
}

/// Refuses startup parameters that PgBouncer's defaults do not allow.
struct Pooler {
    port: u16,
    accepts: JoinHandle<()>,
}

impl Pooler {
    async fn to(server: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepts = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server, mode));
            }
        });
        Self { port, accepts }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// Ends when either side closes the connection.
async fn serve(mut client: TcpStream, server: SocketAddr, mode: Mode) -> Option<()> {
    let mut startup = untyped(&mut client).await?;
    // The client asks for encryption: no.
    if startup.len() == 8 {
        client.write_all(b"N").await.ok()?;
        startup = untyped(&mut client).await?;
    }
    if startup.windows(9).any(|window| window == b"\0options\0") {
        let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        let len = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
        client.write_all(&[b"E".as_slice(), &len, fields].concat()).await.ok()?;
        return None;
    }
    let (mut connection, mut first) = (None, true);
    loop {
        if connection.is_none() {
            let mut fresh = TcpStream::connect(server).await.ok()?;
            fresh.write_all(&startup).await.ok()?;
            let hello = answer(&mut fresh).await?;
            if first {
                client.write_all(&hello).await.ok()?;
                first = false;
            }
            connection = Some(fresh);
        }
        let (kind, asked) = message(&mut client).await?;
        let server = connection.as_mut()?;
        server.write_all(&asked).await.ok()?;
        // A query or the end of a batch: the server answers until it is ready again.
        if matches!(kind, b'Q' | b'S') {
            let answer = answer(server).await?;
            client.write_all(&answer).await.ok()?;
            if mode == Mode::Transaction && answer.last() == Some(&b'I') {
                connection = None;
            }
        }
    }
}

async fn untyped(from: &mut TcpStream) -> Option<Vec<u8>> {
    let len = from.read_u32().await.ok()?;
    let mut message = vec![0; usize::try_from(len).ok()?];
    message[..4].copy_from_slice(&len.to_be_bytes());
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

async fn message(from: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let kind = from.read_u8().await.ok()?;
    let rest = untyped(from).await?;
    Some((kind, [&[kind], &*rest].concat()))
}

/// Reads until the server is ready; the last byte says whether a transaction is open.
async fn answer(server: &mut TcpStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let (kind, message) = message(server).await?;
        all.extend(message);
        if kind == b'Z' {
            return Some(all);
        }
    }
}

/// Behind a pooler in session mode everything works, but only transactions have the server's timeouts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f1_a_pooler_in_session_mode_that_refuses_options_works() {
    let schema = Schema::new();
    let pooler = Pooler::to(server_behind(0).0, Mode::Session).await;
    let (_, through) = server_behind(pooler.port);
    let options = schema.options_at(&through).deadline(Duration::from_millis(500)).unwrap();
    let store = options.connect().await.unwrap();
    let one = insert(&store, "one", "u").await;
    assert!(is_active(&store, &one).await);
    revoke(&store, &one).await;
    assert!(!is_active(&store, &one).await);

    // Both kinds of work end in time, no matter which side ends them.
    let operator = schema.operator().await;
    operator.batch_execute("BEGIN; LOCK TABLE keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let found = timeout(Duration::from_secs(20), store.find(&one.digest)).await.expect("it ends");
    assert!(matches!(found, Err(StoreError::Timeout)), "{found:?}");
    let terms = Terms::by(Authority::System).policy(MANY);
    let added = store.insert(key("two", "u"), &terms);
    assert!(timeout(Duration::from_secs(20), added).await.expect("it ends").is_err());
    operator.batch_execute("ROLLBACK").await.unwrap();
    store.insert(key("two", "u"), &Terms::by(Authority::System).policy(MANY)).await.unwrap();
    assert!(store.find(&key("two", "u").digest).await.unwrap().is_some_and(|key| key.is_active(NOW)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f1_a_pooler_in_transaction_mode_is_found_at_the_start() {
    let schema = Schema::new();
    let pooler = Pooler::to(server_behind(0).0, Mode::Transaction).await;
    let (_, through) = server_behind(pooler.port);
    let refused =
        timeout(Duration::from_secs(20), schema.options_at(&through).connect()).await.expect("it ends");
    let refused = refused.expect_err("it is refused");
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("26000") && why.contains("a direct connection, or session mode"), "{why}");
}

/// The session settings of this crate are gone when the pooler gives the connection to another client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f1_timeouts_end_with_the_transaction_on_shared_connections() {
    let schema = Schema::new();
    let manager = deadpool_postgres::Manager::new(super::server().parse().unwrap(), tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(5).build().unwrap();
    let options = tower_api_key_postgres::PostgresOptions::on_pool(pool.clone());
    let store = options.schema(&schema.name).unwrap().connect().await.unwrap();
    let one = insert(&store, "one", "u").await;
    revoke(&store, &one).await;
    assert!(!is_active(&store, &one).await);
    let mut all = Vec::new();
    for _ in 0..pool.status().size {
        all.push(pool.get().await.unwrap());
    }
    assert!(!all.is_empty());
    for client in all {
        for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
            let said = client.query_one("SELECT current_setting($1)", &[&setting]).await.unwrap();
            assert_eq!(said.get::<_, String>(0), "0", "{setting}");
        }
    }
}

/// A direct connection to the server, with a name by which the server lists the connections.
fn named(schema: &Schema) -> String {
    let (server, _) = server_behind(0);
    format!("{} application_name={}", server_behind(server.port()).1, schema.name)
}

/// Without a pooler the whole connection belongs to the store, and every statement has the server's timeouts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f1_a_statement_of_a_direct_connection_is_ended_by_the_server() {
    let schema = Schema::new();
    let options = schema.options_at(&named(&schema)).deadline(Duration::from_millis(400)).unwrap();
    let store = options.connect().await.unwrap();
    let one = insert(&store, "one", "u").await;
    assert!(is_active(&store, &one).await);
    let (operator, watcher) = (schema.operator().await, schema.operator().await);
    let connections = async || -> Vec<i32> {
        let sql =
            "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name = left($1, 63)";
        watcher.query_one(sql, &[&schema.name]).await.unwrap().get(0)
    };
    let before = connections().await;
    operator.batch_execute("BEGIN; LOCK TABLE keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for _ in 0..2 {
        let found = timeout(Duration::from_secs(20), store.find(&one.digest)).await.expect("it ends");
        assert!(matches!(found, Err(StoreError::Timeout)), "{found:?}");
    }
    assert_eq!(
        connections().await,
        before,
        "the server has said that it is over, and no connection was closed"
    );
    operator.batch_execute("ROLLBACK").await.unwrap();
    assert!(is_active(&store, &one).await);
}

/// Closing waits for running work, even if its caller is gone, and then closes the connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f6_a_closed_store_has_finished_its_work() {
    let schema = Schema::new();
    let options = schema.options_at(&named(&schema)).deadline(Duration::from_secs(10)).unwrap();
    let store = options.connect().await.unwrap();
    let one = insert(&store, "one", "u").await;
    let (holds, operator) = (schema.operator().await, schema.operator().await);
    holds.batch_execute("BEGIN; LOCK TABLE history IN SHARE MODE").await.unwrap();
    // The caller goes away while the work is running.
    let call = super::lease::revoking(&store, &one);
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'history'::regclass AND NOT granted";
    super::soon("the revocation", async || {
        (operator.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    call.abort();
    let (first, second) = (store.clone(), store.clone());
    let closing = tokio::spawn(async move { first.close().await });
    super::lease::a_while().await;
    assert!(!closing.is_finished(), "something is still going on");
    assert!(
        matches!(second.find(&one.digest).await, Err(StoreError::Failed(_))),
        "nothing is begun any more"
    );
    holds.batch_execute("COMMIT").await.unwrap();
    timeout(Duration::from_secs(30), closing).await.expect("it ends").unwrap().unwrap();
    let revoked = operator.query_one("SELECT revoked_at IS NOT NULL FROM keys", &[]).await.unwrap();
    assert!(revoked.get::<_, bool>(0), "what was begun was done");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    super::soon("the end of the connections", async || {
        (operator.query_one(open, &[&schema.name]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    assert!(second.close().await.is_ok(), "a second time, too");
}
