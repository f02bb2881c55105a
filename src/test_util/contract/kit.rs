//! What the checks share: unique names, records, and look-ups.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::AuditEntry;
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, KeyDigest, KeyId, ProjectId, UserId};
use crate::record::{FreshKey, KeyRecord};
use crate::store::{KeyPolicy, KeyRegistry, KeyStore, Member, MemberRole, Project, StoreError, Terms};
use crate::usage::Usage;

/// The terms of a change by the application itself.
pub(super) fn by_system() -> Terms {
    Terms::by(Authority::System)
}

/// The same, under a policy.
pub(super) fn under(policy: KeyPolicy) -> Terms {
    by_system().policy(policy)
}

/// The current time of every check.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

pub(super) fn later(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

/// Names that no other check has used, in this run or before, so that checks may share a database.
pub(super) struct UniqueNames {
    run: String,
}

impl UniqueNames {
    pub(super) fn new() -> Self {
        Self { run: KeyId::generate().unwrap().as_str().replace("key_", ".") }
    }

    pub(super) fn text(&self, name: &str) -> String {
        format!("{name}{}", self.run)
    }

    /// A user id with all the characters that only user ids may contain.
    pub(super) fn user(&self, name: &str) -> UserId {
        UserId::new(format!("idp|{}+=", self.text(name))).unwrap()
    }

    pub(super) fn id(&self, name: &str) -> KeyId {
        KeyId::new(self.text(name)).unwrap()
    }

    pub(super) fn digest(&self, name: &str) -> KeyDigest {
        KeyDigest::of(&self.text(name))
    }

    /// A live key of a user, both by name.
    pub(super) fn key(&self, name: &str, owner: &str) -> KeyRecord {
        KeyRecord {
            prefix: "sk_live_".into(),
            last4: "a1Z9".into(),
            name: name.into(),
            ..KeyRecord::new(self.id(name), self.digest(name), self.user(owner), NOW)
        }
    }

    pub(super) fn fresh(&self, name: &str, created_at: Timestamp) -> FreshKey {
        FreshKey {
            digested_by: DigestMethod::default(),
            id: self.id(name),
            digest: self.digest(name),
            prefix: "sk_live_".into(),
            last4: "b2Y8".into(),
            created_at,
        }
    }
}

pub(super) fn project(id: &str) -> Project {
    Project::new(ProjectId::new(id).unwrap(), format!("The {id}"))
}

pub(super) fn member<const N: usize>(role: MemberRole, projects: [&str; N]) -> Member {
    Member::new(role, projects.into_iter().map(|id| project(id).id))
}

/// Fails unless two records are the same in every field.
#[track_caller]
pub(super) fn assert_same(one: &KeyRecord, other: &KeyRecord) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert!(one.digest.matches(&other.digest), "the digest of a record changed");
}

/// Looks a key up as a request does. A cached answer must be the same.
pub(super) async fn find<S: KeyStore>(store: &S, digest: &KeyDigest) -> Option<KeyRecord> {
    let found = store.find(digest).await.expect("look-ups do not fail");
    if let Some(warm) = store.find_cached(digest).known() {
        assert_eq!(format!("{warm:?}"), format!("{found:?}"), "`find_cached` and `find` disagree");
    }
    found.map(Arc::unwrap_or_clone)
}

/// Returns the record of an existing key. Look-ups by digest and by id must agree.
pub(super) async fn known<S: KeyStore + KeyRegistry>(store: &S, key: &KeyRecord) -> KeyRecord {
    let found = find(store, &key.digest).await.expect("a key is found by its digest");
    let got = store.get(&key.id).await.unwrap().expect("a key is found by its id");
    assert_same(&found, &got);
    found
}

pub(super) async fn is_active<S: KeyStore>(store: &S, digest: &KeyDigest, now: Timestamp) -> bool {
    find(store, digest).await.is_some_and(|key| key.is_active(now))
}

/// Runs attempts concurrently, and returns all their results.
pub(super) async fn race<S, T, A>(
    store: &Arc<S>,
    attempts: usize,
    attempt: impl Fn(Arc<S>, usize) -> A,
) -> Vec<T>
where
    T: Send + 'static,
    A: Future<Output = T> + Send + 'static,
{
    let started: Vec<_> =
        (0..attempts).map(|number| tokio::spawn(attempt(Arc::clone(store), number))).collect();
    let mut results = Vec::with_capacity(attempts);
    for task in started {
        results.push(task.await.expect("no attempt panics"));
    }
    results
}

/// Fails unless a result is the expected error.
macro_rules! refused {
    ($result:expr, $error:pat, $promise:literal) => {
        match $result {
            Err($error) => {}
            other => panic!("{}, but the answer was {other:?}", $promise),
        }
    };
}
pub(super) use refused;

/// Fails with the whole error, not only its message.
#[track_caller]
pub(super) fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("a call that must succeed failed: {error:?}"))
}

/// Returns the audit log of a key, if the registry keeps one.
pub(super) async fn history<S: KeyRegistry>(
    store: &S,
    id: &KeyId,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    store.audit_log().ok_or(StoreError::NotKept)?.history(id, limit).await
}

pub(super) async fn record_usage<S: KeyRegistry>(store: &S, batch: &[Usage]) -> Result<(), StoreError> {
    store.usage_log().ok_or(StoreError::NotKept)?.record_usage(batch).await
}

pub(super) async fn usage<S: KeyRegistry>(store: &S, keys: &[KeyId]) -> Result<Vec<Usage>, StoreError> {
    store.usage_log().ok_or(StoreError::NotKept)?.usage(keys).await
}

pub(super) async fn owners<S: KeyRegistry>(
    store: &S,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<UserId>, StoreError> {
    store.inventory().ok_or(StoreError::NotKept)?.owners(after, limit).await
}
