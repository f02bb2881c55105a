//! Holds the house together: who may import whom, and what must not stand in the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms by level: a file imports from its own level or below, never from above.
const LEVELS: [&[&str]; 6] = [
    &["error", "description", "deprecation", "clock", "access", "key", "limit"],
    &[
        "audit",
        "authority",
        "body_budget",
        "client_addr",
        "credentials",
        "endpoint",
        "principal",
        "record",
        "restriction",
        "unread_body",
        "usage",
    ],
    &["store", "scheme", "render", "observer", "stamps", "delivery"],
    &["store/*", "scheme/*", "verify", "guard"],
    &["keyring", "future", "service", "explain"],
    &["layer", "extract", "manage", "portal", "openapi", "test_util"],
];

fn level_of(room: &str) -> Option<usize> {
    LEVELS.iter().position(|rooms| rooms.contains(&room))
}

/// The room of a file, such as `verify`, `store` for `store/mod.rs`, or `store/*`.
fn room_of(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match parts.as_slice() {
        [file] => file.trim_end_matches(".rs").to_owned(),
        [room, file] if file == "mod.rs" => room.clone(),
        [room, ..] if room == "store" || room == "scheme" => format!("{room}/*"),
        [room, ..] => room.clone(),
        [] => String::new(),
    }
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file of the crate, without comments: room, path, code.
fn sources() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let path = path.strip_prefix(&root).unwrap();
        (room_of(path), path.display().to_string(), code.join("\n"))
    };
    files.into_iter().map(read).collect()
}

/// The rooms that a file names as `crate::room`.
fn imports(code: &str) -> Vec<String> {
    let name = |rest: &str| {
        rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>()
    };
    code.split("crate::").skip(1).map(name).collect()
}

#[test]
fn imports_go_by_level() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        if path == "lib.rs" {
            continue;
        }
        let level = level_of(&room).unwrap_or_else(|| panic!("{path}: the room {room} has no level"));
        for import in imports(&code) {
            match level_of(&import) {
                Some(below) if below <= level => {}
                Some(_) => wrong.push(format!("{path} imports {import}, which is above it")),
                None => wrong.push(format!("{path} imports {import} through the crate's root")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn schemes_and_stores_never_meet_and_stores_know_no_http() {
    for (room, path, code) in sources() {
        let imports = imports(&code);
        if room.starts_with("store") {
            assert!(!imports.iter().any(|room| room == "scheme"), "{path}");
            assert!(!code.contains("use http"), "{path} knows HTTP");
        }
        if room.starts_with("scheme") {
            assert!(!imports.iter().any(|room| room == "store"), "{path}");
        }
        if room == "render" {
            assert!(!code.contains("Request"), "{path} reads requests");
        }
    }
}

#[test]
fn only_verify_says_yes() {
    let says_yes: Vec<String> = sources()
        .into_iter()
        .filter(|(room, _, code)| room != "principal" && code.contains("Principal::verified"))
        .map(|(_, path, _)| path)
        .filter(|path| !path.starts_with("test_util"))
        .collect();
    assert_eq!(says_yes, ["verify/questions.rs"]);
}

#[test]
fn c12_01_sql_is_never_put_together() {
    for (_, path, code) in sources() {
        for line in code.lines().filter(|line| line.contains("format!")) {
            let sql =
                ["SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA"].iter().any(|word| line.contains(word));
            assert!(!sql, "{path}: {line}");
        }
    }
}

#[test]
fn c13_10_no_key_stands_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    // Outside a checkout (a published package) there is nothing to list.
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else { return };
    let mut seen = 0;
    for name in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|name| !name.is_empty()) {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        seen += 1;
        for start in ["sk_live_", "sk_test_"].iter().flat_map(|prefix| text.match_indices(prefix)) {
            let rest = &text[start.0 + start.1.len()..];
            let run = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            assert!(run < 30, "{name} holds what looks like a whole key");
        }
    }
    assert!(seen > 20, "only {seen} files were looked at");
}

/// The stated MSRV is at least what every dependency states.
#[test]
fn msrv_covers_dependencies() {
    // Of this platform: what others need may not have been downloaded, and it must work offline.
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let rustc = String::from_utf8(rustc.stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--all-features", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let by_id = |list: &serde_json::Value| -> BTreeMap<String, serde_json::Value> {
        let entry = |value: &serde_json::Value| (value["id"].as_str().unwrap().to_owned(), value.clone());
        list.as_array().unwrap().iter().map(entry).collect()
    };
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let own = metadata["resolve"]["root"].as_str().unwrap().to_owned();
    let version = |package: &serde_json::Value| -> Option<[u32; 3]> {
        let mut parts = package["rust_version"].as_str()?.split('.').map(|part| part.parse().unwrap());
        Some(std::array::from_fn(|_| parts.next().unwrap_or_default()))
    };
    let msrv = version(&packages[&own]).unwrap();
    // Dev-dependencies may want more: users do not compile them.
    let (mut todo, mut done) = (vec![own.clone()], BTreeMap::new());
    while let Some(id) = todo.pop() {
        if done.insert(id.clone(), ()).is_some() {
            continue;
        }
        let package = &packages[&id];
        assert!(
            version(package).is_none_or(|wanted| wanted <= msrv),
            "{} {} wants Rust {}",
            package["name"],
            package["version"],
            package["rust_version"]
        );
        for dependency in nodes[&id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let ours = kinds.iter().any(|kind| kind["kind"].is_null());
            if ours && dependency["pkg"] != own.as_str() {
                todo.push(dependency["pkg"].as_str().unwrap().to_owned());
            }
        }
    }
    assert!(done.len() > 30, "only {} packages were looked at", done.len());
}
