//! [`PostgresStore`]: a store in a PostgreSQL database, for several processes on several machines.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Pool;

use crate::bulkhead::Bulkhead;
use crate::failure::Failure;
use crate::housekeeping::Housekeeping;
use crate::listener::Listener;
use crate::session::{Database, Session, SessionFuture};
use crate::{audit_log, directory, import, keys, leaving};
use tower_api_key::store::codec::PageBounds;
use tower_api_key::store::{
    Account, Accounts, AuditLog, Directory, Ended, KeyInventory, KeyRegistry, KeyStore, Member, Person,
    Project, ProjectDirectory, RegistryError, StoreError, Terms, Updated, UsageLog, settle,
};
use tower_api_key::{
    AccountStatus, AuditEntry, DigestMethod, FreshKey, KeyCount, KeyDigest, KeyId, KeyPage, KeyQuery,
    KeyRecord, KeyUpdate, ProjectId, Revocation, Timestamp, Usage, UserId,
};

/// How many keys of an import share a transaction.
const AT_ONCE: usize = 200;

/// Keys, people and projects in a PostgreSQL database that several processes share.
///
/// ```no_run
/// # async fn f() -> Result<(), tower_api_key::store::StoreError> {
/// use tower_api_key_postgres::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://keys@db.internal/app").await?;
/// # Ok(())
/// # }
/// ```
///
/// Every request reads the primary of the database, never a replica, so a change by another process or by an
/// operator's SQL takes effect at the next request. A look-up is one round trip. [`Cached`](tower_api_key::store::Cached) answers
/// from memory and keeps that guarantee.
///
/// When a call that makes a change returns, the change is on disk, and no node with a cache answers from older
/// data: the call has waited for the nodes by [the lease protocol](tower_api_key::lease_protocol). If it cannot
/// tell whether they have seen the change, it fails with an error that says so: the change is made, and every node
/// sees it within its lease. Repeat the call to wait again. Changes by your own SQL also enter the log, by
/// triggers, but cannot wait: they are seen within a lease. A call that is cancelled may still have changed
/// something.
///
/// Every wait is bounded: for a connection, a permit, a lock or an answer by the
/// [deadline](crate::PostgresOptions::deadline), then the call fails with [`StoreError::Timeout`]. Too much work of
/// one kind is [`StoreError::Overloaded`]; lists and a flood of new keys take no connection from requests. After
/// the database was unavailable, the next request reconnects.
///
/// # Deployment caveats
///
/// PostgreSQL 13 or newer, and a database in UTF8. The store creates its own schema and changes nothing outside of
/// it. The first time, the user needs the right to create it (`CREATE` on the database), or an empty schema that it
/// owns. With a pooler (PgBouncer), use session mode, because statements are prepared and listening needs a
/// session. [`operations`](tower_api_key::operations) has more: rights, connections, backup, upgrade. A failover to
/// a replica that has not received a revocation loses it: let the primary wait for its replicas
/// (`synchronous_standby_names`).
#[derive(Clone)]
pub struct PostgresStore {
    database: Arc<Database>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) housekeeping: Arc<Housekeeping>,
    /// Set if the pool is not shared with an application.
    own_pool: Option<Pool>,
}

impl PostgresStore {
    /// Closes the store for all clones: it starts no more work, waits for running work even if its caller was
    /// cancelled, and closes the connections. An existing pool that was passed in stays open. Call it at the end of
    /// a process, after the last request and after [`Cached::shutdown`](tower_api_key::store::Cached::shutdown);
    /// [`operations`](tower_api_key::operations) describes the order.
    ///
    /// Later calls fail with [`StoreError::Failed`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Timeout`] if some work did not end in time and was aborted.
    pub async fn close(&self) -> Result<(), StoreError> {
        let ended = self.database.end().await;
        self.listener.end();
        if let Some(pool) = &self.own_pool {
            pool.close();
        }
        ended
    }

    pub(crate) fn new(
        database: Database,
        listener: Listener,
        housekeeping: Housekeeping,
        own_pool: Option<Pool>,
    ) -> Self {
        Self {
            database: Arc::new(database),
            listener: Arc::new(listener),
            housekeeping: Arc::new(housekeeping),
            own_pool,
        }
    }

    /// Prunes the change log in the background. If it fails, the log stays longer until the next time.
    pub(crate) fn prune(&self) {
        let (housekeeping, database) = (Arc::clone(&self.housekeeping), Arc::clone(&self.database));
        tokio::spawn(async move { drop(housekeeping.prune(&database).await) });
    }

    async fn look_up<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.database.read(&self.database.bulkheads.look_ups, work);
        answer.await.map_err(Failure::into_store_error)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let answer = self.database.read(&self.database.bulkheads.lists, work);
        answer.await.map_err(Failure::into_registry_error)
    }

    async fn selected(
        &self,
        owner: &UserId,
        query: &KeyQuery,
        bounds: PageBounds,
    ) -> Result<KeyPage, RegistryError> {
        let (owner, query) = (owner.clone(), query.clone());
        let page = self
            .read(move |session| Box::pin(async move { keys::list(session, &owner, &query, bounds).await }));
        page.await
    }

    pub(crate) async fn log<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.database.read(&self.database.bulkheads.log, work);
        answer.await.map_err(Failure::into_store_error)
    }

    /// Makes a change that takes no access away or may wait. Under a flood of changes it is refused first.
    async fn write<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, RegistryError> {
        self.change(&self.database.bulkheads.changes, work).await
    }

    /// Makes a change that may take access away.
    pub(crate) async fn take_away<T: Send + 'static>(
        &self,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, RegistryError> {
        self.change(&self.database.bulkheads.ends, work).await
    }

    /// Revokes the remaining keys of a removed member in short transactions. If it is interrupted, the same call continues,
    /// and so does the next process that connects.
    async fn end_what_is_left_of(&self, user: &UserId) -> Result<(), RegistryError> {
        loop {
            let user = user.clone();
            let step =
                self.write(move |session| Box::pin(async move { leaving::go_on(session, &user).await }));
            if step.await? {
                return Ok(());
            }
        }
    }

    /// Before a user joins an account, revokes the remaining keys of an earlier membership.
    async fn nobody_returns_early(&self, user: &UserId) -> Result<(), RegistryError> {
        let asked = user.clone();
        let leaves =
            self.read(move |session| Box::pin(async move { leaving::leaves(session, &asked).await }));
        if leaves.await? { self.end_what_is_left_of(user).await } else { Ok(()) }
    }

    /// Completes interrupted removals of other processes in the background. If it fails, it is left to the next process.
    pub(crate) fn sweep(&self) {
        let store = self.clone();
        tokio::spawn(async move {
            if let Ok(true) = store.read(|session| Box::pin(leaving::is_left(session))).await {
                while let Ok(false) = store.write(|session| Box::pin(leaving::sweep(session))).await {}
            }
        });
    }

    /// Runs one transaction, then waits until no node answers from older data.
    async fn change<T: Send + 'static>(
        &self,
        bulkhead: &Bulkhead,
        work: impl for<'s> FnOnce(&'s Session) -> SessionFuture<'s, T> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let changed = self.database.transact(bulkhead, work).await.map_err(Failure::into_registry_error);
        let (done, commit) = match changed {
            Ok((done, commit)) => (Ok(done), commit),
            // An earlier attempt may have made the change and lost its answer (C9-12), so the nodes are awaited
            // nevertheless.
            Err(over @ (RegistryError::NotFound | RegistryError::Ended)) => {
                let (_, commit) = self
                    .database
                    .transact(bulkhead, |_| Box::pin(async { Ok(()) }))
                    .await
                    .map_err(Failure::into_registry_error)?;
                (Err(over), commit)
            }
            Err(failed) => return Err(failed),
        };
        // In its own task, so that a cancelled caller does not cancel it: otherwise a node whose lease is longer
        // than any caller waits would block every change and never be fenced.
        let database = Arc::clone(&self.database);
        let settled = tokio::spawn(async move { settle(&*database, &commit).await });
        let settled = settled.await.unwrap_or_else(|error| Err(StoreError::failed(error)));
        settled.map_err(|error| StoreError::failed(Unacknowledged(error)))?;
        if self.housekeeping.after_change() {
            self.prune();
        }
        done
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("database", &self.database).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let digest = *digest;
        let found = self.look_up(move |session| Box::pin(async move { keys::find(session, &digest).await }));
        Ok(found.await?.map(Arc::new))
    }

    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let digest = *digest;
        let found =
            self.look_up(move |session| Box::pin(async move { keys::find_at(session, &digest, now).await }));
        Ok(found.await?.map(Arc::new))
    }
}

#[async_trait]
impl Directory for PostgresStore {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let (user, project) = (user.clone(), project.cloned());
        let standing = self.look_up(move |session| {
            Box::pin(async move { directory::account_status(session, &user, project.as_ref()).await })
        });
        standing.await
    }
}

#[async_trait]
impl ProjectDirectory for PostgresStore {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        let user = user.clone();
        let projects = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { directory::projects(session, &user).await })
        });
        projects.await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl KeyRegistry for PostgresStore {
    fn is_directory(&self) -> bool {
        true
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        Some(self)
    }

    fn usage_log(&self) -> Option<&dyn UsageLog> {
        Some(self)
    }

    fn inventory(&self) -> Option<&dyn KeyInventory> {
        Some(self)
    }

    async fn insert(&self, key: KeyRecord, terms: &Terms) -> Result<(), RegistryError> {
        let terms = terms.clone();
        let inserted =
            self.write(move |session| Box::pin(async move { keys::insert(session, &key, &terms).await }));
        inserted.await
    }

    async fn insert_all(
        &self,
        keys: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        let mut answers = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            let (some, terms) = (some.to_vec(), terms.clone());
            let inserted = self.write(move |session| {
                Box::pin(async move { import::insert_all(session, &some, &terms).await })
            });
            answers.extend(inserted.await.map_err(|error| Failure::from(error).into_store_error())?);
        }
        Ok(answers)
    }

    async fn replace(
        &self,
        old: &KeyId,
        fresh: FreshKey,
        old_ends: Timestamp,
        terms: &Terms,
    ) -> Result<KeyRecord, RegistryError> {
        let (old, terms) = (old.clone(), terms.clone());
        let replaced = self.write(move |session| {
            Box::pin(async move { keys::replace(session, &old, &fresh, old_ends, &terms).await })
        });
        replaced.await
    }

    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        let (id, terms) = (id.clone(), terms.clone());
        let ended = self.take_away(move |session| {
            Box::pin(async move { keys::end(session, &id, why, now, &terms).await })
        });
        ended.await
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        let bulkheads = &self.database.bulkheads;
        // A change that only renames or widens waits with the others.
        let bulkhead = if update.may_narrow() { &bulkheads.ends } else { &bulkheads.changes };
        let (id, update, terms) = (id.clone(), update.clone(), terms.clone());
        let updated = self.change(bulkhead, move |session| {
            Box::pin(async move { keys::update(session, &id, &update, now, &terms).await })
        });
        updated.await
    }

    async fn rehash(
        &self,
        id: &KeyId,
        from: &KeyDigest,
        to: &KeyDigest,
        method: &DigestMethod,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let (id, from, to, method) = (id.clone(), *from, *to, method.clone());
        let rehashed = self.write(move |session| {
            Box::pin(async move { keys::rehash(session, &id, &from, &to, &method, now).await })
        });
        rehashed.await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let id = id.clone();
        let got = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { keys::get(session, &id).await })
        });
        got.await.map_err(Failure::into_store_error)
    }

    async fn get_all(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        let ids = ids.to_vec();
        let got = self.read(move |session| Box::pin(async move { keys::get_all(session, &ids).await }));
        got.await.map_err(RegistryError::into_store_error)
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        self.selected(owner, query, PageBounds::LIST).await.map(|page| page.keys)
    }

    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        self.selected(owner, query, PageBounds::PAGE).await
    }

    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        let (owner, query) = (owner.clone(), query.clone());
        let counted = self
            .read(move |session| Box::pin(async move { keys::count(session, &owner, &query, most).await }));
        counted.await
    }
}

#[async_trait]
impl AuditLog for PostgresStore {
    async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let id = id.clone();
        let history = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { audit_log::of(session, &id, limit).await })
        });
        history.await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl UsageLog for PostgresStore {
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
        let batch = batch.to_vec();
        // One statement, and no node caches this data.
        let recorded = self.database.read(&self.database.bulkheads.changes, move |session| {
            Box::pin(async move { audit_log::add_usage(session, &batch).await })
        });
        recorded.await.map_err(Failure::into_store_error)
    }

    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
        let keys = keys.to_vec();
        let usage = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { audit_log::usage(session, &keys).await })
        });
        usage.await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl KeyInventory for PostgresStore {
    async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
        let after = after.cloned();
        let owners = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { keys::owners(session, after.as_ref(), limit).await })
        });
        owners.await.map_err(Failure::into_store_error)
    }

    async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let counted = self
            .database
            .read(&self.database.bulkheads.lists, |session| Box::pin(keys::count_by_digest_method(session)));
        counted.await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl Accounts for PostgresStore {
    async fn create_account(&self, account: &str, owner: &UserId) -> Result<(), RegistryError> {
        self.nobody_returns_early(owner).await?;
        let (account, owner) = (account.to_owned(), owner.clone());
        let created = self.write(move |session| {
            Box::pin(async move { directory::create_account(session, &account, &owner).await })
        });
        created.await
    }

    async fn create_project(&self, account: &str, project: &Project) -> Result<(), RegistryError> {
        let (account, project) = (account.to_owned(), project.clone());
        let created = self.write(move |session| {
            Box::pin(async move { directory::create_project(session, &account, &project).await })
        });
        created.await
    }

    async fn delete_project(&self, account: &str, project: &ProjectId) -> Result<(), RegistryError> {
        let (account, project) = (account.to_owned(), project.clone());
        let deleted = self.take_away(move |session| {
            Box::pin(async move { directory::delete_project(session, &account, &project).await })
        });
        deleted.await
    }

    async fn set_member(&self, account: &str, user: &UserId, access: &Member) -> Result<(), RegistryError> {
        self.nobody_returns_early(user).await?;
        let (account, user, access) = (account.to_owned(), user.clone(), access.clone());
        let set = self.take_away(move |session| {
            Box::pin(async move { directory::set_member(session, &account, &user, &access).await })
        });
        set.await
    }

    async fn remove_member(&self, account: &str, user: &UserId, now: Timestamp) -> Result<(), RegistryError> {
        let (account, user) = (account.to_owned(), user.clone());
        let removed = {
            let user = user.clone();
            self.take_away(move |session| {
                Box::pin(async move { leaving::begin(session, &account, &user, now).await })
            })
        };
        // Usually the first transaction revokes all keys.
        if removed.await? { Ok(()) } else { self.end_what_is_left_of(&user).await }
    }

    async fn transfer_account(
        &self,
        account: &str,
        to: &UserId,
        access: &Member,
    ) -> Result<(), RegistryError> {
        let (account, to, access) = (account.to_owned(), to.clone(), access.clone());
        let transferred = self.take_away(move |session| {
            Box::pin(async move { directory::transfer(session, &account, &to, &access).await })
        });
        transferred.await
    }

    async fn suspend_account(&self, account: &str, suspended: bool) -> Result<(), RegistryError> {
        let account = account.to_owned();
        let set = self.take_away(move |session| {
            Box::pin(async move { directory::suspend(session, &account, suspended).await })
        });
        set.await
    }

    async fn list_accounts(&self, after: Option<&str>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let after = after.map(str::to_owned);
        let listed = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { directory::list_accounts(session, after.as_deref(), limit).await })
        });
        listed.await.map_err(Failure::into_store_error)
    }

    async fn list_projects(
        &self,
        account: &str,
        after: Option<&ProjectId>,
        limit: u32,
    ) -> Result<Vec<Project>, RegistryError> {
        let (account, after) = (account.to_owned(), after.cloned());
        let listed = self.read(move |session| {
            Box::pin(async move { directory::list_projects(session, &account, after.as_ref(), limit).await })
        });
        listed.await
    }

    async fn list_people(
        &self,
        account: &str,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Person>, RegistryError> {
        let (account, after) = (account.to_owned(), after.cloned());
        let listed = self.read(move |session| {
            Box::pin(async move { directory::list_people(session, &account, after.as_ref(), limit).await })
        });
        listed.await
    }

    async fn account_of(&self, user: &UserId) -> Result<Option<String>, StoreError> {
        let user = user.clone();
        let account = self.database.read(&self.database.bulkheads.lists, move |session| {
            Box::pin(async move { directory::account_of(session, &user).await })
        });
        account.await.map_err(Failure::into_store_error)
    }
}

/// The change was committed, but nothing more is known.
#[derive(Debug, thiserror::Error)]
#[error(
    "the change was made, but not every node has confirmed it yet: repeat the call to wait for the nodes"
)]
struct Unacknowledged(#[source] StoreError);
