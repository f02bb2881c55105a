//! What an application declares about one method of one route, and which declarations contradict each other.

use crate::role::AccessClass;
use crate::route_pattern::is_catch_all;

#[derive(Clone, Copy, Debug)]
pub(super) enum Setting {
    Class(AccessClass),
    ProjectOptional,
    Optional,
    Public,
}

/// What a pattern that ends in a catch-all is declared to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// One route.
    Route,
    /// A route, and everything below it that has no declaration of its own.
    Subtree,
}

impl Setting {
    /// Checks whether this can be declared for a pattern with this extent, or returns why not.
    pub(super) fn suits(self, pattern: &str, extent: Extent) -> Result<(), &'static str> {
        let catches_all = pattern.rsplit('/').next().is_some_and(is_catch_all);
        match (extent, self) {
            (Extent::Subtree, _) if !catches_all => {
                Err("declare a subtree by a pattern that ends in a catch-all, such as /files/{*path}")
            }
            (Extent::Route, Self::Public) if catches_all => Err(
                "it ends in a catch-all: use public_subtree, whose documentation says what else becomes public",
            ),
            (Extent::Route, Self::Optional) if catches_all => Err(
                "it ends in a catch-all: use optional_subtree, whose documentation says what else it covers",
            ),
            (Extent::Route, Self::Class(AccessClass::Read)) if catches_all => {
                Err("it ends in a catch-all: use read_subtree, whose documentation says what else it covers")
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declaration {
    pub(super) class: Option<AccessClass>,
    pub(super) project_optional: bool,
    pub(super) key: KeyRequirement,
}

/// Whether an endpoint needs a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KeyRequirement {
    #[default]
    Required,
    Optional,
    /// The key is not looked at.
    Ignored,
}

impl Declaration {
    /// Adds a setting; returns false if it contradicts an earlier one.
    pub(super) fn takes(&mut self, change: Setting) -> bool {
        match change {
            Setting::Class(class) => {
                let before = self.class.replace(class);
                self.key != KeyRequirement::Ignored
                    && before.is_none_or(|before| before == class)
                    && self.is_sound()
            }
            Setting::ProjectOptional => {
                self.project_optional = true;
                self.key != KeyRequirement::Ignored
            }
            Setting::Optional => {
                let before = std::mem::replace(&mut self.key, KeyRequirement::Optional);
                before != KeyRequirement::Ignored && self.is_sound()
            }
            Setting::Public => {
                let before = std::mem::replace(&mut self.key, KeyRequirement::Ignored);
                before != KeyRequirement::Optional && !self.project_optional && self.class.is_none()
            }
        }
    }

    /// Whether a route that manages keys always needs one.
    fn is_sound(&self) -> bool {
        self.key == KeyRequirement::Required || self.class != Some(AccessClass::Manage)
    }
}
