//! Who still uses what: by which schemes keys come in, and whether a key that was replaced can be ended.

use std::time::Duration;

use super::{Keyring, KeyringError};
use crate::clock::Timestamp;
use crate::key::{KeyId, UserId};
use crate::record::KeyRecord;
use crate::store::KeyQuery;
use crate::usage::{Through, Usage};

/// How late usage is written down, if the store takes it: a recorder writes once a minute.
const LAG: Duration = Duration::from_secs(60);

impl Keyring {
    /// How these keys have come in, as far as a [`UsageRecorder`](crate::observer::UsageRecorder) has written it down: of
    /// each, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`], with [`StoreError::NotKept`](crate::store::StoreError::NotKept) if the ledger keeps no
    /// usage.
    pub async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, KeyringError> {
        self.usage_where(keys, Through::is_use).await
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
        wanted: impl Fn(&Through) -> bool,
    ) -> Result<Vec<Usage>, KeyringError> {
        let mut usage = self.read(self.ledger.usage(keys)).await?;
        usage.retain(|usage| wanted(&usage.through));
        Ok(usage)
    }

    /// How the active keys of a user are used: who still comes through an old scheme, or with a key that was replaced.
    ///
    /// # Errors
    ///
    /// As [`usage`](Self::usage).
    pub async fn report(&self, owner: &UserId) -> Result<Report, KeyringError> {
        let at = self.clock.now();
        let mut query = KeyQuery { active_at: Some(at), ..KeyQuery::default() };
        let mut keys = Vec::new();
        loop {
            let page = self.list(owner, &query).await?;
            let Some(last) = page.last() else { return Ok(Report { at, keys }) };
            query.after = Some(last.id.clone());
            let ids: Vec<_> = page.iter().map(|key| key.id.clone()).collect();
            let used = self.usage(&ids).await?;
            keys.extend(page.into_iter().map(|record| {
                let usage = used.iter().filter(|usage| usage.key == record.id).cloned().collect();
                KeyUse { record, usage }
            }));
        }
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

/// How the active keys of one owner are used, as far as a [`UsageRecorder`](crate::observer::UsageRecorder) has written it down.
///
/// What happened in the last minute may be missing; [`ending`](Self::ending) counts with that.
#[derive(Clone, Debug)]
pub struct Report {
    at: Timestamp,
    keys: Vec<KeyUse>,
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
pub enum Ending {
    /// Nobody has called with it for long enough: nobody is cut off by
    /// [`end_grace`](crate::Keyring::end_grace).
    Safe,
    /// Somebody has, or it was replaced only lately. Safe from this time on, if nobody calls with it until then.
    Wait(Timestamp),
    /// It is quiet, and so are all other keys of its owner: it cannot be told from usage that nobody records.
    Unknown,
}

impl Report {
    /// All of them, oldest first.
    #[must_use]
    pub fn keys(&self) -> &[KeyUse] {
        &self.keys
    }

    /// Those that have come in by a scheme, with the last time and how often: whom to write to before it ends.
    pub fn through<'r>(&'r self, scheme: &'r str) -> impl Iterator<Item = (&'r KeyRecord, &'r Usage)> {
        let by_it = move |usage: &&Usage| matches!(&usage.through, Through::Scheme(name) if *name == scheme);
        self.keys.iter().filter_map(move |key| Some((&key.record, key.usage.iter().find(by_it)?)))
    }

    /// Those that were replaced and still work.
    pub fn replaced(&self) -> impl Iterator<Item = &KeyUse> {
        self.keys.iter().filter(|key| key.record.replaced_by.is_some())
    }

    /// Whether a replaced key can be ended now, if nobody has called with it for so long; `None` for a key that is not
    /// among [`replaced`](Self::replaced).
    ///
    /// Choose `quiet` longer than the rarest of its callers rests: a job that runs on Sundays needs a week and more. That
    /// usage is recorded at all is believed if some key of the same owner was seen in that time.
    #[must_use]
    pub fn ending(&self, id: &KeyId, quiet: Duration) -> Option<Ending> {
        let key = self.replaced().find(|key| key.record.id == *id)?;
        let last = key.last().map(|usage| usage.last);
        let quiet_since = last.max(key.record.replaced_at)?;
        let safe_at = quiet_since.saturating_add(quiet).saturating_add(LAG);
        if self.at < safe_at {
            return Some(Ending::Wait(safe_at));
        }
        let seen = self.keys.iter().filter_map(KeyUse::last).map(|usage| usage.last).max();
        let lately = |seen: Timestamp| seen > quiet_since && seen.saturating_add(quiet + LAG) >= self.at;
        Some(if seen.is_some_and(lately) { Ending::Safe } else { Ending::Unknown })
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
