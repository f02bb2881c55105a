//! Accounts and their people: creating, removing, transferring.

use std::num::NonZero;
use std::sync::Arc;

use super::access::{account_status, projects};
use super::kit::{
    NOW, UniqueNames, assert_same, by_system, is_active, known, later, member, ok, project, race, refused,
    under,
};
use crate::key::Environment;
use crate::key::{ProjectId, UserId};
use crate::record::KeyRecord;
use crate::role::{AccountStatus, Role};
use crate::store::ProjectDirectory;
use crate::store::{
    Account, Accounts, Directory, KeyPolicy, KeyRegistry, KeyStore, MemberRole, Person, RegistryError,
    StoreError,
};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

const fn active(role: Role) -> AccountStatus {
    AccountStatus::Active { role: Some(role) }
}

pub(super) async fn accounts_are_made_once<S: Accounts + Directory + ProjectDirectory>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let (account, alice, other) = (names.text("a"), names.user("alice"), names.user("other"));
    ok(store.create_account(&account, &alice).await);
    let taken = store.create_account(&account, &other).await;
    refused!(taken, RegistryError::Conflict, "an account is made once");
    assert_eq!(
        account_status(&**store, &other, None).await,
        AccountStatus::Disabled,
        "a failed call added a user"
    );
    let second = store.create_account(&names.text("b"), &alice).await;
    refused!(second, RegistryError::Conflict, "an owner belongs to one account");
    // The failed call has not created an account.
    ok(store.create_account(&names.text("b"), &other).await);

    let long = "a".repeat(129);
    for wrong in ["", " ", "a b", "a/b", "\u{e9}", "a\0", "*", &*long] {
        let answer = store.create_account(wrong, &names.user("nobody")).await;
        refused!(answer, RegistryError::Invalid(_), "accounts are named by ids");
    }
    assert_eq!(account_status(&**store, &names.user("nobody"), None).await, AccountStatus::Disabled);

    let results = race(store, 8, |store, number| {
        let (account, owner) = (names.text(&format!("race{number}")), names.user("racer"));
        async move { store.create_account(&account, &owner).await }
    });
    let made = results.await.into_iter().filter(Result::is_ok).count();
    assert_eq!(made, 1, "of racing accounts with the same owner, one is made");
}

pub(super) async fn everybody_belongs_to_one_account<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let (first, second) = (names.text("a"), names.text("b"));
    let (alice, dave, bob) = (names.user("alice"), names.user("dave"), names.user("bob"));
    ok(store.create_account(&first, &alice).await);
    ok(store.create_account(&second, &dave).await);
    ok(store.set_member(&first, &bob, &member(MemberRole::Full, [])).await);
    for (account, user) in [(&second, &bob), (&second, &alice), (&first, &alice)] {
        let answer = store.set_member(account, user, &member(MemberRole::ReadOnly, [])).await;
        refused!(answer, RegistryError::Conflict, "owners and other accounts' people become no members");
    }
    let owner = store.create_account(&names.text("c"), &bob).await;
    refused!(owner, RegistryError::Conflict, "a member makes no account");
    assert_eq!(account_status(store, &bob, None).await, active(Role::Full));
    assert_eq!(account_status(store, &alice, None).await, active(Role::Owner));

    // After the removal, the user can join another account.
    ok(store.remove_member(&first, &bob, NOW).await);
    ok(store.set_member(&second, &bob, &member(MemberRole::ReadOnly, [])).await);
    assert_eq!(account_status(store, &bob, None).await, active(Role::ReadOnly));
}

pub(super) async fn members_take_no_keys_back<
    S: Accounts + Directory + ProjectDirectory + KeyStore + KeyRegistry,
>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = names.text("a");
    let (alice, bob) = (names.user("alice"), names.user("bob"));
    ok(store.create_account(&account, &alice).await);
    ok(store.create_project(&account, &project("p1")).await);
    ok(store.set_member(&account, &bob, &member(MemberRole::Full, ["p1"])).await);

    let live = names.key("live", "bob");
    let test = KeyRecord {
        environment: Environment::Test,
        prefix: "sk_test_".into(),
        expires_at: Some(later(9)),
        ..names.key("test", "bob")
    };
    let gone = names.key("gone", "bob");
    let others = [names.key("alices", "alice"), names.key("bobs", "BOB")];
    for key in [&live, &test, &gone].into_iter().chain(&others) {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    ok(store.revoke(&gone.id, NOW, &by_system()).await);

    refused!(
        store.remove_member(&account, &alice, later(1)).await,
        RegistryError::Conflict,
        "an owner is not removed"
    );
    for (account, user) in [(names.text("z"), &bob), (account.clone(), &names.user("unknown"))] {
        let answer = store.remove_member(&account, user, later(1)).await;
        refused!(answer, RegistryError::NotFound, "who is no member is not removed");
    }
    ok(store.create_account(&names.text("b"), &names.user("dave")).await);
    refused!(
        store.remove_member(&names.text("b"), &bob, later(1)).await,
        RegistryError::NotFound,
        "another account's member is not removed"
    );
    assert_eq!(account_status(store, &bob, Some("p1")).await, active(Role::Full));
    assert!(is_active(store, &live.digest, NOW).await, "a removal that failed ended a key");

    ok(store.remove_member(&account, &bob, later(1)).await);
    for asked in [None, Some("p1")] {
        assert_eq!(account_status(store, &bob, asked).await, AccountStatus::Disabled);
    }
    assert!(projects(store, &bob).await.is_empty());
    refused!(
        store.remove_member(&account, &bob, later(2)).await,
        RegistryError::NotFound,
        "who was removed is no member"
    );
    ok(store.set_member(&account, &bob, &member(MemberRole::ReadOnly, [])).await);
    assert_eq!(
        account_status(store, &bob, Some("p1")).await,
        AccountStatus::Active { role: None },
        "an old list came back"
    );
    for (key, revoked_at) in [(live, later(1)), (test, later(1)), (gone, NOW)] {
        let found = known(store, &key).await;
        assert_same(&found, &KeyRecord { revoked_at: Some(revoked_at), ..key });
    }
    for key in others {
        assert_same(&known(store, &key).await, &key);
    }
}

pub(super) async fn accounts_are_transferred_whole<
    S: Accounts + Directory + ProjectDirectory + KeyStore + KeyRegistry,
>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = names.text("a");
    let (alice, bob, carol) = (names.user("alice"), names.user("bob"), names.user("carol"));
    ok(store.create_account(&account, &alice).await);
    for id in ["p1", "p2"] {
        ok(store.create_project(&account, &project(id)).await);
    }
    for user in [&bob, &carol] {
        ok(store.set_member(&account, user, &member(MemberRole::ReadOnly, ["p1"])).await);
    }
    ok(store.create_account(&names.text("b"), &names.user("dave")).await);
    let key = names.key("key", "alice");
    ok(store.insert(key.clone(), &under(MANY)).await);

    let access = member(MemberRole::ReadOnly, ["p2"]);
    let unknown = member(MemberRole::Full, ["p2", "p9"]);
    for (to, access) in [("unknown", &access), ("dave", &access), ("alice", &access), ("bob", &unknown)] {
        let answer = store.transfer_account(&account, &names.user(to), access).await;
        refused!(
            answer,
            RegistryError::NotFound,
            "accounts go to their members, and lists name their projects"
        );
    }
    let nowhere = store.transfer_account(&names.text("z"), &bob, &access).await;
    refused!(nowhere, RegistryError::NotFound, "an account that is not there goes to nobody");
    assert_eq!(account_status(store, &alice, Some("p1")).await, active(Role::Owner));
    assert_eq!(account_status(store, &bob, Some("p1")).await, active(Role::ReadOnly));

    ok(store.transfer_account(&account, &bob, &access).await);
    for asked in [None, Some("p1"), Some("p2")] {
        assert_eq!(account_status(store, &bob, asked).await, active(Role::Owner));
    }
    assert_eq!(account_status(store, &alice, None).await, active(Role::ReadOnly));
    assert_eq!(projects(store, &alice).await, ["p2"]);
    assert_eq!(projects(store, &carol).await, ["p1"], "other members stay what they are");
    assert_same(&known(store, &key).await, &key);

    // The two have exchanged their roles.
    refused!(
        store.remove_member(&account, &bob, NOW).await,
        RegistryError::Conflict,
        "the new owner is not removed"
    );
    ok(store.transfer_account(&account, &alice, &member(MemberRole::Full, [])).await);
    assert_eq!(projects(store, &alice).await, ["p1", "p2"]);
    assert!(projects(store, &bob).await.is_empty(), "a list from before the transfer came back");
    ok(store.remove_member(&account, &bob, NOW).await);
    assert_eq!(account_status(store, &bob, None).await, AccountStatus::Disabled);
}

pub(super) async fn what_is_not_there_is_not_changed<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let (account, alice) = (names.text("a"), names.user("alice"));
    ok(store.create_account(&account, &alice).await);
    for unknown in [names.text("z"), String::new(), "%".into(), "' OR '1'='1".into(), "a\0".into()] {
        let answers = [
            store.create_project(&unknown, &project("p1")).await,
            store.delete_project(&unknown, &project("p1").id).await,
            store.set_member(&unknown, &names.user("bob"), &member(MemberRole::Full, [])).await,
            store.remove_member(&unknown, &alice, NOW).await,
            store.suspend_account(&unknown, true).await,
        ];
        for answer in answers {
            refused!(answer, RegistryError::NotFound, "an account that is not there is not changed");
        }
    }
    let unknown = store.delete_project(&account, &project("p1").id).await;
    refused!(unknown, RegistryError::NotFound, "a project that is not there is not deleted");
    assert_eq!(account_status(store, &alice, None).await, active(Role::Owner));
    assert_eq!(account_status(store, &names.user("bob"), None).await, AccountStatus::Disabled);
}

pub(super) async fn people_and_projects_are_listed_in_pages<S: Accounts>(store: &Arc<S>) {
    let (names, store) = (UniqueNames::new(), &**store);
    if matches!(store.list_accounts(None, 1).await, Err(StoreError::NotKept)) {
        return;
    }
    // Capital letters come before small ones.
    let (a, b, capital) = (names.text("list-a"), names.text("list-b"), names.text("list-A"));
    for (account, owner) in [(&b, "owner-b"), (&a, "owner-a"), (&capital, "owner-A")] {
        ok(store.create_account(account, &names.user(owner)).await);
    }
    ok(store.suspend_account(&b, true).await);
    for id in ["p2", "p1", "P1", "gone"] {
        ok(store.create_project(&a, &project(id)).await);
    }
    ok(store.create_project(&b, &project("p3")).await);
    let access = [member(MemberRole::Full, ["p1", "gone", "P1"]), member(MemberRole::ReadOnly, [])];
    for (user, access) in ["m2", "m1", "M1"].into_iter().zip(access.iter().cycle()) {
        ok(store.set_member(&a, &names.user(user), access).await);
    }
    ok(store.delete_project(&a, &project("gone").id).await);

    let made = |id: &String, owner, suspended| Account { suspended, ..Account::new(id, names.user(owner)) };
    let accounts = [made(&capital, "owner-A", false), made(&a, "owner-a", false), made(&b, "owner-b", true)];
    let on = |user, role, projects: &[&str]| {
        Person::new(names.user(user), role, projects.iter().map(|id| ProjectId::new(id).unwrap()))
    };
    let people = [
        on("M1", Role::Full, &["P1", "p1"]),
        on("m1", Role::ReadOnly, &[]),
        on("m2", Role::Full, &["P1", "p1"]),
        on("owner-a", Role::Owner, &[]),
    ];
    for limit in [1, 2, 3, 1000, u32::MAX] {
        let most = limit.min(1000) as usize;
        let (mut after, mut listed) = ("list-".to_owned(), Vec::new());
        loop {
            let page = ok(store.list_accounts(Some(&after), limit).await);
            assert!(page.len() <= most, "a page of accounts is longer than was asked for");
            let Some(last) = page.last() else { break };
            assert!(
                page.iter().all(|account| account.id > after),
                "a page of accounts begins before its place"
            );
            after.clone_from(&last.id);
            listed.extend(page);
        }
        assert!(listed.is_sorted_by(|one, next| one.id < next.id), "accounts are not in order");
        listed.retain(|account| accounts.iter().any(|made| made.id == account.id));
        assert_eq!(listed, accounts, "pages of {limit}");

        let (mut after, mut listed) = (None::<ProjectId>, Vec::new());
        loop {
            let page = ok(store.list_projects(&a, after.as_ref(), limit).await);
            assert!(page.len() <= most, "a page of projects is longer than was asked for");
            let Some(last) = page.last() else { break };
            assert!(after.as_ref() < page.first().map(|project| &project.id), "a page of projects goes back");
            after = Some(last.id.clone());
            listed.extend(page);
        }
        assert_eq!(listed, ["P1", "p1", "p2"].map(project), "pages of {limit}");

        let (mut after, mut listed) = (None::<UserId>, Vec::new());
        loop {
            let page = ok(store.list_people(&a, after.as_ref(), limit).await);
            assert!(page.len() <= most, "a page of people is longer than was asked for");
            let Some(last) = page.last() else { break };
            assert!(after.as_ref() < page.first().map(|person| &person.user), "a page of people goes back");
            after = Some(last.user.clone());
            listed.extend(page);
        }
        assert_eq!(listed, people, "pages of {limit}");
    }
    assert!(ok(store.list_accounts(None, 0).await).is_empty());
    assert!(!ok(store.list_accounts(None, 1).await).is_empty());
    assert!(ok(store.list_projects(&a, None, 0).await).is_empty());
    assert!(ok(store.list_people(&a, None, 0).await).is_empty());
    // A NUL in the cursor does no harm, although no id contains one.
    let after = ok(store.list_accounts(Some(&format!("{a}\0")), 1).await);
    assert!(after.first().is_none_or(|account| account.id > a));

    for unknown in [names.text("z"), String::new(), "%".into(), "a\0".into()] {
        let projects = store.list_projects(&unknown, None, 9).await;
        refused!(projects, RegistryError::NotFound, "an account that is not there has no list of projects");
        let people = store.list_people(&unknown, None, 9).await;
        refused!(people, RegistryError::NotFound, "an account that is not there has no list of people");
    }
    for (user, account) in [("m1", Some(&a)), ("owner-b", Some(&b)), ("nobody", None)] {
        assert_eq!(ok(store.account_of(&names.user(user)).await).as_ref(), account, "{user}");
    }
}
