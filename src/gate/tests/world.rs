//! Stores whose answers a test sets, and which count their calls.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};

use crate::auth_error::{AuthError, AuthErrorKind};
use crate::clock::{Clock, Timestamp};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::{Admission, Gate};
use crate::key::{Environment, KeyDigest, KeyFormat, KeyId, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::role::AccountStatus;
use crate::store::CachedKey;
use crate::store::{Directory, KeyStore, StoreError};

const NOW_SECS: i64 = 1_700_000_000;
pub(super) const NOW: Timestamp = Timestamp::from_secs(NOW_SECS);

/// How a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    AtHand,
    WhenAsked,
    Never,
}

pub(super) struct World {
    pub(super) records: Mutex<Vec<Arc<KeyRecord>>>,
    pub(super) keys: Mutex<Answers>,
    pub(super) standing: Mutex<AccountStatus>,
    pub(super) directory: Mutex<Answers>,
    pub(super) warm_keys: AtomicUsize,
    pub(super) found: Mutex<Vec<KeyDigest>>,
    pub(super) warm_standings: AtomicUsize,
    pub(super) standings: AtomicUsize,
    pub(super) asked_about: Mutex<Option<(UserId, Option<ProjectId>)>>,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            keys: Mutex::new(Answers::WhenAsked),
            standing: Mutex::new(AccountStatus::Active { role: Some(crate::role::Role::Full) }),
            directory: Mutex::new(Answers::AtHand),
            warm_keys: AtomicUsize::default(),
            found: Mutex::default(),
            warm_standings: AtomicUsize::default(),
            standings: AtomicUsize::default(),
            asked_about: Mutex::default(),
        })
    }

    pub(super) fn forget(&self) {
        self.warm_keys.store(0, Ordering::Relaxed);
        self.warm_standings.store(0, Ordering::Relaxed);
        self.standings.store(0, Ordering::Relaxed);
        self.found.lock().unwrap().clear();
        *self.asked_about.lock().unwrap() = None;
    }

    pub(super) fn holds(&self, record: Arc<KeyRecord>) {
        self.records.lock().unwrap().push(record);
    }

    fn find(&self, digest: &KeyDigest) -> Option<Arc<KeyRecord>> {
        self.records.lock().unwrap().iter().find(|record| record.digest.matches(digest)).cloned()
    }
}

pub(super) struct Shared(pub(super) Arc<World>);

#[async_trait]
impl KeyStore for Shared {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.found.lock().unwrap().push(*digest);
        match *self.0.keys.lock().unwrap() {
            Answers::Never => Err(StoreError::failed("silent")),
            Answers::AtHand | Answers::WhenAsked => Ok(self.0.find(digest)),
        }
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        self.0.warm_keys.fetch_add(1, Ordering::Relaxed);
        if *self.0.keys.lock().unwrap() == Answers::AtHand {
            self.0.find(digest).into()
        } else {
            CachedKey::Miss
        }
    }
}

#[async_trait]
impl Directory for Shared {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.0.standings.fetch_add(1, Ordering::Relaxed);
        *self.0.asked_about.lock().unwrap() = Some((user.clone(), project.cloned()));
        match *self.0.directory.lock().unwrap() {
            Answers::Never => Err(StoreError::failed("silent")),
            Answers::AtHand | Answers::WhenAsked => Ok(*self.0.standing.lock().unwrap()),
        }
    }

    fn account_status_cached(&self, user: &UserId, project: Option<&ProjectId>) -> Option<AccountStatus> {
        self.0.warm_standings.fetch_add(1, Ordering::Relaxed);
        if *self.0.directory.lock().unwrap() != Answers::AtHand {
            return None;
        }
        *self.0.asked_about.lock().unwrap() = Some((user.clone(), project.cloned()));
        Some(*self.0.standing.lock().unwrap())
    }
}

/// A clock that is set by hand.
pub(super) struct Hand(pub(super) AtomicI64);

impl Hand {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(NOW_SECS)))
    }

    pub(super) fn advance(&self, secs: i64) {
        self.0.fetch_add(secs, Ordering::Relaxed);
    }
}

pub(super) struct Hands(pub(super) Arc<Hand>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.0.0.load(Ordering::Relaxed))
    }
}

pub(super) fn gate(world: &Arc<World>, clock: &Arc<Hand>) -> Gate {
    let mut gate = Gate::new(Arc::new(Shared(Arc::clone(world))), &crate::settings::Settings::default());
    gate.rules.clock = Arc::new(Hands(Arc::clone(clock)));
    gate
}

/// The text of a new key.
pub(super) fn text(environment: Environment) -> String {
    KeyFormat::default().generate(environment).unwrap().expose_secret().to_owned()
}

pub(super) fn record(text: &str, environment: Environment) -> KeyRecord {
    let mut record = KeyRecord::new(
        KeyId::new("key_1").unwrap(),
        KeyDigest::of(text),
        UserId::new("alice").unwrap(),
        Timestamp::from_secs(1_600_000_000),
    );
    record.environment = environment;
    record.prefix = KeyFormat::default().prefix(environment).to_owned();
    record
}

/// Runs a future that waits only for the stores of this file. The runtime has a timer, because stores have
/// deadlines.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Decides as the layer does: from cached facts, and then by asking the stores.
pub(super) async fn decide<'f>(
    gate: &Gate,
    credentials: &Credentials<'_>,
    endpoint: Endpoint,
    facts: impl Fn() -> RequestContext<'f>,
) -> Result<Admission, AuthError> {
    match gate.now(credentials, endpoint, &facts)? {
        Ok(admission) => Ok(admission),
        Err(paused) => gate.asking(paused, credentials, &facts).await,
    }
}

pub(super) fn refused(result: Result<Admission, AuthError>) -> Option<AuthErrorKind> {
    result.err().map(|error| error.kind())
}

pub(super) const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
