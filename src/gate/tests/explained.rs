//! What an explanation reports, and what it concludes from the record, because it does not know the key's text.

use std::sync::Arc;

use super::world::{Answers, CLIENT, Hand, NOW, World, block_on, gate, record, text};
use crate::auth_error::AuthErrorKind;
use crate::credentials::Claims;
use crate::endpoint::Endpoint;
use crate::gate::{Check, CheckListener, Gate, Refusal};
use crate::key::{DigestMethod, Environment};
use crate::limit::KeyThrottle;
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::role::{AccountStatus, Role};

/// A listener that records every check, and continues if possible.
#[derive(Default)]
struct Heard(Vec<(Check, Option<AuthErrorKind>)>);

impl CheckListener for Heard {
    type Stop = ();

    fn hear<E: Into<Refusal>>(&mut self, check: Check, answer: Result<(), E>) -> Result<(), ()> {
        let _ = self.need(check, answer);
        Ok(())
    }

    fn need<T, E: Into<Refusal>>(&mut self, check: Check, answer: Result<T, E>) -> Result<T, ()> {
        let answer = answer.map_err(|refusal| refusal.into().kind);
        self.0.push((check, answer.as_ref().err().copied()));
        answer.map_err(drop)
    }

    fn about((): (), _: Arc<KeyRecord>) {}
}

impl Heard {
    fn refused(&self) -> Vec<(Check, AuthErrorKind)> {
        self.0.iter().filter_map(|(check, refusal)| refusal.map(|kind| (*check, kind))).collect()
    }
}

/// Explains a read request with this key. Returns what was reported, and whether the store found the key.
fn explained(gate: &Gate, key: &KeyRecord) -> (Heard, bool) {
    let mut heard = Heard::default();
    let facts = RequestContext::new().address(CLIENT);
    let explained = block_on(gate.explaining(&mut heard, key, &Claims::new(), Endpoint::READ, &facts));
    (heard, explained.key.is_some())
}

fn with_key(change: impl FnOnce(&mut KeyRecord)) -> (Arc<World>, Gate, Arc<KeyRecord>) {
    let world = World::new();
    let mut key = record(&text(Environment::Live), Environment::Live);
    change(&mut key);
    let key = Arc::new(key);
    world.holds(Arc::clone(&key));
    let gate = gate(&world, &Hand::new());
    (world, gate, key)
}

#[test]
fn a8_an_explanation_reports_every_check_in_order_whether_the_facts_are_cached_or_not() {
    for answers in [Answers::AtHand, Answers::WhenAsked] {
        let (world, gate, key) = with_key(|key| key.limits = Some("1/min".parse().unwrap()));
        *world.keys.lock().unwrap() = answers;
        *world.directory.lock().unwrap() = answers;
        let mut heard = Heard::default();
        let (claims, facts) = (Claims::new(), RequestContext::new());
        let explained = block_on(gate.explaining(&mut heard, &key, &claims, Endpoint::READ, &facts));
        // The layer makes the first check, before there is a key.
        let checks: Vec<_> = heard.0.iter().map(|(check, _)| *check).collect();
        assert_eq!(checks, Check::ALL[1..], "{answers:?}");
        assert_eq!(heard.refused(), [], "{answers:?}");
        assert!(Arc::ptr_eq(&explained.key.unwrap(), &key));
        assert_eq!(explained.standing, Some(AccountStatus::Active { role: Some(Role::Full) }));
        assert_eq!(explained.tally.unwrap().remaining(), 0);

        let _ = gate.limiter.take(&key.family, key.limits.as_ref().unwrap(), NOW);
        let (heard, _) = self::explained(&gate, &key);
        assert_eq!(heard.refused(), [(Check::Limits, AuthErrorKind::RateLimited)]);
    }
}

#[test]
fn a8_only_a_key_with_another_prefix_needs_foreign_keys_to_be_accepted() {
    let (_, gate, ours) = with_key(|_| ());
    assert_eq!(explained(&gate, &ours).0.refused(), []);
    let (_, mut gate, foreign) = with_key(|key| key.prefix = String::new());
    let (heard, found) = explained(&gate, &foreign);
    assert_eq!((heard.refused(), found), (vec![(Check::Shape, AuthErrorKind::MalformedKey)], true));
    gate.rules.accept_foreign_keys = true;
    assert_eq!(explained(&gate, &foreign).0.refused(), []);
}

#[test]
fn c7_06_a_key_whose_digest_method_is_not_accepted_is_unknown() {
    let (_, gate, key) = with_key(|key| key.digested_by = DigestMethod::Sha512);
    let (heard, found) = explained(&gate, &key);
    assert_eq!((heard.refused(), found), (vec![(Check::Known, AuthErrorKind::UnknownKey)], false));
}

#[test]
fn c7_09_an_explanation_reports_the_throttle_only_if_the_store_must_be_asked() {
    let (world, mut gate, key) = with_key(|_| ());
    let throttle = KeyThrottle::default().lookups("1/min".parse().unwrap());
    for _ in 0..2 {
        throttle.refused(CLIENT, &record(&text(Environment::Live), Environment::Live).digest, NOW);
    }
    gate.throttle = Some(Arc::new(throttle));
    let (heard, found) = explained(&gate, &key);
    assert_eq!((heard.refused(), found), (vec![(Check::Throttle, AuthErrorKind::RateLimited)], true));
    *world.keys.lock().unwrap() = Answers::AtHand;
    assert_eq!(explained(&gate, &key).0.refused(), []);
}
