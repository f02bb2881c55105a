//! What to change of a key that is there.

use crate::audit::UpdatedPart;
use crate::limit::Limits;
use crate::record::{KeyRecord, LONG_RESTRICTIONS, MAX_RESTRICTIONS_LEN};
use crate::restriction::Restrictions;

/// What to change of a key; what is not said stays as it is. Its owner, level and environment never change.
#[derive(Clone, Debug, Default)]
#[must_use = "an update changes nothing by itself; pass it to `Keyring::update`"]
pub struct KeyUpdate {
    name: Option<String>,
    restrictions: Option<Restrictions>,
    limits: Option<Option<Limits>>,
}

impl KeyUpdate {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another name (R34).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Other restrictions in the place of all that there are (R56).
    pub fn restrictions(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = Some(restrictions);
        self
    }

    /// Other limits in the place of all that there are, or none. What was spent stays spent.
    pub fn limits(mut self, limits: Option<Limits>) -> Self {
        self.limits = Some(limits);
        self
    }

    /// What it changes, for the trail of the key.
    #[must_use]
    pub fn parts(&self) -> Vec<UpdatedPart> {
        let parts = [
            self.name.as_ref().map(|_| UpdatedPart::Name),
            self.restrictions.as_ref().map(|_| UpdatedPart::Restrictions),
            self.limits.as_ref().map(|_| UpdatedPart::Limits),
        ];
        parts.into_iter().flatten().collect()
    }

    /// Has another name looked at, and put in the place of the one that was asked for.
    pub(crate) fn check_name<E>(mut self, check: impl FnOnce(&str) -> Result<String, E>) -> Result<Self, E> {
        self.name = self.name.as_deref().map(check).transpose()?;
        Ok(self)
    }

    /// Whether a key stays within [its bound](MAX_RESTRICTIONS_LEN), or what is longer from before becomes no longer.
    ///
    /// # Errors
    ///
    /// What is too long, for [`RegistryError::TooLong`](crate::store::RegistryError::TooLong).
    pub fn check(&self, key: &KeyRecord) -> Result<(), &'static str> {
        let Some(restrictions) = &self.restrictions else { return Ok(()) };
        let len = restrictions.text_len();
        let fits = len <= MAX_RESTRICTIONS_LEN || len <= key.restrictions.text_len();
        if fits { Ok(()) } else { Err(LONG_RESTRICTIONS) }
    }

    /// The record that this makes of `key`, or `None` if that would be the same.
    #[must_use]
    pub fn of(&self, key: &KeyRecord) -> Option<KeyRecord> {
        let same = self.name.as_ref().is_none_or(|name| *name == key.name)
            && self.restrictions.as_ref().is_none_or(|restrictions| *restrictions == key.restrictions)
            && self.limits.as_ref().is_none_or(|limits| *limits == key.limits);
        if same {
            return None;
        }
        let mut changed = key.clone();
        self.apply(&mut changed);
        Some(changed)
    }

    /// Whether it may take access away. What only renames or widens may not, and can wait.
    #[must_use]
    pub fn may_narrow(&self) -> bool {
        self.restrictions.as_ref().is_some_and(|restrictions| !restrictions.is_none())
            || self.limits.as_ref().is_some_and(Option::is_some)
    }

    fn apply(&self, key: &mut KeyRecord) {
        if let Some(name) = &self.name {
            key.name.clone_from(name);
        }
        if let Some(restrictions) = &self.restrictions {
            key.restrictions = restrictions.clone();
        }
        if let Some(limits) = &self.limits {
            key.limits.clone_from(limits);
        }
    }
}
