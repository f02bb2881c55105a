//! The store that everything is about.

use std::fs;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "slow-hashes")]
use tower_api_key::SlowHashes;
use tower_api_key::store::{Accounts, Directory, KeyLedger, KeyStore, PostgresOptions, StoreError};
use tower_api_key::{
    Authority, ConfigError, DigestRing, KeyFormat, KeyId, Keyring, Pepper, PostgresStore, SqliteStore,
    Verifier,
};

use crate::Failure;
use crate::args::{self, Accepted};

/// A store in the hands of an operator.
pub(crate) struct Opened {
    pub(crate) keyring: Keyring,
    pub(crate) ledger: Arc<dyn KeyLedger>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) verifier: Verifier,
    format: KeyFormat,
}

impl Opened {
    /// Opens what `--database` names; what is not there only if the store `may_begin`.
    pub(crate) async fn open(args: &args::Store, may_begin: bool) -> Result<Self, Failure> {
        let database = &args.database;
        if database.starts_with("postgres://") || database.starts_with("postgresql://") {
            return Self::of(postgres(args, may_begin).await?, args);
        }
        // What stands there may hold a password.
        if database.contains("://") {
            return Err(Failure::usage("--database names an SQLite file, or postgres://user@host/database"));
        }
        if !may_begin && !Path::new(database).exists() {
            return Err(Failure::usage(format!(
                "there is no database at {database}: name another by --database, or begin one by `tower-api-key account \
                 create`"
            )));
        }
        Self::of(SqliteStore::open(database).await?, args)
    }

    /// The id of a key. What is none may be a secret that was pasted in its place: it is not repeated.
    pub(crate) fn id(&self, text: &str) -> Result<KeyId, Failure> {
        if self.format.environment_of(text).is_some() {
            return Err(Failure::usage(
                "this is the secret of a key, and not its id. It stands in the shell's history now: rotate the key",
            ));
        }
        KeyId::new(text)
            .map_err(|_| Failure::usage("this is no key's id: `tower-api-key list --owner USER` shows ids"))
    }

    fn of<S>(store: S, args: &args::Store) -> Result<Self, Failure>
    where
        S: KeyStore + Directory + KeyLedger + Accounts + Clone,
    {
        let format = KeyFormat::new(&args.key_prefix).map_err(Failure::usage)?;
        let ring = ring(args)?;
        Ok(Self {
            keyring: Keyring::new(store.clone())
                .key_format(format.clone())
                .digests(ring.clone())
                .acting_as(Authority::Operator),
            // Imported keys are found whatever their shape; whether the service finds them is its own setting.
            verifier: Verifier::new(store.clone())
                .key_format(format.clone())
                .digests(ring)
                .accept_foreign_keys(),
            format,
            ledger: Arc::new(store.clone()),
            accounts: Arc::new(store),
        })
    }
}

/// Any change that is made there waits until no node of the service answers by what was before.
async fn postgres(args: &args::Store, may_begin: bool) -> Result<PostgresStore, Failure> {
    let options = PostgresOptions::new(&args.database).and_then(|options| options.schema(&args.schema));
    let options = options.map_err(|error| Failure::usage(format!("--database, --schema: {error}")))?;
    let options = if may_begin { options } else { options.existing() };
    options.connect().await.map_err(|error| match &error {
        // What cannot be reached may be there tomorrow; this is written wrongly, and stays so.
        StoreError::Failed(cause) if cause.is::<ConfigError>() => Failure::usage(format!(
            "{cause} (--database and --schema name one, `tower-api-key account create` begins one)"
        )),
        _ => error.into(),
    })
}

/// The digests as the service has them: else it would not find what is issued here.
fn ring(args: &args::Store) -> Result<DigestRing, Failure> {
    let mut ring = None;
    for pepper in &args.peppers {
        let (id, file) = pepper.split_once('=').ok_or_else(|| {
            Failure::usage("--pepper names an id and a file: --pepper 2027=/run/secrets/pepper")
        })?;
        let secret = fs::read(file)
            .map_err(|error| Failure::usage(format!("--pepper: cannot read {file}: {error}")))?;
        let pepper = Pepper::new(id, secret.trim_ascii()).map_err(Failure::usage)?;
        ring = Some(
            match ring {
                None => DigestRing::peppered(pepper),
                Some(ring) => DigestRing::accept_pepper(ring, pepper),
            }
            .map_err(Failure::usage)?,
        );
    }
    let ring = ring.unwrap_or_default();
    let ring = args.accept.iter().fold(ring, |ring, accepted| match accepted {
        Accepted::Sha256 => ring.accept_sha256(),
        Accepted::Sha512 => ring.accept_sha512(),
        Accepted::Sanctum => ring.accept_sanctum(),
    });
    with_slow(ring, args)
}

#[cfg(feature = "slow-hashes")]
fn with_slow(ring: DigestRing, args: &args::Store) -> Result<DigestRing, Failure> {
    let Some(start) = &args.accept_slow else { return Ok(ring) };
    let mut characters = start.chars();
    let slow = match (start.parse(), characters.next(), characters.next()) {
        (Ok(bytes), ..) => SlowHashes::first(bytes),
        (Err(_), Some(separator), None) if separator != '0' => SlowHashes::until(separator),
        _ => {
            return Err(Failure::usage(
                "--accept-slow says what a key is found by: what stands before a character, such as ., or so many first \
                 bytes, such as 8",
            ));
        }
    };
    Ok(ring.accept_slow(slow))
}

#[cfg(not(feature = "slow-hashes"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature it can be written wrongly")]
fn with_slow(ring: DigestRing, _: &args::Store) -> Result<DigestRing, Failure> {
    Ok(ring)
}
