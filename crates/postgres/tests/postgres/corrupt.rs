//! c10_06: invalid rows. Whatever value a column has, it never gives access.

use test_kit::{project, user};
use tokio_postgres::Client;
use tower_api_key::store::{
    Accounts as _, Directory as _, KeyRegistry as _, KeyStore as _, Member, MemberRole, Project,
    RegistryError, StoreError, Terms,
};
use tower_api_key::{AccountStatus, Authority, KeyId, KeyLevel, KeyQuery, KeyRecord};
use tower_api_key_postgres::PostgresStore;

use super::{MANY, NO_ACCESS, Schema, key};
use tower_api_key::store::ProjectDirectory as _;

/// Texts, most of which are invalid in most columns.
const TEXTS: &[&str] = &[
    "",
    " ",
    "0",
    "SUPER",
    "user",
    "USER",
    "LIVE",
    "live ",
    "test",
    "OWNER ",
    "sk_test_",
    "sk_live",
    "p1 ",
    "é",
    "a/b",
    "null",
    "[1]",
    "[null]",
    "[\"a\",\"a\"]",
    "[\"a\"",
    "[\"a\"]]",
    "{\"a\":1}",
    "{\"a\":\"b\",\"a\":\"c\"}",
    "\"admin\"",
    "{}",
    "\"\\ud800\"",
];

/// Removes all constraints of the schema, as only damage or an attacker would; the rows stay as they are.
async fn without_rules(schema: &Schema) -> Client {
    let vandal = schema.operator().await;
    let rules = "
        SELECT CASE WHEN contypid <> 0
            THEN 'ALTER DOMAIN ' || contypid::regtype || ' DROP CONSTRAINT ' || conname
            ELSE 'ALTER TABLE ' || conrelid::regclass || ' DROP CONSTRAINT ' || conname || ' CASCADE' END
        FROM pg_constraint WHERE connamespace = to_regnamespace($1) AND contype IN ('c', 'f')
        UNION ALL SELECT 'ALTER TABLE ' || tgrelid::regclass || ' DISABLE TRIGGER ' || tgname
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = to_regnamespace($1) AND NOT tgisinternal
        UNION ALL SELECT 'ALTER TABLE ' || attrelid::regclass || ' ALTER ' || attname || ' DROP NOT NULL'
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = to_regnamespace($1) AND relname IN ('keys', 'people', 'accounts', 'projects')
            AND relkind = 'r' AND attnum > 0 AND attnotnull
            AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = attrelid AND indisprimary AND attnum = ANY (indkey))";
    for rule in vandal.query(rules, &[&schema.name]).await.unwrap() {
        vandal.batch_execute(rule.get(0)).await.unwrap();
    }
    vandal
}

async fn store_and_vandal(schema: &Schema) -> (PostgresStore, KeyRecord, Client) {
    let store = schema.open().await;
    store.create_account("a", &user("alice")).await.unwrap();
    store.create_project("a", &Project::new(project("p1"), "P")).await.unwrap();
    let access = Member::new(MemberRole::ReadOnly, [project("p1")]);
    store.set_member("a", &user("bob"), &access).await.unwrap();
    let mut key = key("key", "bob");
    key.level = KeyLevel::Project(project("p1"));
    key.scopes = ["read".to_owned()].into();
    key.metadata = [("a".to_owned(), "b".to_owned())].into();
    store.insert(key.clone(), &Terms::by(Authority::System).policy(MANY)).await.unwrap();
    (store, key, without_rules(schema).await)
}

/// A second, independent rule for whether a column of that row may have this text.
fn may_hold(column: &str, text: &str) -> bool {
    match column {
        "id" | "owner" | "project" | "family" => KeyId::new(text).is_ok(),
        "name" => text == "\"admin\"",
        "last4" => {
            text.is_empty() || (text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        }
        "restrictions" => text == "{}",
        "metadata" => text == "{}",
        "digested_by" | "level" | "environment" | "prefix" | "scopes" | "limits" | "replaced_by" => false,
        unknown => panic!("a column without a rule: {unknown}"),
    }
}

fn is_corrupt<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Corrupt(_)))
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_06_a_damaged_key_is_an_error() {
    let schema = Schema::new();
    let (store, key, vandal) = store_and_vandal(&schema).await;
    vandal.batch_execute("CREATE TABLE saved AS SELECT * FROM keys").await.unwrap();
    let columns = "SELECT attname::text, format_type(atttypid, 0) = 'bigint' FROM pg_attribute
                   WHERE attrelid = 'keys'::regclass AND attnum > 0 AND attname <> 'digest'";
    let columns = vandal.query(columns, &[]).await.unwrap();
    assert_eq!(columns.len(), 19);
    let (mut damaged, mut sound) = (0, 0);
    for row in &columns {
        let (column, number): (String, bool) = (row.get(0), row.get(1));
        let mut damages = vec![(
            "NULL".to_owned(),
            matches!(&*column, "expires_at" | "revoked_at" | "replaced_by" | "replaced_at"),
        )];
        if number {
            damages.push(("-1".to_owned(), column == "revoked_at"));
            damages.push((i64::MIN.to_string(), column == "revoked_at"));
        } else {
            damages.extend(TEXTS.iter().map(|text| (format!("'{text}'"), may_hold(&column, text))));
        }
        for (value, fits) in damages {
            let context = format!("{column} = {value}");
            vandal.batch_execute(&format!("UPDATE keys SET {context}")).await.unwrap();
            let found = store.find(&key.digest).await;
            if fits {
                sound += 1;
                assert!(matches!(found, Ok(Some(_))), "{context}: {found:?}");
            } else {
                damaged += 1;
                assert!(is_corrupt(&found), "{context}: {found:?}");
                let got = store.get(&key.id).await;
                assert!(is_corrupt(&got) || column == "id" && matches!(got, Ok(None)), "{context}: {got:?}");
                let listed = store.list(&key.owner, &KeyQuery::default()).await;
                let missed = ["owner", "created_at"].contains(&&*column)
                    && matches!(&listed, Ok(keys) if keys.is_empty());
                let corrupt = matches!(listed, Err(RegistryError::Store(StoreError::Corrupt(_))));
                assert!(corrupt || missed, "{context}: {listed:?}");
            }
            vandal.batch_execute("DELETE FROM keys; INSERT INTO keys SELECT * FROM saved").await.unwrap();
        }
    }
    assert!(damaged > 200 && sound > 30, "{damaged} damaged and {sound} sound rows");
    for (damage, sound) in [
        ("project = NULL", false),
        ("level = 'USER'", false),
        ("level = 'USER', project = NULL", true),
        ("environment = 'test'", false),
        ("environment = 'test', prefix = 'sk_test_'", true),
        ("prefix = ''", false),
        ("prefix = '', last4 = ''", true),
        ("replaced_by = id, replaced_at = 5", false),
        ("replaced_by = 'another', replaced_at = 5", true),
        ("replaced_at = 5", false),
        ("limits = '12/min,200/30d'", true),
        ("limits = '012/min'", false),
        ("scopes = metadata", false),
    ] {
        vandal.batch_execute(&format!("UPDATE keys SET {damage}")).await.unwrap();
        let found = store.find(&key.digest).await;
        assert!(if sound { matches!(found, Ok(Some(_))) } else { is_corrupt(&found) }, "{damage}: {found:?}");
        vandal.batch_execute("DELETE FROM keys; INSERT INTO keys SELECT * FROM saved").await.unwrap();
    }
    // No key has a digest of another length.
    vandal.batch_execute("UPDATE keys SET digest = decode(repeat('00', 31), 'hex')").await.unwrap();
    assert!(is_corrupt(&store.get(&key.id).await));
    assert!(store.find(&key.digest).await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c10_06_a_damaged_standing_is_an_error() {
    let schema = Schema::new();
    let (store, _, vandal) = store_and_vandal(&schema).await;
    let on_p1 = async |id| store.account_status(&user(id), Some(&project("p1"))).await;
    for text in TEXTS.iter().map(|text| format!("'{text}'")).chain(["NULL".to_owned()]) {
        for (id, role) in [("alice", "OWNER"), ("bob", "READONLY")] {
            vandal
                .batch_execute(&format!("UPDATE people SET role = {text} WHERE user_id = '{id}'"))
                .await
                .unwrap();
            let standing = on_p1(id).await;
            assert!(is_corrupt(&standing), "{text}: {standing:?}");
            let projects = store.projects(&user(id)).await;
            let none = matches!(&projects, Ok(projects) if projects.is_empty());
            assert!(none || is_corrupt(&projects), "{text}: {projects:?}");
            let back = format!("UPDATE people SET role = '{role}' WHERE user_id = '{id}'");
            vandal.batch_execute(&back).await.unwrap();
        }
    }
    vandal.batch_execute("UPDATE accounts SET suspended = NULL").await.unwrap();
    assert!(is_corrupt(&on_p1("alice").await) && is_corrupt(&on_p1("bob").await));
    vandal
        .batch_execute("UPDATE accounts SET suspended = false; UPDATE projects SET deleted = NULL")
        .await
        .unwrap();
    assert_eq!(on_p1("alice").await.unwrap(), NO_ACCESS);
    assert!(store.projects(&user("alice")).await.unwrap().is_empty());
    vandal.batch_execute("DELETE FROM accounts").await.unwrap();
    assert!(is_corrupt(&on_p1("alice").await));
    assert_eq!(on_p1("nobody").await.unwrap(), AccountStatus::Disabled);
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f4_an_unparsable_column_is_named_with_the_id_of_its_key() {
    let schema = Schema::new();
    let (store, key, vandal) = store_and_vandal(&schema).await;
    vandal.batch_execute("CREATE TABLE saved AS SELECT * FROM keys").await.unwrap();
    for (damage, says) in [
        ("restrictions = 'c17-canary'", "key key: its restrictions do not parse"),
        ("limits = 'c17-canary'", "key key: its limits do not parse"),
        ("limits = NULL", "key key: column limits: a text is missing"),
        ("name = 'c17-canary'", "key key: column name: what people wrote is no JSON text"),
        ("level = 'c17-canary'", "key key: its level is neither USER without a project nor PROJECT with one"),
        ("id = 'c17-canary '", "user bob: the id of one of their keys does not parse"),
    ] {
        vandal.batch_execute(&format!("UPDATE keys SET {damage}")).await.unwrap();
        let found = store.find(&key.digest).await.unwrap_err();
        assert_eq!(found.to_string(), format!("the store contains a corrupt row: {says}"), "{damage}");
        assert!(!format!("{found:?}").contains("c17-canary"), "{damage}");
        vandal.batch_execute("DELETE FROM keys; INSERT INTO keys SELECT * FROM saved").await.unwrap();
    }
    vandal.batch_execute("UPDATE people SET role = 'c17-canary' WHERE user_id = 'bob'").await.unwrap();
    let standing = store.account_status(&user("bob"), None).await.unwrap_err().to_string();
    assert!(standing.ends_with("user bob: the role is not OWNER, FULL or READONLY"), "{standing}");
    let people = store.list_people("a", None, 9).await.unwrap_err().to_string();
    assert!(people.ends_with("user bob: the role is not OWNER, FULL or READONLY"), "{people}");
    vandal.batch_execute("UPDATE projects SET id = 'c17-canary '").await.unwrap();
    let projects = store.list_projects("a", None, 9).await.unwrap_err().to_string();
    assert!(projects.ends_with("account a: the id of a project does not parse"), "{projects}");
}
