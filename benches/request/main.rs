//! What a request costs, and what it would cost otherwise: `cargo bench -p benches --bench request`.
//!
//! Prints one table per kind of request. Each is made in one run with the alternatives, because nothing else can be
//! compared:
//!
//! - *counted*: instructions from the call to the finished response, by callgrind. It hides the SHA extensions of the
//!   CPU, so that each SHA-256 is counted as software; *native* is the same without the hashes.
//! - *over*: native instructions over those of the router without a layer that got the same request; *ratio*: that,
//!   to the minimal layer's.
//! - *allocations*: over the router's, too.
//! - *p50*: the median time of a request, and over the router's. Good as ratios within one run.
//!
//! Without valgrind there are times only. Arguments: a part of the tables' names to print only those; `--growth` for
//! the time with a thousand to a million keys instead; `--refusals` for whether the time of a refusal tells what became of a
//! key; `--postgres` for requests and look-ups through a database, at
//! `TOWER_API_KEY_POSTGRES` or 127.0.0.1:5432.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark"
)]
#![allow(unreachable_pub, reason = "a program of several files")]

mod cases;
mod measure;
mod others;
mod postgres;
mod refusals;
mod stores;
mod world;

use std::time::Duration;

use crate::cases::{BARE, Case, MINIMAL};
use crate::measure::{Counts, HASH};
use crate::world::World;

fn main() {
    // The deadlines of stores and bodies ask for a timer, though nothing here ever waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--count", HASH] => measure::count_hash(),
        ["--count", name] => {
            measure::count(cases::all().iter().find(|case| full_name(case) == name).unwrap())
        }
        // Without `--bench`, this is `cargo test`: see that every case answers as it should.
        ref arguments if !arguments.contains(&"--bench") => {
            cases::all().iter().for_each(measure::count);
            refusals::times(1);
        }
        ref arguments if arguments.contains(&"--growth") => growth(),
        ref arguments if arguments.contains(&"--refusals") => refusals::times(2_000),
        ref arguments if arguments.contains(&"--postgres") => postgres::times(),
        ref arguments => {
            let wanted: Vec<&str> =
                arguments.iter().copied().filter(|argument| *argument != "--bench").collect();
            let cases: Vec<Case> = cases::all()
                .into_iter()
                .filter(|case| wanted.iter().all(|part| case.table.contains(part)))
                .collect();
            tables(&cases);
        }
    }
}

fn full_name(case: &Case) -> String {
    format!("{}: {}", case.table, case.name())
}

fn tables(cases: &[Case]) {
    let hash = if measure::valgrind_is_there() {
        let hash = measure::callgrind(HASH).instructions;
        println!("Software SHA-256, as callgrind counts it: {} instructions a key.", thousands(hash));
        Some(hash)
    } else {
        println!("There is no valgrind here: times only.");
        None
    };
    for cases in cases.chunk_by(|one, other| one.table == other.table) {
        let count = |case: &Case| hash.filter(|_| !case.waits).map(|_| measure::callgrind(&full_name(case)));
        let counts: Vec<_> = cases.iter().map(count).collect();
        let times = measure::times(&cases.iter().collect::<Vec<_>>(), Duration::from_millis(500));
        table(cases, &counts, hash.unwrap_or(0), &times);
    }
}

fn table(cases: &[Case], counts: &[Option<Counts>], hash: u64, times: &[Duration]) {
    println!(
        "\n| {} | counted | native | over | ratio | allocations | p50, us | over | ratio |",
        cases[0].table
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (index, case) in cases.iter().enumerate() {
        // Compared with those that had the same request.
        let (bare, minimal) = (alike(cases, BARE, case.variant), alike(cases, MINIMAL, case.variant));
        let is_bare = case.subject == BARE;
        let over = |cost: &dyn Fn(usize) -> f64, which: usize| {
            cost(which) - cost(alike(cases, BARE, cases[which].variant))
        };
        let time = |which: usize| times[which].as_nanos() as f64;
        let native = |which: usize| {
            counts[which].map_or(f64::NAN, |counts| counts.instructions as f64)
                - (hash * cases[which].hashes) as f64
        };
        let counted = match (counts[index], counts[bare]) {
            (Some(counted), Some(of_bare)) => format!(
                "| {} | {} | {} | {} | {:+}",
                thousands(counted.instructions),
                thousands(native(index) as u64),
                signed(over(&native, index)),
                ratio(is_bare, over(&native, index), over(&native, minimal)),
                counted.allocations as i64 - of_bare.allocations as i64,
            ),
            _ => "| | | | |".to_owned(),
        };
        let (over, of_minimal) = (over(&time, index), over(&time, minimal));
        println!(
            "| {} {counted} | {:.2} | {:+.2} | {} |",
            case.name(),
            time(index) / 1e3,
            over / 1e3,
            ratio(is_bare, over, of_minimal),
        );
    }
}

/// The position of a subject's line for this variant, or of its first line.
fn alike(cases: &[Case], subject: &str, variant: &str) -> usize {
    let place = |wanted: &dyn Fn(&Case) -> bool| {
        cases.iter().position(|case| case.subject == subject && wanted(case))
    };
    place(&|case| case.variant == variant).or_else(|| place(&|_| true)).unwrap()
}

fn ratio(bare: bool, over: f64, of_minimal: f64) -> String {
    if bare { String::new() } else { format!("{:.2}", over / of_minimal) }
}

fn signed(number: f64) -> String {
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}", thousands(number.abs() as u64))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn growth() {
    for (name, keys) in
        [("1 key", 1), ("1,000 keys", 1_000), ("100,000 keys", 100_000), ("1,000,000 keys", 1_000_000)]
    {
        let cases = cases::growing(name, Box::leak(Box::new(World::new(keys))));
        let times = measure::times(&cases.iter().collect::<Vec<_>>(), Duration::from_secs(1));
        table(&cases, &vec![None; cases.len()], 0, &times);
    }
}
