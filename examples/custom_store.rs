//! How do I look up keys and people in my own storage?
//!
//! ```text
//! cargo run --example custom_store
//! ```
//!
//! It makes a key and prints requests to try, each below the status that it gets. `ADDR` sets the address. For the
//! same with an application's SQL tables see `examples/sqlx-store`.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_api_key::scheme::ApiKeyHeader;
use tower_api_key::store::{Directory, KeyStore, Project, ProjectDirectory, StoreError};
use tower_api_key::{
    AccountStatus, ApiKeyAuth, Environment, KeyDigest, KeyFormat, KeyId, KeyRecord, Principal, ProjectId,
    Role, Timestamp, UserId,
};

/// Keys by the digest of their text. It never holds the text itself.
struct Keys(HashMap<[u8; 32], Arc<KeyRecord>>);

#[async_trait]
impl KeyStore for Keys {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        // `None` means that there is certainly no such key: 401. A store that cannot answer returns an error: 503.
        // The layer checks whether the key is revoked or expired.
        Ok(self.0.get(digest.as_bytes()).cloned())
    }
}

/// Says at every request what a user may do. Here each user owns the project with the user's own id.
struct People;

#[async_trait]
impl Directory for People {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let role = match project {
            None => Some(Role::Owner),
            Some(project) if project.as_str() == user.as_str() => Some(Role::Owner),
            Some(_) => None,
        };
        Ok(AccountStatus::Active { role })
    }
}

#[async_trait]
impl ProjectDirectory for People {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        let id = ProjectId::new(user.as_str()).map_err(StoreError::failed)?;
        Ok(vec![Project::new(id, format!("{user}'s project"))])
    }
}

async fn hello(who: Principal) -> String {
    format!("hello {}\n", who.user_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = KeyFormat::default().generate(Environment::Live)?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let record = KeyRecord::new(KeyId::new("key_1")?, key.digest(), UserId::new("alice")?, now);
    let keys = Keys(HashMap::from([(*record.digest.as_bytes(), Arc::new(record))]));

    // Two parts make a store; `NoProjects(keys)` would do for an API that has no projects.
    let auth = ApiKeyAuth::new((keys, People), ApiKeyHeader::default());
    let app = Router::new().route("/hello", get(hello)).layer(auth);

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let (url, key) = (format!("http://{}", listener.local_addr()?), key.expose_secret());
    println!("Listening on {url}");
    println!("# 200\ncurl -i {url}/hello -H 'X-API-Key: {key}' -H 'X-Project-ID: alice'");
    println!("# 403\ncurl -i {url}/hello -H 'X-API-Key: {key}' -H 'X-Project-ID: bob'");
    println!("# 401\ncurl -i {url}/hello -H 'X-API-Key: nonsense' -H 'X-Project-ID: alice'");
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
