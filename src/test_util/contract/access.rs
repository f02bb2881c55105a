//! What people may do: the answers of a directory, and when they change.

use std::sync::Arc;

use super::kit::{UniqueNames, member, ok, project, refused};
use crate::key::{ProjectId, UserId};
use crate::role::{AccountStatus, Role};
use crate::store::ProjectDirectory;
use crate::store::{Accounts, Directory, MemberRole, Project, RegistryError};

const OWNER: AccountStatus = AccountStatus::Active { role: Some(Role::Owner) };
const FULL: AccountStatus = AccountStatus::Active { role: Some(Role::Full) };
const READ_ONLY: AccountStatus = AccountStatus::Active { role: Some(Role::ReadOnly) };
const NO_ACCESS: AccountStatus = AccountStatus::Active { role: None };

/// An account `a` with owner `alice`, projects `p1` and `p2`.
async fn account<S: Accounts>(store: &S, names: &UniqueNames) -> String {
    let account = names.text("a");
    ok(store.create_account(&account, &names.user("alice")).await);
    for id in ["p1", "p2"] {
        ok(store.create_project(&account, &project(id)).await);
    }
    account
}

/// Looks a user up as a request does. A cached answer must be the same.
pub(super) async fn account_status<S: Directory + ProjectDirectory>(
    store: &S,
    user: &UserId,
    project: Option<&str>,
) -> AccountStatus {
    let project = project.map(|id| ProjectId::new(id).unwrap());
    let answer = ok(store.account_status(user, project.as_ref()).await);
    if let Some(warm) = store.account_status_cached(user, project.as_ref()) {
        assert_eq!(warm, answer, "`account_status_cached` and `account_status` disagree");
    }
    answer
}

pub(super) async fn projects<S: Directory + ProjectDirectory>(store: &S, user: &UserId) -> Vec<String> {
    let listed = ok(store.projects(user).await);
    assert_eq!(listed, ok(store.projects(user).await), "the order of projects is stable");
    for listed in &listed {
        assert_ne!(
            account_status(store, user, Some(listed.id.as_str())).await,
            NO_ACCESS,
            "listed, and yet refused"
        );
    }
    let mut ids: Vec<_> = listed.iter().map(|project| project.id.to_string()).collect();
    ids.sort();
    ids
}

pub(super) async fn owners_may_do_everything_in_their_account<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let alice = names.user("alice");
    assert_eq!(
        account_status(store, &alice, None).await,
        AccountStatus::Disabled,
        "an unknown user has no standing"
    );
    assert_eq!(account_status(store, &alice, Some("p1")).await, AccountStatus::Disabled);
    assert!(projects(store, &alice).await.is_empty());

    let account = account(store, &names).await;
    for asked in [None, Some("p1"), Some("p2")] {
        assert_eq!(account_status(store, &alice, asked).await, OWNER);
    }
    // A word that could mean "all" is an id like any other (C12-06).
    for unknown in ["p3", "P1", "all", "null", "undefined", "me", "self", "0", "-1", ".", "p1.", "p"] {
        assert_eq!(account_status(store, &alice, Some(unknown)).await, NO_ACCESS, "{unknown}");
    }
    let later = Project::new(ProjectId::new("p3").unwrap(), "\u{e9}'\"; --\0<b>");
    ok(store.create_project(&account, &later).await);
    assert_eq!(
        account_status(store, &alice, Some("p3")).await,
        OWNER,
        "projects made later are the owner's too (R18)"
    );
    assert_eq!(projects(store, &alice).await, ["p1", "p2", "p3"]);
    assert!(ok(store.projects(&alice).await).contains(&later), "names come back as they went in");
}

pub(super) async fn members_may_do_what_they_were_given<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = account(store, &names).await;
    let (bob, carol, idle) = (names.user("bob"), names.user("carol"), names.user("idle"));
    ok(store.set_member(&account, &bob, &member(MemberRole::Full, ["p1", "p2"])).await);
    ok(store.set_member(&account, &carol, &member(MemberRole::ReadOnly, ["p1"])).await);
    ok(store.set_member(&account, &idle, &member(MemberRole::Full, [])).await);

    let expected = [
        (&bob, [FULL, FULL, FULL, NO_ACCESS], vec!["p1", "p2"]),
        (&carol, [READ_ONLY, READ_ONLY, NO_ACCESS, NO_ACCESS], vec!["p1"]),
        (&idle, [FULL, NO_ACCESS, NO_ACCESS, NO_ACCESS], vec![]),
    ];
    for (user, standings, list) in expected {
        for (asked, expected) in [None, Some("p1"), Some("p2"), Some("p3")].into_iter().zip(standings) {
            assert_eq!(account_status(store, user, asked).await, expected, "{user} on {asked:?}");
        }
        assert_eq!(projects(store, user).await, list, "{user}");
    }
    ok(store.create_project(&account, &project("p3")).await);
    assert_eq!(
        account_status(store, &bob, Some("p3")).await,
        NO_ACCESS,
        "a list does not grow by itself (R19)"
    );
}

pub(super) async fn changes_are_seen_by_the_next_request<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = account(store, &names).await;
    let (bob, carol) = (names.user("bob"), names.user("carol"));
    for user in [&bob, &carol] {
        ok(store.set_member(&account, user, &member(MemberRole::Full, ["p1", "p2"])).await);
    }
    assert_eq!(account_status(store, &bob, Some("p1")).await, FULL);
    ok(store.set_member(&account, &bob, &member(MemberRole::ReadOnly, ["p1", "p2"])).await);
    assert_eq!(account_status(store, &bob, Some("p1")).await, READ_ONLY, "demotion (C9-14)");
    assert_eq!(account_status(store, &bob, None).await, READ_ONLY);
    ok(store.set_member(&account, &bob, &member(MemberRole::ReadOnly, ["p2"])).await);
    assert_eq!(
        account_status(store, &bob, Some("p1")).await,
        NO_ACCESS,
        "removal from a project (R22, C9-13)"
    );
    assert_eq!(account_status(store, &bob, Some("p2")).await, READ_ONLY);
    assert_eq!(projects(store, &bob).await, ["p2"]);

    // A call that fails changes nothing.
    let unknown = store.set_member(&account, &bob, &member(MemberRole::Full, ["p1", "p9"])).await;
    refused!(unknown, RegistryError::NotFound, "access to a project that is not there is not given");
    assert_eq!(account_status(store, &bob, None).await, READ_ONLY);
    assert_eq!(projects(store, &bob).await, ["p2"]);

    ok(store.delete_project(&account, &project("p2").id).await);
    assert_eq!(account_status(store, &bob, Some("p2")).await, NO_ACCESS, "deletion of a project");
    assert_eq!(account_status(store, &names.user("alice"), Some("p2")).await, NO_ACCESS);
    assert!(projects(store, &bob).await.is_empty());
    assert_eq!(account_status(store, &carol, Some("p1")).await, FULL, "others are not touched");
    assert_eq!(projects(store, &carol).await, ["p1"]);
}

pub(super) async fn projects_are_named_within_their_account<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let first = account(store, &names).await;
    let second = names.text("b");
    let (alice, dave, erin) = (names.user("alice"), names.user("dave"), names.user("erin"));
    ok(store.create_account(&second, &dave).await);
    assert_eq!(
        account_status(store, &dave, Some("p1")).await,
        NO_ACCESS,
        "another account's project (C12-07)"
    );
    ok(store.set_member(&second, &erin, &member(MemberRole::Full, [])).await);
    let foreign = store.set_member(&second, &erin, &member(MemberRole::Full, ["p1"])).await;
    refused!(foreign, RegistryError::NotFound, "another account's project is not there");

    ok(store.create_project(&second, &Project { name: "Dave's".into(), ..project("p1") }).await);
    assert_eq!(account_status(store, &dave, Some("p1")).await, OWNER, "two accounts may both have a p1");
    assert_eq!(account_status(store, &erin, Some("p1")).await, NO_ACCESS);
    ok(store.set_member(&second, &erin, &member(MemberRole::ReadOnly, ["p1"])).await);
    let names_of = async |user| {
        let listed = ok(store.projects(user).await);
        listed.into_iter().map(|project| project.name).collect::<Vec<_>>()
    };
    assert_eq!(names_of(&erin).await, ["Dave's"]);

    ok(store.delete_project(&first, &project("p1").id).await);
    assert_eq!(account_status(store, &alice, Some("p1")).await, NO_ACCESS);
    assert_eq!(
        account_status(store, &dave, Some("p1")).await,
        OWNER,
        "the other account's p1 is another project"
    );
    assert_eq!(account_status(store, &erin, Some("p1")).await, READ_ONLY);
    assert_eq!(names_of(&dave).await, ["Dave's"]);
}

pub(super) async fn ids_are_compared_byte_by_byte<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = account(store, &names).await;
    let (upper, zero) = (names.user("ALICE"), names.user("01"));
    assert_eq!(account_status(store, &upper, None).await, AccountStatus::Disabled);
    ok(store.set_member(&account, &upper, &member(MemberRole::ReadOnly, ["p1"])).await);
    assert_eq!(account_status(store, &names.user("alice"), None).await, OWNER);
    assert_eq!(account_status(store, &upper, None).await, READ_ONLY);

    // None of these is a number (C12-04), and none equals another (C12-05).
    let alike = ["1", "01", "1.0", "1e0", "0x1", "P1", "p1.", "p-1", "p_1", "inf", "true"];
    for id in alike {
        ok(store.create_project(&account, &project(id)).await);
    }
    for id in alike {
        ok(store.set_member(&account, &zero, &member(MemberRole::Full, [id])).await);
        for other in alike.into_iter().chain(["p1", "1.00", "pX1"]) {
            let expected = if other == id { FULL } else { NO_ACCESS };
            assert_eq!(
                account_status(store, &zero, Some(other)).await,
                expected,
                "given {id}, asked for {other}"
            );
        }
        assert_eq!(projects(store, &zero).await, [id]);
    }
    let other_account = names.text("A");
    refused!(
        store.suspend_account(&other_account, true).await,
        RegistryError::NotFound,
        "accounts that differ in case are two"
    );
}

pub(super) async fn deleted_projects_never_come_back<S: Accounts + Directory + ProjectDirectory>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = account(store, &names).await;
    let taken = store.create_project(&account, &project("p1")).await;
    refused!(taken, RegistryError::Conflict, "the id of a project is taken once");
    ok(store.delete_project(&account, &project("p1").id).await);
    let again = store.create_project(&account, &project("p1")).await;
    refused!(again, RegistryError::Conflict, "under the id of a deleted project its keys would come back");
    let twice = store.delete_project(&account, &project("p1").id).await;
    refused!(twice, RegistryError::NotFound, "a deleted project is not there");
    let given = store.set_member(&account, &names.user("bob"), &member(MemberRole::Full, ["p1"])).await;
    refused!(given, RegistryError::NotFound, "access to a deleted project is not given");
    assert_eq!(
        account_status(store, &names.user("bob"), None).await,
        AccountStatus::Disabled,
        "a failed call added bob"
    );
    assert_eq!(account_status(store, &names.user("alice"), Some("p1")).await, NO_ACCESS);
}

pub(super) async fn suspension_ends_everything_until_it_is_lifted<
    S: Accounts + Directory + ProjectDirectory,
>(
    store: &Arc<S>,
) {
    let (names, store) = (UniqueNames::new(), &**store);
    let account = account(store, &names).await;
    let (alice, bob, dave) = (names.user("alice"), names.user("bob"), names.user("dave"));
    ok(store.set_member(&account, &bob, &member(MemberRole::Full, ["p1"])).await);
    ok(store.create_account(&names.text("b"), &dave).await);
    // Each is called twice, because a repetition is not an error.
    for suspended in [true, true, false, false] {
        ok(store.suspend_account(&account, suspended).await);
        for (user, normal) in [(&alice, OWNER), (&bob, FULL)] {
            let expected = if suspended { AccountStatus::Disabled } else { normal };
            for asked in [None, Some("p1")] {
                assert_eq!(account_status(store, user, asked).await, expected);
            }
            assert_eq!(projects(store, user).await.is_empty(), suspended);
        }
        assert_eq!(account_status(store, &dave, None).await, OWNER, "another account is not touched");
    }
}
