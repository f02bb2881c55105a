//! The fields of a form or of a query, each at most once.

use std::collections::BTreeMap;

use crate::body_budget::Charge;

pub(super) struct Fields {
    values: BTreeMap<String, String>,
    /// The room that they take.
    charge: Option<Charge>,
}

impl Fields {
    /// None if a field is there twice.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Option<Self> {
        let count = pairs.len();
        let values: BTreeMap<_, _> = pairs.into_iter().collect();
        (values.len() == count).then_some(Self { values, charge: None })
    }

    /// Takes the room of the form as long as the fields are there.
    pub(super) fn keep(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    /// The value of a field; empty if it is not there, as browsers leave out what is not chosen.
    pub(super) fn take(&mut self, name: &str) -> String {
        self.values.remove(name).unwrap_or_default()
    }

    /// Whether every field was taken: what a form does not have is not said in passing (C11-01).
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
