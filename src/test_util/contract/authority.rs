//! Who may change which key, as checked in the transaction of the change.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Arc;

use super::kit::{
    NOW, UniqueNames, assert_same, by_system, find, history, is_active, known, later, member, ok, project,
    race, refused,
};
use crate::authority::{Authority, Denied};
use crate::key::Environment;
use crate::key_update::KeyUpdate;
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{IpRestriction, Restrictions};
use crate::store::{Accounts, Directory, KeyPolicy, KeyRegistry, KeyStore, MemberRole, RegistryError, Terms};

fn by(key: &KeyRecord) -> Terms {
    Terms::by(Authority::Key(key.id.clone()))
}

fn office() -> Restrictions {
    Restrictions::none().ip(IpRestriction::allow(["192.0.2.0/24"]).unwrap())
}

/// Fails unless every change of `target` under `terms` is refused for that reason, and nothing has changed.
async fn changes_nothing<S: KeyStore + KeyRegistry>(
    store: &S,
    names: &UniqueNames,
    terms: &Terms,
    target: &KeyRecord,
    reason: Denied,
) {
    let before = known(store, target).await;
    let is_refused = |refused: Result<(), RegistryError>, what: &str| match refused {
        Err(RegistryError::Denied(denied)) if denied == reason => {}
        other => panic!("{what} is refused as {reason:?}, and here was {other:?}"),
    };
    let new = KeyRecord {
        id: names.id("made-in-spite"),
        digest: names.digest("made-in-spite"),
        created_at: later(5),
        ..before.clone()
    };
    is_refused(store.insert(new, terms).await, "a new key");
    let fresh = names.fresh("made-in-spite", later(5));
    is_refused(store.replace(&target.id, fresh, later(5), terms).await.map(drop), "a replacement");
    let update = KeyUpdate::new().name("renamed");
    is_refused(store.update(&target.id, &update, later(5), terms).await.map(drop), "a change");
    // A change that takes access away does not require that the owner may write.
    if reason != Denied::ReadOnly {
        is_refused(store.revoke(&target.id, later(5), terms).await.map(drop), "an end");
    }
    assert_same(&known(store, target).await, &before);
    assert!(find(store, &names.digest("made-in-spite")).await.is_none(), "a key that is refused is not made");
}

/// C17-A1: a revoked, expired or unknown key cannot make, replace, change or end a key.
pub(super) async fn no_key_changes_anything_after_its_end<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    let maker = names.key("maker", "u");
    let ending = KeyRecord { expires_at: Some(later(5)), ..names.key("ending", "u") };
    let target = KeyRecord { expires_at: Some(later(6)), ..names.key("target", "u") };
    for key in [&maker, &ending, &target] {
        ok(store.insert(key.clone(), &by_system()).await);
    }
    ok(store.insert(KeyRecord { created_at: later(1), ..names.key("made", "u") }, &by(&maker)).await);
    assert!(is_active(store, &names.digest("made"), later(1)).await, "an active key makes keys");
    ok(store.revoke(&maker.id, later(2), &by_system()).await);
    changes_nothing(store, &names, &by(&maker), &target, Denied::RevokedKey).await;
    // At the exact moment of its expiry a key is expired.
    changes_nothing(store, &names, &by(&ending), &target, Denied::ExpiredKey).await;
    changes_nothing(store, &names, &by(&names.key("unknown", "u")), &target, Denied::UnknownKey).await;
    // It may still end itself.
    assert!(ok(store.revoke(&ending.id, later(9), &by(&ending)).await), "a key ends itself");
    assert!(!ok(store.revoke(&maker.id, later(9), &by(&maker)).await), "a revoked key is not revoked again");
}

/// A key cannot give more access than it has at that moment.
pub(super) async fn a_key_changes_only_what_it_covers<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    let plain = names.key("plain", "u");
    let wider = KeyRecord { scopes: BTreeSet::from(["more".into()]), ..names.key("wider", "u") };
    let ending = KeyRecord { expires_at: Some(later(60)), ..names.key("ending", "u") };
    let limited = KeyRecord { limits: Some("9/min".parse().unwrap()), ..names.key("limited", "u") };
    let of_project = KeyRecord { level: KeyLevel::Project(project("p1").id), ..names.key("project", "u") };
    let narrowed = names.key("narrowed", "u");
    for key in [&plain, &wider, &ending, &limited, &of_project, &narrowed] {
        ok(store.insert(key.clone(), &by_system()).await);
    }
    // The rights that it had before do not count.
    let narrower = KeyUpdate::new().restrictions(office());
    ok(store.update(&narrowed.id, &narrower, later(1), &by_system()).await);
    for (maker, target) in [
        (&plain, &wider),
        (&ending, &plain),
        (&limited, &plain),
        (&of_project, &of_project),
        (&narrowed, &plain),
    ] {
        if maker.id == target.id {
            let fresh = names.fresh("of-project", later(2));
            let answer = store.replace(&target.id, fresh, later(2), &by(maker)).await;
            refused!(answer, RegistryError::Denied(Denied::Exceeds), "a key for a project manages nothing");
            continue;
        }
        changes_nothing(store, &names, &by(maker), target, Denied::Exceeds).await;
    }
    // The maker must also cover the key as it is after the change.
    let wide = KeyUpdate::new().restrictions(Restrictions::none());
    let answer = store.update(&narrowed.id, &wide, later(2), &by(&narrowed)).await;
    refused!(answer, RegistryError::Denied(Denied::Exceeds), "a key does not widen itself");
    let unlimited = KeyUpdate::new().limits(None);
    let answer = store.update(&limited.id, &unlimited, later(2), &by(&limited)).await;
    refused!(answer, RegistryError::Denied(Denied::Exceeds), "a key does not take off its limits");
    // It may make changes that it covers.
    let next = ok(store.replace(&ending.id, names.fresh("next", later(2)), later(9), &by(&plain)).await);
    assert!(ok(store.update(&next.id, &KeyUpdate::new().name("n"), later(2), &by(&plain)).await).changed);
    assert!(ok(store.revoke(&next.id, later(2), &by(&plain)).await));
}

/// Keys of other owners, and of the other environment, are reported as unknown.
pub(super) async fn keys_of_others_are_unknown<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    let own = names.key("own", "u");
    let other = names.key("other", "v");
    let test =
        KeyRecord { environment: Environment::Test, prefix: "sk_test_".into(), ..names.key("test", "u") };
    for key in [&own, &other, &test] {
        ok(store.insert(key.clone(), &by_system()).await);
    }
    let user = Terms::by(Authority::User(names.user("u")));
    for (terms, target) in [(&user, &other), (&by(&own), &other), (&by(&own), &test)] {
        let before = known(store, target).await;
        let unknown = "a key of another owner or environment is not there";
        let answer = store.replace(&target.id, names.fresh("new", NOW), NOW, terms).await;
        assert!(matches!(answer, Err(RegistryError::NotFound)), "{unknown}: {answer:?}");
        let answer = store.update(&target.id, &KeyUpdate::new().name("n"), NOW, terms).await;
        assert!(matches!(answer, Err(RegistryError::NotFound)), "{unknown}: {answer:?}");
        let answer = store.revoke(&target.id, NOW, terms).await;
        assert!(matches!(answer, Err(RegistryError::NotFound)), "{unknown}: {answer:?}");
        let new = KeyRecord { id: names.id("new"), digest: names.digest("new"), ..target.clone() };
        let new = KeyRecord { family: new.id.clone(), ..new };
        let answer = store.insert(new, terms).await;
        refused!(answer, RegistryError::Denied(Denied::Foreign), "nobody makes keys of others");
        assert_same(&known(store, target).await, &before);
    }
    // A signed-in user may change keys of both environments.
    assert!(ok(store.revoke(&test.id, NOW, &user).await));
}

/// If a policy ends other keys, the maker of the new key must cover each of them.
pub(super) async fn a_policy_ends_only_what_the_maker_covers<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    let maker = names.key("maker", "u");
    let wider = KeyRecord { scopes: BTreeSet::from(["more".into()]), ..names.key("wider", "u") };
    for key in [&maker, &wider] {
        ok(store.insert(key.clone(), &by_system()).await);
    }
    let single = by(&maker).policy(KeyPolicy::Single { grace: true });
    let new = KeyRecord { created_at: later(1), ..names.key("new", "u") };
    let answer = store.insert(new.clone(), &single).await;
    refused!(answer, RegistryError::Denied(Denied::Exceeds), "a key that is not covered is not superseded");
    let answer = store.replace(&maker.id, names.fresh("next", later(1)), later(9), &single).await;
    refused!(answer, RegistryError::Denied(Denied::Exceeds), "nor by a replacement");
    for key in [&maker, &wider] {
        assert_same(&known(store, key).await, key);
    }
    ok(store.revoke(&wider.id, later(1), &by_system()).await);
    ok(store.insert(new.clone(), &single).await);
    assert!(!is_active(store, &maker.digest, later(1)).await, "the maker is superseded like others");
    assert!(is_active(store, &new.digest, later(1)).await);
}

/// If a key is revoked while it makes others, each of these is made before the revocation or not at all.
pub(super) async fn a_key_that_is_revoked_meanwhile_makes_no_more<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    for round in 0..8 {
        let names = Arc::new(UniqueNames::new());
        let maker = names.key("maker", "u");
        ok(store.insert(maker.clone(), &by_system()).await);
        let results = race(store, 8, |store, number| {
            let (names, maker) = (Arc::clone(&names), maker.clone());
            async move {
                if number == round {
                    return store.revoke(&maker.id, NOW, &by_system()).await.map(|_| ());
                }
                let made = store.insert(names.key(&format!("made{number}"), "u"), &by(&maker)).await;
                if ok(store.get(&maker.id).await).is_some_and(|maker| maker.revoked_at.is_some()) {
                    // Its revocation is committed, so it can make no more keys.
                    let late = store.insert(names.key(&format!("late{number}"), "u"), &by(&maker)).await;
                    refused!(late, RegistryError::Denied(Denied::RevokedKey), "a revoked key makes no key");
                }
                made
            }
        });
        for result in results.await {
            assert!(matches!(result, Ok(()) | Err(RegistryError::Denied(Denied::RevokedKey))), "{result:?}");
        }
        for number in 0..8 {
            let late = find(&**store, &names.digest(&format!("late{number}"))).await;
            assert!(late.is_none(), "a key was made after its maker's end");
        }
    }
}

/// C17-A4: the policy applies to a replacement as it does to an insertion.
pub(super) async fn replacing_keeps_to_the_policy<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    let keys = ["one", "two"].map(|name| names.key(name, "u"));
    for key in &keys {
        ok(store.insert(key.clone(), &by_system()).await);
    }
    let [one, two] = &keys;
    let full = by_system().policy(KeyPolicy::Multiple { max: NonZero::new(2).unwrap() });
    let answer = store.replace(&one.id, names.fresh("more", NOW), later(60), &full).await;
    refused!(answer, RegistryError::TooManyKeys, "a key in its grace counts beside the one that replaced it");
    assert_same(&known(store, one).await, one);
    let one = ok(store.replace(&one.id, names.fresh("in-place", NOW), NOW, &full).await);
    // A user who has more keys than the policy allows now may still rotate them, since that does not add keys.
    let fewer = by_system().policy(KeyPolicy::Multiple { max: NonZero::new(1).unwrap() });
    let one = ok(store.replace(&one.id, names.fresh("again", NOW), NOW, &fewer).await);

    let strict = by_system().policy(KeyPolicy::Single { grace: false });
    let answer = store.replace(&one.id, names.fresh("graced", NOW), later(60), &strict).await;
    refused!(answer, RegistryError::NoGrace, "one key is one key");
    assert!(is_active(store, &two.digest, NOW).await, "a refused replacement ended another key");
    let lenient = by_system().policy(KeyPolicy::Single { grace: true });
    let next = ok(store.replace(&one.id, names.fresh("graced", NOW), later(60), &lenient).await);
    let active = [(&one, true), (&next, true), (two, false)];
    for (key, expected) in active {
        assert_eq!(is_active(store, &key.digest, later(1)).await, expected, "{}", key.id);
    }
    let last = KeyRecord { created_at: later(1), ..names.key("last", "u") };
    ok(store.insert(last.clone(), &strict).await);
    for key in [&one, &next, two] {
        assert!(!is_active(store, &key.digest, later(1)).await, "{} is one too many", key.id);
    }
}

/// C17-B11: the owner or holder of a key can write only a limited number of entries into its audit log, but can always
/// take access away.
pub(super) async fn changes_are_counted_save_those_that_narrow<S: KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if ok_or_not_kept(history(store, &names.id("none"), 1).await) {
        return;
    }
    let key = names.key("key", "u");
    ok(store.insert(key.clone(), &by_system()).await);
    let user = Terms::by(Authority::User(names.user("u")));
    let name = |number: u32| KeyUpdate::new().name(format!("{number}"));
    for number in 0..60 {
        assert!(ok(store.update(&key.id, &name(number), later(1), &user).await).changed, "{number}");
    }
    let answer = store.update(&key.id, &name(60), later(3600), &user).await;
    refused!(answer, RegistryError::TooManyChanges, "60 changes within an hour are many");
    let widen = KeyUpdate::new().restrictions(Restrictions::none());
    assert!(
        !ok(store.update(&key.id, &widen, later(3600), &user).await).changed,
        "what changes nothing is free"
    );
    let narrow = KeyUpdate::new().restrictions(office());
    assert!(ok(store.update(&key.id, &narrow, later(3600), &user).await).changed, "narrowing always works");
    let answer = store.update(&key.id, &widen, later(3600), &user).await;
    refused!(answer, RegistryError::TooManyChanges, "and widening does not");
    assert!(ok(store.update(&key.id, &name(61), later(3600), &by_system()).await).changed);
    assert!(
        ok(store.update(&key.id, &name(62), later(3700), &user).await).changed,
        "an hour later it may again"
    );
    assert!(ok(store.revoke(&key.id, later(3600), &user).await), "ending always works");
}

fn ok_or_not_kept<T>(answer: Result<T, crate::store::StoreError>) -> bool {
    matches!(answer, Err(crate::store::StoreError::NotKept))
}

/// If the registry is the directory, it checks the owner's account in the transaction.
pub(super) async fn owners_are_looked_at<S: Accounts + Directory + KeyStore + KeyRegistry>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if !store.is_directory() {
        return;
    }
    let account = names.text("a");
    let (owner, user) = (names.user("owner"), names.user("u"));
    ok(store.create_account(&account, &owner).await);
    for id in ["p1", "p2"] {
        ok(store.create_project(&account, &project(id)).await);
    }
    ok(store.set_member(&account, &user, &member(MemberRole::Full, ["p1"])).await);
    let [maker, target] = ["maker", "target"].map(|name| names.key(name, "u"));
    for key in [&maker, &target] {
        ok(store.insert(key.clone(), &by_system().ask_owner()).await);
    }
    let on =
        |id: &str, name: &str| KeyRecord { level: KeyLevel::Project(project(id).id), ..names.key(name, "u") };
    let asking =
        [by_system(), Terms::by(Authority::User(user.clone())), by(&maker)].map(|terms| terms.ask_owner());
    for (number, terms) in asking.iter().enumerate() {
        let answer = store.insert(on("p2", "elsewhere"), terms).await;
        refused!(answer, RegistryError::Denied(Denied::Owner), "a project out of reach is no key's");
        ok(store.insert(on("p1", &format!("mine{number}")), terms).await);
    }
    // A read-only member can have keys, but these cannot make keys (R24, R40).
    ok(store.set_member(&account, &user, &member(MemberRole::ReadOnly, ["p1"])).await);
    changes_nothing(store, &names, &by(&maker).ask_owner(), &target, Denied::ReadOnly).await;
    ok(store.insert(names.key("reads", "u"), &Terms::by(Authority::User(user.clone())).ask_owner()).await);
    // An owner who lost access can make no keys. Keys made before are checked by the directory at each request.
    ok(store.suspend_account(&account, true).await);
    for terms in &asking {
        let answer = store.insert(names.key("suspended", "u"), terms).await;
        refused!(answer, RegistryError::Denied(Denied::Owner), "a suspended owner gets no key");
        let answer = store.replace(&target.id, names.fresh("suspended", NOW), NOW, terms).await;
        refused!(answer, RegistryError::Denied(Denied::Owner), "nor one in the place of another");
    }
    assert!(find(store, &names.digest("suspended")).await.is_none());
    let narrow = KeyUpdate::new().restrictions(office());
    assert!(ok(store.update(&target.id, &narrow, NOW, &by_system().ask_owner()).await).changed);
    assert!(ok(store.revoke(&target.id, NOW, &Terms::by(Authority::User(user.clone())).ask_owner()).await));
    // Of many imported keys, only those that have ended need no owner.
    ok(store.suspend_account(&account, false).await);
    let expired = KeyRecord { expires_at: Some(later(1)), ..names.key("expired", "stranger") };
    let many = vec![
        names.key("many1", "u"),
        expired.clone(),
        names.key("many2", "stranger"),
        on("p2", "many3"),
        on("p1", "many4"),
    ];
    let answers = ok(store.insert_all(many, &by_system().ask_owner().at(later(2))).await);
    let denied =
        |answer: &Result<(), RegistryError>| matches!(answer, Err(RegistryError::Denied(Denied::Owner)));
    let refused: Vec<bool> = answers.iter().map(denied).collect();
    assert_eq!(refused, [false, false, true, true, false], "{answers:?}");
    assert!(answers.iter().filter(|answer| !denied(answer)).all(Result::is_ok), "{answers:?}");
    let ids = [names.id("many1"), names.id("nobody"), names.id("expired"), names.id("many2")];
    let mut found: Vec<_> = ok(store.get_all(&ids).await).into_iter().map(|key| key.id).collect();
    found.sort();
    let mut there = [names.id("many1"), expired.id];
    there.sort();
    assert_eq!(found, there, "get_all returns the existing keys");
    // The owner's account is not checked if the terms do not require it, because the directory may be separate.
    ok(store.insert(names.key("elsewhere2", "stranger"), &by_system()).await);
}

/// A member who is removed while keys are made for them keeps none of these keys.
pub(super) async fn who_is_removed_meanwhile_keeps_no_key<
    S: Accounts + Directory + KeyStore + KeyRegistry,
>(
    store: &Arc<S>,
) {
    if !store.is_directory() {
        return;
    }
    for round in 0..8 {
        let names = Arc::new(UniqueNames::new());
        let account = names.text("a");
        ok(store.create_account(&account, &names.user("owner")).await);
        ok(store.set_member(&account, &names.user("u"), &member(MemberRole::Full, [])).await);
        let old = names.key("old", "u");
        ok(store.insert(old.clone(), &by_system().ask_owner()).await);
        let results = race(store, 6, |store, number| {
            let (names, account, old) = (Arc::clone(&names), account.clone(), old.clone());
            async move {
                let asking = by_system().ask_owner();
                match number {
                    _ if number == round % 6 => store.remove_member(&account, &names.user("u"), NOW).await,
                    0 | 1 => {
                        let fresh = names.fresh(&format!("made{number}"), NOW);
                        store.replace(&old.id, fresh, later(9), &asking).await.map(drop)
                    }
                    _ => store.insert(names.key(&format!("made{number}"), "u"), &asking).await,
                }
            }
        });
        for result in results.await {
            let fine =
                matches!(result, Ok(()) | Err(RegistryError::Ended | RegistryError::Denied(Denied::Owner)));
            assert!(fine, "{result:?}");
        }
        for name in (0..6).map(|number| format!("made{number}")).chain(["old".to_owned()]) {
            assert!(
                !is_active(&**store, &names.digest(&name), NOW).await,
                "{name} outlives its owner's removal"
            );
        }
    }
}
