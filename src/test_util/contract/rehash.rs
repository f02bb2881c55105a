//! A rehash changes the digest of a key, and nothing else.

use std::num::NonZero;
use std::sync::Arc;

use super::kit::{NOW, UniqueNames, assert_same, by_system, find, known, later, ok, race, refused, under};
use crate::key::{DigestMethod, KeyDigest};
use crate::record::KeyRecord;
use crate::store::{KeyPolicy, KeyRegistry, KeyStore, RegistryError};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };
/// A method that the keys of this suite do not have.
const METHOD: DigestMethod = DigestMethod::Sha512;

pub(super) async fn a_key_is_found_by_its_new_digest_alone<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (key, other) = (names.key("key", "u"), names.key("other", "u"));
    for key in [&key, &other] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    let to = KeyDigest::of(&names.text("to"));
    ok(store.rehash(&key.id, &key.digest, &to, &METHOD, later(1)).await);
    assert!(find(&**store, &key.digest).await.is_none(), "a key is not found by the digest that it had");
    let rehashed = KeyRecord { digest: to, digested_by: METHOD, ..key.clone() };
    assert_same(&known(&**store, &rehashed).await, &rehashed);
    assert_same(&known(&**store, &other).await, &other);
    let counts = store
        .inventory()
        .expect("a store in order counts")
        .count_by_digest_method()
        .await
        .expect("a store in order counts");
    for method in [METHOD, DigestMethod::Sha256] {
        assert!(counts.get(method.kind()).is_some_and(|count| *count > 0), "keys are counted by method");
    }
    // The part that is specific to one key follows a `$`.
    let slow: DigestMethod = "slow$$2b$04$of.one.key".parse().expect("it is a method");
    let moved = KeyDigest::of(&names.text("moved"));
    ok(store.rehash(&other.id, &other.digest, &moved, &slow, later(1)).await);
    let other = KeyRecord { digest: moved, digested_by: slow.clone(), ..other };
    assert_same(&known(&**store, &other).await, &other);
    let counts = store
        .inventory()
        .expect("a store in order counts")
        .count_by_digest_method()
        .await
        .expect("a store in order counts");
    assert!(
        counts.contains_key("slow") && counts.keys().all(|kind| !kind.contains('$')),
        "keys are counted by kind"
    );
    // It can be revoked and replaced as before.
    let successor = ok(store.replace(&key.id, names.fresh("next", later(1)), later(10), &by_system()).await);
    assert_same(&known(&**store, &successor).await, &successor);
    ok(store.revoke(&key.id, later(2), &by_system()).await);
    assert!(known(&**store, &rehashed).await.revoked_at.is_some(), "a key that was rehashed can be revoked");
}

pub(super) async fn what_is_not_as_it_was_is_not_rehashed<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (key, other) = (names.key("key", "u"), names.key("other", "u"));
    let to = KeyDigest::of(&names.text("to"));
    let unknown = store.rehash(&key.id, &key.digest, &to, &METHOD, later(1)).await;
    refused!(unknown, RegistryError::NotFound, "an unknown key is not rehashed");
    for key in [&key, &other] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    let moved = store.rehash(&key.id, &to, &to, &METHOD, NOW).await;
    refused!(moved, RegistryError::Conflict, "a key with another digest is not rehashed");
    let taken = store.rehash(&key.id, &key.digest, &other.digest, &METHOD, NOW).await;
    refused!(taken, RegistryError::Conflict, "a digest is taken once");
    for key in [&key, &other] {
        assert_same(&known(&**store, key).await, key);
    }
    ok(store.revoke(&key.id, NOW, &by_system()).await);
    let ended = store.rehash(&key.id, &key.digest, &to, &METHOD, later(1)).await;
    refused!(ended, RegistryError::Ended, "a revoked key is not rehashed");
    assert!(find(&**store, &to).await.is_none(), "a refusal changes nothing");
}

pub(super) async fn of_racing_rehashes_one_wins<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let key = names.key("key", "u");
    ok(store.insert(key.clone(), &under(MANY)).await);
    let own = key.clone();
    let to = move |n| KeyDigest::of(&format!("{n}{}", own.id));
    let results = race(store, 8, move |store, n| {
        let (id, from, to) = (key.id.clone(), key.digest, to(n));
        async move { store.rehash(&id, &from, &to, &METHOD, NOW).await.map(|()| (id, to)) }
    });
    let mut won = Vec::new();
    for result in results.await {
        match result {
            Ok(winner) => won.push(winner),
            lost => refused!(lost, RegistryError::Conflict, "who comes second is refused"),
        }
    }
    assert_eq!(won.len(), 1, "of eight that rehash one key, one wins");
    for (id, to) in won {
        let found = find(&**store, &to).await;
        assert!(found.is_some_and(|found| found.id == id), "it is found by the winner's digest");
    }
}
