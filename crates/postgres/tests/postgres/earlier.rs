//! A schema that was written by the first release.

use test_kit::earlier;

use super::{Schema, connect, server};

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn a_schema_of_the_first_release_works() {
    let schema = Schema::new();
    let dump = include_str!("../earlier/2026-11.sql").replace("tower_api_key", &schema.name);
    let operator = connect(&server()).await;
    operator.batch_execute(&dump).await.unwrap();
    let shaped = earlier::shaped();
    // The columns that identify a key cannot be updated, so the row is inserted again.
    let keys = format!("{}.keys", schema.name);
    operator
        .batch_execute(&format!(
            "CREATE TEMP TABLE shaped AS SELECT * FROM {keys} WHERE id = 'key_shaped';
            DELETE FROM {keys} WHERE id = 'key_shaped'"
        ))
        .await
        .unwrap();
    operator
        .execute("UPDATE shaped SET digest = $1::bytea", &[&&shaped.digest().as_bytes()[..]])
        .await
        .unwrap();
    operator.batch_execute(&format!("INSERT INTO {keys} SELECT * FROM pg_temp.shaped")).await.unwrap();
    earlier::is_read_and_changed(schema.open().await, &shaped).await;
}
