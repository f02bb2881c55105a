//! Single keys: look-up and revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;

use super::kit::{
    NOW, UniqueNames, assert_same, by_system, find, is_active, known, later, ok, project, refused, under,
};
use super::restrict;
use crate::audit::Revocation;
use crate::clock::Timestamp;
use crate::key::{Environment, KeyDigest, KeyId};
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{Mode, RequestContext, RestrictionKind};
use crate::store::{Ended, KeyPolicy, KeyRegistry, KeyStore, RegistryError};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

pub(super) async fn records_come_back_as_they_went_in<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let plain = KeyRecord::new(names.id("plain"), names.digest("plain"), names.user("u"), NOW);
    let ended = KeyRecord {
        revoked_at: Some(Timestamp::from_micros(-5)),
        expires_at: Some(Timestamp::from_micros(0)),
        replaced_by: Some(names.id("full")),
        replaced_at: Some(NOW),
        ..names.key("ended", "u")
    };
    for key in [plain, full(names.key("full", "u")), ended] {
        ok(store.insert(key.clone(), &under(MANY)).await);
        assert_same(&known(&**store, &key).await, &key);
    }
}

/// A partial record of an ended key gives no access, even if it is mistaken for a complete one.
pub(super) async fn a_request_is_told_enough_of_what_has_ended<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    assert!(ok(store.find_at(&names.digest("unknown"), NOW).await).is_none(), "an unknown key is found");
    let plain = KeyRecord::new(names.id("plain"), names.digest("plain"), names.user("u"), NOW);
    let ends = KeyRecord { expires_at: Some(later(60)), ..full(names.key("ends", "u")) };
    let revoked = KeyRecord {
        revoked_at: Some(later(60)),
        replaced_by: Some(names.id("next")),
        replaced_at: Some(later(60)),
        ..full(names.key("revoked", "u"))
    };
    for key in [&plain, &ends, &revoked] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    for bit in 0..256_usize {
        let mut bytes = *plain.digest.as_bytes();
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let other = ok(store.find_at(&KeyDigest::from_bytes(bytes), NOW).await);
        assert!(other.is_none(), "a digest that differs in bit {bit} is found");
    }
    for (key, now) in [(&plain, NOW), (&plain, later(3600)), (&ends, NOW), (&ends, later(59))] {
        let found = ok(store.find_at(&key.digest, now).await).expect("a key is found by its digest");
        assert_same(&found, key);
    }
    for (key, now) in [(&ends, later(60)), (&ends, later(3600)), (&revoked, NOW), (&revoked, later(3600))] {
        let found = ok(store.find_at(&key.digest, now).await).expect("a key that has ended is found");
        assert!(!found.is_active(now), "a key that has ended is active");
        assert!(found.digest.matches(&key.digest), "another key is found");
        let who = |key: &KeyRecord| (key.id.clone(), key.owner.clone(), key.level.clone(), key.environment);
        assert_eq!(who(&found), who(key));
        assert_eq!(found.digested_by, key.digested_by);
        let times = |key: &KeyRecord| (key.created_at, key.expires_at, key.revoked_at);
        assert_eq!(times(&found), times(key));
        let line = |key: &KeyRecord| (key.family.clone(), key.replaced_by.clone(), key.replaced_at);
        assert_eq!(line(&found), line(key), "whose limits it shares, and what took its place");
        if found.restrictions != key.restrictions {
            let anywhere = RequestContext::new().address([192, 0, 2, 7]).referrer("https://example.com");
            let refused = found.restrictions.check(RestrictionKind::Ip, &anywhere);
            assert_eq!(refused, Some((Mode::Enforce, false)), "what is left of it opens something");
            assert!(found.scopes.is_empty(), "what is left of it opens something");
        }
    }
}

/// The end of a key reports the end of its family if, and only if, no other key of the family is active.
pub(super) async fn an_end_says_whether_its_family_ended<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let limited = |name: &str| KeyRecord { limits: "2/d".parse().ok(), ..names.key(name, "u") };
    let end =
        async |key: &KeyId, at: u64| ok(store.end(key, Revocation::ByHand, later(at), &by_system()).await);
    for key in [limited("alone"), limited("first"), limited("old"), names.key("plain", "u")] {
        ok(store.insert(key, &under(MANY)).await);
    }
    let alone = names.id("alone");
    assert_eq!(end(&alone, 1).await, Ended::now(Some(alone.clone())), "the only one of its family");
    assert_eq!(end(&alone, 2).await, Ended::before());
    assert_eq!(end(&names.id("plain"), 1).await, Ended::now(None), "one without limits");

    let first = names.id("first");
    ok(store.replace(&first, names.fresh("second", later(1)), later(1), &by_system()).await);
    ok(store.replace(&names.id("second"), names.fresh("third", later(2)), later(60), &by_system()).await);
    assert_eq!(end(&names.id("second"), 3).await, Ended::now(None), "its successor works");
    assert_eq!(end(&names.id("third"), 4).await, Ended::now(Some(first)), "the last of them");

    let old = names.id("old");
    ok(store.replace(&old, names.fresh("new", later(1)), later(60), &by_system()).await);
    assert_eq!(end(&names.id("new"), 59).await, Ended::now(None), "the one before is in its grace");
    ok(store.insert(limited("older"), &under(MANY)).await);
    let older = names.id("older");
    ok(store.replace(&older, names.fresh("newer", later(1)), later(60), &by_system()).await);
    assert_eq!(end(&names.id("newer"), 60).await, Ended::now(Some(older)), "the grace is over");
}

pub(super) async fn look_up_is_exact<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (lower, upper) = (names.key("sk_live_abc", "u"), names.key("sk_live_ABC", "U"));
    assert!(find(&**store, &lower.digest).await.is_none(), "a key that was never inserted is found");
    ok(store.insert(lower.clone(), &under(MANY)).await);
    assert!(find(&**store, &upper.digest).await.is_none(), "keys that differ in case are one (C7-11)");
    assert!(ok(store.get(&upper.id).await).is_none(), "ids that differ in case are one");
    ok(store.insert(upper.clone(), &under(MANY)).await);
    assert_same(&known(&**store, &lower).await, &lower);
    assert_same(&known(&**store, &upper).await, &upper);
    for bit in 0..256_usize {
        let mut bytes = *lower.digest.as_bytes();
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let other = find(&**store, &KeyDigest::from_bytes(bytes)).await;
        assert!(other.is_none(), "a digest that differs in bit {bit} is found");
    }
}

pub(super) async fn ids_and_digests_are_taken_once<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let first = names.key("first", "u");
    ok(store.insert(first.clone(), &under(MANY)).await);
    let same_id = KeyRecord { id: first.id.clone(), ..names.key("other", "u") };
    let same_digest = KeyRecord { digest: first.digest, ..names.key("another", "u") };
    for key in [same_id.clone(), same_digest.clone()] {
        // Under this policy, an insert that fails too late would have ended the first key.
        let taken = store.insert(key, &under(KeyPolicy::Single { grace: false })).await;
        refused!(taken, RegistryError::Conflict, "an id or digest that is taken is a conflict");
    }
    assert_same(&known(&**store, &first).await, &first);
    assert!(find(&**store, &same_id.digest).await.is_none(), "a refused insert left a key behind");
    assert!(ok(store.get(&same_digest.id).await).is_none(), "a refused insert left a key behind");

    ok(store.revoke(&first.id, later(1), &by_system()).await);
    let again = store.insert(names.key("first", "u"), &under(MANY)).await;
    refused!(again, RegistryError::Conflict, "a revoked key is not inserted again");
    assert!(!is_active(&**store, &first.digest, later(1)).await);
}

pub(super) async fn contradictions_are_refused<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let before = names.key("before", "u");
    ok(store.insert(before.clone(), &under(MANY)).await);
    let key = names.key("wrong", "u");
    let wrong = [
        KeyRecord { environment: Environment::Test, ..key.clone() },
        KeyRecord { prefix: "sk_test_".into(), ..key.clone() },
        KeyRecord { prefix: "sk".into(), ..key.clone() },
        KeyRecord { prefix: "_live_".into(), ..key.clone() },
        KeyRecord { prefix: String::new(), ..key.clone() },
        KeyRecord { last4: "a1Z".into(), ..key.clone() },
        KeyRecord { last4: "a1Z9a1Z9".into(), ..key.clone() },
        KeyRecord { created_at: Timestamp::from_micros(-1), ..key.clone() },
        KeyRecord { expires_at: Some(Timestamp::from_micros(i64::MIN)), ..key.clone() },
        KeyRecord { replaced_by: Some(key.id.clone()), replaced_at: Some(NOW), ..key.clone() },
        KeyRecord { replaced_by: Some(before.id.clone()), ..key.clone() },
        KeyRecord { replaced_at: Some(NOW), ..key.clone() },
    ];
    for wrong in wrong {
        let answer = store.insert(wrong.clone(), &under(KeyPolicy::Single { grace: false })).await;
        refused!(answer, RegistryError::Invalid(_), "a record that contradicts itself is refused");
        assert!(find(&**store, &wrong.digest).await.is_none());
    }
    assert_same(&known(&**store, &before).await, &before);
}

pub(super) async fn revocation_is_final<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let unknown = store.revoke(&names.id("unknown"), NOW, &by_system()).await;
    refused!(unknown, RegistryError::NotFound, "a key that is not there is not revoked");

    let (key, other) = (names.key("key", "u"), names.key("other", "u"));
    let expired = KeyRecord { expires_at: Some(later(1)), ..names.key("expired", "u") };
    for key in [&key, &other, &expired] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    ok(store.revoke(&key.id, later(5), &by_system()).await);
    assert_same(&known(&**store, &key).await, &KeyRecord { revoked_at: Some(later(5)), ..key.clone() });
    // Revoke again, also with a clock that went back.
    ok(store.revoke(&key.id, later(9), &by_system()).await);
    ok(store.revoke(&key.id, later(2), &by_system()).await);
    assert_same(&known(&**store, &key).await, &KeyRecord { revoked_at: Some(later(5)), ..key.clone() });
    assert_same(&known(&**store, &other).await, &other);

    ok(store.revoke(&expired.id, later(5), &by_system()).await);
    assert!(!is_active(&**store, &expired.digest, NOW).await, "a revoked key came back with an earlier time");
    // A clock before 1970 does not prevent a revocation.
    ok(store.revoke(&other.id, Timestamp::from_micros(i64::MIN), &by_system()).await);
    assert!(!is_active(&**store, &other.digest, NOW).await);
}

/// A key with every property that a key can have.
pub(super) fn full(key: KeyRecord) -> KeyRecord {
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
