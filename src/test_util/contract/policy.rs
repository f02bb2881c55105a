//! How many keys a user may have.

use std::num::NonZero;
use std::sync::Arc;

use super::kit::{
    NOW, UniqueNames, assert_same, by_system, find, is_active, known, later, ok, race, refused, under,
};
use crate::key::Environment;
use crate::record::{KeyLevel, KeyRecord};
use crate::store::{KeyPolicy, KeyRegistry, KeyStore, RegistryError};

const fn up_to(max: u32) -> KeyPolicy {
    KeyPolicy::Multiple { max: NonZero::new(max).unwrap() }
}

fn of_test(key: KeyRecord) -> KeyRecord {
    KeyRecord { environment: Environment::Test, prefix: "sk_test_".into(), ..key }
}

pub(super) async fn single_leaves_one_key<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (test, other) = (of_test(names.key("test", "u")), names.key("other", "U"));
    let project =
        KeyRecord { level: KeyLevel::Project(super::kit::project("p1").id), ..names.key("project", "u") };
    let expired = KeyRecord { expires_at: Some(later(1)), ..names.key("expired", "u") };
    for key in [&test, &other, &project, &expired] {
        ok(store.insert(key.clone(), &under(up_to(9))).await);
    }
    let in_grace = names.key("in-grace", "u");
    ok(store.insert(in_grace.clone(), &under(up_to(9))).await);
    let successor =
        ok(store.replace(&in_grace.id, names.fresh("successor", NOW), later(60), &by_system()).await);

    let mut only = names.key("only", "u");
    only.created_at = later(2);
    ok(store.insert(only.clone(), &under(KeyPolicy::Single { grace: false })).await);
    assert_same(&known(&**store, &only).await, &only);
    for ended in [&project, &in_grace, &successor] {
        let ended = known(&**store, ended).await;
        assert_eq!(ended.revoked_at, Some(later(2)), "issuing another ends every one before (R30)");
    }
    // This holds however far the clock goes back.
    assert!(!is_active(&**store, &expired.digest, later(2)).await);
    assert_same(&known(&**store, &test).await, &test);
    assert_same(&known(&**store, &other).await, &other);
}

pub(super) async fn multiple_stops_at_the_most<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    ok(store.insert(names.key("sole", "only"), &under(up_to(1))).await);
    let second = store.insert(names.key("no_second", "only"), &under(up_to(1))).await;
    refused!(second, RegistryError::TooManyKeys, "up to one key is one");

    let expired = KeyRecord { expires_at: Some(NOW), ..names.key("expired", "u") };
    let revoked = names.key("revoked", "u");
    ok(store.insert(expired.clone(), &under(up_to(9))).await);
    ok(store.insert(revoked.clone(), &under(up_to(9))).await);
    ok(store.revoke(&revoked.id, NOW, &by_system()).await);
    for (name, owner) in [("test1", "u"), ("test2", "u")] {
        ok(store.insert(of_test(names.key(name, owner)), &under(up_to(2))).await);
    }
    // Ended keys, those of the other environment and those of others do not count.
    ok(store.insert(names.key("other", "U"), &under(up_to(2))).await);
    let old = names.key("one", "u");
    ok(store.insert(old.clone(), &under(up_to(2))).await);
    ok(store.insert(names.key("two", "u"), &under(up_to(2))).await);
    let third = names.key("three", "u");
    let full = store.insert(third.clone(), &under(up_to(2))).await;
    refused!(full, RegistryError::TooManyKeys, "two keys are two");
    assert!(find(&**store, &third.digest).await.is_none(), "a refused insert left a key behind");
    assert!(is_active(&**store, &old.digest, NOW).await, "a refused insert ended a key");

    // A replacement needs no further place, but a key in its grace period still counts.
    ok(store.replace(&old.id, names.fresh("one-new", NOW), later(60), &by_system()).await);
    let full = store.insert(third.clone(), &under(up_to(3))).await;
    refused!(full, RegistryError::TooManyKeys, "a key in its grace counts");
    let after_grace = KeyRecord { created_at: later(60), ..third.clone() };
    ok(store.insert(after_grace, &under(up_to(3))).await);
}

pub(super) async fn ended_keys_are_imported_as_they_are<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let current = names.key("current", "u");
    ok(store.insert(current.clone(), &under(KeyPolicy::Single { grace: false })).await);
    let ended = KeyRecord { revoked_at: Some(NOW), ..names.key("ended", "u") };
    ok(store.insert(ended.clone(), &under(KeyPolicy::Single { grace: false })).await);
    assert_same(&known(&**store, &ended).await, &ended);
    assert_same(&known(&**store, &current).await, &current);
    let expired = KeyRecord { expires_at: Some(NOW), ..names.key("expired", "u") };
    ok(store.insert(expired.clone(), &under(up_to(1))).await);
    assert_same(&known(&**store, &current).await, &current);
}

pub(super) async fn racing_inserts_keep_to_the_policy<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    const RACERS: usize = 12;
    for _ in 0..4 {
        let names = UniqueNames::new();
        let results = race(store, RACERS, |store, number| {
            let key = names.key(&format!("many{number}"), "many");
            async move { store.insert(key, &under(up_to(3))).await }
        });
        let mut inserted = 0;
        for result in results.await {
            match result {
                Ok(()) => inserted += 1,
                Err(RegistryError::TooManyKeys) => {}
                Err(other) => panic!("an insert that came too late is one too many, not {other:?}"),
            }
        }
        assert_eq!(inserted, 3, "of {RACERS} racing inserts, as many succeed as the policy allows");
        assert_eq!(count_active(&**store, &names, "many", RACERS).await, 3);

        let results = race(store, RACERS, |store, number| {
            let key = names.key(&format!("single{number}"), "single");
            async move { store.insert(key, &under(KeyPolicy::Single { grace: false })).await }
        });
        for result in results.await {
            ok(result);
        }
        assert_eq!(count_active(&**store, &names, "single", RACERS).await, 1, "one survives");

        let results = race(store, RACERS, |store, number| {
            let same =
                KeyRecord { digest: names.digest("same"), ..names.key(&format!("same{number}"), "same") };
            async move { store.insert(same, &under(up_to(99))).await.is_ok() }
        });
        assert_eq!(
            results.await.into_iter().filter(|inserted| *inserted).count(),
            1,
            "a digest is taken once"
        );
    }
}

async fn count_active<S: KeyStore>(store: &S, names: &UniqueNames, name: &str, count: usize) -> usize {
    let mut active = 0;
    for number in 0..count {
        active += usize::from(is_active(store, &names.digest(&format!("{name}{number}")), NOW).await);
    }
    active
}

pub(super) async fn many_keys_are_added_like_one_by_one<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let there = names.key("there", "u");
    ok(store.insert(there.clone(), &under(up_to(3))).await);
    let (first, last) = (names.key("first", "u"), names.key("last", "u"));
    let again = KeyRecord { digest: first.digest, ..names.key("again", "u") };
    let senseless = KeyRecord { replaced_by: Some(names.id("senseless")), ..names.key("senseless", "u") };
    let keys = vec![first.clone(), there.clone(), again.clone(), senseless.clone(), last.clone()];
    let answers = store.insert_all(keys, &under(up_to(3))).await.expect("a store in order answers");
    let mut answers = answers.into_iter();
    let mut next = || answers.next().expect("there is an answer for each key");
    ok(next());
    refused!(next(), RegistryError::Conflict, "an id that is taken is a conflict");
    refused!(
        next(),
        RegistryError::Conflict,
        "a digest that is taken is a conflict, if only by the key before"
    );
    refused!(next(), RegistryError::Invalid(_), "a key that makes no sense is refused");
    ok(next());
    for key in [&there, &first, &last] {
        assert_same(&known(&**store, key).await, key);
    }
    for key in [&again, &senseless] {
        assert!(ok(store.get(&key.id).await).is_none(), "a key that is refused is not added");
    }
    let more = vec![names.key("more", "u")];
    let answers = store.insert_all(more, &under(up_to(3))).await.expect("a store in order answers");
    for answer in answers {
        refused!(answer, RegistryError::TooManyKeys, "the policy counts each of many keys");
    }
}
