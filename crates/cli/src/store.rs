//! Opens the store that the options name.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tower_api_key::store::{Accounts, Directory, KeyRegistry, KeyStore, Project, StoreError};
use tower_api_key::{
    AccountStatus, ApiKeys, Authority, ConfigError, Digests, KeyFormat, KeyId, KeyPolicy, Keyring, Pepper,
    ProjectId, Role, SlowHashes, UserId, Verifier,
};
use tower_api_key_postgres::{PostgresOptions, PostgresStore};
use tower_api_key_sqlite::SqliteStore;

use crate::args::{self, Accepted};
use crate::error::CliError;
use crate::show::say;
use tower_api_key::store::ProjectDirectory;

/// The options about the store and the service, checked before anything is opened.
pub(crate) struct StoreOptions {
    database: Database,
    format: KeyFormat,
    ring: Digests,
    policy: Option<KeyPolicy>,
    has_directory: bool,
}

enum Database {
    /// An SQLite file.
    Sqlite(String),
    Postgres(Box<PostgresOptions>),
}

/// Why a store is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To create a store if it does not exist. Only `account create` does this, so that a mistyped name in another
    /// command cannot create an empty store.
    Begin,
    Change,
    Read,
}

/// An open store, and a keyring with the operator as authority.
pub(crate) struct Opened {
    pub(crate) keyring: Keyring,
    pub(crate) registry: Arc<dyn KeyRegistry>,
    pub(crate) accounts: Arc<dyn Accounts>,
    /// The directory of this store, whichever the service uses.
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) verifier: Verifier,
    pub(crate) has_directory: bool,
}

impl StoreOptions {
    pub(crate) fn judged(args: &args::StoreArgs) -> Result<Self, CliError> {
        let format = KeyFormat::new(&args.key_prefix).map_err(CliError::usage)?;
        let policy = args.max_keys.map(|max| KeyPolicy::Multiple { max });
        let (ring, database) = (ring(args)?, database(args)?);
        Ok(Self { database, format, ring, policy, has_directory: !args.no_directory })
    }

    fn agreed<S>(&self, store: S) -> ApiKeys<S> {
        ApiKeys::new(store).key_format(self.format.clone()).digests(self.ring.clone())
    }

    /// Parses the id of a key. An invalid id may be a secret that was pasted by mistake, so the message does not
    /// repeat it.
    pub(crate) fn id(&self, text: &str) -> Result<KeyId, CliError> {
        if self.format.environment_of(text).is_some() {
            return Err(CliError::usage(
                "this is the secret of a key, not its id. It is now in the shell's history: rotate the key",
            ));
        }
        KeyId::new(text).map_err(|_| {
            CliError::usage("this is not a key's id: `tower-api-key list --owner USER` shows ids")
        })
    }

    /// For commands on accounts.
    pub(crate) fn with_directory(&self) -> Result<&Self, CliError> {
        if self.has_directory {
            Ok(self)
        } else {
            Err(CliError::usage(
                "--no-directory means that this store has no accounts: omit it to manage accounts",
            ))
        }
    }

    /// Opens the store, runs `work`, and closes it. Then all data is in the store's file.
    pub(crate) async fn with(
        &self,
        purpose: Purpose,
        work: impl AsyncFnOnce(&Opened) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let file = match &self.database {
            Database::Postgres(options) => {
                let store = postgres(options, purpose).await?;
                return work(&self.opened(store)?).await;
            }
            Database::Sqlite(file) => file,
        };
        let store = sqlite(file, purpose).await?;
        let done = work(&self.opened(store.clone())?).await;
        // Also after a failure. A copy of the file alone would lack what is in the write-ahead log.
        let whole = purpose == Purpose::Read || matches!(store.checkpoint().await, Ok(true));
        if !whole {
            say(format_args!(
                "note: another program is using {file}, and part of the data is in {file}-wal: copy it with `VACUUM INTO`"
            ));
        }
        done
    }

    fn opened<S>(&self, store: S) -> Result<Opened, CliError>
    where
        S: KeyStore + Directory + KeyRegistry + Accounts + Clone,
    {
        let (keyring, verifier) = if self.has_directory {
            let keys = self.agreed(store.clone());
            (keys.keyring(), keys.verifier())
        } else {
            let keys = self.agreed((store.clone(), AnyOwner));
            (keys.keyring(), keys.verifier())
        };
        let keyring = match self.policy {
            None => keyring,
            Some(policy) => keyring.policy(policy),
        };
        Ok(Opened {
            keyring: keyring.acting_as(Authority::Operator),
            // Accepts imported keys of every shape; whether the service does is its own setting.
            verifier: verifier.accept_foreign_keys(),
            registry: Arc::new(store.clone()),
            accounts: Arc::new(store.clone()),
            directory: Arc::new(store),
            has_directory: self.has_directory,
        })
    }
}

impl Opened {
    /// Why an owner may not have a key, and what to do.
    pub(crate) async fn why_not(
        &self,
        owner: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<CliError, CliError> {
        let Some(account) = self.accounts.account_of(owner).await? else {
            return Ok(CliError::refused(self.unknown(owner)));
        };
        let suspended = self.directory.account_status(owner, None).await? == AccountStatus::Disabled;
        Ok(CliError::refused(match project {
            _ if suspended => {
                format!("account {account} of {owner} is suspended: `tower-api-key account resume {account}`")
            }
            Some(project) => format!(
                "{owner} has no access to a project {project} of account {account}: `tower-api-key project list {account}` \
                 and `member list {account}` show what there is"
            ),
            None => format!("{owner} of account {account} may not have this key at the moment: try again"),
        }))
    }

    /// What to do about an owner without an account.
    pub(crate) fn unknown(&self, owner: &UserId) -> String {
        format!(
            "{owner} belongs to no account of this store: see `tower-api-key account create --help` and `member set --help`; \
             or, if your service keeps its people elsewhere or has none, say --no-directory"
        )
    }
}

/// The directory of a service that has its own or none: every owner is accepted without a query.
struct AnyOwner;

#[async_trait]
impl Directory for AnyOwner {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        Ok(AccountStatus::Active { role: Some(Role::Owner) })
    }
}

#[async_trait]
impl ProjectDirectory for AnyOwner {
    async fn projects(&self, _: &UserId) -> Result<Vec<Project>, StoreError> {
        Ok(Vec::new())
    }
}

fn database(args: &args::StoreArgs) -> Result<Database, CliError> {
    let database = &args.database;
    if database.starts_with("postgres://") || database.starts_with("postgresql://") {
        return Ok(Database::Postgres(Box::new(options(args)?)));
    }
    // The text may contain a password.
    if database.contains("://") {
        return Err(CliError::usage("--database must be an SQLite file, or postgres://user@host/database"));
    }
    if args.ca_file.is_some() {
        return Err(CliError::usage("--ca-file is for PostgreSQL, but --database names an SQLite file"));
    }
    Ok(Database::Sqlite(database.clone()))
}

fn options(args: &args::StoreArgs) -> Result<PostgresOptions, CliError> {
    let (connection, tls) = crate::tls::judged(&args.database, args.ca_file.as_deref())?;
    let options = plain_options(args, &connection)?;
    Ok(match tls {
        Some(config) => options.tls(config),
        None => options,
    })
}

fn plain_options(args: &args::StoreArgs, connection: &str) -> Result<PostgresOptions, CliError> {
    let options = PostgresOptions::new(connection).and_then(|options| options.schema(&args.schema));
    options.map_err(|error| CliError::usage(format!("--database, --schema: {error}")))
}

async fn sqlite(file: &str, purpose: Purpose) -> Result<SqliteStore, CliError> {
    let opened = match purpose {
        Purpose::Begin => SqliteStore::open(file).await,
        Purpose::Change => SqliteStore::open_existing(file).await,
        // The first program that opens a file of an older release migrates it, as the service does.
        Purpose::Read => match SqliteStore::open_read_only(file).await {
            Err(StoreError::Failed(_)) => SqliteStore::open_existing(file).await,
            opened => opened,
        },
    };
    opened.map_err(|error| match &error {
        StoreError::Failed(cause) if cause.is::<ConfigError>() => {
            let what = if Path::new(file).exists() { "store" } else { "database" };
            CliError::usage(format!(
                "there is no {what} in {file}: name another with --database, or create one with `tower-api-key account create`"
            ))
        }
        _ => error.into(),
    })
}

/// Every change waits until no node of the service answers from older data.
async fn postgres(options: &PostgresOptions, purpose: Purpose) -> Result<PostgresStore, CliError> {
    let options = options.clone();
    let options = if purpose == Purpose::Begin { options } else { options.existing() };
    options.connect().await.map_err(|error| match &error {
        // An unreachable database is a store failure; this is a wrong argument.
        StoreError::Failed(cause) if cause.is::<ConfigError>() => CliError::usage(format!(
            "{cause} (--database and --schema name a store, `tower-api-key account create` creates one)"
        )),
        _ => error.into(),
    })
}

/// The digests of the service: otherwise it would not find the keys that are issued here.
fn ring(args: &args::StoreArgs) -> Result<Digests, CliError> {
    let mut ring = None;
    for pepper in &args.peppers {
        let (id, file) = pepper.split_once('=').ok_or_else(|| {
            CliError::usage("--pepper needs an id and a file: --pepper 2027=/run/secrets/pepper")
        })?;
        let secret = fs::read(file)
            .map_err(|error| CliError::usage(format!("--pepper: cannot read {file}: {error}")))?;
        let pepper = Pepper::new(id, secret.trim_ascii()).map_err(CliError::usage)?;
        ring = Some(
            match ring {
                None => Digests::peppered(pepper),
                Some(ring) => Digests::accept_pepper(ring, pepper),
            }
            .map_err(CliError::usage)?,
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

fn with_slow(ring: Digests, args: &args::StoreArgs) -> Result<Digests, CliError> {
    let Some(start) = &args.accept_slow else { return Ok(ring) };
    let mut characters = start.chars();
    let slow = match (start.parse(), characters.next(), characters.next()) {
        (Ok(bytes), ..) => SlowHashes::first(bytes),
        (Err(_), Some(separator), None) if separator != '0' => SlowHashes::until(separator),
        _ => {
            return Err(CliError::usage(
                "--accept-slow says what a key is found by: what stands before a character, such as ., or so many first \
                 bytes, such as 8",
            ));
        }
    };
    Ok(ring.accept_slow(slow))
}
