//! What the compiler itself guarantees: no room but `gate` can make or change evidence.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What another room may try, one line each, and the compiler error that it must get.
const TRIED: &[(&str, &str)] = &[
    // A field of the evidence: reading and writing.
    ("E0616", "fn read(who: &crate::gate::Principal) -> bool { who.project.is_some() }"),
    ("E0616", "fn write(who: &mut crate::gate::Principal) { who.project = None; }"),
    // The constructor of the evidence.
    ("E0624", "fn make() { let _ = crate::gate::Principal::verified; }"),
    // A private item of the room.
    ("E0603", "use crate::gate::checks::FirstRefusal as _;"),
    // A `Pass`, by its path and by an alias.
    ("E0423", "fn pass() -> crate::gate::Pass { crate::gate::Pass(panic!()) }"),
    ("E0423", "fn ticket() -> crate::gate::Pass { use crate::gate::Pass as Ticket; Ticket(panic!()) }"),
    // A `Pass` without a principal, and access to an endpoint that is not declared as open.
    ("E0624", "fn nobody() { let _ = crate::gate::Pass::nobody; }"),
    ("E0423", "fn open() -> crate::gate::Access { crate::gate::Access(panic!()) }"),
    // The inner service, without its guard.
    ("E0616", "fn call<S>(inner: &mut crate::gate::GatedService<S>) -> &mut S { &mut inner.0 }"),
    // A tuple struct with a private field, by its path and by an alias.
    ("E0603", "fn time() -> crate::clock::Timestamp { crate::clock::Timestamp(0) }"),
    ("E0423", "fn alias() -> crate::clock::Timestamp { use crate::clock::Timestamp as Time; Time(0) }"),
];

/// Copies the files of a package.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if hidden || name == "target" || name == "node_modules" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// Without `test-util`, which has its own constructor.
#[test]
fn no_other_room_makes_evidence() {
    // Always the same folder, so that dependencies are compiled only once.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("privacy");
    let package = folder.join("package");
    if package.exists() {
        fs::remove_dir_all(&package).unwrap();
    }
    copy(Path::new(env!("CARGO_MANIFEST_DIR")), &package);
    let root = package.join("src/lib.rs");
    fs::write(&root, fs::read_to_string(&root).unwrap() + "\nmod planted;\n").unwrap();
    let lines: Vec<&str> = TRIED.iter().map(|(_, line)| *line).collect();
    fs::write(package.join("src/planted.rs"), lines.join("\n")).unwrap();

    let checked = Command::new(env!("CARGO"))
        .args([
            "check",
            "--lib",
            "--no-default-features",
            "--offline",
            "--locked",
            "--message-format",
            "json",
        ])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .unwrap();
    let mut found = BTreeSet::new();
    for message in String::from_utf8(checked.stdout).unwrap().lines() {
        let message: serde_json::Value = serde_json::from_str(message).unwrap();
        let message = &message["message"];
        if message["level"] == "error" && !message["code"].is_null() {
            let spans = message["spans"].as_array().unwrap();
            let primary = spans.iter().find(|span| span["is_primary"] == true).unwrap();
            let file = primary["file_name"].as_str().unwrap();
            assert_eq!(file, "src/planted.rs", "{}", message["rendered"]);
            let line = usize::try_from(primary["line_start"].as_u64().unwrap()).unwrap();
            found.insert((lines[line - 1].to_owned(), message["code"]["code"].as_str().unwrap().to_owned()));
        }
    }
    let told = String::from_utf8_lossy(&checked.stderr);
    let due = TRIED.iter().map(|(code, line)| ((*line).to_owned(), (*code).to_owned())).collect();
    assert_eq!(found, due, "{told}");
}
