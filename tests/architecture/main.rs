//! Checks the architecture: which file may import which, where evidence is made, and how SQL is written.
//!
//! The source is parsed, and every path is resolved to the file that defines its target. `edges.txt` is the list of
//! allowed imports between rooms (the files and folders of `src/`). The tests in `planted.rs` and `privacy.rs` prove
//! that these checks find violations.

mod circles;
mod evidence;
mod graph;
mod modules;
mod planted;
mod privacy;
mod repository;
mod rooms;
mod sql;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use self::graph::Graph;
use self::modules::House;

/// Which room may import which. The source must have exactly these imports.
const EDGES: &str = include_str!("edges.txt");

/// The other packages: within each, there are no circular imports, and all SQL is constant.
const PACKAGES: &[&str] = &[
    "crates/cli",
    "crates/email",
    "crates/manage",
    "crates/openapi",
    "crates/portal",
    "crates/postgres",
    "crates/sqlite",
];

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("src")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All violations in a source, by kind.
struct Faults {
    unreadable: Vec<String>,
    rooms: Vec<String>,
    strangers: Vec<String>,
    circles: Vec<String>,
    evidence: Vec<String>,
    sql: Vec<String>,
}

impl Faults {
    fn of(package: &str, src: &Path, edges: &str) -> Self {
        let house = House::read(src);
        let graph = Graph::of(&house);
        Self {
            rooms: rooms::differences(&house, &graph, edges),
            strangers: rooms::strangers(&graph),
            circles: circles_in(&graph),
            evidence: evidence::named_elsewhere(&house, &graph),
            sql: sql::put_together(package, &house, &graph),
            unreadable: graph.wrong,
        }
    }
}

/// The violations in the real source. They are computed once, because this takes a second.
static FAULTS: LazyLock<Faults> = LazyLock::new(|| Faults::of(".", &source(), EDGES));

/// The circular imports: for each set of files that import each other, the shortest circle.
fn circles_in(graph: &Graph) -> Vec<String> {
    let edges = graph.edges_of_files();
    let knots = circles::knots(&circles::shortest(&edges));
    let said = knots.iter().map(|(files, circle)| {
        let words = circles::in_words(circle, &edges);
        format!("{} files import each other in a circle; the shortest one is {words}", files.len())
    });
    said.collect()
}

/// Fails with one violation per line.
#[track_caller]
fn none_of(faults: &[String]) {
    assert!(faults.is_empty(), "\n\n{}\n", faults.join("\n"));
}

#[test]
fn every_path_can_be_followed() {
    none_of(&FAULTS.unreadable);
}

#[test]
fn rooms_import_exactly_the_listed_rooms_and_never_upward() {
    none_of(&FAULTS.rooms);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    none_of(&FAULTS.circles);
}

#[test]
fn schemes_and_stores_never_meet_and_stores_know_no_http() {
    none_of(&FAULTS.strangers);
}

#[test]
fn only_one_room_says_yes() {
    none_of(&FAULTS.evidence);
}

#[test]
fn c12_01_sql_is_never_put_together() {
    none_of(&FAULTS.sql);
}

#[test]
fn packages_beside_the_root_have_no_circles_and_their_sql_is_constant() {
    let mut listed: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates"))
        .unwrap()
        .map(|entry| format!("crates/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    listed.sort();
    assert_eq!(listed, PACKAGES, "PACKAGES names every folder of crates/");
    let mut wrong = Vec::new();
    for name in PACKAGES {
        let house = House::read(&package(name));
        let graph = Graph::of(&house);
        let sql = sql::put_together(name, &house, &graph);
        let faults = [circles_in(&graph), sql, graph.wrong].concat();
        wrong.extend(faults.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    none_of(&wrong);
}

/// `cargo test --test architecture -- --ignored draw --nocapture` prints the rooms.
#[test]
#[ignore = "draws the house, and checks nothing"]
fn draw() {
    let house = House::read(&source());
    println!("{}", rooms::drawing(&house, &Graph::of(&house), EDGES));
}

/// `cargo test --test architecture -- --ignored print_circles --nocapture` prints all circular imports.
/// `ARCHITECTURE_SRC` may name another `src/`.
#[test]
#[ignore = "prints the circles, and checks nothing"]
fn print_circles() {
    let src = std::env::var_os("ARCHITECTURE_SRC").map_or_else(source, PathBuf::from);
    let edges = Graph::of(&House::read(&src)).edges_of_files();
    let circles = circles::shortest(&edges);
    for (files, circle) in circles::knots(&circles) {
        println!(
            "== {} files in a knot: {}",
            files.len(),
            files.iter().cloned().collect::<Vec<_>>().join(" ")
        );
        println!("   {}", circles::in_words(&circle, &edges));
    }
    let mut by_length: Vec<_> = circles.iter().collect();
    by_length.sort_by_key(|circle| circle.len());
    for circle in by_length {
        println!("{}", circles::in_words(circle, &edges));
    }
}
