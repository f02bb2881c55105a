//! What is declared of one method of one route.

use crate::access::AccessClass;
use crate::route_pattern::is_catch_all;

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Class(AccessClass),
    ProjectOptional,
    Optional,
    Public,
}

/// What a pattern that ends in a catch-all is said to stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// One route.
    Route,
    /// A route, and whatever is behind it that no other declaration is for.
    Subtree,
}

impl Change {
    /// Whether this may be said of a pattern with that extent, or why not.
    pub(super) fn suits(self, pattern: &str, extent: Extent) -> Result<(), &'static str> {
        let catches_all = pattern.rsplit('/').next().is_some_and(is_catch_all);
        match (extent, self) {
            (Extent::Subtree, _) if !catches_all => {
                Err("a subtree is declared by a pattern that ends in a catch-all, such as /files/{*path}")
            }
            (Extent::Route, Self::Public) if catches_all => {
                Err("it ends in a catch-all: say public_subtree, and read there what else it stands for")
            }
            (Extent::Route, Self::Optional) if catches_all => {
                Err("it ends in a catch-all: say optional_subtree, and read there what else it stands for")
            }
            (Extent::Route, Self::Class(AccessClass::Read)) if catches_all => {
                Err("it ends in a catch-all: say read_subtree, and read there what else it stands for")
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declaration {
    pub(super) class: Option<AccessClass>,
    pub(super) project_optional: bool,
    pub(super) key: Key,
}

/// Who needs a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    #[default]
    Required,
    Optional,
    /// None is looked at.
    Ignored,
}

impl Declaration {
    /// Adds to what is declared; false if it contradicts what was declared before.
    pub(super) fn takes(&mut self, change: Change) -> bool {
        match change {
            Change::Class(class) => {
                let before = self.class.replace(class);
                self.key != Key::Ignored && before.is_none_or(|before| before == class) && self.is_sound()
            }
            Change::ProjectOptional => {
                self.project_optional = true;
                self.key != Key::Ignored
            }
            Change::Optional => {
                let before = std::mem::replace(&mut self.key, Key::Optional);
                before != Key::Ignored && self.is_sound()
            }
            Change::Public => {
                let before = std::mem::replace(&mut self.key, Key::Ignored);
                before != Key::Optional && !self.project_optional && self.class.is_none()
            }
        }
    }

    /// Nobody manages keys without one.
    fn is_sound(&self) -> bool {
        self.key == Key::Required || self.class != Some(AccessClass::Manage)
    }
}
