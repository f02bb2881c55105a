//! What an explanation concludes from the record, because it does not know the key's text.

use std::sync::Arc;

use super::every_case::All;
use super::world::{Hand, World, block_on, gate, record, text};
use crate::auth_error::AuthErrorKind;
use crate::credentials::Claims;
use crate::endpoint::Endpoint;
use crate::gate::Gate;
use crate::key::{DigestMethod, Environment};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;

/// Returns the refusals of a request with this key, and whether the store found the key.
fn explained(gate: &Gate, key: &KeyRecord) -> (Vec<AuthErrorKind>, bool) {
    let mut all = All::default();
    let facts = RequestContext::new();
    let found = block_on(gate.explaining(&mut all, key, &Claims::new(), Endpoint::READ, &facts));
    (all.0, found.key.is_some())
}

fn world_with(change: impl FnOnce(&mut KeyRecord)) -> (Gate, Arc<KeyRecord>) {
    let world = World::new();
    let mut key = record(&text(Environment::Live), Environment::Live);
    change(&mut key);
    let key = Arc::new(key);
    world.holds(Arc::clone(&key));
    (gate(&world, &Hand::new()), key)
}

#[test]
fn a8_only_a_key_with_another_prefix_needs_foreign_keys_to_be_accepted() {
    let (gate, ours) = world_with(|_| ());
    assert_eq!(explained(&gate, &ours), (Vec::new(), true));
    let (mut gate, foreign) = world_with(|key| key.prefix = String::new());
    assert_eq!(explained(&gate, &foreign), (vec![AuthErrorKind::MalformedKey], true));
    gate.rules.accept_foreign_keys = true;
    assert_eq!(explained(&gate, &foreign), (Vec::new(), true));
}

#[test]
fn c7_06_a_key_whose_digest_method_is_not_accepted_is_unknown() {
    let (gate, key) = world_with(|key| key.digested_by = DigestMethod::Sha512);
    assert_eq!(explained(&gate, &key), (vec![AuthErrorKind::UnknownKey], false));
}
