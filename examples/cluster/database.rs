//! What an operator does to a database, beside the store.

use tokio_postgres::NoTls;

use crate::Failure;

async fn operator(url: &str) -> Result<tokio_postgres::Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A URL whose connections can be told from others.
pub(crate) fn named(url: &str, name: &str) -> String {
    let joined = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joined}application_name={name}")
}

/// Ends every connection of that name.
pub(crate) async fn terminate(url: &str, name: &str) -> Result<(), Failure> {
    let named = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    operator(url).await?.execute(named, &[&name]).await?;
    Ok(())
}

pub(crate) async fn drop_schema(url: &str, schema: &str) -> Result<(), Failure> {
    Ok(operator(url).await?.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await?)
}
