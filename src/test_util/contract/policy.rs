//! How many keys a user may have.

use std::sync::Arc;

use super::{NOW, Names, assert_same, find, is_active, known, later, ok, race, refused};
use crate::audit::Actor;
use crate::key::Environment;
use crate::record::{KeyLevel, KeyRecord};
use crate::store::{KeyLedger, KeyPolicy, KeyStore, LedgerError};

const fn up_to(max: u32) -> KeyPolicy {
    KeyPolicy::Multiple { max }
}

fn of_test(key: KeyRecord) -> KeyRecord {
    KeyRecord { environment: Environment::Test, prefix: "sk_test_".into(), ..key }
}

pub(super) async fn single_leaves_one_key<S: KeyStore + KeyLedger>(store: &Arc<S>) {
    let names = Names::new();
    let (test, other) = (of_test(names.key("test", "u")), names.key("other", "U"));
    let project =
        KeyRecord { level: KeyLevel::Project(super::project("p1").id), ..names.key("project", "u") };
    let expired = KeyRecord { expires_at: Some(later(1)), ..names.key("expired", "u") };
    for key in [&test, &other, &project, &expired] {
        ok(store.insert(key.clone(), up_to(9), &Actor::System).await);
    }
    let in_grace = names.key("in-grace", "u");
    ok(store.insert(in_grace.clone(), up_to(9), &Actor::System).await);
    let successor =
        ok(store.replace(&in_grace.id, names.fresh("successor", NOW), later(60), &Actor::System).await);

    let mut only = names.key("only", "u");
    only.created_at = later(2);
    ok(store.insert(only.clone(), KeyPolicy::Single, &Actor::System).await);
    assert_same(&known(&**store, &only).await, &only);
    for ended in [&project, &in_grace, &successor] {
        let ended = known(&**store, ended).await;
        assert_eq!(ended.revoked_at, Some(later(2)), "issuing another ends every one before (R30)");
    }
    // However far the clock goes back.
    assert!(!is_active(&**store, &expired.digest, later(2)).await);
    assert_same(&known(&**store, &test).await, &test);
    assert_same(&known(&**store, &other).await, &other);
}

pub(super) async fn multiple_stops_at_the_most<S: KeyStore + KeyLedger>(store: &Arc<S>) {
    let names = Names::new();
    let none = store.insert(names.key("none", "u"), up_to(0), &Actor::System).await;
    refused!(none, LedgerError::TooManyKeys, "up to no key is none");

    let expired = KeyRecord { expires_at: Some(NOW), ..names.key("expired", "u") };
    let revoked = names.key("revoked", "u");
    ok(store.insert(expired.clone(), up_to(9), &Actor::System).await);
    ok(store.insert(revoked.clone(), up_to(9), &Actor::System).await);
    ok(store.revoke(&revoked.id, NOW, &Actor::System).await);
    for (name, owner) in [("test1", "u"), ("test2", "u")] {
        ok(store.insert(of_test(names.key(name, owner)), up_to(2), &Actor::System).await);
    }
    // Ended keys, those of the other environment and those of others do not count.
    ok(store.insert(names.key("other", "U"), up_to(2), &Actor::System).await);
    let old = names.key("one", "u");
    ok(store.insert(old.clone(), up_to(2), &Actor::System).await);
    ok(store.insert(names.key("two", "u"), up_to(2), &Actor::System).await);
    let third = names.key("three", "u");
    let full = store.insert(third.clone(), up_to(2), &Actor::System).await;
    refused!(full, LedgerError::TooManyKeys, "two keys are two");
    assert!(find(&**store, &third.digest).await.is_none(), "a refused insert left a key behind");
    assert!(is_active(&**store, &old.digest, NOW).await, "a refused insert ended a key");

    // Replacing takes no place; a key in its grace still has one.
    ok(store.replace(&old.id, names.fresh("one-new", NOW), later(60), &Actor::System).await);
    let full = store.insert(third.clone(), up_to(3), &Actor::System).await;
    refused!(full, LedgerError::TooManyKeys, "a key in its grace counts");
    let after_grace = KeyRecord { created_at: later(60), ..third.clone() };
    ok(store.insert(after_grace, up_to(3), &Actor::System).await);
}

pub(super) async fn ended_keys_are_imported_as_they_are<S: KeyStore + KeyLedger>(store: &Arc<S>) {
    let names = Names::new();
    let current = names.key("current", "u");
    ok(store.insert(current.clone(), KeyPolicy::Single, &Actor::System).await);
    let ended = KeyRecord { revoked_at: Some(NOW), ..names.key("ended", "u") };
    ok(store.insert(ended.clone(), KeyPolicy::Single, &Actor::System).await);
    assert_same(&known(&**store, &ended).await, &ended);
    assert_same(&known(&**store, &current).await, &current);
    let expired = KeyRecord { expires_at: Some(NOW), ..names.key("expired", "u") };
    ok(store.insert(expired.clone(), up_to(0), &Actor::System).await);
    assert_same(&known(&**store, &current).await, &current);
}

pub(super) async fn racing_inserts_keep_to_the_policy<S: KeyStore + KeyLedger>(store: &Arc<S>) {
    const RACERS: usize = 12;
    for _ in 0..4 {
        let names = Names::new();
        let results = race(store, RACERS, |store, number| {
            let key = names.key(&format!("many{number}"), "many");
            async move { store.insert(key, up_to(3), &Actor::System).await }
        });
        let mut inserted = 0;
        for result in results.await {
            match result {
                Ok(()) => inserted += 1,
                Err(LedgerError::TooManyKeys) => {}
                Err(other) => panic!("an insert that came too late is one too many, not {other:?}"),
            }
        }
        assert_eq!(inserted, 3, "of {RACERS} racing inserts, as many succeed as the policy allows");
        assert_eq!(count_active(&**store, &names, "many", RACERS).await, 3);

        let results = race(store, RACERS, |store, number| {
            let key = names.key(&format!("single{number}"), "single");
            async move { store.insert(key, KeyPolicy::Single, &Actor::System).await }
        });
        for result in results.await {
            ok(result);
        }
        assert_eq!(count_active(&**store, &names, "single", RACERS).await, 1, "one survives");

        let results = race(store, RACERS, |store, number| {
            let same =
                KeyRecord { digest: names.digest("same"), ..names.key(&format!("same{number}"), "same") };
            async move { store.insert(same, up_to(99), &Actor::System).await.is_ok() }
        });
        assert_eq!(
            results.await.into_iter().filter(|inserted| *inserted).count(),
            1,
            "a digest is taken once"
        );
    }
}

async fn count_active<S: KeyStore>(store: &S, names: &Names, name: &str, count: usize) -> usize {
    let mut active = 0;
    for number in 0..count {
        active += usize::from(is_active(store, &names.digest(&format!("{name}{number}")), NOW).await);
    }
    active
}
