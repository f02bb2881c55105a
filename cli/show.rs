//! What goes to stdout.

use std::io::{self, Write as _};

use serde_json::{Value, json};
use tower_api_key::{IssuedKey, KeyRecord, Timestamp};

use crate::Failure;

/// Where answers go.
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    /// One answer: as JSON, or as this text.
    pub(crate) fn answer(&self, json: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json { format!("{json:#}\n") } else { text() };
        let written = io::stdout().lock().write_all(text.as_bytes());
        written.map_err(|error| Failure::Store(format!("cannot write to stdout: {error}")))
    }

    /// A word on what was done, for people.
    pub(crate) fn done(&self, what: impl std::fmt::Display) {
        eprintln!("{what}");
    }

    /// The one time that a secret is written.
    pub(crate) fn issued(&self, issued: &IssuedKey, what: impl std::fmt::Display) -> Result<(), Failure> {
        let mut shown = record(issued.record(), issued.record().created_at);
        let secret = issued.key().expose_secret();
        if let Value::Object(members) = &mut shown {
            members.insert("key".to_owned(), secret.into());
        }
        self.done(what);
        self.answer(&shown, || format!("{secret}\n"))
    }
}

/// All that is stored of a key but its digest.
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

/// Columns as wide as what stands in them.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
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
