//! No key is made or changed by a key whose revocation has returned, or for an owner whose removal has returned,
//! whatever happens between two answers of the store: for each route of `manage` and each method of the keyring that
//! makes or changes keys.

use axum::Router;
use serde_json::json;
use test_kit::meddling::{EVENTS, Event, Meddling};
use test_kit::{World, bearer, request, send};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::KeyStore as _;
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKey, ApiKeyAuth, ApiKeys, Clock as _, Endpoints, Grace, KeyId, KeyRecord, KeyUpdate, Keyring, NewKey,
    Timestamp,
};
use tower_api_key_manage as manage;

const AT: &str = "/v1/api-keys";
/// 2025-01-01.
const NOW: i64 = 1_735_689_600;
const END: Timestamp = Timestamp::from_secs(NOW + 1800);
/// More moments than any of these calls has.
const MANY: usize = 64;

/// A caller's key that expires within an hour, another key of the same owner, and a clock.
struct Case {
    world: World,
    clock: ManualClock,
    caller: ApiKey,
    target: KeyId,
}

impl Case {
    async fn new() -> Self {
        let world = World::new().await;
        let caller = world.key("u_full", |key| key.expires_at = Some(END)).await;
        let target = world.key("u_full", |key| key.expires_at = Some(END)).await;
        let target = world.store.find(&target.digest()).await.unwrap().unwrap().id.clone();
        Self { world, clock: ManualClock::new(Timestamp::from_secs(NOW)), caller, target }
    }

    async fn caller(&self) -> KeyId {
        self.world.store.find(&self.caller.digest()).await.unwrap().unwrap().id.clone()
    }

    async fn meddling(&self, directory: bool, event: Event, key: &KeyId, moment: usize) -> Meddling {
        let who = (key, &test_kit::user("u_full"));
        Meddling::at(&self.world.store, &self.clock, event, who, moment).directory(directory)
    }

    fn keyring(&self, store: &Meddling, directory: bool) -> Keyring {
        let clock = self.clock.clone();
        if directory {
            ApiKeys::new(store.clone()).clock(clock).keyring()
        } else {
            ApiKeys::new((store.clone(), store.clone())).clock(clock).keyring()
        }
    }

    fn routes(&self, store: &Meddling, directory: bool) -> Router {
        let verifier = ApiKeys::new(store.clone()).clock(self.clock.clone()).verifier();
        let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default());
        let auth = auth.endpoints(manage::declare(Endpoints::new(), AT)).unwrap();
        Router::new().nest(AT, manage::api_keys(self.keyring(store, directory))).layer(auth)
    }

    /// The working keys among those that were made or changed since then.
    async fn alive(&self, store: &Meddling) -> Vec<KeyRecord> {
        let mut made = store.hook.made_since().await;
        made.retain(|key| key.is_active(self.clock.now()));
        made
    }
}

/// For each possible moment: lets the event happen, and returns the working keys that were made or changed after it.
async fn at_every_moment(
    what: &str,
    event: Event,
    directory: bool,
    on_target: bool,
    act: impl AsyncFn(&Case, &Meddling),
) -> usize {
    for moment in 0..MANY {
        let case = Case::new().await;
        let key = if on_target { case.target.clone() } else { case.caller().await };
        let store = case.meddling(directory, event, &key, moment).await;
        act(&case, &store).await;
        if !store.hook.has_happened().await {
            return moment;
        }
        let alive = case.alive(&store).await;
        assert!(alive.is_empty(), "{what}, {event:?} at moment {moment}, directory {directory}: {alive:#?}");
    }
    panic!("{what} has more moments than are tried");
}

#[tokio::test]
async fn c17_a1_no_key_is_made_by_a_key_after_its_end_has_returned() {
    for event in EVENTS {
        for directory in [true, false] {
            let requests = [
                ("POST", "", json!({"name": "made", "expires_at": "2025-01-01T00:30:00Z"})),
                ("POST", "/{id}/rotate", json!({})),
                ("POST", "/{id}/rotate", json!({"grace": "10min"})),
                ("PATCH", "/{id}", json!({"name": "renamed"})),
                ("PATCH", "/{id}", json!({"limits": "9/min"})),
            ];
            for (method, path, body) in requests {
                // A directory outside of the registry is asked just before a change, so here a race is possible.
                if !directory && method == "PATCH" && matches!(event, Event::Demote | Event::Remove) {
                    continue;
                }
                let moments = at_every_moment(path, event, directory, false, async |case, store| {
                    let path = format!("{AT}{}", path.replace("{id}", case.target.as_str()));
                    let headers =
                        [("authorization", &*bearer(&case.caller)), ("content-type", "application/json")];
                    let app = case.routes(store, directory);
                    send(&app, request(method, &path, &headers, body.to_string())).await;
                })
                .await;
                assert!(moments >= 6, "{method} {path}: only {moments} moments were tried");
            }
        }
    }
}

/// Without an event, each of these requests succeeds. Otherwise, the test above would prove nothing.
#[tokio::test]
async fn c17_a1_the_same_requests_work_if_nothing_happens() {
    for directory in [true, false] {
        for (method, path, body, status) in [
            ("POST", "", json!({"name": "made", "expires_at": "2025-01-01T00:30:00Z"}), 201),
            ("POST", "/{id}/rotate", json!({}), 201),
            ("POST", "/{id}/rotate", json!({"grace": "10min"}), 201),
            ("PATCH", "/{id}", json!({"name": "renamed"}), 200),
            ("PATCH", "/{id}", json!({"limits": "9/min"}), 200),
            ("DELETE", "/{id}", json!({}), 200),
        ] {
            let case = Case::new().await;
            let store = case.meddling(directory, Event::Revoke, &case.target, usize::MAX).await;
            let path = format!("{AT}{}", path.replace("{id}", case.target.as_str()));
            let headers = [("authorization", &*bearer(&case.caller)), ("content-type", "application/json")];
            let app = case.routes(&store, directory);
            let answer = send(&app, request(method, &path, &headers, body.to_string())).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.json());
        }
    }
}

/// The application itself cannot make a key for a removed owner either, or in place of a revoked key.
#[tokio::test]
async fn c17_a1_no_key_is_made_for_an_owner_whose_removal_has_returned() {
    for directory in [true, false] {
        at_every_moment("issue", Event::Remove, directory, true, async |case, store| {
            let new = NewKey::user_level(test_kit::user("u_full"), "made");
            drop(case.keyring(store, directory).issue(new).await);
        })
        .await;
        at_every_moment("issue for a project", Event::Remove, directory, true, async |case, store| {
            let new = NewKey::project_level(test_kit::user("u_full"), "made", test_kit::project("p1"));
            drop(case.keyring(store, directory).issue(new).await);
        })
        .await;
        for event in [Event::Remove, Event::Revoke, Event::Expire] {
            for grace in [Grace::None, Grace::For(std::time::Duration::from_secs(600))] {
                at_every_moment("rotate", event, directory, true, async |case, store| {
                    drop(case.keyring(store, directory).rotate(&case.target, grace).await);
                })
                .await;
            }
        }
        at_every_moment("amend", Event::Revoke, directory, true, async |case, store| {
            let renamed = KeyUpdate::new().name("renamed");
            drop(case.keyring(store, directory).update(&case.target, renamed).await);
        })
        .await;
    }
}
