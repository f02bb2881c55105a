//! Each request through the layer is one decision, with everything that is known about it.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use http::Request;
use tower_api_key::observer::Observer;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{KeyStore, NoProjects};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKey, ApiKeyAuth, Credentials, Endpoint, Environment, Grace, KeyDigest, KeyFormat, KeyRecord,
    KeyUpdate, Keyring, NewKey, Timestamp, Verifier,
};

use super::{Spy, app, id_of, with_bearer, with_body};
use test_kit::{World, bearer, echo, request, send, user};
use tower_api_key::ApiKeys;

fn unknown() -> ApiKey {
    KeyFormat::default().generate(Environment::Live).unwrap()
}

#[tokio::test]
async fn each_request_is_one_decision() {
    let world = World::new().await;
    let (spy, cold_spy) = (Spy::default(), Spy::default());
    let warm = app(Verifier::new(world.store.clone()).observer(spy.clone()));
    let cold = app(Verifier::new(world.counted().0).observer(cold_spy.clone()));
    let (own, revoked, expired, stray) = (
        id_of(&world, &world.own).await,
        id_of(&world, &world.revoked).await,
        id_of(&world, &world.expired).await,
        id_of(&world, &world.stray).await,
    );
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let twice = [("authorization", &*bearer(&world.own)), ("x-api-key", world.own.expose_secret())];
    let typed = |kind: &'static str, body: &'static str| {
        Request::post("/x").header("content-type", kind).body(body.into()).unwrap()
    };
    // For a decision that is cold if a store must be asked, this has `?`.
    let rows: Vec<(Request<axum::body::Body>, Vec<String>)> = vec![
        (with_bearer("/x", &world.own), vec![format!("accepted - bearer {own} live ?")]),
        (with_bearer("/projects", &world.own), vec![format!("accepted - bearer {own} live ?")]),
        (
            with_body("/x", &world.own, "u_own"),
            // Only once: nobody has set the clients' addresses.
            vec!["warned body_sender_unknown".into(), format!("accepted - json-body {own} live cold")],
        ),
        (request("GET", "/health", &[], ""), vec!["open - - - - warm".into()]),
        (with_bearer("/health", &world.own), vec!["open - - - - warm".into()]),
        (request("OPTIONS", "/x", &preflight, ""), vec!["open - - - - warm".into()]),
        (request("GET", "/x", &[], ""), vec!["refused missing_credentials - - - warm".into()]),
        (request("GET", "/x", &twice, ""), vec!["refused conflicting_credentials bearer - - warm".into()]),
        (with_bearer("/x", &unknown()), vec!["refused unknown_key bearer - - ?".into()]),
        (
            request("GET", "/x", &[("authorization", "Bearer sk_live_garbage")], ""),
            vec!["refused malformed_key bearer - - warm".into()],
        ),
        (with_bearer("/x", &world.revoked), vec![format!("refused revoked_key bearer {revoked} live ?")]),
        (with_bearer("/x", &world.expired), vec![format!("refused expired_key bearer {expired} live ?")]),
        (with_bearer("/x", &world.stray), vec![format!("refused owner_disabled bearer {stray} live ?")]),
        (
            with_body("/x", &world.own, "u_b"),
            vec![format!("refused user_mismatch json-body {own} live cold")],
        ),
        (typed("application/json", "{"), vec!["refused malformed_body json-body - - cold".into()]),
        (typed("text/plain", "{}"), vec!["refused missing_credentials - - - warm".into()]),
        (typed("application/json", "{}"), vec!["refused missing_credentials - - - cold".into()]),
        (
            with_bearer("/scoped", &world.own),
            vec![
                format!("accepted - bearer {own} live ?"),
                format!("guarded missing_scope bearer {own} live cold"),
            ],
        ),
        (
            with_bearer("/forbidden", &world.own),
            vec![
                format!("accepted - bearer {own} live ?"),
                format!("guarded forbidden bearer {own} live cold"),
            ],
        ),
    ];
    for (request, expected) in rows {
        let what = format!("{} {}", request.method(), request.uri());
        let (parts, body) = request.into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        let again = || Request::from_parts(parts.clone(), body.clone().into());
        for (app, spy, word) in [(&warm, &spy, "warm"), (&cold, &cold_spy, "cold")] {
            send(app, again()).await;
            let expected: Vec<_> = expected.iter().map(|line| line.replace('?', word)).collect();
            assert_eq!(spy.told(), expected, "{what}");
        }
    }
}

/// R14, C15-09: plain HTTP is an event that says nothing about the key.
#[tokio::test]
async fn c15_09_a_request_in_clear_is_an_event() {
    let (world, spy) = (World::new().await, Spy::default());
    let verifier = Verifier::new(world.store.clone()).observer(spy.clone());
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default()).require_https();
    let app = Router::new().fallback(echo).layer(auth);
    assert_eq!(send(&app, with_bearer("/x", &world.own)).await.status, 403);
    assert_eq!(spy.told(), ["refused insecure_transport - - - warm"]);
}

#[tokio::test]
async fn a_store_that_fails_is_a_failure_and_no_refusal() {
    struct Fails;

    #[async_trait]
    impl KeyStore for Fails {
        async fn find(
            &self,
            _: &KeyDigest,
        ) -> Result<Option<Arc<KeyRecord>>, tower_api_key::store::StoreError> {
            Err(tower_api_key::store::StoreError::Overloaded)
        }
    }

    let spy = Spy::default();
    let app = app(Verifier::new(NoProjects(Fails)).observer(spy.clone()));
    assert_eq!(send(&app, with_bearer("/x", &unknown())).await.status, 503);
    assert_eq!(spy.told(), ["failed store_failed bearer - - cold"]);
}

#[tokio::test]
async fn direct_calls_of_the_verifier_are_observed_by_all_observers() {
    let (world, one, other) = (World::new().await, Spy::default(), Spy::default());
    let verifier = Verifier::new(world.store.clone()).observer(one.clone()).observer(Arc::new(other.clone()));
    let own = id_of(&world, &world.own).await;
    verifier.verify(&Credentials::new(world.own.expose_secret()), Endpoint::READ).await.unwrap();
    verifier.verify(&Credentials::new("garbage"), Endpoint::READ).await.unwrap_err();
    let told = [format!("accepted - - {own} live cold"), "refused malformed_key - - - cold".to_owned()];
    assert_eq!(one.told(), told);
    assert_eq!(other.told(), told);
}

#[tokio::test]
async fn a_decision_has_time_and_duration_and_no_secret() {
    #[derive(Clone, Default)]
    struct Look(Arc<std::sync::Mutex<Vec<(Timestamp, String)>>>);

    impl Observer for Look {
        fn decided(&self, decision: &tower_api_key::observer::Decision<'_>) {
            assert!(decision.took < std::time::Duration::from_secs(60));
            self.0.lock().unwrap().push((decision.at, format!("{decision:?} {decision:#?}")));
        }
    }

    let (world, look) = (World::new().await, Look::default());
    let clock = ManualClock::new(Timestamp::from_secs(1));
    let app = app(ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier().observer(look.clone()));
    clock.set(Timestamp::from_secs(77));
    for key in [&world.own, &world.revoked, &world.b] {
        send(&app, with_bearer("/a-path-of-somebodys", key)).await;
    }
    let seen = look.0.lock().unwrap().clone();
    assert_eq!(seen.len(), 3);
    for (at, text) in seen {
        assert_eq!(at, Timestamp::from_secs(77));
        for word in ["a-path-of", "u_own", "u_b", "sk_"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

/// C5-02: a key is restricted to addresses, but the layer cannot know them. There is one warning.
#[tokio::test]
async fn c5_02_an_unknown_address_causes_one_warning() {
    let (world, spy) = (World::new().await, Spy::default());
    let app = app(Verifier::new(world.store.clone()).observer(spy.clone()));
    let office = IpRestriction::allow(["192.0.2.0/24"]).unwrap();
    let watched = Restrictions::none().ip(office.clone().observe());
    let key = world.key("u_own", |key| key.restrictions = Restrictions::none().ip(office)).await;
    let observed = world.key("u_own", |key| key.restrictions = watched).await;
    let (key_id, observed_id) = (id_of(&world, &key).await, id_of(&world, &observed).await);
    assert_eq!(send(&app, with_bearer("/x", &world.own)).await.status, 200);
    assert_eq!(spy.told().len(), 1, "a key without restrictions is no reason to warn");
    assert_eq!(send(&app, with_bearer("/x", &observed)).await.status, 200);
    assert_eq!(
        spy.told(),
        [
            format!("accepted - bearer {observed_id} live warm +ip"),
            "warned client_address_unknown".to_owned()
        ]
    );
    assert_eq!(send(&app, with_bearer("/x", &key)).await.status, 403);
    assert_eq!(spy.told(), [format!("refused restricted bearer {key_id} live warm")], "once is enough");

    // If addresses are known, there is no warning.
    let spy = Spy::default();
    let app = super::app(Verifier::new(world.store.clone()).observer(spy.clone()));
    let mut request = with_bearer("/x", &key);
    request.extensions_mut().insert(tower_api_key::client_addr::PeerAddr([198, 51, 100, 1].into()));
    assert_eq!(send(&app, request).await.status, 403);
    assert_eq!(spy.told(), [format!("refused restricted bearer {key_id} live warm")]);
}

#[tokio::test]
async fn every_change_of_a_key_is_seen() {
    let (world, spy) = (World::new().await, Spy::default());
    let keyring = Keyring::new(world.store.clone()).observer(spy.clone());
    let first = keyring.issue(NewKey::user_level(user("u_own"), "first")).await.unwrap();
    assert_eq!(spy.told(), [format!("{} issued by system", first.id())]);
    let operator = keyring.acting_as(tower_api_key::Authority::Operator);
    let next = operator.rotate(first.id(), Grace::None).await.unwrap();
    assert_eq!(
        spy.told(),
        [
            format!("{} replaced_by:{} by operator", first.id(), next.id()),
            format!("{} replaces:{} by operator", next.id(), first.id()),
        ]
    );
    keyring.update(next.id(), KeyUpdate::new().name("x level=ERROR")).await.unwrap();
    keyring.revoke(next.id()).await.unwrap();
    assert_eq!(
        spy.told(),
        [format!("{} amended:name by system", next.id()), format!("{} revoked:by_hand by system", next.id())]
    );
    // A failed call is not a change.
    keyring.rotate(next.id(), Grace::None).await.unwrap_err();
    keyring.update(next.id(), KeyUpdate::new().name("")).await.unwrap_err();
    assert_eq!(spy.told(), [""; 0]);
    let events: Vec<_> = keyring
        .history(next.id(), 9)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.event.to_string())
        .collect();
    assert_eq!(
        events,
        ["revoked:by_hand".to_owned(), "amended:name".to_owned(), format!("replaces:{}", first.id())]
    );
}
