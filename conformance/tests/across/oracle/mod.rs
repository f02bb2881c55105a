//! Compares the real stack with a model of the right answers: generated sequences of changes, and requests through
//! every scheme before, during and after each change. After a change has returned, both must agree on status, public
//! code and principal, on every node, cold and warm.
//!
//! A normal run is small. For a longer one, set these variables; `ORACLE_SEED` is the first seed:
//!
//! ```text
//! ORACLE_SEQUENCES=500 ORACLE_CHANGES=200 cargo test --release -p conformance --test across oracle -- --nocapture
//! ORACLE_SEQUENCES=20 cargo test -p conformance --test across oracle -- --ignored --nocapture       (needs PostgreSQL)
//! ```
//!
//! If they disagree, the sequence is shortened as far as possible and printed as a value of `ORACLE_STEPS`, which
//! repeats it.

mod draw;
mod logged;
mod model;
mod real;
mod stacks;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use self::draw::Dice;
use self::model::{Change, Model, Probe, Text, Verdict};
use self::real::Real;
use self::stacks::{Common, Kind, Stack};

/// The number of requests around each change, for each node.
const PROBES: usize = 10;

#[derive(Debug, Default)]
struct Counts {
    sequences: u64,
    changes: u64,
    made: u64,
    probes: u64,
    accepted: u64,
    during: u64,
    warm: u64,
    cold: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.changes += other.changes;
        self.made += other.made;
        self.probes += other.probes;
        self.accepted += other.accepted;
        self.during += other.during;
        self.warm += other.warm;
        self.cold += other.cold;
    }
}

/// The observed answer, and the right one.
struct Disagreement {
    step: usize,
    what: String,
}

/// Runs one sequence. A sequence is a list of seeds, one for each step; the seed and the current state determine what
/// a step does.
struct Run {
    model: Model,
    real: Real,
    counts: Counts,
    told: Vec<String>,
}

impl Run {
    async fn new(kind: Kind) -> Self {
        let common = Common::new();
        let stack = Stack::new(kind, &common).await;
        let mut run = Self {
            model: Model::new(),
            real: Real::new(stack, common),
            counts: Counts::default(),
            told: Vec::new(),
        };
        run.counts.sequences = 1;
        for (account, owner) in [("A", "ann"), ("B", "dee")] {
            run.model.create_account(account, owner);
            run.real.create_account(account, owner).await;
        }
        for change in draw::beginning() {
            let (expected, outcome) = (run.model.apply(&change), run.real.apply(&change).await);
            assert_eq!(outcome, Ok(expected), "{change:?}");
        }
        run
    }

    async fn step(&mut self, seed: u64) -> Result<(), String> {
        let mut dice = Dice::new(seed);
        let change = draw::change(&mut dice, &self.model, self.real.nodes());
        let probes = draw::probes(&mut dice, &self.model, &change, PROBES);
        // Sometimes the first request after a break comes during the change.
        let asked_before = dice.next().is_multiple_of(2);
        self.real.prepare(&change).await;
        self.told.push(format!("{change:?}"));
        if asked_before {
            self.agree(&probes).await.map_err(|wrong| format!("before the change: {wrong}"))?;
        }

        let before = self.model.clone();
        let expected = self.model.apply(&change);
        let during = self.during(&probes, &change, &before);
        let outcome = self.real.apply(&change).await;
        self.counts.changes += 1;
        self.counts.made += u64::from(expected == model::Outcome::Done);
        if let Some(told) = self.told.last_mut() {
            told.push_str(&format!(": {outcome:?}"));
        }
        if outcome != Ok(expected) {
            return Err(format!("the change should be {expected:?}, and is {outcome:?}"));
        }
        self.counts.during += Self::finished(during, &before, &self.model).await?;
        self.agree(&probes).await.map_err(|wrong| format!("after the change: {wrong}"))
    }

    /// Sends the requests to every node, one after the other.
    async fn agree(&mut self, probes: &[Probe]) -> Result<(), String> {
        for probe in probes {
            for node in 0..self.real.nodes() {
                let expected = self.model.decide(node, probe);
                let seen = self.real.send(node, probe).await;
                self.counts.probes += 1;
                self.counts.accepted += u64::from(matches!(seen, Verdict::Accepted(_)));
                if seen != expected {
                    return Err(format!(
                        "node {node} says {seen:?} and not {expected:?}, at {} to {probe:?}",
                        self.model.now
                    ));
                }
            }
        }
        Ok(())
    }

    /// Sends the same requests during the change: the answer may be the old or the new one. Requests that count for a
    /// limit are left out.
    fn during(&self, probes: &[Probe], change: &Change, before: &Model) -> JoinSet<(Probe, usize, Verdict)> {
        let mut during = JoinSet::new();
        let counts = match change {
            Change::Clock { .. } | Change::Restart { .. } => return during,
            Change::Import { wish, .. } => !wish.limits.is_empty(),
            Change::Amend { limits, .. } => limits.is_some(),
            _ => false,
        };
        let limited = |probe: &&Probe| match probe.text {
            Text::Key(key) => before.keys.get(key).is_some_and(|key| !key.wish.limits.is_empty()),
            _ => false,
        };
        for probe in probes.iter().filter(|probe| !counts && !limited(probe)) {
            for node in 0..self.real.nodes() {
                let (probe, sent) = (probe.clone(), self.real.sending(node, probe));
                during.spawn(async move { (probe, node, sent.await) });
            }
        }
        during
    }

    async fn finished(
        mut during: JoinSet<(Probe, usize, Verdict)>,
        before: &Model,
        after: &Model,
    ) -> Result<u64, String> {
        let (mut before, mut after, mut count) = (before.clone(), after.clone(), 0);
        while let Some(sent) = during.join_next().await {
            let (probe, node, seen) = sent.unwrap();
            let (old, new) = (before.decide(node, &probe), after.decide(node, &probe));
            if seen != old && seen != new {
                return Err(format!(
                    "during the change: node {node} says {seen:?}, neither {old:?} nor {new:?}: {probe:?}"
                ));
            }
            count += 1;
        }
        Ok(count)
    }
}

async fn run(kind: Kind, steps: &[u64]) -> (Counts, Vec<String>, Option<Disagreement>) {
    let mut run = Run::new(kind).await;
    let mut wrong = None;
    for (step, seed) in steps.iter().enumerate() {
        if let Err(what) = run.step(*seed).await {
            wrong = Some(Disagreement { step, what });
            break;
        }
    }
    let [cold, warm] = &*run.real.common.decided.0;
    (run.counts.cold, run.counts.warm) = (cold.load(Ordering::Relaxed), warm.load(Ordering::Relaxed));
    (run.counts, run.told, wrong)
}

/// Leaves out steps as long as the disagreement remains.
async fn shrink(kind: Kind, mut steps: Vec<u64>) -> (Vec<u64>, Vec<String>, String) {
    let began = Instant::now();
    let (_, mut told, found) = run(kind, &steps).await;
    let Some(mut found) = found else { return (steps, told, "not seen again".to_owned()) };
    steps.truncate(found.step + 1);
    let mut size = steps.len() / 2;
    while size > 0 && began.elapsed() < Duration::from_secs(60) {
        let mut at = 0;
        while at + size <= steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..at + size);
            match run(kind, &fewer).await {
                (_, now, Some(wrong)) => {
                    fewer.truncate(wrong.step + 1);
                    (steps, told, found) = (fewer, now, wrong);
                }
                _ => at += size,
            }
        }
        size /= 2;
    }
    (steps, told, found.what)
}

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().unwrap())
}

/// Runs a sequence in its own runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(future)
}

async fn sequences(kind: Kind, default: (u64, u64)) -> Result<Counts, String> {
    let first = number("ORACLE_SEED", 1);
    let (count, changes) = (number("ORACLE_SEQUENCES", default.0), number("ORACLE_CHANGES", default.1));
    let mut total = Counts::default();
    for seed in first..first + count {
        let mut dice = Dice::new(seed);
        let steps: Vec<u64> = match std::env::var("ORACLE_STEPS") {
            Ok(steps) => steps.split(',').map(|step| u64::from_str_radix(step, 16).unwrap()).collect(),
            Err(_) => (0..changes).map(|_| dice.next()).collect(),
        };
        let (counts, _, wrong) = run(kind, &steps).await;
        total.add(&counts);
        if let Some(Disagreement { step, what }) = wrong {
            let mut text = format!("{kind:?}, ORACLE_SEED={seed}, step {step}: {what}\n");
            let (steps, told, what) = shrink(kind, steps).await;
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:x}")).collect();
            text.push_str(&format!("\nas short as it gets, ORACLE_STEPS={}\n", steps.join(",")));
            for change in told {
                text.push_str(&format!("    {change}\n"));
            }
            text.push_str(&what);
            return Err(text);
        }
    }
    Ok(total)
}

fn agrees(kind: Kind, default: (u64, u64)) {
    let began = Instant::now();
    match block_on(sequences(kind, default)) {
        Ok(counts) => println!("{kind:?} in {:?}: no disagreement in {counts:?}", began.elapsed()),
        Err(text) => panic!("{text}"),
    }
}

#[test]
fn c9_01_memory_store_answers_as_the_model() {
    agrees(Kind::Memory, (6, 60));
}

#[test]
fn c9_18_sqlite_answers_as_the_model_through_two_connections() {
    agrees(Kind::Sqlite, (2, 40));
}

#[test]
fn c9_01_a_cache_answers_as_the_model_and_so_does_its_store() {
    agrees(Kind::Cached, (3, 40));
}

#[test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
fn c9_01_postgres_answers_as_the_model_with_and_without_a_cache() {
    agrees(Kind::Postgres, (4, 60));
}

/// The test finds a planted error, and its report is short.
#[test]
fn a_cache_without_invalidation_is_detected() {
    let told = block_on(async {
        let steps: Vec<u64> = (0..60).map(|step| Dice::new(step).next()).collect();
        let (_, _, wrong) = run(Kind::Lying, &steps).await;
        assert!(wrong.is_some(), "it was believed");
        shrink(Kind::Lying, steps).await.1
    });
    assert!(told.len() <= 4, "{told:#?}");
}
