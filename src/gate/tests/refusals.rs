//! The names of the checks, and the cause that a refusal contains.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use super::every_case::{facts, restrictions};
use super::world::{Answers, Hand, NOW, World, block_on, decide, gate, record, refused, text};
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::clock::Timestamp;
use crate::credentials::Credentials;
use crate::deprecation::Deprecation;
use crate::endpoint::Endpoint;
use crate::gate::{Admission, Check, Gate};
use crate::key::Environment;
use crate::restriction::{RestrictionKind, Verdict};
use crate::scheme_info::{Challenge, SchemeInfo};
use crate::store::StoreError;

fn send(gate: &Gate, text: &str) -> Result<Admission, AuthError> {
    let scheme = SchemeInfo::new("used", Challenge::api_bearer());
    block_on(decide(gate, &Credentials::new(text).through(&scheme), Endpoint::READ, facts))
}

#[test]
fn a8_the_names_of_the_checks_do_not_change() {
    let names = [
        "https",
        "sunset",
        "shape",
        "throttle",
        "known",
        "revocation",
        "expiry",
        "environment",
        "owner",
        "scheme",
        "user",
        "ip",
        "referrer",
        "endpoint",
        "project",
        "access",
        "role",
        "level",
        "limits",
    ];
    assert_eq!(Check::ALL.map(Check::as_str), names);
    assert_eq!(format!("{:>6}|{:<6}|{}", Check::Role, Check::Role, Check::Role), "  role|role  |role");
}

#[test]
fn c10_01_a_refusal_contains_the_error_of_the_store() {
    let world = World::new();
    *world.keys.lock().unwrap() = Answers::Never;
    let error = send(&gate(&world, &Hand::new()), &text(Environment::Live)).err().unwrap();
    assert_eq!(error.kind(), AuthErrorKind::StoreFailed);
    assert!(matches!(error.source().unwrap().downcast_ref(), Some(StoreError::Failed(_))));
}

#[test]
fn r56_a_refusal_contains_the_restriction_that_refused() {
    let (world, key) = (World::new(), text(Environment::Live));
    let mut held = record(&key, Environment::Live);
    held.restrictions = restrictions(Some((RestrictionKind::Ip, false)));
    world.holds(Arc::new(held));
    let error = send(&gate(&world, &Hand::new()), &key).err().unwrap();
    assert_eq!(error.kind(), AuthErrorKind::Restricted);
    let verdict = error.source().unwrap().downcast_ref::<Verdict>().unwrap();
    assert!(verdict.refuses(RestrictionKind::Ip));
}

#[test]
fn a8_a_refusal_by_a_rate_limit_contains_the_time_to_wait() {
    let (world, key) = (World::new(), text(Environment::Live));
    let mut held = record(&key, Environment::Live);
    held.limits = Some("1/min".parse().unwrap());
    world.holds(Arc::new(held));
    let gate = gate(&world, &Hand::new());
    assert!(send(&gate, &key).is_ok());
    let error = send(&gate, &key).err().unwrap();
    assert_eq!(error.kind(), AuthErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(error.about().unwrap().0.as_str(), "key_1");
}

#[test]
fn a8_a_deprecated_scheme_is_accepted_until_its_sunset() {
    let (world, clock, key) = (World::new(), Hand::new(), text(Environment::Live));
    world.holds(Arc::new(record(&key, Environment::Live)));
    let gate = gate(&world, &clock);
    let sunset = NOW.saturating_add(Duration::from_secs(1));
    let deprecation = Deprecation::new(Timestamp::from_secs(1)).unwrap().sunset(sunset).unwrap();
    let scheme = SchemeInfo::new("used", Challenge::api_bearer()).deprecated(deprecation);
    let credentials = Credentials::new(&*key).through(&scheme);
    let send = || refused(block_on(decide(&gate, &credentials, Endpoint::READ, facts)));
    assert_eq!(send(), None);
    clock.advance(1);
    assert_eq!(send(), Some(AuthErrorKind::SchemeEnded));
}
