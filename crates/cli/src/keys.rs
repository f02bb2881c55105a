//! The commands on keys: create, list, show, rotate, revoke, amend.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tower_api_key::keyring::NewKeyRequest;
use tower_api_key::limit::Limits;
use tower_api_key::restriction::Restrictions;
use tower_api_key::store::StoreError;
use tower_api_key::{
    Environment, Grace, KeyId, KeyQuery, KeyRecord, KeyUpdate, KeyringError, NewKey, ProjectId, Timestamp,
    UserId,
};

use crate::args;
use crate::error::CliError;
use crate::show::{self, Out};
use crate::store::{Opened, Purpose, StoreOptions};

/// How many entries of a key's audit log are shown.
const HISTORY: u32 = 100;
/// How many owners are queried at once.
const PAGE: u32 = 1000;

pub(crate) async fn create(at: &StoreOptions, out: &Out, new: args::NewKeyArgs) -> Result<(), CliError> {
    let owner = user(&new.owner)?;
    let new = described(new, &owner)?;
    let project = new.level().project().cloned();
    at.with(Purpose::Change, async |store| {
        let issued = match store.keyring.issue(new).await {
            Err(KeyringError::Forbidden) => return Err(store.why_not(&owner, project.as_ref()).await?),
            issued => issued?,
        };
        let key = issued.record();
        out.issued(&issued, format_args!("made {} of {}: its secret is shown this once", key.id, key.owner))
    })
    .await
}

/// The key that the arguments describe. Restrictions, limits and the time of expiry have forms of their own on a command line.
fn described(new: args::NewKeyArgs, owner: &UserId) -> Result<NewKey, CliError> {
    if let Some(project) = &new.project {
        // The error of `ProjectId` lists the characters of an id; that of the request does not.
        ProjectId::new(project.as_str()).map_err(CliError::usage)?;
    }
    let mut asked = NewKeyRequest::default();
    asked.name = Some(new.name);
    asked.level = new.project.is_some().then(|| "PROJECT".to_owned());
    asked.project = new.project;
    asked.environment = Some(new.environment);
    let mut key = asked.for_owner(owner.clone()).map_err(CliError::usage)?.scopes(new.scopes);
    if let Some(expires) = &new.expires {
        key = key.expires_at(time(expires)?);
    }
    for entry in &new.metadata {
        let (name, value) =
            entry.split_once('=').ok_or_else(|| CliError::usage("--metadata must be NAME=VALUE"))?;
        key = key.metadata(name, value);
    }
    if let Some(restrictions) = &new.restrictions {
        key = key.restrictions(restricted(restrictions)?);
    }
    if let Some(limits) = &new.limits {
        key = key.limits(limited(limits)?);
    }
    key.validate(now()).map_err(CliError::usage)?;
    Ok(key)
}

pub(crate) async fn list(at: &StoreOptions, out: &Out, which: args::ListArgs) -> Result<(), CliError> {
    let (owner, now) = (which.owner.as_deref().map(user).transpose()?, now());
    let mut query = KeyQuery::default();
    query.environment = which.environment.as_deref().map(environment).transpose()?;
    query.active_at = (!which.all).then_some(now);
    at.with(Purpose::Read, async |store| {
        let mut keys = Vec::new();
        match &owner {
            Some(owner) => keys_of(store, owner, &query, &mut keys).await?,
            None => {
                let inventory = store.registry.inventory().ok_or(StoreError::NotKept)?;
                let mut after = None;
                loop {
                    let page = inventory.owners(after.as_ref(), PAGE).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.clone());
                    for owner in &page {
                        keys_of(store, owner, &query, &mut keys).await?;
                    }
                }
            }
        }
        listed(out, &keys, now)
    })
    .await
}

async fn keys_of(
    store: &Opened,
    owner: &UserId,
    query: &KeyQuery,
    keys: &mut Vec<KeyRecord>,
) -> Result<(), CliError> {
    let mut query = query.clone();
    loop {
        let page = store.keyring.list(owner, &query).await?;
        let Some(last) = page.last() else { return Ok(()) };
        query.after = Some(last.id.clone());
        keys.extend(page);
    }
}

fn listed(out: &Out, keys: &[KeyRecord], now: Timestamp) -> Result<(), CliError> {
    let json: Vec<Value> = keys.iter().map(|key| show::record(key, now)).collect();
    out.answer(&json.into(), || {
        let head = ["ID", "OWNER", "NAME", "PROJECT", "ENVIRONMENT", "KEY", "CREATED", "EXPIRES", "STATE"];
        let row = |key: &KeyRecord| {
            vec![
                key.id.to_string(),
                key.owner.to_string(),
                key.name.clone(),
                key.level.project().map_or_else(|| "-".into(), ToString::to_string),
                key.environment.as_str().to_owned(),
                if key.prefix.is_empty() {
                    "(foreign)".into()
                } else {
                    format!("{}..{}", key.prefix, key.last4)
                },
                key.created_at.to_string(),
                key.expires_at.map_or_else(|| "-".into(), |at| at.to_string()),
                show::state(key, now).to_owned(),
            ]
        };
        show::table(&head, &keys.iter().map(row).collect::<Vec<_>>())
    })
}

pub(crate) async fn show(at: &StoreOptions, out: &Out, id: &str) -> Result<(), CliError> {
    let id = at.id(id)?;
    at.with(Purpose::Read, async |store| shown(store, out, &id).await).await
}

async fn shown(store: &Opened, out: &Out, id: &KeyId) -> Result<(), CliError> {
    let key = found(store, id).await?;
    let usage = store.keyring.usage(std::slice::from_ref(&key.id)).await?;
    let history = store.keyring.history(&key.id, HISTORY).await?;
    let mut json = show::record(&key, now());
    if let Value::Object(members) = &mut json {
        let usage = usage.iter().map(|usage| {
            let (through, last) = (usage.through.to_string(), usage.last.to_string());
            json!({"through": through, "last": last, "count": usage.count})
        });
        members.insert("usage".to_owned(), usage.collect());
        let history = history.iter().map(
            |entry| json!({"at": entry.at.to_string(), "by": entry.by, "event": entry.event.to_string()}),
        );
        members.insert("history".to_owned(), history.collect());
    }
    out.answer(&json, || {
        let mut text = String::new();
        for (name, value) in json.as_object().into_iter().flatten() {
            let value = match value {
                Value::Null => "-".to_owned(),
                Value::String(value) => value.clone(),
                Value::Array(entries) if entries.is_empty() => "-".to_owned(),
                Value::Array(entries) if name == "usage" || name == "history" => {
                    let indented = |entry: &Value| {
                        let values = entry.as_object().into_iter().flatten();
                        let values = values.map(|(_, value)| {
                            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                        });
                        format!("\n  {}", values.collect::<Vec<_>>().join("  "))
                    };
                    entries.iter().map(indented).collect()
                }
                other => other.to_string(),
            };
            text += &format!("{:<13} {value}\n", format!("{name}:"));
        }
        text
    })
}

pub(crate) async fn rotate(
    at: &StoreOptions,
    out: &Out,
    id: &str,
    grace: Option<&str>,
) -> Result<(), CliError> {
    let grace = match grace {
        None => Grace::None,
        Some(text) => Grace::For(
            span(text).ok_or_else(|| CliError::usage("--grace must be a duration such as 12h or 7d"))?,
        ),
    };
    let id = at.id(id)?;
    at.with(Purpose::Change, async |store| {
        let issued = match store.keyring.rotate(&id, grace).await {
            Err(KeyringError::Forbidden) => {
                let old = found(store, &id).await?;
                return Err(store.why_not(&old.owner, old.level.project()).await?);
            }
            issued => issued?,
        };
        let now_what =
            if grace == Grace::None { "has ended" } else { "works until its grace period is over" };
        let new = &issued.record().id;
        out.issued(
            &issued,
            format_args!(
                "made {new}, which replaces {id}; the old key {now_what}. The secret is shown this once"
            ),
        )
    })
    .await
}

pub(crate) async fn revoke(at: &StoreOptions, out: &Out, ids: &[String]) -> Result<(), CliError> {
    let ids: Vec<KeyId> = ids.iter().map(|id| at.id(id)).collect::<Result<_, _>>()?;
    at.with(Purpose::Change, async |store| revoked(store, out, &ids).await).await
}

async fn revoked(store: &Opened, out: &Out, ids: &[KeyId]) -> Result<(), CliError> {
    let (mut revoked, mut unknown) = (Vec::new(), Vec::new());
    // Continues after an error, because revoking several keys is usually urgent.
    for (index, id) in ids.iter().enumerate() {
        match store.keyring.revoke(id).await {
            Ok(()) => {
                out.done(format_args!("revoked {id}"));
                revoked.push(id.as_str());
            }
            // Reported by its position, because the argument may be the secret of a foreign key.
            Err(KeyringError::NotFound) => unknown.push(index + 1),
            Err(error) => return Err(error.into()),
        }
    }
    out.answer(&json!({"revoked": revoked, "not_found": unknown}), String::new)?;
    let Some(first) = unknown.first() else { return Ok(()) };
    Err(CliError::refused(format!(
        "{} of the {} keys do not exist; the first of them is number {first}. `tower-api-key list --owner USER --all` shows ids",
        unknown.len(),
        ids.len()
    )))
}

pub(crate) async fn update(at: &StoreOptions, out: &Out, change: args::Amend) -> Result<(), CliError> {
    let id = at.id(&change.id)?;
    let mut update = KeyUpdate::new();
    if change.name.is_none() && change.restrictions.is_none() && change.limits.is_none() && !change.no_limits
    {
        return Err(CliError::usage(
            "nothing to change: use --name, --restrictions, --limits or --no-limits",
        ));
    }
    if let Some(name) = change.name {
        // The rule for names does not depend on the owner.
        NewKey::user_level(user("anybody")?, &*name).validate(now()).map_err(CliError::usage)?;
        update = update.name(name);
    }
    if let Some(restrictions) = &change.restrictions {
        update = update.restrictions(restricted(restrictions)?);
    }
    if let Some(limits) = &change.limits {
        update = update.limits(Some(limited(limits)?));
    }
    if change.no_limits {
        update = update.limits(None);
    }
    at.with(Purpose::Change, async |store| {
        store.keyring.update(&id, update).await?;
        let key = found(store, &id).await?;
        out.done(format_args!("changed {id}"));
        out.answer(&show::record(&key, now()), String::new)
    })
    .await
}

pub(crate) async fn found(store: &Opened, id: &KeyId) -> Result<KeyRecord, CliError> {
    Ok(store.keyring.get(id).await?.ok_or(KeyringError::NotFound)?)
}

pub(crate) fn user(id: &str) -> Result<UserId, CliError> {
    UserId::new(id).map_err(CliError::usage)
}

pub(crate) fn environment(name: &str) -> Result<Environment, CliError> {
    Environment::from_name(name).ok_or_else(|| CliError::usage("an environment must be live or test"))
}

pub(crate) fn restricted(json: &str) -> Result<Restrictions, CliError> {
    json.parse().map_err(|error| CliError::usage(format!("restrictions: {error}")))
}

pub(crate) fn limited(text: &str) -> Result<Limits, CliError> {
    text.parse().map_err(CliError::usage)
}

pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Parses a duration from now on, or a point in time.
pub(crate) fn time(text: &str) -> Result<Timestamp, CliError> {
    match span(text) {
        Some(span) => Ok(now().saturating_add(span)),
        None => point(text).ok_or_else(|| {
            CliError::usage("a time must be a duration such as 90d, or in RFC 3339: 2030-01-01T00:00:00Z")
        }),
    }
}

pub(crate) fn point(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Parses a duration such as `30s`, `15min`, `12h`, `7d`.
fn span(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit).map(Duration::from_secs)
}
