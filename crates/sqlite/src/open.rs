//! Opens the file: creates or migrates it, and refuses a file of another application.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::failure::Failure;
use tower_api_key::ConfigError;
use tower_api_key::store::StoreError;

/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Each migrates a file from the previous version; `PRAGMA user_version` is the number of those applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/sqlite-1.sql"),
    include_str!("../migrations/sqlite-2.sql"),
    include_str!("../migrations/sqlite-3.sql"),
];

/// `tapk`, in the header field that SQLite reserves for applications.
const APPLICATION_ID: i64 = 0x7461_706b;

/// A revocation that has returned must survive a loss of power, so every commit waits for the disk.
/// Its page cache is 32 MiB: keys come in random order of their digests, and with SQLite's 2 MiB an import would read and
/// write each page many times.
const WRITER: &str = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON; \
                      PRAGMA trusted_schema = OFF; PRAGMA cache_size = -32768;";

/// Only the writer checkpoints the write-ahead log into the file.
const READER: &str = "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA trusted_schema = OFF;";

/// More than the number of statements, so that each is prepared only once.
const STATEMENTS: usize = 64;

/// The absolute path of the file, so that a change of the working directory does not matter.
pub(crate) fn location(path: &Path) -> Result<PathBuf, Failure> {
    if path.as_os_str() == ":memory:" {
        // With an in-memory database, each connection would have its own.
        return Err(StoreError::failed(OpenError::NoLog).into());
    }
    Ok(std::path::absolute(path).map_err(StoreError::failed)?)
}

/// Why a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To change it, or to create a store if it does not exist.
    Begin,
    /// To change an existing store.
    Change,
    /// To read an existing store.
    Read,
}

/// The writing connection, on a migrated file. For `Purpose::Read`, it refuses to write.
pub(crate) fn writer(path: &Path, purpose: Purpose) -> Result<Connection, Failure> {
    if purpose == Purpose::Begin {
        create_private(path)?;
    } else if !path.try_exists().map_err(StoreError::failed)? {
        return Err(StoreError::failed(ConfigError::Database("the file is not there")).into());
    }
    let mut connection = connect(path)?;
    // Checked before anything is changed, so that a file of another application stays as it is.
    let transaction = connection.transaction()?;
    let found = version(&transaction)?;
    transaction.commit()?;

    if purpose != Purpose::Begin && found == 0 {
        return Err(StoreError::failed(ConfigError::Database("the file holds no store yet")).into());
    }
    if purpose == Purpose::Read {
        let older = OpenError::Older { found, known: MIGRATIONS.len() };
        return if found == MIGRATIONS.len() { reader(path) } else { Err(StoreError::failed(older).into()) };
    }
    write_ahead(&connection)?;
    connection.execute_batch(WRITER)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Checkpoints the log into the file; returns whether all of it was written.
pub(crate) fn checkpoint(connection: &Connection) -> Result<bool, rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// A read-only connection.
pub(crate) fn reader(path: &Path) -> Result<Connection, Failure> {
    let mut connection = connect(path)?;
    connection.execute_batch(READER)?;
    // SQLite opens the log at the first read, which should not happen during a request.
    let transaction = connection.transaction()?;
    version(&transaction)?;
    transaction.commit()?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    // No URI file names: a path is a path. No mutex: each connection belongs to one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = if cfg!(unix) { flags } else { flags | OpenFlags::SQLITE_OPEN_CREATE };
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Creates the file with access for its owner only, if it does not exist; SQLite gives the log the same permissions.
#[cfg(unix)]
fn create_private(path: &Path) -> Result<(), Failure> {
    use std::fs::OpenOptions;
    use std::io::ErrorKind;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::sync::{Mutex, PoisonError};

    // Closing a file releases every lock that this process holds on it, SQLite's too. So it is opened only if it
    // did not exist before, and no thread of this process continues to SQLite before it is closed again.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::failed(error).into()),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn create_private(_: &Path) -> Result<(), Failure> {
    Ok(())
}

/// Turns the write-ahead log on, so that readers and the writer do not wait for each other, in this process and in
/// others.
///
/// SQLite does not always wait for the lock that this takes on a new file, and two processes may open it at the
/// same time.
fn write_ahead(connection: &Connection) -> Result<(), Failure> {
    let until = Instant::now() + BUSY_TIMEOUT;
    let mode = loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        let busy =
            mode.as_ref().is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy));
        if !busy || Instant::now() >= until {
            break mode?;
        }
        thread::sleep(Duration::from_millis(5));
    };
    if mode == "wal" { Ok(()) } else { Err(StoreError::failed(OpenError::NoLog).into()) }
}

fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    // Some systems build SQLite in a mode that does not allow rewriting the checks of a table.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    // The second process waits here and then finds nothing to do.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&transaction)?;
    for migration in MIGRATIONS.iter().skip(version) {
        transaction.execute_batch(migration)?;
    }
    if version < MIGRATIONS.len() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// How many migrations were applied; an error if the file is another application's. Call it inside a transaction.
fn version(connection: &Connection) -> Result<usize, Failure> {
    let number = |sql: &'static str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_master")?;
    match (application, usize::try_from(version)) {
        (0, Ok(0)) if tables == 0 => Ok(0),
        (APPLICATION_ID, Ok(version @ 1..)) if version <= MIGRATIONS.len() => Ok(version),
        (APPLICATION_ID, Ok(1..)) => {
            Err(StoreError::failed(OpenError::Newer { found: version, known: MIGRATIONS.len() }).into())
        }
        _ => Err(StoreError::failed(OpenError::Foreign).into()),
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("the file is not one of this store: it belongs to another application")]
    Foreign,
    #[error(
        "the file has version {found}, written by a newer release; this one knows version {known} and before"
    )]
    Newer { found: i64, known: usize },
    #[error(
        "the file has version {found}, written by an older release, and is brought up to version {known} when it is opened \
         to be changed"
    )]
    Older { found: usize, known: usize },
    #[error(
        "the file system or the kind of database allows no write-ahead log (in memory, or on a network?)"
    )]
    NoLog,
}
