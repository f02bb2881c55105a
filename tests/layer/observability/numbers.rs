//! Metrics: which there are, and that clients cannot create new series.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tower::ServiceExt as _;
use tower_api_key::observer::Metrics;
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::{Environment, KeyFormat, Keyring, NewKey, Verifier};

use super::{app, id_of, with_bearer, with_body};
use test_kit::{World, request, user};

/// Each series with the sum of its counts, or the number of its samples.
#[derive(Clone, Default)]
struct Series(Arc<Mutex<BTreeMap<String, u64>>>);

impl Series {
    fn handle(&self, key: &Key) -> Arc<One> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(One { name: format!("{}{{{}}}", key.name(), labels.join(",")), of: self.clone() })
    }
}

struct One {
    name: String,
    of: Series,
}

impl One {
    fn add(&self, count: u64) {
        *self.of.0.lock().unwrap().entry(self.name.clone()).or_default() += count;
    }
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for One {
    fn record(&self, seconds: f64) {
        assert!((0.0..60.0).contains(&seconds));
        self.add(1);
    }
}

impl Recorder for Series {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}

/// The recorder belongs to one thread, so futures are polled here instead of spawned.
fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// C13-04: 10^5 unknown keys and paths, and some known ones.
#[test]
fn c13_04_no_client_creates_a_metric_series() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let series = Series::default();
    metrics::with_local_recorder(&series, || {
        let world = at_once(World::new());
        let app = app(Verifier::new(world.store.clone()).observer(Metrics));
        let (format, own) = (KeyFormat::default(), at_once(id_of(&world, &world.own)));
        let mut texts = Vec::new();
        for number in 0..100_000 {
            let key = format.generate(Environment::Live).unwrap();
            let path = format!("/{number:x}/{}", &key.expose_secret()[20..26]);
            let request = match number % 4 {
                0 => with_bearer(&path, &world.own),
                1 => request(
                    "GET",
                    &path,
                    &[("x-api-key", key.expose_secret()), ("x-project-id", &path[1..4])],
                    "",
                ),
                2 => with_body(&path, &key, &format!("user{number}")),
                _ => with_bearer(&path, &key),
            };
            at_once(app.clone().oneshot(request)).unwrap();
            if number % 10_000 < 4 {
                texts.extend([key.expose_secret().to_owned(), path]);
            }
        }
        let counted = series.0.lock().unwrap().clone();
        let names: Vec<_> = counted.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "api_key_decision_seconds{outcome=accepted}",
                "api_key_decision_seconds{outcome=refused}",
                "api_key_decisions_total{outcome=accepted,kind=,scheme=bearer}",
                "api_key_decisions_total{outcome=refused,kind=unknown_key,scheme=api-key-header}",
                "api_key_decisions_total{outcome=refused,kind=unknown_key,scheme=bearer}",
                "api_key_decisions_total{outcome=refused,kind=unknown_key,scheme=json-body}",
                "api_key_warnings_total{warning=body_sender_unknown}",
            ]
        );
        let all = counted.values().sum::<u64>();
        assert_eq!(all, 200_001, "each request is counted once and timed once, and there is one warning");
        let shown = names.join(" ");
        for text in texts.iter().map(String::as_str).chain(["u_own", "user2", &own]) {
            assert!(!shown.contains(text), "a label holds {text}");
        }
    });
}

#[test]
fn observations_changes_and_warnings_are_counted() {
    let series = Series::default();
    metrics::with_local_recorder(&series, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let world = at_once(World::new());
        let app = app(Verifier::new(world.store.clone()).observer(Metrics));
        let office = IpRestriction::allow(["192.0.2.0/24"]).unwrap().observe();
        let key = at_once(world.key("u_own", |key| key.restrictions = Restrictions::none().ip(office)));
        at_once(app.clone().oneshot(with_bearer("/scoped", &key))).unwrap();
        let keyring = Keyring::new(world.store.clone()).observer(Metrics);
        let issued = at_once(keyring.issue(NewKey::user_level(user("u_own"), "x"))).unwrap();
        at_once(keyring.revoke(issued.id())).unwrap();
    });
    let counted: Vec<_> = series.0.lock().unwrap().clone().into_iter().collect();
    let one = |name: &str| (name.to_owned(), 1);
    assert_eq!(
        counted,
        [
            one("api_key_changes_total{event=issued}"),
            one("api_key_changes_total{event=revoked}"),
            one("api_key_decision_seconds{outcome=accepted}"),
            one("api_key_decisions_total{outcome=accepted,kind=,scheme=bearer}"),
            one("api_key_decisions_total{outcome=guarded,kind=missing_scope,scheme=bearer}"),
            one("api_key_observed_total{restriction=ip}"),
            one("api_key_warnings_total{warning=client_address_unknown}"),
        ]
    );
}
