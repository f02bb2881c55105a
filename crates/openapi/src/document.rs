//! A document while it is written to, and its components.

use std::collections::BTreeMap;

use utoipa::openapi::Components;
use utoipa::openapi::security::SecurityRequirement;

/// The parts of a document that operations refer to.
pub(crate) struct Document<'d> {
    pub(crate) components: &'d mut Components,
    /// Only from OpenAPI 3.2 on a security scheme can be marked as deprecated.
    pub(crate) knows_deprecation: bool,
}

/// Puts a component into its place, under a name of its own if another stands there; the name it got.
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

/// Whatever names no scheme is met by anybody, as far as OpenAPI can tell.
pub(crate) fn unspoken() -> SecurityRequirement {
    SecurityRequirement::default()
}
