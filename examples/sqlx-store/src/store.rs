//! A store on the application's own tables: one query about keys, two about people.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqlitePool;
use tower_api_key::store::{Directory, KeyStore, Project, ProjectDirectory, StoreError};
use tower_api_key::{
    AccountStatus, Environment, KeyDigest, KeyId, KeyLevel, KeyRecord, ProjectId, Role, Timestamp, UserId,
};

// The application's tables. The layer needs nothing more than an index on the hash.
pub(crate) const TABLES: &str = "
    CREATE TABLE customers (
        id     INTEGER PRIMARY KEY,
        active INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE shops (
        id   INTEGER PRIMARY KEY,
        name TEXT NOT NULL
    ) STRICT;
    CREATE TABLE staff (
        customer_id INTEGER NOT NULL REFERENCES customers (id),
        shop_id     INTEGER NOT NULL REFERENCES shops (id),
        may_write   INTEGER NOT NULL,
        PRIMARY KEY (customer_id, shop_id)
    ) STRICT;
    CREATE TABLE tokens (
        id          INTEGER PRIMARY KEY,
        sha256      BLOB NOT NULL UNIQUE,
        customer_id INTEGER NOT NULL REFERENCES customers (id),
        shop_id     INTEGER REFERENCES shops (id),
        sandbox     INTEGER NOT NULL,
        created     INTEGER NOT NULL,
        expires     INTEGER,
        revoked     INTEGER
    ) STRICT;
";

const TOKEN: &str =
    "SELECT id, customer_id, shop_id, sandbox, created, expires, revoked FROM tokens WHERE sha256 = ?";
const CUSTOMER: &str = "SELECT active FROM customers WHERE id = ?";
const STAFF: &str = "SELECT may_write FROM staff WHERE customer_id = ? AND shop_id = ?";
const SHOPS: &str = "SELECT id, name FROM shops JOIN staff ON shop_id = id WHERE customer_id = ? ORDER BY id";

/// Keys and people in the application's pool. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct AppStore(pub(crate) SqlitePool);

/// id, customer, shop, whether it is for the sandbox, and when it was created, expires and was revoked.
type Token = (i64, i64, Option<i64>, bool, i64, Option<i64>, Option<i64>);

#[async_trait]
impl KeyStore for AppStore {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let token: Option<Token> = sqlx::query_as(TOKEN)
            .bind(&digest.as_bytes()[..])
            .fetch_optional(&self.0)
            .await
            .map_err(StoreError::failed)?;
        // Revoked and expired tokens are returned as they are: the layer checks them.
        token.map(|token| record(token, *digest).map(Arc::new)).transpose()
    }
}

/// Converts a row for the layer. An inconsistent row is an error, never replaced by a default.
fn record(token: Token, digest: KeyDigest) -> Result<KeyRecord, StoreError> {
    let (id, customer, shop, sandbox, created, expires, revoked) = token;
    let id = KeyId::new(format!("token_{id}")).map_err(StoreError::failed)?;
    let owner = UserId::new(customer.to_string()).map_err(StoreError::failed)?;
    let mut record = KeyRecord::new(id, digest, owner, Timestamp::from_secs(created));
    if let Some(shop) = shop {
        record.level = KeyLevel::Project(ProjectId::new(shop.to_string()).map_err(StoreError::failed)?);
    }
    record.environment = if sandbox { Environment::Test } else { Environment::Live };
    record.expires_at = expires.map(Timestamp::from_secs);
    record.revoked_at = revoked.map(Timestamp::from_secs);
    Ok(record)
}

#[async_trait]
impl Directory for AppStore {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        // An id that the tables cannot contain belongs to nobody.
        let Ok(customer) = user.as_str().parse::<i64>() else { return Ok(AccountStatus::Disabled) };
        let active: Option<bool> = sqlx::query_scalar(CUSTOMER)
            .bind(customer)
            .fetch_optional(&self.0)
            .await
            .map_err(StoreError::failed)?;
        if active != Some(true) {
            return Ok(AccountStatus::Disabled);
        }
        let Some(project) = project else { return Ok(AccountStatus::Active { role: Some(Role::Full) }) };
        // `01` is not shop 1: ids are compared as they are spelled.
        let shop = project.as_str().parse::<i64>().ok().filter(|shop| shop.to_string() == project.as_str());
        let Some(shop) = shop else { return Ok(AccountStatus::Active { role: None }) };
        let may_write: Option<bool> = sqlx::query_scalar(STAFF)
            .bind(customer)
            .bind(shop)
            .fetch_optional(&self.0)
            .await
            .map_err(StoreError::failed)?;
        let role = may_write.map(|may_write| if may_write { Role::Full } else { Role::ReadOnly });
        Ok(AccountStatus::Active { role })
    }
}

#[async_trait]
impl ProjectDirectory for AppStore {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        let Ok(customer) = user.as_str().parse::<i64>() else { return Ok(Vec::new()) };
        let shops: Vec<(i64, String)> =
            sqlx::query_as(SHOPS).bind(customer).fetch_all(&self.0).await.map_err(StoreError::failed)?;
        shops
            .into_iter()
            .map(|(id, name)| {
                Ok(Project::new(ProjectId::new(id.to_string()).map_err(StoreError::failed)?, name))
            })
            .collect()
    }
}
