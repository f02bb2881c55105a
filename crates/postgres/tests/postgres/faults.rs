//! c10: a failure gives an error in time, never a wrong answer, and the store recovers.

use std::time::{Duration, Instant};

use test_kit::user;
use tower_api_key::store::{
    Accounts as _, ChangeLog as _, Directory as _, KeyRegistry as _, KeyStore as _, Position, RegistryError,
    StoreError, Terms,
};
use tower_api_key::{Authority, KeyUpdate};
use tower_api_key_postgres::{PostgresOptions, PostgresStore};

use super::proxy::{Fate, Proxy};
use super::{NOW, OWNER, Schema, insert, is_active, key, revoke, server_behind, soon};

const DEADLINE: Duration = Duration::from_millis(300);

/// A store whose network connection can be broken.
async fn breakable(schema: &Schema) -> (PostgresStore, Proxy) {
    let (server, _) = server_behind(0);
    let proxy = Proxy::to(server).await;
    let (_, through) = server_behind(proxy.port);
    let through = format!("{through} application_name={}", schema.name);
    let store = schema.options_at(&through).deadline(DEADLINE).unwrap().connect().await.unwrap();
    (store, proxy)
}

/// Fails on a wrong answer; returns the number of right answers and of errors.
async fn ask(store: &PostgresStore, times: usize) -> (usize, usize) {
    let asked: Vec<_> = (0..times)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let digest = |name| key(name, "u").digest;
                let asked = [digest("good"), digest("ended"), digest("none")];
                let (good, ended, none) =
                    tokio::join!(store.find(&asked[0]), store.find(&asked[1]), store.find(&asked[2]));
                let standing = store.account_status(&user("u"), None).await;
                let right = [
                    good.map(|key| assert!(key.is_some_and(|key| key.is_active(NOW)))),
                    ended.map(|key| assert!(key.is_some_and(|key| !key.is_active(NOW)))),
                    none.map(|key| assert!(key.is_none())),
                    standing.map(|standing| assert_eq!(standing, OWNER)),
                ];
                right.iter().filter(|answer| answer.is_ok()).count()
            })
        })
        .collect();
    let mut right = 0;
    for one in asked {
        right += one.await.unwrap();
    }
    (right, 4 * times - right)
}

async fn fill(store: &PostgresStore) {
    insert(store, "good", "u").await;
    let ended = insert(store, "ended", "u").await;
    revoke(store, &ended).await;
    store.create_account("a", &user("u")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_08_connections_that_are_cut_are_errors_and_then_answers() {
    let schema = Schema::new();
    let (store, proxy) = breakable(&schema).await;
    fill(&store).await;
    for _ in 0..20 {
        proxy.all_of_now(Fate::Drop);
        ask(&store, 4).await;
        soon("an answer", async || (ask(&store, 2).await == (8, 0)).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_02_a_pool_of_dead_connections_recovers() {
    let schema = Schema::new();
    let (store, proxy) = breakable(&schema).await;
    fill(&store).await;
    // Opens the largest number of connections, one for each kind of work, all at the same time.
    let operator = schema.operator().await;
    let connections = async || -> i64 {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        operator.query_one(open, &[&schema.name]).await.unwrap().get(0)
    };
    // No time limit applies until then, because other load on this machine must not look like a failure.
    soon("five connections", async || {
        operator.batch_execute("BEGIN; LOCK TABLE keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let (good, by) = (key("good", "u"), Terms::by(Authority::System).policy(super::MANY));
        let limits = Some("9/min".parse().unwrap());
        let (changes, update) = (Position::new("0/1:1:"), KeyUpdate::new().limits(limits));
        let _ = tokio::join!(
            store.find(&good.digest),
            store.get(&good.id),
            store.insert(key("more", "u"), &by),
            store.update(&good.id, &update, NOW, &by),
            store.changes(&changes),
        );
        operator.batch_execute("ROLLBACK").await.unwrap();
        (connections().await == 5).then_some(())
    })
    .await;
    soon("an answer", async || (ask(&store, 1).await == (4, 0)).then_some(())).await;
    // The store is not told that its connections are dead.
    proxy.all_of_now(Fate::Stall);
    let (_, failed) = ask(&store, 1).await;
    assert!(failed > 0);
    soon("an answer", async || (ask(&store, 2).await == (8, 0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_01_a_server_out_of_reach_is_an_error_in_time() {
    let schema = Schema::new();
    let (store, proxy) = breakable(&schema).await;
    fill(&store).await;
    for fate in [Fate::Drop, Fate::Stall] {
        proxy.all_to_come(fate);
        proxy.all_of_now(fate);
        for _ in 0..3 {
            let began = Instant::now();
            let answer = store.find(&key("good", "u").digest).await;
            assert!(answer.is_err(), "{fate:?}: {answer:?}");
            let revoked = store.revoke(&key("good", "u").id, NOW, &Terms::by(Authority::System)).await;
            assert!(matches!(revoked, Err(RegistryError::Store(_))), "{fate:?}: {revoked:?}");
            // Four times the deadlines and their tolerance: generous, but not endless.
            assert!(began.elapsed() < Duration::from_secs(15), "{fate:?}: {:?}", began.elapsed());
        }
        proxy.all_to_come(Fate::Pass);
        soon("an answer", async || (ask(&store, 2).await == (8, 0)).then_some(())).await;
    }
    // Also when connecting.
    proxy.all_to_come(Fate::Stall);
    let (_, through) = server_behind(proxy.port);
    let late = schema.options_at(&through).deadline(DEADLINE).unwrap().connect().await;
    assert!(late.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_08_killed_backends_are_errors_and_then_answers() {
    let schema = Schema::new();
    let (server, through) = (super::server(), format!("application_name_{}", schema.name));
    let named = PostgresOptions::new(&format!(
        "{server}{}application_name={through}",
        if server.contains('?') { "&" } else { "?" }
    ));
    let store = named.unwrap().schema(&schema.name).unwrap().connections(5).unwrap().connect().await.unwrap();
    fill(&store).await;
    let operator = schema.operator().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = left($1, 63)";
    let mut killed = 0;
    for _ in 0..20 {
        ask(&store, 4).await;
        killed += operator.query(kill, &[&through]).await.unwrap().len();
        ask(&store, 4).await;
        soon("an answer", async || (ask(&store, 2).await == (8, 0)).then_some(())).await;
    }
    assert!(killed >= 20, "{killed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_01_a_missing_table_and_a_lock_are_errors_until_they_are_gone() {
    let schema = Schema::new();
    let store = schema.options().deadline(DEADLINE).unwrap().connect().await.unwrap();
    fill(&store).await;
    let operator = schema.operator().await;
    operator
        .batch_execute("ALTER TABLE keys RENAME TO gone; ALTER TABLE people RENAME TO lost")
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(matches!(store.find(&key("good", "u").digest).await, Err(StoreError::Failed(_))));
        assert!(matches!(store.find(&key("none", "u").digest).await, Err(StoreError::Failed(_))));
        assert!(matches!(store.account_status(&user("u"), None).await, Err(StoreError::Failed(_))));
        let revoked = store.revoke(&key("good", "u").id, NOW, &Terms::by(Authority::System)).await;
        assert!(matches!(revoked, Err(RegistryError::Store(StoreError::Failed(_)))), "{revoked:?}");
    }
    operator
        .batch_execute("ALTER TABLE gone RENAME TO keys; ALTER TABLE lost RENAME TO people")
        .await
        .unwrap();
    assert_eq!(ask(&store, 3).await, (12, 0));

    operator.batch_execute("BEGIN; LOCK TABLE keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    assert!(matches!(store.find(&key("good", "u").digest).await, Err(StoreError::Timeout)));
    let revoked = store.revoke(&key("good", "u").id, NOW, &Terms::by(Authority::System)).await;
    assert!(matches!(revoked, Err(RegistryError::Store(StoreError::Timeout))), "{revoked:?}");
    // Queries that do not read keys are not delayed.
    assert_eq!(store.account_status(&user("u"), None).await.unwrap(), OWNER);
    operator.batch_execute("ROLLBACK").await.unwrap();
    soon("an answer", async || (ask(&store, 2).await == (8, 0)).then_some(())).await;
    assert!(is_active(&store, &key("good", "u")).await, "what failed has changed nothing");
}

/// If a lock delays all changes of one kind, the sender of most of them must not cause others to be refused. Calls
/// that take access away, and look-ups for requests, always have their own capacity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_03_revocations_and_look_ups_work_during_a_flood_of_new_keys() {
    let schema = Schema::new();
    let store = schema.options().deadline(Duration::from_secs(3)).unwrap().connect().await.unwrap();
    fill(&store).await;
    let operator = schema.operator().await;
    // The lock for counting this owner's keys.
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{} owner v', 0))", schema.name);
    operator.batch_execute(&lock).await.unwrap();
    let flood: Vec<_> = (0..400)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .insert(
                        key(&format!("flood{number}"), "v"),
                        &Terms::by(Authority::System).policy(super::MANY),
                    )
                    .await
            })
        })
        .collect();
    while !flood.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&store, 5).await, (20, 0));
    revoke(&store, &key("good", "u")).await;
    assert!(!is_active(&store, &key("good", "u")).await);
    operator.batch_execute("ROLLBACK").await.unwrap();
    let mut refused = 0;
    for one in flood {
        match one.await.unwrap() {
            Ok(()) => {}
            Err(RegistryError::Store(StoreError::Overloaded | StoreError::Timeout)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c13_02_errors_hold_no_values() {
    let schema = Schema::new();
    let store = schema.open().await;
    let operator = schema.operator().await;
    operator.batch_execute("ALTER TABLE keys ADD CHECK (name NOT LIKE '%canary%')").await.unwrap();
    let mut canary = key("k", "u");
    canary.name = "canary".into();
    let refused = store.insert(canary, &Terms::by(Authority::System).policy(super::MANY)).await.unwrap_err();
    let mut text = format!("{refused:?} {refused}");
    let mut source = std::error::Error::source(&refused);
    while let Some(error) = source {
        text.push_str(&format!(" {error:?} {error}"));
        source = error.source();
    }
    assert!(text.contains("23514") && !text.contains("canary"), "{text}");

    let (_, through) = server_behind(1);
    for wrong in ["postgres://u:canary@[", "host=canary port=x", &format!("{through} password=canary")] {
        let error = PostgresStore::connect(wrong).await.unwrap_err();
        let text =
            format!("{error:?} {error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(!text.contains("canary"), "{text}");
    }
    let options = format!("{:?}", PostgresOptions::new(&format!("{through} password=canary")).unwrap());
    assert!(!options.contains("canary"), "{options}");
}
