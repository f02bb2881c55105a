//! Verifies keys that were imported with a slow hash, at their first use.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::checks::FirstRefusal;
use super::config::Gate;
use super::lookup::{Found, Lookup};
use super::refusal::Refusal;
use crate::auth_error::AuthErrorKind;
use crate::key::{DigestMethod, KeyDigest, SlowHash};
use crate::record::KeyRecord;
use crate::store::StoreError;

/// How long a request may wait for a permit.
const TURN_DEADLINE: Duration = Duration::from_secs(10);

impl Gate {
    /// Finds a key by its public start, and compares its whole text with the hash that the store holds.
    ///
    /// An ended key is refused without computing the hash. So a client can learn that a key with this public start
    /// exists, which every other refusal hides. With `ended_too`, an ended key is compared like the others.
    pub(super) async fn find_slowly(
        &self,
        lookup: &Lookup,
        text: &str,
        ended_too: bool,
    ) -> Result<Option<Found>, Refusal> {
        let Some(slow) = self.rules.digests.slow() else { return Ok(None) };
        let digest = lookup.digest();
        let Some((key, _)) = self.find_by_start(digest, ended_too).await? else { return Ok(None) };
        let worth_it =
            |key: &KeyRecord| if ended_too { Ok(()) } else { self.rules.in_force(&mut FirstRefusal, key) };
        worth_it(&key)?;
        let overloaded = || Refusal::from(AuthErrorKind::Overloaded);
        let place = Arc::clone(slow.places()).try_acquire_owned().map_err(|_| overloaded())?;
        let turn = timeout(TURN_DEADLINE, Arc::clone(slow.checks()).acquire_owned()).await;
        let turn = turn.map_err(|_| overloaded())?.map_err(|_| overloaded())?;
        // Meanwhile another request may have rehashed it, so that it is found by its fast digest, or it may have ended.
        let Some((key, hash)) = self.find_by_start(digest, ended_too).await? else { return Ok(None) };
        worth_it(&key)?;
        let (text, checked) = (Zeroizing::new(text.to_owned()), hash.clone());
        // The permit moves into the task, which continues if the client disconnects.
        let work = move || (checked.matches(&text), (place, turn));
        let (is_the_key, turn) = spawn_blocking(work).await.map_err(StoreError::failed)?;
        if !is_the_key {
            return Ok(None);
        }
        // The record read before may be outdated by now: the key may have been revoked.
        let still = self.find_by_start(digest, ended_too).await?.filter(|(_, now)| *now == hash);
        Ok(still.map(|(key, _)| lookup.outdated(key, Some(turn))))
    }

    async fn find_by_start(
        &self,
        digest: &KeyDigest,
        ended_too: bool,
    ) -> Result<Option<(Arc<KeyRecord>, SlowHash)>, Refusal> {
        let found = self.ask(digest, ended_too).await?.filter(|key| key.digest.matches(digest));
        let Some(key) = found else { return Ok(None) };
        match &key.digested_by {
            DigestMethod::Slow(hash) => {
                let hash = hash.clone();
                Ok(Some((key, hash)))
            }
            _ => {
                Err(StoreError::corrupt("it was digested in another way than it says").of_key(&key.id).into())
            }
        }
    }
}
