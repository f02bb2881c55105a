//! Members who are removed and have very many keys: access ends at once, the keys follow, and none comes back.

use test_kit::user;
use tower_api_key::store::{
    Accounts as _, AuditLog as _, Directory as _, KeyRegistry as _, Member, MemberRole, RegistryError, Terms,
};
use tower_api_key::{AccountStatus, Authority, KeyPolicy, KeyQuery, Timestamp};
use tower_api_key_postgres::PostgresStore;

use super::{NOW, Schema, key, soon, within};

/// More than end in two transactions.
const KEYS: i64 = 1_120;

const LATER: Timestamp = Timestamp::from_secs(1_700_000_100);

async fn with_keys(schema: &Schema) -> PostgresStore {
    let store = schema.open().await;
    store.create_account("a", &user("alice")).await.unwrap();
    store.set_member("a", &user("bob"), &Member::new(MemberRole::Full, [])).await.unwrap();
    let mut new: Vec<_> = (0..KEYS).map(|number| key(&format!("key{number}"), "bob")).collect();
    new.push(key("alices", "alice"));
    let terms = Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: std::num::NonZeroU32::MAX });
    for added in within("an import", store.insert_all(new, &terms)).await.unwrap() {
        added.unwrap();
    }
    store
}

async fn number(schema: &Schema, sql: &str) -> i64 {
    schema.operator().await.query_one(sql, &[]).await.unwrap().get(0)
}

/// All of them have ended at that time, with one entry each, and nothing is left to be done.
async fn all_have_ended(schema: &Schema, store: &PostgresStore, at: Timestamp) {
    let all = store.list(&user("bob"), &KeyQuery::new().limit(u32::MAX)).await.unwrap();
    assert_eq!(i64::try_from(all.len()).unwrap(), KEYS);
    for key in &all {
        assert_eq!(key.revoked_at, Some(at), "{}", key.id);
    }
    let history = store.history(&all.last().unwrap().id, 9).await.unwrap();
    let told: Vec<_> = history.iter().map(|entry| format!("{} by {}", entry.event, entry.by)).collect();
    assert_eq!(told, ["revoked:member_removed by system", "imported by system"]);
    let ended = "SELECT count(*) FROM history WHERE event = 'revoked:member_removed'";
    assert_eq!(number(schema, ended).await, KEYS);
    assert_eq!(number(schema, "SELECT count(*) FROM leaving").await, 0);
    assert_eq!(store.list(&user("alice"), &KeyQuery::new().active(LATER)).await.unwrap().len(), 1);
}

/// What a process leaves that dies after the first transaction of a removal.
async fn interrupted(schema: &Schema) {
    let sql = format!(
        "DELETE FROM people WHERE user_id = 'bob'; INSERT INTO leaving VALUES ('bob', 'a', {})",
        NOW.as_micros()
    );
    schema.operator().await.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_all_keys_of_a_removed_member_end() {
    let schema = Schema::new();
    let store = with_keys(&schema).await;
    within("a removal", store.remove_member("a", &user("bob"), LATER)).await.unwrap();
    all_have_ended(&schema, &store, LATER).await;
    let again = store.remove_member("a", &user("bob"), LATER).await;
    assert!(matches!(again, Err(RegistryError::NotFound)), "{again:?}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_a_removal_that_was_interrupted_is_finished_by_the_same_call() {
    let schema = Schema::new();
    let store = with_keys(&schema).await;
    interrupted(&schema).await;
    assert_eq!(store.account_status(&user("bob"), None).await.unwrap(), AccountStatus::Disabled);
    let other = store.remove_member("b", &user("bob"), LATER).await;
    assert!(matches!(other, Err(RegistryError::NotFound)), "{other:?}");
    within("a removal", store.remove_member("a", &user("bob"), LATER)).await.unwrap();
    all_have_ended(&schema, &store, NOW).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_a_removal_that_was_interrupted_is_finished_at_the_next_connection() {
    let schema = Schema::new();
    with_keys(&schema).await.close().await.unwrap();
    interrupted(&schema).await;
    let store = schema.open().await;
    let nobody = async || (number(&schema, "SELECT count(*) FROM leaving").await == 0).then_some(());
    soon("the end of all keys", nobody).await;
    all_have_ended(&schema, &store, NOW).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_a_member_who_returns_has_none_of_the_earlier_keys() {
    let schema = Schema::new();
    let store = with_keys(&schema).await;
    interrupted(&schema).await;
    let nothing = Member::new(MemberRole::Full, []);
    within("a return", store.set_member("a", &user("bob"), &nothing)).await.unwrap();
    all_have_ended(&schema, &store, NOW).await;
}

/// A node of the version before, or an operator, knows nothing of what is left to be done.
#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c9_15_who_comes_back_by_a_node_of_before_has_no_key_of_before() {
    let schema = Schema::new();
    let store = with_keys(&schema).await;
    interrupted(&schema).await;
    let before = "INSERT INTO people (user_id, account, role) VALUES ('bob', 'a', 'FULL')
        ON CONFLICT (user_id) DO UPDATE SET role = excluded.role";
    schema.operator().await.batch_execute(before).await.unwrap();
    all_have_ended(&schema, &store, NOW).await;
}

/// New keys are in the log, however they come: each of an import, and rows that come by replication.
#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn every_new_key_is_in_the_log_once() {
    const COPY: &str = "SET session_replication_role = replica;
        INSERT INTO keys SELECT decode(md5(id) || md5(id), 'hex'), digested_by, 'copy_' || id, owner, level, project, environment,
            name, prefix, last4, scopes, metadata, restrictions, limits, family, created_at, expires_at, revoked_at,
            replaced_by, replaced_at FROM keys WHERE id IN ('key1', 'key2')";
    const LOGGED: &str = "SELECT count(*) FROM changes JOIN keys ON keys.digest = changes.digest";
    let schema = Schema::new();
    let store = with_keys(&schema).await;
    assert_eq!(number(&schema, LOGGED).await, KEYS + 1);
    schema.operator().await.batch_execute(COPY).await.unwrap();
    assert_eq!(number(&schema, LOGGED).await, KEYS + 3);
    // What was there already is neither added nor logged.
    let terms = Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: std::num::NonZeroU32::MAX });
    let again = store.insert_all(vec![key("key1", "bob"), key("fresh", "bob")], &terms).await.unwrap();
    assert!(matches!(again.as_slice(), [Err(RegistryError::Conflict), Ok(())]), "{again:?}");
    assert_eq!(number(&schema, LOGGED).await, KEYS + 4);
}
