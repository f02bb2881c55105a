//! Three processes, a real PostgreSQL, and faults between them: a short run of `examples/cluster`.

use std::process::Command;

/// Runs the cluster; returns whether the guarantee was kept, and the output.
fn cluster(arguments: &[&str]) -> (bool, String) {
    let url = std::env::var("TOWER_API_KEY_POSTGRES");
    let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let output = Command::new(conformance::server_kit::example("cluster"))
        .args(["--database-url", &url])
        .args(arguments)
        .output()
        .expect("the example starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

/// How often a violation was seen.
fn seen(said: &str, what: &str) -> u64 {
    let line = said.lines().find_map(|line| line.strip_prefix(what)).expect("it is counted");
    line.trim_start_matches(": ").parse().expect("it is a number")
}

#[test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES, and half a minute"]
fn c9_01_no_node_accepts_an_ended_key_under_any_fault() {
    let (kept, said) = cluster(&["--chaos", "--seconds", "15", "--seed", "1"]);
    assert_eq!(seen(&said, "accepted after the change had returned"), 0);
    assert_eq!(seen(&said, "good keys that were refused"), 0);
    assert!(kept && said.contains("fault: "));
}

#[test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES, and half a minute"]
fn c9_01_a_time_to_live_breaks_the_guarantee() {
    let (kept, said) = cluster(&["--naive", "--seconds", "3"]);
    assert!(!kept);
    assert!(seen(&said, "accepted after the change had returned") > 0);
}
