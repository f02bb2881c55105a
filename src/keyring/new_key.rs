//! [`NewKey`]: the description of a key to issue, and its checks.

use std::collections::{BTreeMap, BTreeSet};

use super::{KeyringError, name};
use crate::clock::Timestamp;
use crate::key::{Environment, ProjectId, UserId};
use crate::limit::Limits;
use crate::record::{FreshKey, KeyLevel, KeyRecord, metadata_fits};
use crate::restriction::Restrictions;

/// Scopes per key, and bytes per scope.
const MAX_SCOPES: usize = 64;
const MAX_SCOPE_LEN: usize = 64;
/// Entries of metadata per key, and bytes per name and value.
const MAX_METADATA: usize = 32;
const MAX_METADATA_NAME_LEN: usize = 64;
const MAX_METADATA_VALUE_LEN: usize = 512;

/// The description of a key to issue: its owner, its level, and its bounds.
///
/// The default is a live key that does not expire, without scopes or metadata.
/// [`Keyring::issue`](super::Keyring::issue) checks all of it.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_api_key::{Environment, NewKey, ProjectId, UserId};
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
    /// Describes a key for everything that `owner` may do, now and later (R25).
    ///
    /// The name has 1 to 64 characters after trimming, and no control, bidirectional or invisible characters except
    /// those that join letters and emoji (R34). It is not changed otherwise: escape it where you show it.
    pub fn user_level(owner: UserId, name: impl Into<String>) -> Self {
        Self::of_level(owner, name, KeyLevel::User)
    }

    /// Describes a key for one project, which works as long as `owner` may access the project (R26). The level
    /// never changes later. For the name, see [`user_level`](Self::user_level).
    pub fn project_level(owner: UserId, name: impl Into<String>, project: ProjectId) -> Self {
        Self::of_level(owner, name, KeyLevel::Project(project))
    }

    /// Describes a key of this level, for requests that may ask for either. For the name, see
    /// [`user_level`](Self::user_level).
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

    /// The level.
    #[must_use]
    pub fn level(&self) -> &KeyLevel {
        &self.level
    }

    /// Returns a name as it is stored, without surrounding white space; `None` if it is not a valid
    /// [name](Self::user_level).
    #[must_use]
    pub fn valid_name(name: &str) -> Option<&str> {
        name::check(name)
    }

    /// Sets the environment (R53). The default is live.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Sets the expiry: the first moment at which the key is refused. It must be in the future.
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
    /// values of up to 512, and [8 KiB](crate::KeyRecord::MAX_METADATA_LEN) in all. It is no place for secrets.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Sets from where and for what it may be used (R56): at most [8 KiB](crate::KeyRecord::MAX_RESTRICTIONS_LEN) of
    /// text.
    pub fn restrictions(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = restrictions;
        self
    }

    /// Sets how often it may be used. Keys that replace it by rotation share its limits. If there are several
    /// limits, all apply.
    pub fn limits(mut self, limits: impl Into<Limits>) -> Self {
        self.limits = Some(limits.into());
        self
    }

    /// Makes the checks that [`Keyring::issue`](crate::Keyring::issue) makes before it asks a store.
    ///
    /// # Errors
    ///
    /// A [`KeyringError`] if the name, expiry, scopes or metadata are not valid.
    pub fn validate(&self, now: impl Into<Timestamp>) -> Result<(), KeyringError> {
        self.clone().check(now.into()).map(drop)
    }

    /// Checks the description. This asks no store.
    pub(super) fn check(self, now: Timestamp) -> Result<Self, KeyringError> {
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyringError::Expiry);
        }
        self.check_words()
    }

    /// Checks all but the expiry, for an imported key that may have ended.
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
        if self.restrictions.text_len() > KeyRecord::MAX_RESTRICTIONS_LEN {
            return Err(KeyringError::Restrictions);
        }
        Ok(self)
    }

    /// Makes the record of a key with this description.
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

/// Whether a text is a scope (RFC 6749 section 3.3) that is not too long.
fn is_scope(scope: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (1..=MAX_SCOPE_LEN).contains(&scope.len()) && scope.bytes().all(plain)
}
