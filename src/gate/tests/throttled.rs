//! Throttling of wrong keys, and limits on concurrent look-ups.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::world::{Answers, CLIENT, Hand, Hands, NOW, World, block_on, decide, gate, record, refused, text};
use crate::auth_error::AuthErrorKind;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::{Gate, counts};
use crate::key::{Environment, KeyId};
use crate::limit::{KeyThrottle, Limiter};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::role::AccountStatus;

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
    let refusal = block_on(decide(&gate, &Credentials::new(&*wrong), Endpoint::READ, client)).err().unwrap();
    assert_eq!(refusal.kind(), AuthErrorKind::RateLimited);
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(20)));
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
        key.id = KeyId::new("key_2").unwrap();
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
    let refusal = block_on(decide(&gate, &Credentials::new(&*good), Endpoint::READ, client)).err().unwrap();
    assert_eq!(refusal.kind(), AuthErrorKind::RateLimited);
    // The refusal contains the key, for observers, and the time to wait, for the client.
    assert_eq!(refusal.about().map(|(key, _)| key.as_str()), Some("key_1"));
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(30)));
    // From now on it is a wrong key like any other, and the store is not asked about it.
    let asked = world.found.lock().unwrap().len();
    assert_eq!(try_from(&gate, &good, client), Some(AuthErrorKind::RateLimited));
    assert_eq!(world.found.lock().unwrap().len(), asked);
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
fn c7_09_a_refusal_that_tells_that_the_key_is_good_is_never_throttled() {
    let (world, _, gate) = throttled();
    *world.standing.lock().unwrap() = AccountStatus::Active { role: None };
    let key = text(Environment::Live);
    world.holds(Arc::new(record(&key, Environment::Live)));
    for _ in 0..8 {
        assert_eq!(try_from(&gate, &key, client), Some(AuthErrorKind::Forbidden));
    }
}

/// Revokes a key by `change`, sends it, and fills the limiter. Returns how many requests the key's family has left then.
fn left_after(change: impl FnOnce(&mut KeyRecord)) -> u32 {
    let (world, _, mut gate) = throttled();
    let key = text(Environment::Live);
    let mut held = record(&key, Environment::Live);
    held.limits = Some("5/365d".parse().unwrap());
    let (family, limits) = (held.family.clone(), held.limits.clone().unwrap());
    world.holds(Arc::new(held));
    gate.limiter = Arc::new(Limiter::new(2));
    for _ in 0..2 {
        assert_eq!(try_from(&gate, &key, RequestContext::new), None);
    }
    assert_eq!(gate.limiter.peek(&family, &limits, NOW).remaining(), 2);
    let mut records = world.records.lock().unwrap();
    change(Arc::get_mut(&mut records[0]).unwrap());
    drop(records);
    assert_eq!(try_from(&gate, &key, RequestContext::new), Some(AuthErrorKind::RevokedKey));
    // The limiter has room for two keys. The others have spent less than the first.
    for other in ["key_8", "key_9"] {
        let _ = gate.limiter.take(&KeyId::new(other).unwrap(), &"9/365d".parse().unwrap(), NOW);
    }
    gate.limiter.peek(&family, &limits, NOW).remaining()
}

#[test]
fn c17_b8_the_limits_of_a_key_that_has_ended_are_evicted_first() {
    assert_eq!(left_after(|key| key.revoked_at = Some(NOW)), 4);
}

/// Otherwise the holder of two keys of a family could reset the limits by sending the ended one.
#[test]
fn c17_b8_the_limits_of_a_key_that_was_replaced_are_kept() {
    let replaced = |key: &mut KeyRecord| key.replace(&KeyId::new("key_2").unwrap(), NOW, NOW);
    assert_eq!(left_after(replaced), 2);
}

/// The throttle is asked once for each request: failures of concurrent requests do not change the answer.
#[test]
fn c7_09_a_request_that_may_ask_the_store_is_not_throttled_by_what_fails_meanwhile() {
    /// A store that finds nothing, once it may answer.
    struct Held(Arc<Semaphore>);

    #[async_trait::async_trait]
    impl crate::store::KeyStore for Held {
        async fn find(
            &self,
            _: &crate::key::KeyDigest,
        ) -> Result<Option<Arc<KeyRecord>>, crate::store::StoreError> {
            let _ = self.0.acquire().await;
            Ok(None)
        }
    }

    let may_answer = Arc::new(Semaphore::new(0));
    let store = crate::store::NoProjects(Held(Arc::clone(&may_answer)));
    let mut gate = Gate::new(Arc::new(store), &crate::settings::Settings::default());
    gate.throttle = throttled().2.throttle;
    gate.rules.clock = Arc::new(Hands(Hand::new()));
    let wrong = text(Environment::Live);
    let credentials = Credentials::new(&*wrong);
    block_on(async {
        let ask = || async {
            let paused = gate.now(&credentials, Endpoint::READ, client).ok().unwrap().err().unwrap();
            refused(gate.asking(paused, &credentials, client).await)
        };
        let release = async { may_answer.add_permits(8) };
        let (first, second, third, fourth, fifth, ()) =
            tokio::join!(ask(), ask(), ask(), ask(), ask(), release);
        assert_eq!([first, second, third, fourth, fifth], [Some(AuthErrorKind::UnknownKey); 5]);
        assert_eq!(ask().await, Some(AuthErrorKind::RateLimited));
    });
}

#[test]
fn c10_01_a_store_that_does_not_answer_in_time_is_a_503() {
    struct Silent;

    #[async_trait::async_trait]
    impl crate::store::KeyStore for Silent {
        async fn find(
            &self,
            _: &crate::key::KeyDigest,
        ) -> Result<Option<Arc<KeyRecord>>, crate::store::StoreError> {
            std::future::pending().await
        }
    }

    let mut gate =
        Gate::new(Arc::new(crate::store::NoProjects(Silent)), &crate::settings::Settings::default());
    gate.store_deadline = Duration::from_millis(1);
    assert_eq!(try_from(&gate, &text(Environment::Live), client), Some(AuthErrorKind::StoreTimeout));
}
