//! c10_06: invalid rows. Whatever value a column has, it never gives access.

use rusqlite::Connection;
use test_kit::{project, user};
use tower_api_key::key::ParseIdError;
use tower_api_key::store::{
    Accounts as _, Directory as _, KeyRegistry as _, KeyStore as _, Member, MemberRole, Project,
    RegistryError, StoreError, Terms,
};
use tower_api_key::{AccountStatus, KeyId, KeyLevel, KeyQuery, KeyRecord, Timestamp};
use tower_api_key_sqlite::SqliteStore;

use super::{File, MANY, key};
use tower_api_key::store::{AuditLog as _, ProjectDirectory as _, UsageLog as _};

/// SQL expressions, most of which are invalid in most columns.
const VALUES: &[&str] = &[
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "1.5",
    "-9223372036854775808",
    "9223372036854775807",
    "''",
    "' '",
    "'0'",
    "'SUPER'",
    "'user'",
    "'USER'",
    "'LIVE'",
    "'live '",
    "'test'",
    "'OWNER '",
    "'sk_test_'",
    "'sk_live'",
    "'p1 '",
    "'é'",
    "'a/b'",
    "printf('%.129c', 'a')",
    "x''",
    "x'00'",
    "zeroblob(31)",
    "zeroblob(33)",
    "printf('%.32c', 'a')",
    "CAST(x'ff' AS TEXT)",
    "CAST(x'7031007a' AS TEXT)",
    "'null'",
    "'none'",
    "'[1]'",
    "'[null]'",
    "'[\"a\",\"a\"]'",
    "'[\"a\"'",
    "'[\"a\"]]'",
    "'{\"a\":1}'",
    "'{\"a\":\"b\",\"a\":\"c\"}'",
    "'\"admin\"'",
];

/// Removes all constraints of the schema, as only damage or an attacker would; the rows stay as they are.
fn without_rules(file: &File) -> Connection {
    let operator = file.operator();
    let names = |sql: &str| -> Vec<String> {
        let mut statement = operator.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    for trigger in names("SELECT name FROM sqlite_master WHERE type = 'trigger'") {
        operator.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    operator.execute_batch("PRAGMA writable_schema = ON").unwrap();
    for (table, keys) in [
        ("keys", "PRIMARY KEY (digest), UNIQUE (id)"),
        ("accounts", "PRIMARY KEY (id)"),
        ("projects", "PRIMARY KEY (account, id)"),
        ("people", "PRIMARY KEY (user), UNIQUE (user, account)"),
    ] {
        let columns =
            names(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid")).join(", ");
        let lax = format!("CREATE TABLE {table} ({columns}, {keys}) WITHOUT ROWID");
        let changed = operator.execute("UPDATE sqlite_master SET sql = ?1 WHERE name = ?2", [&lax, table]);
        assert_eq!(changed.unwrap(), 1, "{table:?}, {keys:?}");
    }
    let version: i64 = operator.query_row("PRAGMA schema_version", [], |row| row.get(0)).unwrap();
    operator.execute_batch(&format!("PRAGMA schema_version = {}", version + 1)).unwrap();
    drop(operator);
    let vandal = file.operator();
    vandal.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    vandal
}

/// A store with one row of each kind, and a connection that may damage the rows.
async fn store_and_vandal(file: &File) -> (SqliteStore, KeyRecord, Connection) {
    let store = file.open().await;
    store.create_account("a", &user("alice")).await.unwrap();
    store.create_project("a", &Project::new(project("p1"), "P")).await.unwrap();
    let access = Member::new(MemberRole::ReadOnly, [project("p1")]);
    store.set_member("a", &user("bob"), &access).await.unwrap();
    let mut key = key("key", "bob");
    key.level = KeyLevel::Project(project("p1"));
    key.scopes = ["read".to_owned()].into();
    key.metadata = [("a".to_owned(), "b".to_owned())].into();
    store.insert(key.clone(), &Terms::by(tower_api_key::Authority::System).policy(MANY)).await.unwrap();
    (store, key, without_rules(file))
}

fn is_corrupt<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Corrupt(_)))
}

/// The value as SQLite evaluates it: an integer, a text, or something else.
fn evaluate(vandal: &Connection, value: &str) -> (Option<i64>, Option<String>, bool) {
    let read = |row: &rusqlite::Row<'_>| {
        let null = matches!(row.get_ref(0)?, rusqlite::types::ValueRef::Null);
        Ok((row.get(0).ok(), row.get(0).ok(), null))
    };
    vandal.query_row(&format!("SELECT {value}"), [], read).unwrap()
}

/// A second, independent rule for whether a column may have this value.
fn may_hold(vandal: &Connection, column: &str, value: &str) -> bool {
    let (integer, text, null) = evaluate(vandal, value);
    let id = |text: &Option<String>| {
        text.as_ref().is_some_and(|text| KeyId::new(text).map_err(|ParseIdError| ()).is_ok())
    };
    match column {
        "id" | "owner" | "project" | "family" => id(&text),
        "limits" => text.as_deref() == Some("none"),
        // Both are set, or neither.
        "replaced_by" | "replaced_at" => null,
        "name" => text.is_some(),
        "last4" => ["'none'", "''", "'user'", "'USER'", "'LIVE'", "'test'", "'null'"].contains(&value),
        "created_at" => integer.is_some_and(|micros| micros >= 0),
        "expires_at" => null || integer.is_some_and(|micros| micros >= 0),
        "revoked_at" => null || integer.is_some(),
        "restrictions" => value == "'{}'",
        // The row of this test is a live key for a project, with scopes and metadata.
        "digest" | "digested_by" | "level" | "environment" | "prefix" | "scopes" | "metadata" => false,
        unknown => panic!("a column without a rule: {unknown}"),
    }
}

#[tokio::test]
async fn c10_06_a_damaged_key_is_an_error() {
    let file = File::new();
    let (store, key, vandal) = store_and_vandal(&file).await;
    vandal.execute_batch("CREATE TABLE saved AS SELECT * FROM keys").unwrap();
    let mut columns = vandal.prepare("SELECT name FROM pragma_table_info('keys')").unwrap();
    let columns = columns.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let columns: Vec<_> = columns.map(Result::unwrap).collect();
    assert_eq!(columns.len(), 20);
    let (mut damaged, mut sound) = (0, 0);
    for column in &columns {
        for value in VALUES {
            let context = format!("{column} = {value}");
            if column == "digest" && *value == "NULL" {
                continue; // SQLite does not allow it in tables that are ordered by this column.
            }
            vandal.execute(&format!("UPDATE keys SET {context}"), []).unwrap();
            let found = store.find(&key.digest).await;
            let listed = store.list(&key.owner, &KeyQuery::default()).await;
            if may_hold(&vandal, column, value) {
                sound += 1;
                assert!(matches!(found, Ok(Some(_))), "{context}: {found:?}");
            } else {
                damaged += 1;
                // With another digest, it is not the key that was looked up.
                let other = column == "digest" && matches!(found, Ok(None));
                assert!(is_corrupt(&found) || other, "{context}: {found:?}");
                // With a damaged id, owner or environment it may be missing from the index, and without a time from
                // every list.
                let got = store.get(&key.id).await;
                assert!(is_corrupt(&got) || column == "id" && matches!(got, Ok(None)), "{context}: {got:?}");
                let unlisted =
                    ["owner", "environment"].contains(&&**column) || context == "created_at = NULL";
                let missed = unlisted && matches!(&listed, Ok(keys) if keys.is_empty());
                let corrupt = matches!(listed, Err(RegistryError::Store(StoreError::Corrupt(_))));
                assert!(corrupt || missed, "{context}: {listed:?}");
            }
            vandal.execute_batch("DELETE FROM keys; INSERT INTO keys SELECT * FROM saved").unwrap();
        }
    }
    assert!(damaged > 300 && sound > 50, "{damaged} damaged and {sound} sound rows");
    assert!(store.find(&key.digest).await.unwrap().is_some());
}

/// Only the columns that a refusal needs are parsed, so that it takes no longer than for an unknown key (C7-02).
#[tokio::test]
async fn c17_b9_a_refusal_parses_only_the_columns_that_it_needs() {
    let file = File::new();
    let (store, key, vandal) = store_and_vandal(&file).await;
    let damage = "scopes = 'x', metadata = 'x', restrictions = 'x', limits = 'x', last4 = 'x y'";
    vandal.execute(&format!("UPDATE keys SET {damage}, expires_at = 60000000"), []).unwrap();
    let at = |secs| store.find_at(&key.digest, Timestamp::from_secs(secs));
    assert!(is_corrupt(&at(59).await), "a key that works");
    assert!(at(60).await.unwrap().is_some_and(|key| !key.is_active(Timestamp::from_secs(60))));
    vandal.execute("UPDATE keys SET revoked_at = 5", []).unwrap();
    for secs in [0, 59, 60] {
        assert!(at(secs).await.unwrap().is_some_and(|key| key.revoked_at.is_some()), "{secs:?}");
    }
    assert!(is_corrupt(&store.find(&key.digest).await), "all of it");
    // The columns that it needs are still checked.
    for damage in
        ["id = ''", "owner = ''", "level = 'x'", "environment = 'x'", "digested_by = 'x'", "family = ''"]
    {
        vandal.execute(&format!("UPDATE keys SET {damage}"), []).unwrap();
        assert!(is_corrupt(&at(60).await), "{damage}");
        let sound = "id = 'k', owner = 'bob', level = 'PROJECT', environment = 'live', digested_by = 'sha256', family = 'k'";
        vandal.execute(&format!("UPDATE keys SET {sound}"), []).unwrap();
        assert!(at(60).await.is_ok(), "{damage:?}");
    }
}

/// Two columns that contradict each other, and values that only another kind of key may have.
#[tokio::test]
async fn c10_06_a_key_that_contradicts_itself_is_an_error() {
    let file = File::new();
    let (store, key, vandal) = store_and_vandal(&file).await;
    vandal.execute_batch("CREATE TABLE saved AS SELECT * FROM keys").unwrap();
    for (damage, sound) in [
        ("project = NULL", false),
        ("level = 'USER'", false),
        ("level = 'USER', project = NULL", true),
        ("environment = 'test'", false),
        ("prefix = 'sk_test_'", false),
        ("environment = 'test', prefix = 'sk_test_'", true),
        ("prefix = ''", false),
        ("prefix = '', last4 = ''", true),
        ("replaced_by = id, replaced_at = 5", false),
        ("scopes = '[]', metadata = '{}'", true),
        ("scopes = '{}'", false),
        ("metadata = '[]'", false),
        ("scopes = metadata", false),
        ("created_at = CAST(created_at AS TEXT)", false),
        ("revoked_at = '5'", false),
        ("revoked_at = ''", false),
        ("revoked_at = 5.0", false),
        ("expires_at = 'never'", false),
        ("restrictions = '{\"ip\":{\"allow\":[]}}'", true),
        ("restrictions = '{\"ip\":{\"mode\":\"observe\",\"allow\":[\"192.0.2.0/24\"]}}'", true),
        ("restrictions = '{\"ip\":{\"allow\":[\"192.0.2.0/24\"]'", false),
        ("restrictions = '{\"ip\":{\"allow\":[\"192.0.2.7/24\"]}}'", false),
        ("restrictions = '{\"ip\":{\"allow\":[\"::1\",\"::1\"]}}'", false),
        ("restrictions = '{\"ip\":{\"allow\":[]},\"ip\":{\"allow\":[\"::/0\"]}}'", false),
        ("restrictions = '{\"ip\":null}'", false),
        ("restrictions = '{\"ip\":{}}'", false),
        ("restrictions = '{\"ip\":{\"mode\":\"off\",\"allow\":[]}}'", false),
        ("restrictions = '{\"IP\":{\"allow\":[]}}'", false),
        ("restrictions = '{\"origin\":{\"allow\":[]}}'", false),
        ("restrictions = '{\"endpoints\":{\"allow\":[\"GET /.*\"]}}'", false),
        ("restrictions = '{\"referrer\":{\"allow\":[\"*\"]}}'", false),
        ("restrictions = '[]'", false),
        ("restrictions = ''", false),
        ("restrictions = NULL", false),
        ("limits = '12/min,200/30d'", true),
        ("limits = NULL", false),
        ("limits = 'None'", false),
        ("limits = 'none,12/min'", false),
        ("replaced_by = 'next'", false),
        ("replaced_at = 5", false),
        ("replaced_by = 'next', replaced_at = 5", true),
        ("replaced_by = 'next', replaced_at = -1", false),
        ("replaced_by = 'next', replaced_at = '5'", false),
        ("limits = '12/min,12/min'", false),
        ("limits = '012/min'", false),
        ("limits = ''", false),
        ("family = 'another'", true),
        ("family = NULL", false),
        ("family = ''", false),
    ] {
        vandal.execute(&format!("UPDATE keys SET {damage}"), []).unwrap();
        let found = store.find(&key.digest).await;
        assert!(if sound { matches!(found, Ok(Some(_))) } else { is_corrupt(&found) }, "{damage}: {found:?}");
        if !sound {
            // The row cannot be replaced either, and is not silently repaired.
            let replaced =
                store.insert(key.clone(), &Terms::by(tower_api_key::Authority::System).policy(MANY)).await;
            assert!(replaced.is_err(), "{damage:?}, {sound:?}");
            assert!(is_corrupt(&store.find(&key.digest).await), "{damage:?}, {sound:?}");
        }
        vandal.execute_batch("DELETE FROM keys; INSERT INTO keys SELECT * FROM saved").unwrap();
    }
}

#[tokio::test]
async fn c10_06_a_damaged_standing_is_an_error() {
    let file = File::new();
    let (store, _, vandal) = store_and_vandal(&file).await;
    for (table, column, row, asked) in [
        ("people", "role", "user = 'bob'", "bob"),
        ("people", "role", "user = 'alice'", "alice"),
        ("accounts", "suspended", "id = 'a'", "bob"),
        ("accounts", "suspended", "id = 'a'", "alice"),
        ("projects", "deleted", "id = 'p1'", "bob"),
        ("projects", "deleted", "id = 'p1'", "alice"),
    ] {
        for value in VALUES {
            let context = format!("{table}.{column} of {asked} = {value}");
            vandal.execute_batch("BEGIN").unwrap();
            let saved: rusqlite::types::Value = vandal
                .query_row(&format!("SELECT {column} FROM {table} WHERE {row}"), [], |row| row.get(0))
                .unwrap();
            vandal.execute(&format!("UPDATE {table} SET {column} = {value} WHERE {row}"), []).unwrap();
            vandal.execute_batch("COMMIT").unwrap();
            let standing = store.account_status(&user(asked), Some(&project("p1"))).await;
            match (column, *value) {
                ("suspended", "1") => assert_eq!(standing.unwrap(), AccountStatus::Disabled, "{context}"),
                ("deleted", "1") => {
                    assert_eq!(standing.unwrap(), AccountStatus::Active { role: None }, "{context}");
                }
                ("suspended" | "deleted", "0") => {
                    assert!(matches!(standing, Ok(AccountStatus::Active { role: Some(_) })), "{context}");
                }
                // A project that neither exists nor was deleted does not exist.
                ("deleted", "NULL") => {
                    assert!(
                        is_corrupt(&standing) || matches!(standing, Ok(AccountStatus::Active { role: None })),
                        "{context}"
                    );
                }
                _ => assert!(is_corrupt(&standing), "{context}: {standing:?}"),
            }
            if !matches!((column, *value), ("suspended" | "deleted", "0")) {
                let projects = store.projects(&user(asked)).await;
                let none = matches!(&projects, Ok(projects) if projects.is_empty());
                assert!(none || is_corrupt(&projects), "{context}: {projects:?}");
            }
            let restore = format!("UPDATE {table} SET {column} = ?1 WHERE {row}");
            vandal.execute(&restore, [saved]).unwrap();
        }
    }
    vandal.execute("UPDATE people SET account = 'nowhere' WHERE user = 'bob'", []).unwrap();
    assert!(is_corrupt(&store.account_status(&user("bob"), None).await));
    vandal.execute("UPDATE projects SET id = 'a b'", []).unwrap();
    assert!(is_corrupt(&store.projects(&user("alice")).await));
}

/// Each column of a key, and the error for it.
#[tokio::test]
async fn c17_f4_an_unparsable_column_is_named_with_the_id_of_its_key() {
    let file = File::new();
    let (store, key, vandal) = store_and_vandal(&file).await;
    vandal.execute_batch("CREATE TABLE saved AS SELECT * FROM keys").unwrap();
    let secret = "c17-canary";
    for (damage, says) in [
        ("digest = zeroblob(31)", "key key: its digest is not 32 bytes"),
        ("digested_by = 'c17-canary'", "key key: how it was digested does not parse"),
        ("id = 'c17-canary '", "user bob: the id of one of their keys does not parse"),
        ("id = 'c17-canary ', owner = ' '", "the id of one of their keys does not parse"),
        ("owner = 'c17-canary '", "key key: the id of its owner does not parse"),
        ("level = 'c17-canary'", "key key: its level is neither USER without a project nor PROJECT with one"),
        ("project = 'c17-canary '", "key key: the id of a project does not parse"),
        ("environment = 'c17-canary'", "key key: its environment is neither live nor test"),
        ("name = x'00'", "key key: column name: what stands there is no text"),
        ("name = CAST(x'ff' AS TEXT)", "key key: column name: a text is not UTF-8"),
        ("prefix = 'c17-canary'", "key key: the prefix of a key disagrees with its environment"),
        ("last4 = 'c17-canary'", "key key: the last characters of a key are not those of a checksum"),
        ("scopes = 'c17-canary'", "key key: its scopes are no JSON list of different texts"),
        ("metadata = 'c17-canary'", "key key: its metadata is no JSON map of texts"),
        ("restrictions = 'c17-canary'", "key key: its restrictions do not parse"),
        ("limits = 'c17-canary'", "key key: its limits do not parse"),
        ("limits = NULL", "key key: column limits: a text is missing"),
        ("family = 'c17-canary '", "key key: the id of its family does not parse"),
        ("created_at = 'c17-canary'", "key key: column created_at: what stands there is no whole number"),
        ("expires_at = 1.5", "key key: column expires_at: what stands there is no whole number"),
        ("revoked_at = ''", "key key: column revoked_at: what stands there is no whole number"),
        ("replaced_by = 'c17-canary ', replaced_at = 5", "key key: the id of its successor does not parse"),
        ("replaced_at = 5", "key key: a key is replaced by none, or at no time"),
    ] {
        vandal.execute(&format!("UPDATE keys SET {damage}"), []).unwrap();
        // Found by the digest, or else by the id.
        let found = match store.find(&key.digest).await {
            Ok(None) => store.get(&key.id).await.unwrap_err(),
            found => found.unwrap_err(),
        };
        let said = found.to_string();
        assert_eq!(said, format!("the store contains a corrupt row: {says}"), "{damage}");
        assert!(!format!("{found:?}").contains(secret), "{damage}");
        vandal.execute_batch("DELETE FROM keys; INSERT INTO keys SELECT * FROM saved").unwrap();
    }
    let said = |error: StoreError| {
        error.to_string().trim_start_matches("the store contains a corrupt row: ").to_owned()
    };
    vandal.execute_batch("UPDATE history SET event = 'c17-canary'").unwrap();
    let history = said(store.history(&key.id, 9).await.unwrap_err());
    assert_eq!(history, "key key: the event in an entry of its trail does not parse");
    vandal.execute_batch("INSERT INTO usage VALUES ('key', 'c17-canary', 5, 1)").unwrap();
    let usage = said(store.usage(std::slice::from_ref(&key.id)).await.unwrap_err());
    assert_eq!(usage, "key key: the way that it was used does not parse");
    vandal.execute_batch("UPDATE accounts SET suspended = 2").unwrap();
    let standing = said(store.account_status(&user("bob"), None).await.unwrap_err());
    assert_eq!(standing, "user bob: column suspended: what is true or false is neither");
    vandal.execute_batch("UPDATE accounts SET suspended = 0; UPDATE people SET role = 'c17-canary'").unwrap();
    let standing = said(store.account_status(&user("bob"), None).await.unwrap_err());
    assert_eq!(standing, "user bob: the role is not OWNER, FULL or READONLY");
    let people = said(store.list_people("a", None, 9).await.unwrap_err().into_store_error());
    assert_eq!(people, "user alice: the role is not OWNER, FULL or READONLY");
    vandal.execute_batch("UPDATE people SET role = 'FULL', user = 'c17-canary ' WHERE user = 'bob'").unwrap();
    let people = said(store.list_people("a", Some(&user("alice")), 9).await.unwrap_err().into_store_error());
    assert_eq!(people, "account a: the id of a user does not parse");
    vandal.execute_batch("UPDATE projects SET id = 'c17-canary '").unwrap();
    let projects = said(store.list_projects("a", None, 9).await.unwrap_err().into_store_error());
    assert_eq!(projects, "account a: the id of a project does not parse");
    vandal.execute_batch("UPDATE accounts SET suspended = 2").unwrap();
    let accounts = said(store.list_accounts(None, 9).await.unwrap_err());
    assert_eq!(accounts, "account a: column suspended: what is true or false is neither");
}
