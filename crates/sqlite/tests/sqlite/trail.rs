//! The audit log of an SQLite file: it is written with the change, and no SQL can rewrite it.

use tower_api_key::store::{KeyRegistry as _, RegistryError, StoreError, Terms};
use tower_api_key::{Authority, KeyPolicy, Timestamp, Usage, UsageChannel};

use super::{File, NOW, insert, is_active, key};
use tower_api_key::store::{AuditLog as _, UsageLog as _};

#[tokio::test]
async fn no_sql_rewrites_the_audit_log() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let key = insert(&store, "key", "u").await;
    store.revoke(&key.id, NOW, &Terms::by(Authority::Operator)).await.unwrap();
    let before = store.history(&key.id, 9).await.unwrap();
    assert_eq!(before.len(), 2);
    for sql in [
        "UPDATE history SET by = 'user:mallory'",
        "UPDATE history SET at = 0 WHERE event = 'issued'",
        "UPDATE OR REPLACE history SET number = 1 WHERE number = 2",
        "DELETE FROM history",
        "DELETE FROM history WHERE key = 'key'",
        "INSERT OR REPLACE INTO history (number, key, owner, at, by, event) VALUES (1, 'key', 'u', 0, 'x', 'issued')",
        "INSERT INTO history (number, key, owner, at, by, event) VALUES (0, 'key', 'u', 0, 'x', 'issued')",
        "INSERT INTO history (key, owner, at, by, event) VALUES ('', 'u', 0, 'x', 'issued')",
    ] {
        operator.execute(sql, []).expect_err(sql);
        assert_eq!(store.history(&key.id, 9).await.unwrap(), before, "{sql}");
    }
}

/// One transaction: if the entry cannot be written, the change is not made.
#[tokio::test]
async fn there_is_no_change_without_its_entry() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let old = insert(&store, "key", "u").await;
    operator
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
        )
        .unwrap();
    let failed = |result: Result<(), RegistryError>| {
        assert!(matches!(result, Err(RegistryError::Store(StoreError::Failed(_)))), "{result:?}");
    };
    failed(
        store
            .insert(
                key("more", "u"),
                &Terms::by(Authority::System).policy(KeyPolicy::Single { grace: false }),
            )
            .await,
    );
    failed(store.revoke(&old.id, NOW, &Terms::by(Authority::System)).await.map(drop));
    failed(
        store
            .update(&old.id, &tower_api_key::KeyUpdate::new().name("x"), NOW, &Terms::by(Authority::System))
            .await
            .map(drop),
    );
    assert!(is_active(&store, &old).await);
    assert!(store.get(&key("more", "u").id).await.unwrap().is_none());
    operator.execute_batch("DROP TRIGGER full").unwrap();
    store.revoke(&old.id, NOW, &Terms::by(Authority::System)).await.unwrap();
    assert_eq!(store.history(&old.id, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn invalid_entries_are_corrupt_and_not_skipped() {
    let file = File::new();
    let (store, operator) = (file.open().await, file.operator());
    let key = insert(&store, "key", "u").await;
    let sql = "INSERT INTO history (key, owner, at, by, event) VALUES ('key', 'u', 0, 'x', 'sold')";
    operator.execute(sql, []).unwrap();
    assert!(matches!(store.history(&key.id, 9).await, Err(StoreError::Corrupt(_))));
    operator.execute("INSERT INTO usage VALUES ('key', 'nothing', 0, 1)", []).unwrap();
    assert!(matches!(store.usage(std::slice::from_ref(&key.id)).await, Err(StoreError::Corrupt(_))));
}

/// C9-16 on a file: the store of another process writes usage late and often, and a key is revoked meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn c9_16_no_late_usage_revives_a_key() {
    let file = File::new();
    let (one, other) = (file.open().await, file.open().await);
    for round in 0..10 {
        let key = insert(&one, &format!("key{round}"), "u").await;
        let used = Usage::new(key.id.clone(), UsageChannel::Direct, Timestamp::from_secs(round), 1);
        let late = other.clone();
        let flushing = tokio::spawn(async move {
            for _ in 0..5 {
                late.record_usage(std::slice::from_ref(&used)).await.unwrap();
            }
        });
        one.revoke(&key.id, NOW, &Terms::by(Authority::System)).await.unwrap();
        assert!(!is_active(&one, &key).await);
        flushing.await.unwrap();
        assert!(!is_active(&one, &key).await && !is_active(&other, &key).await);
        let [used] = &one.usage(&[key.id]).await.unwrap()[..] else { panic!("used one way") };
        assert_eq!(used.count, 5);
    }
}
