//! Observability: decisions, changes, events, metrics, and the last use of keys.

mod decisions;
mod events;
#[cfg(feature = "metrics")]
mod numbers;
mod recorder;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use http::{Method, Request};
use tower_api_key::guard::RequireScope;
use tower_api_key::observer::{Decision, KeyChange, Observer, Warning};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::KeyStore as _;
use tower_api_key::{ApiKey, ApiKeyAuth, AuthError, Endpoints, Principal, Verifier};

use test_kit::{World, bearer, echo, post_json, request};

/// Records what it is told, one line each.
#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Vec<String>>>);

impl Spy {
    fn say(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// The new lines since the last call.
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Spy {
    fn decided(&self, decision: &Decision<'_>) {
        let word = |word: Option<&str>| word.unwrap_or("-").to_owned();
        let mut line = format!(
            "{} {} {} {} {} {}",
            decision.outcome.as_str(),
            word(decision.kind().map(|kind| kind.as_str())),
            word(decision.scheme),
            word(decision.key_id.map(|key| key.as_str())),
            word(decision.environment.map(|environment| environment.as_str())),
            if decision.warm { "warm" } else { "cold" },
        );
        for kind in decision.observed() {
            line += &format!(" +{kind}");
        }
        self.say(line);
    }

    fn changed(&self, change: &KeyChange<'_>) {
        self.say(format!("{} {} by {}", change.key, change.event, change.by));
    }

    fn warned(&self, warning: Warning) {
        self.say(format!("warned {}", warning.as_str()));
    }
}

/// All three schemes, a public endpoint, a guard, and a handler that refuses.
fn app(verifier: Verifier) -> Router {
    let endpoints =
        Endpoints::new().public(Method::GET, "/health").project_optional(Method::GET, "/projects");
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default())
        .endpoints(endpoints)
        .unwrap()
        .pass_preflight();
    Router::new()
        .route("/health", get(async || "ok"))
        .route("/projects", get(async || "ok"))
        .route("/scoped", any(echo).layer(RequireScope::new("no-one-has-it")))
        .route("/forbidden", get(async |who: Principal| -> Result<(), AuthError> { Err(who.forbidden()) }))
        .fallback(echo)
        .layer(auth)
}

async fn id_of(world: &World, key: &ApiKey) -> String {
    world.store.find(&key.digest()).await.unwrap().unwrap().id.to_string()
}

fn with_bearer(path: &str, key: &ApiKey) -> Request<Body> {
    request("GET", path, &[("authorization", &bearer(key))], "")
}

fn with_body(path: &str, key: &ApiKey, user: &str) -> Request<Body> {
    let body = serde_json::json!({"apiKey": key.expose_secret(), "userId": user, "projectId": "p1"});
    post_json(path, body)
}
