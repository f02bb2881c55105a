//! The store that everything is about.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tower_api_key::ApiKeys;
use tower_api_key::SlowHashes;
use tower_api_key::store::{Accounts, Directory, KeyPolicy, KeyRegistry, KeyStore, Project, StoreError};
use tower_api_key::{
    AccountStatus, Authority, ConfigError, Digests, KeyFormat, KeyId, Keyring, Pepper, ProjectId, Role,
    UserId, Verifier,
};
use tower_api_key_postgres::{PostgresOptions, PostgresStore};
use tower_api_key_sqlite::SqliteStore;

use crate::args::{self, Accepted};
use crate::failure::Failure;
use crate::show::say;
use tower_api_key::store::ProjectDirectory;

/// What the options say of the store and of the service, judged before anything is opened.
pub(crate) struct Store {
    database: Database,
    format: KeyFormat,
    ring: Digests,
    policy: Option<KeyPolicy>,
    has_directory: bool,
}

enum Database {
    /// A file.
    Sqlite(String),
    Postgres(Box<PostgresOptions>),
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To make a store where there is none. Only `account create` does: a name that is mistyped elsewhere must not make an
    /// empty one.
    Begin,
    Change,
    Read,
}

/// A store in the hands of an operator.
pub(crate) struct Opened {
    pub(crate) keyring: Keyring,
    pub(crate) registry: Arc<dyn KeyRegistry>,
    pub(crate) accounts: Arc<dyn Accounts>,
    /// The store's own, whatever the service has.
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) verifier: Verifier,
    pub(crate) has_directory: bool,
}

impl Store {
    pub(crate) fn judged(args: &args::Store) -> Result<Self, Failure> {
        let format = KeyFormat::new(&args.key_prefix).map_err(Failure::usage)?;
        let policy = args.max_keys.map(|max| KeyPolicy::Multiple { max });
        if args.max_keys == Some(0) {
            return Err(Failure::usage("--max-keys is at least 1"));
        }
        let (ring, database) = (ring(args)?, database(args)?);
        Ok(Self { database, format, ring, policy, has_directory: !args.no_directory })
    }

    fn agreed<S>(&self, store: S) -> ApiKeys<S> {
        ApiKeys::new(store).key_format(self.format.clone()).digests(self.ring.clone())
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

    /// For what is about accounts.
    pub(crate) fn with_directory(&self) -> Result<&Self, Failure> {
        if self.has_directory {
            Ok(self)
        } else {
            Err(Failure::usage(
                "--no-directory says that there are no accounts here: leave it out, to manage them",
            ))
        }
    }

    /// Opens it, does `work`, and closes it. Everything is in its file then.
    pub(crate) async fn with(
        &self,
        purpose: Purpose,
        work: impl AsyncFnOnce(&Opened) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let file = match &self.database {
            Database::Postgres(options) => {
                let store = postgres(options, purpose).await?;
                return work(&self.opened(store)?).await;
            }
            Database::Sqlite(file) => file,
        };
        let store = sqlite(file, purpose).await?;
        let done = work(&self.opened(store.clone())?).await;
        // Also what was done before it failed. A copy of the file alone would lack what is in the log.
        let whole = purpose == Purpose::Read || matches!(store.checkpoint().await, Ok(true));
        if !whole {
            say(format_args!(
                "note: another program is using {file}, and some of it is in {file}-wal: copy it by `VACUUM INTO`"
            ));
        }
        done
    }

    fn opened<S>(&self, store: S) -> Result<Opened, Failure>
    where
        S: KeyStore + Directory + KeyRegistry + Accounts + Clone,
    {
        let (keyring, verifier) = if self.has_directory {
            let keys = self.agreed(store.clone());
            (keys.keyring(), keys.verifier())
        } else {
            let keys = self.agreed((store.clone(), Elsewhere));
            (keys.keyring(), keys.verifier())
        };
        let keyring = match self.policy {
            None => keyring,
            Some(policy) => keyring.policy(policy).map_err(Failure::usage)?,
        };
        Ok(Opened {
            keyring: keyring.acting_as(Authority::Operator),
            // Imported keys are found whatever their shape; whether the service finds them is its own setting.
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
    ) -> Result<Failure, Failure> {
        let Some(account) = self.accounts.account_of(owner).await? else {
            return Ok(Failure::refused(self.unknown(owner)));
        };
        let suspended = self.directory.account_status(owner, None).await? == AccountStatus::Disabled;
        Ok(Failure::refused(match project {
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

    /// What to do about an owner who belongs to no account.
    pub(crate) fn unknown(&self, owner: &UserId) -> String {
        format!(
            "{owner} belongs to no account of this store: see `tower-api-key account create --help` and `member set --help`; \
             or, if your service keeps its people elsewhere or has none, say --no-directory"
        )
    }
}

/// The directory of a service that has one of its own, or none: nobody is asked here, and everybody may.
struct Elsewhere;

#[async_trait]
impl Directory for Elsewhere {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        Ok(AccountStatus::Active { role: Some(Role::Owner) })
    }
}

#[async_trait]
impl ProjectDirectory for Elsewhere {
    async fn projects(&self, _: &UserId) -> Result<Vec<Project>, StoreError> {
        Ok(Vec::new())
    }
}

fn database(args: &args::Store) -> Result<Database, Failure> {
    let database = &args.database;
    if database.starts_with("postgres://") || database.starts_with("postgresql://") {
        return Ok(Database::Postgres(Box::new(options(args)?)));
    }
    // What stands there may hold a password.
    if database.contains("://") {
        return Err(Failure::usage("--database names an SQLite file, or postgres://user@host/database"));
    }
    if args.ca_file.is_some() {
        return Err(Failure::usage("--ca-file is for PostgreSQL, and --database names an SQLite file"));
    }
    Ok(Database::Sqlite(database.clone()))
}

fn options(args: &args::Store) -> Result<PostgresOptions, Failure> {
    let (connection, tls) = crate::tls::judged(&args.database, args.ca_file.as_deref())?;
    let options = plain_options(args, &connection)?;
    Ok(match tls {
        Some(config) => options.tls(config),
        None => options,
    })
}

fn plain_options(args: &args::Store, connection: &str) -> Result<PostgresOptions, Failure> {
    let options = PostgresOptions::new(connection).and_then(|options| options.schema(&args.schema));
    options.map_err(|error| Failure::usage(format!("--database, --schema: {error}")))
}

async fn sqlite(file: &str, purpose: Purpose) -> Result<SqliteStore, Failure> {
    let opened = match purpose {
        Purpose::Begin => SqliteStore::open(file).await,
        Purpose::Change => SqliteStore::open_existing(file).await,
        // A file of an older release is brought up to date by whoever comes first, as by the service.
        Purpose::Read => match SqliteStore::open_read_only(file).await {
            Err(StoreError::Failed(_)) => SqliteStore::open_existing(file).await,
            opened => opened,
        },
    };
    opened.map_err(|error| match &error {
        StoreError::Failed(cause) if cause.is::<ConfigError>() => {
            let what = if Path::new(file).exists() { "store" } else { "database" };
            Failure::usage(format!(
                "there is no {what} in {file}: name another by --database, or begin one by `tower-api-key account create`"
            ))
        }
        _ => error.into(),
    })
}

/// Any change that is made there waits until no node of the service answers by what was before.
async fn postgres(options: &PostgresOptions, purpose: Purpose) -> Result<PostgresStore, Failure> {
    let options = options.clone();
    let options = if purpose == Purpose::Begin { options } else { options.existing() };
    options.connect().await.map_err(|error| match &error {
        // What cannot be reached may be there tomorrow; this is written wrongly, and stays so.
        StoreError::Failed(cause) if cause.is::<ConfigError>() => Failure::usage(format!(
            "{cause} (--database and --schema name one, `tower-api-key account create` begins one)"
        )),
        _ => error.into(),
    })
}

/// The digests as the service has them: else it would not find what is issued here.
fn ring(args: &args::Store) -> Result<Digests, Failure> {
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
                None => Digests::peppered(pepper),
                Some(ring) => Digests::accept_pepper(ring, pepper),
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

fn with_slow(ring: Digests, args: &args::Store) -> Result<Digests, Failure> {
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
