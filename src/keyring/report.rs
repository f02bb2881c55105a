//! Usage reports: through which schemes keys are used, and whether a replaced key can be revoked.

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

/// How late usage is stored: a recorder writes once a minute.
const LAG: Duration = Duration::from_secs(60);
/// The maximum number of keys that a report reads at once.
const PAGE: u32 = 500;
/// How many successors of a key are followed.
const MAX_SUCCESSORS: usize = 16;

impl Keyring {
    /// Returns how these keys were used, as far as a [`UsageRecorder`](crate::observer::UsageRecorder) has recorded
    /// it, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`], with [`StoreError::NotKept`](crate::store::StoreError::NotKept) if the registry
    /// keeps no usage.
    pub async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, KeyringError> {
        self.usage_where(keys, UsageChannel::is_use).await
    }

    /// Returns which of their restrictions in observe mode would have refused requests, when last and how often.
    /// Restrictions that are not listed here can be enforced safely.
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

    /// Returns how the active keys of a user are used: which are still used through an old scheme, and which
    /// replaced keys are still used.
    ///
    /// This reads every key of the user once, ended ones too. For one key, [`report_of`](Self::report_of) is
    /// faster.
    ///
    /// # Errors
    ///
    /// As [`usage`](Self::usage).
    pub async fn report(&self, owner: &UserId) -> Result<Report, KeyringError> {
        let at = self.clock.now();
        // Stores can read all keys in this order page by page. A query for active keys only would sort for each page.
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

    /// Returns how one key and its successors are used, up to sixteen of them, ended ones too: whether the key is
    /// in use, and whether it [can be revoked](Report::ending). This reads no other keys of the owner.
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

    /// Ends a grace period early: [`revoke`](Self::revoke), but only for a key that was replaced.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`] if there is no such key or it was not replaced, or an error of the store, after
    /// which you can repeat the call.
    pub async fn end_grace(&self, id: &KeyId) -> Result<(), KeyringError> {
        let key = self.get(id).await?.filter(|key| key.replaced_by.is_some());
        self.revoke(&key.ok_or(KeyringError::NotFound)?.id).await
    }
}

/// How keys of one owner are used, as far as a [`UsageRecorder`](crate::observer::UsageRecorder) has recorded it.
///
/// Usage of the last minute may be missing; [`ending`](Self::ending) takes this into account.
#[derive(Clone, Debug)]
pub struct Report {
    at: Timestamp,
    keys: Vec<KeyUse>,
    /// The index of each key in `keys`.
    places: HashMap<KeyId, usize>,
    /// The last time that any of them was used.
    seen: Option<Timestamp>,
}

/// A key, and how it was used.
#[derive(Clone, Debug)]
pub struct KeyUse {
    record: KeyRecord,
    usage: Vec<Usage>,
}

/// Whether a key in a grace period can be revoked early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetirementStatus {
    /// The key was not used for long enough: [`end_grace`](crate::Keyring::end_grace) affects nobody.
    Safe,
    /// The key was used or replaced only recently. It is safe from this time on, if it is not used until then.
    Wait(Timestamp),
    /// No key of the report was used in that time, so it may be that usage is not recorded at all.
    Unknown,
}

impl Report {
    /// A week: the usual time without use after which a replaced key is [safe to revoke](Self::ending).
    pub const QUIET: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    fn new(at: Timestamp, keys: Vec<KeyUse>) -> Self {
        let places = keys.iter().enumerate().map(|(place, key)| (key.record.id.clone(), place)).collect();
        let seen = keys.iter().filter_map(KeyUse::last).map(|usage| usage.last).max();
        Self { at, keys, places, seen }
    }

    /// All keys, oldest first.
    #[must_use]
    pub fn keys(&self) -> &[KeyUse] {
        &self.keys
    }

    /// The keys that were used through a scheme, with the last time and the count: their owners must be told before
    /// the scheme ends.
    pub fn through<'r>(&'r self, scheme: &'r str) -> impl Iterator<Item = (&'r KeyRecord, &'r Usage)> {
        let by_it =
            move |usage: &&Usage| matches!(&usage.through, UsageChannel::Scheme(name) if *name == scheme);
        self.keys.iter().filter_map(move |key| Some((&key.record, key.usage.iter().find(by_it)?)))
    }

    /// The keys that were replaced and still work.
    pub fn replaced(&self) -> impl Iterator<Item = &KeyUse> {
        self.keys.iter().filter(|key| self.is_in_grace(key))
    }

    fn is_in_grace(&self, key: &KeyUse) -> bool {
        key.record.replaced_by.is_some() && key.record.is_active(self.at)
    }

    /// Whether a replaced key can be revoked now, because it was not used for the time `quiet`; `None` for a key
    /// that is not among [`replaced`](Self::replaced).
    ///
    /// Choose `quiet` longer than the pause of the rarest caller: for a job that runs every Sunday, more than a
    /// week. The answer is [`Unknown`](RetirementStatus::Unknown) unless some key of the report was used in that
    /// time, which shows that usage is recorded.
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

    /// The schemes through which it was used, each with the last time and the count.
    #[must_use]
    pub fn usage(&self) -> &[Usage] {
        &self.usage
    }

    /// Its last use, with the scheme.
    #[must_use]
    pub fn last(&self) -> Option<&Usage> {
        self.usage.iter().max_by_key(|usage| usage.last)
    }
}
