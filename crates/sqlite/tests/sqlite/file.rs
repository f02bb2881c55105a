//! The file itself: created, opened again, opened several times at once, refused.

use std::fs;

use rusqlite::params;
use test_kit::user;
use tower_api_key::store::{
    Accounts as _, Directory as _, KeyRegistry as _, KeyStore as _, RegistryError, StoreError,
};
use tower_api_key::{AccountStatus, Grace, KeyDigest, Keyring, NewKey, Role};
use tower_api_key_sqlite::SqliteStore;

use super::{File, connect, insert, is_active, key};
use tower_api_key::store::AuditLog as _;

fn number(file: &File, sql: &str) -> i64 {
    file.operator().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_new_file_is_created_and_opened_again() {
    let file = File::new();
    let store = file.open().await;
    let inserted = insert(&store, "key", "u").await;
    drop(store);
    assert_eq!(number(&file, "PRAGMA user_version"), 3);
    assert_eq!(number(&file, "PRAGMA application_id"), 0x7461_706b);
    for _ in 0..2 {
        let store = file.open().await;
        assert!(is_active(&store, &inserted).await);
    }
    let mode: String = file.operator().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let sound: String = file.operator().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn an_empty_file_is_a_fresh_one() {
    let file = File::new();
    fs::write(file.path(), "").unwrap();
    insert(&file.open().await, "key", "u").await;
}

/// A file of the previous release, with an account and a key, and a connection that has it open.
fn of_version_1(file: &File) -> rusqlite::Connection {
    let before = file.operator();
    before.execute_batch(include_str!("../../migrations/sqlite-1.sql")).unwrap();
    before
        .execute_batch(
            "PRAGMA application_id = 0x7461706b; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;
             INSERT INTO accounts VALUES ('acme', 0);
             INSERT INTO people VALUES ('alice', 'acme', 'OWNER');",
        )
        .unwrap();
    let digest = KeyDigest::of("of_before");
    let key = "
        INSERT INTO keys VALUES (?1, 'sha256', 'key_1', 'alice', 'USER', NULL, 'live', 'CI', 'sk_live_', 'a1Z9', '[]', '{}',
            '{}', 'none', 'key_1', 1, NULL, NULL, NULL, NULL)";
    before.execute(key, params![digest.as_bytes()]).unwrap();
    before
}

#[tokio::test]
async fn c17_d7_an_older_file_accepts_ids_of_identity_providers() {
    const KEYS: &str = "SELECT count(*) FROM keys WHERE owner = ?1";
    let file = File::new();
    let before = of_version_1(&file);
    // A statement that a process of the previous release has prepared still works.
    let mut prepared = before.prepare(KEYS).unwrap();
    assert_eq!(prepared.query_row(["alice"], |row| row.get::<_, i64>(0)).unwrap(), 1);

    let store = file.open().await;
    let old = store.find(&KeyDigest::of("of_before")).await.unwrap().unwrap();
    assert_eq!((old.owner.as_str(), &*old.name), ("alice", "CI"));
    for id in ["auth0|5f7c", "a+b@example.com", "dXNlcg=="] {
        store.create_account(&id.replace(['|', '+', '='], "."), &user(id)).await.unwrap();
        let key = insert(&store, &format!("key_{}", id.len()), id).await;
        assert!(is_active(&store, &key).await, "{id:?}");
        let standing = store.account_status(&user(id), None).await.unwrap();
        assert_eq!(standing, AccountStatus::Active { role: Some(Role::Owner) }, "{id:?}");
        assert_eq!(prepared.query_row([id], |row| row.get::<_, i64>(0)).unwrap(), 1, "{id:?}");
        assert_eq!(store.history(&key.id, 10).await.unwrap().len(), 1, "{id:?}");
    }
    // The previous release can still write the same rows, and all other ids have the same rules as before.
    before.execute("INSERT INTO people VALUES ('bob', 'acme', 'FULL')", []).unwrap();
    for wrong in [
        "INSERT INTO people VALUES ('a b', 'acme', 'FULL')",
        "INSERT INTO accounts VALUES ('a|b', 0)",
        "INSERT INTO projects VALUES ('acme', 'p|1', '', 0)",
        "INSERT INTO history (key, owner, at, by, event) VALUES ('key|1', 'alice', 1, 'system', 'issued')",
        "INSERT INTO usage VALUES ('key|1', 'direct', 1, 1)",
        "UPDATE keys SET replaced_by = 'key|1', replaced_at = 1 WHERE id = 'key_1'",
        // The same is true of rules that are not constraints.
        "UPDATE keys SET owner = 'auth0|5f7c' WHERE id = 'key_1'",
    ] {
        assert!(before.execute(wrong, []).is_err(), "{wrong}");
    }
    assert_eq!(number(&file, "PRAGMA user_version"), 3);
    let sound: String = file.operator().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    drop((prepared, store));
    assert!(file.open().await.account_status(&user("auth0|5f7c"), None).await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_readable_only_by_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;

    let file = File::new();
    let store = file.open().await;
    insert(&store, "key", "u").await;
    let mut seen = 0;
    for entry in fs::read_dir(file.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its log, and the index of the log");

    // Permissions that somebody has set are not changed.
    let shared = File::new();
    fs::write(shared.path(), "").unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o660)).unwrap();
    shared.open().await;
    assert_eq!(fs::metadata(shared.path()).unwrap().permissions().mode() & 0o777, 0o660);
}

/// The file is refused for this reason, and not changed.
async fn assert_refused(file: &File, reason: &str) {
    let before = fs::read(file.path()).unwrap();
    let refused = SqliteStore::open(file.path()).await;
    let Err(StoreError::Failed(source)) = refused else { panic!("{} bytes: {refused:?}", before.len()) };
    assert!(source.to_string().contains(reason), "{source}");
    assert!(fs::read(file.path()).unwrap() == before, "a refused file was changed");
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused() {
    let (known, file) = (File::new(), File::new());
    let _open = known.open().await;
    known.operator().execute("VACUUM INTO ?1", [file.path().to_str().unwrap()]).unwrap();
    file.operator().execute_batch("PRAGMA user_version = 4").unwrap();
    assert_refused(&file, "version 4, written by a newer release").await;
}

#[tokio::test]
async fn files_of_others_are_refused() {
    for sql in [
        "CREATE TABLE keys (id)",
        "PRAGMA application_id = 1; CREATE TABLE t (id)",
        "PRAGMA application_id = 1",
        "PRAGMA user_version = 1; CREATE TABLE t (id)",
        "PRAGMA application_id = 0x7461706b; CREATE TABLE t (id)",
        "PRAGMA application_id = 0x7461706b; PRAGMA user_version = -1",
    ] {
        let file = File::new();
        file.operator().execute_batch(sql).unwrap();
        assert_refused(&file, "another application").await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    for garbage in [&b"garbage".repeat(1000)[..], b"xy", b"SQLite format 3\0", &[0xff; 4096]] {
        let file = File::new();
        fs::write(file.path(), garbage).unwrap();
        assert_refused(&file, "").await;
    }
    let file = File::new();
    let nowhere = file.directory.path().join("no/such/directory.db");
    for path in [file.directory.path().to_owned(), nowhere, ":memory:".into(), "".into()] {
        let refused = SqliteStore::open(&path).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{path:?}");
    }
    assert!(!std::path::Path::new(":memory:").exists());
}

#[tokio::test]
async fn a_truncated_file_is_an_error() {
    let file = File::new();
    let inserted = insert(&file.open().await, "key", "u").await;
    let copy = File::new();
    file.operator().execute("VACUUM INTO ?1", [copy.path().to_str().unwrap()]).unwrap();
    let whole = fs::read(copy.path()).unwrap();
    assert!(is_active(&copy.open().await, &inserted).await);
    for len in [100, 512, 4096, 8192, whole.len() - 4096] {
        let cut = File::new();
        fs::write(cut.path(), whole.get(..len).unwrap()).unwrap();
        let found = match SqliteStore::open(cut.path()).await {
            Ok(store) => store.find(&inserted.digest).await,
            Err(error) => Err(error),
        };
        // It is never "there is no such key", which would be a 401.
        if let Ok(found) = found {
            assert!(found.is_some(), "cut to {len} of {} bytes, the key is unknown", whole.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_threads_open_a_fresh_file_at_once() {
    for _ in 0..10 {
        let file = File::new();
        let opened: Vec<_> = (0..4)
            .map(|number| {
                let path = file.path();
                tokio::spawn(async move {
                    let store = SqliteStore::open(path).await.unwrap();
                    insert(&store, &format!("key{number}"), "u").await
                })
            })
            .collect();
        let mut keys = Vec::new();
        for task in opened {
            keys.push(task.await.unwrap());
        }
        let store = file.open().await;
        for key in &keys {
            assert!(is_active(&store, key).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_open_a_fresh_file_at_once() {
    for _ in 0..3 {
        let file = File::new();
        let names = ["key1", "key2", "key3", "key4"];
        let processes = names.map(|name| {
            super::sql::in_another_process(&file, "file::opens_and_inserts_a_key", name).spawn().unwrap()
        });
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
        let store = file.open().await;
        for name in names {
            assert!(is_active(&store, &key(name, "u")).await);
        }
        drop(connect(&file.path()));
    }
}

#[tokio::test]
#[ignore = "a part of the test above, in a process of its own"]
async fn opens_and_inserts_a_key() {
    let Ok(name) = std::env::var("STORES_KEY") else { return };
    let store = SqliteStore::open(std::env::var("STORES_FILE").unwrap()).await.unwrap();
    insert(&store, &name, "u").await;
}

/// A missing file is not created, and reading changes nothing.
#[tokio::test]
async fn c17_f3_a_missing_store_is_not_created() {
    let none = |answer: Result<SqliteStore, StoreError>| match answer.unwrap_err() {
        StoreError::Failed(cause) => assert!(cause.is::<tower_api_key::ConfigError>(), "{cause}"),
        other => panic!("{other:?}"),
    };
    let file = File::new();
    none(SqliteStore::open_existing(file.path()).await);
    none(SqliteStore::open_read_only(file.path()).await);
    assert!(!file.path().exists());
    fs::write(file.path(), "").unwrap();
    none(SqliteStore::open_existing(file.path()).await);
    none(SqliteStore::open_read_only(file.path()).await);
    assert_eq!(fs::read(file.path()).unwrap(), b"", "an empty file was made a store");
    let inserted = insert(&file.open().await, "key", "u").await;
    assert!(is_active(&SqliteStore::open_existing(file.path()).await.unwrap(), &inserted).await);
    file.operator().execute_batch("PRAGMA user_version = 99").unwrap();
    for opened in
        [SqliteStore::open_existing(file.path()).await, SqliteStore::open_read_only(file.path()).await]
    {
        assert!(matches!(opened, Err(StoreError::Failed(_))), "a newer file was opened");
    }
}

#[tokio::test]
async fn c17_f3_a_store_is_read_while_another_program_holds_the_lock_for_writers() {
    let file = File::new();
    let inserted = insert(&file.open().await, "key", "u").await;
    let writer = file.operator();
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE keys SET name = 'not yet'").unwrap();
    let store = SqliteStore::open_read_only(file.path()).await.unwrap();
    assert!(is_active(&store, &inserted).await);
    assert_eq!(store.get(&inserted.id).await.unwrap().unwrap().name, inserted.name);
    let terms = tower_api_key::store::Terms::by(tower_api_key::Authority::System);
    let revoked = store.revoke(&inserted.id, inserted.created_at, &terms).await;
    assert!(matches!(revoked, Err(RegistryError::Store(StoreError::Failed(_)))), "revoked: {revoked:?}");
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(store.get(&inserted.id).await.unwrap().unwrap().name, "not yet");
    assert!(is_active(&store, &inserted).await);
}

#[tokio::test]
async fn c17_f3_after_a_checkpoint_the_file_alone_is_whole() {
    let file = File::new();
    let store = file.open().await;
    let inserted = insert(&store, "key", "u").await;
    let copy = async || {
        let copy = File::new();
        fs::copy(file.path(), copy.path()).unwrap();
        let copied = SqliteStore::open_read_only(copy.path()).await;
        match copied {
            Ok(store) => store.find(&inserted.digest).await.unwrap().is_some(),
            Err(_) => false,
        }
    };
    assert!(!copy().await, "the log holds it, or this test shows nothing");
    // While a reader uses an older snapshot, the pages that it reads must not be overwritten; `checkpoint` says so.
    let reader = file.operator();
    reader.execute_batch("BEGIN; SELECT count(*) FROM keys").unwrap();
    insert(&store, "another", "u").await;
    assert!(!store.checkpoint().await.unwrap());
    reader.execute_batch("COMMIT").unwrap();
    assert!(store.checkpoint().await.unwrap());
    assert!(copy().await);
}

#[tokio::test]
async fn r29_no_secret_is_in_the_database_or_its_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    store.create_account("a", &user("alice")).await.unwrap();
    let keyring = Keyring::new(store.clone());
    let mut secrets = Vec::new();
    for n in 0..20 {
        let issued = keyring.issue(NewKey::user_level(user("alice"), n.to_string())).await.unwrap();
        let rotated = keyring.rotate(issued.id(), Grace::None).await.unwrap();
        secrets.extend([issued, rotated].map(|issued| issued.into_parts().0));
    }
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 1, "the WAL is among them: {files:?}");
    let bytes: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds(secrets[0].digest().as_bytes()), "this search finds what is there");
    for secret in &secrets {
        // The random part, without the public prefix and without the checksum, whose last characters are stored.
        let random = &secret.expose_secret().as_bytes()["sk_live_".len()..][..33];
        assert!(!holds(random) && !holds(&random[..12]) && !holds(&random[21..]));
    }
    assert!(store.find(&secrets[39].digest()).await.unwrap().is_some());
}
