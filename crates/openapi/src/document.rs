//! [`Document`]: a document that is being modified, and its components.

use std::collections::BTreeMap;

use utoipa::openapi::Components;
use utoipa::openapi::security::SecurityRequirement;

/// The parts of a document to which operations refer.
pub(crate) struct Document<'d> {
    pub(crate) components: &'d mut Components,
    /// Whether a security scheme can be marked as deprecated, which needs OpenAPI 3.2.
    pub(crate) knows_deprecation: bool,
}

/// Inserts a component, under another name if the name is taken by a different one; returns the name.
pub(crate) fn place<T: PartialEq>(into: &mut BTreeMap<String, T>, name: &str, value: T) -> String {
    let mut number = 1;
    loop {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        match into.get(&name) {
            Some(there) if *there == value => return name,
            Some(_) => number += 1,
            None => {
                into.insert(name.clone(), value);
                return name;
            }
        }
    }
}

/// A requirement without a scheme, which OpenAPI regards as always satisfied.
pub(crate) fn unspoken() -> SecurityRequirement {
    SecurityRequirement::default()
}
