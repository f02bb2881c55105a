//! c9: the change log, and calls that wait for the nodes that follow it.

use std::time::{Duration, Instant};

use test_kit::{project, user};
use tokio::task::JoinHandle;
use tower_api_key::store::{
    Accounts as _, Cached, Change, ChangeLog as _, Changes, Directory as _, KeyRegistry as _, KeyStore as _,
    Member, MemberRole, NodeId, Position, Project, RegistryError, Terms, WithDirectory, outlived,
};
use tower_api_key::{AccountStatus, Authority, KeyRecord, Role};
use tower_api_key_postgres::PostgresStore;

use super::proxy::{Fate, Proxy};
use super::{NOW, Schema, insert, is_active, key, nobody_holds_the_log, server_behind, soon, within};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

/// A node that does the steps of a cache by hand.
pub(super) struct Node {
    store: PostgresStore,
    pub(super) id: NodeId,
    pub(super) position: Position,
}

impl Node {
    pub(super) async fn join(store: &PostgresStore, lease: Duration) -> Self {
        let id = NodeId::random().unwrap();
        let position = store.join(&id, lease).await.unwrap();
        Self { store: store.clone(), id, position }
    }

    /// The new entries of the log, as words.
    pub(super) async fn read(&mut self) -> Vec<String> {
        let Changes { changes, position } = self.store.changes(&self.position).await.unwrap();
        self.position = position;
        words(&changes)
    }

    pub(super) async fn acknowledge(&self) -> bool {
        self.store.acknowledge(&self.id, &self.position).await.unwrap()
    }
}

pub(super) fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Key(digest) => {
            let names = ["one", "two", "three", "key"];
            let known = names.into_iter().find(|name| key(name, "u").digest.matches(digest));
            known.unwrap_or("another key").to_owned()
        }
        Change::Owner(user) => user.to_string(),
        other => format!("{other:?}"),
    };
    let mut words: Vec<_> = changes.iter().map(word).collect();
    words.sort();
    words.dedup();
    words
}

pub(super) fn revoking(store: &PostgresStore, key: &KeyRecord) -> JoinHandle<Result<bool, RegistryError>> {
    let (store, id) = (store.clone(), key.id.clone());
    tokio::spawn(async move {
        within("a revocation", store.revoke(&id, NOW, &Terms::by(Authority::System))).await
    })
}

/// Waits until the change is committed, so that queries of the store see it.
pub(super) async fn committed(store: &PostgresStore, key: &KeyRecord) {
    soon("the revocation", async || (!is_active(store, key).await).then_some(())).await;
}

/// Long enough for a call that does not wait to return within a few milliseconds.
pub(super) async fn a_while() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_01_a_change_returns_when_every_node_has_acknowledged_it() {
    let schema = Schema::new();
    let (store, elsewhere) = (schema.open().await, schema.open().await);
    let one = insert(&store, "one", "u").await;
    let mut nodes = [Node::join(&elsewhere, LONG).await, Node::join(&store, LONG).await];
    let call = revoking(&store, &one);
    committed(&elsewhere, &one).await;
    a_while().await;
    assert!(!call.is_finished(), "no node has acknowledged it");

    assert_eq!(nodes[0].read().await, ["one"]);
    assert!(nodes[0].acknowledge().await);
    a_while().await;
    assert!(!call.is_finished(), "one node has not acknowledged it");
    // An acknowledgement of an older position does not count for later changes.
    assert!(nodes[1].acknowledge().await);
    a_while().await;
    assert!(!call.is_finished(), "a node acknowledged something else");

    assert_eq!(nodes[1].read().await, ["one"]);
    assert!(nodes[1].acknowledge().await);
    call.await.unwrap().unwrap();
    assert_eq!(nodes[1].read().await, Vec::<String>::new(), "nothing is told twice");

    // A node that leaves is not waited for.
    for node in &nodes {
        node.store.leave(&node.id).await.unwrap();
        assert!(!node.acknowledge().await);
    }
    let began = Instant::now();
    insert(&store, "two", "u").await;
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_07_a_silent_node_is_fenced_exactly_when_its_lease_is_over() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (one, two) = (insert(&store, "one", "u").await, insert(&store, "two", "u").await);
    let lease = Duration::from_millis(400);
    let silent = Node::join(&store, lease).await;
    let began = Instant::now();
    store.revoke(&one.id, NOW, &Terms::by(Authority::System)).await.unwrap();
    assert!(began.elapsed() >= outlived(lease), "{:?}", began.elapsed());
    assert!(!silent.acknowledge().await, "it is told so");
    // The next call does not wait for it.
    let began = Instant::now();
    store.revoke(&two.id, NOW, &Terms::by(Authority::System)).await.unwrap();
    assert!(began.elapsed() < lease, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_06_transactions_that_commit_out_of_order_are_all_seen() {
    let schema = Schema::new();
    let store = schema.open().await;
    for name in ["one", "two", "three"] {
        insert(&store, name, "u").await;
    }
    let mut node = Node::join(&store, LONG).await;
    let (first, second) = (schema.operator().await, schema.operator().await);
    first.batch_execute("BEGIN; DELETE FROM keys WHERE id = 'one'").await.unwrap();
    second.batch_execute("BEGIN; DELETE FROM keys WHERE id = 'two'; COMMIT").await.unwrap();
    assert_eq!(node.read().await, ["two"]);
    assert_eq!(node.read().await, Vec::<String>::new());
    second.batch_execute("BEGIN; DELETE FROM keys WHERE id = 'three'; ROLLBACK").await.unwrap();
    assert_eq!(node.read().await, Vec::<String>::new(), "what was rolled back has not happened");
    first.batch_execute("COMMIT").await.unwrap();
    assert_eq!(node.read().await, ["one"], "drawn before, committed after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_12_a_revocation_that_is_repeated_waits_for_the_first() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (one, two) = (insert(&store, "one", "u").await, insert(&store, "two", "u").await);
    store.create_account("a", &user("alice")).await.unwrap();
    store.set_member("a", &user("bob"), &Member::new(MemberRole::Full, [])).await.unwrap();
    let mut node = Node::join(&store, LONG).await;

    let lost = revoking(&store, &one);
    committed(&store, &one).await;
    lost.abort();
    let again = revoking(&store, &one);
    // The removal was committed, but its answer was lost. The second call finds nothing to remove.
    let gone = tokio::spawn({
        let store = store.clone();
        async move {
            let bob = user("bob");
            let removing = store.remove_member("a", &bob, NOW);
            drop(tokio::time::timeout(Duration::from_millis(300), removing).await);
            store.remove_member("a", &bob, NOW).await
        }
    });
    a_while().await;
    a_while().await;
    a_while().await;
    assert!(!again.is_finished() && !gone.is_finished(), "the first attempt is not acknowledged");
    assert_eq!(node.read().await, ["bob", "one"]);
    node.acknowledge().await;
    soon("the answer", async || {
        node.read().await;
        node.acknowledge().await;
        (again.is_finished() && gone.is_finished()).then_some(())
    })
    .await;
    again.await.unwrap().unwrap();
    assert!(matches!(gone.await.unwrap(), Err(RegistryError::NotFound)));

    // If the connection breaks between the commit and the acknowledgement, the error says so.
    let (server, _) = server_behind(0);
    let proxy = Proxy::to(server).await;
    let (_, through) = server_behind(proxy.port);
    let cut_off = schema.options_at(&through).deadline(Duration::from_millis(300)).unwrap();
    let cut_off = cut_off.connect().await.unwrap();
    let call = revoking(&cut_off, &two);
    committed(&store, &two).await;
    a_while().await;
    proxy.all_to_come(Fate::Drop);
    proxy.all_of_now(Fate::Drop);
    let failed = call.await.unwrap();
    let text = format!("{failed:?}");
    assert!(matches!(failed, Err(RegistryError::Store(_))) && text.contains("Unacknowledged"), "{text}");
}

/// Plain SQL gets into the log, whatever it changes (C9-17).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_17_changes_by_an_operator_are_in_the_log() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    insert(&store, "one", "u").await;
    store.create_account("a", &user("alice")).await.unwrap();
    store.create_account("b", &user("dave")).await.unwrap();
    for id in ["p1", "p2"] {
        store.create_project("a", &Project::new(project(id), "")).await.unwrap();
    }
    for member in ["bob", "carol"] {
        store.set_member("a", &user(member), &Member::new(MemberRole::Full, [])).await.unwrap();
    }
    let mut node = Node::join(&store, LONG).await;
    for (sql, seen) in [
        ("UPDATE keys SET revoked_at = 1 WHERE id = 'one'", vec!["one"]),
        ("SET session_replication_role = replica; UPDATE keys SET name = '\"x\"'", vec!["one"]),
        ("RESET session_replication_role; DELETE FROM keys", vec!["one"]),
        ("INSERT INTO access VALUES ('bob', 'a', 'p1')", vec!["bob"]),
        ("DELETE FROM access", vec!["bob"]),
        ("UPDATE people SET role = 'READONLY' WHERE user_id = 'carol'", vec!["carol"]),
        ("DELETE FROM people WHERE user_id = 'carol'", vec!["carol"]),
        ("INSERT INTO people VALUES ('carol', 'a', 'FULL')", vec!["carol"]),
        ("UPDATE projects SET deleted = true WHERE id = 'p2'", vec!["alice", "bob", "carol"]),
        ("UPDATE accounts SET suspended = true WHERE id = 'b'", vec!["dave"]),
        ("UPDATE accounts SET suspended = false", vec!["alice", "bob", "carol", "dave"]),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE accounts SET suspended = true WHERE id = 'b'; COMMIT",
            vec!["Everything"],
        ),
        ("TRUNCATE keys", vec!["Everything"]),
        ("TRUNCATE access", vec!["Everything"]),
        // Nodes keep nothing from this table.
        ("UPDATE nodes SET seen_at = seen_at", vec![]),
    ] {
        operator.batch_execute(sql).await.unwrap();
        assert_eq!(node.read().await, seen, "{sql}");
    }
}

/// If an account is changed as a whole while a new member is added, the log names the new member, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_a_member_added_during_a_suspension_is_in_the_log() {
    let schema = Schema::new();
    let store = schema.open().await;
    store.create_account("a", &user("alice")).await.unwrap();
    let mut node = Node::join(&store, LONG).await;
    let (coming, suspending) = (schema.operator().await, schema.operator().await);
    coming.batch_execute("BEGIN; INSERT INTO people VALUES ('bob', 'a', 'FULL')").await.unwrap();
    let suspended = tokio::spawn(async move {
        suspending.batch_execute("UPDATE accounts SET suspended = true").await.unwrap();
    });
    a_while().await;
    assert!(!suspended.is_finished(), "it waits for the newcomer");
    coming.batch_execute("COMMIT").await.unwrap();
    assert!(node.read().await.contains(&"bob".to_owned()));
    suspended.await.unwrap();
    node.read().await;
    let operator = schema.operator().await;
    let logged = "SELECT count(*) FROM changes WHERE owner = 'bob'";
    assert_eq!(operator.query_one(logged, &[]).await.unwrap().get::<_, i64>(0), 2, "once for each change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_08_unknown_positions_mean_everything() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    let mut node = Node::join(&store, LONG).await;
    let late = Node::join(&store, LONG).await;
    let everything = async |position: &str| {
        let changes = store.changes(&Position::new(position)).await.unwrap();
        words(&changes.changes) == ["Everything"]
    };
    let here = node.position.as_str().to_owned();
    let (era, snapshot) = here.split_once('/').unwrap();
    assert!(!everything(&here).await);
    assert!(everything(&format!("{}/{snapshot}", era.parse::<i64>().unwrap() - 1)).await, "before a restart");
    assert!(everything(&format!("{era}/1:999999999999:")).await, "of a server that was restored");
    for none in ["", "1", "1/", "x/1:1:", &format!("{era}/1:0:")] {
        assert!(store.changes(&Position::new(none)).await.is_err(), "{none}");
    }

    // The log is pruned when all nodes have seen it. A node that was fenced meanwhile gets `Everything`.
    let _alone = nobody_holds_the_log().await;
    let stale = late.position.clone();
    store.leave(&late.id).await.unwrap();
    let following = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..70 {
                insert(&store, &format!("key{number}"), "u").await;
            }
        }
    });
    while !following.is_finished() {
        node.read().await;
        assert!(node.acknowledge().await);
    }
    following.await.unwrap();
    let left = "SELECT count(*) FROM changes";
    soon("the cleaning up", async || {
        let left: i64 = operator.query_one(left, &[]).await.unwrap().get(0);
        (left < 70).then_some(())
    })
    .await;
    assert!(everything(stale.as_str()).await, "older than what was taken out");
    assert!(!everything(node.position.as_str()).await);

    // An acknowledgement from before a restart does not count after it.
    operator.batch_execute("UPDATE nodes SET era = 1, acked = '1:999999999999:'").await.unwrap();
    let call = revoking(&store, &key("key0", "u"));
    committed(&store, &key("key0", "u")).await;
    a_while().await;
    assert!(!call.is_finished());
    node.read().await;
    assert!(node.acknowledge().await);
    call.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_05_hints_arrive_and_waiting_calls_hold_no_connection() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    let one = insert(&store, "one", "u").await;
    // The first hint says that the store is listening now.
    tokio::time::timeout(Duration::from_secs(10), store.hint()).await.unwrap();
    operator.batch_execute("UPDATE keys SET name = '\"x\"'").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), store.hint()).await.unwrap();

    // Twenty changes wait on five connections, and other calls still work.
    for number in 0..20 {
        insert(&store, &format!("key{number}"), "u").await;
    }
    let mut node = Node::join(&store, LONG).await;
    let calls: Vec<_> = (0..20).map(|number| revoking(&store, &key(&format!("key{number}"), "u"))).collect();
    for number in 0..20 {
        committed(&store, &key(&format!("key{number}"), "u")).await;
    }
    assert!(is_active(&store, &one).await);
    assert!(store.get(&one.id).await.unwrap().is_some());
    assert!(!calls.iter().any(JoinHandle::is_finished));
    node.read().await;
    assert!(node.acknowledge().await);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// The whole stack: three nodes with caches. None of them accepts a revoked key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_01_three_nodes_with_caches_never_accept_a_revoked_key() {
    let schema = Schema::new();
    let store = schema.open().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Cached::start(schema.open().await));
    }
    let mut took = Vec::new();
    for round in 0..100 {
        let name = format!("key{round}");
        let known = insert(&store, &name, "u").await;
        for node in &nodes {
            let found = node.find(&known.digest).await.unwrap();
            assert!(found.is_some_and(|key| key.is_active(NOW)), "{name}: an added key is seen at once");
        }
        let began = Instant::now();
        store.revoke(&known.id, NOW, &Terms::by(Authority::System)).await.unwrap();
        took.push(began.elapsed());
        for node in &nodes {
            if let Some(warm) = tower_api_key::store::KeyStore::find_cached(node, &known.digest).known() {
                assert!(warm.is_some_and(|key| !key.is_active(NOW)), "{name}");
            }
            let found = node.find(&known.digest).await.unwrap();
            assert!(found.is_some_and(|key| !key.is_active(NOW)), "{name}");
        }
    }
    took.sort();
    println!("revocations with three nodes: p50 {:?}, p99 {:?}", took[50], took[99]);
    for node in nodes {
        node.shutdown().await;
    }
}

/// A lease may be longer than callers wait for a change. The first call may then give up before the lease ends, but
/// the node must not block all later calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_07_a_silent_node_is_fenced_even_if_no_caller_waits_that_long() {
    let schema = Schema::new();
    let store = schema.open().await;
    let one = insert(&store, "one", "u").await;
    let lease = Duration::from_millis(600);
    let _silent = Node::join(&store, lease).await;
    let began = Instant::now();
    // Every repeated call starts to wait from the beginning.
    let returned = loop {
        let terms = Terms::by(Authority::System);
        let call = store.revoke(&one.id, NOW, &terms);
        match tokio::time::timeout(lease / 3, call).await {
            Ok(done) => break done,
            Err(_) if began.elapsed() < lease * 10 => {}
            Err(_) => panic!("a change that is repeated waits for ever"),
        }
    };
    returned.unwrap();
    assert!(began.elapsed() >= lease, "before the lease was over");
}

/// A directory of the application that gives the same answer for everybody.
#[derive(Clone, Default)]
struct Staff(std::sync::Arc<std::sync::atomic::AtomicBool>);

#[async_trait::async_trait]
impl tower_api_key::store::Directory for Staff {
    async fn account_status(
        &self,
        _: &tower_api_key::UserId,
        _: Option<&tower_api_key::ProjectId>,
    ) -> Result<AccountStatus, tower_api_key::store::StoreError> {
        let gone = self.0.load(std::sync::atomic::Ordering::SeqCst);
        Ok(if gone { AccountStatus::Disabled } else { AccountStatus::Active { role: Some(Role::Owner) } })
    }
}

/// If one node announces a change in a directory outside of the store, every node knows it once the call has returned
/// (R42).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn r42_a_change_in_a_directory_of_the_application_is_announced_to_every_node() {
    let schema = Schema::new();
    let (staff, owner) = (Staff::default(), user("u"));
    let (one, two) = (schema.open().await, schema.open().await);
    let nodes = [one, two].map(|store| Cached::start(WithDirectory::new(store, staff.clone())));
    for node in &nodes {
        soon("a lease", async || node.has_lease().then_some(())).await;
        for _ in 0..2 {
            let status = node.account_status(&owner, None).await.unwrap();
            assert_eq!(status, AccountStatus::Active { role: Some(Role::Owner) });
        }
        assert!(node.account_status_cached(&owner, None).is_some(), "it is remembered");
    }
    staff.0.store(true, std::sync::atomic::Ordering::SeqCst);
    nodes[0].invalidate(&owner).await.unwrap();
    for node in &nodes {
        assert_eq!(node.account_status(&owner, None).await.unwrap(), AccountStatus::Disabled);
    }
    for node in &nodes {
        node.shutdown().await;
    }
}
