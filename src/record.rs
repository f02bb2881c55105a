//! What a store knows of one key: facts, never a verdict and never the secret.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::key::{DigestMethod, Environment, KeyDigest, KeyId, ProjectId, UserId};
use crate::limit::Limits;
use crate::restriction::Restrictions;

/// The most bytes of [text](crate::restriction#format) that the restrictions of a key may be: 8 KiB.
pub const MAX_RESTRICTIONS_LEN: usize = 8 * 1024;
/// The most bytes that the metadata of a key may be, written as a JSON object without spaces: 8 KiB.
pub const MAX_METADATA_LEN: usize = 8 * 1024;

/// The longest grace that a client can ask for when it rotates a key.
pub(crate) const LONGEST_GRACE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

pub(crate) const LONG_RESTRICTIONS: &str = "the restrictions of a key are longer than 8 KiB";

/// What a key gives access to: everything its owner may do, or one project of it (R25, R26). Fixed at issue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyLevel {
    /// Every project that the owner may access at that moment.
    User,
    /// One project, as long as the owner may access it.
    Project(ProjectId),
}

impl KeyLevel {
    /// `USER` or `PROJECT`, as the header document's service says it.
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

/// What a store knows of one key.
///
/// A store of your own fills one in: [`new`](Self::new) gives a user-level live key without an end, scopes or
/// metadata, and the fields are public.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyRecord {
    /// Names the key without being secret.
    pub id: KeyId,
    /// What the store finds the key by.
    pub digest: KeyDigest,
    /// How the digest is made of the key's text; by default SHA-256 of it.
    pub digested_by: DigestMethod,
    /// Whose key it is. Rights are never copied here: they are the owner's at the time of the request (R17).
    pub owner: UserId,
    /// User or project level.
    pub level: KeyLevel,
    /// Decides; the prefix of the key's text must agree (R55).
    pub environment: Environment,
    /// What its owner calls it (R34).
    pub name: String,
    /// The public start of the key's text, such as `sk_live_` (R38). Empty for keys of a foreign shape.
    pub prefix: String,
    /// The last four characters of the key's text, which belong to its checksum. Empty for keys of a foreign shape.
    pub last4: String,
    /// Granted scopes; an endpoint demands them with a [guard](crate::guard).
    pub scopes: BTreeSet<String>,
    /// Whatever the application wants to find again in the principal.
    pub metadata: BTreeMap<String, String>,
    /// From where, and for what, it may be used (R56); by default from anywhere and for everything.
    pub restrictions: Restrictions,
    /// How often it may be used; by default as often as it likes.
    pub limits: Option<Limits>,
    /// The first key of those that replaced each other, up to this one: they are counted together. Its own id, if it
    /// replaced none.
    pub family: KeyId,
    /// When it was issued.
    pub created_at: Timestamp,
    /// The first moment at which it is refused; `None` never comes.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked. Written once: a revoked key never comes back.
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place. During a rotation's grace both work; a replaced key is not rotated again.
    pub replaced_by: Option<KeyId>,
    /// When that was.
    pub replaced_at: Option<Timestamp>,
}

impl KeyRecord {
    /// A user-level live key of `owner`, without name, end, scopes, metadata, restrictions or limits.
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

    /// Neither revoked nor expired at `now`. At the very moment of expiry a key is expired.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether no key of its family works any more, as far as its own record tells: it has ended, none took its place, and those
    /// in whose place it came can be in their grace no more.
    pub(crate) fn has_ended_its_family(&self, now: Timestamp) -> bool {
        let none_before = || self.family == self.id || self.created_at.saturating_add(LONGEST_GRACE) <= now;
        !self.is_active(now) && self.replaced_by.is_none() && none_before()
    }

    /// Whether this record, after a change, surely allows less than `before` did, and nothing more: restrictions or limits
    /// were added where there were none, or entries were taken out of a restriction.
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

    /// The record of the key that takes this one's place: everything is carried over but the secret and what was
    /// derived from it.
    ///
    /// Registries call this inside the transaction that replaces a key, so that nothing that changes meanwhile is lost.
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

    /// Ends this key in favour of `successor` at `ends_at`, or at its own end if that comes first.
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

    /// Whether a key that is added is within bounds: its restrictions by [`MAX_RESTRICTIONS_LEN`], its metadata by
    /// [`MAX_METADATA_LEN`].
    ///
    /// Registries call this before they insert a record, and neither when they read one back nor when they replace a key: what
    /// is longer and there from before is kept.
    ///
    /// # Errors
    ///
    /// What is too long, for [`RegistryError::TooLong`](crate::store::RegistryError::TooLong).
    pub fn check_bounds(&self) -> Result<(), &'static str> {
        if self.restrictions.text_len() > MAX_RESTRICTIONS_LEN {
            return Err(LONG_RESTRICTIONS);
        }
        if !metadata_fits(&self.metadata) {
            return Err("the metadata of a key is longer than 8 KiB");
        }
        Ok(())
    }

    /// About how many bytes of memory it takes.
    #[cfg(feature = "cache")]
    pub(crate) fn memory_len(&self) -> usize {
        /// What a small text costs besides its bytes: where it is, its count, and its place in a tree.
        const TEXT: usize = 48;
        /// A limit, with its text and its header.
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

    /// About how many bytes of text a store keeps of it.
    pub(crate) fn text_len(&self) -> usize {
        /// Ids, times and marks.
        const REST: usize = 256;
        let scopes = self.scopes.iter().map(String::len).sum::<usize>();
        let metadata = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.name.len() + scopes + metadata + self.restrictions.text_len() + REST
    }

    /// Whether the record agrees with itself: a prefix that names its environment, or none and then nothing of the
    /// secret's end; times from 1970 on; a successor since some time or none, and not itself.
    ///
    /// Registries call this before they take a record, and stores that parse rows when they read one back: a record that
    /// contradicts itself has no meaning.
    ///
    /// # Errors
    ///
    /// What is wrong, for [`RegistryError::Invalid`](crate::store::RegistryError::Invalid) or
    /// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt). Nothing of the record is in it.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.prefix.is_empty() && !names(&self.prefix, self.environment) {
            return Err("the prefix of a key disagrees with its environment");
        }
        // What foreign keys end in is secret: nothing of it may be kept.
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

/// Whether metadata is within its bound.
pub(crate) fn metadata_fits(metadata: &BTreeMap<String, String>) -> bool {
    serde_json::to_string(metadata).is_ok_and(|text| text.len() <= MAX_METADATA_LEN)
}

/// Whether the start of a key is one of a [`KeyFormat`](crate::key::KeyFormat) in that environment (R55).
fn names(prefix: &str, environment: Environment) -> bool {
    // Ten characters and `_live_`.
    const MAX_LEN: usize = 16;
    let before = prefix.strip_suffix('_').and_then(|rest| rest.strip_suffix(environment.as_str()));
    prefix.len() <= MAX_LEN
        && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && before.is_some_and(|rest| rest.len() > 1 && rest.ends_with('_'))
}

/// What is new about a key that was just made: its id, and what is derived from its secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FreshKey {
    /// The new id.
    pub id: KeyId,
    /// The digest of the new secret.
    pub digest: KeyDigest,
    /// How it was made.
    pub digested_by: DigestMethod,
    /// The public start of the new secret.
    pub prefix: String,
    /// The last four characters of the new secret.
    pub last4: String,
    /// The present.
    pub created_at: Timestamp,
}
