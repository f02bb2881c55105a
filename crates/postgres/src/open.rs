//! Creates or migrates the schema, and refuses a schema of another application.

use std::time::Duration;

use deadpool_postgres::Pool;

use crate::failure::{Failure, Standby};
use crate::row::value;
use crate::session::{Database, Session};
use tower_api_key::ConfigError;
use tower_api_key::store::StoreError;

/// Each migrates the schema from the previous version.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/postgres-1.sql"),
    include_str!("../migrations/postgres-2.sql"),
    include_str!("../migrations/postgres-3.sql"),
];

/// How long one step may take, since processes that start at the same time wait for each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first version with `xid8` and its functions.
const OLDEST_SERVER: i32 = 130_000;

const SERVER: &str = "
    SELECT current_setting('server_version_num')::int4, current_setting('server_encoding') = 'UTF8',
        pg_is_in_recovery()";
const TURN: &str = "SELECT pg_advisory_xact_lock(hashtextextended('tower_api_key migrations', 0))";
const HAS_SCHEMA: &str = "SELECT to_regnamespace('tower_api_key') IS NOT NULL";
/// Whether there is a version table, and whether the schema is empty, from one snapshot.
const TABLES: &str = "
    SELECT count(*) FILTER (WHERE relname = 'version') > 0, count(*) = 0
    FROM pg_class WHERE relnamespace = to_regnamespace('tower_api_key')";
const VERSION: &str = "SELECT version FROM tower_api_key.version";
const ADD_SCHEMA: &str = "CREATE SCHEMA tower_api_key";
const ADD_VERSION: &str = "
    CREATE TABLE tower_api_key.version (one boolean NOT NULL PRIMARY KEY CHECK (one), version integer NOT NULL);
    INSERT INTO tower_api_key.version VALUES (true, 0)";
const SET_VERSION: &str = "UPDATE tower_api_key.version SET version = $1";

/// Migrates the schema. Several processes may do so at the same time.
pub(crate) async fn migrate(pool: &Pool, database: &Database, may_begin: bool) -> Result<(), Failure> {
    let patient = Database::new(pool.clone(), database.schema.clone(), PATIENCE);
    let current = database.read(&database.bulkheads.log, |session| Box::pin(look(session))).await?;
    if current == 0 && !may_begin {
        return Err(StoreError::failed(ConfigError::Database("the schema holds no store yet")).into());
    }
    // If nothing is to be migrated, the user needs no right to create anything.
    if current < MIGRATIONS.len() {
        patient.transact_unlogged(&patient.bulkheads.changes, |session| Box::pin(bring_up(session))).await?;
    }
    Ok(())
}

async fn look(session: &Session) -> Result<usize, Failure> {
    let row = session.one(SERVER, &[]).await?;
    let (version, utf8, standby): (i32, bool, bool) = (value(&row, 0)?, value(&row, 1)?, value(&row, 2)?);
    if standby {
        return Err(StoreError::failed(Standby).into());
    }
    if version < OLDEST_SERVER {
        return Err(StoreError::failed(OpenError::OldServer).into());
    }
    if !utf8 {
        return Err(StoreError::failed(OpenError::Encoding).into());
    }
    version_of(session).await
}

async fn bring_up(session: &Session) -> Result<(), Failure> {
    // The second process waits here and then finds nothing to do.
    session.query(TURN, &[]).await?;
    let version = version_of(session).await?;
    if version == 0 {
        if !session.ask(HAS_SCHEMA, &[]).await? {
            session.batch(ADD_SCHEMA).await?;
        }
        session.batch(ADD_VERSION).await?;
    }
    for migration in MIGRATIONS.iter().skip(version) {
        session.batch(migration).await?;
    }
    let newest = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    session.execute(SET_VERSION, &[&newest]).await?;
    Ok(())
}

/// How many migrations were applied; an error if the schema is another application's.
async fn version_of(session: &Session) -> Result<usize, Failure> {
    let tables = session.one(TABLES, &[]).await?;
    let (ours, nothing): (bool, bool) = (value(&tables, 0)?, value(&tables, 1)?);
    if !ours {
        return if nothing { Ok(0) } else { Err(StoreError::failed(OpenError::Foreign).into()) };
    }
    let version: i32 = value(&session.one(VERSION, &[]).await?, 0)?;
    match usize::try_from(version) {
        Ok(known @ 1..) if known <= MIGRATIONS.len() => Ok(known),
        Ok(1..) => {
            Err(StoreError::failed(OpenError::Newer { found: version, known: MIGRATIONS.len() }).into())
        }
        _ => Err(StoreError::failed(OpenError::Foreign).into()),
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("the schema is not one of this store: there are other tables in it")]
    Foreign,
    #[error(
        "the schema has version {found}, written by a newer release; this one knows version {known} and before"
    )]
    Newer { found: i32, known: usize },
    #[error("PostgreSQL 13 or newer is needed")]
    OldServer,
    #[error("the database must be encoded in UTF8")]
    Encoding,
}
