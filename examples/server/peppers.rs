//! The digests of keys: SHA-256, or peppers that are kept outside of the file with the keys.

use std::env::{self, VarError};
use std::fs;

use tower_api_key::{Digests, Keyring, Pepper};

use crate::Failure;

/// Reads `TOWER_API_KEY_PEPPERS`, or the file that `TOWER_API_KEY_PEPPERS_FILE` names: `id:secret`, newest first,
/// separated by commas or new lines; the last entry may be `sha256`, for keys from before there were peppers.
pub(crate) fn ring() -> Result<Digests, Failure> {
    let text = match (env::var("TOWER_API_KEY_PEPPERS"), env::var_os("TOWER_API_KEY_PEPPERS_FILE")) {
        (Err(VarError::NotPresent), None) => return Ok(Digests::sha256()),
        (Err(VarError::NotPresent), Some(file)) => {
            fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?
        }
        (Ok(text), None) => text,
        (Ok(_), Some(_)) => {
            return Err("set TOWER_API_KEY_PEPPERS or TOWER_API_KEY_PEPPERS_FILE, not both".into());
        }
        // The value is secret and must not be printed.
        (Err(VarError::NotUnicode(_)), _) => return Err("TOWER_API_KEY_PEPPERS is not valid Unicode".into()),
    };
    let mut ring: Option<Digests> = None;
    for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        ring = Some(match (ring, entry.split_once(':')) {
            (None, Some((id, secret))) => Digests::peppered(Pepper::new(id, secret)?)?,
            (Some(ring), Some((id, secret))) => ring.accept_pepper(Pepper::new(id, secret)?)?,
            (Some(ring), None) if entry == "sha256" => ring.accept_sha256(),
            _ => return Err("a pepper must be written as id:secret, the newest first".into()),
        });
    }
    // An empty variable is a mistake and must not mean "no peppers".
    ring.ok_or_else(|| "TOWER_API_KEY_PEPPERS is set but contains no pepper".into())
}

/// Warns how many keys cannot be used because their pepper is missing.
pub(crate) async fn warn(keyring: &Keyring) -> Result<(), Failure> {
    for (kind, count) in keyring.missing_digests().await? {
        println!("Warning: {count} keys need {kind:?}, which is missing. They are refused.");
    }
    Ok(())
}
