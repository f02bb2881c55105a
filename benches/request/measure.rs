//! Instructions and allocations by callgrind, times by a clock.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, Response};
use tower_api_key::KeyDigest;

use crate::cases::{App, Case, Subject};

/// From the call to the finished response.
#[inline(always)]
fn answer(app: &mut App, request: Request<Body>) -> Response<Body> {
    app.answer(black_box(request))
}

/// The part of the process that callgrind counts, which it selects by the name of this function.
#[inline(never)]
fn counted(app: &mut App, request: Request<Body>) -> Response<Body> {
    black_box(answer(app, request))
}

/// The same for one hash, in a module of its own, because the counted functions must have the same name.
mod hash {
    #[inline(never)]
    pub(super) fn counted(key: &str) -> super::KeyDigest {
        super::black_box(super::KeyDigest::of(super::black_box(key)))
    }
}

const COUNTED: [&str; 4] = [
    "request::measure::counted",
    "request::measure::counted::h*",
    "request::measure::hash::counted",
    "request::measure::hash::counted::h*",
];

/// The case that only computes one hash.
pub const HASH: &str = "one hash";

const WARM_UP: usize = 3;
const TURNS: usize = 10;

/// Runs a case. The process itself runs under callgrind.
pub fn count(case: &Case) {
    let Subject { mut app, request } = (case.make)();
    for turn in 0..WARM_UP {
        let response = answer(&mut app, request(turn));
        assert_eq!(response.status(), case.status, "{}: {}", case.table, case.name());
    }
    for turn in 0..TURNS {
        drop(counted(&mut app, request(turn)));
    }
}

/// As long as a key with the default prefix.
const KEY_LEN: usize = 47;

pub fn count_hash() {
    let key = "k".repeat(KEY_LEN);
    black_box(KeyDigest::of(&key));
    for _ in 0..TURNS {
        hash::counted(&key);
    }
}

/// The cost of one request, as counted by callgrind.
#[derive(Clone, Copy)]
pub struct Counts {
    pub instructions: u64,
    pub allocations: u64,
}

pub fn valgrind_is_there() -> bool {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    valgrind.status().is_ok_and(|status| status.success())
}

/// Runs this program again, under callgrind, for one case.
pub fn callgrind(case: &str) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--quiet",
        "--dump-instr=yes",
        "--compress-strings=no",
        "--compress-pos=no",
    ]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.args(COUNTED.map(|name| format!("--toggle-collect={name}")));
    valgrind.arg(std::env::current_exe().unwrap()).args(["--count", case]);
    assert!(valgrind.status().unwrap().success(), "{case} failed under callgrind");
    read(&out)
}

/// Reads the output file, which lists the counts of each function by address.
fn read(out: &Path) -> Counts {
    const ALLOCATE: [&str; 4] = ["fn=malloc", "fn=calloc", "fn=realloc", "fn=posix_memalign"];
    let text = std::fs::read_to_string(out).unwrap();
    let (mut instructions, mut entries, mut function) = (0, HashMap::new(), "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.parse().unwrap();
        } else if line.starts_with("fn=") {
            function = line;
        } else if line.starts_with("calls=") {
            // The counts of the called function, which are also listed there.
            lines.next();
        } else if let Some(counted) = line.strip_prefix("0x").filter(|_| ALLOCATE.contains(&function)) {
            let [address, _, count] = counted.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let address = u64::from_str_radix(address, 16).unwrap();
            entries.entry((function, address)).or_insert(count.parse::<u64>().unwrap());
        }
    }
    // The first instruction of a function is executed once per call.
    let first = |name| entries.iter().filter(|((function, _), _)| *function == name).min();
    let allocations: u64 = ALLOCATE.into_iter().filter_map(first).map(|(_, count)| count).sum();
    let turns = TURNS as u64;
    Counts { instructions: instructions / turns, allocations: allocations / turns }
}

/// Measures the median time of a request for each case. Batches of the cases take turns, so that other load on the
/// machine affects all cases equally.
pub fn times(cases: &[&Case], span: Duration) -> Vec<Duration> {
    let mut subjects: Vec<Subject> = cases.iter().map(|case| (case.make)()).collect();
    let mut samples = vec![Vec::new(); cases.len()];
    // Small enough that requests and responses stay in the CPU's caches.
    const BATCH: usize = 32;
    let start = Instant::now();
    let mut batch = 0;
    while start.elapsed() < span * u32::try_from(cases.len()).unwrap() || batch < 10 {
        for (index, (subject, samples)) in subjects.iter_mut().zip(&mut samples).enumerate() {
            // Each case uses other keys than the cases before it, whose keys are in the CPU's caches now.
            let first = batch * BATCH + index * 10_007;
            let requests: Vec<_> = (first..first + BATCH).map(&subject.request).collect();
            let mut answers = Vec::with_capacity(BATCH);
            let start = Instant::now();
            for request in requests {
                answers.push(answer(&mut subject.app, request));
            }
            samples.push(start.elapsed() / u32::try_from(BATCH).unwrap());
        }
        batch += 1;
    }
    samples.iter_mut().map(|samples| median(samples)).collect()
}

/// The median.
pub fn median(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
