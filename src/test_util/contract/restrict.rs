//! The restrictions of a key are never lost, and never kept after they were removed.

use std::num::NonZero;
use std::sync::Arc;

use super::kit::{NOW, UniqueNames, assert_same, by_system, find, known, later, ok, refused, under};
use crate::key::KeyId;
use crate::key_update::KeyUpdate;
use crate::record::KeyRecord;
use crate::restriction::{
    EndpointRestriction, IpRestriction, ReferrerRestriction, Restrictions, SchemeRestriction,
};
use crate::store::{KeyPolicy, KeyQuery, KeyRegistry, KeyStore, RegistryError};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

/// Restrictions of every kind, in both modes.
pub(super) fn all() -> Restrictions {
    Restrictions::none()
        .ip(IpRestriction::allow(["192.0.2.0/24", "2001:db8::/32"]).unwrap())
        .referrer(
            ReferrerRestriction::allow(["https://*.example.com", "http://[::1]:8080/it's/;--"])
                .unwrap()
                .observe()
                .accept_origin(),
        )
        .endpoints(EndpointRestriction::allow(["GET /v1/users/{id}", "POST /v1/files/{*path}"]).unwrap())
        .schemes(SchemeRestriction::allow(["bearer", "it's"]).unwrap().observe())
}

/// Empty lists, which allow nothing. A careless encoding could confuse them with no restriction.
fn nobody() -> Restrictions {
    let none = [""; 0];
    Restrictions::none()
        .ip(IpRestriction::allow(none).unwrap())
        .referrer(ReferrerRestriction::allow(none).unwrap())
        .endpoints(EndpointRestriction::allow(none).unwrap().observe())
        .schemes(SchemeRestriction::allow(none).unwrap())
}

fn kinds() -> [Restrictions; 4] {
    let one = Restrictions::none().ip(IpRestriction::allow([""; 0]).unwrap());
    [all(), nobody(), one, Restrictions::none()]
}

async fn restrict(
    store: &impl KeyRegistry,
    id: &KeyId,
    restrictions: &Restrictions,
) -> Result<(), RegistryError> {
    let update = KeyUpdate::new().restrictions(restrictions.clone());
    store.update(id, &update, later(1), &by_system()).await.map(drop)
}

/// Fails unless every method that returns the key returns these restrictions.
async fn has<S: KeyStore + KeyRegistry>(store: &S, key: &KeyRecord, restrictions: &Restrictions) {
    assert_eq!(known(store, key).await.restrictions, *restrictions, "the restrictions of a key changed");
    let query = KeyQuery { limit: 1000, ..KeyQuery::default() };
    let listed = ok(store.list(&key.owner, &query).await);
    let listed = listed.iter().find(|listed| listed.id == key.id).expect("a key is listed");
    assert_eq!(listed.restrictions, *restrictions, "lists show other restrictions");
}

pub(super) async fn restrictions_come_back_as_they_went_in<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    for (number, restrictions) in kinds().into_iter().enumerate() {
        let key = KeyRecord { restrictions: restrictions.clone(), ..names.key(&format!("key{number}"), "u") };
        ok(store.insert(key.clone(), &under(MANY)).await);
        has(&**store, &key, &restrictions).await;
    }
}

pub(super) async fn restrictions_are_carried_over<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    for (number, restrictions) in kinds().into_iter().enumerate() {
        let old = KeyRecord { restrictions: restrictions.clone(), ..names.key(&format!("old{number}"), "u") };
        ok(store.insert(old.clone(), &under(MANY)).await);
        let fresh = names.fresh(&format!("new{number}"), later(1));
        let successor = ok(store.replace(&old.id, fresh, later(10), &by_system()).await);
        assert_eq!(successor.restrictions, restrictions, "a successor has its predecessor's restrictions");
        has(&**store, &successor, &restrictions).await;
        // The old key keeps them during its grace period.
        has(&**store, &old, &restrictions).await;
    }
}

pub(super) async fn restrictions_are_replaced_whole<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (key, other) = (names.key("key", "u"), names.key("other", "u"));
    let other = KeyRecord { restrictions: nobody(), ..other };
    for key in [&key, &other] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    for restrictions in kinds() {
        ok(restrict(&**store, &key.id, &restrictions).await);
        has(&**store, &key, &restrictions).await;
        // Nothing else of the key has changed, and no other key.
        assert_same(&known(&**store, &key).await, &KeyRecord { restrictions, ..key.clone() });
        assert_same(&known(&**store, &other).await, &other);
    }
    // A key in its grace period can still be restricted, without its successor.
    let successor = ok(store.replace(&key.id, names.fresh("next", later(1)), later(10), &by_system()).await);
    ok(restrict(&**store, &key.id, &nobody()).await);
    has(&**store, &key, &nobody()).await;
    has(&**store, &successor, &Restrictions::none()).await;
}

pub(super) async fn what_has_ended_is_not_restricted<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let key = KeyRecord { restrictions: all(), ..names.key("key", "u") };
    let unknown = restrict(&**store, &key.id, &all()).await;
    refused!(unknown, RegistryError::NotFound, "an unknown key is not restricted");
    ok(store.insert(key.clone(), &under(MANY)).await);
    ok(store.revoke(&key.id, NOW, &by_system()).await);
    let ended = known(&**store, &key).await;
    for restrictions in kinds() {
        let again = restrict(&**store, &key.id, &restrictions).await;
        refused!(again, RegistryError::Ended, "a revoked key is not restricted any more");
    }
    assert_same(&find(&**store, &key.digest).await.expect("it is still there"), &ended);
}

/// Restrictions with about this many bytes of text.
fn long(len: usize) -> Restrictions {
    let entries: Vec<String> =
        (0..100).map(|number| format!("GET /{number}{}", "x".repeat(len / 100))).collect();
    Restrictions::none().endpoints(EndpointRestriction::allow(entries).unwrap())
}

pub(super) async fn what_is_too_long_is_not_added_and_does_not_become_so<S: KeyStore + KeyRegistry>(
    store: &Arc<S>,
) {
    let names = UniqueNames::new();
    let (fits, too_long) =
        (long(KeyRecord::MAX_RESTRICTIONS_LEN - 2000), long(KeyRecord::MAX_RESTRICTIONS_LEN));
    assert!(
        fits.text_len() <= KeyRecord::MAX_RESTRICTIONS_LEN
            && too_long.text_len() > KeyRecord::MAX_RESTRICTIONS_LEN
    );
    let mut key = KeyRecord { restrictions: too_long.clone(), ..names.key("restricted", "u") };
    refused!(
        store.insert(key.clone(), &under(MANY)).await,
        RegistryError::TooLong(_),
        "restrictions are at most 8 KiB"
    );
    key.restrictions = fits.clone();
    key.metadata.insert("x".into(), "\u{1}".repeat(KeyRecord::MAX_METADATA_LEN / 6));
    refused!(
        store.insert(key.clone(), &under(MANY)).await,
        RegistryError::TooLong(_),
        "metadata is at most 8 KiB, as it is written"
    );
    assert!(find(&**store, &key.digest).await.is_none(), "what is refused is not there");
    key.metadata.insert("x".into(), "\u{1}".repeat(KeyRecord::MAX_METADATA_LEN / 6 - 2));
    ok(store.insert(key.clone(), &under(MANY)).await);
    has(&**store, &key, &fits).await;
    let longer = restrict(&**store, &key.id, &too_long).await;
    refused!(longer, RegistryError::TooLong(_), "restrictions do not become longer than 8 KiB");
    has(&**store, &key, &fits).await;
    ok(restrict(&**store, &key.id, &all()).await);
    has(&**store, &key, &all()).await;
}
