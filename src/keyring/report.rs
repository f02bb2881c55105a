//! Who still uses what: by which schemes keys come in, and whether a key that was replaced can be ended.

use std::collections::HashMap;
use std::time::Duration;

use super::error::KeyringError;
use super::keyring::Keyring;
use crate::clock::Timestamp;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;
use crate::store::KeyQuery;
use crate::store::StoreError;
use crate::usage::{Usage, UsageChannel};

/// How late usage is written down, if the store takes it: a recorder writes once a minute.
const LAG: Duration = Duration::from_secs(60);
/// How many keys a page of a report holds at most.
const PAGE: u32 = 500;
/// How many of those that took a key's place are looked at.
const MAX_SUCCESSORS: usize = 16;

impl Keyring {
    /// How these keys have come in, as far as a [`UsageRecorder`](crate::observer::UsageRecorder) has written it down: of
    /// each, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`], with [`StoreError::NotKept`](crate::store::StoreError::NotKept) if the registry keeps no
    /// usage.
    pub async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, KeyringError> {
        self.usage_where(keys, UsageChannel::is_use).await
    }

    /// Which of their restrictions that are set to observe would have refused them, when last and how often: whoever
    /// finds nothing here may enforce them.
    ///
    /// # Errors
    ///
    /// As [`usage`](Self::usage).
    pub async fn observed(&self, keys: &[KeyId]) -> Result<Vec<Usage>, KeyringError> {
        self.usage_where(keys, |through| !through.is_use()).await
    }

    async fn usage_where(
        &self,
        keys: &[KeyId],
        wanted: impl Fn(&UsageChannel) -> bool,
    ) -> Result<Vec<Usage>, KeyringError> {
        let usage = async { self.registry.usage_log().ok_or(StoreError::NotKept)?.usage(keys).await };
        let mut usage = self.read(usage).await?;
        usage.retain(|usage| wanted(&usage.through));
        Ok(usage)
    }

    /// How the active keys of a user are used: who still comes through an old scheme, or with a key that was replaced.
    ///
    /// This reads every key of the user, ended ones too, once. Of one key, [`report_of`](Self::report_of) knows more quickly.
    ///
    /// # Errors
    ///
    /// As [`usage`](Self::usage).
    pub async fn report(&self, owner: &UserId) -> Result<Report, KeyringError> {
        let at = self.clock.now();
        // Stores walk along all keys in this order, page after page. The active ones they would have to sort for each page.
        let mut query = KeyQuery { limit: PAGE, ..KeyQuery::default() };
        let mut keys = Vec::new();
        loop {
            let page = self.page(owner, &query).await?;
            query.after = page.keys.last().map(|last| last.id.clone());
            let active = page.keys.into_iter().filter(|key| key.is_active(at)).collect();
            keys.extend(self.used(active).await?);
            if !page.more || query.after.is_none() {
                return Ok(Report::new(at, keys));
            }
        }
    }

    /// How one key is used, and those that took its place one after the other, up to sixteen, ended ones too: whether it
    /// is in use, and [can be ended](Report::ending). However many keys its owner has, this reads no others.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`], or as [`usage`](Self::usage).
    pub async fn report_of(&self, id: &KeyId) -> Result<Report, KeyringError> {
        let at = self.clock.now();
        let first = self.get(id).await?.ok_or(KeyringError::NotFound)?;
        let mut next = first.replaced_by.clone();
        let mut keys = vec![first];
        while let Some(id) = next.filter(|_| keys.len() <= MAX_SUCCESSORS) {
            let Some(key) = self.get(&id).await? else { break };
            next = key.replaced_by.clone();
            keys.push(key);
        }
        Ok(Report::new(at, self.used(keys).await?))
    }

    async fn used(&self, keys: Vec<KeyRecord>) -> Result<Vec<KeyUse>, KeyringError> {
        let ids: Vec<_> = keys.iter().map(|key| key.id.clone()).collect();
        let mut of_each: HashMap<KeyId, Vec<Usage>> = HashMap::new();
        if !ids.is_empty() {
            for usage in self.usage(&ids).await? {
                of_each.entry(usage.key.clone()).or_default().push(usage);
            }
        }
        let with_usage = |record: KeyRecord| {
            let usage = of_each.remove(&record.id).unwrap_or_default();
            KeyUse { record, usage }
        };
        Ok(keys.into_iter().map(with_usage).collect())
    }

    /// Ends a key in a rotation's grace before its time: [`revoke`](Self::revoke), but of no key that has no successor.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`] if there is no such key or it was not replaced, or the store failed: repeat it then.
    pub async fn end_grace(&self, id: &KeyId) -> Result<(), KeyringError> {
        let key = self.get(id).await?.filter(|key| key.replaced_by.is_some());
        self.revoke(&key.ok_or(KeyringError::NotFound)?.id).await
    }
}

/// How keys of one owner are used, as far as a [`UsageRecorder`](crate::observer::UsageRecorder) has written it down.
///
/// What happened in the last minute may be missing; [`ending`](Self::ending) counts with that.
#[derive(Clone, Debug)]
pub struct Report {
    at: Timestamp,
    keys: Vec<KeyUse>,
    /// Where each of them stands.
    places: HashMap<KeyId, usize>,
    /// When any of them was used last.
    seen: Option<Timestamp>,
}

/// A key, and how it was used.
#[derive(Clone, Debug)]
pub struct KeyUse {
    record: KeyRecord,
    usage: Vec<Usage>,
}

/// Whether a key in a rotation's grace can be ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetirementStatus {
    /// Nobody has called with it for long enough: nobody is cut off by
    /// [`end_grace`](crate::Keyring::end_grace).
    Safe,
    /// Somebody has, or it was replaced only lately. Safe from this time on, if nobody calls with it until then.
    Wait(Timestamp),
    /// It is quiet, and so are all other keys of the report: it cannot be told from usage that nobody records.
    Unknown,
}

impl Report {
    /// A week: how long nobody must have called with a replaced key for it to be [safe to end](Self::ending), where nobody has
    /// said otherwise.
    pub const QUIET: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    fn new(at: Timestamp, keys: Vec<KeyUse>) -> Self {
        let places = keys.iter().enumerate().map(|(place, key)| (key.record.id.clone(), place)).collect();
        let seen = keys.iter().filter_map(KeyUse::last).map(|usage| usage.last).max();
        Self { at, keys, places, seen }
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn keys(&self) -> &[KeyUse] {
        &self.keys
    }

    /// Those that have come in by a scheme, with the last time and how often: whom to write to before it ends.
    pub fn through<'r>(&'r self, scheme: &'r str) -> impl Iterator<Item = (&'r KeyRecord, &'r Usage)> {
        let by_it =
            move |usage: &&Usage| matches!(&usage.through, UsageChannel::Scheme(name) if *name == scheme);
        self.keys.iter().filter_map(move |key| Some((&key.record, key.usage.iter().find(by_it)?)))
    }

    /// Those that were replaced and still work.
    pub fn replaced(&self) -> impl Iterator<Item = &KeyUse> {
        self.keys.iter().filter(|key| self.is_in_grace(key))
    }

    fn is_in_grace(&self, key: &KeyUse) -> bool {
        key.record.replaced_by.is_some() && key.record.is_active(self.at)
    }

    /// Whether a replaced key can be ended now, if nobody has called with it for so long; `None` for a key that is not
    /// among [`replaced`](Self::replaced).
    ///
    /// Choose `quiet` longer than the rarest of its callers rests: a job that runs on Sundays needs a week and more. That
    /// usage is recorded at all is believed if some key of the report was seen in that time.
    #[must_use]
    pub fn ending(&self, id: &KeyId, quiet: Duration) -> Option<RetirementStatus> {
        let key = self.keys.get(*self.places.get(id)?).filter(|key| self.is_in_grace(key))?;
        let last = key.last().map(|usage| usage.last);
        let quiet_since = last.max(key.record.replaced_at)?;
        let safe_at = quiet_since.saturating_add(quiet).saturating_add(LAG);
        if self.at < safe_at {
            return Some(RetirementStatus::Wait(safe_at));
        }
        let lately = |seen: Timestamp| seen > quiet_since && seen.saturating_add(quiet + LAG) >= self.at;
        Some(if self.seen.is_some_and(lately) { RetirementStatus::Safe } else { RetirementStatus::Unknown })
    }
}

impl KeyUse {
    /// The key.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// By which ways it has come in, each with the last time and how often.
    #[must_use]
    pub fn usage(&self) -> &[Usage] {
        &self.usage
    }

    /// The last time that it came in, and by which way.
    #[must_use]
    pub fn last(&self) -> Option<&Usage> {
        self.usage.iter().max_by_key(|usage| usage.last)
    }
}
