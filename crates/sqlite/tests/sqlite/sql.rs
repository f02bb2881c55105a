//! Other users of the same file: a second store, a second process, an operator's SQL, a lock.

use std::num::NonZero;
use std::process::Command;
use std::time::{Duration, Instant};

use test_kit::{project, user};
use tower_api_key::store::{
    Accounts as _, Directory as _, KeyRegistry as _, KeyStore as _, Member, MemberRole, Project,
    RegistryError, StoreError, Terms,
};
use tower_api_key::{AccountStatus, KeyPolicy, KeyQuery, KeyUpdate, Role};
use tower_api_key_sqlite::SqliteStore;

use super::{File, MANY, NOW, insert, is_active, key};
use tower_api_key::store::ProjectDirectory as _;

const NO_ACCESS: AccountStatus = AccountStatus::Active { role: None };

#[tokio::test(flavor = "multi_thread")]
async fn c9_18_a_revocation_is_seen_through_another_store_at_once() {
    let file = File::new();
    let (one, other) = (file.open().await, file.open().await);
    for round in 0..50 {
        let key = insert(&one, &format!("key{round}"), "u").await;
        // More look-ups than there are readers, so that each reader has an old snapshot.
        for _ in 0..6 {
            assert!(is_active(&other, &key).await);
        }
        one.revoke(&key.id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
        for _ in 0..6 {
            assert!(!is_active(&other, &key).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c9_18_a_revocation_by_another_process_is_seen_at_once() {
    let file = File::new();
    let store = file.open().await;
    for name in ["key1", "key2", "key3"] {
        let key = insert(&store, name, "u").await;
        assert!(is_active(&store, &key).await, "{name:?}");
        assert!(
            in_another_process(&file, "sql::revokes_a_key", name).status().unwrap().success(),
            "{name:?}"
        );
        assert!(!is_active(&store, &key).await, "{name:?}");
    }
}

#[tokio::test]
#[ignore = "a part of the test above, in a process of its own"]
async fn revokes_a_key() {
    let Ok(name) = std::env::var("STORES_KEY") else { return };
    let store = SqliteStore::open(std::env::var("STORES_FILE").unwrap()).await.unwrap();
    store.revoke(&key(&name, "u").id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
}

pub(super) fn in_another_process(file: &File, test: &str, key: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test]).env("STORES_FILE", file.path()).env("STORES_KEY", key);
    command.stdout(std::process::Stdio::null());
    command
}

#[tokio::test]
async fn c9_17_a_key_that_an_operator_deletes_is_gone() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let (deleted, revoked) = (insert(&store, "deleted", "u").await, insert(&store, "revoked", "u").await);
    assert!(is_active(&store, &deleted).await);
    assert_eq!(operator.execute("DELETE FROM keys WHERE id = 'deleted'", []).unwrap(), 1);
    assert!(store.find(&deleted.digest).await.unwrap().is_none());
    assert!(is_active(&store, &revoked).await);
    assert_eq!(operator.execute("UPDATE keys SET revoked_at = 5 WHERE id = 'revoked'", []).unwrap(), 1);
    assert!(!is_active(&store, &revoked).await);
}

#[tokio::test]
async fn c9_16_no_sql_revives_a_revoked_key() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let revoked = insert(&store, "revoked", "u").await;
    let other = insert(&store, "other", "u").await;
    store.revoke(&revoked.id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
    let before = format!("{:?}", store.get(&revoked.id).await.unwrap());
    for sql in [
        "UPDATE keys SET revoked_at = NULL",
        "UPDATE keys SET revoked_at = NULL WHERE id = 'revoked'",
        "UPDATE keys SET revoked_at = revoked_at + 1",
        "UPDATE OR REPLACE keys SET revoked_at = NULL",
        "UPDATE OR IGNORE keys SET revoked_at = NULL WHERE id = 'revoked'",
        "UPDATE keys SET name = 'x', revoked_at = NULL, expires_at = NULL",
        "UPDATE OR REPLACE keys SET digest = (SELECT digest FROM keys WHERE id = 'revoked') WHERE id = 'other'",
        "UPDATE OR REPLACE keys SET id = 'revoked' WHERE id = 'other'",
        "UPDATE keys SET digest = zeroblob(32) WHERE id = 'revoked'",
        "UPDATE keys SET owner = 'v' WHERE id = 'other'",
        "UPDATE keys SET level = 'PROJECT', project = 'p1' WHERE id = 'other'",
        "UPDATE keys SET environment = 'test', prefix = 'sk_test_' WHERE id = 'other'",
        "UPDATE keys SET created_at = 0 WHERE id = 'other'",
        "UPDATE keys SET family = 'revoked' WHERE id = 'other'",
        "INSERT OR REPLACE INTO keys SELECT digest, digested_by, id, owner, level, project, environment, name, prefix, last4, \
         scopes, metadata, restrictions, limits, family, created_at, expires_at, NULL, replaced_by, replaced_at \
         FROM keys WHERE id = 'revoked'",
        "INSERT INTO keys SELECT digest, digested_by, 'again', owner, level, project, environment, name, prefix, last4, \
         scopes, metadata, restrictions, limits, family, created_at, expires_at, NULL, replaced_by, replaced_at \
         FROM keys WHERE id = 'revoked' \
         ON CONFLICT DO UPDATE SET revoked_at = NULL",
    ] {
        assert!(operator.execute(sql, []).is_err(), "{sql}");
        assert_eq!(format!("{:?}", store.get(&revoked.id).await.unwrap()), before, "{sql}");
        assert!(is_active(&store, &other).await, "{sql}");
        assert!(!is_active(&store, &revoked).await, "{sql}");
    }
    // Changes that an operator is allowed to make.
    assert_eq!(operator.execute("UPDATE keys SET name = 'x', expires_at = 7", []).unwrap(), 2);
}

#[tokio::test]
async fn c9_16_the_successor_of_a_key_is_fixed() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    insert(&store, "old", "u").await;
    assert!(operator.execute("UPDATE keys SET replaced_by = 'new'", []).is_err());
    operator.execute("UPDATE keys SET replaced_by = 'new', replaced_at = 5", []).unwrap();
    for change in [
        "replaced_by = NULL",
        "replaced_by = NULL, replaced_at = NULL",
        "replaced_at = 6",
        "replaced_by = 'x'",
    ] {
        assert!(operator.execute(&format!("UPDATE keys SET {change}"), []).is_err(), "{change}");
    }
}

#[tokio::test]
async fn c9_15_no_sql_brings_a_deleted_project_back() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    store.create_account("a", &user("alice")).await.unwrap();
    for id in ["p1", "p2"] {
        store.create_project("a", &Project::new(project(id), "")).await.unwrap();
    }
    store.delete_project("a", &project("p1")).await.unwrap();
    for sql in [
        "UPDATE projects SET deleted = 0",
        "UPDATE projects SET id = 'p3' WHERE id = 'p1'",
        "DELETE FROM projects",
        "INSERT INTO projects VALUES ('a', 'p1', '', 0)",
    ] {
        assert!(operator.execute(sql, []).is_err(), "{sql}");
    }
    assert_eq!(store.account_status(&user("alice"), Some(&project("p1"))).await.unwrap(), NO_ACCESS);
}

#[tokio::test]
async fn c7_11_the_file_accepts_only_complete_digests() {
    const ROW: &str = "INSERT INTO keys VALUES (DIGEST, 'sha256', 'key', 'u', 'USER', NULL, 'live', '', '', '', '[]', '{}', '{}', 'none', 'key', 0, \
                       NULL, NULL, NULL, NULL)";
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    for digest in ["zeroblob(31)", "zeroblob(33)", "x''", "NULL", "'text'", "hex(zeroblob(16))", "0"] {
        assert!(operator.execute(&ROW.replace("DIGEST", digest), []).is_err(), "{digest}");
    }
    assert_eq!(operator.execute(&ROW.replace("DIGEST", "zeroblob(32)"), []).unwrap(), 1);
    operator.execute("DELETE FROM keys", []).unwrap();
    let folding = "SELECT count(*) FROM sqlite_master WHERE sql LIKE '%COLLATE%' OR sql LIKE '%NOCASE%'";
    assert_eq!(operator.query_row(folding, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let (small, large) = (insert(&store, "key", "u").await, insert(&store, "KEY", "U").await);
    store.revoke(&small.id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
    assert!(!is_active(&store, &small).await && is_active(&store, &large).await);
}

/// The access of `alice`, who owns `p1`, `1` and `P1`, and of the member `1`, who has access to `1`.
#[tokio::test]
async fn c12_04_05_06_ids_are_texts_and_nothing_else() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    store.create_account("a", &user("alice")).await.unwrap();
    for id in ["p1", "1", "P1"] {
        store.create_project("a", &Project::new(project(id), "")).await.unwrap();
    }
    let access = Member::new(MemberRole::Full, [project("1")]);
    store.set_member("a", &user("1"), &access).await.unwrap();

    // c12_04: numbers. c12_05: upper and lower case. c12_06: words that might be taken for more than an id.
    for id in ["01", "1.0", "1e0", "p", "all", "null", "undefined", "me", "self", "0", "-1"] {
        assert_eq!(
            store.account_status(&user("alice"), Some(&project(id))).await.unwrap(),
            NO_ACCESS,
            "{id}"
        );
        assert_eq!(store.account_status(&user(id), None).await.unwrap(), AccountStatus::Disabled, "{id}");
    }
    let of_member = async |id| store.account_status(&user("1"), Some(&project(id))).await.unwrap();
    assert_eq!(of_member("1").await, AccountStatus::Active { role: Some(Role::Full) });
    assert_eq!((of_member("p1").await, of_member("P1").await), (NO_ACCESS, NO_ACCESS));

    // The file does not accept invalid ids either, not even by plain SQL.
    for id in ["'é'", "'e' || char(769)", "'１'", "'p1 '", "'a' || char(8205)", "''", "'*'", "'%'", "x'7031'"]
    {
        let sql = format!("INSERT INTO projects VALUES ('a', {id}, '', 0)");
        assert!(operator.execute(&sql, []).is_err(), "{id}");
    }
    let types = "SELECT count(*) FROM projects WHERE typeof(id) <> 'text'";
    assert_eq!(operator.query_row(types, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn c12_07_no_list_names_another_accounts_project() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    for (account, owner, id) in [("a", "alice", "p1"), ("b", "dave", "p1"), ("c", "erin", "p2")] {
        store.create_account(account, &user(owner)).await.unwrap();
        store.create_project(account, &Project::new(project(id), "")).await.unwrap();
    }
    let access = Member::new(MemberRole::Full, [project("p1")]);
    store.set_member("a", &user("bob"), &access).await.unwrap();
    store.delete_project("a", &project("p1")).await.unwrap();
    assert_eq!(store.account_status(&user("bob"), Some(&project("p1"))).await.unwrap(), NO_ACCESS);
    let dave = store.account_status(&user("dave"), Some(&project("p1"))).await.unwrap();
    assert_eq!(dave, AccountStatus::Active { role: Some(Role::Owner) });

    operator.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    for sql in
        ["INSERT INTO access VALUES ('bob', 'c', 'p2')", "INSERT INTO access VALUES ('bob', 'a', 'p2')"]
    {
        assert!(operator.execute(sql, []).is_err(), "{sql}");
        // If an operator's connection has no foreign keys, the row exists but gives no access.
        operator.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").unwrap();
        operator.execute(sql, []).unwrap();
        operator.execute_batch("COMMIT; PRAGMA foreign_keys = ON").unwrap();
        assert_eq!(
            store.account_status(&user("bob"), Some(&project("p2"))).await.unwrap(),
            NO_ACCESS,
            "{sql}"
        );
        assert!(store.projects(&user("bob")).await.unwrap().is_empty(), "{sql:?}");
        operator.execute_batch("DELETE FROM access WHERE project = 'p2'").unwrap();
    }
}

/// A user creates and ends keys forever. A policy counts only active keys, and ended keys are never deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_keys_of_a_user_delay_nobody() {
    const ENDED: u32 = 100_000;
    let file = File::new();
    let store = file.open().await;
    file.operator()
        .execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ENDED})
             INSERT INTO keys SELECT randomblob(32), 'sha256', 'key_' || i, 'u', 'USER', NULL, 'live', 'x', 'sk_live_', '', '[]', '{{}}', '{{}}',
                 'none', 'key_' || i, i, iif(i % 2, 5, NULL), iif(i % 2, NULL, 5), NULL, NULL FROM n"
        ))
        .unwrap();
    let other = insert(&store, "other", "v").await;

    // Look-ups for requests do not wait for a list, however long it is.
    let everything = || {
        let (store, mut query) = (store.clone(), KeyQuery::default());
        query.limit = u32::MAX;
        tokio::spawn(async move { store.list(&user("u"), &query).await.unwrap().len() })
    };
    let (began, lists) = (Instant::now(), [everything(), everything()]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let asked = Instant::now();
    assert!(is_active(&store, &other).await);
    assert_eq!(store.account_status(&user("v"), None).await.unwrap(), AccountStatus::Disabled);
    let answered = asked.elapsed();
    for list in lists {
        assert_eq!(list.await.unwrap(), 100_000);
    }
    let everything = began.elapsed();
    assert!(answered * 4 < everything, "{answered:?}, beside {everything:?} for lists of all");

    // Queries for active keys, such as that of the policy, do not read ended keys.
    let began = Instant::now();
    let own = insert(&store, "own", "u").await;
    let mut active = KeyQuery::default();
    active.active_at = Some(NOW);
    assert_eq!(store.list(&user("u"), &active).await.unwrap().len(), 1);
    store
        .insert(
            key("only", "u"),
            &Terms::by(tower_api_key::Authority::System)
                .policy(KeyPolicy::Multiple { max: NonZero::new(2).unwrap() }),
        )
        .await
        .unwrap();
    store.revoke(&own.id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
    assert!(began.elapsed() * 4 < everything, "{:?}, and {everything:?} for lists of all", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_01_a_lock_is_an_error_in_time_and_stops_no_reader() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let key = insert(&store, "key", "u").await;
    operator.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let asked = Instant::now();
    let revoking = tokio::spawn({
        let (store, id) = (store.clone(), key.id.clone());
        async move { store.revoke(&id, NOW, &Terms::by(tower_api_key::Authority::System)).await }
    });
    assert!(is_active(&store, &key).await, "readers do not wait for writers");
    let locked = revoking.await.unwrap();
    assert!(matches!(locked, Err(RegistryError::Store(StoreError::Timeout))), "{locked:?}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert!(is_active(&store, &key).await, "what failed has changed nothing");

    operator.execute_batch("ROLLBACK").unwrap();
    store.revoke(&key.id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
    assert!(!is_active(&store, &key).await);
}

/// All changes wait for one disk. While it, or a lock of another process, delays them, the sender of most changes
/// must not cause others to be refused. Calls that take access away have their own places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_can_be_revoked_during_a_flood_of_new_keys() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let leaked = insert(&store, "leaked", "u").await;
    store.create_account("a", &user("alice")).await.unwrap();
    store.create_project("a", &Project::new(project("p1"), "")).await.unwrap();
    for id in ["bob", "carol"] {
        let nothing = Member::new(MemberRole::Full, []);
        store.set_member("a", &user(id), &nothing).await.unwrap();
    }

    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    let flood: Vec<_> = (0..400)
        .map(|number| {
            let (store, key) = (store.clone(), key(&format!("flood{number}"), "v"));
            tokio::spawn(async move {
                store.insert(key, &Terms::by(tower_api_key::Authority::System).policy(MANY)).await
            })
        })
        .collect();
    while !flood.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    // At most one of these places is free, if the first change had not yet begun to wait for the lock.
    let (alice, bob, carol, p1) = (user("alice"), user("bob"), user("carol"), project("p1"));
    let less = Member::new(MemberRole::ReadOnly, []);
    let terms = Terms::by(tower_api_key::Authority::System);
    let revoking = async {
        tokio::join!(
            store.revoke(&leaked.id, NOW, &terms),
            store.remove_member("a", &bob, NOW),
            store.set_member("a", &carol, &less),
            store.delete_project("a", &p1),
            store.suspend_account("a", true),
            async {
                // All of them are in the queue.
                tokio::task::yield_now().await;
                operator.execute_batch("ROLLBACK").unwrap();
            },
        )
    };
    let (revoked, removed, demoted, deleted, suspended, ()) = revoking.await;
    assert!(revoked.unwrap());
    for done in [removed, demoted, deleted, suspended] {
        done.unwrap();
    }
    assert!(!is_active(&store, &leaked).await);
    assert_eq!(store.account_status(&alice, None).await.unwrap(), AccountStatus::Disabled);
    let mut refused = 0;
    for one in flood {
        match one.await.unwrap() {
            Ok(()) => {}
            Err(RegistryError::Store(_)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0);
}

/// The same for calls that take a part of the access away: a key is restricted, an account is transferred.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_g_keys_can_be_narrowed_during_a_flood_of_new_keys() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let (leaked, scarce) = (insert(&store, "leaked", "u").await, insert(&store, "scarce", "u").await);
    store.create_account("a", &user("alice")).await.unwrap();
    store.set_member("a", &user("bob"), &Member::new(MemberRole::Full, [])).await.unwrap();
    let terms = Terms::by(tower_api_key::Authority::System);

    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    let flood: Vec<_> = (0..400)
        .map(|number| {
            let (store, key) = (store.clone(), key(&format!("flood{number}"), "v"));
            tokio::spawn(async move {
                store.insert(key, &Terms::by(tower_api_key::Authority::System).policy(MANY)).await
            })
        })
        .collect();
    while !flood.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    let nowhere = r#"{"ip":{"allow":[]}}"#.parse().unwrap();
    let (narrow, limit) = (
        KeyUpdate::new().restrictions(nowhere),
        KeyUpdate::new().limits(Some("1/d".parse().unwrap())).name("renamed, too"),
    );
    let (bob, less) = (user("bob"), Member::new(MemberRole::ReadOnly, []));
    let narrowing = async {
        tokio::join!(
            store.update(&leaked.id, &narrow, NOW, &terms),
            store.update(&scarce.id, &limit, NOW, &terms),
            store.transfer_account("a", &bob, &less),
            async {
                // All of them are in the queue.
                tokio::task::yield_now().await;
                operator.execute_batch("ROLLBACK").unwrap();
            },
        )
    };
    let (narrowed, limited, transferred, ()) = narrowing.await;
    assert!(narrowed.unwrap().changed && limited.unwrap().changed);
    transferred.unwrap();
    let mut refused = 0;
    for one in flood {
        refused += usize::from(one.await.unwrap().is_err());
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn c10_01_a_missing_table_is_an_error_until_it_is_back() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let key = insert(&store, "key", "u").await;
    store.create_account("a", &user("u")).await.unwrap();
    operator.execute_batch("ALTER TABLE keys RENAME TO gone; ALTER TABLE people RENAME TO lost").unwrap();
    for _ in 0..3 {
        assert!(matches!(store.find(&key.digest).await, Err(StoreError::Failed(_))));
        assert!(matches!(store.account_status(&user("u"), None).await, Err(StoreError::Failed(_))));
        assert!(matches!(
            store.revoke(&key.id, NOW, &Terms::by(tower_api_key::Authority::System)).await,
            Err(RegistryError::Store(StoreError::Failed(_)))
        ));
    }
    operator.execute_batch("ALTER TABLE gone RENAME TO keys; ALTER TABLE lost RENAME TO people").unwrap();
    assert!(is_active(&store, &key).await);
    store.revoke(&key.id, NOW, &Terms::by(tower_api_key::Authority::System)).await.unwrap();
    assert!(!is_active(&store, &key).await);
}
