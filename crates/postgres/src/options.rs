//! [`PostgresOptions`]: how to connect to the database.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls};
#[cfg(feature = "tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::bulkhead::FEWEST;
use crate::connection_string::ConnectionString;
use crate::failure::{Failure, refuses_options};
use crate::housekeeping::Housekeeping;
use crate::listener::Listener;
use crate::open;
use crate::session::{Database, SCHEMA, startup_options};
use crate::store::PostgresStore;
use tower_api_key::ConfigError;
use tower_api_key::observer::Observer;
use tower_api_key::store::StoreError;

const CONNECTIONS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(2);
/// A peer that disappeared is detected after this time and a few probes.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How a [`PostgresStore`] reaches its database.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_api_key_postgres::PostgresOptions;
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
#[must_use = "options do not connect by themselves; call `connect`"]
pub struct PostgresOptions {
    source: Source,
    schema: Arc<str>,
    connections: usize,
    deadline: Duration,
    may_begin: bool,
    observers: Vec<Arc<dyn Observer>>,
    #[cfg(feature = "tls")]
    tls: Option<MakeRustlsConnect>,
}

impl PostgresStore {
    /// Connects to the database of a connection string with default [options](PostgresOptions).
    ///
    /// # Errors
    ///
    /// As [`PostgresOptions::connect`], and [`StoreError::Failed`] if the text is not a connection string.
    pub async fn connect(connection: &str) -> Result<Self, StoreError> {
        PostgresOptions::new(connection).map_err(StoreError::failed)?.connect().await
    }

    /// Uses an existing pool; see [`PostgresOptions::on_pool`].
    ///
    /// # Errors
    ///
    /// As [`PostgresOptions::connect`].
    pub async fn from_pool(pool: Pool) -> Result<Self, StoreError> {
        PostgresOptions::on_pool(pool).connect().await
    }
}

#[derive(Clone)]
enum Source {
    Server(Box<ConnectionString>),
    Pool(Pool),
}

/// How the server is told its timeouts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timeouts {
    AtStartup,
    /// For poolers that accept no startup options: only in transactions. Other statements end when their connection
    /// is closed.
    InTransactions,
}

impl PostgresOptions {
    /// Creates options from a connection string: `postgres://user:password@host:port/database?options` or
    /// `host=... user=...`.
    ///
    /// If it names several hosts, the one that accepts writes is used. Without [`tls`](Self::tls) and `sslrootcert`
    /// connections are not encrypted.
    ///
    /// With the feature `tls`, `sslrootcert` names a PEM file of certificates. Connections are then encrypted, and
    /// the server's certificate must be signed by one of these and be valid for its host name, as with
    /// `sslmode=verify-full`; the weaker `verify-ca` is treated alike. This needs a rustls `CryptoProvider` that is
    /// installed for the process. `sslmode=disable` turns encryption off, whatever else the string contains.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ConnectionParameter`] for a parameter that is not supported, [`ConfigError::Database`] if it
    /// is not a connection string. The error contains nothing of it except the name of a parameter.
    pub fn new(connection: &str) -> Result<Self, ConfigError> {
        Ok(Self::from_source(Source::Server(Box::new(ConnectionString::parse(connection)?))))
    }

    /// Uses an existing pool, which may be shared with the application.
    ///
    /// At most half of its connections look up keys for requests. It must connect to the primary, which every
    /// request checks. With a given pool the store receives no notifications: nodes with a
    /// [`Cached`](tower_api_key::store::Cached) poll the change log instead, and changes wait a little longer for them.
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
            observers: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the schema for the store's tables, which must contain nothing else (default `tower_api_key`). It is
    /// created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Database`] if it is not 1 to 63 of `a-z 0-9 _`, starting with a letter.
    pub fn schema(mut self, name: &str) -> Result<Self, ConfigError> {
        let word = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !word || name.len() > 63 || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(ConfigError::Database(
                "a schema's name must be 1 to 63 of a-z 0-9 _ and start with a letter",
            ));
        }
        self.schema = name.into();
        Ok(self)
    }

    /// Sets the largest number of connections (default 16); half of them look up keys for requests. One more
    /// listens if this node has a cache. An existing pool has its own limit.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Database`] for fewer than 5, because each kind of work needs one.
    pub fn connections(mut self, most: usize) -> Result<Self, ConfigError> {
        if most < FEWEST {
            return Err(ConfigError::Database("a store needs at least 5 connections"));
        }
        self.connections = most;
        Ok(self)
    }

    /// Sets how long it may take to get a connection or a permit, or to run one statement (default 2 seconds).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`] if it is zero, or [`ConfigError::Database`] for more than an hour.
    pub fn deadline(mut self, deadline: Duration) -> Result<Self, ConfigError> {
        if deadline.as_millis() == 0 {
            return Err(ConfigError::Zero("the deadline of the database, in milliseconds,"));
        }
        if deadline > Duration::from_secs(3600) {
            return Err(ConfigError::Database("the deadline must be at most an hour"));
        }
        self.deadline = deadline;
        Ok(self)
    }

    /// Does not create a missing schema, so that a mistyped name cannot become an empty store. An existing one is
    /// still migrated.
    pub fn existing(mut self) -> Self {
        self.may_begin = false;
        self
    }

    /// Sets an [`Observer`] that is warned if the change log
    /// [grows](tower_api_key::observer::Warning::ChangeLogGrows), which no request reports.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Encrypts connections and verifies the server's certificate as `config` says: a server without encryption is
    /// refused, whatever `sslmode` the connection string contains. It has no effect on an existing pool.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, config: rustls::ClientConfig) -> Self {
        self.tls = Some(MakeRustlsConnect::new(config));
        self
    }

    /// Connects, and creates or migrates the schema if necessary. Several processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the server cannot be reached, is a standby or older than PostgreSQL 13, the user
    /// lacks rights, or the schema belongs to another application or was written by a newer release; nothing is
    /// changed then. If the schema is missing and must [exist](Self::existing), the cause is a
    /// [`ConfigError::Database`]. [`StoreError::Timeout`] if the server does not answer in time.
    pub async fn connect(self) -> Result<PostgresStore, StoreError> {
        match self.open(Timeouts::AtStartup).await {
            Err(error) if refuses_options(&error) => self.open(Timeouts::InTransactions).await,
            opened => opened,
        }
    }

    async fn open(&self, timeouts: Timeouts) -> Result<PostgresStore, StoreError> {
        let (pool, listener, own) = match &self.source {
            Source::Pool(pool) => (pool.clone(), Listener::deaf(), false),
            Source::Server(server) => {
                let (pool, listener) = self.reach(server, timeouts)?;
                (pool, listener, true)
            }
        };
        if pool.status().max_size < FEWEST {
            return Err(StoreError::failed(ConfigError::Database("a store needs at least 5 connections")));
        }
        let database = Database::new(pool.clone(), Arc::clone(&self.schema), self.deadline);
        database.keeps_statements().await.map_err(Failure::into_store_error)?;
        open::migrate(&pool, &database, self.may_begin).await.map_err(Failure::into_store_error)?;
        let housekeeping = Housekeeping::told_to(self.observers.clone());
        let store = PostgresStore::new(database, listener, housekeeping, own.then_some(pool));
        store.sweep();
        Ok(store)
    }

    fn reach(
        &self,
        ConnectionString { server, roots }: &ConnectionString,
        timeouts: Timeouts,
    ) -> Result<(Pool, Listener), StoreError> {
        let mut server = server.clone();
        if server.get_application_name().is_none() {
            server.application_name("tower-api-key");
        }
        say_timeouts(&mut server, timeouts, self.deadline);
        server
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(self.deadline)
            .tcp_user_timeout(self.deadline * 2)
            .keepalives_idle(KEEPALIVE);
        #[cfg(feature = "tls")]
        if let Some(tls) = self.encryption(roots.as_deref()).map_err(StoreError::failed)? {
            server.ssl_mode(SslMode::Require);
            let manager = Manager::from_config(server.clone(), tls.clone(), fast());
            let listener = Listener::new(server, tls, &self.schema, self.deadline);
            return Ok((self.pool(manager)?, listener));
        }
        if server.get_ssl_mode() == SslMode::Require {
            let why = if roots.is_some() {
                "`sslrootcert` needs the feature `tls`"
            } else {
                "TLS is required: enable the feature `tls`, and set `PostgresOptions::tls` or `sslrootcert`"
            };
            return Err(StoreError::failed(ConfigError::Database(why)));
        }
        let manager = Manager::from_config(server.clone(), NoTls, fast());
        let listener = Listener::new(server, NoTls, &self.schema, self.deadline);
        Ok((self.pool(manager)?, listener))
    }

    fn pool(&self, manager: Manager) -> Result<Pool, StoreError> {
        Pool::builder(manager).max_size(self.connections).build().map_err(StoreError::failed)
    }

    /// The configuration set by [`tls`](Self::tls), or else by the connection string.
    #[cfg(feature = "tls")]
    fn encryption(&self, roots: Option<&Path>) -> Result<Option<MakeRustlsConnect>, ConfigError> {
        match (&self.tls, roots) {
            (Some(tls), _) => Ok(Some(tls.clone())),
            (None, Some(roots)) => Ok(Some(MakeRustlsConnect::new(trusting(roots)?))),
            (None, None) => Ok(None),
        }
    }
}

/// Adds to the options of the connection string. The last one takes effect.
fn say_timeouts(server: &mut Config, timeouts: Timeouts, deadline: Duration) {
    if timeouts == Timeouts::InTransactions {
        return;
    }
    let ours = startup_options(deadline);
    let all = server.get_options().map(|others| format!("{others} {ours}"));
    server.options(all.unwrap_or(ours));
}

/// Trusts the certificates in a file.
#[cfg(feature = "tls")]
fn trusting(file: &Path) -> Result<rustls::ClientConfig, ConfigError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    let wrong = |reason| ConfigError::ConnectionParameter { name: "sslrootcert".to_owned(), reason };
    let provider = rustls::crypto::CryptoProvider::get_default().ok_or_else(|| {
        wrong(
            "needs a `CryptoProvider` of rustls: install one for the process, or use `PostgresOptions::tls`",
        )
    })?;
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(|_| wrong("names a file that cannot be read"))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| wrong("names a file that is not PEM"))?;
    for certificate in certificates {
        roots.add(certificate).map_err(|_| wrong("names a file with a certificate that cannot be used"))?;
    }
    if roots.is_empty() {
        return Err(wrong("names a file without a certificate in PEM"));
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong("needs a `CryptoProvider` that knows TLS 1.2 or 1.3"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Reuses a connection without a query that checks it.
fn fast() -> ManagerConfig {
    ManagerConfig { recycling_method: RecyclingMethod::Fast }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: Result<PostgresOptions, ConfigError>) -> String {
        options.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_connected() {
        let options = || PostgresOptions::new("host=h").unwrap();
        for schema in ["", "1a", "A", "a-b", "a\"b", "a b", "é", &"a".repeat(64)] {
            assert!(refusal(options().schema(schema)).contains("schema"), "{schema}");
        }
        for schema in ["a", "api_keys2", &"a".repeat(63)] {
            assert_eq!(refusal(options().schema(schema)), "", "{schema}");
        }
        assert!(refusal(options().connections(4)).contains("connections"));
        assert_eq!(refusal(options().connections(5)), "");
        assert!(refusal(options().deadline(Duration::from_micros(999))).contains("deadline"));
        assert!(refusal(options().deadline(Duration::from_secs(3601))).contains("deadline"));
        assert_eq!(refusal(options().deadline(Duration::from_secs(3600))), "");
    }

    #[tokio::test]
    async fn c17_f2_tls_that_is_demanded_and_not_set_up_is_refused() {
        for (text, named) in [
            ("host=127.0.0.1 port=1 sslmode=require", "TLS is required"),
            ("host=127.0.0.1 port=1 sslmode=verify-full", "TLS is required"),
            ("host=127.0.0.1 port=1 sslrootcert=/none.pem", "sslrootcert"),
        ] {
            let refused = PostgresOptions::new(text).unwrap().connect().await.unwrap_err();
            let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
            assert!(cause.contains(named), "{text}: {cause}");
        }
    }

    #[test]
    fn c17_f1_time_outs_are_said_at_startup_beside_what_is_said_there_already() {
        let reached = |text: &str, timeouts| {
            let Source::Server(server) = PostgresOptions::new(text).unwrap().source else { panic!("{text}") };
            let mut server = server.server.clone();
            say_timeouts(&mut server, timeouts, Duration::from_millis(1500));
            server.get_options().map(str::to_owned)
        };
        let ours =
            "-c statement_timeout=1500 -c lock_timeout=1500 -c idle_in_transaction_session_timeout=3000";
        assert_eq!(reached("host=h", Timeouts::AtStartup).as_deref(), Some(ours));
        assert_eq!(
            reached("host=h options='-c jit=off'", Timeouts::AtStartup).unwrap(),
            format!("-c jit=off {ours}")
        );
        assert_eq!(reached("host=h", Timeouts::InTransactions), None);
        assert_eq!(
            reached("host=h options=-cjit=off", Timeouts::InTransactions).as_deref(),
            Some("-cjit=off")
        );
    }

    #[cfg(feature = "tls")]
    #[test]
    fn c17_f2_a_file_of_roots_that_is_none_is_named() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let file = folder.path().join("roots.pem");
            std::fs::write(&file, text).unwrap();
            trusting(&file).map(drop)
        };
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let unfinished = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for text in ["", "no certificate", broken, unfinished] {
            let refused = file(text).unwrap_err();
            assert!(
                matches!(&refused, ConfigError::ConnectionParameter { name, .. } if name == "sslrootcert"),
                "{text}: {refused}"
            );
        }
        assert!(trusting(&folder.path().join("none")).is_err());
    }
}
