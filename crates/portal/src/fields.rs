//! The fields of a form or of a query, each at most once.

use std::collections::BTreeMap;

pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// None if a field is there twice.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Option<Self> {
        let count = pairs.len();
        let fields: BTreeMap<_, _> = pairs.into_iter().collect();
        (fields.len() == count).then_some(Self(fields))
    }

    /// The value of a field; empty if it is not there, as browsers leave out what is not chosen.
    pub(super) fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    /// The same fields once more.
    pub(super) fn copied(&self) -> Self {
        Self(self.0.clone())
    }

    /// Names and values together, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum()
    }

    /// Whether every field was taken: what a form does not have is not said in passing (C11-01).
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
