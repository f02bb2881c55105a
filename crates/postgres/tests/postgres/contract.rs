//! The contract of all stores.

use tower_api_key::test_util::contract;

use super::Schema;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn postgres_keeps_the_contract_of_keys() {
    let schema = Schema::new();
    let store = schema.open().await;
    contract::key_store_and_registry(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn postgres_keeps_the_contract_of_accounts() {
    let schema = Schema::new();
    let store = schema.open().await;
    contract::accounts(async || store.clone()).await;
}
