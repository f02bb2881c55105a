//! Question 3: under which of the ring's digests the store knows a key.

use std::sync::Arc;

use super::Verifier;
use super::questions::Candidate;
use super::refusal::Refusal;
use super::renew::{Outdated, Turn};
use crate::key::{Digester, KeyDigest};
use crate::record::KeyRecord;
use crate::store::StoreError;

/// A key that the store knows.
pub(super) struct Found {
    pub(super) key: Arc<KeyRecord>,
    /// Set if it was found by a digest that is no longer the newest.
    pub(super) outdated: Option<Box<Outdated>>,
}

impl Found {
    pub(super) fn by_newest(key: Arc<KeyRecord>) -> Self {
        Self { key, outdated: None }
    }

    pub(super) fn by_older(key: Arc<KeyRecord>, candidate: &Candidate<'_>, turn: Option<Turn>) -> Self {
        Self { key, outdated: Some(Box::new(Outdated { newest: candidate.digest, turn })) }
    }
}

impl Verifier {
    /// The answer, if it is at hand without waiting.
    #[inline]
    pub(super) fn at_hand(&self, candidate: &Candidate<'_>) -> Result<Option<Option<Found>>, Refusal> {
        let Some(found) = self.keys.warm(&candidate.digest) else { return Ok(None) };
        match checked(found, &candidate.digest, self.digests.newest())? {
            Some(key) => Ok(Some(Some(Found::by_newest(key)))),
            None if self.digests.is_single() => Ok(Some(None)),
            None => self.older_at_hand(candidate),
        }
    }

    #[cold]
    fn older_at_hand(&self, candidate: &Candidate<'_>) -> Result<Option<Option<Found>>, Refusal> {
        for way in self.digests.oldest_first() {
            let digest = way.digest(candidate.text);
            let Some(found) = self.keys.warm(&digest) else { return Ok(None) };
            if let Some(key) = checked(found, &digest, way)? {
                return Ok(Some(Some(Found::by_older(key, candidate, None))));
            }
        }
        #[cfg(feature = "slow-hashes")]
        if let Some(digest) = self.digests.slow().and_then(|slow| slow.digest(candidate.text))
            && !matches!(self.keys.warm(&digest), Some(None))
        {
            return Ok(None);
        }
        // It may have moved meanwhile.
        let Some(found) = self.keys.warm(&candidate.digest) else { return Ok(None) };
        Ok(Some(checked(found, &candidate.digest, self.digests.newest())?.map(Found::by_newest)))
    }

    /// Asks the store, for one digest after the other. Those that have ended are only `ended_too` looked at more closely.
    pub(super) async fn find(
        &self,
        candidate: &Candidate<'_>,
        ended_too: bool,
    ) -> Result<Option<Found>, Refusal> {
        if let Some(key) = self.find_newest(candidate, ended_too).await? {
            return Ok(Some(Found::by_newest(key)));
        }
        if self.digests.is_single() {
            return Ok(None);
        }
        for way in self.digests.oldest_first() {
            let digest = way.digest(candidate.text);
            if let Some(key) = checked(self.ask(&digest, ended_too).await?, &digest, way)? {
                return Ok(Some(Found::by_older(key, candidate, None)));
            }
        }
        #[cfg(feature = "slow-hashes")]
        if let Some(found) = self.find_slowly(candidate, ended_too).await? {
            return Ok(Some(found));
        }
        // It may have moved meanwhile.
        Ok(self.find_newest(candidate, ended_too).await?.map(Found::by_newest))
    }

    async fn find_newest(
        &self,
        candidate: &Candidate<'_>,
        ended_too: bool,
    ) -> Result<Option<Arc<KeyRecord>>, Refusal> {
        let found = self.ask(&candidate.digest, ended_too).await?;
        checked(found, &candidate.digest, self.digests.newest())
    }

    /// A request that refuses keys that have ended needs to know no more of them.
    pub(super) async fn ask(
        &self,
        digest: &KeyDigest,
        ended_too: bool,
    ) -> Result<Option<Arc<KeyRecord>>, Refusal> {
        if ended_too {
            return self.in_time(self.keys.find(digest)).await;
        }
        self.in_time(self.keys.find_at(digest, self.clock.now())).await
    }
}

/// What a store answered, if it is so.
#[inline(always)]
fn checked(
    found: Option<Arc<KeyRecord>>,
    digest: &KeyDigest,
    way: &Digester,
) -> Result<Option<Arc<KeyRecord>>, Refusal> {
    // The store compared the digests; this is the second line, for stores whose comparison is not exact.
    let Some(key) = found.filter(|key| key.digest.matches(digest)) else { return Ok(None) };
    if !way.made(&key.digested_by) {
        // No two ways lead to one digest: somebody has put it there.
        return Err(StoreError::corrupt("it was digested in another way than it says")
            .of_key(&key.id)
            .into());
    }
    Ok(Some(key))
}
