//! Which digests keys are kept under: SHA-256, or peppers that stand outside of the file with the keys.

use std::env::{self, VarError};
use std::fs;

use tower_api_key::{Digests, Keyring, Pepper};

use crate::Failure;

/// From `TOWER_API_KEY_PEPPERS`, or the file that `TOWER_API_KEY_PEPPERS_FILE` names: `id:secret`, newest first, with commas
/// or new lines between; at the end perhaps `sha256`, for keys from before there were peppers.
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
        // What it holds is secret, and is not printed.
        (Err(VarError::NotUnicode(_)), _) => return Err("TOWER_API_KEY_PEPPERS is no text".into()),
    };
    let mut ring: Option<Digests> = None;
    for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        ring = Some(match (ring, entry.split_once(':')) {
            (None, Some((id, secret))) => Digests::peppered(Pepper::new(id, secret)?)?,
            (Some(ring), Some((id, secret))) => ring.accept_pepper(Pepper::new(id, secret)?)?,
            (Some(ring), None) if entry == "sha256" => ring.accept_sha256(),
            _ => return Err("a pepper is written as id:secret, the newest first".into()),
        });
    }
    // Set and empty is a mistake, and must not mean "none".
    ring.ok_or_else(|| "there is no pepper where one was promised".into())
}

/// Says how many keys cannot be used because their pepper is not there.
pub(crate) async fn warn(keyring: &Keyring) -> Result<(), Failure> {
    for (kind, count) in keyring.missing_digests().await? {
        println!("Warning: {count} keys need {kind:?}, which is not there. They are refused.");
    }
    Ok(())
}
