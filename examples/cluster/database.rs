//! An operator's actions on the database: terminating connections and dropping the schema.

use tokio_postgres::NoTls;

use crate::Failure;

async fn operator(url: &str) -> Result<tokio_postgres::Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Adds an application name to a URL, by which its connections can be found.
pub(crate) fn named(url: &str, name: &str) -> String {
    let joined = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joined}application_name={name}")
}

/// Terminates every connection with this name.
pub(crate) async fn terminate(url: &str, name: &str) -> Result<(), Failure> {
    let named = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    operator(url).await?.execute(named, &[&name]).await?;
    Ok(())
}

pub(crate) async fn drop_schema(url: &str, schema: &str) -> Result<(), Failure> {
    Ok(operator(url).await?.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await?)
}
