//! Makes, changes and revokes keys at random, in several workers.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::{Accounts as _, KeyRegistry as _, Member, MemberRole, RegistryError, Terms};
use tower_api_key::{
    ApiKey, Authority, Environment, Grace, IssuedKey, KeyFormat, KeyId, KeyPolicy, KeyRecord, Keyring,
    NewKey, SystemClock, UserId,
};
use tower_api_key_postgres::PostgresStore;

use crate::Failure;
use crate::check::{History, Span};
use crate::options::Dice;

const ACCOUNT: &str = "cluster";
/// The number of keys at the start, and about the number of valid keys at any time.
const KEYS: usize = 60;
/// The number of workers.
const WORKERS: u64 = 3;

struct Key {
    secret: Arc<ApiKey>,
    id: KeyId,
    owner: UserId,
    /// For any request.
    any: Span,
    /// For writes.
    write: Span,
}

/// All keys that ever existed.
#[derive(Default)]
pub(crate) struct Keys(RwLock<Vec<Key>>);

impl Keys {
    pub(crate) async fn prepare(store: &PostgresStore) -> Result<Self, Failure> {
        store.create_account(ACCOUNT, &UserId::new("boss")?).await?;
        let keys = Self::default();
        let keyring = Keyring::new(store.clone());
        for number in 0..KEYS {
            let owner = new_member(store, &format!("first{number}")).await?;
            let issued = keyring.issue(NewKey::user_level(owner, "first")).await?;
            keys.add(issued, Some(Instant::now()));
        }
        Ok(keys)
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Key>> {
        self.0.read().expect("nobody panics with this lock")
    }

    fn add(&self, issued: IssuedKey, from: Option<Instant>) -> usize {
        let (secret, record) = issued.into_parts();
        self.add_parts(secret, record.id, record.owner, from)
    }

    fn add_parts(&self, secret: ApiKey, id: KeyId, owner: UserId, from: Option<Instant>) -> usize {
        let span = Span { from, ..Span::default() };
        let mut keys = self.0.write().expect("nobody panics with this lock");
        keys.push(Key { secret: Arc::new(secret), id, owner, any: span, write: span });
        keys.len() - 1
    }

    fn edit(&self, key: usize, change: impl FnOnce(&mut Key)) {
        change(&mut self.0.write().expect("nobody panics with this lock")[key]);
    }

    pub(crate) fn secret(&self, key: usize) -> Arc<ApiKey> {
        Arc::clone(&self.read()[key].secret)
    }

    pub(crate) fn span(&self, key: usize) -> Span {
        self.read()[key].any
    }

    /// When the key may write: both spans must allow it.
    pub(crate) fn write_span(&self, key: usize) -> Span {
        let Key { any, write, .. } = self.read()[key];
        Span {
            from: any.from.max(write.from).filter(|_| any.from.is_some() && write.from.is_some()),
            ending: earlier(any.ending, write.ending),
            ended: earlier(any.ended, write.ended),
        }
    }

    /// A key that is valid as far as is known.
    fn good(&self, dice: &mut Dice) -> Option<(usize, KeyId, UserId)> {
        let keys = self.read();
        let good: Vec<_> = (0..keys.len())
            .filter(|key| keys[*key].any.from.is_some() && keys[*key].any.ending.is_none())
            .collect();
        let key = *good.get(dice.roll(good.len()))?;
        Some((key, keys[key].id.clone(), keys[key].owner.clone()))
    }

    fn good_count(&self) -> usize {
        self.read().iter().filter(|key| key.any.from.is_some() && key.any.ending.is_none()).count()
    }

    /// A valid key, or one of those that ended last.
    pub(crate) fn any(&self, dice: &mut Dice) -> usize {
        let len = self.len();
        let recent = len.min(2 * KEYS);
        len - 1 - dice.roll(recent)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self {
            secret: Arc::clone(&self.secret),
            id: self.id.clone(),
            owner: self.owner.clone(),
            any: self.any,
            write: self.write,
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

async fn new_member(store: &PostgresStore, name: &str) -> Result<UserId, Failure> {
    let user = UserId::new(name)?;
    store.set_member(ACCOUNT, &user, &Member::new(MemberRole::Full, [])).await?;
    Ok(user)
}

pub(crate) struct Changes {
    stop: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

impl Changes {
    pub(crate) async fn finish(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while self.workers.join_next().await.is_some() {}
    }
}

pub(crate) fn start(store: PostgresStore, keys: Arc<Keys>, history: Arc<History>, seed: u64) -> Changes {
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let worker = Worker {
            keyring: Keyring::new(store.clone()),
            store: store.clone(),
            keys: Arc::clone(&keys),
            history: Arc::clone(&history),
            name: format!("w{number}"),
        };
        let (stop, dice) = (Arc::clone(&stop), Dice(seed.wrapping_mul(31).wrapping_add(number)));
        workers.spawn(worker.run(dice, stop));
    }
    Changes { stop, workers }
}

struct Worker {
    keyring: Keyring,
    store: PostgresStore,
    keys: Arc<Keys>,
    history: Arc<History>,
    name: String,
}

impl Worker {
    async fn run(self, mut dice: Dice, stop: Arc<AtomicBool>) {
        let mut number = 0;
        while !stop.load(Ordering::SeqCst) {
            number += 1;
            let made = if self.keys.good_count() < KEYS {
                match dice.roll(2) {
                    0 => self.issue(number).await,
                    _ => self.import(number).await,
                }
            } else {
                match dice.roll(5) {
                    0 | 1 => self.rotate(&mut dice).await,
                    2 => self.demote(&mut dice).await,
                    _ => self.end_one(&mut dice).await,
                }
            };
            if made.is_err() {
                self.history.changed("issue", None);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_millis(dice.roll(30) as u64)).await;
        }
    }

    async fn issue(&self, number: u64) -> Result<(), Failure> {
        let owner = new_member(&self.store, &format!("{}-{number}", self.name)).await?;
        let began = Instant::now();
        let issued = self.keyring.issue(NewKey::user_level(owner, "issued")).await?;
        self.history.changed("issue", Some(began.elapsed()));
        self.keys.add(issued, Some(Instant::now()));
        Ok(())
    }

    /// Imports a key that was already tried and refused (C8-02).
    async fn import(&self, number: u64) -> Result<(), Failure> {
        let owner = new_member(&self.store, &format!("{}-{number}", self.name)).await?;
        let secret = KeyFormat::default().generate(Environment::Live)?;
        let id = KeyId::new(format!("key_{}-{number}", self.name))?;
        let record = KeyRecord::new(id.clone(), secret.digest(), owner.clone(), now());
        let key = self.keys.add_parts(secret, id, owner, None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        self.store
            .insert(
                record,
                &Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: NonZero::new(10).unwrap() }),
            )
            .await?;
        self.history.changed("import of a key that was refused before", Some(began.elapsed()));
        let from = Some(Instant::now());
        self.keys.edit(key, |key| (key.any.from, key.write.from) = (from, from));
        Ok(())
    }

    async fn rotate(&self, dice: &mut Dice) -> Result<(), Failure> {
        let Some((key, id, _)) = self.take(dice) else { return Ok(()) };
        let began = Instant::now();
        let rotated = self.keyring.rotate(&id, Grace::None).await;
        let returned = Instant::now();
        match rotated {
            Ok(issued) => {
                self.history.changed("rotate", Some(began.elapsed()));
                // What the owner lost meanwhile, the new key loses too.
                let mut write = Span::default();
                self.keys.edit(key, |key| {
                    key.any.ended = Some(returned);
                    write = key.write;
                });
                let successor = self.keys.add(issued, Some(returned));
                self.keys
                    .edit(successor, |key| (key.write.ending, key.write.ended) = (write.ending, write.ended));
            }
            Err(_) => {
                // It is unknown whether the rotation was made. The old key must end in any case.
                self.history.changed("rotate", None);
                self.end(key, End::Revoke(id)).await;
            }
        }
        Ok(())
    }

    async fn demote(&self, dice: &mut Dice) -> Result<(), Failure> {
        let Some((key, _, owner)) = self.keys.good(dice) else { return Ok(()) };
        let mut taken = false;
        self.keys.edit(key, |key| {
            taken = key.write.ending.is_none();
            key.write.ending.get_or_insert_with(Instant::now);
        });
        if taken {
            let returned = self.insist(&End::Demote(owner)).await;
            self.keys.edit(key, |key| key.write.ended = Some(returned));
        }
        Ok(())
    }

    async fn end_one(&self, dice: &mut Dice) -> Result<(), Failure> {
        let Some((key, id, owner)) = self.take(dice) else { return Ok(()) };
        let end = match dice.roll(3) {
            0 => End::Revoke(id),
            1 => End::Restrict(id),
            _ => End::Remove(owner),
        };
        self.end(key, end).await;
        Ok(())
    }

    /// Takes a valid key that no other worker is about to end.
    fn take(&self, dice: &mut Dice) -> Option<(usize, KeyId, UserId)> {
        let (key, id, owner) = self.keys.good(dice)?;
        let mut taken = false;
        self.keys.edit(key, |key| {
            taken = key.any.ending.is_none();
            key.any.ending.get_or_insert_with(Instant::now);
        });
        taken.then_some((key, id, owner))
    }

    async fn end(&self, key: usize, end: End) {
        let returned = self.insist(&end).await;
        self.keys.edit(key, |key| key.any.ended = Some(returned));
    }

    /// Repeats a change until it succeeds; returns when that was.
    async fn insist(&self, end: &End) -> Instant {
        loop {
            let began = Instant::now();
            match self.make(end).await {
                Ok(()) => {
                    let returned = Instant::now();
                    self.history.changed(end.name(), Some(returned - began));
                    return returned;
                }
                Err(_) => self.history.changed(end.name(), None),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn make(&self, end: &End) -> Result<(), Failure> {
        match end {
            End::Revoke(id) => self.keyring.revoke(id).await?,
            End::Restrict(id) => {
                let nobody = Restrictions::none().ip(IpRestriction::allow([""; 0])?);
                self.keyring.restrict(id, &nobody).await?;
            }
            End::Remove(owner) => match self.store.remove_member(ACCOUNT, owner, now()).await {
                // The first attempt had succeeded.
                Err(RegistryError::NotFound) => {}
                other => other?,
            },
            End::Demote(owner) => {
                self.store.set_member(ACCOUNT, owner, &Member::new(MemberRole::ReadOnly, [])).await?;
            }
        }
        Ok(())
    }
}

/// A change that takes access away, and may be repeated.
enum End {
    Revoke(KeyId),
    Restrict(KeyId),
    Remove(UserId),
    Demote(UserId),
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Revoke(_) => "revoke",
            Self::Restrict(_) => "restrict to nobody",
            Self::Remove(_) => "remove the member",
            Self::Demote(_) => "demote the member",
        }
    }
}

fn now() -> tower_api_key::Timestamp {
    tower_api_key::Clock::now(&SystemClock)
}
