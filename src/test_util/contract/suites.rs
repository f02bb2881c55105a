//! The suites: which checks each of them makes.

use std::sync::Arc;

use super::{access, alone, audit_log, authority, life, list, people, policy, rehash, replacement, restrict};
use crate::key::{ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::Role;
use crate::store::{Accounts, Directory, KeyRegistry, KeyStore, ProjectDirectory};

/// Checks a [`KeyStore`] alone, over the application's own storage: look-ups are exact, and a key is found with
/// everything that the decision about a request needs. A key that has ended may be found or not.
///
/// `put` writes a record into the storage of `store`, and returns whether the storage supports such a key. For
/// example, an application without project-level keys returns `false` for these, and they are not checked. A
/// user-level live key without expiry, scopes, restrictions and limits must be supported. It is an error if `put`
/// returns `true` and a part of the record is lost, because a key without its restrictions gives too much access.
///
/// ```
/// # use std::collections::HashMap;
/// # use std::sync::{Arc, Mutex};
/// use tower_api_key::store::{KeyStore, StoreError};
/// use tower_api_key::test_util::contract;
/// use tower_api_key::{KeyDigest, KeyRecord};
///
/// #[derive(Default)]
/// struct Keys(Mutex<HashMap<[u8; 32], Arc<KeyRecord>>>);
///
/// #[async_trait::async_trait]
/// impl KeyStore for Keys {
///     async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
///         Ok(self.0.lock().unwrap().get(digest.as_bytes()).cloned())
///     }
/// }
///
/// #[tokio::main]
/// async fn main() {
///     contract::key_store(async || Keys::default(), async |keys: &Keys, record: KeyRecord| {
///         keys.0.lock().unwrap().insert(*record.digest.as_bytes(), Arc::new(record));
///         true
///     })
///     .await;
/// }
/// ```
///
/// # Panics
///
/// If the store breaks a guarantee of the trait.
pub async fn key_store<S: KeyStore>(make: impl AsyncFn() -> S, put: impl AsyncFn(&S, KeyRecord) -> bool) {
    alone::keys_are_found_as_they_were_put(&make().await, &put).await;
    alone::only_the_whole_digest_finds_a_key(&make().await, &put).await;
}

/// Checks a [`Directory`] alone, over the application's own storage: users may do exactly what they were given, ids
/// are compared byte by byte, and a user who was removed may do nothing from the next look-up on.
///
/// `put` adds a new user with this role, in their own or another's account, and these new projects. It returns
/// whether the directory supports such people: for example, one without read-only members returns `false` for
/// these. `remove` removes a user with the role [`Role::Full`] or [`Role::ReadOnly`].
///
/// # Panics
///
/// If the directory breaks a guarantee of the trait.
pub async fn directory<S: Directory>(
    make: impl AsyncFn() -> S,
    put: impl AsyncFn(&S, &UserId, Role, &[ProjectId]) -> bool,
    remove: impl AsyncFn(&S, &UserId),
) {
    let store = async || Arc::new(make().await);
    alone::people_may_do_what_they_were_given(&store().await, &put).await;
    alone::who_is_removed_may_nothing(&store().await, &put, &remove).await;
}

/// Checks [`KeyStore`] and [`KeyRegistry`]: exact look-ups, policies, rotation, revocation, who may change what,
/// restrictions, lists, and concurrent calls of each; and, if the registry keeps them, the audit log and the usage
/// of each key.
///
/// # Panics
///
/// If the store breaks a promise of these traits.
pub async fn key_store_and_registry<S: KeyStore + KeyRegistry>(make: impl AsyncFn() -> S) {
    let store = async || Arc::new(make().await);
    life::records_come_back_as_they_went_in(&store().await).await;
    life::a_request_is_told_enough_of_what_has_ended(&store().await).await;
    life::an_end_says_whether_its_family_ended(&store().await).await;
    life::look_up_is_exact(&store().await).await;
    life::ids_and_digests_are_taken_once(&store().await).await;
    life::contradictions_are_refused(&store().await).await;
    life::revocation_is_final(&store().await).await;
    replacement::a_replaced_key_is_dead_when_the_call_returns(&store().await).await;
    replacement::grace_never_outlives_the_old_end(&store().await).await;
    replacement::what_has_ended_is_not_replaced(&store().await).await;
    replacement::a_failed_replacement_changes_nothing(&store().await).await;
    replacement::of_racing_replacements_one_wins(&store().await).await;
    replacement::revocation_and_replacement_may_race(&store().await).await;
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
    audit_log::every_change_leaves_one_entry(&store().await).await;
    audit_log::what_a_policy_ends_is_told_so(&store().await).await;
    audit_log::why_a_key_was_revoked_is_told(&store().await).await;
    audit_log::many_keys_are_told_as_imported(&store().await).await;
    audit_log::what_fails_leaves_no_entry(&store().await).await;
    audit_log::usage_adds_up_and_never_goes_back(&store().await).await;
    audit_log::usage_touches_no_key(&store().await).await;
}

/// Checks [`Accounts`] and [`Directory`], and what removing a member does to keys; and, if the store has them,
/// lists.
///
/// # Panics
///
/// If the store breaks a promise of these traits.
pub async fn accounts<S: Accounts + Directory + ProjectDirectory + KeyStore + KeyRegistry>(
    make: impl AsyncFn() -> S,
) {
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
    audit_log::who_is_removed_leaves_a_trail(&store().await).await;
}
