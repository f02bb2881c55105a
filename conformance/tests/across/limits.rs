//! Throttling of wrong keys and rate limits of keys: through each scheme, over warm and cold stores.

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Method, Request, StatusCode};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tower_api_key::client_addr::{ClientAddr, PeerAddr};
use tower_api_key::guard::RequireScope;
use tower_api_key::limit::{KeyThrottle, Limit, Limits};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{
    Accounts as _, Directory, KeyStore, Member, MemberRole, MemoryStore, Project, StoreError,
};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    AccountStatus, ApiKey, ApiKeyAuth, AuthError, AuthErrorKind, Clock, Credentials, Endpoint, Endpoints,
    Environment, Grace, IssuedKey, KeyDigest, KeyFormat, KeyPolicy, KeyRecord, Keyring, NewKey, Principal,
    ProjectId, Timestamp, UserId, Verifier,
};
use tower_api_key_manage as manage;
use tower_api_key_sqlite::SqliteStore;

use test_kit::{Answer, Counted, World, echo, project, send, user};
use tower_api_key::ApiKeys;
use tower_api_key::store::CachedKey;

const START: Timestamp = Timestamp::from_secs(1_000_000);
const HOME: &str = "192.0.2.7";
const AWAY: &str = "192.0.2.8";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Bearer,
    Header,
    Body,
}

const PLACES: [Place; 3] = [Place::Bearer, Place::Header, Place::Body];

fn ask(place: Place, key: &ApiKey, owner: &str, from: Option<&str>) -> Request<Body> {
    let text = key.expose_secret();
    let mut request = match place {
        Place::Bearer => {
            test_kit::get("/", &[("authorization", &test_kit::bearer(key)), ("x-project-id", "p1")])
        }
        Place::Header => test_kit::get("/", &[("x-api-key", text), ("x-project-id", "p1")]),
        Place::Body => test_kit::post_json("/", json!({"apiKey": text, "userId": owner, "projectId": "p1"})),
    };
    if let Some(from) = from {
        request.extensions_mut().insert(PeerAddr(from.parse::<IpAddr>().unwrap()));
    }
    request
}

fn fresh() -> ApiKey {
    KeyFormat::default().generate(Environment::Live).unwrap()
}

/// An app with all schemes over this world's store.
struct Site {
    name: &'static str,
    app: Router,
    clock: ManualClock,
    calls: Arc<AtomicUsize>,
}

impl Site {
    fn all(world: &World, set_up: impl Fn(Verifier) -> Verifier) -> [Self; 2] {
        let (counted, calls) = world.counted();
        [
            Self::of("warm", world.store.clone(), Arc::default(), &set_up),
            Self::of::<Counted>("cold", counted, calls, &set_up),
        ]
    }

    fn of<S: KeyStore + Directory>(
        name: &'static str,
        store: S,
        calls: Arc<AtomicUsize>,
        set_up: impl Fn(Verifier) -> Verifier,
    ) -> Self {
        let clock = ManualClock::new(START);
        let verifier = set_up(ApiKeys::new(store).clock(clock.clone()).verifier());
        let auth =
            ApiKeyAuth::with_verifier(verifier, Bearer::default().project_header("X-Project-ID").unwrap())
                .or(ApiKeyHeader::default())
                .or(JsonBody::default());
        let answers_401 = any(async || StatusCode::UNAUTHORIZED);
        let app = Router::new()
            .route("/", any(echo))
            .route("/401", answers_401)
            .route("/guarded", any(echo).layer(RequireScope::new("never:granted")))
            .route("/forbidden", any(async |who: Principal| who.forbidden()))
            .layer(auth);
        Self { name, app, clock, calls }
    }

    async fn see(&self, place: Place, key: &ApiKey, owner: &str, from: &str) -> Answer {
        send(&self.app, ask(place, key, owner, Some(from))).await
    }
}

/// Sets how many different wrong keys one client may try.
fn throttled(limit: &str) -> impl Fn(Verifier) -> Verifier {
    move |verifier| verifier.throttle(KeyThrottle::default().lookups(limit.parse().unwrap()))
}

fn as_it_is(verifier: Verifier) -> Verifier {
    verifier
}

/// No header reveals what is counted for a key.
fn assert_tells_nothing(answer: &Answer, at: &str) {
    for name in ["ratelimit", "ratelimit-policy"] {
        assert!(answer.header(name).is_empty(), "{at}: {name}");
    }
}

/// The policy, and the partition key that identifies who shares it.
fn policy(answer: &Answer) -> (&str, &str) {
    let [field] = &answer.header("ratelimit-policy")[..] else { panic!("there is one") };
    let (policy, partition) = field.split_once(";pk=:").unwrap();
    let partition = partition.strip_suffix(':').unwrap();
    assert!(data_encoding::BASE64.decode(partition.as_bytes()).is_ok(), "{field}");
    (policy, partition)
}

#[tokio::test]
async fn c7_09_only_clients_that_guess_keys_are_slowed_down() {
    let world = World::new().await;
    for place in PLACES {
        for site in Site::all(&world, throttled("10/s")) {
            let at = format!("{place:?}, {}", site.name);
            let (mut refused, mut unknown) = (0, 0);
            for round in 0..10_000 {
                let answer = site.see(place, &fresh(), "u_own", HOME).await;
                assert_tells_nothing(&answer, &at);
                match answer.verdict().as_str() {
                    "401/invalid_api_key" => unknown += 1,
                    "429/rate_limited" => {
                        refused += 1;
                        assert_eq!(answer.header("retry-after"), ["1"], "{at}");
                        assert_eq!(answer.header("cache-control"), ["no-store"], "{at}");
                        assert!(answer.header("www-authenticate").is_empty(), "{at}");
                        assert_eq!(answer.json()["message"], "Too many requests", "{at}");
                        let error = answer.extensions.get::<AuthError>().unwrap();
                        assert_eq!(error.kind(), AuthErrorKind::RateLimited, "{at}");
                        assert_eq!(error.retry_after(), Some(Duration::from_millis(100)), "{at}");
                    }
                    other => panic!("{at}: {other}"),
                }
                if round == 5_000 {
                    assert_eq!(unknown, 10, "{at}");
                    site.clock.advance(Duration::from_secs(1));
                }
            }
            assert_eq!((unknown, refused), (20, 9_980), "{at}");
            if site.name == "cold" {
                assert_eq!(site.calls.load(SeqCst), 20, "{at}");
            }
            // Others are not affected. A valid key from here also works if no store must be asked about it.
            assert_eq!(site.see(place, &world.p1, "u_own", AWAY).await.verdict(), "200:h", "{at}");
            let own = site.see(place, &world.own, "u_own", HOME).await.verdict();
            assert_eq!(own, if site.name == "warm" { "200:h" } else { "429/rate_limited" }, "{at}");
            // It also works if it was accepted recently.
            assert_eq!(site.see(place, &world.p1, "u_own", HOME).await.verdict(), "200:h", "{at}");
            // The limit recovers.
            site.clock.advance(Duration::from_millis(100));
            assert_eq!(site.see(place, &world.own, "u_own", HOME).await.verdict(), "200:h", "{at}");
        }
    }
}

/// Guesses keys at `/validate` from one address while somebody else works; returns the number of calls to the store.
async fn guess(world: &World, clock: impl Clock, guesses: u32, pace: impl Fn()) -> usize {
    let (counted, calls) = world.counted();
    let verifier = throttled("10/s")(ApiKeys::new(counted).clock(clock).verifier());
    let app = Router::new()
        .route("/validate", manage::validate())
        .layer(ApiKeyAuth::with_verifier(verifier, Bearer::default()));
    let validate = async |key: &ApiKey, from: &str| {
        let mut request = test_kit::get("/validate", &[("authorization", &test_kit::bearer(key))]);
        request.extensions_mut().insert(PeerAddr(from.parse::<IpAddr>().unwrap()));
        send(&app, request).await
    };
    let mut from_others = 0;
    for round in 0..guesses {
        let answer = validate(&fresh(), HOME).await;
        match answer.status.as_u16() {
            401 => assert_eq!(answer.json()["error"], "invalid_api_key"),
            429 => assert_eq!(answer.header("retry-after"), ["1"]),
            other => panic!("{other}"),
        }
        // The response has only the scheme's words, and reveals no counts.
        assert!(answer.json().get("data").is_none());
        assert_tells_nothing(&answer, "validate");
        if round % 1000 == 0 {
            from_others += 2;
            assert_eq!(validate(&world.own, AWAY).await.status, 200, "guess {round}");
        }
        pace();
    }
    calls.load(SeqCst) - from_others
}

#[tokio::test]
async fn c15_08_validate_does_not_help_to_guess_keys() {
    let world = World::new().await;
    let clock = ManualClock::new(START);
    // A thousand guesses per second for twenty seconds.
    let asked = guess(&world, clock.clone(), 20_000, || clock.advance(Duration::from_millis(1))).await;
    assert!((200..=210).contains(&asked), "{asked}");
}

#[tokio::test]
#[ignore = "a million requests: with --release --show-output it takes some ten seconds, and prints what it counted"]
async fn c7_09_c15_08_a_million_guesses() {
    let world = World::new().await;
    let began = std::time::Instant::now();
    let asked = guess(&world, tower_api_key::SystemClock, 1_000_000, || ()).await;
    let took = began.elapsed();
    println!("1,000,000 guesses in {took:.1?}: the store was asked {asked} times");
    assert!(asked as f64 <= 10.0 + 10.0 * took.as_secs_f64() + 1.0, "{asked} in {took:?}");
}

/// For each kind of wrong key, the responses are equal to the last byte, whether its own repetitions or other keys
/// are throttled.
#[tokio::test]
async fn c15_07_a_429_does_not_tell_whether_a_key_exists() {
    let world = World::new().await;
    let live_only = |verifier: Verifier| {
        let three = || "3/min".parse().unwrap();
        let throttle = KeyThrottle::default().repeats(three()).lookups(three());
        verifier.environment(Environment::Live).throttle(throttle)
    };
    let bad = [&fresh(), &world.revoked, &world.expired, &world.test, &world.stray];
    for place in PLACES {
        let mut answers = Vec::new();
        for key in bad {
            for site in Site::all(&world, live_only) {
                let at = format!("{place:?}, {}", site.name);
                for _ in 0..3 {
                    let answer = site.see(place, key, "u_own", HOME).await;
                    assert_eq!(answer.verdict(), "401/invalid_api_key", "{at}");
                    assert_tells_nothing(&answer, &at);
                }
                answers.push(site.see(place, key, "u_own", HOME).await);
                // Two more keys make three; after that, no other key is looked up.
                for _ in 0..2 {
                    let answer = site.see(place, &fresh(), "u_own", HOME).await;
                    assert_eq!(answer.verdict(), "401/invalid_api_key", "{at}");
                }
                for key in bad {
                    answers.push(site.see(place, key, "u_own", HOME).await);
                }
            }
        }
        for answer in &answers {
            assert_eq!(answer.verdict(), "429/rate_limited", "{place:?}");
            assert_eq!(answer.header("retry-after"), ["20"], "{place:?}");
        }
        let shown = |answer: &Answer| (format!("{:?}", answer.headers), answer.body.clone());
        assert!(answers.windows(2).all(|two| shown(&two[0]) == shown(&two[1])), "{place:?}");
    }
}

#[tokio::test]
async fn c17_a5_ten_calls_with_a_dead_key_are_429_for_that_key_alone() {
    let world = World::new().await;
    for place in PLACES {
        for site in Site::all(&world, |verifier| verifier.throttle(KeyThrottle::default())) {
            let at = format!("{place:?}, {}", site.name);
            for _ in 0..10 {
                let answer = site.see(place, &world.revoked, "u_own", HOME).await;
                assert_eq!(answer.verdict(), "401/invalid_api_key", "{at}");
            }
            for _ in 0..100 {
                let answer = site.see(place, &world.revoked, "u_own", HOME).await;
                assert_eq!(answer.verdict(), "429/rate_limited", "{at}");
                assert_eq!(answer.header("retry-after"), ["6"], "{at}");
            }
            // Keys that were not used here before, valid and dead, are not affected; neither is the same key at
            // another address.
            assert_eq!(site.see(place, &world.own, "u_own", HOME).await.verdict(), "200:h", "{at}");
            assert_eq!(site.see(place, &world.full, "u_full", HOME).await.verdict(), "200:h", "{at}");
            let expired = site.see(place, &world.expired, "u_own", HOME).await;
            assert_eq!(expired.verdict(), "401/invalid_api_key", "{at}");
            let elsewhere = site.see(place, &world.revoked, "u_own", AWAY).await;
            assert_eq!(elsewhere.verdict(), "401/invalid_api_key", "{at}");
            // After the time in `Retry-After`, the key is looked up again.
            site.clock.advance(Duration::from_secs(6));
            let again = site.see(place, &world.revoked, "u_own", HOME).await;
            assert_eq!(again.verdict(), "401/invalid_api_key", "{at}");
        }
    }
}

/// Regression: 102 of 147 requests of others were refused. Ten seconds; each of the six clients retries at once.
#[tokio::test]
async fn c17_a5_six_clients_with_an_old_key_cost_others_none_of_147_requests() {
    let world = World::new().await;
    let mut good = Vec::new();
    for _ in 0..147 {
        good.push(world.key("u_own", |_| ()).await);
    }
    let old = [&world.revoked, &world.expired, &world.stray, &fresh(), &fresh(), &fresh()];
    for repeats in ["10/min", "100/s"] {
        for of_each_their_own in [false, true] {
            let set_up = |verifier: Verifier| verifier.throttle(repeats.parse::<Limit>().unwrap());
            for site in Site::all(&world, set_up) {
                let at = format!("{}, {repeats}, {of_each_their_own}", site.name);
                let mut cost = 0;
                for key in &good {
                    for client in 0..12 {
                        let old = old[if of_each_their_own { client % 6 } else { 0 }];
                        assert_ne!(site.see(Place::Bearer, old, "", HOME).await.status, 200, "{at}");
                    }
                    // A valid key that this process has not seen before.
                    cost += usize::from(site.see(Place::Bearer, key, "", HOME).await.status != 200);
                    site.clock.advance(Duration::from_millis(68));
                }
                assert_eq!(cost, 0, "{at}");
            }
        }
    }
}

/// By default: fifty at once, and ten per second.
#[tokio::test]
async fn c17_a5_a_scan_of_distinct_unknown_keys_is_throttled() {
    let world = World::new().await;
    for site in Site::all(&world, |verifier| verifier.throttle(KeyThrottle::default())) {
        let at = site.name;
        assert_eq!(site.see(Place::Bearer, &world.own, "", HOME).await.verdict(), "200:h", "{at}");
        let before = site.calls.load(SeqCst);
        let (mut unknown, mut refused) = (0, 0);
        // A thousand per second for ten seconds.
        for _ in 0..10_000 {
            let answer = site.see(Place::Bearer, &fresh(), "", HOME).await;
            match answer.verdict().as_str() {
                "401/invalid_api_key" => unknown += 1,
                "429/rate_limited" => {
                    refused += 1;
                    assert_eq!(answer.header("retry-after"), ["1"], "{at}");
                }
                other => panic!("{at}: {other}"),
            }
            site.clock.advance(Duration::from_millis(1));
        }
        assert!((149..=151).contains(&unknown), "{at}: {unknown}");
        assert_eq!(refused, 10_000 - unknown, "{at}");
        if at == "cold" {
            assert_eq!(
                site.calls.load(SeqCst) - before,
                unknown,
                "one look-up each, and none for the others"
            );
        }
        // At the same address, a key in use works, and a valid key that was not used recently does not. At another
        // address, it does.
        while site.see(Place::Bearer, &fresh(), "", HOME).await.status != 429 {}
        assert_eq!(site.see(Place::Bearer, &world.own, "", HOME).await.verdict(), "200:h", "{at}");
        let unseen = site.see(Place::Bearer, &world.full, "", HOME).await.verdict();
        assert_eq!(unseen, if at == "warm" { "200:h" } else { "429/rate_limited" }, "{at}");
        assert_eq!(site.see(Place::Bearer, &world.full, "", AWAY).await.verdict(), "200:h", "{at}");
    }
}

/// A key that was accepted before may be looked up, but is not accepted because of that.
#[tokio::test]
async fn c17_a5_a_revoked_key_among_the_accepted_ones_is_refused() {
    let once = || "1/d".parse().unwrap();
    for spent_first in [false, true] {
        let world = World::new().await;
        let [_, site] = Site::all(&world, |verifier| {
            verifier.throttle(KeyThrottle::default().repeats(once()).lookups(once()))
        });
        assert_eq!(
            site.see(Place::Bearer, &world.own, "", HOME).await.verdict(),
            "200:h",
            "spent_first: {spent_first:?}"
        );
        if spent_first {
            assert_eq!(
                site.see(Place::Bearer, &fresh(), "", HOME).await.status,
                401,
                "spent_first: {spent_first:?}"
            );
            assert_eq!(
                site.see(Place::Bearer, &fresh(), "", HOME).await.status,
                429,
                "spent_first: {spent_first:?}"
            );
            assert_eq!(
                site.see(Place::Bearer, &world.own, "", HOME).await.verdict(),
                "200:h",
                "spent_first: {spent_first:?}"
            );
        }
        let record = world.store.find(&world.own.digest()).await.unwrap().unwrap();
        Keyring::new(world.store.clone()).revoke(&record.id).await.unwrap();
        let before = site.calls.load(SeqCst);
        let first = site.see(Place::Bearer, &world.own, "", HOME).await.verdict();
        // The response is the one it would get if it had never been accepted.
        let like_any_other = if spent_first { "429/rate_limited" } else { "401/invalid_api_key" };
        assert_eq!(first, like_any_other, "spent_first: {spent_first:?}");
        assert_eq!(site.calls.load(SeqCst) - before, 1, "it was looked up");
        // From now on it is like any other wrong key: it is refused before the store is asked.
        let before = site.calls.load(SeqCst);
        let again = site.see(Place::Bearer, &world.own, "", HOME).await.verdict();
        assert_eq!(again, "429/rate_limited", "spent_first: {spent_first:?}");
        assert_eq!(site.calls.load(SeqCst) - before, 0, "it was not looked up again");
    }
}

#[tokio::test]
async fn c17_a5_a_key_is_remembered_as_accepted_for_an_hour() {
    let world = World::new().await;
    let [_, site] = Site::all(&world, throttled("1/366d"));
    for key in [&world.own, &world.full] {
        assert_eq!(site.see(Place::Bearer, key, "", AWAY).await.verdict(), "200:h", "{key:?}");
    }
    assert_eq!(site.see(Place::Bearer, &fresh(), "", HOME).await.status, 401);
    let see = async |key| site.see(Place::Bearer, key, "", HOME).await.status.as_u16();
    assert_eq!(see(&world.ro).await, 429);
    site.clock.advance(Duration::from_secs(3599));
    assert_eq!(see(&world.own).await, 200);
    site.clock.advance(Duration::from_secs(1));
    assert_eq!((see(&world.own).await, see(&world.full).await), (200, 429));
}

#[tokio::test]
async fn only_failed_look_ups_count_as_failed_attempts() {
    let world = World::new().await;
    for place in PLACES {
        for site in Site::all(&world, throttled("1/h")) {
            let at = format!("{place:?}, {}", site.name);
            for _ in 0..5 {
                assert_eq!(site.see(place, &world.own, "u_own", HOME).await.verdict(), "200:h", "{at}");
                // Missing access to p1 does not count as a wrong key.
                let forbidden = site.see(place, &world.b, "u_b", HOME).await;
                assert_eq!(forbidden.status, StatusCode::FORBIDDEN, "{at}");
            }
            let mut request = test_kit::get("/", &[("x-api-key", "no key at all")]);
            request.extensions_mut().insert(PeerAddr(HOME.parse().unwrap()));
            assert_eq!(send(&site.app, request).await.status, StatusCode::UNAUTHORIZED, "{at}");
            // Clients with an unknown address are not slowed down, and slow down nobody.
            for _ in 0..5 {
                let answer = send(&site.app, ask(place, &fresh(), "u_own", None)).await;
                assert_eq!(answer.verdict(), "401/invalid_api_key", "{at}");
            }
            // Only the first failure is allowed.
            let verdict = async || site.see(place, &fresh(), "u_own", HOME).await.verdict();
            assert_eq!(verdict().await, "401/invalid_api_key", "{at}");
            assert_eq!(verdict().await, "429/rate_limited", "{at}");
            // Syntax is checked first (A.8: 7 before 8).
            let mut request = test_kit::get("/", &[("x-api-key", "no key at all")]);
            request.extensions_mut().insert(PeerAddr(HOME.parse().unwrap()));
            assert_eq!(send(&site.app, request).await.verdict(), "401/invalid_api_key", "{at}");
        }
    }
}

/// A realistic store: a thousand look-ups wait for it, and further ones are refused. All of them wait until the test
/// continues, except those of one key.
#[derive(Clone)]
struct Stalled {
    store: MemoryStore,
    not_this: [u8; 32],
    /// Whether that key is warm.
    warm: bool,
    places: Arc<Semaphore>,
    go_on: watch::Receiver<bool>,
}

#[async_trait]
impl KeyStore for Stalled {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let _place = self.places.try_acquire().map_err(|_| StoreError::Overloaded)?;
        if *digest.as_bytes() != self.not_this {
            self.go_on.clone().wait_for(|go_on| *go_on).await.unwrap();
        }
        self.store.find(digest).await
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        let at_hand = self.warm && *digest.as_bytes() == self.not_this;
        if at_hand { KeyStore::find_cached(&self.store, digest) } else { CachedKey::Miss }
    }
}

#[async_trait]
impl Directory for Stalled {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let _place = self.places.try_acquire().map_err(|_| StoreError::Overloaded)?;
        self.store.account_status(user, project).await
    }
}

/// C17-B1: if one address, or all clients with unknown addresses together, flood the store with look-ups, other clients
/// do not get 503.
#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn c17_b1_one_address_that_floods_a_store_gives_no_other_a_503() {
    const FLOOD: usize = 20_000;
    const WAITING: usize = 16_384;
    let world = World::new().await;
    for from in [Some(HOME), None] {
        let (go, go_on) = watch::channel(false);
        let not_this = *world.own.digest().as_bytes();
        let places = Arc::new(Semaphore::new(1024));
        let store = Stalled { store: world.store.clone(), not_this, warm: false, places, go_on };
        let site = Site::of("stalled", store, Arc::default(), as_it_is);
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..FLOOD {
            let (app, request) = (site.app.clone(), ask(Place::Bearer, &fresh(), "", from));
            flood.spawn(async move { send(&app, request).await.verdict() });
        }
        // All of them have arrived: those without a place were refused at once.
        let mut told = 0;
        while told < FLOOD - WAITING {
            assert_eq!(flood.join_next().await.unwrap().unwrap(), "503/auth_unavailable", "{from:?}");
            told += 1;
        }
        for place in PLACES {
            let other = site.see(place, &world.own, "u_own", AWAY).await;
            assert_eq!(other.verdict(), "200:h", "{from:?}");
        }
        go.send(true).unwrap();
        let mut verdicts = std::collections::BTreeMap::new();
        while let Some(verdict) = flood.join_next().await {
            *verdicts.entry(verdict.unwrap()).or_insert(0) += 1;
        }
        // All that waited were answered.
        assert_eq!(
            verdicts.into_iter().collect::<Vec<_>>(),
            [("401/invalid_api_key".to_owned(), WAITING)],
            "{from:?}"
        );
    }
}

/// C17-B1: revoking a key by its holder and using a key have separate places, even for one address.
#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn c17_g_requests_and_self_revoke_do_not_delay_each_other() {
    const AT: &str = "/self-revoke";
    let revoke =
        |key: &ApiKey| test_kit::request("POST", AT, &[("authorization", &test_kit::bearer(key))], "");
    let uses = |key: &ApiKey| test_kit::get("/", &[("authorization", &test_kit::bearer(key))]);
    for (from, ends) in [HOME, ""].into_iter().flat_map(|from| [(from, true), (from, false)]) {
        let world = World::new().await;
        let (_go, go_on) = watch::channel(false);
        let (not_this, places) = (*world.own.digest().as_bytes(), Arc::new(Semaphore::new(1024)));
        let store = Stalled { store: world.store.clone(), not_this, warm: false, places, go_on };
        let verifier = Verifier::new(store);
        let keyring = Keyring::new(world.store.clone());
        let self_revoke = manage::self_revoke(keyring, verifier.clone(), ClientAddr::peer());
        let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default())
            .endpoints(Endpoints::new().public(Method::POST, AT))
            .unwrap();
        let app = Router::new().route("/", any(echo)).route(AT, self_revoke).layer(auth);
        let came = |mut request: Request<Body>| {
            if let Ok(address) = from.parse::<IpAddr>() {
                request.extensions_mut().insert(PeerAddr(address));
            }
            let app = app.clone();
            async move { send(&app, request).await }
        };
        // More than have a place at the same time.
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let key = fresh();
            flood.spawn(came(if ends { uses(&key) } else { revoke(&key) }));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let answer = came(if ends { revoke(&world.own) } else { uses(&world.own) }).await;
        assert_eq!(answer.status, StatusCode::OK, "{from:?}: {}", answer.verdict());
        assert!(flood.try_join_next().is_none(), "it has waited for none of them");
        let active = world.store.find(&world.own.digest()).await.unwrap().unwrap().is_active(START);
        assert_eq!(active, !ends, "{from:?}, {ends:?}");
    }
}

/// A.8: too many wrong keys (8) is reported before no place to wait (9), and both before the answer of the store.
#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn c17_b1_a_429_comes_before_a_503() {
    let world = World::new().await;
    let (_go, go_on) = watch::channel(false);
    let wrong = fresh();
    let (not_this, places) = (*wrong.digest().as_bytes(), Arc::new(Semaphore::new(1024)));
    let store = Stalled { store: world.store.clone(), not_this, warm: true, places, go_on };
    let site = Site::of("stalled", store, Arc::default(), throttled("1/d"));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..16_384 + 1 {
        let (app, request) = (site.app.clone(), ask(Place::Bearer, &fresh(), "", Some(HOME)));
        flood.spawn(async move { send(&app, request).await.verdict() });
    }
    // There is no place any more.
    assert_eq!(flood.join_next().await.unwrap().unwrap(), "503/auth_unavailable");
    let verdict = async |key: &ApiKey| site.see(Place::Bearer, key, "", HOME).await.verdict();
    assert_eq!(verdict(&fresh()).await, "503/auth_unavailable");
    assert_eq!(verdict(&wrong).await, "401/invalid_api_key");
    assert_eq!(verdict(&fresh()).await, "429/rate_limited");
}

#[tokio::test]
async fn an_ipv6_client_is_a_network() {
    let world = World::new().await;
    for site in Site::all(&world, throttled("2/min")) {
        let verdict = async |from| site.see(Place::Bearer, &fresh(), "", from).await.verdict();
        assert_eq!(verdict("2001:db8:0:1::1").await, "401/invalid_api_key");
        assert_eq!(verdict("2001:db8:0:1:ffff::2").await, "401/invalid_api_key");
        assert_eq!(verdict("2001:db8:0:1:abcd::3").await, "429/rate_limited");
        assert_eq!(verdict("2001:db8:0:2::1").await, "401/invalid_api_key");
    }
}

#[tokio::test]
async fn responses_show_the_limits_of_a_key() {
    let world = World::new().await;
    let limited = world.key("u_own", |key| key.limits = Some("burst=3/min".parse().unwrap())).await;
    for place in PLACES {
        for site in Site::all(&world, as_it_is) {
            let at = format!("{place:?}, {}", site.name);
            for left in [2, 1, 0] {
                let answer = site.see(place, &limited, "u_own", HOME).await;
                assert_eq!(answer.verdict(), "200:h", "{at}");
                let expected = format!("\"burst\";r={left};t={}", (3 - left) * 20);
                assert_eq!(answer.header("ratelimit"), [expected], "{at}");
                assert_eq!(policy(&answer).0, "\"burst\";q=3;w=60", "{at}");
                assert!(answer.header("retry-after").is_empty(), "{at}");
            }
            // Per key, from every address.
            for from in [HOME, AWAY] {
                let answer = site.see(place, &limited, "u_own", from).await;
                assert_eq!(answer.verdict(), "429/rate_limited", "{at}");
                assert_eq!(answer.json()["message"], "Too many requests", "{at}");
                assert_eq!(answer.header("retry-after"), ["20"], "{at}");
                assert_eq!(answer.header("ratelimit"), ["\"burst\";r=0;t=60"], "{at}");
                assert_eq!(policy(&answer).0, "\"burst\";q=3;w=60", "{at}");
                assert_eq!(answer.header("cache-control"), ["no-store"], "{at}");
            }
            // A key without limits gets no such headers.
            let free = site.see(place, &world.own, "u_own", HOME).await;
            assert_eq!(free.verdict(), "200:h", "{at}");
            assert_tells_nothing(&free, &at);
            // One second too early, and exactly at the announced time.
            site.clock.advance(Duration::from_secs(19));
            let early = site.see(place, &limited, "u_own", HOME).await;
            assert_eq!(
                (early.verdict().as_str(), early.header("retry-after")),
                ("429/rate_limited", vec!["1"]),
                "{place:?}"
            );
            site.clock.advance(Duration::from_secs(1));
            assert_eq!(site.see(place, &limited, "u_own", HOME).await.verdict(), "200:h", "{at}");
        }
    }
}

/// A.8: rate limits are checked last, and a request that is refused for another reason is not counted.
#[tokio::test]
async fn only_accepted_requests_are_counted() {
    let world = World::new().await;
    let once = |key: &mut KeyRecord| key.limits = Some("1/h".parse().unwrap());
    let (read_only, other) = (world.key("u_ro", once).await, world.key("u_b", once).await);
    let limited = world.key("u_own", once).await;
    for site in Site::all(&world, as_it_is) {
        let at = site.name;
        for _ in 0..3 {
            // READONLY, with a POST.
            let answer = site.see(Place::Body, &read_only, "u_ro", HOME).await;
            assert_eq!(answer.verdict(), "403/read_only", "{at}");
            assert_tells_nothing(&answer, at);
            for place in PLACES {
                // The project of another account.
                assert_eq!(site.see(place, &other, "u_b", HOME).await.verdict(), "403/forbidden", "{at}");
            }
            // Not the owner: 401, and no headers about limits.
            let answer = site.see(Place::Body, &limited, "u_full", HOME).await;
            assert_eq!(answer.verdict(), "401/invalid_user", "{at}");
            assert_tells_nothing(&answer, at);
        }
        assert_eq!(site.see(Place::Bearer, &read_only, "u_ro", HOME).await.verdict(), "200:h", "{at}");
        assert_eq!(site.see(Place::Bearer, &read_only, "u_ro", HOME).await.verdict(), "429/rate_limited");
        // The other refusals still come first.
        assert_eq!(site.see(Place::Body, &read_only, "u_ro", HOME).await.verdict(), "403/read_only", "{at}");
        assert_eq!(site.see(Place::Bearer, &limited, "u_own", HOME).await.verdict(), "200:h", "{at}");
        let answer = site.see(Place::Body, &limited, "u_full", HOME).await;
        assert_eq!(answer.verdict(), "401/invalid_user", "{at}");
        assert_tells_nothing(&answer, at);
    }
}

/// If a guard or a handler refuses a counted request, the response has the headers about limits, like any other.
#[tokio::test]
async fn every_response_to_a_counted_request_shows_the_limits() {
    let world = World::new().await;
    for place in PLACES {
        let limited = world.key("u_own", |key| key.limits = Some("burst=3/min".parse().unwrap())).await;
        for (at, site) in Site::all(&world, as_it_is).into_iter().enumerate() {
            for (path, left) in [("/guarded", 2), ("/forbidden", 1), ("/", 0)] {
                let mut request = ask(place, &limited, "u_own", Some(HOME));
                *request.uri_mut() = path.parse().unwrap();
                let answer = send(&site.app, request).await;
                let at = format!("{place:?} {at} {path}");
                assert_eq!(answer.status, if path == "/" { 200 } else { 403 }, "{at}");
                let expected = format!("\"burst\";r={left};t={}", (3 - left) * 20);
                assert_eq!(answer.header("ratelimit"), [expected], "{at}");
                assert_eq!(answer.header("ratelimit-policy").len(), 1, "{at}");
                assert!(answer.header("retry-after").is_empty(), "{at}");
            }
            let mut request = ask(place, &limited, "u_own", Some(HOME));
            *request.uri_mut() = "/guarded".parse().unwrap();
            assert_eq!(send(&site.app, request).await.verdict(), "429/rate_limited", "{place:?}");
        }
    }
}

/// A 401 has no such headers, even if the handler returns it.
#[tokio::test]
async fn no_401_tells_of_limits() {
    let world = World::new().await;
    let limited = world.key("u_own", |key| key.limits = Some("9/h".parse().unwrap())).await;
    for site in Site::all(&world, as_it_is) {
        let headers = [("x-api-key", limited.expose_secret()), ("x-project-id", "p1")];
        let answer = send(&site.app, test_kit::get("/401", &headers)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_tells_nothing(&answer, site.name);
    }
}

/// Nor if a renderer turns a 429 into a 401.
#[tokio::test]
async fn a_refusal_that_is_rendered_as_401_tells_of_no_limits() {
    let world = World::new().await;
    let limited = world.key("u_own", |key| key.limits = Some("1/h".parse().unwrap())).await;
    let unauthorized = |_: &AuthError| {
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    };
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).render_errors(unauthorized);
    let app = Router::new().route("/", any(echo)).layer(auth);
    let see = async || send(&app, ask(Place::Bearer, &limited, "u_own", None)).await;
    assert_eq!(see().await.header("ratelimit").len(), 1);
    let refused = see().await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_tells_nothing(&refused, "rendered");
    assert!(refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn several_limits_are_all_kept_and_a_refusal_counts_for_none() {
    let world = World::new().await;
    let both: Limits = "2/s,4/h".parse().unwrap();
    let limited = world.key("u_own", |key| key.limits = Some(both.clone())).await;
    for place in PLACES {
        for site in Site::all(&world, as_it_is) {
            let at = format!("{place:?}, {}", site.name);
            let see = async || site.see(place, &limited, "u_own", HOME).await;
            for _ in 0..2 {
                assert_eq!(see().await.verdict(), "200:h", "{at}");
            }
            for _ in 0..10 {
                let answer = see().await;
                assert_eq!(answer.verdict(), "429/rate_limited", "{at}");
                assert_eq!(policy(&answer).0, "\"2/s\";q=2;w=1", "{at}");
                assert_eq!(answer.header("retry-after"), ["1"], "{at}");
            }
            // A request that the first limit refused does not count for the second.
            site.clock.advance(Duration::from_secs(1));
            let answers = [see().await, see().await];
            assert!(answers.iter().all(|answer| answer.verdict() == "200:h"), "{at}");
            assert_eq!(policy(&answers[1]).0, "\"4/h\";q=4;w=3600", "{at}");
            site.clock.advance(Duration::from_secs(1));
            let answer = see().await;
            assert_eq!(answer.verdict(), "429/rate_limited", "{at}");
            assert_eq!(policy(&answer).0, "\"4/h\";q=4;w=3600", "{at}");
            assert_eq!(answer.header("retry-after"), ["898"], "{at}");
        }
    }
}

/// A rotation gives the owner no additional limit, in any store.
#[tokio::test]
async fn a_rotated_key_and_its_successors_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("keys.sqlite")).await.unwrap();
    sqlite.create_account("A", &user("u_own")).await.unwrap();
    let p1 = Project::new(project("p1"), "P1");
    sqlite.create_project("A", &p1).await.unwrap();
    let access = Member::new(MemberRole::Full, [project("p1")]);
    sqlite.set_member("A", &user("u_full"), &access).await.unwrap();
    let world = World::new().await;

    for place in PLACES {
        let memory = Site::of("memory", world.store.clone(), Arc::default(), as_it_is);
        shares(place, &memory, &ApiKeys::new(world.store.clone()).clock(memory.clock.clone()).keyring())
            .await;
        let file = Site::of("sqlite", sqlite.clone(), Arc::default(), as_it_is);
        shares(place, &file, &ApiKeys::new(sqlite.clone()).clock(file.clock.clone()).keyring()).await;
    }
}

async fn shares(place: Place, site: &Site, keyring: &Keyring) {
    let at = format!("{place:?}, {}", site.name);
    let limits: Limits = "4/h".parse().unwrap();
    let new = NewKey::user_level(user("u_full"), "rotated").limits(limits.clone());
    let first = keyring.issue(new).await.unwrap();
    assert_eq!(&first.record().family, first.id(), "{at}");
    let grace = Grace::For(Duration::from_secs(600));
    let second = keyring.rotate(first.id(), grace).await.unwrap();
    let third = keyring.rotate(second.id(), grace).await.unwrap();
    for key in [&second, &third] {
        let stored = keyring.get(key.id()).await.unwrap().unwrap();
        assert_eq!((&stored.family, stored.limits.as_ref()), (first.id(), Some(&limits)), "{at}");
    }
    let see = async |key| site.see(place, key, "u_full", HOME).await;
    let mut partitions = std::collections::BTreeSet::new();
    for (key, left) in [(&first, 3), (&second, 2), (&third, 1), (&first, 0)] {
        let answer = see(key.key()).await;
        assert_eq!(answer.verdict(), "200:h", "{at}");
        assert!(answer.header("ratelimit")[0].starts_with(&format!("\"4/h\";r={left};")), "{at}");
        partitions.insert(policy(&answer).1.to_owned());
    }
    for key in [&first, &second, &third] {
        let answer = see(key.key()).await;
        assert_eq!(answer.verdict(), "429/rate_limited", "{at}");
        partitions.insert(policy(&answer).1.to_owned());
    }
    assert_eq!(partitions.len(), 1, "{at}: clients see that they count together");
    // Another key of the same person has its own limit.
    let other = keyring.issue(NewKey::user_level(user("u_full"), "other").limits(limits)).await.unwrap();
    let answer = see(other.key()).await;
    assert_eq!(answer.verdict(), "200:h", "{at}");
    assert!(!partitions.contains(policy(&answer).1), "{at}");
    for key in [&first, &second, &third, &other] {
        keyring.revoke(key.id()).await.unwrap();
    }
}

/// Making, using up and revoking keys in a loop does not make a verifier forget what other keys have used, if it
/// observes the keyring.
#[tokio::test]
async fn c17_b8_the_state_of_revoked_keys_is_evicted_first() {
    for observes in [true, false] {
        let world = World::new().await;
        let (mut others, clock) = (Vec::new(), ManualClock::new(START));
        for _ in 0..4 {
            others.push(world.key("u_own", |key| key.limits = Some("2/h".parse().unwrap())).await);
        }
        let verifier = ApiKeys::new(world.store.clone())
            .clock(clock.clone())
            .verifier()
            .limited_keys(NonZero::new(8).unwrap());
        let keyring = ApiKeys::new(world.store.clone()).clock(clock).keyring();
        let keyring = if observes { keyring.observer(verifier.clone()) } else { keyring };
        let ask = async |key: &ApiKey| {
            let answer = verifier.verify(&Credentials::new(key.expose_secret()), Endpoint::READ).await;
            answer.map_err(|error| error.kind()).err()
        };
        for key in &others {
            assert_eq!((ask(key).await, ask(key).await), (None, None), "observes: {observes:?}");
            assert_eq!(ask(key).await, Some(AuthErrorKind::RateLimited), "observes: {observes:?}");
        }
        for _ in 0..50 {
            let new =
                NewKey::user_level(user("u_full"), "in a loop").limits("3/366d".parse::<Limits>().unwrap());
            let key = keyring.issue(new).await.unwrap();
            for _ in 0..3 {
                assert_eq!(ask(key.key()).await, None, "observes: {observes:?}");
            }
            keyring.revoke(key.id()).await.unwrap();
        }
        let mut remembered = 0;
        for key in &others {
            remembered += usize::from(ask(key).await == Some(AuthErrorKind::RateLimited));
        }
        assert_eq!(remembered == 4, observes, "{remembered} of 4 are remembered");
    }
}

/// Keys with limits, over one kind of store; the verifier remembers eight families.
struct Families {
    store: &'static str,
    keyring: Keyring,
    verifier: Verifier,
    clock: ManualClock,
    _folder: Arc<tempfile::TempDir>,
}

impl Families {
    /// Over a warm store, a cold one, and one that says little about ended keys.
    async fn of_each_store(observes: bool) -> Vec<Self> {
        let world = World::new().await;
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let sqlite = SqliteStore::open(folder.path().join("keys.sqlite")).await.unwrap();
        sqlite.create_account("A", &user("u_own")).await.unwrap();
        let clocks = [(); 3].map(|()| ManualClock::new(START));
        let [warm, cold, file] = clocks.clone();
        let memory = |clock: ManualClock| ApiKeys::new(world.store.clone()).clock(clock);
        let sqlite = ApiKeys::new(sqlite).clock(file);
        let asked = ApiKeys::new(world.counted().0).clock(cold.clone());
        let kinds = [
            ("warm", memory(warm.clone()).keyring(), memory(warm).verifier()),
            ("cold", memory(cold).keyring(), asked.verifier()),
            ("sqlite", sqlite.keyring(), sqlite.verifier()),
        ];
        kinds
            .into_iter()
            .zip(clocks)
            .map(|((store, keyring, verifier), clock)| {
                let verifier = verifier.limited_keys(NonZero::new(8).unwrap());
                let keyring = keyring.policy(KeyPolicy::Multiple { max: NonZero::new(1000).unwrap() });
                let keyring = if observes { keyring.observer(verifier.clone()) } else { keyring };
                Self { store, keyring, verifier, clock, _folder: Arc::clone(&folder) }
            })
            .collect()
    }

    async fn issue(&self, limits: &str, ends: Option<Timestamp>) -> IssuedKey {
        let new = NewKey::user_level(user("u_own"), "x").limits(limits.parse::<Limits>().unwrap());
        self.keyring.issue(if let Some(end) = ends { new.expires_at(end) } else { new }).await.unwrap()
    }

    async fn ask(&self, key: &ApiKey) -> Option<AuthErrorKind> {
        let answer = self.verifier.verify(&Credentials::new(key.expose_secret()), Endpoint::READ).await;
        answer.map_err(|error| error.kind()).err()
    }

    /// Uses the key until its limit is reached.
    async fn use_up(&self, key: &ApiKey) {
        while self.ask(key).await.is_none() {}
        assert_eq!(self.ask(key).await, Some(AuthErrorKind::RateLimited), "{}", self.store);
    }

    /// Four keys whose limits are used up.
    async fn others(&self) -> Vec<IssuedKey> {
        let mut others = Vec::new();
        for _ in 0..4 {
            let other = self.issue("2/366d", None).await;
            self.use_up(other.key()).await;
            others.push(other);
        }
        others
    }

    /// How many of them are still refused.
    async fn remembered(&self, others: &[IssuedKey]) -> usize {
        let mut remembered = 0;
        for other in others {
            remembered += usize::from(self.ask(other.key()).await == Some(AuthErrorKind::RateLimited));
        }
        remembered
    }
}

#[tokio::test]
async fn c17_b8_a_sent_ended_key_is_evicted_first() {
    for (revokes, sends) in [(true, true), (false, true), (true, false)] {
        for site in Families::of_each_store(false).await {
            let others = site.others().await;
            for _ in 0..50 {
                let end = site.clock.now().saturating_add(Duration::from_secs(60));
                let key = site.issue("3/366d", Some(end)).await;
                site.use_up(key.key()).await;
                if revokes {
                    site.keyring.revoke(key.id()).await.unwrap();
                } else {
                    site.clock.advance(Duration::from_secs(60));
                }
                if sends {
                    let kind = if revokes { AuthErrorKind::RevokedKey } else { AuthErrorKind::ExpiredKey };
                    assert_eq!(
                        site.ask(key.key()).await,
                        Some(kind),
                        "revokes: {revokes:?}, sends: {sends:?}"
                    );
                }
            }
            let remembered = site.remembered(&others).await;
            assert_eq!(remembered == 4, sends, "{}, {revokes}: {remembered} of 4 are remembered", site.store);
        }
    }
}

/// A holder of two keys of a family cannot reset the limit by revoking one of them, or by sending the revoked one.
#[tokio::test]
async fn c17_b8_no_key_of_a_living_family_resets_its_limits() {
    for (grace, ends_old, observes) in [
        (Grace::None, false, false),
        (Grace::None, false, true),
        (Grace::For(Duration::from_secs(3600)), true, false),
        (Grace::For(Duration::from_secs(3600)), true, true),
        (Grace::For(Duration::from_secs(3600)), false, false),
        (Grace::For(Duration::from_secs(3600)), false, true),
    ] {
        for site in Families::of_each_store(observes).await {
            let old = site.issue("3/366d", None).await;
            site.use_up(old.key()).await;
            let new = site.keyring.rotate(old.id(), grace).await.unwrap();
            let (ended, lives) = match grace {
                Grace::For(_) if !ends_old => (&new, &old),
                _ => (&old, &new),
            };
            site.keyring.revoke(ended.id()).await.unwrap();
            for _ in 0..12 {
                assert_eq!(
                    site.ask(ended.key()).await,
                    Some(AuthErrorKind::RevokedKey),
                    "grace: {grace:?}, ends_old: {ends_old:?}, observes: {observes:?}"
                );
                // These keys have used less of their limits, so they are forgotten first.
                let other = site.issue("9/366d", None).await;
                assert_eq!(
                    site.ask(other.key()).await,
                    None,
                    "grace: {grace:?}, ends_old: {ends_old:?}, observes: {observes:?}"
                );
            }
            let answer = site.ask(lives.key()).await;
            let at = format!("{}, {grace:?}, {ends_old}, {observes}", site.store);
            assert_eq!(answer, Some(AuthErrorKind::RateLimited), "{at}");
        }
    }
}

/// If the last key of a family is not its first one, its end is still reported under the right id. It is also
/// recognised when no earlier key can be in its grace period any more.
#[tokio::test]
async fn c17_b8_the_end_of_the_last_key_ends_its_family() {
    for (observes, sends) in [(true, false), (false, true), (false, false)] {
        for site in Families::of_each_store(observes).await {
            let mut rotated = Vec::new();
            for _ in 0..50 {
                let first = site.issue("3/366d", None).await;
                rotated.push(site.keyring.rotate(first.id(), Grace::None).await.unwrap());
            }
            if sends {
                site.clock.advance(Duration::from_secs(90 * 24 * 60 * 60));
            }
            let others = site.others().await;
            for key in &rotated {
                site.use_up(key.key()).await;
                site.keyring.revoke(key.id()).await.unwrap();
                if sends {
                    assert_eq!(
                        site.ask(key.key()).await,
                        Some(AuthErrorKind::RevokedKey),
                        "observes: {observes:?}, sends: {sends:?}"
                    );
                }
            }
            let remembered = site.remembered(&others).await;
            let at = format!("{}, {observes}, {sends}: {remembered} of 4 are remembered", site.store);
            assert_eq!(remembered == 4, observes || sends, "{at}");
        }
    }
}

#[tokio::test]
async fn without_a_layer_a_refusal_says_how_long() {
    let world = World::new().await;
    let limited = world.key("u_own", |key| key.limits = Some("2/min".parse().unwrap())).await;
    let clock = ManualClock::new(START);
    let verifier = ApiKeys::new(world.store.clone()).clock(clock.clone()).verifier();
    let ask = async || {
        let credentials = Credentials::new(limited.expose_secret());
        verifier.verify(&credentials, Endpoint::READ).await
    };
    let left = |who: Principal| who.rate_limit().unwrap().remaining();
    assert_eq!(ask().await.map(left).unwrap(), 1);
    assert_eq!(ask().await.map(left).unwrap(), 0);
    let error = ask().await.unwrap_err();
    assert_eq!((error.kind(), error.status().as_u16()), (AuthErrorKind::RateLimited, 429));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    clock.advance(Duration::from_secs(30));
    assert_eq!(ask().await.map(left).unwrap(), 0);
}
