//! c17: a role with exactly the rights that are listed in `docs/operations.md`.

use std::time::Duration;

use test_kit::{project, user};
use tokio_postgres::Client;
use tower_api_key::store::{Accounts as _, Cached, KeyStore as _, Member, MemberRole, Project};
use tower_api_key::test_util::contract;
use tower_api_key_postgres::PostgresStore;

use super::{Schema, insert, is_active, nobody_holds_the_log, revoke, server, soon};

/// The SQL block that creates the role.
fn grants() -> &'static str {
    let page = include_str!("../../../../docs/operations.md");
    let blocks = page.split("```sql\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.into_iter().find(|block| block.contains("ROLE keys_service")).unwrap()
}

/// A schema that belongs to another role, and a role that may only use it. Both are dropped at the end.
struct Service {
    schema: Schema,
    role: String,
    operator: Client,
}

impl Service {
    async fn new() -> Self {
        let schema = Schema::new();
        drop(schema.open().await);
        let operator = schema.operator().await;
        let role = format!("role_{}", schema.name);
        let grants = grants().replace("tower_api_key", &schema.name).replace("keys_service", &role);
        operator.batch_execute(&grants).await.unwrap();
        Self { schema, role, operator }
    }

    /// A store that acts as that role, whatever user has connected.
    async fn open(&self) -> PostgresStore {
        let mark = if server().contains('?') { '&' } else { '?' };
        let as_role = format!("{}{mark}options=-crole%3D{}", server(), self.role);
        self.schema.options_at(&as_role).existing().connect().await.unwrap()
    }

    async fn gone(self) {
        let drop = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.role);
        self.operator.batch_execute(&drop).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f1_the_documented_rights_are_sufficient() {
    let service = Service::new().await;
    let store = service.open().await;
    contract::key_store_and_registry(async || store.clone()).await;
    contract::accounts(async || store.clone()).await;

    // Background work: nodes, and pruning the log. An open transaction forces the log to be folded.
    let alone = nobody_holds_the_log().await;
    let open = service.schema.operator().await;
    open.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    service
        .operator
        .execute("INSERT INTO changes (digest) SELECT NULL FROM generate_series(1, 51000)", &[])
        .await
        .unwrap();
    // Rows are counted from the newest row that means `Everything`.
    let keys =
        "INSERT INTO changes (digest) SELECT decode(repeat('00', 32), 'hex') FROM generate_series(1, 51000)";
    service.operator.execute(keys, &[]).await.unwrap();
    let cached = Cached::start(service.open().await);
    let length = async || {
        let row = service.operator.query_one("SELECT count(*) FROM changes", &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    soon("the lease", async || cached.has_lease().then_some(())).await;
    soon("the folding", async || (length().await < 1000).then_some(())).await;
    open.batch_execute("ROLLBACK").await.unwrap();
    drop(alone);
    let known = insert(&store, "one", "somebody").await;
    assert!(cached.find(&known.digest).await.unwrap().is_some());
    revoke(&store, &known).await;
    assert!(!is_active(&store, &known).await);
    tokio::time::timeout(Duration::from_secs(30), cached.shutdown()).await.unwrap();

    // The role has no more rights than necessary.
    store.create_account("another", &user("owner")).await.unwrap();
    store.create_project("another", &Project::new(project("p"), "")).await.unwrap();
    store
        .set_member("another", &user("member"), &Member::new(MemberRole::Full, [project("p")]))
        .await
        .unwrap();
    let forbidden = service.schema.operator().await;
    forbidden.batch_execute(&format!("SET ROLE {}", service.role)).await.unwrap();
    for sql in [
        "DELETE FROM keys",
        "TRUNCATE keys",
        "DELETE FROM history",
        "UPDATE history SET by = 'x'",
        "DELETE FROM projects",
        "DROP TABLE usage",
        "ALTER TABLE keys DISABLE TRIGGER ALL",
        "CREATE TABLE more ()",
        "UPDATE version SET version = 7",
    ] {
        let refused = forbidden.batch_execute(sql).await.unwrap_err();
        let code = refused.as_db_error().map(|error| error.code().code().to_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{sql}: {refused}");
    }
    drop(forbidden);
    store.close().await.unwrap();
    service.gone().await;
}
