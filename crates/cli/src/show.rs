//! Writes results to stdout and messages to stderr.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde_json::{Value, json};
use tower_api_key::{IssuedKey, KeyRecord, Timestamp};

use crate::error::CliError;

/// How results are written.
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    /// Writes a result as JSON or as this text.
    pub(crate) fn answer(&self, json: &Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
        let text = if self.json { format!("{json:#}\n") } else { text() };
        self.raw(text.as_bytes())
    }

    /// Writes these bytes. If the reader (`| head`) has closed the pipe, this is not an error.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), CliError> {
        match written(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(not_written),
        }
    }

    /// Writes a message about what was done to stderr.
    pub(crate) fn done(&self, what: impl Display) {
        say(what);
    }

    /// Writes a secret, the only time that this is done.
    pub(crate) fn issued(&self, issued: &IssuedKey, what: impl Display) -> Result<(), CliError> {
        let mut shown = record(issued.record(), issued.record().created_at);
        let secret = issued.key().expose_secret();
        if let Value::Object(members) = &mut shown {
            members.insert("key".to_owned(), secret.into());
        }
        let text = if self.json { format!("{shown:#}\n") } else { format!("{secret}\n") };
        // Here a closed pipe is an error: without its secret, the key is useless.
        written(text.as_bytes()).map_err(|error| {
            let id = &issued.record().id;
            CliError::Store(format!(
                "key {id} was made, but its secret is lost: cannot write to stdout: {error}"
            ))
        })?;
        self.done(what);
        Ok(())
    }
}

/// Writes a line to stderr.
pub(crate) fn say(what: impl Display) {
    drop(writeln!(io::stderr(), "{what}"));
}

fn written(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn not_written(error: io::Error) -> CliError {
    CliError::Store(format!("cannot write to stdout: {error}"))
}

/// Everything that is stored about a key except its digest.
pub(crate) fn record(key: &KeyRecord, now: Timestamp) -> Value {
    json!({
        "id": key.id.as_str(),
        "owner": key.owner.as_str(),
        "name": key.name,
        "level": key.level.as_str(),
        "project": key.level.project().map(|project| project.as_str()),
        "environment": key.environment.as_str(),
        "prefix": key.prefix,
        "last4": key.last4,
        "scopes": key.scopes,
        "metadata": key.metadata,
        "restrictions": key.restrictions,
        "limits": key.limits.as_ref().map(ToString::to_string),
        "family": key.family.as_str(),
        "digest": key.digested_by.kind(),
        "state": state(key, now),
        "created_at": key.created_at.to_string(),
        "expires_at": key.expires_at.map(|at| at.to_string()),
        "revoked_at": key.revoked_at.map(|at| at.to_string()),
        "replaced_by": key.replaced_by.as_ref().map(|id| id.as_str()),
    })
}

pub(crate) fn state(key: &KeyRecord, now: Timestamp) -> &'static str {
    match key {
        key if key.revoked_at.is_some() => "revoked",
        key if !key.is_active(now) => "expired",
        key if key.replaced_by.is_some() => "replaced",
        _ => "active",
    }
}

/// Formats a table with aligned columns. Control characters, which a terminal would obey, are not shown.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let plain = |cell: &String| cell.replace(char::is_control, "\u{fffd}");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(plain).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .chain(head.get(column).map(|name| name.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    text.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    text
}
