//! [`NewKeyRequest`]: a request for a key, with all fields as texts.

use std::error::Error;
use std::fmt;

use super::new_key::NewKey;
use crate::clock::Timestamp;
use crate::key::{Environment, ProjectId, UserId};
use crate::record::KeyLevel;

/// A request for a key, with all fields as texts. REST routes, forms and the command line all parse them here.
///
/// Scopes, metadata, restrictions and limits are parsed by their own types. Add them to the [`NewKey`] that is
/// returned.
///
/// ```
/// use tower_api_key::keyring::{NewKeyError, NewKeyRequest};
/// use tower_api_key::UserId;
///
/// let alice = UserId::new("alice")?;
/// let mut asked = NewKeyRequest::default();
/// asked.name = Some("CI of p1".to_owned());
/// asked.level = Some("project".to_owned());
/// asked.environment = Some("production".to_owned());
/// let errors = asked.clone().for_owner(alice.clone()).unwrap_err();
/// assert!(errors.iter().eq([NewKeyError::NoProject, NewKeyError::Environment]));
///
/// asked.project = Some("p1".to_owned());
/// asked.environment = Some("test".to_owned());
/// let new = asked.for_owner(alice).unwrap().scopes(["builds:write"]);
/// # let _ = new;
/// # Ok::<(), tower_api_key::key::ParseIdError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NewKeyRequest {
    /// The name, which is required; see [`NewKey::user_level`].
    pub name: Option<String>,
    /// `USER` or `PROJECT`, in any case; the default is `USER`.
    pub level: Option<String>,
    /// The project, which is required for a project-level key. For a user-level key it is an error, because the
    /// client probably wanted the narrower level (R35).
    pub project: Option<String>,
    /// `live` or `test`, in any case; the default is `live`.
    pub environment: Option<String>,
    /// When it expires, in RFC 3339; the default is never. The keyring checks that it is in the future.
    pub expires_at: Option<String>,
}

/// An error in one field of a [`NewKeyRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewKeyError {
    /// The name is missing or not valid.
    #[error("name is required: 1 to 64 characters without control, bidirectional and invisible characters")]
    Name,
    /// The level is neither `USER` nor `PROJECT`.
    #[error("level is USER or PROJECT")]
    Level,
    /// The level is `PROJECT`, and the project is missing or not a valid id.
    #[error("a project-level key is for one project: name it by its id")]
    NoProject,
    /// The level is `USER`, and a project is named.
    #[error("a user-level key is for all projects: leave the project out, or ask for project level")]
    ProjectOfUserLevel,
    /// The environment is neither `live` nor `test`.
    #[error("environment is live or test")]
    Environment,
    /// The expiry is not a time.
    #[error("expires_at is a time as RFC 3339 writes it, such as 2030-01-01T00:00:00Z")]
    ExpiresAt,
}

/// All errors in a [`NewKeyRequest`]: at least one, and at most one per field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeyErrors {
    first: NewKeyError,
    rest: Vec<NewKeyError>,
}

impl NewKeyErrors {
    /// The first error.
    #[must_use]
    pub fn first(&self) -> NewKeyError {
        self.first
    }

    /// All errors, in the order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = NewKeyError> {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }
}

impl fmt::Display for NewKeyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.rest.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}

impl Error for NewKeyErrors {}

impl NewKeyRequest {
    /// Returns the requested key for this owner, who is never part of a request.
    ///
    /// # Errors
    ///
    /// [`NewKeyErrors`] with all errors.
    pub fn for_owner(self, owner: UserId) -> Result<NewKey, NewKeyErrors> {
        let name = self.name.filter(|name| NewKey::valid_name(name).is_some()).ok_or(NewKeyError::Name);
        let level = level(self.level.as_deref(), self.project);
        let environment = environment(self.environment.as_deref());
        let end = self.expires_at.map(|end| end.parse::<Timestamp>()).transpose();
        let end = end.map_err(|_| NewKeyError::ExpiresAt);
        match (name, level, environment, end) {
            (Ok(name), Ok(level), Ok(environment), Ok(end)) => {
                let new = NewKey::of_level(owner, name, level).environment(environment);
                Ok(match end {
                    Some(end) => new.expires_at(end),
                    None => new,
                })
            }
            (name, level, environment, end) => {
                let all = [name.err(), level.err(), environment.err(), end.err()];
                let mut wrong = all.into_iter().flatten();
                // There is at least one error here, because otherwise the arm above would match.
                let first = wrong.next().unwrap_or(NewKeyError::Name);
                Err(NewKeyErrors { first, rest: wrong.collect() })
            }
        }
    }
}

fn level(level: Option<&str>, project: Option<String>) -> Result<KeyLevel, NewKeyError> {
    let is = |name: &str| level.is_some_and(|level| level.eq_ignore_ascii_case(name));
    if level.is_none() || is("USER") {
        return if project.is_none() { Ok(KeyLevel::User) } else { Err(NewKeyError::ProjectOfUserLevel) };
    }
    if !is("PROJECT") {
        return Err(NewKeyError::Level);
    }
    let project = project.and_then(|id| ProjectId::new(id).ok());
    project.map(KeyLevel::Project).ok_or(NewKeyError::NoProject)
}

fn environment(name: Option<&str>) -> Result<Environment, NewKeyError> {
    let Some(name) = name else { return Ok(Environment::Live) };
    Environment::from_name(&name.to_ascii_lowercase()).ok_or(NewKeyError::Environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(set: impl FnOnce(&mut NewKeyRequest)) -> Result<NewKey, NewKeyErrors> {
        let mut asked = NewKeyRequest { name: Some(" CI ".to_owned()), ..NewKeyRequest::default() };
        set(&mut asked);
        asked.for_owner(UserId::new("alice").unwrap())
    }

    fn wrong(set: impl FnOnce(&mut NewKeyRequest)) -> Vec<NewKeyError> {
        asked(set).unwrap_err().iter().collect()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn what_is_left_out_is_a_live_key_of_a_user_without_an_end() {
        let new = asked(|_| ()).unwrap();
        assert_eq!((&new.level, new.environment), (&KeyLevel::User, Environment::Live));
        let both = |asked: &mut NewKeyRequest| {
            (asked.level, asked.project, asked.environment) = (text("Project"), text("p1"), text("TEST"));
        };
        let new = asked(both).unwrap();
        let project = KeyLevel::Project(ProjectId::new("p1").unwrap());
        assert_eq!((new.level, new.environment), (project, Environment::Test));
    }

    #[test]
    fn r35_a_project_beside_the_wider_level_is_refused() {
        for level in [None, text("USER"), text("user")] {
            let both = |asked: &mut NewKeyRequest| (asked.level, asked.project) = (level, text("p1"));
            assert_eq!(wrong(both), [NewKeyError::ProjectOfUserLevel]);
        }
    }

    #[test]
    fn every_field_that_is_wrong_says_so() {
        let all = |asked: &mut NewKeyRequest| {
            *asked = NewKeyRequest {
                name: text(" "),
                level: text("ALL"),
                project: text("p1"),
                environment: text("prod"),
                expires_at: text("tomorrow"),
            };
        };
        let expected =
            [NewKeyError::Name, NewKeyError::Level, NewKeyError::Environment, NewKeyError::ExpiresAt];
        assert_eq!(wrong(all), expected);
        for project in [None, text(""), text("a b"), text(&"x".repeat(129))] {
            let level = |asked: &mut NewKeyRequest| (asked.level, asked.project) = (text("PROJECT"), project);
            assert_eq!(wrong(level), [NewKeyError::NoProject]);
        }
        assert_eq!(wrong(|asked| asked.name = None), [NewKeyError::Name]);
    }
}
