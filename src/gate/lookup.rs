//! Check 3: under which of the ring's digests the store knows a key.

use std::sync::Arc;

use super::refusal::Refusal;
use super::rules::Rules;
use crate::key::{Digester, Digests, Environment, KeyDigest};
use crate::record::KeyRecord;
use crate::store::StoreError;

/// A text that may be a key, and the digest that the store is asked for next.
pub(super) struct Lookup {
    /// The newest digest of the text.
    newest: KeyDigest,
    /// What the text says; `None` for keys of a foreign shape, which say nothing.
    environment: Option<Environment>,
    /// Set where it is not the newest that is asked for.
    other: Option<Box<Other>>,
}

struct Other {
    way: Way,
    digest: KeyDigest,
}

/// How a digest was made. Keys only ever move to the newest digest: asked for in this order, one that moves meanwhile is
/// met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the ring's older digests, the oldest first.
    Older(usize),
    /// By the public start of a key with a slow hash.
    #[cfg(feature = "slow-hashes")]
    Slow,
    /// By the newest once more.
    NewestAgain,
}

/// What follows from an answer of the store.
pub(super) enum Next {
    Found(Found),
    Nobody,
    Ask(Lookup),
}

/// A key that the store knows.
pub(super) struct Found {
    pub(super) key: Arc<KeyRecord>,
    /// Set if it was found by a digest that is no longer the newest.
    pub(super) outdated: Option<Box<Outdated>>,
}

/// A key was found by an older digest than this one.
pub(crate) struct Outdated {
    pub(crate) newest: KeyDigest,
    /// What is let go once the key has the newest.
    pub(crate) turn: Option<SlowTurn>,
}

/// The place and the turn of a slow check: the next is let in when the key is fast.
pub(crate) type SlowTurn = (tokio::sync::OwnedSemaphorePermit, tokio::sync::OwnedSemaphorePermit);

impl Lookup {
    #[inline(always)]
    pub(super) fn new(newest: KeyDigest, environment: Option<Environment>) -> Self {
        Self { newest, environment, other: None }
    }

    /// What to ask the store for.
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

    /// Whether it is asked for keys whose text must be compared slowly.
    #[inline]
    pub(super) fn is_slow(&self) -> bool {
        #[cfg(feature = "slow-hashes")]
        return self.other.as_ref().is_some_and(|other| other.way == Way::Slow);
        #[cfg(not(feature = "slow-hashes"))]
        false
    }

    /// Takes the store's answer.
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
        Other { way, digest }: Other,
        rules: &Rules,
        text: &str,
        found: Option<Arc<KeyRecord>>,
    ) -> Result<Next, Refusal> {
        let ring = &rules.digests;
        match way {
            Way::Older(index) => match ring.oldest_first().nth(index) {
                Some(digester) => match checked(found, &digest, digester)? {
                    Some(key) => Ok(Next::Found(self.outdated(key, None))),
                    None => Ok(self.other(ring, text, index.saturating_add(1))),
                },
                None => Ok(self.again()),
            },
            // A key that was found so is given to `compared`.
            #[cfg(feature = "slow-hashes")]
            Way::Slow => Ok(self.again()),
            Way::NewestAgain => Ok(match checked(found, &digest, ring.newest())? {
                Some(key) => Next::Found(Found { key, outdated: None }),
                None => Next::Nobody,
            }),
        }
    }

    /// Goes on with the ring's older digest of this index, or with what comes after the last of them.
    #[cold]
    fn other(self, ring: &Digests, text: &str, index: usize) -> Next {
        if let Some(digester) = ring.oldest_first().nth(index) {
            return self.ask(Way::Older(index), digester.digest(text));
        }
        #[cfg(feature = "slow-hashes")]
        if let Some(digest) = ring.slow().and_then(|slow| slow.digest(text)) {
            return self.ask(Way::Slow, digest);
        }
        self.again()
    }

    fn again(self) -> Next {
        let newest = self.newest;
        self.ask(Way::NewestAgain, newest)
    }

    fn ask(self, way: Way, digest: KeyDigest) -> Next {
        Next::Ask(Self { other: Some(Box::new(Other { way, digest })), ..self })
    }

    /// A key that was found by another digest than the newest.
    pub(super) fn outdated(&self, key: Arc<KeyRecord>, turn: Option<SlowTurn>) -> Found {
        Found { key, outdated: Some(Box::new(Outdated { newest: self.newest, turn })) }
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
