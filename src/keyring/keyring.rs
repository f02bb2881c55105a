//! [`Keyring`]: its settings, its authority, and how its work waits for the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::KeyEvent;
use crate::authority::Authority;
use crate::clock::{Clock, Timestamp};
use crate::delivery::KeyDelivery;
use crate::gate::Principal;
use crate::key::{Digests, KeyFormat, KeyId, UserId};
use crate::observer::{KeyChange, Observer, Observers};
use crate::role::AccountStatus;
use crate::settings::Settings;
use crate::store::{Directory, KeyPolicy, KeyRegistry, RegistryError, StoreError, Terms};

use super::error::KeyringError;
use super::shares::OwnerBulkheads;
use crate::bulkhead::{Bulkhead, Permit};
use crate::key::ProjectId;
use crate::store::in_time;

/// Issues, rotates, revokes and lists keys. Cloning is cheap.
///
/// Must be used in a tokio runtime with its timer on.
#[derive(Clone)]
pub struct Keyring {
    pub(super) registry: Arc<dyn KeyRegistry>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) format: KeyFormat,
    pub(super) digests: Digests,
    pub(super) policy: KeyPolicy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store_deadline: Duration,
    pub(super) authority: Authority,
    /// The user on whose behalf it works, if known.
    pub(super) behalf: Option<UserId>,
    pub(super) shares: Arc<OwnerBulkheads>,
    pub(super) delivery: Option<Arc<dyn KeyDelivery>>,
    pub(super) observers: Observers,
}

impl Keyring {
    /// Creates a keyring for `store`. `(registry, directory)` combines two stores; `NoProjects(registry)` is for
    /// applications without projects. For another key format, other digests, clock or deadline, use
    /// [`ApiKeys::keyring`](crate::ApiKeys::keyring).
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

    /// Sets how many keys a user may have. The default is up to 100 per environment (R33). With
    /// [`KeyPolicy::Single`], issuing a key revokes the previous one (R30).
    #[must_use]
    pub fn policy(mut self, policy: KeyPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Notifies owners of the keys that are issued and rotated from now on (R28); see
    /// [`delivery`](crate::delivery). The default is no notification.
    #[must_use]
    pub fn deliver(mut self, delivery: impl KeyDelivery) -> Self {
        self.delivery = Some(Arc::new(delivery));
        self
    }

    /// Returns this keyring acting for `authority`: the registry refuses changes that it [may not
    /// make](crate::Authority), and the audit log names it. The default is [`Authority::System`], which may make
    /// every change.
    #[must_use]
    pub fn acting_as(&self, authority: Authority) -> Self {
        let behalf = match &authority {
            Authority::User(user) => Some(user.clone()),
            _ => None,
        };
        Self { authority, behalf, ..self.clone() }
    }

    /// Returns this keyring acting for the key of a request, on behalf of its owner: the work of the store counts
    /// for that owner's share.
    #[must_use]
    pub fn acting_as_principal(&self, who: &Principal) -> Self {
        let (authority, behalf) = (Authority::Key(who.key_id().clone()), Some(who.user_id().clone()));
        Self { authority, behalf, ..self.clone() }
    }

    /// Adds an [`Observer`] of every change. It is called after those added before. The default is none.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Reports to the observers a change that the registry has made.
    pub(super) fn changed(&self, at: Timestamp, key: &KeyId, event: KeyEvent) {
        self.observers.changed(&KeyChange::new(at, key, &self.authority, &event));
    }

    /// The terms that this keyring passes to its registry with every change.
    pub(super) fn terms(&self) -> Terms {
        let terms = Terms::by(self.authority.clone()).policy(self.policy);
        if self.registry.is_directory() { terms.ask_owner() } else { terms }
    }

    /// The current time, by this keyring's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many keys a user may have; see [`policy`](Self::policy).
    #[must_use]
    pub fn get_policy(&self) -> KeyPolicy {
        self.policy
    }

    pub(super) async fn standing_at(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.read(self.directory.account_status(user, project)).await
    }

    /// Queries the store, within the share of the user on whose behalf the keyring works.
    pub(super) async fn read<T, E: From<StoreError>>(
        &self,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let _turn = self.turn(&self.shares.reads).await?;
        in_time(self.store_deadline, question).await
    }

    /// Makes a change that takes no access away, or may wait.
    pub(super) async fn change<T>(
        &self,
        change: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, KeyringError> {
        self.change_within(&self.shares.changes, change).await
    }

    /// Makes a change that takes access away. It does not wait for other kinds of work.
    pub(super) async fn take_away<T>(
        &self,
        change: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, KeyringError> {
        self.change_within(&self.shares.ends, change).await
    }

    /// Makes a change within the deadline. If the store does not answer in time, the change may have been made.
    pub(super) async fn change_within<T>(
        &self,
        share: &Bulkhead<UserId>,
        change: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, KeyringError> {
        let _turn = self.turn(share).await?;
        match in_time(self.store_deadline, change).await {
            Err(RegistryError::Store(error @ StoreError::Timeout)) => {
                Err(KeyringError::OutcomeUnknown(error))
            }
            answer => Ok(answer?),
        }
    }

    /// Waits for a permit of a share. The application's own work needs none.
    pub(super) async fn turn(&self, share: &Bulkhead<UserId>) -> Result<Option<Permit<UserId>>, StoreError> {
        let Some(behalf) = &self.behalf else { return Ok(None) };
        match tokio::time::timeout(self.store_deadline, share.acquire(behalf)).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            _ => Err(StoreError::Overloaded),
        }
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
