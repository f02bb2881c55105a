//! The fields of a form or of a query, each at most once.

use std::collections::BTreeMap;

pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Returns `None` if a field occurs twice.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Option<Self> {
        let count = pairs.len();
        let fields: BTreeMap<_, _> = pairs.into_iter().collect();
        (fields.len() == count).then_some(Self(fields))
    }

    /// Takes the value of a field; empty if it is missing, because browsers omit unselected fields.
    pub(super) fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    /// Copies the fields.
    pub(super) fn copied(&self) -> Self {
        Self(self.0.clone())
    }

    /// The length of all names and values in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum()
    }

    /// Whether every field was taken, so that the form has no unknown fields (C11-01).
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
