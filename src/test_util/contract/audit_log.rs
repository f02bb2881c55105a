//! The audit log and the usage of keys, if the store keeps them.

use std::num::NonZero;
use std::sync::Arc;

use super::kit::{
    NOW, UniqueNames, assert_same, by_system, history, is_active, known, later, member, ok, project, race,
    record_usage, refused, under, usage,
};
use crate::audit::{AuditEntry, KeyEvent, Revocation};
use crate::authority::Authority;
use crate::clock::Timestamp;
use crate::key::{DigestMethod, Environment, KeyDigest, KeyId, UserId};
use crate::key_update::KeyUpdate;
use crate::record::KeyRecord;
use crate::store::{
    Accounts, Directory, KeyPolicy, KeyRegistry, KeyStore, MemberRole, RegistryError, StoreError, Terms,
};
use crate::usage::{Usage, UsageChannel};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

/// Entries are returned newest first. The entries that one call writes about one key are in the order of
/// [`KeyEvent::of_replaced`].
pub(super) async fn every_change_leaves_one_entry<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_a_trail(store, &names).await {
        return;
    }
    let alice = Authority::User(names.user("u"));
    let (key, other) = (names.key("key", "u"), names.key("other", "u"));
    for key in [&key, &other] {
        ok(store.insert(key.clone(), &Terms::by(alice.clone())).await);
    }
    let update = KeyUpdate::new().name("another").limits(None);
    ok(store.update(&key.id, &update, later(1), &Terms::by(Authority::Operator)).await);
    let to = KeyDigest::of(&names.text("to"));
    ok(store.rehash(&key.id, &key.digest, &to, &DigestMethod::Sha512, later(2)).await);
    let by_key = Authority::Key(other.id.clone());
    let next =
        ok(store.replace(&key.id, names.fresh("next", later(3)), later(9), &Terms::by(by_key.clone())).await);
    // A second call changes nothing, and leaves no entry.
    for (seconds, by, ends) in [(4, &alice, true), (5, &Authority::System, false)] {
        assert_eq!(ok(store.revoke(&key.id, later(seconds), &Terms::by(by.clone())).await), ends);
    }
    let last = ok(store
        .replace(&next.id, names.fresh("last", later(6)), later(6), &Terms::by(by_key.clone()))
        .await);

    let by = [alice.to_string(), by_key.to_string()];
    let told = [
        (4, &*by[0], "revoked:by_hand".to_owned()),
        (3, &*by[1], format!("replaced_by:{}", next.id)),
        (2, "system", "rehashed:sha512".to_owned()),
        (1, "operator", "amended:name,limits".to_owned()),
        (0, &*by[0], "issued".to_owned()),
    ];
    assert_told(store, &key, &told).await;
    let told = [
        (6, &*by[1], "revoked:replaced".to_owned()),
        (6, &*by[1], format!("replaced_by:{}", last.id)),
        (3, &*by[1], format!("replaces:{}", key.id)),
    ];
    assert_told(store, &next, &told).await;
    assert_told(store, &last, &[(6, &*by[1], format!("replaces:{}", next.id))]).await;
    // An update that changes nothing leaves no entry either.
    for nothing in [KeyUpdate::new(), KeyUpdate::new().name(&*other.name).limits(other.limits.clone())] {
        let updated = ok(store.update(&other.id, &nothing, later(7), &by_system()).await);
        assert!(!updated.changed, "a change that changes nothing says that it changed something");
        assert_same(&updated.key, &other);
    }
    assert_told(store, &other, &[(0, &*by[0], "issued".to_owned())]).await;

    let newest: Vec<_> = ok(history(store, &key.id, 2).await).into_iter().map(|entry| entry.event).collect();
    assert_eq!(
        newest,
        [told_event("revoked:by_hand"), KeyEvent::ReplacedBy(next.id)],
        "two are the newest two"
    );
    assert!(ok(history(store, &key.id, 0).await).is_empty());
}

pub(super) async fn what_a_policy_ends_is_told_so<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_a_trail(store, &names).await {
        return;
    }
    let imported = KeyRecord { prefix: String::new(), last4: String::new(), ..names.key("imported", "u") };
    let ended = KeyRecord { revoked_at: Some(later(0)), ..names.key("ended", "u") };
    let elsewhere = [
        names.key("elsewhere", "U"),
        KeyRecord { environment: Environment::Test, prefix: "sk_test_".into(), ..names.key("of-test", "u") },
    ];
    for key in [&imported, &ended].into_iter().chain(&elsewhere) {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    let mut only = names.key("only", "u");
    only.created_at = later(7);
    ok(store
        .insert(only.clone(), &Terms::by(Authority::Operator).policy(KeyPolicy::Single { grace: false }))
        .await);
    let told = [(7, "operator", "revoked:superseded".to_owned()), (0, "system", "imported".to_owned())];
    assert_told(store, &imported, &told).await;
    assert_told(store, &ended, &[(0, "system", "imported".to_owned())]).await;
    assert_told(store, &only, &[(7, "operator", "issued".to_owned())]).await;
    for key in &elsewhere {
        assert_told(store, key, &[(0, "system", "issued".to_owned())]).await;
    }
    // With a grace period, all keys end except for the replaced one, which gets no entry of an end.
    let spare = names.key("spare", "u");
    ok(store.insert(spare.clone(), &under(MANY)).await);
    let grace = Terms::by(Authority::Operator).policy(KeyPolicy::Single { grace: true });
    let next = ok(store.replace(&only.id, names.fresh("next", later(8)), later(60), &grace).await);
    let issued = (0, "system", "issued".to_owned());
    assert_told(store, &spare, &[(8, "operator", "revoked:superseded".to_owned()), issued]).await;
    let replaced = (8, "operator", format!("replaced_by:{}", next.id));
    assert_told(store, &only, &[replaced, (7, "operator", "issued".to_owned())]).await;
    assert!(is_active(store, &only.digest, later(59)).await, "a key in its grace was ended");
}

/// The audit log contains why a key was revoked, for the first revocation only.
pub(super) async fn why_a_key_was_revoked_is_told<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_a_trail(store, &names).await {
        return;
    }
    for why in [Revocation::ByHand, Revocation::BySecret, Revocation::Leaked] {
        let key = names.key(why.as_str(), "u");
        ok(store.insert(key.clone(), &under(MANY)).await);
        ok(store.end(&key.id, why, later(1), &Terms::by(Authority::Operator)).await);
        ok(store.end(&key.id, Revocation::Leaked, later(2), &by_system()).await);
        ok(store.revoke(&key.id, later(3), &by_system()).await);
        assert!(!is_active(store, &key.digest, later(1)).await, "a key is revoked whatever the reason");
        let revoked = (1, "operator", format!("revoked:{}", why.as_str()));
        assert_told(store, &key, &[revoked, (0, "system", "issued".to_owned())]).await;
    }
    let unknown = store.end(&names.id("unknown"), Revocation::Leaked, NOW, &by_system()).await;
    refused!(unknown, RegistryError::NotFound, "a key that is not there is not revoked");
}

/// Keys that are added by [`KeyRegistry::insert_all`] are recorded as imported, even if they have the shape of our
/// own.
pub(super) async fn many_keys_are_told_as_imported<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_a_trail(store, &names).await {
        return;
    }
    let (own, ended) =
        (names.key("own", "u"), KeyRecord { revoked_at: Some(NOW), ..names.key("ended", "u") });
    let foreign = KeyRecord { prefix: String::new(), last4: String::new(), ..names.key("foreign", "u") };
    let keys = vec![own.clone(), ended.clone(), own.clone(), foreign.clone()];
    let answers = ok(store.insert_all(keys, &Terms::by(Authority::Operator).policy(MANY)).await);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    for key in [&own, &ended, &foreign] {
        assert_told(store, key, &[(0, "operator", "imported".to_owned())]).await;
    }
}

pub(super) async fn what_fails_leaves_no_entry<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_a_trail(store, &names).await {
        return;
    }
    let (key, by) = (names.key("key", "u"), &by_system());
    ok(store.insert(key.clone(), by).await);
    let full = KeyPolicy::Multiple { max: NonZero::new(1).unwrap() };
    let refused = store.insert(names.key("more", "u"), &under(full)).await;
    refused!(refused, RegistryError::TooManyKeys, "one is the most");
    refused!(
        store.insert(key.clone(), &under(KeyPolicy::Single { grace: false })).await,
        RegistryError::Conflict,
        "an id is taken once"
    );
    let same = names.fresh("key", NOW);
    refused!(store.replace(&key.id, same, NOW, by).await, RegistryError::Conflict, "an id is taken once");
    let (from, method) = (KeyDigest::of("another"), DigestMethod::Sha512);
    let moved = store.rehash(&key.id, &from, &from, &method, NOW).await;
    refused!(moved, RegistryError::Conflict, "a key with another digest is not rehashed");
    assert_told(store, &key, &[(0, "system", "issued".to_owned())]).await;
    assert!(
        ok(history(store, &names.id("more"), 9).await).is_empty(),
        "of a key that is not there is no entry"
    );
}

/// The removal of a member is in the audit log of each of the member's keys.
pub(super) async fn who_is_removed_leaves_a_trail<S: Accounts + Directory + KeyStore + KeyRegistry>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_a_trail(store, &names).await {
        return;
    }
    let (account, bob) = (names.text("a"), names.user("bob"));
    ok(store.create_account(&account, &names.user("alice")).await);
    ok(store.create_project(&account, &project("p1")).await);
    ok(store.set_member(&account, &bob, &member(MemberRole::Full, ["p1"])).await);
    let (key, gone, alices) =
        (names.key("key", "bob"), names.key("gone", "bob"), names.key("alices", "alice"));
    for key in [&key, &gone, &alices] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    ok(store.revoke(&gone.id, later(1), &Terms::by(Authority::Operator)).await);
    ok(store.remove_member(&account, &bob, later(2)).await);
    let issued = (0, "system", "issued".to_owned());
    assert_told(store, &key, &[(2, "system", "revoked:member_removed".to_owned()), issued.clone()]).await;
    assert_told(store, &gone, &[(1, "operator", "revoked:by_hand".to_owned()), issued.clone()]).await;
    assert_told(store, &alices, &[issued]).await;
}

pub(super) async fn usage_adds_up_and_never_goes_back<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !keeps_usage(store, &names).await {
        return;
    }
    let (key, other, unused) = (names.key("a", "u"), names.key("b", "u"), names.key("c", "u"));
    for key in [&key, &other, &unused] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    let scheme = |name: &'static str| UsageChannel::Scheme(name.into());
    let used = |key: &KeyRecord, through, at, count| Usage::new(key.id.clone(), through, later(at), count);
    ok(record_usage(store, &[]).await);
    ok(record_usage(store, &[used(&key, scheme("bearer"), 5, 3), used(&other, UsageChannel::Direct, 5, 1)])
        .await);
    // A flush that comes late, with one key twice in a batch.
    let late = [
        used(&key, scheme("bearer"), 2, 10),
        used(&key, scheme("body"), 1, 1),
        used(&key, scheme("body"), 9, 1),
        used(&key, UsageChannel::Observed("ip".into()), 4, 2),
        used(&key, scheme("body"), 3, 1),
        used(&other, UsageChannel::Direct, i64::MAX.unsigned_abs(), u64::MAX),
    ];
    ok(record_usage(store, &late).await);

    let of_key = [
        used(&key, UsageChannel::Observed("ip".into()), 4, 2),
        used(&key, scheme("bearer"), 5, 13),
        used(&key, scheme("body"), 9, 3),
    ];
    assert_eq!(ok(usage(store, std::slice::from_ref(&key.id)).await), of_key);
    let page = [&other.id, &names.id("nobody"), &key.id, &unused.id, &other.id].map(Clone::clone);
    let of_page = ok(usage(store, &page).await);
    let (first, last) = of_page.split_at(of_key.len());
    assert_eq!(first, of_key, "a page is in the order of the ids");
    let [of_other] = last else { panic!("of a key that was used one way there are {} entries", last.len()) };
    assert!(of_other.count > 1 && of_other.last == Timestamp::from_micros(i64::MAX), "{of_other:?}");
    assert!(ok(usage(store, &[]).await).is_empty());
}

/// C9-16: usage is written during and after a revocation. The key stays revoked, and nothing else of it changes.
pub(super) async fn usage_touches_no_key<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    if !keeps_usage(&**store, &names).await {
        return;
    }
    let key = names.key("key", "u");
    ok(store.insert(key.clone(), &under(MANY)).await);
    let id = key.id.clone();
    let attempts = race(store, 16, move |store, number| {
        let id = id.clone();
        async move {
            if number == 8 {
                return store.revoke(&id, later(1), &by_system()).await;
            }
            let used = Usage::new(id, UsageChannel::Direct, later(number as u64), 1);
            record_usage(&store, &[used]).await?;
            Ok(false)
        }
    });
    attempts.await.into_iter().map(ok).for_each(drop);
    ok(record_usage(store, &[Usage::new(key.id.clone(), UsageChannel::Direct, later(99), 1)]).await);
    assert!(!is_active(&**store, &key.digest, later(1)).await, "a write of usage revived a key");
    assert_same(&known(&**store, &key).await, &KeyRecord { revoked_at: Some(later(1)), ..key.clone() });
    let [used] = &*ok(usage(store, &[key.id]).await) else { panic!("one key was used one way") };
    assert_eq!((used.last, used.count), (later(99), 16), "racing writes are added up");
}

async fn keeps_a_trail<S: KeyRegistry>(store: &S, names: &UniqueNames) -> bool {
    kept(history(store, &names.id("unknown"), 1).await)
}

async fn keeps_usage<S: KeyRegistry>(store: &S, names: &UniqueNames) -> bool {
    let unknown = names.id("unknown");
    let writes = record_usage(store, &[Usage::new(unknown.clone(), UsageChannel::Direct, NOW, 1)]).await;
    let reads = usage(store, &[unknown]).await;
    assert_eq!(
        matches!(writes, Err(StoreError::NotKept)),
        matches!(reads, Err(StoreError::NotKept)),
        "usage is both written and read, or neither"
    );
    kept(reads)
}

/// Whether the registry keeps this: if not, it must return [`StoreError::NotKept`], and nothing more is checked.
fn kept<T>(answer: Result<T, StoreError>) -> bool {
    match answer {
        Err(StoreError::NotKept) => false,
        answer => {
            ok(answer);
            true
        }
    }
}

fn told_event(text: &str) -> KeyEvent {
    text.parse().expect("an event of a key")
}

/// Fails unless the audit log of a key is this, newest first: seconds after [`NOW`], by whom, what.
#[track_caller]
fn assert_trail(trail: &[AuditEntry], key: &KeyId, owner: &UserId, told: &[(u64, &str, String)]) {
    let told: Vec<_> = told
        .iter()
        .map(|(at, by, event)| {
            let event = told_event(event);
            AuditEntry::from_parts(later(*at), key.clone(), owner.clone(), (*by).to_owned(), event)
        })
        .collect();
    assert_eq!(trail, told);
}

async fn assert_told<S: KeyRegistry>(store: &S, key: &KeyRecord, told: &[(u64, &str, String)]) {
    assert_trail(&ok(history(store, &key.id, 99).await), &key.id, &key.owner, told);
}
