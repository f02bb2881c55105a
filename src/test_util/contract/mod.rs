//! What every store promises, as tests of anybody's store.
//!
//! A store's own test module is a few lines:
//!
//! ```
//! use tower_api_key::MemoryStore;
//! use tower_api_key::test_util::contract;
//!
//! #[tokio::main]
//! async fn main() {
//!     contract::key_store_and_ledger(async || MemoryStore::new()).await;
//!     contract::accounts(async || MemoryStore::new()).await;
//! }
//! ```
//!
//! Each check asks for a store of its own. It may be empty, or one more handle to a database that other checks, and
//! earlier runs, have used: no two checks use the same ids.
//!
//! The functions panic where a promise is broken, and say which. They need a Tokio runtime, because they let tasks race;
//! one with several threads finds more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by panicking"
)]

mod access;
mod authority;
mod life;
mod list;
mod people;
mod policy;
mod rehash;
mod restrict;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, Environment, KeyDigest, KeyId, ProjectId, UserId};
use crate::record::{FreshKey, KeyLevel, KeyRecord};
use crate::store::{Accounts, Directory, KeyLedger, KeyPolicy, KeyStore, Member, MemberRole, Project, Terms};

/// Checks [`KeyStore`] and [`KeyLedger`]: exact look-up, policies, rotation, revocation, who may change what,
/// restrictions, lists, and races of each; where a ledger keeps them, the trail of each key and its usage.
///
/// # Panics
///
/// If the store breaks a promise of these traits.
pub async fn key_store_and_ledger<S: KeyStore + KeyLedger>(make: impl AsyncFn() -> S) {
    let store = async || Arc::new(make().await);
    life::records_come_back_as_they_went_in(&store().await).await;
    life::a_request_is_told_enough_of_what_has_ended(&store().await).await;
    life::an_end_says_whether_its_family_ended(&store().await).await;
    life::look_up_is_exact(&store().await).await;
    life::ids_and_digests_are_taken_once(&store().await).await;
    life::contradictions_are_refused(&store().await).await;
    life::revocation_is_final(&store().await).await;
    life::a_replaced_key_is_dead_when_the_call_returns(&store().await).await;
    life::grace_never_outlives_the_old_end(&store().await).await;
    life::what_has_ended_is_not_replaced(&store().await).await;
    life::a_failed_replacement_changes_nothing(&store().await).await;
    life::of_racing_replacements_one_wins(&store().await).await;
    life::revocation_and_replacement_may_race(&store().await).await;
    restrict::restrictions_come_back_as_they_went_in(&store().await).await;
    restrict::restrictions_are_carried_over(&store().await).await;
    restrict::restrictions_are_replaced_whole(&store().await).await;
    restrict::what_has_ended_is_not_restricted(&store().await).await;
    restrict::what_is_too_long_is_not_added_and_does_not_become_so(&store().await).await;
    rehash::a_key_is_found_by_its_new_digest_alone(&store().await).await;
    rehash::what_is_not_as_it_was_is_not_rehashed(&store().await).await;
    rehash::of_racing_rehashes_one_wins(&store().await).await;
    policy::single_leaves_one_key(&store().await).await;
    policy::multiple_stops_at_the_most(&store().await).await;
    policy::ended_keys_are_imported_as_they_are(&store().await).await;
    policy::many_keys_are_added_like_one_by_one(&store().await).await;
    policy::racing_inserts_keep_to_the_policy(&store().await).await;
    authority::no_key_changes_anything_after_its_end(&store().await).await;
    authority::a_key_changes_only_what_it_covers(&store().await).await;
    authority::keys_of_others_are_unknown(&store().await).await;
    authority::a_policy_ends_only_what_the_maker_covers(&store().await).await;
    authority::a_key_that_is_revoked_meanwhile_makes_no_more(&store().await).await;
    authority::replacing_keeps_to_the_policy(&store().await).await;
    authority::changes_are_counted_save_those_that_narrow(&store().await).await;
    list::lists_are_ordered_and_paged(&store().await).await;
    list::pages_end_early_and_say_whether_there_is_more(&store().await).await;
    list::lists_are_filtered(&store().await).await;
    list::lists_of_active_keys_are_parts_of_lists_of_all(&store().await).await;
    list::lists_go_both_ways(&store().await).await;
    list::searches_look_at_so_many_keys(&store().await).await;
    list::owners_are_listed_once_and_in_pages(&store().await).await;
    trail::every_change_leaves_one_entry(&store().await).await;
    trail::what_a_policy_ends_is_told_so(&store().await).await;
    trail::why_a_key_was_revoked_is_told(&store().await).await;
    trail::many_keys_are_told_as_imported(&store().await).await;
    trail::what_fails_leaves_no_entry(&store().await).await;
    trail::usage_adds_up_and_never_goes_back(&store().await).await;
    trail::usage_touches_no_key(&store().await).await;
}

/// The terms of a change by the application itself.
fn by_system() -> Terms {
    Terms::by(Authority::System)
}

/// The same under a policy.
fn under(policy: KeyPolicy) -> Terms {
    by_system().policy(policy)
}

/// Checks [`Accounts`] and [`Directory`], and what removing a member does to keys; where the store keeps lists, these too.
///
/// # Panics
///
/// If the store breaks a promise of these traits.
pub async fn accounts<S: Accounts + Directory + KeyStore + KeyLedger>(make: impl AsyncFn() -> S) {
    let store = async || Arc::new(make().await);
    access::owners_may_do_everything_in_their_account(&store().await).await;
    access::members_may_do_what_they_were_given(&store().await).await;
    access::changes_are_seen_by_the_next_request(&store().await).await;
    access::projects_are_named_within_their_account(&store().await).await;
    access::ids_are_compared_byte_by_byte(&store().await).await;
    access::deleted_projects_never_come_back(&store().await).await;
    access::suspension_ends_everything_until_it_is_lifted(&store().await).await;
    people::accounts_are_made_once(&store().await).await;
    people::everybody_belongs_to_one_account(&store().await).await;
    people::members_take_no_keys_back(&store().await).await;
    people::accounts_are_transferred_whole(&store().await).await;
    people::what_is_not_there_is_not_changed(&store().await).await;
    people::people_and_projects_are_listed_in_pages(&store().await).await;
    authority::owners_are_looked_at(&store().await).await;
    authority::who_is_removed_meanwhile_keeps_no_key(&store().await).await;
    trail::who_is_removed_leaves_a_trail(&store().await).await;
}

/// The present of every check.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn later(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

/// Names that no other check has used, in this run or before, so that checks may share a database.
struct Names {
    run: String,
}

impl Names {
    fn new() -> Self {
        Self { run: KeyId::generate().unwrap().as_str().replace("key_", ".") }
    }

    fn text(&self, name: &str) -> String {
        format!("{name}{}", self.run)
    }

    /// With all that only ids of users may hold.
    fn user(&self, name: &str) -> UserId {
        UserId::new(format!("idp|{}+=", self.text(name))).unwrap()
    }

    fn id(&self, name: &str) -> KeyId {
        KeyId::new(self.text(name)).unwrap()
    }

    fn digest(&self, name: &str) -> KeyDigest {
        KeyDigest::of(&self.text(name))
    }

    /// A live key of a user, both by name.
    fn key(&self, name: &str, owner: &str) -> KeyRecord {
        KeyRecord {
            prefix: "sk_live_".into(),
            last4: "a1Z9".into(),
            name: name.into(),
            ..KeyRecord::new(self.id(name), self.digest(name), self.user(owner), NOW)
        }
    }

    fn fresh(&self, name: &str, created_at: Timestamp) -> FreshKey {
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

/// A key that has everything a key can have.
fn full(key: KeyRecord) -> KeyRecord {
    KeyRecord {
        level: KeyLevel::Project(project("p1").id),
        environment: Environment::Test,
        prefix: "acme_test_".into(),
        name: "naïve \u{202e} '; DROP TABLE keys; -- \0 \u{1f511}".into(),
        scopes: BTreeSet::from(["charges:read".into(), "\"quoted\\\"".into()]),
        metadata: BTreeMap::from([("".into(), "no name".into()), ("plan".into(), "\n\u{e9}\0".into())]),
        limits: Some("burst=12/min,200/30d".parse().unwrap()),
        family: KeyId::new("key_first").unwrap(),
        created_at: Timestamp::from_micros(1),
        expires_at: Some(Timestamp::from_micros(i64::MAX)),
        restrictions: restrict::all(),
        ..key
    }
}

fn project(id: &str) -> Project {
    Project::new(ProjectId::new(id).unwrap(), format!("The {id}"))
}

fn member<const N: usize>(role: MemberRole, projects: [&str; N]) -> Member {
    Member::new(role, projects.into_iter().map(|id| project(id).id))
}

/// Fails unless two records are the same in every field.
#[track_caller]
fn assert_same(one: &KeyRecord, other: &KeyRecord) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert!(one.digest.matches(&other.digest), "the digest of a record changed");
}

/// What a request finds; an answer that is at hand must be the same.
async fn find<S: KeyStore>(store: &S, digest: &KeyDigest) -> Option<KeyRecord> {
    let found = store.find(digest).await.expect("look-ups do not fail");
    if let Some(warm) = store.warm(digest) {
        assert_eq!(format!("{warm:?}"), format!("{found:?}"), "`warm` and `find` say different things");
    }
    found.map(Arc::unwrap_or_clone)
}

/// The record of a key that is there, which look-up by digest and by id must agree on.
async fn known<S: KeyStore + KeyLedger>(store: &S, key: &KeyRecord) -> KeyRecord {
    let found = find(store, &key.digest).await.expect("a key is found by its digest");
    let got = store.get(&key.id).await.unwrap().expect("a key is found by its id");
    assert_same(&found, &got);
    found
}

async fn is_active<S: KeyStore>(store: &S, digest: &KeyDigest, now: Timestamp) -> bool {
    find(store, digest).await.is_some_and(|key| key.is_active(now))
}

/// Runs as many attempts at once as the runtime can, and gives all their results.
async fn race<S, T, A>(store: &Arc<S>, attempts: usize, attempt: impl Fn(Arc<S>, usize) -> A) -> Vec<T>
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

/// Fails unless a result is the error that is due.
macro_rules! refused {
    ($result:expr, $error:pat, $promise:literal) => {
        match $result {
            Err($error) => {}
            other => panic!("{}, but the answer was {other:?}", $promise),
        }
    };
}
use refused;

/// Fails with the whole error, not only its message.
#[track_caller]
fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("a call that must succeed failed: {error:?}"))
}
