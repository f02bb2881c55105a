//! Work for the store is shared out by the one on whose behalf it is done, before it is shared by all.

use crate::access::AccountStatus;
use crate::bulkhead::{Bulkhead, Capacity, Permit};
use crate::key::{ProjectId, UserId};
use crate::store::{RegistryError, StoreError, in_time};

use super::{Keyring, KeyringError};

/// How work is shared out among those on whose behalf it is done, in front of the store's own queues. Nobody fills those
/// that are everybody's, and each kind of work has room of its own.
pub(super) struct Shares {
    pub(super) reads: Bulkhead<UserId>,
    pub(super) changes: Bulkhead<UserId>,
    pub(super) ends: Bulkhead<UserId>,
}

impl Default for Shares {
    fn default() -> Self {
        let room = || Bulkhead::new(Capacity { permits: 64, permits_per_key: 4, places: 2048 });
        Self { reads: room(), changes: room(), ends: room() }
    }
}

impl Keyring {
    pub(super) async fn standing_at(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.read(self.directory.account_status(user, project)).await
    }

    /// A question, within the share of the one on whose behalf it is asked.
    pub(super) async fn read<T, E: From<StoreError>>(
        &self,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let _turn = self.turn(&self.shares.reads).await?;
        in_time(self.store_deadline, question).await
    }

    /// A change that takes nothing away, or may wait.
    pub(super) async fn change<T>(
        &self,
        change: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, KeyringError> {
        self.change_within(&self.shares.changes, change).await
    }

    /// A change that takes access away: it waits for no other kind of work.
    pub(super) async fn take_away<T>(
        &self,
        change: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, KeyringError> {
        self.change_within(&self.shares.ends, change).await
    }

    /// A change that was begun and not answered in time may have been made.
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

    /// What the application does by itself is not shared out.
    async fn turn(&self, share: &Bulkhead<UserId>) -> Result<Option<Permit<UserId>>, StoreError> {
        let Some(behalf) = &self.behalf else { return Ok(None) };
        match tokio::time::timeout(self.store_deadline, share.acquire(behalf)).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            _ => Err(StoreError::Overloaded),
        }
    }
}
