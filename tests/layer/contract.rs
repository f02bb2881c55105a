//! The contract suite on the store in memory.

use tower_api_key::MemoryStore;
use tower_api_key::test_util::contract;

#[tokio::test(flavor = "multi_thread")]
async fn memory_keys() {
    contract::key_store_and_registry(async || MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_accounts() {
    contract::accounts(async || MemoryStore::new()).await;
}
