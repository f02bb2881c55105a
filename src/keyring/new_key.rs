//! What a key that is to be issued shall be, and whether it may be that.

use std::collections::{BTreeMap, BTreeSet};

use super::{KeyringError, name};
use crate::clock::Timestamp;
use crate::key::{Environment, ProjectId, UserId};
use crate::limit::Limits;
use crate::record::{FreshKey, KeyLevel, KeyRecord, MAX_RESTRICTIONS_LEN, metadata_fits};
use crate::restriction::Restrictions;

/// Scopes per key, and bytes per scope.
const MAX_SCOPES: usize = 64;
const MAX_SCOPE_LEN: usize = 64;
/// Entries of metadata per key, and bytes per name and value.
const MAX_METADATA: usize = 32;
const MAX_METADATA_NAME_LEN: usize = 64;
const MAX_METADATA_VALUE_LEN: usize = 512;

/// A key that is to be issued: whose, what for, and within which bounds.
///
/// What is not said is a live key without an end, scopes or metadata. [`Keyring::issue`](super::Keyring::issue) checks
/// all of it.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_api_key::keyring::NewKey;
/// use tower_api_key::{Environment, ProjectId, UserId};
///
/// let alice = UserId::new("alice")?;
/// let in_90_days = SystemTime::now() + Duration::from_secs(90 * 24 * 60 * 60);
/// let key = NewKey::project_level(alice, "CI of p1", ProjectId::new("p1")?)
///     .environment(Environment::Test)
///     .expires_at(in_90_days)
///     .scopes(["builds:write"])
///     .metadata("team", "infrastructure");
/// # let _ = key;
/// # Ok::<(), tower_api_key::key::ParseIdError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description makes no key; pass it to `Keyring::issue`"]
pub struct NewKey {
    pub(super) owner: UserId,
    pub(super) level: KeyLevel,
    pub(super) environment: Environment,
    name: String,
    expires_at: Option<Timestamp>,
    scopes: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    restrictions: Restrictions,
    limits: Option<Limits>,
}

impl NewKey {
    /// A key for everything that `owner` may do, now and later (R25).
    ///
    /// The name is 1 to 64 characters, after white space around it was taken away, without control, bidirectional or
    /// invisible characters, save those that join letters and emoji (R34). Otherwise it is stored as given: escape it where you show it.
    pub fn user_level(owner: UserId, name: impl Into<String>) -> Self {
        Self::of_level(owner, name, KeyLevel::User)
    }

    /// A key for one project, as long as `owner` may access it (R26); the level is never changed later. For the name,
    /// see [`user_level`](Self::user_level).
    pub fn project_level(owner: UserId, name: impl Into<String>, project: ProjectId) -> Self {
        Self::of_level(owner, name, KeyLevel::Project(project))
    }

    /// A key of this level, as a request may ask for either. For the name, see [`user_level`](Self::user_level).
    pub fn of_level(owner: UserId, name: impl Into<String>, level: KeyLevel) -> Self {
        Self {
            owner,
            level,
            environment: Environment::Live,
            name: name.into(),
            expires_at: None,
            scopes: BTreeSet::new(),
            metadata: BTreeMap::new(),
            restrictions: Restrictions::none(),
            limits: None,
        }
    }

    /// What it gives access to.
    #[must_use]
    pub fn level(&self) -> &KeyLevel {
        &self.level
    }

    /// A key's name without the white space around it, as it is stored; `None` if it can be no [name](Self::user_level).
    #[must_use]
    pub fn valid_name(name: &str) -> Option<&str> {
        name::check(name)
    }

    /// Live, as is the default, or test (R53).
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// The first moment at which the key is refused. It must be in the future.
    pub fn expires_at(mut self, end: impl Into<Timestamp>) -> Self {
        self.expires_at = Some(end.into());
        self
    }

    /// Adds scopes: at most 64, each a scope-token (RFC 6749 section 3.3: visible ASCII without `"` and `\`) of at
    /// most 64 bytes.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Adds an entry that the [principal](crate::Principal::metadata) will carry: at most 32, names of 1 to 64 bytes,
    /// values of up to 512, and [8 KiB](crate::record::MAX_METADATA_LEN) in all. It is no place for secrets.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// From where, and for what, it may be used (R56): at most [8 KiB](crate::record::MAX_RESTRICTIONS_LEN) of text.
    pub fn restrictions(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = restrictions;
        self
    }

    /// How often it may be used; the keys that replace it share one account with it. Several limits are all kept.
    pub fn limits(mut self, limits: impl Into<Limits>) -> Self {
        self.limits = Some(limits.into());
        self
    }

    /// Whether this can be a key at all: what [`Keyring::issue`](crate::Keyring::issue) says of it before it asks anybody.
    ///
    /// # Errors
    ///
    /// [`KeyringError`], if its name, end, scopes or metadata are none.
    pub fn validate(&self, now: impl Into<Timestamp>) -> Result<(), KeyringError> {
        self.clone().check(now.into()).map(drop)
    }

    /// Whether this can be a key at all; asks no store.
    pub(super) fn check(self, now: Timestamp) -> Result<Self, KeyringError> {
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyringError::Expiry);
        }
        self.check_words()
    }

    /// The same for a key that may have ended.
    pub(super) fn check_words(mut self) -> Result<Self, KeyringError> {
        self.name = name::check(&self.name).ok_or(KeyringError::Name)?.to_owned();
        if self.scopes.len() > MAX_SCOPES || !self.scopes.iter().all(|scope| is_scope(scope)) {
            return Err(KeyringError::Scopes);
        }
        let fits = |(name, value): (&String, &String)| {
            (1..=MAX_METADATA_NAME_LEN).contains(&name.len()) && value.len() <= MAX_METADATA_VALUE_LEN
        };
        if self.metadata.len() > MAX_METADATA
            || !self.metadata.iter().all(fits)
            || !metadata_fits(&self.metadata)
        {
            return Err(KeyringError::Metadata);
        }
        if self.restrictions.text_len() > MAX_RESTRICTIONS_LEN {
            return Err(KeyringError::Restrictions);
        }
        Ok(self)
    }

    /// The record of the key that this became.
    pub(super) fn into_record(self, fresh: FreshKey) -> KeyRecord {
        let mut record = KeyRecord::new(fresh.id, fresh.digest, self.owner, fresh.created_at);
        record.digested_by = fresh.digested_by;
        record.prefix = fresh.prefix;
        record.last4 = fresh.last4;
        record.level = self.level;
        record.environment = self.environment;
        record.name = self.name;
        record.expires_at = self.expires_at;
        record.scopes = self.scopes;
        record.metadata = self.metadata;
        record.restrictions = self.restrictions;
        record.limits = self.limits;
        record
    }
}

/// RFC 6749 section 3.3, and short.
fn is_scope(scope: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (1..=MAX_SCOPE_LEN).contains(&scope.len()) && scope.bytes().all(plain)
}
