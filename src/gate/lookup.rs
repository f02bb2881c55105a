//! Check 3: looks a key up by each of its possible digests.

use std::sync::Arc;

use super::config::Rules;
use super::refusal::Refusal;
use crate::key::{Digester, Digests, Environment, KeyDigest};
use crate::record::KeyRecord;
use crate::store::StoreError;

/// A text that may be a key, and the digest to look up next.
pub(super) struct Lookup {
    /// The newest digest of the text.
    newest: KeyDigest,
    /// The environment in the text; `None` for keys of a foreign shape, which contain none.
    environment: Option<Environment>,
    /// Set if the digest to look up is not the newest.
    other: Option<Box<OlderLookup>>,
}

struct OlderLookup {
    way: DigestChoice,
    digest: KeyDigest,
}

/// Which digest is looked up. A rehash only moves a key to the newest digest, so a key that moves during this
/// sequence is still found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DigestChoice {
    /// An older digest, by its index, oldest first.
    Older(usize),
    /// The public start of a key with a slow hash.
    #[cfg(feature = "slow-hashes")]
    Slow,
    /// The newest again.
    NewestAgain,
}

/// What to do after an answer of the store.
pub(super) enum Next {
    Found(Found),
    Nobody,
    Ask(Lookup),
}

/// A key that the store has.
pub(super) struct Found {
    pub(super) key: Arc<KeyRecord>,
    /// Set if it was found by a digest that is no longer the newest.
    pub(super) outdated: Option<Box<Outdated>>,
}

/// A key was found by an older digest than this one.
pub(crate) struct Outdated {
    pub(crate) newest: KeyDigest,
    /// Released when the key has the newest digest.
    pub(crate) turn: Option<SlowTurn>,
}

/// The place and the permit of a slow check. They are held until the key is rehashed.
pub(crate) type SlowTurn = (tokio::sync::OwnedSemaphorePermit, tokio::sync::OwnedSemaphorePermit);

impl Lookup {
    #[inline(always)]
    pub(super) fn new(newest: KeyDigest, environment: Option<Environment>) -> Self {
        Self { newest, environment, other: None }
    }

    /// The digest to ask the store for.
    #[inline(always)]
    pub(super) fn digest(&self) -> &KeyDigest {
        self.other.as_ref().map_or(&self.newest, |other| &other.digest)
    }

    #[inline(always)]
    pub(super) fn newest(&self) -> &KeyDigest {
        &self.newest
    }

    #[inline(always)]
    pub(super) fn environment(&self) -> Option<Environment> {
        self.environment
    }

    /// Whether the key that is found must still be compared by its slow hash.
    #[inline]
    pub(super) fn is_slow(&self) -> bool {
        #[cfg(feature = "slow-hashes")]
        return self.other.as_ref().is_some_and(|other| other.way == DigestChoice::Slow);
        #[cfg(not(feature = "slow-hashes"))]
        false
    }

    /// Processes the store's answer.
    #[inline(always)]
    pub(super) fn answer(
        self,
        rules: &Rules,
        text: &str,
        found: Option<Arc<KeyRecord>>,
    ) -> Result<Next, Refusal> {
        let Some(other) = self.other else {
            return match checked(found, &self.newest, rules.digests.newest())? {
                Some(key) => Ok(Next::Found(Found { key, outdated: None })),
                None if rules.digests.is_single() => Ok(Next::Nobody),
                None => Ok(self.other(&rules.digests, text, 0)),
            };
        };
        Self { other: None, ..self }.other_answer(*other, rules, text, found)
    }

    #[cold]
    fn other_answer(
        self,
        OlderLookup { way, digest }: OlderLookup,
        rules: &Rules,
        text: &str,
        found: Option<Arc<KeyRecord>>,
    ) -> Result<Next, Refusal> {
        let ring = &rules.digests;
        match way {
            DigestChoice::Older(index) => match ring.oldest_first().nth(index) {
                Some(digester) => match checked(found, &digest, digester)? {
                    Some(key) => Ok(Next::Found(self.outdated(key, None))),
                    None => Ok(self.other(ring, text, index.saturating_add(1))),
                },
                None => Ok(self.again()),
            },
            // A key that was found this way has its slow hash compared in `find_slowly`.
            #[cfg(feature = "slow-hashes")]
            DigestChoice::Slow => Ok(self.again()),
            DigestChoice::NewestAgain => Ok(match checked(found, &digest, ring.newest())? {
                Some(key) => Next::Found(Found { key, outdated: None }),
                None => Next::Nobody,
            }),
        }
    }

    /// Continues with the older digest of this index, or with what follows the last of them.
    #[cold]
    fn other(self, ring: &Digests, text: &str, index: usize) -> Next {
        if let Some(digester) = ring.oldest_first().nth(index) {
            return self.ask(DigestChoice::Older(index), digester.digest(text));
        }
        #[cfg(feature = "slow-hashes")]
        if let Some(digest) = ring.slow().and_then(|slow| slow.digest(text)) {
            return self.ask(DigestChoice::Slow, digest);
        }
        self.again()
    }

    fn again(self) -> Next {
        let newest = self.newest;
        self.ask(DigestChoice::NewestAgain, newest)
    }

    fn ask(self, way: DigestChoice, digest: KeyDigest) -> Next {
        Next::Ask(Self { other: Some(Box::new(OlderLookup { way, digest })), ..self })
    }

    /// A key that was found by another digest than the newest.
    pub(super) fn outdated(&self, key: Arc<KeyRecord>, turn: Option<SlowTurn>) -> Found {
        Found { key, outdated: Some(Box::new(Outdated { newest: self.newest, turn })) }
    }
}

/// Checks the store's answer.
#[inline(always)]
fn checked(
    found: Option<Arc<KeyRecord>>,
    digest: &KeyDigest,
    way: &Digester,
) -> Result<Option<Arc<KeyRecord>>, Refusal> {
    // The store has already compared the digests. This second comparison protects against stores that compare
    // inexactly.
    let Some(key) = found.filter(|key| key.digest.matches(digest)) else { return Ok(None) };
    if !way.made(&key.digested_by) {
        // Two methods never produce the same digest, so the record was tampered with.
        return Err(StoreError::corrupt("it was digested in another way than it says")
            .of_key(&key.id)
            .into());
    }
    Ok(Some(key))
}
