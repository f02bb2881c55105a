//! How keys are replaced: the old key ends at once or after its grace, and of racing changes one wins.

use std::num::NonZero;
use std::sync::Arc;

use super::kit::{
    NOW, UniqueNames, assert_same, by_system, find, is_active, known, later, ok, race, refused, under,
};
use super::life::full;
use crate::record::KeyRecord;
use crate::store::{KeyPolicy, KeyRegistry, KeyStore, RegistryError};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

pub(super) async fn a_replaced_key_is_dead_when_the_call_returns<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let old = full(names.key("old", "u"));
    let bystander = names.key("bystander", "u");
    ok(store.insert(old.clone(), &under(MANY)).await);
    ok(store.insert(bystander.clone(), &under(MANY)).await);

    let mut fresh = names.fresh("new", later(1));
    fresh.prefix = "acme_test_".into();
    let new = ok(store.replace(&old.id, fresh.clone(), later(1), &by_system()).await);
    assert_same(&new, &old.successor(&fresh));
    assert_same(&known(&**store, &new).await, &new);
    let mut ended = old.clone();
    ended.replace(&new.id, later(1), later(1));
    assert_same(&known(&**store, &old).await, &ended);
    assert!(!is_active(&**store, &old.digest, later(1)).await, "a replaced key lives on");
    assert!(
        !is_active(&**store, &old.digest, NOW).await,
        "a replaced key lives on for a clock that is behind"
    );
    assert_same(&known(&**store, &bystander).await, &bystander);
}

pub(super) async fn grace_never_outlives_the_old_end<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    for (name, own, grace, end) in
        [("endless", None, 60, 60), ("shorter", Some(30), 60, 30), ("longer", Some(90), 60, 60)]
    {
        let old = KeyRecord { expires_at: own.map(later), ..names.key(name, "u") };
        ok(store.insert(old.clone(), &under(MANY)).await);
        let fresh = names.fresh(&format!("{name}-new"), NOW);
        let new = ok(store.replace(&old.id, fresh, later(grace), &by_system()).await);
        assert_eq!(new.expires_at, old.expires_at, "the successor ends when the old key would have ended");
        let old = known(&**store, &old).await;
        assert_eq!((old.expires_at, old.revoked_at), (Some(later(end)), None), "{name}");
        assert_eq!((old.replaced_by.as_ref(), old.replaced_at), (Some(&new.id), Some(NOW)), "{name}");
        assert_eq!((&new.replaced_by, new.replaced_at), (&None, None), "{name}");
        assert!(old.is_active(later(end - 1)) && new.is_active(later(end - 1)), "both work during the grace");

        let again = store.replace(&old.id, names.fresh("again", NOW), later(900), &by_system()).await;
        refused!(again, RegistryError::Ended, "a key in its grace is not replaced again");
        assert_same(&known(&**store, &old).await, &old);
        // The grace period can be ended early.
        ok(store.revoke(&old.id, later(1), &by_system()).await);
        assert!(!is_active(&**store, &old.digest, later(1)).await);
        assert!(is_active(&**store, &new.digest, later(1)).await);
    }
}

pub(super) async fn what_has_ended_is_not_replaced<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let unknown = store.replace(&names.id("unknown"), names.fresh("new", NOW), later(9), &by_system()).await;
    refused!(unknown, RegistryError::NotFound, "a key that is not there is not replaced");

    let revoked = names.key("revoked", "u");
    let expired = KeyRecord { expires_at: Some(later(1)), ..names.key("expired", "u") };
    ok(store.insert(revoked.clone(), &under(MANY)).await);
    ok(store.insert(expired.clone(), &under(MANY)).await);
    ok(store.revoke(&revoked.id, NOW, &by_system()).await);
    for old in [&revoked, &expired] {
        let before = known(&**store, old).await;
        // At the exact moment of its expiry a key is expired.
        let ended = store.replace(&old.id, names.fresh("new", later(1)), later(9), &by_system()).await;
        refused!(ended, RegistryError::Ended, "a key that has ended is not replaced");
        assert_same(&known(&**store, old).await, &before);
        assert!(find(&**store, &names.digest("new")).await.is_none(), "a refused replacement left a key");
    }
}

pub(super) async fn a_failed_replacement_changes_nothing<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (old, other) = (names.key("old", "u"), names.key("other", "v"));
    ok(store.insert(old.clone(), &under(MANY)).await);
    ok(store.insert(other.clone(), &under(MANY)).await);

    let mut same_id = names.fresh("new", NOW);
    same_id.id = other.id.clone();
    let mut same_digest = names.fresh("new", NOW);
    same_digest.digest = other.digest;
    for fresh in [same_id, same_digest, names.fresh("old", NOW)] {
        let taken = store.replace(&old.id, fresh, NOW, &by_system()).await;
        refused!(taken, RegistryError::Conflict, "an id or digest that is taken is a conflict");
    }
    let mut of_test = names.fresh("new", NOW);
    of_test.prefix = "sk_test_".into();
    let wrong = store.replace(&old.id, of_test, NOW, &by_system()).await;
    refused!(wrong, RegistryError::Invalid(_), "a live key is not replaced by a test key");

    assert_same(&known(&**store, &old).await, &old);
    assert_same(&known(&**store, &other).await, &other);
    assert!(find(&**store, &names.digest("new")).await.is_none());
    assert!(ok(store.get(&names.id("new")).await).is_none());
}

pub(super) async fn of_racing_replacements_one_wins<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    for round in 0..8_u64 {
        let names = Arc::new(UniqueNames::new());
        let old = names.key("old", "u");
        ok(store.insert(old.clone(), &under(MANY)).await);
        // Every other round has a grace period, during which the old key is active but cannot be replaced again.
        let old_ends = later(60 * (round % 2));
        let results = race(store, 8, |store, number| {
            let (old, fresh) = (old.id.clone(), names.fresh(&format!("new{number}"), NOW));
            async move { store.replace(&old, fresh, old_ends, &by_system()).await }
        });
        let mut winners = Vec::new();
        for result in results.await {
            match result {
                Ok(new) => winners.push(new),
                Err(RegistryError::Ended) => {}
                Err(other) => panic!("who loses a race is told that the key has ended, not {other:?}"),
            }
        }
        let [winner] = &*winners else { panic!("{} of 8 racing replacements won", winners.len()) };
        assert_eq!(known(&**store, &old).await.replaced_by.as_ref(), Some(&winner.id));
        for number in 0..8 {
            let name = format!("new{number}");
            let found = find(&**store, &names.digest(&name)).await;
            assert_eq!(found.is_some(), winner.id == names.id(&name), "a loser's key works");
        }
    }
}

pub(super) async fn revocation_and_replacement_may_race<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    for _ in 0..8 {
        let names = UniqueNames::new();
        let old = names.key("old", "u");
        ok(store.insert(old.clone(), &under(MANY)).await);
        let results = race(store, 2, |store, number| {
            let (old, fresh) = (old.id.clone(), names.fresh("new", NOW));
            async move {
                match number {
                    0 => store.revoke(&old, NOW, &by_system()).await.map(|_| None),
                    _ => store.replace(&old, fresh, later(60), &by_system()).await.map(Some),
                }
            }
        });
        let replaced = match &*results.await {
            [Ok(None), Ok(Some(_))] => true,
            [Ok(None), Err(RegistryError::Ended)] => false,
            other => panic!("a revocation beside a replacement ended in {other:?}"),
        };
        assert!(!is_active(&**store, &old.digest, NOW).await, "a revoked key was revived by its grace");
        assert_eq!(is_active(&**store, &names.digest("new"), NOW).await, replaced);
    }
}
