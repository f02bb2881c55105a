//! [`KeyRecord`]: what a store knows about one key. It contains facts, no decisions, and never the secret.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::key::{DigestMethod, Environment, KeyDigest, KeyId, ProjectId, UserId};
use crate::limit::Limits;
use crate::restriction::Restrictions;

/// The longest grace period that a client can request for a rotation.
pub(crate) const LONGEST_GRACE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

pub(crate) const LONG_RESTRICTIONS: &str = "the restrictions of a key are longer than 8 KiB";

/// What a key gives access to: everything its owner may do, or one project (R25, R26). Fixed at issue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyLevel {
    /// Every project that the owner may access at the time of the request.
    User,
    /// One project, as long as the owner may access it.
    Project(ProjectId),
}

impl KeyLevel {
    /// `USER` or `PROJECT`, as in the header document's service.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Project(_) => "PROJECT",
        }
    }

    /// The project of a project-level key.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::User => None,
            Self::Project(project) => Some(project),
        }
    }
}

/// What a store knows about one key.
///
/// A store of your own fills in the public fields. [`new`](Self::new) makes a user-level live key without expiry,
/// scopes or metadata.
///
/// It has no serde, on purpose: its digest is for stores only, which write and read records by
/// [`store::codec`](crate::store::codec). What clients are shown is made of single fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyRecord {
    /// The public id of the key.
    pub id: KeyId,
    /// The digest by which the store finds the key.
    pub digest: KeyDigest,
    /// How the digest is computed from the key's text; by default SHA-256.
    pub digested_by: DigestMethod,
    /// The owner. Rights are never copied into the record: they are the owner's at the time of the request (R17).
    pub owner: UserId,
    /// User or project level.
    pub level: KeyLevel,
    /// The environment that counts; the prefix of the key's text must agree with it (R55).
    pub environment: Environment,
    /// The name that the owner gave it (R34).
    pub name: String,
    /// The public start of the key's text, such as `sk_live_` (R38). Empty for keys of a foreign shape.
    pub prefix: String,
    /// The last four characters of the key's text, which belong to its checksum. Empty for keys of a foreign shape.
    pub last4: String,
    /// Granted scopes; an endpoint requires them with a [guard](crate::guard).
    pub scopes: BTreeSet<String>,
    /// Data of the application, which the principal carries.
    pub metadata: BTreeMap<String, String>,
    /// Where, and for what, the key may be used (R56); by default there are no restrictions.
    pub restrictions: Restrictions,
    /// How often the key may be used; by default there are no limits.
    pub limits: Option<Limits>,
    /// The first key in the chain of keys that replaced each other, up to this one. Their requests are counted
    /// together. It is the key's own id if it replaced none.
    pub family: KeyId,
    /// When it was issued.
    pub created_at: Timestamp,
    /// The first moment at which the key is refused; `None` means never.
    pub expires_at: Option<Timestamp>,
    /// When the key was revoked. Once set, it never changes: a revoked key stays revoked.
    pub revoked_at: Option<Timestamp>,
    /// The key that replaced it. During the grace period both work. A replaced key cannot be rotated again.
    pub replaced_by: Option<KeyId>,
    /// When it was replaced.
    pub replaced_at: Option<Timestamp>,
}

impl KeyRecord {
    /// The largest [text](crate::restriction#format) in bytes of a key's restrictions: 8 KiB.
    pub const MAX_RESTRICTIONS_LEN: usize = 8 * 1024;
    /// The largest metadata in bytes of a key, written as a JSON object without spaces: 8 KiB.
    pub const MAX_METADATA_LEN: usize = 8 * 1024;

    /// Creates a user-level live key of `owner`, without name, expiry, scopes, metadata, restrictions or limits.
    #[must_use]
    pub fn new(id: KeyId, digest: KeyDigest, owner: UserId, created_at: Timestamp) -> Self {
        Self {
            family: id.clone(),
            id,
            digest,
            digested_by: DigestMethod::default(),
            owner,
            level: KeyLevel::User,
            environment: Environment::Live,
            name: String::new(),
            prefix: String::new(),
            last4: String::new(),
            scopes: BTreeSet::new(),
            metadata: BTreeMap::new(),
            restrictions: Restrictions::none(),
            limits: None,
            created_at,
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            replaced_at: None,
        }
    }

    /// Whether the key is neither revoked nor expired at `now`. At the exact moment of expiry it is expired.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether no key of its family works any more, as far as this record tells: it has ended, no key replaced it,
    /// and the grace period of the keys before it must be over.
    pub(crate) fn has_ended_its_family(&self, now: Timestamp) -> bool {
        let none_before = || self.family == self.id || self.created_at.saturating_add(LONGEST_GRACE) <= now;
        !self.is_active(now) && self.replaced_by.is_none() && none_before()
    }

    /// Whether this record certainly allows less than `before` and nothing more: restrictions or limits were added
    /// where there were none, or entries were removed from a restriction.
    #[must_use]
    pub fn is_narrower_than(&self, before: &Self) -> bool {
        let limits = match (&before.limits, &self.limits) {
            (before, after) if before == after => Some(false),
            (None, Some(_)) => Some(true),
            _ => None,
        };
        let restrictions = if self.restrictions == before.restrictions {
            Some(false)
        } else {
            self.restrictions.is_within(&before.restrictions).then_some(true)
        };
        matches!((limits, restrictions), (Some(limits), Some(restrictions)) if limits || restrictions)
    }

    /// Creates the record of the key that replaces this one: it keeps everything except the secret and what is
    /// derived from it.
    ///
    /// Registries call this inside the transaction that replaces a key, so that no concurrent change is lost.
    #[must_use]
    pub fn successor(&self, fresh: &FreshKey) -> Self {
        Self {
            id: fresh.id.clone(),
            digest: fresh.digest,
            digested_by: fresh.digested_by.clone(),
            prefix: fresh.prefix.clone(),
            last4: fresh.last4.clone(),
            created_at: fresh.created_at,
            revoked_at: None,
            replaced_by: None,
            replaced_at: None,
            ..self.clone()
        }
    }

    /// Ends this key in favour of `successor` at `ends_at`, or at its own expiry if that is earlier.
    ///
    /// Registries call this inside the transaction that replaces a key.
    pub fn replace(&mut self, successor: &KeyId, now: Timestamp, ends_at: Timestamp) {
        self.replaced_by = Some(successor.clone());
        self.replaced_at = Some(now);
        if ends_at <= now {
            self.revoked_at = Some(now);
        } else {
            self.expires_at = Some(self.expires_at.map_or(ends_at, |own| own.min(ends_at)));
        }
    }

    /// Checks the sizes of a key that is added: its restrictions against [`KeyRecord::MAX_RESTRICTIONS_LEN`], its metadata against
    /// [`KeyRecord::MAX_METADATA_LEN`].
    ///
    /// Registries call this before they insert a record, but not when they read one back or replace a key: longer
    /// data that is already stored is kept.
    ///
    /// # Errors
    ///
    /// What is too long, for [`RegistryError::TooLong`](crate::store::RegistryError::TooLong).
    pub fn check_bounds(&self) -> Result<(), &'static str> {
        if self.restrictions.text_len() > KeyRecord::MAX_RESTRICTIONS_LEN {
            return Err(LONG_RESTRICTIONS);
        }
        if !metadata_fits(&self.metadata) {
            return Err("the metadata of a key is longer than 8 KiB");
        }
        Ok(())
    }

    /// About how many bytes of memory the record takes.
    #[cfg(feature = "cache")]
    pub(crate) fn memory_len(&self) -> usize {
        /// The overhead of a short text besides its bytes: its pointer, its length, and its place in a tree.
        const TEXT: usize = 48;
        /// A limit with its text and its header value.
        const LIMIT: usize = 256;
        let ids = [Some(&self.id), Some(&self.family), self.replaced_by.as_ref()];
        let ids = ids.into_iter().flatten().map(|id| id.as_str().len()).sum::<usize>();
        let owner =
            self.owner.as_str().len() + self.level.project().map_or(0, |project| project.as_str().len());
        let own = self.name.len() + self.prefix.len() + self.last4.len();
        let scopes = self.scopes.iter().map(|scope| scope.len() + TEXT).sum::<usize>();
        let metadata =
            self.metadata.iter().map(|(name, value)| name.len() + value.len() + 2 * TEXT).sum::<usize>();
        let limits = self.limits.as_ref().map_or(0, |limits| limits.iter().count() * LIMIT);
        size_of::<Self>()
            + 8 * TEXT
            + ids
            + owner
            + own
            + scopes
            + metadata
            + limits
            + self.restrictions.heap_len()
    }

    /// About how many bytes of text a store keeps for the record.
    pub(crate) fn text_len(&self) -> usize {
        /// Ids, times and flags.
        const REST: usize = 256;
        let scopes = self.scopes.iter().map(String::len).sum::<usize>();
        let metadata = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.name.len() + scopes + metadata + self.restrictions.text_len() + REST
    }

    /// Checks that the record is consistent: the prefix matches the environment, or is empty and then so is
    /// `last4`; times are not before 1970; successor and time of replacement are both set or both missing, and the
    /// successor is another key.
    ///
    /// Registries call this before they accept a record, and stores that parse rows when they read one back: an
    /// inconsistent record must not be used.
    ///
    /// # Errors
    ///
    /// What is wrong, for [`RegistryError::Invalid`](crate::store::RegistryError::Invalid) or
    /// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt). The message contains no data of the record.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.prefix.is_empty() && !names(&self.prefix, self.environment) {
            return Err("the prefix of a key disagrees with its environment");
        }
        // The last characters of a foreign key are secret and must not be kept.
        let len = if self.prefix.is_empty() { 0 } else { 4 };
        let shown = self.last4.is_empty() || self.last4.len() == len;
        if !shown || !self.last4.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("the last characters of a key are not those of a checksum");
        }
        let times = [Some(self.created_at), self.expires_at, self.replaced_at];
        if times.into_iter().flatten().any(|time| time.as_micros() < 0) {
            return Err("a time of a key is before 1970");
        }
        if self.replaced_by.is_some() != self.replaced_at.is_some() {
            return Err("a key is replaced by none, or at no time");
        }
        if self.replaced_by.as_ref() == Some(&self.id) {
            return Err("a key replaces itself");
        }
        Ok(())
    }
}

/// Whether metadata is within its limit.
pub(crate) fn metadata_fits(metadata: &BTreeMap<String, String>) -> bool {
    serde_json::to_string(metadata).is_ok_and(|text| text.len() <= KeyRecord::MAX_METADATA_LEN)
}

/// Whether this is the prefix of a [`KeyFormat`](crate::KeyFormat) for this environment (R55).
fn names(prefix: &str, environment: Environment) -> bool {
    // Ten characters and `_live_`.
    const MAX_LEN: usize = 16;
    let before = prefix.strip_suffix('_').and_then(|rest| rest.strip_suffix(environment.as_str()));
    prefix.len() <= MAX_LEN
        && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && before.is_some_and(|rest| rest.len() > 1 && rest.ends_with('_'))
}

/// What is new in a record when a key is made: its id, and what is derived from its secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FreshKey {
    /// The new id.
    pub id: KeyId,
    /// The digest of the new secret.
    pub digest: KeyDigest,
    /// How the digest was computed.
    pub digested_by: DigestMethod,
    /// The public start of the new secret.
    pub prefix: String,
    /// The last four characters of the new secret.
    pub last4: String,
    /// The time of issue.
    pub created_at: Timestamp,
}
