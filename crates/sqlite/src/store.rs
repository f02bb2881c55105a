//! [`SqliteStore`]: a store in an SQLite file, which several processes may share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::open::Purpose;
use crate::worker::{Places, Queue};
use crate::{audit_log, directory, import, keys, leaving, open};
use tower_api_key::store::codec::{KeyRow as _, PageBounds};
use tower_api_key::store::{
    Account, Accounts, AuditLog, Directory, Ended, KeyInventory, KeyRegistry, KeyStore, Member, Person,
    Project, ProjectDirectory, RegistryError, StoreError, Terms, Updated, UsageLog,
};
use tower_api_key::{
    AccountStatus, AuditEntry, DigestMethod, FreshKey, KeyCount, KeyDigest, KeyEvent, KeyId, KeyPage,
    KeyQuery, KeyRecord, KeyUpdate, ProjectId, Revocation, Timestamp, Usage, UserId,
};

/// Two connections use two cores, and more do not help, because a look-up takes a few microseconds.
const READERS: usize = 2;
/// About ten milliseconds of look-ups.
const WAITING_READS: usize = 1024;
/// Lists have their own connection, so that a long one does not delay look-ups.
const WAITING_LISTS: usize = 256;
/// About a second of writes, because each waits for the disk.
const WAITING_WRITES: usize = 192;
/// Additional places for changes that take access away, so that they are not refused when others issue more keys
/// than the disk can take.
const WAITING_ENDS: usize = 64;

/// Keys, people and projects in an SQLite file.
///
/// Every request reads the file, so a change by another process or by an operator's SQL takes effect at the next
/// request. One thread writes, two look up keys for requests, and one reads for management. So the async runtime
/// never waits for the disk, and a request never waits for a long list. The caller parses the rows, not the
/// threads. If the queues are full, calls fail with [`StoreError::Overloaded`]; changes that take access away have
/// places of their own. If another process holds a lock for more than two seconds, calls fail with
/// [`StoreError::Timeout`]. Clones share the threads, which end with the last clone.
///
/// When a call that makes a change returns, the change is on disk. A call that is cancelled may still have changed
/// something.
///
/// # Deployment caveats
///
/// The file must be on a local disk: network file systems do not give the guarantees that SQLite needs. It is
/// created with permissions `0600`; those of an existing file are not changed. Do not move, replace or restore the
/// file while a process has it open: the process would continue with the old file, in which revoked keys may still
/// be active. Back it up with `VACUUM INTO` or SQLite's backup API, not by copying it.
///
/// SQLite 3.37 or newer with JSON functions is needed. SQLite before 3.51.3 has a rare bug that can damage a file
/// which two processes write at the same moment; the feature `bundled` includes a newer one.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Queue,
    /// For the two look-ups of every request.
    readers: Queue,
    /// For queries with possibly long results, and for everything that is not part of a request.
    lister: Queue,
}

impl SqliteStore {
    /// Opens a file, and creates or migrates it if necessary. Several processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the file cannot be opened, is not an SQLite file, belongs to another application, was
    /// written by a newer release, or cannot have a write-ahead log (`:memory:`); nothing is changed then.
    /// [`StoreError::Timeout`] if another process has locked it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_for(path.as_ref(), Purpose::Begin).await
    }

    /// Like [`open`](Self::open), but fails if there is no store (no file, or an empty one), so that a mistyped
    /// name cannot become an empty store.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); if there is no store, the cause is a
    /// [`ConfigError::Database`](tower_api_key::ConfigError::Database).
    pub async fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_for(path.as_ref(), Purpose::Change).await
    }

    /// Opens an existing store for reading only. This also works while another process writes or holds the write
    /// lock for long. Every change fails with [`StoreError::Failed`].
    ///
    /// # Errors
    ///
    /// As [`open_existing`](Self::open_existing), and [`StoreError::Failed`] if the file was written by an older
    /// release and is not migrated yet, which opening it for writing does.
    pub async fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_for(path.as_ref(), Purpose::Read).await
    }

    /// Checkpoints the write-ahead log into the file, and returns whether the file is complete. It is not if
    /// another process reads older data or writes. Nothing is lost then, but a copy of the file alone may be
    /// outdated.
    ///
    /// It waits up to two seconds for other processes. A writing process also does this from time to time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file could not be written.
    pub async fn checkpoint(&self) -> Result<bool, StoreError> {
        let moved = self.writer.ask(Places::Common, |connection| Ok(open::checkpoint(connection)?));
        moved.await.map_err(Failure::into_store_error)
    }

    async fn open_for(path: &Path, purpose: Purpose) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let (reply, opened) = oneshot::channel();
        thread::Builder::new()
            .name("tower-api-key-open".to_owned())
            .spawn(move || drop(reply.send(Self::open_blocking(path, purpose))))
            .map_err(StoreError::failed)?;
        let opened = opened.await.map_err(StoreError::failed)?;
        opened.map_err(Failure::into_store_error)
    }

    fn open_blocking(path: PathBuf, purpose: Purpose) -> Result<Self, Failure> {
        let path = open::location(&path)?;
        let writer = open::writer(&path, purpose)?;
        let lister = open::reader(&path)?;
        let readers = (0..READERS).map(|_| open::reader(&path)).collect::<Result<Vec<_>, _>>()?;
        let start = |name, connections, common, kept| {
            Queue::start(name, connections, common, kept).map_err(StoreError::failed)
        };
        let store = Self {
            writer: start("tower-api-key-write", vec![writer], WAITING_WRITES, WAITING_ENDS)?,
            readers: start("tower-api-key-read", readers, WAITING_READS, 0)?,
            lister: start("tower-api-key-list", vec![lister], WAITING_LISTS, 0)?,
        };
        if purpose != Purpose::Read {
            store.writer.do_again(|connection| leaving::step(connection, leaving::sweep))?;
        }
        Ok(store)
    }

    async fn look_up<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers
            .ask(Places::Common, |connection| work(connection))
            .await
            .map_err(Failure::into_store_error)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.lister.ask(Places::Common, |connection| work(connection)).await
    }

    async fn selected(
        &self,
        owner: &UserId,
        query: &KeyQuery,
        bounds: PageBounds,
    ) -> Result<KeyPage, Failure> {
        let (owner, asked) = (owner.clone(), query.clone());
        self.read(move |connection| keys::list(connection, &owner, &asked, bounds)).await?.parse(query)
    }

    /// Makes a change that takes no access away or may wait. Under a flood of changes it is refused first.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RegistryError> {
        self.transact(Places::Common, work).await
    }

    /// Makes a change that may take access away.
    async fn take_away<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RegistryError> {
        self.transact(Places::Reserved, work).await
    }

    /// Revokes the remaining keys of a removed member in short transactions. It continues if the caller is cancelled. If the
    /// process ends in between, the next one that opens the file continues.
    async fn end_what_is_left_of(&self, user: &UserId) -> Result<(), RegistryError> {
        let user = user.clone();
        let step =
            move |connection: &mut Connection| leaving::step(connection, |work| leaving::go_on(work, &user));
        self.writer.ask_again(step).await.map_err(Failure::into_registry_error)
    }

    /// Before a user joins an account, revokes the remaining keys of an earlier membership.
    async fn nobody_returns_early(&self, user: &UserId) -> Result<(), RegistryError> {
        let asked = user.clone();
        let leaves = self.read(move |connection| leaving::leaves(connection, &asked)).await;
        if leaves.map_err(Failure::into_registry_error)? {
            self.end_what_is_left_of(user).await
        } else {
            Ok(())
        }
    }

    /// Runs one transaction, which takes the write lock before it reads, so that nothing that it has read can change.
    async fn transact<T: Send + 'static>(
        &self,
        places: Places,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let done = self.writer.ask(places, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        });
        done.await.map_err(Failure::into_registry_error)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let digest = *digest;
        let found = self.look_up(move |connection| keys::find(connection, &digest)).await?;
        Ok(found.map(|row| row.key()).transpose()?.map(Arc::new))
    }

    async fn find_at(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let digest = *digest;
        let found = self.look_up(move |connection| keys::find_at(connection, &digest, now)).await?;
        let key = found.map(|found| match found {
            keys::FoundRow::Whole(row) => row.key(),
            keys::FoundRow::Ended(key) => Ok(*key),
        });
        Ok(key.transpose()?.map(Arc::new))
    }
}

#[async_trait]
impl Directory for SqliteStore {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let (user, project) = (user.clone(), project.cloned());
        self.look_up(move |connection| directory::account_status(connection, &user, project.as_ref())).await
    }
}

#[async_trait]
impl ProjectDirectory for SqliteStore {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        let user = user.clone();
        let projects = self.read(move |connection| directory::projects(connection, &user));
        projects.await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl KeyRegistry for SqliteStore {
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
        let (terms, event) = (terms.clone(), KeyEvent::of_new(&key));
        self.write(move |transaction| keys::insert(transaction, &key, &terms, event)).await
    }

    async fn insert_all(
        &self,
        new: Vec<KeyRecord>,
        terms: &Terms,
    ) -> Result<Vec<Result<(), RegistryError>>, StoreError> {
        let new: Arc<[KeyRecord]> = new.into();
        let mut answers = Vec::with_capacity(new.len());
        while answers.len() < new.len() {
            let (all, begin, terms) = (Arc::clone(&new), answers.len(), terms.clone());
            let some = self.write(move |transaction| {
                import::insert_some(transaction, all.get(begin..).unwrap_or_default(), &terms)
            });
            answers.extend(some.await.map_err(|error| Failure::from(error).into_store_error())?);
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
        self.write(move |transaction| keys::replace(transaction, &old, &fresh, old_ends, &terms)).await
    }

    async fn end(
        &self,
        id: &KeyId,
        why: Revocation,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Ended, RegistryError> {
        let (id, terms) = (id.clone(), terms.clone());
        self.take_away(move |transaction| keys::end(transaction, &id, why, now, &terms)).await
    }

    async fn update(
        &self,
        id: &KeyId,
        update: &KeyUpdate,
        now: Timestamp,
        terms: &Terms,
    ) -> Result<Updated, RegistryError> {
        let (id, terms) = (id.clone(), terms.clone());
        // A change that only renames or widens waits with the others.
        let places = if update.may_narrow() { Places::Reserved } else { Places::Common };
        let update = update.clone();
        self.transact(places, move |transaction| keys::update(transaction, &id, &update, now, &terms)).await
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
        self.write(move |transaction| keys::rehash(transaction, &id, &from, &to, &method, now)).await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let id = id.clone();
        let got = self.read(move |connection| keys::get(connection, &id));
        got.await.map_err(Failure::into_store_error)?.map(|row| row.key()).transpose()
    }

    async fn get_all(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        let ids = ids.to_vec();
        let got = self.read(move |connection| {
            ids.iter().filter_map(|id| keys::get(connection, id).transpose()).collect::<Result<Vec<_>, _>>()
        });
        got.await.map_err(Failure::into_store_error)?.iter().map(|row| row.key()).collect()
    }

    async fn list(&self, owner: &UserId, query: &KeyQuery) -> Result<Vec<KeyRecord>, RegistryError> {
        let page = self.selected(owner, query, PageBounds::LIST).await;
        page.map(|page| page.keys).map_err(Failure::into_registry_error)
    }

    async fn page(&self, owner: &UserId, query: &KeyQuery) -> Result<KeyPage, RegistryError> {
        self.selected(owner, query, PageBounds::PAGE).await.map_err(Failure::into_registry_error)
    }

    async fn count(&self, owner: &UserId, query: &KeyQuery, most: u32) -> Result<KeyCount, RegistryError> {
        let (owner, query) = (owner.clone(), query.clone());
        let counted = self.read(move |connection| keys::count(connection, &owner, &query, most));
        counted.await.map_err(Failure::into_registry_error)
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn history(&self, id: &KeyId, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let id = id.clone();
        let history = self.read(move |connection| audit_log::of(connection, &id, limit));
        history.await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl UsageLog for SqliteStore {
    async fn record_usage(&self, batch: &[Usage]) -> Result<(), StoreError> {
        let batch = batch.to_vec();
        match self.write(move |transaction| audit_log::add_usage(transaction, &batch)).await {
            Ok(()) => Ok(()),
            Err(RegistryError::Store(error)) => Err(error),
            Err(other) => Err(StoreError::failed(other)),
        }
    }

    async fn usage(&self, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
        let keys = keys.to_vec();
        self.read(move |connection| audit_log::usage(connection, &keys))
            .await
            .map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl KeyInventory for SqliteStore {
    async fn owners(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<UserId>, StoreError> {
        let after = after.cloned();
        let owners = self.read(move |connection| keys::owners(connection, after.as_ref(), limit));
        owners.await.map_err(Failure::into_store_error)
    }

    async fn count_by_digest_method(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.read(keys::count_by_digest_method).await.map_err(Failure::into_store_error)
    }
}

#[async_trait]
impl Accounts for SqliteStore {
    async fn create_account(&self, account: &str, owner: &UserId) -> Result<(), RegistryError> {
        self.nobody_returns_early(owner).await?;
        let (account, owner) = (account.to_owned(), owner.clone());
        self.write(move |transaction| directory::create_account(transaction, &account, &owner)).await
    }

    async fn create_project(&self, account: &str, project: &Project) -> Result<(), RegistryError> {
        let (account, project) = (account.to_owned(), project.clone());
        self.write(move |transaction| directory::create_project(transaction, &account, &project)).await
    }

    async fn delete_project(&self, account: &str, project: &ProjectId) -> Result<(), RegistryError> {
        let (account, project) = (account.to_owned(), project.clone());
        self.take_away(move |transaction| directory::delete_project(transaction, &account, &project)).await
    }

    async fn set_member(&self, account: &str, user: &UserId, access: &Member) -> Result<(), RegistryError> {
        self.nobody_returns_early(user).await?;
        let (account, user, access) = (account.to_owned(), user.clone(), access.clone());
        self.take_away(move |transaction| directory::set_member(transaction, &account, &user, &access)).await
    }

    async fn remove_member(&self, account: &str, user: &UserId, now: Timestamp) -> Result<(), RegistryError> {
        let (account, user) = (account.to_owned(), user.clone());
        let removed = {
            let user = user.clone();
            self.take_away(move |transaction| leaving::begin(transaction, &account, &user, now))
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
        self.take_away(move |transaction| directory::transfer(transaction, &account, &to, &access)).await
    }

    async fn suspend_account(&self, account: &str, suspended: bool) -> Result<(), RegistryError> {
        let account = account.to_owned();
        self.take_away(move |transaction| directory::suspend(transaction, &account, suspended)).await
    }

    async fn list_accounts(&self, after: Option<&str>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let after = after.map(str::to_owned);
        let listed =
            self.read(move |connection| directory::list_accounts(connection, after.as_deref(), limit));
        listed.await.map_err(Failure::into_store_error)
    }

    async fn list_projects(
        &self,
        account: &str,
        after: Option<&ProjectId>,
        limit: u32,
    ) -> Result<Vec<Project>, RegistryError> {
        let (account, after) = (account.to_owned(), after.cloned());
        let listed = self
            .read(move |connection| directory::list_projects(connection, &account, after.as_ref(), limit));
        listed.await.map_err(Failure::into_registry_error)
    }

    async fn list_people(
        &self,
        account: &str,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Person>, RegistryError> {
        let (account, after) = (account.to_owned(), after.cloned());
        let listed =
            self.read(move |connection| directory::list_people(connection, &account, after.as_ref(), limit));
        listed.await.map_err(Failure::into_registry_error)
    }

    async fn account_of(&self, user: &UserId) -> Result<Option<String>, StoreError> {
        let user = user.clone();
        let account = self.read(move |connection| directory::account_of(connection, &user));
        account.await.map_err(Failure::into_store_error)
    }
}
