//! The usage and the audit log of a key, for the pages.

use std::collections::BTreeMap;

use tower_api_key::keyring::{Report, RetirementStatus};
use tower_api_key::{AuditEntry, KeyEvent, KeyId, Revocation, Timestamp, Usage, UsageChannel, UserId};

use super::time::Time;

/// How one key was used, as far as it was recorded.
#[derive(Default)]
pub(super) struct UseView {
    /// The channel with the latest use.
    pub(super) last: Option<ChannelView>,
    pub(super) ways: Vec<ChannelView>,
    /// Uses that a restriction in observe mode would have refused.
    pub(super) observed: Vec<ChannelView>,
    latest: Option<Timestamp>,
}

/// The use through one channel.
#[derive(Clone)]
pub(super) struct ChannelView {
    pub(super) name: String,
    pub(super) last: Time,
    pub(super) count: u64,
}

impl UseView {
    /// The usage of each used key, by its id.
    pub(super) fn of_all(usage: Vec<Usage>) -> BTreeMap<KeyId, Self> {
        let mut all: BTreeMap<KeyId, Self> = BTreeMap::new();
        for usage in usage {
            all.entry(usage.key.clone()).or_default().add(&usage);
        }
        all
    }

    fn add(&mut self, usage: &Usage) {
        let way = ChannelView::of(usage);
        if !usage.through.is_use() {
            self.observed.push(way);
            return;
        }
        if self.latest.is_none_or(|latest| latest < usage.last) {
            self.latest = Some(usage.last);
            self.last = Some(way.clone());
        }
        self.ways.push(way);
    }
}

impl ChannelView {
    fn of(usage: &Usage) -> Self {
        Self { name: way(&usage.through), last: usage.last.into(), count: usage.count }
    }
}

fn way(through: &UsageChannel) -> String {
    match through {
        UsageChannel::Direct => "Directly".to_owned(),
        UsageChannel::Scheme(name) => name.to_string(),
        UsageChannel::Observed(name) => match &**name {
            "ip" => "Addresses".to_owned(),
            "referrer" => "Pages".to_owned(),
            "endpoint" => "Endpoints".to_owned(),
            "scheme" => "Schemes".to_owned(),
            other => other.to_owned(),
        },
        other => other.to_string(),
    }
}

/// For a key in its grace period: who still uses it, and when it can be ended.
#[derive(Default)]
pub(super) struct GraceView {
    /// The last use since it was replaced.
    pub(super) used: Option<ChannelView>,
    pub(super) safe: bool,
    /// From when on it is safe to end it, if it is not used until then.
    pub(super) safe_at: Option<Time>,
}

impl GraceView {
    /// Returns `None` for a key that is not in a grace period.
    pub(super) fn of(report: &Report, id: &KeyId) -> Option<Self> {
        let key = report.replaced().find(|key| key.record().id == *id)?;
        let since = key.record().replaced_at?;
        let ending = report.ending(id, Report::QUIET)?;
        Some(Self {
            used: key.last().filter(|usage| usage.last >= since).map(ChannelView::of),
            safe: ending == RetirementStatus::Safe,
            safe_at: match (ending, key.record().expires_at) {
                // It expires before that.
                (RetirementStatus::Wait(until), Some(end)) if end <= until => None,
                (RetirementStatus::Wait(until), _) => Some(until.into()),
                _ => None,
            },
        })
    }
}

/// One entry of a key's audit log.
pub(super) struct EntryView {
    pub(super) at: Time,
    pub(super) what: String,
    pub(super) other: Option<String>,
    pub(super) by: String,
}

impl EntryView {
    pub(super) fn of(entry: &AuditEntry, visitor: &UserId) -> Self {
        let other = match &entry.event {
            KeyEvent::Replaces(key) | KeyEvent::ReplacedBy(key) => Some(key.as_str().to_owned()),
            _ => None,
        };
        Self { at: entry.at.into(), what: what(&entry.event), other, by: by(&entry.by, visitor) }
    }
}

fn what(event: &KeyEvent) -> String {
    match event {
        KeyEvent::Issued => "Created".to_owned(),
        KeyEvent::Imported => "Imported".to_owned(),
        KeyEvent::Replaces(_) => "Created to replace".to_owned(),
        KeyEvent::ReplacedBy(_) => "Rotated: replaced by".to_owned(),
        KeyEvent::Revoked(Revocation::ByHand) => "Revoked".to_owned(),
        KeyEvent::Revoked(Revocation::BySecret) => "Revoked by its holder".to_owned(),
        KeyEvent::Revoked(Revocation::Leaked) => "Revoked: it was found in public".to_owned(),
        KeyEvent::Revoked(Revocation::Replaced) => "Ended by the rotation".to_owned(),
        KeyEvent::Revoked(Revocation::Superseded) => "Ended: another key was created".to_owned(),
        KeyEvent::Revoked(Revocation::MemberRemoved) => "Ended: its owner left the account".to_owned(),
        KeyEvent::Updated(parts) if parts.is_empty() => "Changed: nothing".to_owned(),
        KeyEvent::Updated(parts) => {
            let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
            format!("Changed: {}", parts.join(", "))
        }
        KeyEvent::Rehashed(_) => "Stored under another digest".to_owned(),
        _ => "Changed".to_owned(),
    }
}

/// Describes the text of an [`Authority`](tower_api_key::Authority).
fn by(text: &str, visitor: &UserId) -> String {
    match text.split_once(':') {
        Some(("user", user)) if user == visitor.as_str() => "you".to_owned(),
        Some(("user", user)) => user.to_owned(),
        Some(("key", key)) => format!("the key {key}"),
        _ if text == "operator" => "an operator".to_owned(),
        _ => "the service".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(key: &str, through: &str, last: i64, count: u64) -> Usage {
        let key = KeyId::new(key).unwrap();
        Usage::new(key, through.parse().unwrap(), Timestamp::from_secs(last), count)
    }

    #[test]
    fn the_latest_way_is_the_last_use_and_observations_are_none() {
        let all = UseView::of_all(vec![
            used("key_1", "direct", 10, 1),
            used("key_1", "observed:ip", 90, 7),
            used("key_1", "scheme:bearer", 30, 2),
            used("key_1", "scheme:json-body", 20, 3),
            used("key_2", "observed:ip", 5, 1),
        ]);
        let first = &all[&KeyId::new("key_1").unwrap()];
        assert_eq!(first.last.as_ref().unwrap().name, "bearer");
        assert_eq!((first.ways.len(), first.observed.len(), first.observed[0].count), (3, 1, 7));
        assert!(all[&KeyId::new("key_2").unwrap()].last.is_none());
    }
}
