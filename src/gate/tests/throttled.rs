//! Throttling of wrong keys, and limits on concurrent look-ups.

use std::sync::Arc;
use std::time::Duration;

use super::world::{Answers, CLIENT, Hand, NOW, World, block_on, decide, gate, record, refused, text};
use crate::access::AccountStatus;
use crate::auth_error::AuthErrorKind;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::{Gate, counts};
use crate::key::Environment;
use crate::limit::KeyThrottle;
use crate::restriction::RequestContext;

fn throttled() -> (Arc<World>, Arc<Hand>, Gate) {
    let (world, clock) = (World::new(), Hand::new());
    let mut gate = gate(&world, &clock);
    let throttle = KeyThrottle::default().repeats("3/min".parse().unwrap());
    gate.throttle = Some(Arc::new(throttle.lookups("2/min".parse().unwrap())));
    (world, clock, gate)
}

fn try_from(gate: &Gate, text: &str, facts: fn() -> RequestContext<'static>) -> Option<AuthErrorKind> {
    refused(block_on(decide(gate, &Credentials::new(text), Endpoint::READ, facts)))
}

fn client() -> RequestContext<'static> {
    RequestContext::new().address(CLIENT)
}

fn neighbour() -> RequestContext<'static> {
    RequestContext::new().address([198, 51, 100, 1])
}

#[test]
fn c7_09_a_wrong_key_that_comes_again_is_refused_before_the_store_is_asked() {
    let (world, clock, gate) = throttled();
    let wrong = text(Environment::Live);
    for _ in 0..3 {
        assert_eq!(try_from(&gate, &wrong, client), Some(AuthErrorKind::UnknownKey));
    }
    assert_eq!(world.found.lock().unwrap().len(), 3);
    assert_eq!(try_from(&gate, &wrong, client), Some(AuthErrorKind::RateLimited));
    assert_eq!(world.found.lock().unwrap().len(), 3);
    // This does not throttle other clients, or clients with an unknown address.
    assert_eq!(try_from(&gate, &wrong, neighbour), Some(AuthErrorKind::UnknownKey));
    assert_eq!(try_from(&gate, &wrong, RequestContext::new), Some(AuthErrorKind::UnknownKey));
    clock.advance(21);
    assert_eq!(try_from(&gate, &wrong, client), Some(AuthErrorKind::UnknownKey));
}

#[test]
fn c7_09_what_is_at_hand_is_slowed_down_alike_when_it_is_wrong_and_not_when_it_is_good() {
    let (world, _, gate) = throttled();
    *world.keys.lock().unwrap() = Answers::AtHand;
    let (good, wrong) = (text(Environment::Live), text(Environment::Live));
    world.holds(Arc::new(record(&good, Environment::Live)));
    for _ in 0..3 {
        assert_eq!(try_from(&gate, &wrong, client), Some(AuthErrorKind::UnknownKey));
    }
    assert_eq!(try_from(&gate, &wrong, client), Some(AuthErrorKind::RateLimited));
    for _ in 0..10 {
        assert_eq!(try_from(&gate, &good, client), None);
    }
}

#[test]
fn c17_a5_a_key_that_was_accepted_lately_is_looked_up_whatever_others_do() {
    let (world, clock, gate) = throttled();
    let (good, new) = (text(Environment::Live), text(Environment::Live));
    world.holds(Arc::new(record(&good, Environment::Live)));
    world.holds(Arc::new({
        let mut key = record(&new, Environment::Live);
        key.id = crate::key::KeyId::new("key_2").unwrap();
        key
    }));
    assert_eq!(try_from(&gate, &good, client), None);
    for _ in 0..2 {
        assert_eq!(try_from(&gate, &text(Environment::Live), client), Some(AuthErrorKind::UnknownKey));
    }
    assert_eq!(try_from(&gate, &new, client), Some(AuthErrorKind::RateLimited));
    assert_eq!(try_from(&gate, &good, client), None);
    // A key that has ended since is refused, and the answer does not reveal that it was looked up.
    let mut records = world.records.lock().unwrap();
    Arc::get_mut(&mut records[0]).unwrap().revoked_at = Some(NOW);
    drop(records);
    assert_eq!(try_from(&gate, &good, client), Some(AuthErrorKind::RateLimited));
    clock.advance(120);
    assert_eq!(try_from(&gate, &good, client), Some(AuthErrorKind::RevokedKey));
}

#[test]
fn c7_09_every_refusal_that_looks_alike_counts_and_no_other() {
    let all = [
        AuthErrorKind::UnknownKey,
        AuthErrorKind::RevokedKey,
        AuthErrorKind::ExpiredKey,
        AuthErrorKind::WrongEnvironment,
        AuthErrorKind::OwnerDisabled,
        AuthErrorKind::SchemeNotAllowed,
    ];
    assert!(all.into_iter().all(counts));
    for other in [AuthErrorKind::StoreFailed, AuthErrorKind::UserMismatch, AuthErrorKind::MalformedKey] {
        assert!(!counts(other));
    }
    let (world, _, gate) = throttled();
    *world.standing.lock().unwrap() = AccountStatus::Disabled;
    let key = text(Environment::Live);
    world.holds(Arc::new(record(&key, Environment::Live)));
    for _ in 0..3 {
        assert_eq!(try_from(&gate, &key, client), Some(AuthErrorKind::OwnerDisabled));
    }
    assert_eq!(try_from(&gate, &key, client), Some(AuthErrorKind::RateLimited));
}

#[test]
fn c17_b8_a_key_that_has_ended_is_the_first_whose_limits_are_forgotten() {
    let (world, _, gate) = throttled();
    let key = text(Environment::Live);
    let mut held = record(&key, Environment::Live);
    held.limits = Some("5/365d".parse().unwrap());
    let (family, limits) = (held.family.clone(), held.limits.clone().unwrap());
    world.holds(Arc::new(held));
    let mut gate = gate;
    gate.limiter = Arc::new(crate::limit::Limiter::new(1));
    assert_eq!(try_from(&gate, &key, RequestContext::new), None);
    assert_eq!(gate.limiter.peek(&family, &limits, NOW).remaining(), 3);
    let mut records = world.records.lock().unwrap();
    Arc::get_mut(&mut records[0]).unwrap().revoked_at = Some(NOW);
    drop(records);
    assert_eq!(try_from(&gate, &key, RequestContext::new), Some(AuthErrorKind::RevokedKey));
    // The state of another key replaces it, although that key has spent less.
    let other = crate::key::KeyId::new("key_9").unwrap();
    let _ = gate.limiter.take(&other, &"9/365d".parse().unwrap(), NOW);
    assert_eq!(gate.limiter.peek(&family, &limits, NOW).remaining(), 4);
}

#[test]
fn c10_01_a_store_that_does_not_answer_in_time_is_a_503() {
    struct Silent;

    #[async_trait::async_trait]
    impl crate::store::KeyStore for Silent {
        async fn find(
            &self,
            _: &crate::key::KeyDigest,
        ) -> Result<Option<Arc<crate::record::KeyRecord>>, crate::store::StoreError> {
            std::future::pending().await
        }
    }

    let mut gate =
        Gate::new(Arc::new(crate::store::NoProjects(Silent)), &crate::settings::Settings::default());
    gate.store_deadline = Duration::from_millis(1);
    assert_eq!(try_from(&gate, &text(Environment::Live), client), Some(AuthErrorKind::StoreTimeout));
}
