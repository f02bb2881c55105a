//! [`KeyQuery`], which selects keys of an owner, and its results.

use crate::clock::Timestamp;
use crate::key::{Environment, KeyId, ProjectId};
use crate::record::KeyRecord;

/// A [page](super::KeyRegistry::page) ends after this many bytes of text of its keys: 256 KiB.
pub const MAX_PAGE_LEN: usize = 256 * 1024;

/// The maximum number of keys that one page of a [search](KeyQuery::is_search) looks at.
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
    /// Only keys that contain this text in their name, id, last four characters or project id, ignoring case.
    pub text: Option<String>,
    /// The newest first, instead of the oldest.
    pub newest_first: bool,
    /// Only keys that come after this one, in the order asked for.
    pub after: Option<KeyId>,
    /// Only the keys directly before this one, in the order asked for: the previous page. This overrides
    /// [`after`](Self::after).
    pub before: Option<KeyId>,
    /// At most this many.
    pub limit: u32,
}

impl Default for KeyQuery {
    /// Selects the oldest hundred keys, of both environments, ended or not.
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
    /// Selects the oldest hundred keys, of both environments, ended or not.
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

    /// Only keys that contain this [text](Self::text). Every key contains the empty text.
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

    /// Only keys after this one.
    #[must_use]
    pub fn after(self, key: KeyId) -> Self {
        Self { after: Some(key), before: None, ..self }
    }

    /// Only the keys directly before this one.
    #[must_use]
    pub fn before(self, key: KeyId) -> Self {
        Self { after: None, before: Some(key), ..self }
    }

    /// Starts from the first key, without a cursor.
    #[must_use]
    pub fn from_start(self) -> Self {
        Self { after: None, before: None, ..self }
    }

    /// At most this many keys.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Whether the query selects this record, ignoring the cursors and [`limit`](Self::limit).
    #[must_use]
    pub fn selects(&self, key: &KeyRecord) -> bool {
        self.environment.is_none_or(|environment| key.environment == environment)
            && self.active_at.is_none_or(|now| key.is_active(now))
            && self.finds(&SearchedKey::of(key))
    }

    /// The cursor: [`before`](Self::before) or [`after`](Self::after).
    #[must_use]
    pub fn cursor(&self) -> Option<&KeyId> {
        self.before.as_ref().or(self.after.as_ref())
    }

    /// Whether keys are read from newer to older ones. A page [before](Self::before) a key is read in the opposite
    /// direction, and then reversed.
    #[must_use]
    pub fn is_read_descending(&self) -> bool {
        self.newest_first != self.before.is_some()
    }

    /// Whether this is a search, for ended keys, keys of a project or keys with a text: keys must be read to see
    /// whether they are selected. A page of a search looks at no more than [`MAX_SEARCHED`] keys, so it may be
    /// empty although more keys follow.
    #[must_use]
    pub fn is_search(&self) -> bool {
        self.ended_at.is_some() || self.project.is_some() || self.text.is_some()
    }

    /// Whether a [search](Self::is_search) selects this key.
    #[must_use]
    pub fn finds(&self, key: &SearchedKey<'_>) -> bool {
        let ended = |now| key.revoked || key.expires_at.is_some_and(|end| end <= now);
        self.ended_at.is_none_or(ended)
            && self.project.as_ref().is_none_or(|project| key.project == Some(project.as_str()))
            && self.text.as_ref().is_none_or(|text| key.holds(text))
    }
}

/// The columns of a key that a [search](KeyQuery::is_search) looks at, so that a store need not parse the whole row
/// first.
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
    /// Whether [`KeyRecord::revoked_at`] is set.
    pub revoked: bool,
}

impl<'k> SearchedKey<'k> {
    /// Creates the columns of a key with this id, without a name, project and expiry.
    #[must_use]
    pub fn new(id: &'k str) -> Self {
        Self { id, name: "", last4: "", project: None, expires_at: None, revoked: false }
    }

    /// Takes the columns from a record.
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
    /// The keys, in the order asked for.
    pub keys: Vec<KeyRecord>,
    /// Whether more keys follow: after the last one or, for a page [before](KeyQuery::before) a key, before the
    /// first one. For a search: whether more may follow.
    pub more: bool,
    /// The first key that was looked at, selected or not: the cursor for the previous page.
    pub first: Option<KeyId>,
    /// The last key that was looked at, selected or not: the cursor for the next page.
    pub last: Option<KeyId>,
}

impl KeyPage {
    /// Creates a page of these keys.
    #[must_use]
    pub fn new(keys: Vec<KeyRecord>, more: bool) -> Self {
        let id = |key: &KeyRecord| key.id.clone();
        Self { first: keys.first().map(id), last: keys.last().map(id), keys, more }
    }

    /// Reverses a page that was read backwards, so that it has the order asked for.
    #[must_use]
    pub fn turned(mut self, query: &KeyQuery) -> Self {
        if query.before.is_some() {
            self.keys.reverse();
            std::mem::swap(&mut self.first, &mut self.last);
        }
        self
    }
}

/// The result of counting keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyCount {
    /// The number of keys that were counted.
    pub keys: u32,
    /// Whether there are more or, for a search, may be.
    pub more: bool,
}

impl KeyCount {
    /// Creates a count from the number of keys that were read, the maximum, and whether any were left unread.
    #[must_use]
    pub fn new(counted: usize, most: u32, more: bool) -> Self {
        let counted = u32::try_from(counted).unwrap_or(u32::MAX);
        Self { keys: counted.min(most), more: more || counted > most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these settings replaces the other.
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
