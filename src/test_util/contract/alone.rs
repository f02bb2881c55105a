//! Checks of a key store alone, and of a directory alone: what requests need of an application's own storage.

use std::sync::Arc;

use super::kit::{NOW, UniqueNames, find, later, ok};
use crate::key::{Environment, KeyDigest, ProjectId, UserId};
use crate::record::{KeyLevel, KeyRecord};
use crate::role::{AccountStatus, Role};
use crate::store::{Directory, KeyStore};

/// One key of each kind on which the decision about a request depends.
fn kinds(names: &UniqueNames) -> Vec<KeyRecord> {
    let project = KeyLevel::Project(ProjectId::new(names.text("p")).unwrap());
    let scopes = ["charges:read".to_owned(), "charges:write".to_owned()];
    let restricted = r#"{"ip":{"allow":["192.0.2.0/24"]}}"#;
    vec![
        names.key("user", "alice"),
        KeyRecord { level: project, ..names.key("project", "alice") },
        KeyRecord {
            environment: Environment::Test,
            prefix: "sk_test_".to_owned(),
            ..names.key("test", "alice")
        },
        KeyRecord { expires_at: Some(later(60)), ..names.key("ends", "bob") },
        KeyRecord { expires_at: Some(NOW), ..names.key("expired", "bob") },
        KeyRecord { revoked_at: Some(NOW), ..names.key("revoked", "bob") },
        KeyRecord { scopes: scopes.into(), ..names.key("scoped", "bob") },
        KeyRecord { restrictions: restricted.parse().unwrap(), ..names.key("restricted", "bob") },
        KeyRecord { limits: Some("12/min,200/30d".parse().unwrap()), ..names.key("limited", "bob") },
    ]
}

/// Compares the parts of a found key on which the decision about a request depends.
#[track_caller]
fn assert_decides_the_same(found: &KeyRecord, key: &KeyRecord) {
    let name = &key.name;
    assert!(found.digest.matches(&key.digest), "{name}: another key is found");
    assert_eq!(found.digested_by, key.digested_by, "{name}: how it is digested");
    assert_eq!(found.id, key.id, "{name}: the id");
    assert_eq!(found.owner, key.owner, "{name}: the owner");
    assert_eq!(found.level, key.level, "{name}: the level");
    assert_eq!(found.environment, key.environment, "{name}: the environment");
    assert_eq!(found.expires_at, key.expires_at, "{name}: the expiry");
    assert_eq!(found.revoked_at.is_some(), key.revoked_at.is_some(), "{name}: whether it is revoked");
    assert_eq!(found.scopes, key.scopes, "{name}: the scopes");
    assert_eq!(found.restrictions, key.restrictions, "{name}: the restrictions");
    assert_eq!(found.limits, key.limits, "{name}: the limits");
}

pub(super) async fn keys_are_found_as_they_were_put<S: KeyStore>(
    store: &S,
    put: &impl AsyncFn(&S, KeyRecord) -> bool,
) {
    let names = UniqueNames::new();
    let mut all = Vec::new();
    for key in kinds(&names) {
        assert!(find(store, &key.digest).await.is_none(), "{}: found before it is there", key.name);
        if put(store, key.clone()).await {
            all.push(key);
        }
    }
    assert!(all.iter().any(|key| key.name == "user"), "a key of the plainest kind must be kept");
    for key in &all {
        let found = find(store, &key.digest).await;
        let works = key.is_active(NOW);
        match &found {
            Some(found) => assert_decides_the_same(found, key),
            // A store may drop keys that have ended.
            None => assert!(!works, "{}: a key that works is not found", key.name),
        }
        for now in [NOW, later(59), later(60)] {
            match ok(store.find_at(&key.digest, now).await) {
                Some(found) if key.is_active(now) => assert_decides_the_same(&found, key),
                Some(found) => assert!(!found.is_active(now), "{}: it has ended, and works", key.name),
                None => assert!(!key.is_active(now), "{}: a key that works is not found", key.name),
            }
        }
    }
}

pub(super) async fn only_the_whole_digest_finds_a_key<S: KeyStore>(
    store: &S,
    put: &impl AsyncFn(&S, KeyRecord) -> bool,
) {
    let names = UniqueNames::new();
    let (lower, upper) = (names.key("sk_live_abc", "u"), names.key("sk_live_ABC", "U"));
    for key in [&lower, &upper] {
        assert!(find(store, &key.digest).await.is_none(), "keys that differ in case are one (C7-11)");
        assert!(put(store, key.clone()).await, "a key of the plainest kind must be kept");
        let found = find(store, &key.digest).await.expect("a key is found by its digest");
        assert_decides_the_same(&found, key);
    }
    for bit in 0..256_usize {
        let mut bytes = *lower.digest.as_bytes();
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let other = KeyDigest::from_bytes(bytes);
        assert!(find(store, &other).await.is_none(), "a digest that differs in bit {bit} is found");
        assert!(
            ok(store.find_at(&other, NOW).await).is_none(),
            "a digest that differs in bit {bit} is found"
        );
    }
}

/// Looks a user up as a request does. A cached answer must be the same.
async fn role<S: Directory>(store: &S, user: &UserId, project: Option<&ProjectId>) -> Option<Role> {
    let answer = ok(store.account_status(user, project).await);
    if let Some(cached) = store.account_status_cached(user, project) {
        assert_eq!(cached, answer, "`account_status_cached` and `account_status` disagree");
    }
    match answer {
        AccountStatus::Active { role } => role,
        AccountStatus::Disabled => None,
    }
}

pub(super) async fn people_may_do_what_they_were_given<S: Directory>(
    store: &Arc<S>,
    put: &impl AsyncFn(&S, &UserId, Role, &[ProjectId]) -> bool,
) {
    let names = UniqueNames::new();
    let project = |id: &str| ProjectId::new(names.text(id)).unwrap();
    let mut any = false;
    for given in [Role::Owner, Role::Full, Role::ReadOnly] {
        let name = given.as_str();
        let user = names.user(name);
        let own = [project(&format!("{name}1")), project(&format!("{name}2"))];
        for asked in [None, own.first()] {
            assert_eq!(
                role(&**store, &user, asked).await,
                None,
                "{name}: a user who is not there has a role"
            );
        }
        if !put(store, &user, given, &own).await {
            continue;
        }
        any = true;
        for id in &own {
            assert_eq!(role(&**store, &user, Some(id)).await, Some(given), "{name} on {id}");
        }
        // In the account, a user may have a lower role than in a project, but never a higher one.
        assert!(role(&**store, &user, None).await <= Some(given), "{name} in the account");
        for other in ["p", "P1", "all", "null"] {
            let other = project(other);
            assert_eq!(role(&**store, &user, Some(&other)).await, None, "{name} on {other}");
        }
        for id in &own {
            let other = ProjectId::new(id.as_str().to_ascii_lowercase()).unwrap();
            let same = own.contains(&other);
            assert!(same || role(&**store, &user, Some(&other)).await.is_none(), "{id} and {other} are one");
            let stranger = UserId::new(user.as_str().to_ascii_lowercase()).unwrap();
            assert_eq!(role(&**store, &stranger, Some(id)).await, None, "{user} and {stranger} are one");
            let nobody = names.user("nobody");
            assert_eq!(role(&**store, &nobody, Some(id)).await, None, "a stranger has a role on {id}");
        }
    }
    assert!(any, "the directory keeps people of one role at least");
}

pub(super) async fn who_is_removed_may_nothing<S: Directory>(
    store: &Arc<S>,
    put: &impl AsyncFn(&S, &UserId, Role, &[ProjectId]) -> bool,
    remove: &impl AsyncFn(&S, &UserId),
) {
    let names = UniqueNames::new();
    for given in [Role::Full, Role::ReadOnly] {
        let (user, other) = (names.user(given.as_str()), names.user(&format!("other{}", given.as_str())));
        let (own, others) = (
            ProjectId::new(names.text(given.as_str())),
            ProjectId::new(names.text(&format!("o{}", given.as_str()))),
        );
        let (own, others) = ([own.unwrap()], [others.unwrap()]);
        if !put(store, &user, given, &own).await {
            continue;
        }
        let stays = put(store, &other, given, &others).await;
        assert_eq!(role(&**store, &user, own.first()).await, Some(given));
        remove(store, &user).await;
        for asked in [None, own.first()] {
            let status = ok(store.account_status(&user, asked).await);
            assert_eq!(status, AccountStatus::Disabled, "who was removed is still there");
            assert_eq!(role(&**store, &user, asked).await, None);
        }
        assert!(
            !stays || role(&**store, &other, others.first()).await == Some(given),
            "somebody else went, too"
        );
        if stays {
            remove(store, &other).await;
        }
    }
}
