//! c17: the change log while a transaction stays open, and other defects of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::MutexGuard;
use tokio::time::timeout;
use tokio_postgres::Client;
use tower_api_key::Authority;
use tower_api_key::observer::{Observer, Warning};
use tower_api_key::store::{
    CacheOptions, Cached, ChangeLog as _, KeyRegistry as _, KeyStore, Position, Terms,
};
use tower_api_key_postgres::PostgresStore;

use super::lease::{Node, a_while, committed, revoking, words};
use super::{NOW, Schema, insert, is_active, key, nobody_holds_the_log, revoke, soon};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

/// An open transaction with an assigned id that does nothing more, like that of an application that forgot it.
struct Forgotten {
    _client: Client,
    _alone: MutexGuard<'static, ()>,
}

impl Forgotten {
    async fn begin(schema: &Schema) -> Self {
        let alone = nobody_holds_the_log().await;
        let client = schema.operator().await;
        client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        Self { _client: client, _alone: alone }
    }
}

/// Inserts this many changes in one statement.
async fn many_changes(operator: &Client, rows: i64) {
    let sql = "INSERT INTO changes (digest) SELECT sha256(number::text::bytea) FROM generate_series(1, $1::bigint) AS number";
    operator.execute(sql, &[&rows]).await.unwrap();
}

async fn length(operator: &Client) -> i64 {
    operator.query_one("SELECT count(*) FROM changes", &[]).await.unwrap().get(0)
}

#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Observer for Warnings {
    fn warned(&self, warning: Warning) {
        assert_eq!(warning, Warning::ChangeLogGrows);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A new process, which prunes the log at its first read.
async fn cleans_up(schema: &Schema) -> (PostgresStore, Warnings) {
    let warnings = Warnings::default();
    let store = schema.options().observer(warnings.clone()).connect().await.unwrap();
    let node = Node::join(&store, LONG).await;
    store.changes(&node.position).await.unwrap();
    store.leave(&node.id).await.unwrap();
    (store, warnings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_b10_a_round_reads_only_new_entries_while_a_transaction_stays_open() {
    const ROWS: i64 = 40_000;
    const ROUNDS: i64 = 50;
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    let one = insert(&store, "one", "u").await;
    let forgotten = Forgotten::begin(&schema).await;
    let mut node = Node::join(&store, LONG).await;
    many_changes(&operator, ROWS).await;
    assert_eq!(node.read().await, ["Everything"], "more than is told one by one");
    for round in 0..ROUNDS {
        assert_eq!(node.read().await, Vec::<String>::new());
        if round == ROUNDS / 2 {
            operator.batch_execute("UPDATE keys SET name = '\"x\"'").await.unwrap();
            assert_eq!(node.read().await, ["one"]);
        }
    }
    assert!(node.acknowledge().await);
    revoke_with(&store, &mut node, &one).await;
    drop((node, store, forgotten));
    // Connections report their statistics when they end. Pruning also reads the whole log once or twice.
    let read = "
        SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint, n_tup_ins
        FROM pg_stat_user_tables WHERE relid = 'changes'::regclass";
    let (read, _): (i64, i64) = soon("the figures", async || {
        let row = operator.query_one(read, &[]).await.unwrap();
        let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tower-api-key' AND query LIKE $1";
        let open = operator.query_one(connections, &[&format!("%{}%", schema.name)]).await.unwrap();
        (open.get::<_, i64>(0) == 0 && row.get::<_, i64>(1) > ROWS).then(|| (row.get(0), row.get(1)))
    })
    .await;
    println!("{read} rows were read in {ROUNDS} rounds, of a log of {ROWS}");
    assert!(read < ROWS * ROUNDS / 5, "{read}");
}

/// Revokes a key while the node follows the log.
async fn revoke_with(store: &PostgresStore, node: &mut Node, one: &tower_api_key::KeyRecord) {
    let call = revoking(store, one);
    committed(store, one).await;
    node.read().await;
    assert!(node.acknowledge().await);
    timeout(LONG / 4, call).await.expect("it is acknowledged").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_b10_a_log_that_cannot_be_pruned_is_folded_and_nodes_behind_get_everything() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    insert(&store, "one", "u").await;
    let forgotten = Forgotten::begin(&schema).await;
    let mut node = Node::join(&store, LONG).await;
    let stale = node.position.clone();
    let (late, later) = (schema.operator().await, schema.operator().await);
    late.batch_execute("BEGIN; DELETE FROM keys WHERE id = 'one'").await.unwrap();
    many_changes(&operator, 49_000).await;
    let (_, quiet) = cleans_up(&schema).await;
    a_while().await;
    assert!(
        length(&operator).await >= 49_000,
        "what is not too much is kept, for those who have not seen it"
    );
    assert_eq!(quiet.0.load(Ordering::SeqCst), 0);

    many_changes(&operator, 2_000).await;
    let (_, warnings) = cleans_up(&schema).await;
    soon("the folding", async || (length(&operator).await < 100).then_some(())).await;
    soon("the warning", async || (warnings.0.load(Ordering::SeqCst) == 1).then_some(())).await;
    assert_eq!(node.read().await, ["Everything"]);
    assert_eq!(node.read().await, Vec::<String>::new(), "and once only");
    // Later changes are reported one by one, also those of transactions that began before.
    later.batch_execute("INSERT INTO keys SELECT * FROM keys WHERE false; SELECT 1").await.unwrap();
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.read().await, ["one"]);
    let told = store.changes(&stale).await.unwrap();
    assert!(words(&told.changes).contains(&"Everything".to_owned()), "told: {told:?}");
    // A second time, while the row for `Everything` is one of many.
    many_changes(&operator, 52_000).await;
    node.read().await;
    drop(cleans_up(&schema).await);
    soon("the folding", async || (length(&operator).await < 100).then_some(())).await;
    assert_eq!(node.read().await, ["Everything"]);
    let told = store.changes(&stale).await.unwrap();
    assert!(words(&told.changes).contains(&"Everything".to_owned()), "told: {told:?}");

    // After the transaction has ended, the whole log is pruned, and an old position is worthless.
    drop(forgotten);
    let _alone = nobody_holds_the_log().await;
    assert!(node.acknowledge().await);
    drop(cleans_up(&schema).await);
    soon("the cleaning up", async || {
        node.read().await;
        assert!(node.acknowledge().await);
        drop(cleans_up(&schema).await);
        (length(&operator).await == 0).then_some(())
    })
    .await;
    assert_eq!(words(&store.changes(&stale).await.unwrap().changes), ["Everything"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_b10_a_row_that_stays_for_an_hour_is_a_warning() {
    let old_row = "INSERT INTO changes (at) VALUES (clock_timestamp() - interval '61 minutes')";
    let schema = Schema::new();
    let operator = schema.operator().await;
    drop(schema.open().await);
    // An old row alone is no reason for a warning: perhaps nothing has changed for a long time.
    operator.execute(old_row, &[]).await.unwrap();
    {
        let _alone = nobody_holds_the_log().await;
        let warned = soon("the cleaning up", async || {
            let (_, warnings) = cleans_up(&schema).await;
            a_while().await;
            (length(&operator).await == 0).then_some(warnings)
        });
        assert_eq!(warned.await.0.load(Ordering::SeqCst), 0);
    }

    let _forgotten = Forgotten::begin(&schema).await;
    operator
        .execute("INSERT INTO changes (at) VALUES (clock_timestamp() - interval '59 minutes')", &[])
        .await
        .unwrap();
    let (_, warnings) = cleans_up(&schema).await;
    a_while().await;
    assert_eq!(warnings.0.load(Ordering::SeqCst), 0, "not yet an hour");
    operator.execute("UPDATE changes SET at = at - interval '2 minutes'", &[]).await.unwrap();
    let (store, warnings) = cleans_up(&schema).await;
    soon("the warning", async || (warnings.0.load(Ordering::SeqCst) == 1).then_some(())).await;
    // The warning is repeated at most once an hour, however often the log is read.
    for number in 0..130 {
        insert(&store, &format!("key{number}"), "u").await;
    }
    a_while().await;
    assert_eq!(warnings.0.load(Ordering::SeqCst), 1);
}

/// A transaction gets its id early and commits late. A node that has seen a later id has not seen this transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_g_a_change_that_is_committed_late_waits_for_the_next_acknowledgement() {
    let schema = Schema::new();
    let store = schema.options().deadline(Duration::from_secs(20)).unwrap().connect().await.unwrap();
    let (one, two) = (insert(&store, "one", "u").await, insert(&store, "two", "u").await);
    let mut node = Node::join(&store, LONG).await;
    let (holds, operator) = (schema.operator().await, schema.operator().await);
    // After its UPDATE, a revocation writes into the history. This lock assigns no transaction id.
    holds.batch_execute("BEGIN; LOCK TABLE history IN SHARE MODE").await.unwrap();
    let call = revoking(&store, &one);
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'history'::regclass AND NOT granted";
    soon("the revocation", async || {
        (operator.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    operator.batch_execute("UPDATE keys SET name = '\"x\"' WHERE id = 'two'").await.unwrap();
    assert_eq!(node.read().await, ["two"]);
    assert!(node.acknowledge().await, "of a later number");
    holds.batch_execute("COMMIT").await.unwrap();
    committed(&store, &one).await;
    a_while().await;
    assert!(!call.is_finished(), "the node has acknowledged a later number, and not this change");

    assert_eq!(node.read().await, ["one"]);
    assert!(node.acknowledge().await);
    timeout(LONG / 4, call).await.expect("it is acknowledged").unwrap().unwrap();
    assert!(is_active(&store, &two).await && !is_active(&store, &one).await);
}

/// Up to this number, changes are reported one by one. With one more, the result is `Everything`, so that no change
/// is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_g_no_change_is_lost_above_the_limit_of_reported_changes() {
    const MOST: usize = 10_000;
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    insert(&store, "one", "u").await;
    // Prevents pruning.
    let _forgotten = Forgotten::begin(&schema).await;
    let node = Node::join(&store, LONG).await;
    let rename = "UPDATE keys SET name = '\"x\"'";
    many_changes(&operator, MOST as i64 - 1).await;
    operator.batch_execute(rename).await.unwrap();
    let told = store.changes(&node.position).await.unwrap();
    assert_eq!(told.changes.len(), MOST);
    assert_eq!(words(&told.changes), ["another key", "one"]);
    operator.batch_execute(rename).await.unwrap();
    let told = store.changes(&node.position).await.unwrap();
    assert_eq!(words(&told.changes), ["Everything"]);
    // A node that has read it continues from there.
    assert!(store.changes(&told.position).await.unwrap().changes.is_empty());
}

/// A node that keeps running after the server was restarted or restored has a position of the earlier run of the
/// server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_g_a_position_of_another_run_of_the_server_does_not_count() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    insert(&store, "one", "u").await;
    let node = Node::join(&store, LONG).await;
    let (era, snapshot) = node.position.as_str().split_once('/').unwrap();
    let era: i64 = era.parse().unwrap();
    assert!(store.changes(&node.position).await.unwrap().changes.is_empty());
    for other in [era - 1, era + 1, 0, 1, -era, i64::MAX, i64::MIN] {
        let told = store.changes(&Position::new(format!("{other}/{snapshot}"))).await.unwrap();
        assert_eq!(words(&told.changes), ["Everything"], "{other}");
        assert!(told.position.as_str().starts_with(&format!("{era}/")), "{:?}", told.position);
        assert!(store.changes(&told.position).await.unwrap().changes.is_empty(), "{other:?}");
        // Such a position does not acknowledge changes of this run, either.
        let acked = store.acknowledge(&node.id, &Position::new(format!("{other}/{snapshot}"))).await;
        assert!(acked.unwrap(), "{other:?}");
        let ours = "SELECT count(*) FROM nodes WHERE era = era()";
        assert_eq!(operator.query_one(ours, &[]).await.unwrap().get::<_, i64>(0), 0, "{other}");
    }
}

/// A node whose rounds are fifteen seconds apart: it can only read in time because of hints.
async fn rare_rounds(schema: &Schema) -> Cached<PostgresStore> {
    let cached = CacheOptions::new().lease(LONG).unwrap().start(schema.open().await);
    soon("the lease", async || cached.has_lease().then_some(())).await;
    cached
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_g_a_node_with_a_long_lease_gets_hints() {
    let schema = Schema::new();
    let store = schema.open().await;
    let cached = rare_rounds(&schema).await;
    let mut took = Vec::new();
    let changes = async {
        for number in 0..6 {
            let known = insert(&store, &format!("key{number}"), "u").await;
            assert!(cached.find(&known.digest).await.unwrap().is_some_and(|key| key.is_active(NOW)));
            let began = Instant::now();
            revoke(&store, &known).await;
            took.push(began.elapsed());
            assert!(cached.find(&known.digest).await.unwrap().is_some_and(|key| !key.is_active(NOW)));
        }
    };
    timeout(LONG / 6, changes)
        .await
        .expect("the node is told: by itself it reads after a quarter of a minute");
    took.sort();
    println!("revocations with a node whose lease is a minute: {took:?}");
    // Only the fastest counts, because the slowest depend on other load on this machine.
    assert!(took[0] < Duration::from_secs(1), "{took:?}");
    timeout(LONG, cached.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_g_a_node_after_shutdown_asks_the_database_and_delays_no_change() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    let known = insert(&store, "key", "u").await;
    let cached = rare_rounds(&schema).await;
    assert!(cached.find(&known.digest).await.unwrap().is_some());
    timeout(LONG / 4, cached.shutdown()).await.expect("it ends");
    assert!(!cached.has_lease());
    assert!(!KeyStore::find_cached(&cached, &known.digest).is_hit());
    let nodes = operator.query_one("SELECT count(*) FROM nodes", &[]).await.unwrap();
    assert_eq!(nodes.get::<_, i64>(0), 0);
    let terms = Terms::by(Authority::System);
    let revoked = store.revoke(&known.id, NOW, &terms);
    timeout(LONG / 4, revoked).await.expect("nobody is waited for").unwrap();
    assert!(!KeyStore::find_cached(&cached, &known.digest).is_hit());
    assert!(cached.find(&known.digest).await.unwrap().is_some_and(|key| !key.is_active(NOW)));
    assert!(cached.find(&key("none", "u").digest).await.unwrap().is_none());
}
