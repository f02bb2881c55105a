//! Members who are removed and have very many keys: access ends at once, the keys follow, and none comes back.

use test_kit::user;
use tower_api_key::store::{
    Accounts as _, AuditLog as _, Directory as _, KeyRegistry as _, Member, MemberRole, RegistryError, Terms,
};
use tower_api_key::{AccountStatus, Authority, KeyPolicy, KeyQuery, Timestamp};
use tower_api_key_sqlite::SqliteStore;

use super::{File, NOW, key};

/// More than end in two transactions.
const KEYS: usize = 620;

const LATER: Timestamp = Timestamp::from_secs(1_700_000_100);

async fn with_keys(file: &File) -> SqliteStore {
    let store = file.open().await;
    store.create_account("a", &user("alice")).await.unwrap();
    store.set_member("a", &user("bob"), &Member::new(MemberRole::Full, [])).await.unwrap();
    let mut new: Vec<_> = (0..KEYS).map(|number| key(&format!("key{number}"), "bob")).collect();
    new.push(key("alices", "alice"));
    let terms = Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: std::num::NonZeroU32::MAX });
    for added in store.insert_all(new, &terms).await.unwrap() {
        added.unwrap();
    }
    store
}

/// All of them have ended at that time, with one entry each, and nothing is left to be done.
async fn all_have_ended(file: &File, store: &SqliteStore, at: Timestamp) {
    let all = store.list(&user("bob"), &KeyQuery::new().limit(u32::MAX)).await.unwrap();
    assert_eq!(all.len(), KEYS);
    for key in &all {
        assert_eq!(key.revoked_at, Some(at), "{}", key.id);
    }
    let history = store.history(&all.last().unwrap().id, 9).await.unwrap();
    let told: Vec<_> = history.iter().map(|entry| format!("{} by {}", entry.event, entry.by)).collect();
    assert_eq!(told, ["revoked:member_removed by system", "imported by system"]);
    let number = |sql| file.operator().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT count(*) FROM history WHERE event = 'revoked:member_removed'"), KEYS as i64);
    assert_eq!(number("SELECT count(*) FROM leaving"), 0);
    assert_eq!(store.list(&user("alice"), &KeyQuery::new().active(LATER)).await.unwrap().len(), 1);
}

/// What a process leaves that dies after the first transaction of a removal.
fn interrupted(file: &File) {
    let sql = format!(
        "DELETE FROM people WHERE user = 'bob'; INSERT INTO leaving VALUES ('bob', 'a', {})",
        NOW.as_micros()
    );
    file.operator().execute_batch(&sql).unwrap();
}

#[tokio::test]
async fn c9_15_all_keys_of_a_removed_member_end() {
    let file = File::new();
    let store = with_keys(&file).await;
    store.remove_member("a", &user("bob"), LATER).await.unwrap();
    all_have_ended(&file, &store, LATER).await;
    let again = store.remove_member("a", &user("bob"), LATER).await;
    assert!(matches!(again, Err(RegistryError::NotFound)), "{again:?}");
}

#[tokio::test]
async fn c9_15_a_removal_that_was_interrupted_is_finished_by_the_same_call() {
    let file = File::new();
    let store = with_keys(&file).await;
    interrupted(&file);
    assert_eq!(store.account_status(&user("bob"), None).await.unwrap(), AccountStatus::Disabled);
    let other = store.remove_member("b", &user("bob"), LATER).await;
    assert!(matches!(other, Err(RegistryError::NotFound)), "{other:?}");
    store.remove_member("a", &user("bob"), LATER).await.unwrap();
    all_have_ended(&file, &store, NOW).await;
}

#[tokio::test]
async fn c9_15_a_removal_that_was_interrupted_is_finished_when_the_file_is_opened() {
    let file = File::new();
    drop(with_keys(&file).await);
    interrupted(&file);
    let store = file.open().await;
    let left = || file.operator().query_row("SELECT count(*) FROM leaving", [], |row| row.get::<_, u32>(0));
    while left().unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    all_have_ended(&file, &store, NOW).await;
}

#[tokio::test]
async fn c9_15_a_member_who_returns_has_none_of_the_earlier_keys() {
    let file = File::new();
    let store = with_keys(&file).await;
    interrupted(&file);
    store.set_member("a", &user("bob"), &Member::new(MemberRole::Full, [])).await.unwrap();
    all_have_ended(&file, &store, NOW).await;

    let file = File::new();
    let store = with_keys(&file).await;
    interrupted(&file);
    store.create_account("b", &user("bob")).await.unwrap();
    all_have_ended(&file, &store, NOW).await;
}

/// A process of the version before, or an operator, knows nothing of what is left to be done.
#[tokio::test]
async fn c9_15_who_comes_back_by_a_process_of_before_has_no_key_of_before() {
    let file = File::new();
    let store = with_keys(&file).await;
    interrupted(&file);
    let before = "INSERT INTO people (user, account, role) VALUES ('bob', 'a', 'FULL')
        ON CONFLICT (user) DO UPDATE SET role = excluded.role";
    file.operator().execute_batch(before).unwrap();
    all_have_ended(&file, &store, NOW).await;
}

/// Triggers maintain the counts, whichever process writes keys.
#[tokio::test]
async fn keys_are_counted_as_they_are() {
    const COUNTED: &str = "
        SELECT substr(digested_by, 1, instr(digested_by || '$', '$') - 1), count(*)
        FROM keys WHERE revoked_at IS NULL GROUP BY 1";
    let file = File::new();
    let (store, operator) = (with_keys(&file).await, file.operator());
    let inventory = store.inventory().unwrap();
    let counted = || {
        let mut counted = operator.prepare(COUNTED).unwrap();
        let rows =
            counted.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())));
        rows.unwrap().collect::<Result<std::collections::BTreeMap<_, _>, _>>().unwrap()
    };
    for sql in [
        "UPDATE keys SET name = 'x'",
        "UPDATE keys SET digested_by = 'slow$' || id, digest = randomblob(32) WHERE id GLOB 'key1*'",
        "UPDATE keys SET revoked_at = 5 WHERE id GLOB 'key11*'",
        "UPDATE keys SET digested_by = 'sha512', digest = randomblob(32) WHERE id GLOB 'key2*'",
        "UPDATE keys SET digested_by = 'sha512', digest = randomblob(32), revoked_at = 5 WHERE id GLOB 'key3*'",
        "DELETE FROM keys WHERE id GLOB 'key22*' OR id GLOB 'key33*'",
        "INSERT INTO keys SELECT randomblob(32), digested_by, 'new' || id, owner, level, project, environment, name, prefix,
             last4, scopes, metadata, restrictions, limits, family, created_at, expires_at, revoked_at, replaced_by,
             replaced_at FROM keys WHERE id GLOB 'key5*' OR id GLOB 'key3*'",
        "DELETE FROM keys WHERE digested_by = 'sha512'",
    ] {
        operator.execute_batch(sql).unwrap();
        assert_eq!(inventory.count_by_digest_method().await.unwrap(), counted(), "{sql}");
    }
    store.remove_member("a", &user("bob"), LATER).await.unwrap();
    assert_eq!(inventory.count_by_digest_method().await.unwrap(), counted());
}
