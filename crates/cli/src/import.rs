//! The command `import`: imports keys from another service, in bulk.
//!
//! # Format
//!
//! ```text
//! {"id": "old_1", "owner": "alice", "name": "CI", "sha256": "<hex or base64>"}
//! {"id": "old_2", "owner": "bob", "name": "CI", "key": "<the text>", "project": "p1", "scopes": ["a"], "limits": "12/min"}
//! ```
//!
//! or CSV with the same names in its first line, scopes separated by spaces, restrictions and metadata as JSON.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use tower_api_key::keyring::{ImportRefusal, ImportReport, ImportedDigest, ImportedKey, RefusedImport};
use tower_api_key::{KeyId, NewKey, ProjectId};

use crate::args::{Format, ImportArgs};
use crate::error::CliError;
use crate::keys::{environment, limited, point, restricted, user};
use crate::lines::{self, JsonObject};
use crate::show::{Out, say};
use crate::store::{Purpose, StoreOptions};

pub(crate) async fn import(at: &StoreOptions, out: &Out, import: &ImportArgs) -> Result<(), CliError> {
    let text = read(&import.file)?;
    let csv = match import.format {
        Some(format) => format == Format::Csv,
        None => import.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")),
    };
    // The whole file is parsed before any key is stored.
    let lines = if csv { lines::of_csv(&text)? } else { lines::of_json(&text)? };
    let mut keys = Vec::with_capacity(lines.len());
    let mut numbers = Vec::with_capacity(lines.len());
    for (number, members) in lines {
        keys.push(described(members).map_err(|why| lines::wrong(number, why))?);
        numbers.push(number);
    }
    at.with(Purpose::Change, async |store| {
        let mut bar = Bar::of(keys.len());
        let report = store.keyring.import(keys.into_iter().inspect(|_| bar.step())).await;
        bar.end();
        told(out, report?, &numbers)
    })
    .await
}

fn told(out: &Out, mut report: ImportReport, numbers: &[usize]) -> Result<(), CliError> {
    report.refused.sort_by_key(|key| key.index);
    let line = |key: &RefusedImport| numbers.get(key.index).copied().unwrap_or_default();
    let refused: Vec<Value> = report
        .refused
        .iter()
        .map(|key| json!({"line": line(key), "id": key.id.as_str(), "reason": key.reason.to_string()}))
        .collect();
    let answer = json!({
        "imported": report.imported, "already_there": report.already_there, "refused": refused,
    });
    out.answer(&answer, || {
        let mut text = format!(
            "imported {}, already there {}, refused {}\n",
            report.imported,
            report.already_there,
            refused.len()
        );
        for key in &report.refused {
            text += &format!("  line {}, {}: {}\n", line(key), key.id, key.reason);
        }
        text
    })?;
    if refused.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "{} of the keys were not imported. The file may be imported again: existing keys stay as they are",
        refused.len()
    );
    for advice in advice(&report.refused) {
        why += ". ";
        why += &advice;
    }
    Err(CliError::refused(why))
}

/// What the operator can do about the refusals, including options for digests that the service could accept.
fn advice(refused: &[RefusedImport]) -> BTreeSet<String> {
    let advised = refused.iter().filter_map(|key| match &key.reason {
        ImportRefusal::Method(kind) => match kind.split_once(':') {
            None if kind == "hmac" => None,
            None if kind == "slow" => {
                Some("Use --accept-slow to say how the public start of a key is found, and let the service accept it".to_owned())
            }
            None => Some(format!("Use --accept {kind}, and let the service accept it")),
            Some((_, pepper)) => Some(format!("Use --pepper {pepper}=FILE, as the service has it")),
        },
        ImportRefusal::Owner => Some(
            "See `tower-api-key member set --help` for owners who are not here; or, if your service keeps its people elsewhere \
             or has none, say --no-directory"
                .to_owned(),
        ),
        _ => None,
    });
    advised.collect()
}

/// Reads the file, without a byte order mark.
fn read(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| CliError::usage(format!("cannot read {}: {error}", file.display())))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Parses one line into a key, or returns what is wrong, without quoting its values.
fn described(mut members: JsonObject) -> Result<ImportedKey, String> {
    // An unknown name is an error: it might be a mistyped restriction.
    if let Some(unknown) = lines::unknown(members.keys().map(String::as_str)) {
        return Err(unknown);
    }
    let id = text(&mut members, "id")?.ok_or("id is missing: use one that is the same at every attempt")?;
    let id = KeyId::new(id).map_err(|_| "id must be 1 to 128 of A-Z a-z 0-9 . _ : @ -")?;
    let owner = text(&mut members, "owner")?.ok_or("owner is missing")?;
    let owner = user(&owner).map_err(said)?;
    let name = text(&mut members, "name")?.ok_or("name is missing")?;
    let mut new = match text(&mut members, "project")? {
        None => NewKey::user_level(owner, name),
        Some(project) => {
            let project = ProjectId::new(project).map_err(|_| "project is not a valid id")?;
            NewKey::project_level(owner, name, project)
        }
    };
    if let Some(name) = text(&mut members, "environment")? {
        new = new.environment(environment(&name).map_err(said)?);
    }
    if let Some(at) = at(&mut members, "expires_at")? {
        new = new.expires_at(at);
    }
    if let Some(scopes) = members.remove("scopes").filter(|scopes| !scopes.is_null()) {
        let scopes: Result<Vec<String>, _> = serde_json::from_value(scopes);
        new = new.scopes(scopes.map_err(|_| "scopes must be a list of strings")?);
    }
    if let Some(metadata) = members.remove("metadata").filter(|metadata| !metadata.is_null()) {
        let metadata: Result<std::collections::BTreeMap<String, String>, _> =
            serde_json::from_value(metadata);
        for (name, value) in metadata.map_err(|_| "metadata must be an object of strings")? {
            new = new.metadata(name, value);
        }
    }
    if let Some(restrictions) = members.remove("restrictions").filter(|restrictions| !restrictions.is_null())
    {
        new = new.restrictions(restricted(&restrictions.to_string()).map_err(said)?);
    }
    if let Some(limits) = text(&mut members, "limits")? {
        new = new.limits(limited(&limits).map_err(said)?);
    }
    let mut key = ImportedKey::new(id, new, digest(&mut members)?);
    if let Some(created) = at(&mut members, "created_at")? {
        key = key.created_at(created);
    }
    if let Some(revoked) = at(&mut members, "revoked_at")? {
        key = key.revoked_at(revoked);
    }
    Ok(key)
}

fn digest(members: &mut JsonObject) -> Result<ImportedDigest, String> {
    let pepper = text(members, "pepper")?;
    let token = text(members, "sanctum_id")?;
    let start = text(members, "start")?;
    let mut found = Vec::new();
    for name in ["sha256", "sha512", "sanctum", "hmac", "slow", "key"] {
        found.extend(text(members, name)?.map(|value| (name, value)));
    }
    let one = <[_; 1]>::try_from(found)
        .map_err(|_| "exactly one of sha256, sha512, sanctum, hmac, slow and key is needed")?;
    match (one, pepper, token, start) {
        ([("sha256", hash)], None, None, None) => Ok(ImportedDigest::sha256(hash)),
        ([("sha512", hash)], None, None, None) => Ok(ImportedDigest::sha512(hash)),
        ([("key", key)], None, None, None) => Ok(ImportedDigest::plaintext(key)),
        ([("sanctum", hash)], None, Some(token), None) => Ok(ImportedDigest::sanctum(token, hash)),
        ([("hmac", hash)], Some(pepper), None, None) => Ok(ImportedDigest::hmac(pepper, hash)),
        ([("slow", hash)], None, None, Some(start)) => Ok(ImportedDigest::slow(start, hash)),
        _ => Err("use sanctum_id only with sanctum, pepper only with hmac, and start only with slow".into()),
    }
}

fn text(members: &mut JsonObject, name: &str) -> Result<Option<String>, String> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be a string")),
    }
}

fn at(members: &mut JsonObject, name: &str) -> Result<Option<tower_api_key::Timestamp>, String> {
    let Some(text) = text(members, name)? else { return Ok(None) };
    let time = point(&text).ok_or_else(|| format!("{name} must be a time such as 2030-01-01T00:00:00Z"))?;
    Ok(Some(time))
}

fn said(failure: CliError) -> String {
    match failure {
        CliError::Refused(why) | CliError::Usage(why) | CliError::Store(why) => why,
    }
}

/// A progress bar for a terminal.
struct Bar {
    done: usize,
    total: usize,
    shown: Option<usize>,
    watched: bool,
}

impl Bar {
    fn of(total: usize) -> Self {
        Self { done: 0, total, shown: None, watched: io::stderr().is_terminal() }
    }

    fn step(&mut self) {
        const WIDTH: usize = 40;
        self.done += 1;
        let percent = self.done * 100 / self.total.max(1);
        if self.watched && self.shown != Some(percent) {
            self.shown = Some(percent);
            let full = percent * WIDTH / 100;
            let mut stderr = io::stderr();
            drop(write!(stderr, "\r[{:<WIDTH$}] {percent:>3} % of {}", "#".repeat(full), self.total));
            drop(stderr.flush());
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            say("");
        }
    }
}

#[cfg(test)]
mod fuzz;
