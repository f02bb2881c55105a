//! The accessors of a principal: they return the record of the verified key and what the request selected.

use std::sync::Arc;

use super::every_case::{facts, restrictions};
use super::world::{Answers, Hand, NOW, World, block_on, decide, gate, record, text};
use crate::auth_error::AuthErrorKind;
use crate::clock::Timestamp;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::Principal;
use crate::key::{Environment, KeyId, ProjectId};
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::RestrictionKind;
use crate::role::Role;
use crate::scheme_info::{Challenge, SchemeInfo};

/// Returns the principal of a request whose key has this record and was sent through this scheme.
fn principal(
    environment: Environment,
    change: impl FnOnce(&mut KeyRecord),
    scheme: Option<&SchemeInfo>,
) -> Principal {
    let world = World::new();
    *world.keys.lock().unwrap() = Answers::AtHand;
    let text = text(environment);
    let mut record = record(&text, environment);
    change(&mut record);
    world.holds(Arc::new(record));
    let gate = gate(&world, &Hand::new());
    let mut credentials = Credentials::new(&*text);
    if let Some(scheme) = scheme {
        credentials = credentials.through(scheme);
    }
    block_on(decide(&gate, &credentials, Endpoint::READ, facts)).ok().unwrap().principal
}

fn scheme() -> SchemeInfo {
    SchemeInfo::new("used", Challenge::api_bearer())
}

#[test]
fn r17_a_principal_returns_the_data_of_its_record() {
    let limits = "100/min".parse().unwrap();
    let fill = |key: &mut KeyRecord| {
        key.id = KeyId::new("key_7").unwrap();
        key.name = "deploy".into();
        key.level = KeyLevel::Project(ProjectId::new("p1").unwrap());
        key.scopes = ["jobs:read".into(), "jobs:write".into()].into();
        key.metadata = [("team".into(), "blue".into())].into();
        key.restrictions = restrictions(Some((RestrictionKind::Ip, true)));
        key.limits = Some(limits);
        key.expires_at = Some(NOW.saturating_add(std::time::Duration::from_secs(60)));
    };
    let who = principal(Environment::Test, fill, Some(&scheme()));
    let key = who.record().clone();
    assert_eq!((who.key_id().as_str(), who.key_name(), who.user_id().as_str()), ("key_7", "deploy", "alice"));
    assert_eq!(who.level(), &KeyLevel::Project(ProjectId::new("p1").unwrap()));
    assert_eq!(who.project().map(ProjectId::as_str), Some("p1"));
    assert_eq!((who.role(), who.environment()), (Role::Full, Environment::Test));
    assert_eq!(who.scheme(), Some("used"));
    assert_eq!(who.scheme_info().map(SchemeInfo::name), Some("used"));
    assert_eq!(who.scopes().iter().collect::<Vec<_>>(), ["jobs:read", "jobs:write"]);
    assert!(who.has_scope("jobs:read") && !who.has_scope("jobs"));
    assert_eq!(who.metadata().iter().collect::<Vec<_>>(), [(&"team".to_owned(), &"blue".to_owned())]);
    assert_eq!(who.expires_at(), key.expires_at);
    assert!(who.limits().is_some() && who.limits() == key.limits.as_ref());
    assert!(!who.restrictions().is_none() && *who.restrictions() == key.restrictions);
    let tally = who.tally().unwrap();
    assert!(std::ptr::eq(who.rate_limit().unwrap(), &**tally) && tally.remaining() == 99);
}

#[test]
fn r17_a_principal_of_a_plain_key_has_no_optional_data() {
    let who = principal(Environment::Live, |_| (), None);
    assert_eq!((who.key_id().as_str(), who.key_name()), ("key_1", ""));
    assert_eq!((who.level(), who.project()), (&KeyLevel::User, None));
    assert_eq!((who.environment(), who.scheme()), (Environment::Live, None));
    assert!(who.scopes().is_empty() && who.metadata().is_empty() && !who.has_scope("jobs:read"));
    assert_eq!(who.expires_at(), None::<Timestamp>);
    assert!(who.limits().is_none() && who.rate_limit().is_none() && who.tally().is_none());
    assert!(who.restrictions().is_none() && who.observed().next().is_none() && who.scheme_info().is_none());
}

#[test]
fn r56_a_principal_returns_the_observed_restrictions_that_would_have_refused() {
    let outside =
        |key: &mut KeyRecord| key.restrictions = restrictions(Some((RestrictionKind::Scheme, true)));
    let who = principal(Environment::Live, outside, Some(&scheme()));
    let observed: Vec<_> = who.observed().collect();
    assert!(observed.contains(&RestrictionKind::Scheme) && !observed.contains(&RestrictionKind::Ip));
    assert!(who.verdict().is_allowed() && who.verdict().observed().eq(observed));
}

#[test]
fn r43_a_refusal_by_a_handler_contains_the_key_and_the_scheme() {
    let who = principal(Environment::Test, |_| (), Some(&scheme()));
    let forbidden = who.forbidden();
    let read_only = who.refuse(AuthErrorKind::ReadOnly);
    assert_eq!(forbidden.kind(), AuthErrorKind::Forbidden);
    assert_eq!(read_only.kind(), AuthErrorKind::ReadOnly);
    for error in [forbidden, read_only] {
        assert_eq!(error.scheme(), Some("used"));
        let (key, environment) = error.about().unwrap();
        assert_eq!((key.as_str(), *environment), ("key_1", Environment::Test));
    }
}

#[test]
fn c13_01_debug_of_a_principal_shows_ids_and_no_other_data_of_the_record() {
    let named = |key: &mut KeyRecord| {
        key.name = "deploy".into();
        key.metadata = [("team".into(), "blue".into())].into();
    };
    let who = principal(Environment::Test, named, Some(&scheme()));
    let shown = format!("{who:?}");
    for shown_text in ["Principal", "key_1", "alice", "User", "Full", "Test", "used"] {
        assert!(shown.contains(shown_text), "{shown_text} in {shown}");
    }
    for hidden in ["deploy", "blue", "digest", &who.record().prefix] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}
