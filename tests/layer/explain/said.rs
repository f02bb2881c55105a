//! What people and programs get from an explanation, and that explaining has no side effects.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tower_api_key::explain::Question;
use tower_api_key::limit::{KeyThrottle, Limits};
use tower_api_key::restriction::RequestContext;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::KeyStore as _;
use tower_api_key::test_util::ManualClock;
use tower_api_key::{ApiKeyAuth, AuthError, AuthErrorKind, Credentials, Endpoint, Grace, NewKey, Timestamp};

use test_kit::{World, user};
use tower_api_key::ApiKeys;

const START: Timestamp = Timestamp::from_secs(1_767_225_600);

#[tokio::test]
async fn what_people_and_programs_read() {
    let world = World::new().await;
    let key = world
        .key("u_ro", |key| {
            key.restrictions =
                r#"{"ip":{"mode":"observe","allow":["192.0.2.0/24"]},"endpoints":{"allow":["GET /users/{id}"]}}"#
                    .parse()
                    .unwrap();
            key.limits = Some("12/min".parse().unwrap());
            key.expires_at = Some(Timestamp::from_secs(1_798_761_600));
        })
        .await;
    let record = world.store.find(&key.digest()).await.unwrap().unwrap();
    let verifier = ApiKeys::new(world.store.clone()).clock(ManualClock::new(START)).verifier();
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default());
    let question =
        Question::new(Method::POST).route("/users/{user}").address([198, 51, 100, 1]).project("p1");
    let explanation = auth.explainer().explain(&record, &question).await.unwrap();
    let expected = format!(
        "\
{} of u_ro: refused by endpoint with 403 restricted: API key doesn't have permission for this resource
  ok    https        the layer does not demand it
  ok    sunset       bearer is in use
  ok    shape        it starts with sk_live_, as keys do here
  ok    throttle     no throttle is set
  ok    known        the store finds the key by its digest
  ok    revocation   it is not revoked
  ok    expiry       it expires at 2027-01-01T00:00:00Z
  ok    environment  it is a live key, and live and test keys are accepted
  ok    owner        u_ro is in good standing
  ok    scheme       it is not restricted
  ok    user         nobody is claimed to be the owner
  (no)  ip           it is 198.51.100.1, allowed (only observed): 192.0.2.0/24
  ok    referrer     it is not restricted
  NO    endpoint     it is POST /users/{{user}}, allowed: GET /users/{{id}}
  ok    project      \"p1\" is named
  ok    access       u_ro is READONLY on p1
  no    role         READONLY may not write, as the endpoint does
  ok    level        keys for all that the owner may do may write, as the endpoint does
  ok    limits       12/min leaves 11 after this request
",
        record.id
    );
    assert_eq!(explanation.to_string(), expected);

    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["key_id"], record.id.as_str());
    assert_eq!(json["user_id"], "u_ro");
    assert_eq!(json["accepted"], false);
    assert_eq!(json["decided_by"], "endpoint");
    let message = "API key doesn't have permission for this resource";
    assert_eq!(json["answer"], json!({"status": 403, "error": "restricted", "message": message}));
    assert_eq!(json["checks"].as_array().unwrap().len(), 19);
    assert_eq!(json["checks"][11]["outcome"], "observed");
    assert_eq!(json["checks"][13]["outcome"], "refused");
}

#[tokio::test]
async fn c5_c6_an_ended_key_is_explained_with_its_time_and_successor() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default());
    for (key, line) in [
        (&world.revoked, "  NO    revocation   it was revoked at 1970-01-01T00:00:02Z\n"),
        (&world.expired, "  NO    expiry       it expired at 1970-01-01T00:00:02Z\n"),
        (&world.stray, "  NO    owner        u_nobody is unknown, removed or suspended\n"),
    ] {
        let record = world.store.find(&key.digest()).await.unwrap().unwrap();
        let explanation = auth.explainer().explain(&record, &Question::new(Method::GET)).await.unwrap();
        assert!(explanation.to_string().contains(line), "{explanation}");
    }
    // A key that is in the registry, but not in the store for requests.
    let record = world.store.find(&world.own.digest()).await.unwrap().unwrap();
    let elsewhere = ApiKeyAuth::new(World::new().await.store, Bearer::default());
    let explanation = elsewhere.explainer().explain(&record, &Question::new(Method::GET)).await.unwrap();
    assert_eq!(explanation.error().unwrap().kind(), AuthErrorKind::UnknownKey);
    assert!(explanation.to_string().contains("  -     revocation\n"), "{explanation}");
}

#[tokio::test]
async fn c6_nothing_is_counted_and_the_throttle_is_not_touched() {
    let world = World::new().await;
    let key = world.key("u_own", |key| key.limits = Some("2/min".parse().unwrap())).await;
    let record = world.store.find(&key.digest()).await.unwrap().unwrap();
    let revoked = world.store.find(&world.revoked.digest()).await.unwrap().unwrap();
    let clock = ManualClock::new(START);
    let once = || "1/min".parse().unwrap();
    let throttle = KeyThrottle::default().repeats(once()).lookups(once());
    let verifier = ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier().throttle(throttle);
    let (credentials, facts) =
        (Credentials::new(key.expose_secret()), RequestContext::new().address([192, 0, 2, 7]));
    let explain = |record| {
        let (verifier, credentials) = (&verifier, &credentials);
        async move { verifier.explain(record, credentials.claims(), Endpoint::READ, &facts).await }
    };
    for left in ["leaves 1 after", "leaves 0 after"] {
        for _ in 0..5 {
            let explanation = explain(&*record).await;
            assert!(explanation.is_accepted() && explanation.to_string().contains(left), "{explanation}");
        }
        verifier.verify_with(&credentials, Endpoint::READ, &facts).await.unwrap();
    }
    let refused = explain(&*record).await;
    assert_eq!(refused.error().unwrap().kind(), AuthErrorKind::RateLimited);
    assert!(
        refused.to_string().contains("NO    limits       2/min leaves none, and one again in 30 s"),
        "{refused}"
    );
    clock.advance(Duration::from_secs(30));
    assert!(explain(&*record).await.is_accepted());

    // Explaining a dead key any number of times does not slow its client down; one real request does.
    for _ in 0..5 {
        assert_eq!(explain(&*revoked).await.error().unwrap().kind(), AuthErrorKind::RevokedKey);
    }
    let dead = Credentials::new(world.revoked.expose_secret());
    verifier.verify_with(&dead, Endpoint::READ, &facts).await.unwrap_err();
    let braked = explain(&*revoked).await;
    assert_eq!(braked.error().unwrap().kind(), AuthErrorKind::RateLimited);
    let said = "NO    throttle     the key was wrong too often from 192.0.2.7: it may be tried again in 60 s";
    assert!(braked.to_string().contains(said), "{braked}");
    // Because of it, another wrong key from that address is refused.
    let expired = world.store.find(&world.expired.digest()).await.unwrap().unwrap();
    let braked = explain(&*expired).await;
    assert_eq!(braked.error().unwrap().kind(), AuthErrorKind::RateLimited);
    let said = "NO    throttle     too many wrong keys came from 192.0.2.7: it may try another in 60 s";
    assert!(braked.to_string().contains(said), "{braked}");
    // A valid key that is warm still works.
    let passed = explain(&*record).await;
    assert!(passed.is_accepted(), "{passed}");
    let said = "ok    throttle     192.0.2.7 is not slowed down for this key";
    assert!(passed.to_string().contains(said), "{passed}");
}

/// Keys that replaced each other share one limit, and the explanation of each shows what is left of it.
#[tokio::test]
async fn c17_g_the_remaining_limit_is_that_of_the_whole_family() {
    let world = World::new().await;
    let clock = ManualClock::new(START);
    let keyring = ApiKeys::new(world.store.clone()).clock(clock.clone()).keyring();
    let verifier = ApiKeys::new(world.store.clone()).clock(clock).verifier();
    let limits: Limits = "3/min".parse().unwrap();
    let first = keyring.issue(NewKey::user_level(user("u_own"), "CI").limits(limits)).await.unwrap();
    let grace = Grace::For(Duration::from_secs(600));
    let second = keyring.rotate(first.id(), grace).await.unwrap();
    let third = keyring.rotate(second.id(), grace).await.unwrap();
    let family = [&first, &second, &third];
    for (spends, left) in family.into_iter().zip(["leaves 2 after", "leaves 1 after", "leaves 0 after"]) {
        for key in family {
            let record = keyring.get(key.id()).await.unwrap().unwrap();
            let credentials = Credentials::new(key.key().expose_secret());
            let facts = RequestContext::new();
            let said = verifier.explain(&record, credentials.claims(), Endpoint::READ, &facts).await;
            assert!(said.is_accepted() && said.to_string().contains(left), "{said}");
        }
        let credentials = Credentials::new(spends.key().expose_secret());
        verifier.verify(&credentials, Endpoint::READ).await.unwrap();
    }
    for key in family {
        let record = keyring.get(key.id()).await.unwrap().unwrap();
        let credentials = Credentials::new(key.key().expose_secret());
        let said =
            verifier.explain(&record, credentials.claims(), Endpoint::READ, &RequestContext::new()).await;
        let refused = verifier.verify(&credentials, Endpoint::READ).await.unwrap_err();
        assert_eq!(said.error().map(AuthError::kind), Some(refused.kind()), "{said}");
        assert_eq!(refused.kind(), AuthErrorKind::RateLimited);
    }
}

/// For a client that is slowed down: only keys that look wrong to the client are refused for that reason.
#[tokio::test]
async fn c17_g_throttling_is_explained_only_for_wrong_keys() {
    let world = World::new().await;
    let narrow = world
        .key("u_own", |key| key.restrictions = r#"{"ip":{"allow":["10.0.0.0/8"]}}"#.parse().unwrap())
        .await;
    let spent = world.key("u_own", |key| key.limits = Some("1/d".parse().unwrap())).await;
    let throttle = KeyThrottle::default().lookups("1/d".parse().unwrap());
    let verifier =
        ApiKeys::new(world.store.clone()).clock(ManualClock::new(START)).verifier().throttle(throttle);
    let facts = RequestContext::new().address([192, 0, 2, 7]);
    let ask = async |key: &tower_api_key::ApiKey, endpoint| {
        let credentials = Credentials::new(key.expose_secret());
        verifier.verify_with(&credentials, endpoint, &facts).await.map_err(|error| error.kind()).err()
    };
    assert_eq!(ask(&spent, Endpoint::READ).await, None);
    assert_eq!(ask(&world.revoked, Endpoint::READ).await, Some(AuthErrorKind::RevokedKey));
    let mut seen = Vec::new();
    for key in [&world.own, &world.ro, &world.p1, &narrow, &spent, &world.expired, &world.stray] {
        for endpoint in [Endpoint::READ, Endpoint::WRITE] {
            let record = world.store.find(&key.digest()).await.unwrap().unwrap();
            let credentials = Credentials::new(key.expose_secret());
            let said = verifier.explain(&record, credentials.claims(), endpoint, &facts).await;
            let got = ask(key, endpoint).await;
            assert_eq!(said.error().map(AuthError::kind), got, "{said}");
            seen.push(got);
        }
    }
    use AuthErrorKind::{RateLimited, ReadOnly, Restricted};
    let (no, limited) = (None, Some(RateLimited));
    let (narrow, reads) = (Some(Restricted), Some(ReadOnly));
    let expected =
        [no, no, no, reads, no, no, narrow, narrow, limited, limited, limited, limited, limited, limited];
    assert_eq!(seen, expected);
}
