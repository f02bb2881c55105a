//! Keys with a slow hash: they are found by their start, and their whole text is compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::{Answers, Hand, Hands, NOW, World, block_on, decide, gate, record, refused};
use crate::SlowHashes;
use crate::auth_error::AuthErrorKind;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::{Admission, Gate};
use crate::key::{DigestMethod, Digests, Environment, KeyDigest};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::store::{KeyStore, NoProjects, StoreError};

const TEXT: &str = "start.the-rest-of-it";

fn ring(slow: SlowHashes) -> Digests {
    Digests::sha256().accept_slow(slow)
}

fn accepting(mut gate: Gate, slow: SlowHashes) -> Gate {
    gate.rules.digests = ring(slow);
    gate.rules.accept_foreign_keys = true;
    gate
}

fn until_a_dot() -> SlowHashes {
    SlowHashes::until('.')
}

/// The record of a key with the start of [`TEXT`] and the slow hash of `text`.
fn hashed(text: &str) -> KeyRecord {
    let hash = bcrypt::hash(text, 4).unwrap();
    let mut key = record(text, Environment::Live);
    key.prefix = String::new();
    key.digest = ring(until_a_dot()).slow().unwrap().digest(TEXT).unwrap();
    key.digested_by = format!("slow${hash}").parse().unwrap();
    key
}

fn holding(key: KeyRecord, answers: Answers, slow: SlowHashes) -> Gate {
    let world = World::new();
    *world.keys.lock().unwrap() = answers;
    world.holds(Arc::new(key));
    accepting(gate(&world, &Hand::new()), slow)
}

fn send(gate: &Gate, text: &str) -> Result<Admission, crate::auth_error::AuthError> {
    block_on(decide(gate, &Credentials::new(text), Endpoint::READ, RequestContext::new))
}

#[test]
fn c17_g_a_key_with_a_slow_hash_is_accepted_only_with_its_whole_text() {
    for answers in [Answers::AtHand, Answers::WhenAsked] {
        let gate = holding(hashed(TEXT), answers, until_a_dot());
        let admission = send(&gate, TEXT).ok().unwrap();
        let outdated = admission.outdated.unwrap();
        assert!(outdated.newest.matches(&KeyDigest::of(TEXT)), "{answers:?}");
        // The permit is held until the key is rehashed, so no other request computes the slow hash meanwhile.
        assert!(outdated.turn.is_some(), "{answers:?}");
        drop(outdated);
        for wrong in ["start.another-rest", "start.", "other.the-rest-of-it"] {
            assert_eq!(refused(send(&gate, wrong)), Some(AuthErrorKind::UnknownKey), "{answers:?} {wrong}");
        }
        let leaked = block_on(gate.find_leaked(&Credentials::new(TEXT), None)).ok().unwrap();
        assert_eq!(leaked.unwrap().id.as_str(), "key_1");
    }
}

#[test]
fn c17_g_an_ended_key_with_a_slow_hash_is_refused_without_a_check_and_found_as_leaked() {
    let mut key = hashed(TEXT);
    key.revoked_at = Some(NOW);
    // There is no room for a check, so a check would give 503.
    let gate = holding(key.clone(), Answers::WhenAsked, until_a_dot().waiting(0));
    assert_eq!(refused(send(&gate, TEXT)), Some(AuthErrorKind::RevokedKey));
    let gate = holding(key, Answers::WhenAsked, until_a_dot());
    assert!(block_on(gate.find_leaked(&Credentials::new(TEXT), None)).ok().unwrap().is_some());
}

#[test]
fn c17_g_a_request_is_overloaded_if_there_is_no_room_for_a_check() {
    let gate = holding(hashed(TEXT), Answers::WhenAsked, until_a_dot().waiting(0));
    assert_eq!(refused(send(&gate, TEXT)), Some(AuthErrorKind::Overloaded));
    assert_eq!(refused(send(&gate, "other.the-rest")), Some(AuthErrorKind::UnknownKey));
}

#[test]
fn c10_06_a_record_of_another_method_under_a_start_is_an_error() {
    let mut key = hashed(TEXT);
    key.digested_by = DigestMethod::Sha256;
    let gate = holding(key, Answers::WhenAsked, until_a_dot());
    assert_eq!(refused(send(&gate, TEXT)), Some(AuthErrorKind::StoreFailed));
}

/// A store that compares only a part of the digest.
#[test]
fn c10_06_a_record_of_another_start_is_no_answer() {
    struct Vague(Arc<KeyRecord>);

    #[async_trait::async_trait]
    impl KeyStore for Vague {
        async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            Ok(Some(Arc::clone(&self.0)))
        }
    }

    let mut key = hashed(TEXT);
    key.digest = KeyDigest::of("another start");
    let gate = Gate::new(Arc::new(NoProjects(Vague(Arc::new(key)))), &crate::settings::Settings::default());
    let gate = accepting(gate, until_a_dot());
    assert_eq!(refused(send(&gate, TEXT)), Some(AuthErrorKind::UnknownKey));
}

/// The look-ups are: the newest digest, the start, the start again when the check begins, and once more after it.
#[test]
fn c17_g_a_key_that_changes_during_its_slow_check_is_refused() {
    struct Changing(Arc<AtomicUsize>, usize, [Arc<KeyRecord>; 2]);

    #[async_trait::async_trait]
    impl KeyStore for Changing {
        async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            let late = self.0.fetch_add(1, Ordering::Relaxed) >= self.1;
            let key = &self.2[usize::from(late)];
            Ok(key.digest.matches(digest).then(|| Arc::clone(key)))
        }
    }

    let before = Arc::new(hashed(TEXT));
    let rehashed = Arc::new(hashed(TEXT));
    let other = Arc::new(hashed("start.something-else"));
    let mut revoked = KeyRecord::clone(&before);
    revoked.revoked_at = Some(NOW);
    let revoked = Arc::new(revoked);
    for (after, at, due, lookups) in [
        (&before, 0, None, 4),
        (&other, 4, None, 4),
        // A key that is not found by its start may have moved to the newest digest.
        (&other, 3, Some(AuthErrorKind::UnknownKey), 5),
        (&other, 2, Some(AuthErrorKind::UnknownKey), 4),
        // The hash that was compared is outdated, although the new one matches the same text.
        (&rehashed, 3, Some(AuthErrorKind::UnknownKey), 5),
        (&revoked, 4, None, 4),
        (&revoked, 3, Some(AuthErrorKind::RevokedKey), 4),
        // The slow hash is not computed any more.
        (&revoked, 2, Some(AuthErrorKind::RevokedKey), 3),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let store = Changing(Arc::clone(&asked), at, [Arc::clone(&before), Arc::clone(after)]);
        let gate = Gate::new(Arc::new(NoProjects(store)), &crate::settings::Settings::default());
        let mut gate = accepting(gate, until_a_dot());
        gate.rules.clock = Arc::new(Hands(Hand::new()));
        assert_eq!(refused(send(&gate, TEXT)), due, "{at}");
        assert_eq!(asked.load(Ordering::Relaxed), lookups, "{at}");
    }
}
