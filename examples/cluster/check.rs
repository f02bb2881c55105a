//! Records requests and changes, and checks that the answers were right.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::change::Keys;

/// One request and its answer.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) node: usize,
    pub(crate) key: usize,
    pub(crate) writes: bool,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) status: u16,
}

/// From when until when a key certainly has or has not a right.
///
/// Between a call and its return, both answers are right.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    /// When the call that gave the right returned.
    pub(crate) from: Option<Instant>,
    /// When the call that takes it began.
    pub(crate) ending: Option<Instant>,
    /// When the call that took it returned.
    pub(crate) ended: Option<Instant>,
}

pub(crate) struct History {
    verbose: bool,
    began: Instant,
    tally: Mutex<Counts>,
    healed: AtomicBool,
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    unavailable: u64,
    violations: Vec<String>,
    wrong: Vec<String>,
    latencies: Vec<Duration>,
    changes: HashMap<&'static str, Vec<Duration>>,
    failed_changes: u64,
    faults: HashMap<&'static str, u64>,
}

impl History {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, began: Instant::now(), tally: Mutex::default(), healed: AtomicBool::new(false) }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.tally.lock().expect("nobody panics with this lock")
    }

    pub(crate) fn healed(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn say(&self, what: &str) {
        println!("{:9.3} s  {what}", self.began.elapsed().as_secs_f64());
    }

    pub(crate) fn fault(&self, what: &'static str, node: Option<usize>) {
        *self.tally().faults.entry(what).or_default() += 1;
        match node {
            Some(node) => self.say(&format!("fault: node {node} {what}")),
            None => self.say(&format!("fault: {what}")),
        }
    }

    pub(crate) fn changed(&self, what: &'static str, took: Option<Duration>) {
        let mut tally = self.tally();
        match took {
            Some(took) => tally.changes.entry(what).or_default().push(took),
            None => tally.failed_changes += 1,
        }
        drop(tally);
        if self.verbose
            && let Some(took) = took
        {
            self.say(&format!("{what}: returned after {:.1} ms", took.as_secs_f64() * 1e3));
        }
    }

    /// Checks one answer against what was certain while the request was made.
    pub(crate) fn answered(&self, asked: Asked, keys: &Keys) {
        let span = if asked.writes { keys.write_span(asked.key) } else { keys.span(asked.key) };
        let accepted = asked.status == 200;
        let dead = span.ended.is_some_and(|ended| asked.began > ended);
        let good = span.from.is_some_and(|from| asked.began > from)
            && span.ending.is_none_or(|ending| asked.ended < ending);
        let what = || {
            let since = |end: Instant| asked.began.saturating_duration_since(end).as_secs_f64() * 1e3;
            format!(
                "node {} said {} to key {} ({}), {:.3} ms after its end",
                asked.node,
                asked.status,
                asked.key,
                if asked.writes { "write" } else { "read" },
                span.ended.map_or(f64::NAN, since)
            )
        };
        let mut tally = self.tally();
        match asked.status {
            200 => tally.accepted += 1,
            401 | 403 => tally.refused += 1,
            _ => tally.unavailable += 1,
        }
        tally.latencies.push(asked.ended - asked.began);
        if dead && accepted {
            tally.violations.push(what());
        }
        let must_work = good && (matches!(asked.status, 401 | 403) || self.healed.load(Ordering::SeqCst));
        if must_work && !accepted {
            tally.wrong.push(what());
        }
    }

    /// Prints the result; returns whether the guarantee was kept and anything was tested.
    pub(crate) fn judge(&self, keys: &Keys) -> bool {
        let mut tally = self.tally();
        let Counts { accepted, refused, unavailable, .. } = *tally;
        println!(
            "requests: {accepted} accepted, {refused} refused, {unavailable} not answered for want of a store or a node"
        );
        println!("request latency: {}", quantiles(&mut tally.latencies));
        let mut changes: Vec<_> = std::mem::take(&mut tally.changes).into_iter().collect();
        changes.sort_by_key(|(what, _)| *what);
        let mut count = 0;
        for (what, mut took) in changes {
            count += took.len();
            println!("{what}: {} times, {}", took.len(), quantiles(&mut took));
        }
        println!("changes that failed and were repeated: {}", tally.failed_changes);
        let mut faults: Vec<_> = tally.faults.iter().collect();
        faults.sort();
        for (what, times) in faults {
            println!("fault: {what}, {times} times");
        }
        println!("keys: {}", keys.len());
        println!("accepted after the change had returned: {}", tally.violations.len());
        println!("good keys that were refused: {}", tally.wrong.len());
        for line in tally.violations.iter().chain(&tally.wrong).take(20) {
            println!("  {line}");
        }
        let tested = count > 0 && accepted > 0 && refused > 0;
        if !tested {
            println!("nothing was tested");
        }
        tested && tally.violations.is_empty() && tally.wrong.is_empty()
    }
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        let place = (times.len() as f64 * part) as usize;
        times.get(place.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(0.5), at(0.99), at(1.0))
}
