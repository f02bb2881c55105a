//! [`AllowList`], the type of every restriction: what is allowed, and whether that is enforced.

use std::borrow::Cow;
use std::str::FromStr;

use super::Mode;

/// The largest number of entries in a list, and the longest entry.
const MAX_ENTRIES: usize = 100;
const MAX_ENTRY_LEN: usize = 512;

/// One restriction of a key: what is allowed, and whether that is enforced. Each kind has its own type of rule and its
/// own alias: [`IpRestriction`](super::IpRestriction) is a list of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList<R> {
    pub(super) mode: Mode,
    pub(super) rules: Vec<R>,
    /// Used by [referrer restrictions](super::ReferrerRestriction) only.
    pub(super) origin: bool,
}

impl<R> AllowList<R> {
    /// Allows what these entries describe and nothing else, and enforces that. Without entries, nothing is allowed.
    ///
    /// # Errors
    ///
    /// [`RestrictionError`] with the entry that was not understood and what to write instead.
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
        // A key is kept for a long time and rarely changed.
        rules.shrink_to_fit();
        Ok(Self { mode: Mode::Enforce, rules, origin: false })
    }

    /// Turns enforcement off: the restriction only reports what it would have refused.
    #[must_use]
    pub fn observe(mut self) -> Self {
        self.mode = Mode::Observe;
        self
    }

    /// Whether the restriction is enforced.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The rules: what it allows.
    #[must_use]
    pub fn rules(&self) -> &[R] {
        &self.rules
    }
}

/// The error for several entries in one text, in lists whose entries contain no comma.
pub(super) const SEVERAL: &str =
    "these are several with commas between them: write each as an entry of its own, without the comma";

/// Whether a text that is not an entry is a comma-separated list of entries.
fn is_several<R: FromStr>(text: &str) -> bool {
    text.contains(',') && text.split(',').all(|one| one.trim().parse::<R>().is_ok())
}

/// An error about the text of a restriction. It says what to write instead, for the person who makes the key.
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

    /// The entry that was not understood, truncated if it is long.
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
