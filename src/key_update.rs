//! [`KeyUpdate`]: which parts of an existing key to change.

use crate::audit::UpdatedPart;
use crate::limit::Limits;
use crate::record::{KeyRecord, LONG_RESTRICTIONS};
use crate::restriction::Restrictions;

/// Which parts of a key to change; the others stay. The owner, level and environment of a key never change.
#[derive(Clone, Debug, Default)]
#[must_use = "an update changes nothing by itself; pass it to `Keyring::update`"]
pub struct KeyUpdate {
    name: Option<String>,
    restrictions: Option<Restrictions>,
    limits: Option<Option<Limits>>,
}

impl KeyUpdate {
    /// Creates an update that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name (R34).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Replaces all restrictions (R56).
    pub fn restrictions(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = Some(restrictions);
        self
    }

    /// Replaces all limits, or removes them. What was already spent still counts.
    pub fn limits(mut self, limits: Option<Limits>) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The parts that it changes, for the audit log.
    #[must_use]
    pub fn parts(&self) -> Vec<UpdatedPart> {
        let parts = [
            self.name.as_ref().map(|_| UpdatedPart::Name),
            self.restrictions.as_ref().map(|_| UpdatedPart::Restrictions),
            self.limits.as_ref().map(|_| UpdatedPart::Limits),
        ];
        parts.into_iter().flatten().collect()
    }

    /// Checks and normalizes the new name.
    pub(crate) fn check_name<E>(mut self, check: impl FnOnce(&str) -> Result<String, E>) -> Result<Self, E> {
        self.name = self.name.as_deref().map(check).transpose()?;
        Ok(self)
    }

    /// Checks that the key stays within [its size limit](KeyRecord::MAX_RESTRICTIONS_LEN), or that longer existing data does
    /// not grow.
    ///
    /// # Errors
    ///
    /// What is too long, for [`RegistryError::TooLong`](crate::store::RegistryError::TooLong).
    pub fn check(&self, key: &KeyRecord) -> Result<(), &'static str> {
        let Some(restrictions) = &self.restrictions else { return Ok(()) };
        let len = restrictions.text_len();
        let fits = len <= KeyRecord::MAX_RESTRICTIONS_LEN || len <= key.restrictions.text_len();
        if fits { Ok(()) } else { Err(LONG_RESTRICTIONS) }
    }

    /// Returns the updated record, or `None` if nothing would change.
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

    /// Whether it might take access away. An update that only renames or widens need not take effect at once.
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
