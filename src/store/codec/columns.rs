//! The columns of a key.

/// The columns of a key in SQL, in the order in which [`KeyRow`](crate::store::codec::KeyRow) numbers them, as a
/// literal for `concat!`.
///
/// ```
/// const FIND: &str = concat!("SELECT ", tower_api_key::key_columns!(), " FROM keys WHERE digest = ?1");
/// assert!(FIND.starts_with("SELECT digest, id, owner, "));
/// ```
#[macro_export]
macro_rules! key_columns {
    () => {
        "digest, id, owner, level, project, environment, name, prefix, last4, scopes, metadata, created_at, \
         expires_at, revoked_at, replaced_by, restrictions, limits, family, digested_by, replaced_at"
    };
}
