//! The contract suite on SQLite.

use std::path::Path;

use tower_api_key::test_util::contract;
use tower_api_key_sqlite::SqliteStore;

/// Opens a new file for each check.
async fn fresh(directory: &Path) -> SqliteStore {
    let file = tempfile::Builder::new().suffix(".db").tempfile_in(directory).unwrap();
    SqliteStore::open(file.into_temp_path().keep().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keys() {
    let directory = tempfile::tempdir().unwrap();
    contract::key_store_and_registry(async || fresh(directory.path()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_accounts() {
    let directory = tempfile::tempdir().unwrap();
    contract::accounts(async || fresh(directory.path()).await).await;
}

/// All checks share one database, as on a server that is not recreated for each.
#[tokio::test(flavor = "multi_thread")]
async fn one_file_for_all_checks() {
    let directory = tempfile::tempdir().unwrap();
    let store = fresh(directory.path()).await;
    for _ in 0..2 {
        contract::key_store_and_registry(async || store.clone()).await;
        contract::accounts(async || store.clone()).await;
    }
}
