//! Measures whether the time of a refusal reveals if a key is revoked, expired or unknown (C7-02): with a store in
//! memory, and with one that must be waited for.

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use http::StatusCode;
use tempfile::TempDir;
use tower::Service as _;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{Accounts, Directory, KeyRegistry, KeyStore, MemoryStore, StoreError, Terms};
use tower_api_key::{
    AccountStatus, ApiKeyAuth, Authority, Clock as _, KeyDigest, KeyId, KeyPolicy, KeyRecord, ProjectId,
    SystemClock, Timestamp, UserId, Verifier,
};
use tower_api_key_postgres::PostgresStore;
use tower_api_key_sqlite::SqliteStore;

use crate::cases::{authorization, headed};
use crate::measure;
use crate::world::{at_once, fresh};

/// The number of keys of each kind. It is small, as for an attacker who measures, so all of them are in the CPU's
/// caches.
const KEYS: usize = 8;

/// The kinds of keys, and whether their records are long.
const KINDS: [(&str, bool); 5] = [
    ("unknown", false),
    ("revoked", false),
    ("expired", false),
    ("revoked, a long record", true),
    ("expired, a long record", true),
];

/// The texts of the keys of each kind.
static TEXTS: LazyLock<Vec<Vec<String>>> =
    LazyLock::new(|| KINDS.iter().map(|_| (0..KEYS).map(|_| fresh()).collect()).collect());

/// A store that returns the whole record of an ended key.
#[derive(Clone)]
struct Whole(SqliteStore);

#[async_trait]
impl KeyStore for Whole {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.find(digest).await
    }
}

#[async_trait]
impl Directory for Whole {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        self.0.account_status(user, project).await
    }
}

/// Measures a store in memory and one in a file.
pub fn times(rounds: usize) {
    let memory = MemoryStore::new();
    at_once(fill(&memory));
    let (sqlite, _folder) = file();
    table("`MemoryStore`", at_once(medians(&memory, rounds)));
    table("`SqliteStore`", at_once(medians(&sqlite, rounds)));
    table("`SqliteStore`, all of a record parsed", at_once(medians(&Whole(sqlite), rounds)));
}

/// The same for PostgreSQL, in a runtime.
pub async fn postgres(store: &PostgresStore) {
    fill(store).await;
    table("`PostgresStore`", medians(store, 400).await);
}

/// Returns for each kind the median time, and the median of its ratio to the time of an unknown key in the same
/// round, because other load on the machine affects a whole round equally. The kinds take turns, and each round
/// begins with another one, because a request is also affected by the one before it.
async fn medians<S: KeyStore + Directory + Clone>(store: &S, rounds: usize) -> Vec<(Duration, f64)> {
    let auth = ApiKeyAuth::with_verifier(Verifier::new(store.clone()), Bearer::default());
    let mut app = Router::new().route("/", get(|| async { "ok" })).layer(auth);
    let mut samples = vec![Vec::new(); KINDS.len()];
    let mut ratios = vec![Vec::new(); KINDS.len()];
    for round in 0..rounds * KINDS.len() {
        let mut of_round = vec![Duration::ZERO; KINDS.len()];
        for turn in 0..KINDS.len() {
            let kind = (round + turn * (1 + round % 4)) % KINDS.len();
            let mut times = Vec::new();
            for text in &TEXTS[kind] {
                let request = headed(vec![authorization(text)]);
                let began = Instant::now();
                let response = app.call(request).await.unwrap();
                times.push(began.elapsed());
                assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            }
            of_round[kind] = measure::median(&mut times);
            samples[kind].extend(times);
        }
        for (ratios, time) in ratios.iter_mut().zip(&of_round) {
            ratios.push(time.as_secs_f64() / of_round[0].as_secs_f64());
        }
    }
    let median = |(samples, ratios): (&mut Vec<Duration>, &mut Vec<f64>)| {
        ratios.sort_unstable_by(f64::total_cmp);
        (measure::median(samples), ratios[ratios.len() / 2])
    };
    samples.iter_mut().zip(&mut ratios).map(median).collect()
}

fn table(store: &str, medians: Vec<(Duration, f64)>) {
    println!("\n| refused by {store} | p50, us | of unknown |\n|---|--:|--:|");
    for ((kind, _), (time, ratio)) in KINDS.iter().zip(&medians) {
        println!("| {kind} | {:.2} | {:.1} % |", time.as_nanos() as f64 / 1e3, 100.0 * ratio);
    }
}

fn file() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = at_once(SqliteStore::open(folder.path().join("keys.db"))).unwrap();
    at_once(fill(&store));
    (store, folder)
}

async fn fill(store: &(impl Accounts + KeyRegistry)) {
    let owner = UserId::new("user_of_refused_keys").unwrap();
    store.create_account("account_of_refused_keys", &owner).await.unwrap();
    for (kind, ((name, long), texts)) in KINDS.iter().zip(&*TEXTS).enumerate().skip(1) {
        let record = |(index, text): (usize, &String)| record(kind, index, text, name, *long, &owner);
        let records: Vec<KeyRecord> = texts.iter().enumerate().map(record).collect();
        let added = store
            .insert_all(
                records,
                &Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: NonZeroU32::MAX }),
            )
            .await
            .unwrap();
        added.into_iter().for_each(|added| added.unwrap());
    }
}

fn record(kind: usize, index: usize, text: &str, name: &str, long: bool, owner: &UserId) -> KeyRecord {
    let id = KeyId::new(format!("key_{kind}_{index:020x}")).unwrap();
    let mut key = KeyRecord::new(id, KeyDigest::of(text), owner.clone(), Timestamp::from_secs(1));
    let ended = SystemClock.now();
    match name.starts_with("revoked") {
        true => key.revoked_at = Some(ended),
        false => key.expires_at = Some(ended),
    }
    key.name = "Production key of the shop".to_owned();
    key.prefix = "sk_live_".to_owned();
    key.last4 = text[43..].to_owned();
    key.scopes = ["orders:read", "orders:write"].map(str::to_owned).into();
    let entries = if long { 100 } else { 2 };
    key.metadata = (0..entries)
        .map(|entry| (format!("entry {entry}"), "what the application keeps".to_owned()))
        .collect();
    let networks =
        (0..entries).map(|network| format!("\"192.0.{network}.0/24\"")).collect::<Vec<_>>().join(",");
    let restrictions =
        format!(r#"{{"ip":{{"allow":[{networks}]}},"endpoints":{{"allow":["GET /orders/{{id}}"]}}}}"#);
    key.restrictions = restrictions.parse().unwrap();
    key.limits = Some("12/min,10000/30d".parse().unwrap());
    key
}
