//! What the pages say of the past: when a key was used, through what, and what became of it.

use std::collections::BTreeMap;

use super::time::Time;
use crate::audit::{AuditEntry, KeyEvent, Revocation};
use crate::clock::Timestamp;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;
use crate::usage::{Through, Usage};

/// How one key was used, as far as that was written down.
#[derive(Default)]
pub(super) struct UseView {
    /// The latest of the ways.
    pub(super) last: Option<WayView>,
    pub(super) ways: Vec<WayView>,
    /// What restrictions that only observe would have refused.
    pub(super) observed: Vec<WayView>,
    latest: Option<Timestamp>,
}

/// One way of using a key.
#[derive(Clone)]
pub(super) struct WayView {
    pub(super) name: String,
    pub(super) last: Time,
    pub(super) count: u64,
}

impl UseView {
    /// Of each key that was used, by its id.
    pub(super) fn of_all(usage: Vec<Usage>) -> BTreeMap<KeyId, Self> {
        let mut all: BTreeMap<KeyId, Self> = BTreeMap::new();
        for usage in usage {
            all.entry(usage.key.clone()).or_default().add(&usage);
        }
        all
    }

    fn add(&mut self, usage: &Usage) {
        let way = WayView { name: way(&usage.through), last: usage.last.into(), count: usage.count };
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

    /// Whether it was used at that time or later.
    pub(super) fn since(&self, time: Timestamp) -> bool {
        self.latest.is_some_and(|latest| time <= latest)
    }
}

fn way(through: &Through) -> String {
    match through {
        Through::Direct => "Directly".to_owned(),
        Through::Scheme(name) => name.to_string(),
        Through::Observed(name) => match &**name {
            "ip" => "Addresses".to_owned(),
            "referrer" => "Pages".to_owned(),
            "endpoint" => "Endpoints".to_owned(),
            "scheme" => "Schemes".to_owned(),
            other => other.to_owned(),
        },
    }
}

/// Whether a replaced key can be ended without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// It was used after the new key was there.
    StillUsed,
    /// It was not, and the new one was: whoever called with it has changed over.
    Safe,
    /// Nothing is known of either. Perhaps nobody writes it down.
    Unknown,
}

impl Parting {
    pub(super) fn of(old: &KeyRecord, used: Option<&UseView>, heir: Option<&UseView>) -> Self {
        let Some(replaced_at) = old.replaced_at else { return Self::Unknown };
        if used.is_some_and(|used| used.since(replaced_at)) {
            Self::StillUsed
        } else if heir.is_some_and(|heir| heir.last.is_some()) {
            Self::Safe
        } else {
            Self::Unknown
        }
    }

    pub(super) fn is_safe(self) -> bool {
        self == Self::Safe
    }

    pub(super) fn is_still_used(self) -> bool {
        self == Self::StillUsed
    }
}

/// One entry of a key's trail.
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
        KeyEvent::Replaces(_) => "Created in the place of".to_owned(),
        KeyEvent::ReplacedBy(_) => "Rotated: its place is taken by".to_owned(),
        KeyEvent::Revoked(Revocation::ByHand) => "Revoked".to_owned(),
        KeyEvent::Revoked(Revocation::Replaced) => "Ended by the rotation".to_owned(),
        KeyEvent::Revoked(Revocation::Superseded) => "Ended: another was created".to_owned(),
        KeyEvent::Revoked(Revocation::MemberRemoved) => "Ended: its owner left the account".to_owned(),
        KeyEvent::Amended(parts) => {
            let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
            format!("Changed: {}", parts.join(", "))
        }
        KeyEvent::Rehashed(_) => "Stored under another digest".to_owned(),
    }
}

/// The text of an [`Actor`](crate::audit::Actor), in words.
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
    use crate::key::KeyDigest;

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
        assert!(first.since(Timestamp::from_secs(30)) && !first.since(Timestamp::from_secs(31)));
        assert!(all[&KeyId::new("key_2").unwrap()].last.is_none());
    }

    #[test]
    fn a_key_is_safe_to_end_only_where_its_heir_is_seen() {
        let id = KeyId::new("key_1").unwrap();
        let digest = KeyDigest::from_bytes([0; 32]);
        let mut old = KeyRecord::new(id, digest, UserId::new("alice").unwrap(), Timestamp::from_secs(1));
        let at = |time: i64| UseView::of_all(vec![used("key_1", "direct", time, 1)]).pop_first().unwrap().1;
        assert_eq!(Parting::of(&old, None, Some(&at(5))), Parting::Unknown);
        old.replaced_at = Some(Timestamp::from_secs(10));
        assert_eq!(Parting::of(&old, Some(&at(10)), Some(&at(12))), Parting::StillUsed);
        assert_eq!(Parting::of(&old, Some(&at(9)), Some(&at(12))), Parting::Safe);
        assert_eq!(Parting::of(&old, None, Some(&at(12))), Parting::Safe);
        assert_eq!(Parting::of(&old, Some(&at(9)), None), Parting::Unknown);
        assert_eq!(Parting::of(&old, None, None), Parting::Unknown);
    }
}
