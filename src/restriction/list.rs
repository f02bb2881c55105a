//! What all restrictions are: a list of what is allowed, and whether it is enforced.

use std::borrow::Cow;
use std::str::FromStr;

use super::Mode;

/// How many entries a list may have, and how long one may be.
const MAX_ENTRIES: usize = 100;
const MAX_ENTRY_LEN: usize = 512;

/// What is allowed, and whether that is enforced: one restriction of a key. Each kind has its own rules, and its own name
/// for such a list, as [`IpRestriction`](super::IpRestriction) is one of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList<R> {
    pub(super) mode: Mode,
    pub(super) rules: Vec<R>,
    /// For [referrers](super::ReferrerRestriction) alone.
    pub(super) origin: bool,
}

impl<R> AllowList<R> {
    /// Allows what these entries say, and enforces that; without any, nothing.
    ///
    /// # Errors
    ///
    /// [`RestrictionError`] with the entry and what to write instead.
    pub fn allow<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, RestrictionError>
    where
        R: FromStr<Err = RestrictionError> + PartialEq,
    {
        let mut rules = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            if entry.len() > MAX_ENTRY_LEN {
                return Err(RestrictionError::new(entry, "an entry may have 512 characters"));
            }
            let rule = entry.parse().map_err(|error| {
                if is_several::<R>(entry) { RestrictionError::new(entry, SEVERAL) } else { error }
            })?;
            if rules.contains(&rule) {
                return Err(RestrictionError::new(entry, "it is listed twice: leave one out"));
            }
            if rules.len() == MAX_ENTRIES {
                let reason = "a list may have 100 entries: widen some, or make two keys";
                return Err(RestrictionError::new(entry, reason));
            }
            rules.push(rule);
        }
        // A key is kept for long, and changed seldom.
        rules.shrink_to_fit();
        Ok(Self { mode: Mode::Enforce, rules, origin: false })
    }

    /// Refuses nothing, and says what it would have refused.
    #[must_use]
    pub fn observe(mut self) -> Self {
        self.mode = Mode::Observe;
        self
    }

    /// Whether it refuses.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it allows.
    #[must_use]
    pub fn rules(&self) -> &[R] {
        &self.rules
    }
}

/// Where a comma is no part of an entry.
pub(super) const SEVERAL: &str =
    "these are several with commas between them: write each as an entry of its own, without the comma";

/// Whether a text that is no entry is a list of entries.
fn is_several<R: FromStr>(text: &str) -> bool {
    text.contains(',') && text.split(',').all(|one| one.trim().parse::<R>().is_ok())
}

/// A restriction that was not understood. Its text says what to write instead, and is for whoever makes the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?}: {reason}")]
pub struct RestrictionError {
    entry: String,
    reason: Cow<'static, str>,
}

impl RestrictionError {
    pub(super) fn new(entry: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        const SHOWN: usize = 80;
        let mut shown: String = entry.chars().take(SHOWN).collect();
        if shown.len() < entry.len() {
            shown.push_str("...");
        }
        Self { entry: shown, reason: reason.into() }
    }

    /// What was not understood, cut off if it is long.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// What is wrong with it, and what to write instead.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
