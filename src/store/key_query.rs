//! Which keys of an owner to list, and what comes of it.

use crate::clock::Timestamp;
use crate::key::{Environment, KeyId, ProjectId};
use crate::record::KeyRecord;

/// After so many bytes of text of its keys, a [page](super::KeyRegistry::page) ends: 256 KiB.
pub const MAX_PAGE_LEN: usize = 256 * 1024;

/// How many keys one page of a [search](KeyQuery::is_search) looks at, at most.
pub const MAX_SEARCHED: usize = 2_000;

/// Which keys of an owner to list.
///
/// ```
/// use tower_api_key::{Environment, KeyQuery, Timestamp};
///
/// let now = Timestamp::from_secs(1_735_689_600);
/// let query = KeyQuery::new().active(now).environment(Environment::Live).newest_first().limit(50);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyQuery {
    /// Only this environment.
    pub environment: Option<Environment>,
    /// Only keys that are active at this time; `None` lists ended ones too.
    pub active_at: Option<Timestamp>,
    /// Only keys that have ended by this time: revoked, or expired.
    pub ended_at: Option<Timestamp>,
    /// Only keys of this project.
    pub project: Option<ProjectId>,
    /// Only keys that hold this text in their name, their id, their last four characters or the id of their project, in
    /// capitals or not.
    pub text: Option<String>,
    /// The newest first, instead of the oldest.
    pub newest_first: bool,
    /// Only keys that come after this one, in the order asked for.
    pub after: Option<KeyId>,
    /// Only keys that come before this one, in the order asked for, and of these the nearest: the page before. It goes before
    /// [`after`](Self::after).
    pub before: Option<KeyId>,
    /// At most this many.
    pub limit: u32,
}

impl Default for KeyQuery {
    /// The oldest hundred keys, of both environments, ended or not.
    fn default() -> Self {
        Self {
            environment: None,
            active_at: None,
            ended_at: None,
            project: None,
            text: None,
            newest_first: false,
            after: None,
            before: None,
            limit: 100,
        }
    }
}

impl KeyQuery {
    /// The oldest hundred keys, of both environments, ended or not.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only keys of this environment.
    #[must_use]
    pub fn environment(self, environment: Environment) -> Self {
        Self { environment: Some(environment), ..self }
    }

    /// Only keys that are active at this time.
    #[must_use]
    pub fn active(self, now: Timestamp) -> Self {
        Self { active_at: Some(now), ended_at: None, ..self }
    }

    /// Only keys that have ended by this time.
    #[must_use]
    pub fn ended(self, now: Timestamp) -> Self {
        Self { active_at: None, ended_at: Some(now), ..self }
    }

    /// Only keys of this project.
    #[must_use]
    pub fn project(self, project: ProjectId) -> Self {
        Self { project: Some(project), ..self }
    }

    /// Only keys that hold this [text](Self::text). An empty one is in every key.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text: (!text.is_empty()).then_some(text), ..self }
    }

    /// The newest first.
    #[must_use]
    pub fn newest_first(self) -> Self {
        Self { newest_first: true, ..self }
    }

    /// Goes on after this key.
    #[must_use]
    pub fn after(self, key: KeyId) -> Self {
        Self { after: Some(key), before: None, ..self }
    }

    /// Goes back to what comes before this key.
    #[must_use]
    pub fn before(self, key: KeyId) -> Self {
        Self { after: None, before: Some(key), ..self }
    }

    /// From the first key on, whatever cursor there was.
    #[must_use]
    pub fn from_start(self) -> Self {
        Self { after: None, before: None, ..self }
    }

    /// At most so many keys.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Whether a record is among those asked for, not counting the cursors and [`limit`](Self::limit).
    #[must_use]
    pub fn selects(&self, key: &KeyRecord) -> bool {
        self.environment.is_none_or(|environment| key.environment == environment)
            && self.active_at.is_none_or(|now| key.is_active(now))
            && self.finds(&SearchedKey::of(key))
    }

    /// The key from which to go on, in either direction.
    #[must_use]
    pub fn cursor(&self) -> Option<&KeyId> {
        self.before.as_ref().or(self.after.as_ref())
    }

    /// Whether keys are read from newer to older ones. A page [before](Self::before) a key is read backwards, and turned.
    #[must_use]
    pub fn is_read_descending(&self) -> bool {
        self.newest_first != self.before.is_some()
    }

    /// Whether keys have to be looked at to see that they are not asked for: a page of ended keys, of a project or of
    /// those that hold a text looks at no more than [`MAX_SEARCHED`], and may hold none though there are more.
    #[must_use]
    pub fn is_search(&self) -> bool {
        self.ended_at.is_some() || self.project.is_some() || self.text.is_some()
    }

    /// Whether a key is among those that a [search](Self::is_search) asks for.
    #[must_use]
    pub fn finds(&self, key: &SearchedKey<'_>) -> bool {
        let ended = |now| key.revoked || key.expires_at.is_some_and(|end| end <= now);
        self.ended_at.is_none_or(ended)
            && self.project.as_ref().is_none_or(|project| key.project == Some(project.as_str()))
            && self.text.as_ref().is_none_or(|text| key.holds(text))
    }
}

/// The columns of a key that a [search](KeyQuery::is_search) looks at: a store need not parse the whole row to know whether
/// a page has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SearchedKey<'k> {
    /// [`KeyRecord::id`].
    pub id: &'k str,
    /// [`KeyRecord::name`].
    pub name: &'k str,
    /// [`KeyRecord::last4`].
    pub last4: &'k str,
    /// The project of a project-level key.
    pub project: Option<&'k str>,
    /// [`KeyRecord::expires_at`].
    pub expires_at: Option<Timestamp>,
    /// Whether [`KeyRecord::revoked_at`] is some time.
    pub revoked: bool,
}

impl<'k> SearchedKey<'k> {
    /// A key with this id, without a name, a project and an end.
    #[must_use]
    pub fn new(id: &'k str) -> Self {
        Self { id, name: "", last4: "", project: None, expires_at: None, revoked: false }
    }

    /// Of a record that was parsed already.
    #[must_use]
    pub fn of(key: &'k KeyRecord) -> Self {
        Self {
            id: key.id.as_str(),
            name: &key.name,
            last4: &key.last4,
            project: key.level.project().map(ProjectId::as_str),
            expires_at: key.expires_at,
            revoked: key.revoked_at.is_some(),
        }
    }

    fn holds(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let places = [Some(self.name), Some(self.id), Some(self.last4), self.project];
        places.into_iter().flatten().any(|place| place.to_lowercase().contains(&text))
    }
}

/// A page of an owner's keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys, in their order.
    pub keys: Vec<KeyRecord>,
    /// Whether there are keys after the last of these, or, of a page [before](KeyQuery::before) a key, before the first. Of
    /// a search: whether there may be.
    pub more: bool,
    /// The first key that was looked at, found or not: what comes before it is the page before this one.
    pub first: Option<KeyId>,
    /// The last key that was looked at, found or not: what comes after it is the page after this one.
    pub last: Option<KeyId>,
}

impl KeyPage {
    /// A page of these keys, with more after them or not.
    #[must_use]
    pub fn new(keys: Vec<KeyRecord>, more: bool) -> Self {
        let id = |key: &KeyRecord| key.id.clone();
        Self { first: keys.first().map(id), last: keys.last().map(id), keys, more }
    }

    /// A page as it was read, put in the order asked for.
    #[must_use]
    pub fn turned(mut self, query: &KeyQuery) -> Self {
        if query.before.is_some() {
            self.keys.reverse();
            std::mem::swap(&mut self.first, &mut self.last);
        }
        self
    }
}

/// How many keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyCount {
    /// So many were counted.
    pub keys: u32,
    /// Whether there are more, or, of a search, may be.
    pub more: bool,
}

impl KeyCount {
    /// What was counted of so many at most, and whether anything was left unread.
    #[must_use]
    pub fn new(counted: usize, most: u32, more: bool) -> Self {
        let counted = u32::try_from(counted).unwrap_or(u32::MAX);
        Self { keys: counted.min(most), more: more || counted > most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these takes the place of the other.
    #[test]
    fn c17_g_the_last_word_of_a_query_counts() {
        let (now, other) = (Timestamp::from_secs(10), Timestamp::from_secs(20));
        let (one, two) = (KeyId::generate().unwrap(), KeyId::generate().unwrap());
        let owner = crate::key::UserId::new("u").unwrap();
        let digest = crate::key::KeyDigest::from_bytes([0; 32]);
        let key = KeyRecord::new(one.clone(), digest, owner, Timestamp::from_secs(1));
        let ended = KeyRecord { revoked_at: Some(now), ..key.clone() };
        let active = KeyQuery::new().ended(other).active(now);
        assert_eq!((active.active_at, active.ended_at), (Some(now), None));
        assert!(active.selects(&key) && !active.selects(&ended) && !active.is_search());
        let over = KeyQuery::new().active(other).ended(now);
        assert_eq!((over.active_at, over.ended_at), (None, Some(now)));
        assert!(!over.selects(&key) && over.selects(&ended) && over.is_search());
        let forth = KeyQuery::new().before(two.clone()).after(one.clone());
        assert_eq!((forth.cursor(), forth.is_read_descending()), (Some(&one), false));
        let back = KeyQuery::new().after(one).before(two.clone());
        assert_eq!((back.cursor(), back.is_read_descending()), (Some(&two), true));
        let all = KeyQuery::new().text("x").text("");
        assert!(all.selects(&key) && !all.is_search());
    }
}
