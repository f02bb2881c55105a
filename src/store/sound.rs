//! What every record of a key must satisfy: checked before a built-in store takes one, and again when a row is read.

use crate::key::Environment;
use crate::record::KeyRecord;

/// The longest prefix of a [`KeyFormat`](crate::key::KeyFormat): ten characters and `_live_`.
const MAX_PREFIX_LEN: usize = 16;

/// Says what is wrong with a record; a store that held it could not tell what it means.
pub(super) fn check(key: &KeyRecord) -> Result<(), &'static str> {
    if !prefix_agrees(&key.prefix, key.environment) {
        return Err("the prefix of a key disagrees with its environment");
    }
    // What foreign keys end in is secret: nothing of it may be kept.
    let last4_len = if key.prefix.is_empty() { 0 } else { 4 };
    if !(key.last4.is_empty() || key.last4.len() == last4_len)
        || !key.last4.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err("the last characters of a key are not those of a checksum");
    }
    if key.created_at.as_micros() < 0 || key.expires_at.is_some_and(|end| end.as_micros() < 0) {
        return Err("a time of a key is before 1970");
    }
    if key.replaced_by.as_ref() == Some(&key.id) {
        return Err("a key replaces itself");
    }
    Ok(())
}

/// A prefix is empty (a key of a foreign shape) or ends with the name of its environment (R55).
fn prefix_agrees(prefix: &str, environment: Environment) -> bool {
    if prefix.is_empty() {
        return true;
    }
    let named = prefix.strip_suffix('_').and_then(|rest| rest.strip_suffix(environment.as_str()));
    prefix.len() <= MAX_PREFIX_LEN
        && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && named.is_some_and(|rest| rest.len() > 1 && rest.ends_with('_'))
}
