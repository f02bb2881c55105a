//! How to reach the database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls};
#[cfg(feature = "postgres-tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;
use super::failure::Failure;
use super::gate::FEWEST;
use super::listener::Listener;
use super::log::Housekeeping;
use super::session::{Database, SCHEMA};
use super::{PostgresStore, open};
use crate::error::ConfigError;
use crate::observer::{Observer, Observers};

const CONNECTIONS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(2);
/// A peer that is gone without a word is noticed after this and a few tries more.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How a [`PostgresStore`] reaches its database.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_api_key::store::PostgresOptions;
///
/// let store = PostgresOptions::new("postgres://keys@db.internal/app")?
///     .schema("api_keys")?
///     .connections(32)?
///     .deadline(Duration::from_millis(800))?
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "options connect to nothing by themselves"]
pub struct PostgresOptions {
    source: Source,
    schema: Arc<str>,
    connections: usize,
    deadline: Duration,
    may_begin: bool,
    observers: Observers,
    #[cfg(feature = "postgres-tls")]
    tls: Option<MakeRustlsConnect>,
}

#[derive(Clone)]
enum Source {
    Server(Box<Config>),
    Pool(Pool),
}

impl PostgresOptions {
    /// From a connection string, `postgres://user:password@host:port/database?options` or `host=... user=...`.
    ///
    /// Of several hosts the one that takes writes is used. Without [`tls`](Self::tls) nothing is encrypted.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Database`] if it is no connection string. Nothing of it is in the error.
    pub fn new(connection: &str) -> Result<Self, ConfigError> {
        let server: Config =
            connection.parse().map_err(|_| ConfigError::Database("the connection string is none"))?;
        Ok(Self::from_source(Source::Server(Box::new(server))))
    }

    /// A pool that is there already, and may be shared with the application.
    ///
    /// Half of its connections at most look up keys for requests. It must lead to the primary, which is checked at every
    /// request. It hears of no changes: nodes that keep copies by [`Cached`](super::super::Cached) look for them at
    /// intervals, and calls that change something wait a little longer for them.
    pub fn on_pool(pool: Pool) -> Self {
        Self::from_source(Source::Pool(pool))
    }

    fn from_source(source: Source) -> Self {
        Self {
            source,
            schema: SCHEMA.into(),
            connections: CONNECTIONS,
            deadline: DEADLINE,
            may_begin: true,
            observers: Observers::default(),
            #[cfg(feature = "postgres-tls")]
            tls: None,
        }
    }

    /// The schema that holds the tables, and nothing else (default `tower_api_key`). It is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Database`] unless it is 1 to 63 of `a-z 0-9 _` and begins with a letter.
    pub fn schema(mut self, name: &str) -> Result<Self, ConfigError> {
        let word = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !word || name.len() > 63 || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(ConfigError::Database(
                "a schema's name is 1 to 63 of a-z 0-9 _ and begins with a letter",
            ));
        }
        self.schema = name.into();
        Ok(self)
    }

    /// How many connections to have at most (default 16); half of them look up keys for requests. One more listens, if
    /// this node keeps copies. A pool that was given has its own number.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Database`] for fewer than 5: each kind of work needs one.
    pub fn connections(mut self, most: usize) -> Result<Self, ConfigError> {
        if most < FEWEST {
            return Err(ConfigError::Database("a store needs at least 5 connections"));
        }
        self.connections = most;
        Ok(self)
    }

    /// How long a connection, a turn, or one statement may take (default 2 seconds).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`], or [`ConfigError::Database`] for more than an hour.
    pub fn deadline(mut self, deadline: Duration) -> Result<Self, ConfigError> {
        if deadline.as_millis() == 0 {
            return Err(ConfigError::Zero("the deadline of the database, in milliseconds,"));
        }
        if deadline > Duration::from_secs(3600) {
            return Err(ConfigError::Database("the deadline of a database is at most an hour"));
        }
        self.deadline = deadline;
        Ok(self)
    }

    /// Makes no schema where there is none: a name that is mistyped shall not be an empty store. One that is there is brought
    /// up to date all the same.
    pub fn existing(mut self) -> Self {
        self.may_begin = false;
        self
    }

    /// Tells an [`Observer`] when the log of changes [grows](crate::observer::Warning::ChangeLogGrows), which is the
    /// matter of no request.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Encrypts, and checks the server's certificate as `config` says: a server that does not encrypt is refused,
    /// whatever `sslmode` stands in the connection string. Of no effect on a pool that was given.
    #[cfg(feature = "postgres-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "postgres-tls")))]
    pub fn tls(mut self, config: rustls::ClientConfig) -> Self {
        self.tls = Some(MakeRustlsConnect::new(config));
        self
    }

    /// Connects, and makes the schema or brings it up to date if need be. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the server cannot be reached, is a standby or older than PostgreSQL 13, the user has
    /// not the rights, or the schema is another application's or was written by a newer release; nothing is changed
    /// then. Where none may be [made](Self::existing), the cause is a [`ConfigError::Database`]. [`StoreError::Timeout`].
    pub async fn connect(self) -> Result<PostgresStore, StoreError> {
        let (pool, listener) = match &self.source {
            Source::Pool(pool) => (pool.clone(), Listener::deaf()),
            Source::Server(server) => self.reach(Config::clone(server))?,
        };
        if pool.status().max_size < FEWEST {
            return Err(StoreError::failed(ConfigError::Database("a store needs at least 5 connections")));
        }
        let database = Database::new(pool.clone(), self.schema, self.deadline);
        open::migrate(&pool, &database, self.may_begin).await.map_err(Failure::into_store_error)?;
        Ok(PostgresStore::new(database, listener, Housekeeping::told_to(self.observers)))
    }

    fn reach(&self, mut server: Config) -> Result<(Pool, Listener), StoreError> {
        if server.get_application_name().is_none() {
            server.application_name("tower-api-key");
        }
        server
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(self.deadline)
            .tcp_user_timeout(self.deadline * 2)
            .keepalives_idle(KEEPALIVE);
        #[cfg(feature = "postgres-tls")]
        if let Some(tls) = &self.tls {
            server.ssl_mode(SslMode::Require);
            let manager = Manager::from_config(server.clone(), tls.clone(), fast());
            let listener = Listener::new(server, tls.clone(), &self.schema, self.deadline);
            return Ok((self.pool(manager)?, listener));
        }
        if server.get_ssl_mode() == SslMode::Require {
            let why = "TLS is demanded: it needs the feature `postgres-tls` and `PostgresOptions::tls`";
            return Err(StoreError::failed(ConfigError::Database(why)));
        }
        let manager = Manager::from_config(server.clone(), NoTls, fast());
        let listener = Listener::new(server, NoTls, &self.schema, self.deadline);
        Ok((self.pool(manager)?, listener))
    }

    fn pool(&self, manager: Manager) -> Result<Pool, StoreError> {
        let limit = self.deadline.as_millis();
        let settings = format!(
            "SET statement_timeout = {limit}; SET lock_timeout = {limit}; \
             SET idle_in_transaction_session_timeout = {}",
            limit * 2
        );
        let settings: Arc<str> = settings.into();
        let set = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let settings = Arc::clone(&settings);
            Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
        });
        Pool::builder(manager).max_size(self.connections).post_create(set).build().map_err(StoreError::failed)
    }
}

/// Whether a connection is open is known without asking the server.
fn fast() -> ManagerConfig {
    ManagerConfig { recycling_method: RecyclingMethod::Fast }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("schema", &self.schema).finish_non_exhaustive()
    }
}
