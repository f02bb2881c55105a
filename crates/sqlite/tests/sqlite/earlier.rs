//! A file that was written by the first release.

use std::path::Path;

use test_kit::earlier;

use super::File;

#[tokio::test]
async fn a_file_of_the_first_release_works() {
    let file = File::new();
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/earlier/2026-11.db");
    std::fs::copy(written, file.path()).unwrap();
    let shaped = earlier::shaped();
    // The columns that identify a key cannot be updated, so the row is inserted again.
    let operator = file.operator();
    let digest = shaped.digest();
    let columns = "digested_by, id, owner, level, project, environment, name, prefix, last4, scopes, metadata, restrictions, \
                   limits, family, created_at, expires_at, revoked_at, replaced_by, replaced_at";
    let written = operator
        .execute_batch(
            "CREATE TEMP TABLE row AS SELECT * FROM keys WHERE id = 'key_shaped';
            DELETE FROM keys WHERE id = 'key_shaped'",
        )
        .and_then(|()| {
            let insert = format!("INSERT INTO keys (digest, {columns}) SELECT ?1, {columns} FROM temp.row");
            operator.execute(&insert, [&digest.as_bytes()[..]])
        });
    assert_eq!(written.unwrap(), 1);
    earlier::is_read_and_changed(file.open().await, &shaped).await;
}
