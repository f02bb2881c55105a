//! Keys are made, replaced and ended.
//!
//! The one who issues a key sees its secret once; what is stored is its digest (R29).
//!
//! ```
//! use tower_api_key::keyring::{Grace, Keyring, NewKey};
//! use tower_api_key::{KeyQuery, UserId};
//! # use tower_api_key::store::{KeyRegistry, Directory};
//!
//! # async fn f(store: impl KeyRegistry + Directory) -> Result<(), Box<dyn std::error::Error>> {
//! let keyring = Keyring::new(store);
//! let alice = UserId::new("alice")?;
//!
//! let issued = keyring.issue(NewKey::user_level(alice.clone(), "Production Key")).await?;
//! println!("shown once: {}", issued.key().expose_secret());
//!
//! let rotated = keyring.rotate(issued.id(), Grace::None).await?; // the key before is dead now
//! keyring.revoke(rotated.id()).await?; // and now this one
//! let ended_too = keyring.list(&alice, &KeyQuery::default()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Deployment caveat
//!
//! The keyring is for your own code: it asks whether the *owner* of a key may have it, and not who is calling. What
//! a key may do to other keys is decided by the routes of `tower-api-key-manage`.

mod error;
mod exposed;
mod import;
mod imported_digest;
mod issued;
mod name;
mod new_key;
mod new_key_request;
mod report;
mod shares;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::access::AccountStatus;
use crate::audit::{AuditEntry, KeyEvent, Revocation};
use crate::authority::Authority;
use crate::clock::{Clock, Timestamp};
use crate::config_error::ConfigError;
use crate::delivery::{Delivery, KeyDelivery, Notice, NoticeKind};
use crate::gate::Principal;
use crate::key::{ApiKey, Digests, Environment, KeyFormat, KeyId, UserId};
use crate::key_update::KeyUpdate;
use crate::observer::{Change, Observer, Observers};
use crate::record::{FreshKey, KeyLevel, KeyRecord};
use crate::restriction::Restrictions;
use crate::settings::Settings;
use crate::store::{
    Directory, KeyCount, KeyPage, KeyPolicy, KeyQuery, KeyRegistry, RegistryError, StoreError, Terms,
};

use self::shares::Shares;

pub use self::error::KeyringError;
pub use self::exposed::ExposedKey;
pub use self::import::{ImportReport, ImportedKey, RefusedImport};
pub use self::imported_digest::{ImportRefusal, ImportedDigest};
pub use self::issued::{Grace, InvalidGrace, IssuedKey};
pub use self::new_key::NewKey;
pub use self::new_key_request::{NewKeyError, NewKeyErrors, NewKeyRequest};
pub use self::report::{KeyUse, Report, RetirementStatus};

/// Issues, rotates, revokes and lists keys. Cloning is cheap.
///
/// Must be used in a tokio runtime with its timer on.
#[derive(Clone)]
pub struct Keyring {
    registry: Arc<dyn KeyRegistry>,
    directory: Arc<dyn Directory>,
    format: KeyFormat,
    digests: Digests,
    policy: KeyPolicy,
    clock: Arc<dyn Clock>,
    store_deadline: Duration,
    authority: Authority,
    /// On whose behalf, where that is known.
    behalf: Option<UserId>,
    shares: Arc<Shares>,
    delivery: Option<Arc<dyn KeyDelivery>>,
    observers: Observers,
}

impl Keyring {
    /// Keeps keys in `store`. `(registry, directory)` joins two; `NoProjects(registry)` says that there are no projects. For
    /// another key format, other digests, clock or deadline: [`ApiKeys::keyring`](crate::ApiKeys::keyring).
    #[must_use]
    pub fn new<S: KeyRegistry + Directory>(store: S) -> Self {
        Self::with_settings(Arc::new(store), &Settings::default())
    }

    pub(crate) fn with_settings<S: KeyRegistry + Directory>(store: Arc<S>, settings: &Settings) -> Self {
        Self {
            registry: Arc::clone(&store) as Arc<dyn KeyRegistry>,
            directory: store,
            format: settings.format.clone(),
            digests: settings.digests.clone(),
            policy: KeyPolicy::default(),
            clock: Arc::clone(&settings.clock),
            store_deadline: settings.change_deadline,
            authority: Authority::System,
            behalf: None,
            shares: Arc::default(),
            delivery: None,
            observers: settings.observers.clone(),
        }
    }

    /// How many keys a user may have. The default is many, up to 100 per environment (R33): that issuing a key ends
    /// the one before (R30, [`KeyPolicy::Single`]) is for those who ask for it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`] for many that are none.
    pub fn policy(mut self, policy: KeyPolicy) -> Result<Self, ConfigError> {
        if policy == (KeyPolicy::Multiple { max: 0 }) {
            return Err(ConfigError::Zero("the number of keys that a user may have"));
        }
        self.policy = policy;
        Ok(self)
    }

    /// Tells owners of the keys that are issued and rotated from now on (R28); see [`delivery`](crate::delivery). The
    /// default is to tell nobody.
    #[must_use]
    pub fn deliver(mut self, delivery: impl KeyDelivery) -> Self {
        self.delivery = Some(Arc::new(delivery));
        self
    }

    /// The same keyring in somebody's hands: the registry makes no change that they [may not make](crate::authority), and
    /// its trail names them. The default is [`Authority::System`], who may make every change.
    #[must_use]
    pub fn acting_as(&self, authority: Authority) -> Self {
        let behalf = match &authority {
            Authority::User(user) => Some(user.clone()),
            _ => None,
        };
        Self { authority, behalf, ..self.clone() }
    }

    /// The same keyring in the hands of the key that a request came with, on behalf of its owner: the work that the store
    /// does for it takes of that owner's share.
    #[must_use]
    pub fn acting_as_principal(&self, who: &Principal) -> Self {
        let (authority, behalf) = (Authority::Key(who.key_id().clone()), Some(who.user_id().clone()));
        Self { authority, behalf, ..self.clone() }
    }

    /// Shows every change that is made to an [`Observer`], after those that are already there. The default is nobody.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Makes a key and stores its digest. This is the only time its secret can be had.
    ///
    /// A registry that is the directory of its owners looks at the owner's standing in the transaction that adds the key.
    /// Where the directory stands beside the registry, it is asked before and after, and a key whose owner has lost access
    /// in between is revoked again: for that moment it works, though nobody has seen its secret.
    ///
    /// # Errors
    ///
    /// [`KeyringError`]: what is asked for cannot be, the owner may not have it or has just lost it, the
    /// [authority](Self::acting_as) may not make it, the policy's number is reached, or the store or the random source
    /// failed. No key works then, save that after [`KeyringError::OutcomeUnknown`] there may be one whose secret nobody
    /// knows. Where issuing ends the keys before ([`KeyPolicy::Single`]), they may have ended.
    pub async fn issue(&self, new: NewKey) -> Result<IssuedKey, KeyringError> {
        let now = self.clock.now();
        let new = new.check(now)?;
        self.owner_may_have(&new.owner, &new.level).await?;
        let (key, fresh) = self.make(new.environment, now)?;
        let record = new.into_record(fresh);
        self.change(self.registry.insert(record.clone(), &self.terms())).await?;
        self.changed(now, &record.id, KeyEvent::Issued);
        self.owner_may_still_have(&record).await?;
        Ok(self.delivered(key, record, NoticeKind::Issued).await)
    }

    /// Puts a new key in the place of an active one, which ends now or after a grace. Everything but the secret, the
    /// id and the date of issue is carried over. Of two who rotate the same key, one wins.
    ///
    /// Without grace, no request that is checked after this has returned is accepted with the old key (R31). The owner is
    /// looked at as by [`issue`](Self::issue), and the [policy](Self::policy) is kept: with a grace, two keys count.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`], [`KeyringError::Ended`], [`KeyringError::Forbidden`] if the owner could not be
    /// issued such a key now, [`KeyringError::Denied`], [`KeyringError::NoGrace`], [`KeyringError::TooManyKeys`], or the
    /// store or the random source failed. The old key works as before then, save that after
    /// [`KeyringError::OutcomeUnknown`] it may have been replaced by one whose secret nobody knows, and that it has ended
    /// where its owner has just lost access.
    pub async fn rotate(&self, id: &KeyId, grace: Grace) -> Result<IssuedKey, KeyringError> {
        let old = self.get(id).await?.ok_or(KeyringError::NotFound)?;
        let now = self.clock.now();
        // A key of somebody else is refused by the registry, and nothing is told of its owner before.
        let own = self.behalf.as_ref().is_none_or(|owner| *owner == old.owner);
        if own && !self.registry.is_directory() {
            self.owner_may_have(&old.owner, &old.level).await?;
        }
        let (key, fresh) = self.make(old.environment, now)?;
        let record = self.change(self.registry.replace(id, fresh, grace.end(now), &self.terms())).await?;
        self.changed(now, id, KeyEvent::ReplacedBy(record.id.clone()));
        self.changed(now, &record.id, KeyEvent::Replaces(id.clone()));
        self.owner_may_still_have(&record).await?;
        Ok(self.delivered(key, record, NoticeKind::Rotated { old: old.id }).await)
    }

    /// Ends a key for good. Revoking it again changes nothing and is no error (R39).
    ///
    /// No request that is checked after this has returned is accepted with the key (R42). This is one transaction of the
    /// registry, and waits for nothing else.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`], [`KeyringError::Denied`], or the store failed: repeat it then.
    pub async fn revoke(&self, id: &KeyId) -> Result<(), KeyringError> {
        self.end(id, Revocation::ByHand).await.map(drop)
    }

    /// Whether this ended it.
    async fn end(&self, id: &KeyId, why: Revocation) -> Result<bool, KeyringError> {
        let now = self.clock.now();
        let ended = self.take_away(self.registry.end(id, why, now, &self.terms())).await?;
        if ended.changed {
            let event = KeyEvent::Revoked(why);
            let change = Change::new(now, id, &self.authority, &event);
            self.observers.changed(&change.ending(ended.family.as_ref()));
        }
        Ok(ended.changed)
    }

    /// Changes a key's name, restrictions or limits, and returns its record as it is then. A change that changes nothing
    /// leaves no trace. Restrictions that are set to observe first show what they would refuse.
    ///
    /// No request that is checked after this has returned is accepted against the new ones.
    ///
    /// Where the directory stands beside the registry, what the owner of the key that makes the change may do is asked just
    /// before: a change of that moment may still be made.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Name`], [`KeyringError::Restrictions`], [`KeyringError::NotFound`], [`KeyringError::Ended`],
    /// [`KeyringError::Denied`], [`KeyringError::TooManyChanges`], or the store failed: repeat it then.
    pub async fn update(&self, id: &KeyId, update: KeyUpdate) -> Result<KeyRecord, KeyringError> {
        let checked = |name: &str| name::check(name).map(str::to_owned).ok_or(KeyringError::Name);
        let update = update.check_name(checked)?;
        if let Some(owner) = self.behalf.as_ref().filter(|_| !self.registry.is_directory()) {
            self.maker_may_still_manage(owner).await?;
        }
        let now = self.clock.now();
        let (terms, share) =
            (self.terms(), if update.may_narrow() { &self.shares.ends } else { &self.shares.changes });
        let updated = self.change_within(share, self.registry.update(id, &update, now, &terms)).await?;
        if updated.changed {
            self.changed(now, id, KeyEvent::Updated(update.parts()));
        }
        Ok(updated.key)
    }

    /// Puts other restrictions in the place of a key's: [`update`](Self::update) with nothing else.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub async fn restrict(&self, id: &KeyId, restrictions: &Restrictions) -> Result<KeyRecord, KeyringError> {
        self.update(id, KeyUpdate::new().restrictions(restrictions.clone())).await
    }

    /// The record of a key, ended or not.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, KeyringError> {
        Ok(self.read(self.registry.get(id)).await?)
    }

    /// The keys of a user that a query selects: all of them, oldest first, if it says nothing else. Pass the last id as
    /// [`KeyQuery::after`] for those that follow.
    ///
    /// # Errors
    ///
    /// [`KeyringError::NotFound`] if the cursor is not a key of this user, [`KeyringError::Store`].
    pub async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, KeyringError> {
        Ok(self.read(self.registry.list(owner, query)).await?)
    }

    /// The same, in pages that end early before they are [large](crate::store::MAX_PAGE_LEN), and say whether there is more.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, KeyringError> {
        Ok(self.read(self.registry.page(owner, query)).await?)
    }

    /// How many keys of a user a query selects, its cursor and limit aside, as far as
    /// [they are counted](KeyRegistry::count).
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, KeyringError> {
        Ok(self.read(self.registry.count(owner, query, most)).await?)
    }

    /// What became of a key, newest first, up to so many entries; nothing for a key that is not there.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`], with [`StoreError::NotKept`] if the registry keeps no
    /// trail.
    pub async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, KeyringError> {
        let history =
            async { self.registry.audit_log().ok_or(StoreError::NotKept)?.history(id, limit).await };
        Ok(self.read(history).await?)
    }

    /// Shows a change that the registry has made.
    fn changed(&self, at: Timestamp, key: &KeyId, event: KeyEvent) {
        self.observers.changed(&Change::new(at, key, &self.authority, &event));
    }

    /// How many keys that are not revoked were digested in which way: `sha256`, `hmac:2027`, ...
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn count_by_digest(&self) -> Result<BTreeMap<String, u64>, KeyringError> {
        let count =
            async { self.registry.inventory().ok_or(StoreError::NotKept)?.count_by_digest_method().await };
        Ok(self.read(count).await?)
    }

    /// Those among them that no layer with this keyring's ring finds: a pepper is missing, or was taken away too early
    /// (C7-07). Ask at start, and say so if there are any.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Store`].
    pub async fn missing_digests(&self) -> Result<BTreeMap<String, u64>, KeyringError> {
        let mut counts = self.count_by_digest().await?;
        counts.retain(|kind, _| !self.digests.knows(kind));
        Ok(counts)
    }

    /// Rights are never copied into a key, but a key for a project that is out of reach would wait for its owner to
    /// come back to it.
    async fn owner_may_have(&self, owner: &UserId, level: &KeyLevel) -> Result<(), KeyringError> {
        match (self.standing_at(owner, level.project()).await?, level) {
            // Whoever is in good standing may hold a key for what they may do, be it nothing at the moment.
            (AccountStatus::Active { .. }, KeyLevel::User) => Ok(()),
            (AccountStatus::Active { role: Some(_) }, KeyLevel::Project(_)) => Ok(()),
            _ => Err(KeyringError::Forbidden),
        }
    }

    /// The same again, of a key that was made by a registry that is not the directory of its owners. Whoever took the owner's
    /// access away in between has revoked the keys that were there, and not this one.
    async fn owner_may_still_have(&self, made: &KeyRecord) -> Result<(), KeyringError> {
        if self.registry.is_directory() {
            return Ok(());
        }
        let may = match self.owner_may_have(&made.owner, &made.level).await {
            Ok(()) => self.maker_may_still_manage(&made.owner).await,
            refused => refused,
        };
        let Err(refused) = may else { return Ok(()) };
        // Nobody ever learns its secret.
        let system = self.acting_as(Authority::System);
        match system.end(&made.id, Revocation::ByHand).await {
            Ok(_) => Err(refused),
            Err(KeyringError::Store(error)) => Err(KeyringError::OutcomeUnknown(error)),
            Err(error) => Err(error),
        }
    }

    /// A key makes keys only for an owner who may write in their account (R40).
    async fn maker_may_still_manage(&self, owner: &UserId) -> Result<(), KeyringError> {
        if !matches!(self.authority, Authority::Key(_)) {
            return Ok(());
        }
        let standing = self.standing_at(owner, None).await?;
        match self.terms().allow_owner(standing, None) {
            Err(RegistryError::Denied(denied)) => Err(KeyringError::denied(denied)),
            _ => Ok(()),
        }
    }

    /// On which terms this keyring has its registry change something.
    fn terms(&self) -> Terms {
        Terms::by(self.authority.clone()).policy(self.policy).ask_owner(self.registry.is_directory())
    }

    /// The key is made and stored: whatever becomes of its delivery, it is returned.
    async fn delivered(&self, key: ApiKey, record: KeyRecord, kind: NoticeKind) -> IssuedKey {
        let notice = Notice::new(kind, &record);
        let delivery = match &self.delivery {
            None => Delivery::None,
            Some(delivery) => self.in_time(delivery.deliver(&key, &notice)).await,
        };
        IssuedKey::new(key, record, delivery)
    }

    async fn in_time(&self, delivering: impl Future<Output = Delivery>) -> Delivery {
        tokio::time::timeout(self.store_deadline, delivering).await.unwrap_or(Delivery::Failed)
    }

    fn make(&self, environment: Environment, now: Timestamp) -> Result<(ApiKey, FreshKey), KeyringError> {
        let key = self.format.generate(environment)?;
        let (text, newest) = (key.expose_secret(), self.digests.newest());
        let fresh = FreshKey {
            id: KeyId::generate()?,
            digest: newest.digest(text),
            digested_by: newest.method(),
            prefix: self.format.prefix(environment).to_owned(),
            last4: text.get(text.len().saturating_sub(4)..).unwrap_or_default().to_owned(),
            created_at: now,
        };
        Ok((key, fresh))
    }
}

/// What routes and pages need to know before they ask for something.
impl Keyring {
    /// The time by which this keyring judges.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many keys a user may have; see [`policy`](Self::policy).
    #[must_use]
    pub fn get_policy(&self) -> KeyPolicy {
        self.policy
    }

    /// What a user may do at the moment where a key of this level works.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if the directory could not tell.
    pub async fn account_status(&self, user: &UserId, level: &KeyLevel) -> Result<AccountStatus, StoreError> {
        self.standing_at(user, level.project()).await
    }

    /// Asks an application's own store something on behalf of the person for whom this keyring [acts](Self::acting_as): within
    /// their share of what is asked at once, and within the deadline.
    ///
    /// # Errors
    ///
    /// What the question says; [`StoreError::Overloaded`] and [`StoreError::Timeout`].
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.read(question).await
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("format", &self.format)
            .field("policy", &self.policy)
            .field("store_deadline", &self.store_deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
