//! How restrictions work together, and their place in the order of checks.

use http::Method;
use tower_api_key::restriction::{RequestContext, RestrictionKind};
use tower_api_key::{AuthErrorKind, Credentials, Endpoint, Verifier};

use super::{PLACES, Place, Sites, Visit, restricted};
use test_kit::World;

/// All four restrictions, some of which only observe. The key decides whether the scheme is allowed, because each
/// site has its own scheme.
fn all(observe: [bool; 4], scheme: bool) -> String {
    let [ip, referrer, endpoints, schemes] =
        observe.map(|observe| if observe { "observe" } else { "enforce" });
    let named = if scheme { r#""bearer","api-key-header","json-body""# } else { r#""device-token""# };
    format!(
        r#"{{"ip":{{"mode":"{ip}","allow":["192.0.2.0/24"]}},
            "referrer":{{"mode":"{referrer}","allow":["https://good.example"]}},
            "endpoints":{{"mode":"{endpoints}","allow":["POST /v1/charges"]}},
            "schemes":{{"mode":"{schemes}","allow":[{named}]}}}}"#
    )
}

/// A request that satisfies some of them.
fn visit(right: [bool; 4]) -> Visit {
    let [ip, referrer, endpoint, _] = right;
    Visit::new("POST", if endpoint { "/v1/charges" } else { "/v1/users/x" })
        .from(if ip { "192.0.2.7" } else { "198.51.100.1" })
        .header("referer", if referrer { "https://good.example/" } else { "https://evil.com/" })
}

fn combinations() -> impl Iterator<Item = [bool; 4]> {
    (0..16).map(|bits| [1, 2, 4, 8].map(|bit| bits & bit != 0))
}

fn names(which: impl Fn(usize) -> bool) -> Vec<&'static str> {
    // In the order of the checks, by their positions above.
    let kinds = [3, 0, 1, 2].into_iter().zip(RestrictionKind::ALL);
    kinds.filter(|(at, _)| which(*at)).map(|(_, kind)| kind.as_str()).collect()
}

#[tokio::test]
async fn c15_06_all_of_them_must_allow_and_observers_only_say_so() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for observe in combinations() {
        let keys =
            [restricted(&world, &all(observe, false)).await, restricted(&world, &all(observe, true)).await];
        for right in combinations() {
            let key = &keys[usize::from(right[3])];
            let row = format!("C15-06, right {right:?}, observed {observe:?}");
            let refused = names(|at| !right[at] && !observe[at]);
            if refused.contains(&"scheme") {
                for (side, answer, _) in sites.ask(&visit(right), Some(key.expose_secret())).await {
                    assert_eq!(answer.verdict(), "401/invalid_api_key", "{row}, {}", side.name);
                }
                continue;
            }
            if !refused.is_empty() {
                sites.restricts(&row, &visit(right), key, &refused.join(" ")).await;
                continue;
            }
            let observed = names(|at| !right[at] && observe[at]);
            for (side, answer, _) in sites.ask(&visit(right), Some(key.expose_secret())).await {
                assert_eq!(answer.status, 200, "{row}, {}", side.name);
                assert_eq!(answer.json()["observed"], serde_json::json!(observed), "{row}, {}", side.name);
            }
        }
    }
}

#[tokio::test]
async fn restrictions_come_after_the_user_and_before_the_project() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = restricted(&world, r#"{"ip":{"allow":["192.0.2.0/24"]}}"#).await;
    let of = |owner: &'static str, change: fn(&mut tower_api_key::KeyRecord)| {
        let world = &world;
        async move {
            let restrictions = r#"{"ip":{"allow":["192.0.2.0/24"]}}"#.parse().unwrap();
            world
                .key(owner, |key| {
                    key.restrictions = restrictions;
                    change(key);
                })
                .await
        }
    };
    let outside = || Visit::plain().from("198.51.100.1");
    let word = |visit: Visit, key: String| {
        let sites = &sites;
        async move {
            let answers = sites.ask(&visit, Some(&key)).await;
            let words = answers.into_iter().map(|(side, answer, _)| (side.place, answer.verdict()));
            words.collect::<Vec<_>>()
        }
    };
    let secret = |key: &tower_api_key::ApiKey| key.expose_secret().to_owned();
    // A client that names the wrong user learns nothing about restrictions.
    let foreign = Visit { user: "u_full", ..outside() };
    for (place, verdict) in word(foreign, secret(&key)).await {
        let wanted = if place == Place::Body { "401/invalid_user" } else { "403/restricted" };
        assert_eq!(verdict, wanted, "{place:?}");
    }
    for project in ["", "q1", "a b", "p9"] {
        let visit = Visit { project, ..outside() };
        for (place, verdict) in word(visit, secret(&key)).await {
            assert_eq!(verdict, "403/restricted", "{place:?} {project}");
        }
    }
    // If the address is allowed, the error is about the project.
    let visit = Visit { project: "", ..Visit::plain().from("192.0.2.7") };
    for (place, verdict) in word(visit, secret(&key)).await {
        let wanted = if place == Place::Bearer { "200:h" } else { "400/project_required" };
        assert_eq!(verdict, wanted, "{place:?}");
    }
    // A dead key is reported before its restrictions, and READONLY after them.
    let revoked = of("u_own", |key| key.revoked_at = Some(tower_api_key::Timestamp::from_secs(2))).await;
    let stray = of("u_nobody", |_| ()).await;
    for key in [&revoked, &stray] {
        for (place, verdict) in word(Visit { user: "u_nobody", ..outside() }, secret(key)).await {
            assert_eq!(verdict, "401/invalid_api_key", "{place:?}");
        }
    }
    let reader = of("u_ro", |_| ()).await;
    for (address, wanted) in [("198.51.100.1", "403/restricted"), ("192.0.2.7", "403/read_only")] {
        let visit = Visit { user: "u_ro", ..Visit::plain().from(address) };
        for (place, verdict) in word(visit, secret(&reader)).await {
            assert_eq!(verdict, wanted, "{place:?}");
        }
    }
}

#[tokio::test]
async fn r57_the_answer_is_in_the_words_of_the_scheme() {
    let world = World::new().await;
    let key = restricted(&world, r#"{"ip":{"allow":[]}}"#).await;
    let sites = Sites::new(&world);
    let answers = sites.ask(&Visit::plain().from("192.0.2.7"), Some(key.expose_secret())).await;
    assert_eq!(answers.len(), 2 * PLACES.len());
    for (side, answer, _) in answers {
        let (message, challenge) = match side.place {
            Place::Bearer => ("API key doesn't have permission for this resource", true),
            Place::Header => ("Insufficient permissions", false),
            Place::Body => ("Forbidden", false),
        };
        assert_eq!(answer.json()["message"], message, "{}", side.name);
        let challenges = answer.header("www-authenticate").join(", ");
        assert_eq!(challenges.contains(r#"error="insufficient_scope""#), challenge, "{challenges}");
        assert_eq!(answer.header("cache-control"), ["no-store"]);
    }
}

#[tokio::test]
async fn without_facts_a_restricted_key_is_refused() {
    let world = World::new().await;
    let verifier = Verifier::new(world.store.clone());
    let key = restricted(&world, &all([false; 4], true)).await;
    let watched = restricted(&world, &all([true; 4], true)).await;
    let credentials = Credentials::new(key.expose_secret());
    let error = verifier.verify(&credentials, Endpoint::READ).await.unwrap_err();
    assert_eq!(error.kind(), AuthErrorKind::SchemeNotAllowed);
    let facts = RequestContext::new().scheme("json-body");
    let error = verifier.verify_with(&credentials, Endpoint::READ, &facts).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "refused by the key's restrictions: ip referrer endpoint");
    let method = Method::POST;
    let facts = RequestContext::new()
        .address([192, 0, 2, 7])
        .referrer("https://good.example/")
        .endpoint(&method, "/v1/charges")
        .scheme("json-body");
    let who = verifier.verify_with(&credentials, Endpoint::READ, &facts).await.unwrap();
    assert_eq!(who.observed().count(), 0);
    let who = verifier.verify(&Credentials::new(watched.expose_secret()), Endpoint::READ).await.unwrap();
    assert_eq!(who.observed().count(), 4);
    assert!(verifier.verify(&Credentials::new(world.own.expose_secret()), Endpoint::READ).await.is_ok());
}
