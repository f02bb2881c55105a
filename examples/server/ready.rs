//! `GET /ready`: whether a load balancer should send requests here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use tokio::sync::Mutex;
use tower_api_key::Verifier;

/// However often the route is called, the store is queried at most once in this time.
const FRESH_FOR: Duration = Duration::from_secs(1);

struct Readiness {
    verifier: Verifier,
    has_lease: Box<dyn Fn() -> bool + Send + Sync>,
    /// When the store was queried, and whether it answered.
    last: Mutex<Option<(Instant, bool)>>,
}

pub(crate) fn route(verifier: Verifier, has_lease: impl Fn() -> bool + Send + Sync + 'static) -> Router {
    let readiness = Readiness { verifier, has_lease: Box::new(has_lease), last: Mutex::new(None) };
    Router::new().route("/ready", get(ready)).with_state(Arc::new(readiness))
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> impl IntoResponse {
    let mut last = readiness.last.lock().await;
    let answers = match *last {
        Some((asked, answers)) if asked.elapsed() < FRESH_FOR => answers,
        _ => {
            let answers = readiness.verifier.ready().await.is_ok();
            *last = Some((Instant::now(), answers));
            answers
        }
    };
    // Details are not shown, because everybody may call this.
    let (status, text) = match (answers, (readiness.has_lease)()) {
        (true, true) => (StatusCode::OK, "ready\n"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n"),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "this node has no lease\n"),
    };
    (status, [(CACHE_CONTROL, "no-store")], text)
}
