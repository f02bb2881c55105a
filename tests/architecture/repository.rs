//! What the repository must not contain, and what it must declare.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn c13_10_no_key_stands_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    // Outside of a checkout (in a published package) there is nothing to list.
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

/// The declared MSRV is not lower than that of any dependency.
#[test]
fn msrv_covers_dependencies() {
    // Only for this platform: dependencies of others may not be downloaded, and the test must work offline.
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
    // Dev-dependencies may need a newer Rust, because users do not compile them.
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
