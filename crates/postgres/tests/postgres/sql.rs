//! Other clients of the same database: a second store, an operator's SQL, another application.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use test_kit::{project, user};
use tokio_postgres::NoTls;
use tower_api_key::restriction::{EndpointRestriction, Restrictions};
use tower_api_key::store::{
    Accounts as _, CacheOptions, ChangeLog as _, Directory as _, KeyRegistry as _, KeyStore as _, Member,
    MemberRole, NodeId, Project, RegistryError, StoreError, Terms,
};
use tower_api_key::{AccountStatus, Authority, KeyPolicy, Keyring, NewKey};
use tower_api_key_postgres::PostgresOptions;

use super::{NO_ACCESS, NOW, OWNER, Schema, insert, is_active, revoke, server};
use tower_api_key::store::{AuditLog as _, ProjectDirectory as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn several_may_start_at_once() {
    let schema = Schema::new();
    let started: Vec<_> = (0..8)
        .map(|_| {
            let options = schema.options();
            tokio::spawn(async move { options.connect().await })
        })
        .collect();
    for one in started {
        one.await.unwrap().unwrap();
    }
    let version = schema.operator().await.query_one("SELECT version FROM version", &[]).await.unwrap();
    assert_eq!(version.get::<_, i32>(0), 3);
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn foreign_and_newer_schemas_are_refused_and_not_changed() {
    let (newer, foreign) = (Schema::new(), Schema::new());
    drop(newer.open().await);
    let operator = newer.operator().await;
    operator.execute("UPDATE version SET version = 99", &[]).await.unwrap();
    let refused = newer.options().connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("Newer"), "{refused:?}");

    operator
        .batch_execute(&format!("CREATE SCHEMA {0}; CREATE TABLE {0}.keys (id text)", foreign.name))
        .await
        .unwrap();
    let refused = foreign.options().connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("Foreign"), "{refused:?}");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1)";
    assert_eq!(operator.query_one(tables, &[&foreign.name]).await.unwrap().get::<_, i64>(0), 1);
}

/// A schema of the previous release, with an account and a key.
async fn of_version_1(schema: &Schema) -> tokio_postgres::Client {
    let name = &schema.name;
    let operator = super::connect(&server()).await;
    operator.batch_execute(&format!("CREATE SCHEMA {name}; SET search_path = {name}")).await.unwrap();
    let tables = include_str!("../../migrations/postgres-1.sql").replace("tower_api_key", name);
    operator.batch_execute(&tables).await.unwrap();
    let rows = "
        CREATE TABLE version (one boolean NOT NULL PRIMARY KEY CHECK (one), version integer NOT NULL);
        INSERT INTO version VALUES (true, 1);
        INSERT INTO accounts VALUES ('acme', false);
        INSERT INTO people VALUES ('alice', 'acme', 'OWNER');";
    operator.batch_execute(rows).await.unwrap();
    let digest = tower_api_key::KeyDigest::of("of_before");
    let key = "
        INSERT INTO keys VALUES ($1::bytea, 'sha256', 'key_1', 'alice', 'USER', NULL, 'live', '\"CI\"', 'sk_live_', 'a1Z9', '[]',
            '{}', '{}', 'none', 'key_1', 1, NULL, NULL, NULL, NULL)";
    operator.execute(key, &[&digest.as_bytes().as_slice()]).await.unwrap();
    operator
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_d7_an_older_database_accepts_ids_of_identity_providers() {
    const KEYS: &str = "SELECT count(*) FROM keys WHERE owner = $1::text";
    let schema = Schema::new();
    let before = of_version_1(&schema).await;
    // A statement that a node of the previous release has prepared still works.
    let prepared = before.prepare(KEYS).await.unwrap();

    let store = schema.open().await;
    let old = store.find(&tower_api_key::KeyDigest::of("of_before")).await.unwrap().unwrap();
    assert_eq!((old.owner.as_str(), &*old.name), ("alice", "CI"));
    for id in ["auth0|5f7c", "a+b@example.com", "dXNlcg=="] {
        store.create_account(&id.replace(['|', '+', '='], "."), &user(id)).await.unwrap();
        let key = insert(&store, &format!("key_{}", id.len()), id).await;
        assert!(is_active(&store, &key).await, "{id:?}");
        assert_eq!(store.account_status(&user(id), None).await.unwrap(), OWNER, "{id:?}");
        assert_eq!(before.query_one(&prepared, &[&id]).await.unwrap().get::<_, i64>(0), 1);
        revoke(&store, &key).await;
        assert_eq!(store.history(&key.id, 10).await.unwrap().len(), 2, "{id:?}");
    }
    // The previous release can still write the same rows, and all other ids have the same rules as before.
    before.execute("INSERT INTO people VALUES ('bob', 'acme', 'FULL')", &[]).await.unwrap();
    for wrong in [
        "INSERT INTO people VALUES ('a b', 'acme', 'FULL')",
        "INSERT INTO accounts VALUES ('a|b', false)",
        "INSERT INTO projects VALUES ('acme', 'p|1', '\"\"', false)",
        "INSERT INTO history (key, owner, at, by, event) VALUES ('key|1', 'alice', 1, 'system', 'issued')",
        "INSERT INTO usage VALUES ('key|1', 'direct', 1, 1)",
        "UPDATE keys SET replaced_by = 'key|1', replaced_at = 1 WHERE id = 'key_1'",
    ] {
        assert!(before.execute(wrong, &[]).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_b2_a_cache_holds_no_more_bytes_than_it_was_given() {
    const BYTES: usize = 200_000;
    let schema = Schema::new();
    let store = schema.open().await;
    let entries: Vec<String> = (0..100).map(|entry| format!("GET /{entry:02}/{}", "x".repeat(60))).collect();
    let heavy = Restrictions::none().endpoints(EndpointRestriction::allow(entries).unwrap());
    let mut keys = Vec::new();
    for number in 0..60 {
        let mut key = super::key(&format!("key_{number}"), "alice");
        key.restrictions = heavy.clone();
        let terms = Terms::by(Authority::System).policy(super::MANY);
        store.insert(key.clone(), &terms).await.unwrap();
        keys.push(key);
    }
    let options = CacheOptions::new().bytes(NonZero::new(BYTES).unwrap());
    let cached = options.start(store);
    super::soon("the lease", async || cached.has_lease().then_some(())).await;
    let mut most = 0;
    for key in &keys {
        let found = cached.find(&key.digest).await.unwrap().unwrap();
        assert_eq!(found.restrictions, heavy);
        assert!(cached.bytes() <= BYTES, "{} bytes", cached.bytes());
        most = most.max(cached.len());
    }
    // Each key needs at least its text, so not all of them fit, but many do.
    assert!((10..BYTES / heavy.text_len()).contains(&most), "{most} keys");
    cached.shutdown().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn a_pool_of_the_application_can_be_used() {
    let schema = Schema::new();
    let pool = |size| {
        let manager = Manager::new(server().parse().unwrap(), NoTls);
        Pool::builder(manager).max_size(size).build().unwrap()
    };
    let store = PostgresOptions::on_pool(pool(5)).schema(&schema.name).unwrap().connect().await.unwrap();
    let key = insert(&store, "key", "u").await;
    assert!(is_active(&store, &key).await);
    let few = PostgresOptions::on_pool(pool(4)).schema(&schema.name).unwrap().connect().await;
    assert!(matches!(few, Err(StoreError::Failed(_))));
}

/// A closed store starts no new work, even if its pool is still used by others.
#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_g_a_store_that_was_closed_ends_also_on_a_pool_of_the_applications_own() {
    let schema = Schema::new();
    let manager = Manager::new(server().parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(5).build().unwrap();
    let on_pool = || PostgresOptions::on_pool(pool.clone()).schema(&schema.name).unwrap();
    let (store, other) = (on_pool().connect().await.unwrap(), on_pool().connect().await.unwrap());
    let known = insert(&store, "key", "u").await;
    store.clone().close().await.unwrap();
    let (node, terms) = (NodeId::random().unwrap(), Terms::by(Authority::System));
    assert!(matches!(store.find(&known.digest).await, Err(StoreError::Failed(_))));
    assert!(matches!(store.account_status(&user("u"), None).await, Err(StoreError::Failed(_))));
    assert!(matches!(store.get(&known.id).await, Err(StoreError::Failed(_))));
    let revoked = store.revoke(&known.id, NOW, &terms).await;
    assert!(matches!(revoked, Err(RegistryError::Store(StoreError::Failed(_)))), "revoked: {revoked:?}");
    assert!(store.join(&node, Duration::from_secs(60)).await.is_err());
    // The pool, and the other store that uses it, still work.
    assert!(is_active(&other, &known).await && !pool.is_closed());
    revoke(&other, &known).await;
    assert!(!is_active(&other, &known).await);
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_04_a_replica_is_not_used() {
    let schema = Schema::new();
    let key = insert(&schema.open().await, "key", "u").await;
    // A server that reports to be in recovery from some time on.
    let operator = schema.operator().await;
    operator
        .batch_execute(
            "CREATE TABLE recovery (now boolean); INSERT INTO recovery VALUES (false);
             CREATE FUNCTION pg_is_in_recovery() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT now FROM recovery'",
        )
        .await
        .unwrap();
    let search = format!(
        "{0}options=-csearch_path%3D{1}%2Cpg_catalog",
        if server().contains('?') { "&" } else { "?" },
        schema.name
    );
    let options = || schema.options_at(&format!("{}{search}", server()));
    let store = options().connect().await.unwrap();
    assert!(is_active(&store, &key).await);
    operator.execute("UPDATE recovery SET now = true", &[]).await.unwrap();
    for digest in [key.digest, super::key("none", "u").digest] {
        let refused = store.find(&digest).await.unwrap_err();
        assert!(format!("{refused:?}").contains("Standby"), "{refused:?}");
    }
    assert!(matches!(store.account_status(&user("u"), None).await, Err(StoreError::Failed(_))));
    assert!(matches!(store.projects(&user("u")).await, Err(StoreError::Failed(_))));
    let refused = options().connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("Standby"), "{refused:?}");
    operator.execute("UPDATE recovery SET now = false", &[]).await.unwrap();
    assert!(is_active(&store, &key).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_18_a_revocation_is_seen_through_another_store_at_once() {
    let schema = Schema::new();
    let (one, other) = (schema.open().await, schema.open().await);
    for round in 0..50 {
        let key = insert(&one, &format!("key{round}"), "u").await;
        assert!(is_active(&other, &key).await);
        revoke(&one, &key).await;
        assert!(!is_active(&other, &key).await);
    }
}

/// A thousand rotations, two at a time, under a policy of one key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_03_of_racing_rotations_one_key_is_left() {
    let schema = Schema::new();
    let (one, other) = (schema.open().await, schema.open().await);
    one.create_account("a", &user("u")).await.unwrap();
    let (first, second) = (
        Keyring::new(one.clone()).policy(KeyPolicy::Single { grace: false }),
        Keyring::new(other.clone()).policy(KeyPolicy::Single { grace: false }),
    );
    let operator = schema.operator().await;
    let active = "SELECT id FROM keys WHERE owner = 'u' AND revoked_at IS NULL";
    let _ = first.issue(NewKey::user_level(user("u"), "key")).await.unwrap();
    for round in 0..500 {
        let now: String = operator.query_one(active, &[]).await.unwrap().get(0);
        let id = tower_api_key::KeyId::new(now).unwrap();
        let (rotated, raced) = tokio::join!(first.rotate(&id, tower_api_key::Grace::None), async {
            if round % 2 == 0 {
                second.rotate(&id, tower_api_key::Grace::None).await
            } else {
                second.issue(NewKey::user_level(user("u"), "another")).await
            }
        });
        assert!(rotated.is_ok() || raced.is_ok());
        if round % 2 == 0 {
            assert!(rotated.is_ok() != raced.is_ok(), "both, or neither, of two rotations");
        }
        // One key is left. If one of the two calls returned a secret, it is the secret of that key.
        let left: String = operator.query_one(active, &[]).await.unwrap().get(0);
        let given: BTreeSet<String> =
            [rotated, raced].into_iter().flatten().map(|issued| issued.id().as_str().to_owned()).collect();
        assert!(given.contains(&left));
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_16_no_sql_revives_a_revoked_key() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    let (revoked, other) = (insert(&store, "revoked", "u").await, insert(&store, "other", "u").await);
    revoke(&store, &revoked).await;
    let before = format!("{:?}", store.get(&revoked.id).await.unwrap());
    for sql in [
        "UPDATE keys SET revoked_at = NULL",
        "UPDATE keys SET revoked_at = NULL WHERE id = 'revoked'",
        "UPDATE keys SET revoked_at = revoked_at + 1",
        "UPDATE keys SET name = '\"x\"', revoked_at = NULL, expires_at = NULL",
        "UPDATE keys SET id = 'revoked' WHERE id = 'other'",
        "UPDATE keys SET digest = (SELECT digest FROM keys WHERE id = 'revoked') WHERE id = 'other'",
        "UPDATE keys SET digest = decode(repeat('00', 32), 'hex') WHERE id = 'revoked'",
        "UPDATE keys SET owner = 'v' WHERE id = 'other'",
        "UPDATE keys SET level = 'PROJECT', project = 'p1' WHERE id = 'other'",
        "UPDATE keys SET environment = 'test', prefix = 'sk_test_' WHERE id = 'other'",
        "UPDATE keys SET created_at = 0 WHERE id = 'other'",
        "UPDATE keys SET family = 'revoked' WHERE id = 'other'",
        "INSERT INTO keys SELECT * FROM keys WHERE id = 'revoked' ON CONFLICT (id) DO UPDATE SET revoked_at = NULL",
        "SET session_replication_role = replica; UPDATE keys SET revoked_at = NULL",
    ] {
        assert!(operator.batch_execute(sql).await.is_err(), "{sql}");
        operator.batch_execute("RESET session_replication_role").await.unwrap();
        assert_eq!(format!("{:?}", store.get(&revoked.id).await.unwrap()), before, "{sql}");
        assert!(is_active(&store, &other).await && !is_active(&store, &revoked).await, "{sql}");
    }
    // Changes that an operator is allowed to make.
    assert_eq!(operator.execute("UPDATE keys SET name = '\"x\"', expires_at = 7", &[]).await.unwrap(), 2);
    operator
        .execute("UPDATE keys SET replaced_by = 'new', replaced_at = 7 WHERE id = 'other'", &[])
        .await
        .unwrap();
    for sql in ["replaced_by = NULL, replaced_at = NULL", "replaced_by = 'another'", "replaced_at = 8"] {
        let sql = format!("UPDATE keys SET {sql} WHERE id = 'other'");
        assert!(operator.batch_execute(&sql).await.is_err(), "{sql}");
    }
    for sql in ["UPDATE history SET by = 'nobody'", "DELETE FROM history", "TRUNCATE history"] {
        assert!(operator.batch_execute(sql).await.is_err(), "{sql}");
    }
    // c9_17.
    operator.execute("DELETE FROM keys WHERE id = 'other'", &[]).await.unwrap();
    assert!(store.find(&other.digest).await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_no_sql_brings_a_deleted_project_back() {
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    store.create_account("a", &user("alice")).await.unwrap();
    for id in ["p1", "p2"] {
        store.create_project("a", &Project::new(project(id), "")).await.unwrap();
    }
    store.delete_project("a", &project("p1")).await.unwrap();
    for sql in [
        "UPDATE projects SET deleted = false",
        "UPDATE projects SET id = 'p3' WHERE id = 'p1'",
        "DELETE FROM projects",
        "TRUNCATE projects CASCADE",
        "INSERT INTO projects VALUES ('a', 'p1', '\"\"', false)",
        "INSERT INTO access VALUES ('alice', 'b', 'p1')",
        "INSERT INTO access VALUES ('alice', 'a', 'p9')",
        "INSERT INTO people VALUES ('bob', 'a', 'OWNER')",
    ] {
        assert!(operator.batch_execute(sql).await.is_err(), "{sql}");
    }
    assert_eq!(store.account_status(&user("alice"), Some(&project("p1"))).await.unwrap(), NO_ACCESS);
    assert_eq!(store.account_status(&user("alice"), Some(&project("p2"))).await.unwrap(), OWNER);
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c7_11_c12_05_texts_are_bytes_and_digests_are_whole() {
    const ROW: &str = "INSERT INTO keys (digest, digested_by, id, owner, level, environment, name, prefix, last4, \
                       scopes, metadata, restrictions, limits, family, created_at) \
                       VALUES (DIGEST, 'sha256', ID, 'u', 'USER', 'live', '\"\"', '', '', '[]', '{}', '{}', 'none', 'f', 0)";
    let schema = Schema::new();
    let (store, operator) = (schema.open().await, schema.operator().await);
    let zeros = |count| format!("decode(repeat('00', {count}), 'hex')");
    for digest in [zeros(31), zeros(33), zeros(0), "NULL".to_owned()] {
        let row = ROW.replace("DIGEST", &digest).replace("ID", "'key'");
        assert!(operator.batch_execute(&row).await.is_err(), "{digest}");
    }
    for id in ["'é'", "'１'", "'p1 '", "'a' || chr(8205)", "''", "'*'", "E'a\\n'", "repeat('a', 129)"] {
        let row = ROW.replace("DIGEST", &zeros(32)).replace("ID", id);
        assert!(operator.batch_execute(&row).await.is_err(), "{id}");
    }
    let row = ROW.replace("DIGEST", &zeros(32)).replace("ID", "'key'");
    operator.batch_execute(&row).await.unwrap();
    operator.batch_execute("DELETE FROM keys").await.unwrap();
    let (small, large) = (insert(&store, "key", "u").await, insert(&store, "KEY", "U").await);
    revoke(&store, &small).await;
    assert!(!is_active(&store, &small).await && is_active(&store, &large).await);

    let folding = operator
        .query(
            "SELECT attrelid::regclass::text, attname::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
             WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'i') AND attnum > 0
                 AND attcollation NOT IN (0, '\"C\"'::regcollation)",
            &[&schema.name],
        )
        .await
        .unwrap();
    let folding: Vec<(String, String)> = folding.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(folding.is_empty(), "{folding:?}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c12_07_no_list_names_another_accounts_project() {
    let schema = Schema::new();
    let store = schema.open().await;
    for (account, owner, id) in [("a", "alice", "p1"), ("b", "dave", "p1"), ("c", "erin", "p2")] {
        store.create_account(account, &user(owner)).await.unwrap();
        store.create_project(account, &Project::new(project(id), "")).await.unwrap();
    }
    let access = Member::new(MemberRole::Full, [project("p1")]);
    store.set_member("a", &user("bob"), &access).await.unwrap();
    store.delete_project("a", &project("p1")).await.unwrap();
    assert_eq!(store.account_status(&user("bob"), Some(&project("p1"))).await.unwrap(), NO_ACCESS);
    assert_eq!(store.account_status(&user("dave"), Some(&project("p1"))).await.unwrap(), OWNER);
    assert_eq!(store.account_status(&user("nobody"), None).await.unwrap(), AccountStatus::Disabled);
}

/// Two accounts add the same person at the same time: one succeeds, and the other gets an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn if_two_accounts_add_a_person_one_wins() {
    let schema = Schema::new();
    let (one, other) = (schema.open().await, schema.open().await);
    one.create_account("a", &user("alice")).await.unwrap();
    one.create_account("b", &user("dave")).await.unwrap();
    let access = Member::new(MemberRole::Full, []);
    for round in 0..100 {
        let person = user(&format!("person{round}"));
        let (first, second) =
            tokio::join!(one.set_member("a", &person, &access), other.set_member("b", &person, &access));
        match (first, second) {
            (Ok(()), Err(RegistryError::Conflict)) | (Err(RegistryError::Conflict), Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Not a guarantee, only a figure: the time of the queries for one request on this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn a_look_up_is_one_round_trip() {
    let schema = Schema::new();
    let store = schema.open().await;
    let known = insert(&store, "key", "u").await;
    store.create_account("a", &user("u")).await.unwrap();
    let (mut finds, mut both) = (Vec::new(), Vec::new());
    for _ in 0..3000 {
        let began = std::time::Instant::now();
        store.find(&known.digest).await.unwrap();
        finds.push(began.elapsed());
        store.account_status(&user("u"), None).await.unwrap();
        both.push(began.elapsed());
    }
    let p50 = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    println!("find p50 {:?}, find and standing p50 {:?}", p50(&mut finds), p50(&mut both));
}
