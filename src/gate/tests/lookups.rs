//! By which digests a key is looked up, in which order, and with how many queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::{Answers, Hand, Hands, NOW, World, block_on, decide, gate, record, refused, text};
use crate::auth_error::AuthErrorKind;
use crate::clock::{Clock, Timestamp};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::Gate;
use crate::key::pepper::Pepper;
use crate::key::{DigestMethod, Digests, Environment, KeyDigest, ProjectId, UserId};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::role::{AccountStatus, Role};
use crate::store::{Directory, KeyStore, StoreError};

fn pepper(id: &str) -> Pepper {
    Pepper::new(id, [id.as_bytes(), &[7; 32]].concat()).unwrap()
}

/// Digests with a pepper, an older pepper, and the oldest without one.
fn ring() -> Digests {
    Digests::peppered(pepper("2027")).unwrap().accept_pepper(pepper("2026")).unwrap().accept_sha256()
}

fn peppered(answers: Answers) -> (Arc<World>, Gate, String) {
    let world = World::new();
    *world.keys.lock().unwrap() = answers;
    let mut gate = gate(&world, &Hand::new());
    gate.rules.digests = ring();
    (world, gate, text(Environment::Live))
}

/// Stores a key under one of its digests.
fn hold(world: &World, gate: &Gate, text: &str, way: usize) -> KeyDigest {
    let ring = &gate.rules.digests;
    let digester = std::iter::once(ring.newest()).chain(ring.oldest_first()).nth(way).unwrap();
    let mut key = record(text, Environment::Live);
    key.digest = digester.digest(text);
    key.digested_by = digester.method();
    let digest = key.digest;
    world.holds(Arc::new(key));
    digest
}

#[test]
fn r60_every_digest_of_the_ring_is_asked_for_once_the_oldest_first() {
    for answers in [Answers::AtHand, Answers::WhenAsked] {
        for way in 0..3 {
            let (world, gate, text) = peppered(answers);
            let held = hold(&world, &gate, &text, way);
            let admission =
                block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, RequestContext::new))
                    .ok()
                    .unwrap();
            let outdated = admission.outdated.map(|outdated| outdated.newest);
            let newest = gate.rules.digests.newest().digest(&text);
            assert_eq!(outdated.is_some(), way > 0, "{answers:?} {way}");
            assert!(outdated.is_none_or(|digest| digest.matches(&newest)));
            let asked = world.found.lock().unwrap().clone();
            let due = if answers == Answers::AtHand { 0 } else { way + 1 };
            assert_eq!(asked.len(), due, "{answers:?} {way}");
            assert!(asked.last().is_none_or(|last| last.matches(&held)));
        }
    }
}

#[test]
fn r60_an_unknown_key_costs_a_look_up_for_each_way_and_one_more() {
    for answers in [Answers::AtHand, Answers::WhenAsked] {
        let (world, gate, text) = peppered(answers);
        let result = block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, RequestContext::new));
        assert_eq!(refused(result), Some(AuthErrorKind::UnknownKey));
        let asked = world.found.lock().unwrap().len();
        assert_eq!(asked, if answers == Answers::AtHand { 0 } else { 4 });
    }
    // With a single method there is no older digest.
    let world = World::new();
    let gate = gate(&world, &Hand::new());
    let text = text(Environment::Live);
    let result = block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, RequestContext::new));
    assert_eq!(refused(result), Some(AuthErrorKind::UnknownKey));
    assert_eq!(world.found.lock().unwrap().len(), 1);
}

#[test]
fn c10_06_a_record_that_was_digested_in_another_way_than_it_says_is_an_error() {
    for (way, says) in [(0, DigestMethod::Sha256), (1, DigestMethod::Sha512), (2, DigestMethod::Sha256)] {
        let (world, gate, text) = peppered(Answers::WhenAsked);
        let mut key = record(&text, Environment::Live);
        let ring = &gate.rules.digests;
        let digester = std::iter::once(ring.newest()).chain(ring.oldest_first()).nth(way).unwrap();
        key.digest = digester.digest(&text);
        key.digested_by = says;
        world.holds(Arc::new(key));
        let result = block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, RequestContext::new));
        assert_eq!(refused(result), Some(AuthErrorKind::StoreFailed), "{way}");
    }
}

/// A store that compares only a part of the digest.
#[test]
fn c10_06_a_record_of_another_digest_is_no_answer() {
    struct Vague(Arc<KeyRecord>);

    #[async_trait::async_trait]
    impl KeyStore for Vague {
        async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            Ok(Some(Arc::clone(&self.0)))
        }
    }

    let other = record(&text(Environment::Live), Environment::Live);
    let gate = Gate::new(
        Arc::new(crate::store::NoProjects(Vague(Arc::new(other)))),
        &crate::settings::Settings::default(),
    );
    let text = text(Environment::Live);
    let result = block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, RequestContext::new));
    assert_eq!(refused(result), Some(AuthErrorKind::UnknownKey));
}

#[test]
fn r60_what_moves_to_the_newest_digest_meanwhile_is_found() {
    let (world, gate, text) = peppered(Answers::AtHand);
    // The key is not there at the first look-up of the newest digest, but at the second.
    let paused = {
        *world.keys.lock().unwrap() = Answers::WhenAsked;
        gate.now(&Credentials::new(&*text), Endpoint::READ, RequestContext::new).ok().unwrap().err().unwrap()
    };
    hold(&world, &gate, &text, 0);
    let admission =
        block_on(gate.asking(paused, &Credentials::new(&*text), RequestContext::new)).ok().unwrap();
    assert!(admission.outdated.is_none());
}

#[test]
fn r60_a_leaked_key_is_found_whether_it_has_ended_or_not() {
    for way in 0..3 {
        let (world, gate, text) = peppered(Answers::WhenAsked);
        hold(&world, &gate, &text, way);
        let mut records = world.records.lock().unwrap();
        Arc::get_mut(&mut records[0]).unwrap().revoked_at = Some(NOW);
        drop(records);
        let found = block_on(gate.find_leaked(&Credentials::new(&*text), None)).ok().unwrap();
        assert_eq!(found.unwrap().id.as_str(), "key_1");
        assert!(gate.may_be_key(&text) && !gate.may_be_key("no key"));
        let none = block_on(gate.find_leaked(&Credentials::new("no key"), None)).ok().unwrap();
        assert!(none.is_none());
    }
}

/// What of a key a request and a revocation need: a request refuses an ended key, whatever else its record has.
#[test]
fn r60_a_request_asks_for_a_key_at_this_moment_and_a_revocation_for_the_whole_record() {
    /// A store that counts what it was asked for: keys at a moment, and whole records.
    struct Counting(Arc<KeyRecord>, [AtomicUsize; 2]);

    #[async_trait::async_trait]
    impl KeyStore for Counting {
        async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            self.1[1].fetch_add(1, Ordering::Relaxed);
            Ok(Some(Arc::clone(&self.0)))
        }

        async fn find_at(&self, _: &KeyDigest, at: Timestamp) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            assert_eq!(at, NOW);
            self.1[0].fetch_add(1, Ordering::Relaxed);
            Ok(Some(Arc::clone(&self.0)))
        }
    }

    #[async_trait::async_trait]
    impl Directory for Counting {
        async fn account_status(
            &self,
            _: &UserId,
            _: Option<&ProjectId>,
        ) -> Result<AccountStatus, StoreError> {
            Ok(AccountStatus::Active { role: Some(Role::Full) })
        }
    }

    let text = text(Environment::Live);
    let store = Arc::new(Counting(Arc::new(record(&text, Environment::Live)), Default::default()));
    let mut gate = Gate::new(Arc::clone(&store), &crate::settings::Settings::default());
    gate.rules.clock = Arc::new(Hands(Hand::new()));
    let asked = || [0, 1].map(|of| store.1[of].load(Ordering::Relaxed));
    let credentials = Credentials::new(&*text);
    assert!(block_on(decide(&gate, &credentials, Endpoint::READ, RequestContext::new)).is_ok());
    assert_eq!(asked(), [1, 0]);
    assert!(block_on(gate.find_leaked(&credentials, None)).ok().unwrap().is_some());
    assert_eq!(asked(), [1, 1]);
}

/// Otherwise the time that an answer takes would tell an unknown key from an expired one.
#[test]
fn c7_02_an_unknown_and_an_expired_key_read_the_clock_equally_often() {
    struct Read(AtomicUsize);

    impl Clock for Read {
        fn now(&self) -> Timestamp {
            self.0.fetch_add(1, Ordering::Relaxed);
            NOW
        }
    }

    for answers in [Answers::AtHand, Answers::WhenAsked] {
        let [unknown, expired] = [false, true].map(|is_there| {
            let world = World::new();
            *world.keys.lock().unwrap() = answers;
            let text = text(Environment::Live);
            let mut key = record(&text, Environment::Live);
            key.expires_at = Some(NOW);
            if is_there {
                world.holds(Arc::new(key));
            }
            let clock = Arc::new(Read(AtomicUsize::new(0)));
            let mut gate = gate(&world, &Hand::new());
            gate.rules.clock = Arc::clone(&clock) as Arc<dyn Clock>;
            let result =
                block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, RequestContext::new));
            let due = if is_there { AuthErrorKind::ExpiredKey } else { AuthErrorKind::UnknownKey };
            assert_eq!(refused(result), Some(due));
            clock.0.load(Ordering::Relaxed)
        });
        assert_eq!(unknown, expired, "{answers:?}");
    }
}
