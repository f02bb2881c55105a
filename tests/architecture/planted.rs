//! Plants every kind of violation in a copy of the source. The checks must report each of them.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::{EDGES, Faults, evidence};

/// Imports from a room that stores must not know.
const IMPORTS: &[&str] = &[
    "use super::super::keyring::Keyring;",
    "use crate::keyring::Keyring;",
    "use crate::keyring as k; fn planted(_: &k::Keyring) {}",
    "use crate as house; fn planted(_: &house::keyring::Keyring) {}",
    "use super::super as house; use house::keyring::{Keyring as _};",
    "use crate::{clock::Clock, keyring::{self, Keyring}};",
    "fn planted(_: &super::super::keyring::Keyring) {}",
    "fn planted() { use crate::keyring::Keyring; }",
    "fn planted() { let _ = <crate::keyring::Keyring as Clone>::clone; }",
    "fn planted() { println!(\"{:?}\", crate::keyring::Keyring::planted()); }",
    "fn planted() { dbg!([vec![super::super::keyring::Keyring]]); }",
    "use crate::keyring as k; fn planted() { println!(\"{}\", k::Keyring::planted()); }",
    "macro_rules! planted { () => { $crate::keyring::Keyring::planted() } }",
    "planted! { use crate::{clock::Clock, keyring::Keyring}; }",
    "#[derive(Planted)] #[planted(by = crate::keyring::Keyring)] struct Planted;",
    "#[serde(with = \"crate::keyring::Keyring\")] struct Planted;",
    "mod inner { fn planted(_: &super::super::super::keyring::Keyring) {} }",
    "impl crate::keyring::Keyring {}",
    "pub(crate) use crate::keyring::Keyring;",
];

const NO_IMPORTS: &[&str] = &[
    "//! [`Keyring`](crate::keyring::Keyring)\n/// [crate::keyring::Keyring]\nstruct Planted;",
    "#[cfg(test)] mod tests { use crate::keyring::Keyring; }",
    "#[cfg(all(test, feature = \"cache\"))] use crate::keyring::Keyring;",
    "struct Planted; impl Planted { #[cfg(test)] fn planted(_: crate::keyring::Keyring) {} }",
    "fn planted() { println!(\"crate::keyring::Keyring\"); }",
    "pub(in crate::store) struct Planted; pub(super) use self::Planted as _;",
];

const THROUGH_THE_ROOT: &[&str] = &[
    "use crate::Keyring;",
    "fn planted(_: &super::super::Keyring) {}",
    "use crate as c; use c::Keyring;",
    "fn planted() { println!(\"{}\", crate::Keyring::planted()); }",
];

const UNREADABLE: &[(&str, &str)] = &[
    ("use crate::keyring::*;", "imports `*` of keyring/mod.rs"),
    ("include!(\"other.rs\");", "includes code"),
    ("fn planted() { mod inner {} }", "has a module inside a function"),
    ("extern crate self as house;", "has an `extern crate`"),
    ("#[path = \"rows.rs\"] mod inner {}", "declares `inner` with `path` or `macro_use`"),
    ("#[macro_use] mod inner {}", "declares `inner` with `path` or `macro_use`"),
];

const STRANGERS: &[(&str, &str)] = &[
    ("use http::HeaderMap;", "uses http::HeaderMap: stores know no HTTP"),
    ("use ::http as wire;", "uses ::http: stores know no HTTP"),
    ("fn planted(_: &axum::extract::Request) {}", "uses axum::extract::Request: stores know no HTTP"),
    (
        "fn planted() { println!(\"{}\", http::StatusCode::OK); }",
        "uses http::StatusCode::OK: stores know no HTTP",
    ),
    ("use crate::scheme::Bearer;", "takes Bearer from scheme/bearer.rs: schemes and stores never meet"),
];

/// `MAKER` stands for a constructor of the evidence.
const EVIDENCE: &[(&str, &str)] = &[
    ("fn planted() { Principal::MAKER(); }", "Principal::MAKER"),
    ("use crate::gate::Principal as P; const MADE: fn() = P::MAKER;", "P::MAKER"),
    ("fn planted() { <P>::MAKER(); }", "::MAKER"),
    ("impl P { fn planted() { Self::MAKER(); } }", "Self::MAKER"),
    ("fn planted() { Some(vec![P::MAKER()]); }", "P::MAKER"),
    ("fn planted() { vec![<P>::MAKER()]; }", "::MAKER"),
];

/// Statements of a function with a connection `c` and a text `n`.
const SQL: &[(&str, &str)] = &[
    ("c.execute(&format!(\"SELECT {n}\"), []);", "`execute` is given format!, which is neither"),
    ("let sql = format!(\"SELECT {n}\"); c.execute(&sql, []);", "`execute` is given sql, which is neither"),
    ("let sql = \"SELECT \".to_owned() + n; c.query_row(&sql, [], f);", "`query_row` is given sql, "),
    ("c.prepare_cached(&(\"SELECT \".to_owned() + n));", "`prepare_cached` is given a sum, "),
    ("c.prepare(&PLANTED.replace(\"x\", n)).await?;", "`prepare` is given replace(), "),
    ("c.execute_batch(&[\"SELECT \", n].concat());", "`execute_batch` is given concat(), "),
    ("c.batch_execute(&in_schema(PLANTED, n));", "`batch_execute` is given in_schema(), "),
    ("c.query(n, &[]);", "`query` is given n, "),
    ("c.query_opt(self.statement, &[]);", "`query_opt` is given statement, "),
    ("c.query_one(if n.is_empty() { PLANTED } else { n }, &[]);", "`query_one` is given an expression, "),
    ("let mut sql = \"SELECT\"; sql = n; c.simple_query(sql);", "`simple_query` is given sql, "),
    ("each(|sql| c.execute(sql, []));", "`execute` is given sql, "),
    ("c.execute(&LAZY, []);", "`execute` is given LAZY, "),
    ("c.pragma_update(None, n, 1);", "`pragma_update` is given n, "),
    ("println!(\"{:?}\", c.execute(n, []));", "`execute`, inside a macro, is given neither"),
    ("Connection::execute_batch(c, n);", "`execute_batch` is called by its path"),
    ("let sql = format!(\"DELETE {n}\");", "`format!` puts SQL together"),
];

const GOOD_SQL: &[&str] = &[
    "c.execute(\"SELECT 1\", []); c.execute(concat!(\"SELECT \", \"1\"), []);",
    "const SQL: &str = \"SELECT 1\"; c.execute(if n.is_empty() { SQL } else { \"SELECT 2\" }, []);",
    "let sql = match n { \"a\" => \"SELECT 1\", _ => PLANTED }; c.execute(sql, []);",
    "let mut one = c.prepare(\"SELECT 1\")?; one.query_row([n], f); c.prepare(\"SELECT 1\")?.query_map([n], f);",
    "println!(\"{:?}\", c.execute(\"SELECT 1\", [])); url.query();",
    "let number = |sql: &'static str| c.query_row(sql, [], f);",
];

/// A function with this statement.
fn with_sql(text: &str) -> String {
    let constants = "const PLANTED: &str = \"SELECT x\"; static LAZY: LazyLock<String> = LazyLock::new(f);";
    format!("fn planted(c: &Connection, n: &str) {{ {text} }} {constants}")
}

const CIRCLES_OF_FILES: &[(&str, &str)] = &[
    ("store/mod.rs", "mod two; mod three; mod folder; mod with_key; pub(crate) use self::with_key::Store;"),
    // A circle of two files, with an alias in one of them.
    ("store/two/mod.rs", "mod a; mod b;"),
    ("store/two/a.rs", "use super::b as other; struct A(other::B);"),
    ("store/two/b.rs", "pub(super) struct B(super::a::A);"),
    // A circle of three files; two imports go through re-exports of their folder.
    ("store/three/mod.rs", "mod a; mod b; mod c; pub use self::b::B; pub use self::c::*;"),
    ("store/three/a.rs", "use super::B; struct A(B);"),
    ("store/three/b.rs", "pub struct B(super::c::C);"),
    ("store/three/c.rs", "pub struct C(super::a::A);"),
    // A folder that uses its own re-export, and a file in it that uses what the folder defines.
    ("store/folder/mod.rs", "mod a; pub use self::a::A; pub struct Folder(A);"),
    ("store/folder/a.rs", "pub struct A(Box<super::Folder>);"),
    // A circle across two rooms.
    ("store/with_key.rs", "pub(crate) struct Store(crate::key::Key);"),
    ("key/mod.rs", "mod with_store; pub(crate) use self::with_store::Key;"),
    ("key/with_store.rs", "pub(crate) struct Key(Box<crate::store::Store>);"),
];

/// The reported violations in a copy of the source with everything planted.
static FAULTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    let src = folder.path();
    copy(&crate::source(), src);
    let of = |rows: &[(&'static str, &str)]| rows.iter().map(|(text, _)| *text).collect::<Vec<_>>();
    let stores = |theme: &str, texts: &[&str], around: &dyn Fn(&str) -> String| {
        for (number, text) in texts.iter().enumerate() {
            plant(src, "store/mod.rs", &format!("mod {theme}{number};"));
            plant(src, &format!("store/{theme}{number}.rs"), &around(text));
        }
    };
    stores("imports", IMPORTS, &str::to_owned);
    stores("no_imports", NO_IMPORTS, &str::to_owned);
    stores("root", THROUGH_THE_ROOT, &str::to_owned);
    stores("unreadable", &of(UNREADABLE), &str::to_owned);
    stores("strangers", &of(STRANGERS), &str::to_owned);
    stores("sql", &of(SQL), &with_sql);
    stores("good_sql", GOOD_SQL, &with_sql);
    for (home, maker) in evidence::MAKERS {
        stores(maker, &of(EVIDENCE), &|text| text.replace("MAKER", maker));
        // The constructor is renamed, without updating the check.
        let file = src.join(home);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace(&format!("fn {maker}("), "fn renamed(")).unwrap();
    }
    for (file, text) in CIRCLES_OF_FILES {
        plant(src, file, text);
    }
    plant(src, "store/stray.rs", "");
    plant(src, "clock.rs", "fn planted(_: &crate::keyring::Keyring, _: &rusqlite::Connection) {}");
    plant(src, "render.rs", "fn planted<B>(_: &http::Request<B>) {}");
    plant(src, "lib.rs", "mod planted;");
    plant(src, "planted.rs", "use crate::clock::Clock;");
    let clock = EDGES.lines().find(|line| line.split_whitespace().next() == Some("clock")).unwrap();
    let more = if clock.contains("->") { format!("{clock}, layer") } else { format!("{clock} -> layer") };
    let edges = EDGES.replace(clock, &more) + "\n    nowhere -> clock\n";
    let faults = Faults::of(".", src, &edges);
    // The same source, checked as a package that may use databases.
    let sql_of_a_store = Faults::of("crates/sqlite", src, &edges).sql;
    let Faults { unreadable, rooms, strangers, circles, evidence, sql } = faults;
    [unreadable, rooms, strangers, circles, evidence, sql, sql_of_a_store].concat()
});

/// Appends text to a file, or creates it.
fn plant(src: &Path, file: &str, text: &str) {
    let file = src.join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(file, before + text + "\n").unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Fails unless one report contains all these words.
#[track_caller]
fn named(words: &[&str]) {
    let named = FAULTS.iter().any(|fault| words.iter().all(|word| fault.contains(word)));
    assert!(named, "nothing says {words:?}, but\n{}", FAULTS.join("\n"));
}

/// Fails if any report contains this word.
#[track_caller]
fn unnamed(word: &str) {
    let named: Vec<_> = FAULTS.iter().filter(|fault| fault.contains(word)).collect();
    assert!(named.is_empty(), "{named:#?}");
}

#[test]
fn an_import_is_found_however_it_is_written() {
    for number in 0..IMPORTS.len() {
        let taken = format!("store/imports{number}.rs:1 takes Keyring from keyring/");
        // The report also says which line to add to the list.
        named(&[
            "store -> keyring is not in edges.txt: ",
            &taken,
            "put there:\n    store -> ",
            ", keyring, ",
        ]);
    }
}

#[test]
fn paths_that_are_not_imports_are_not_reported() {
    unnamed("store/no_imports");
}

#[test]
fn an_upward_import_is_found() {
    named(&["clock (L", "imports upward from keyring (L", ": clock.rs:", " takes Keyring from keyring/"]);
}

#[test]
fn an_edge_that_is_listed_and_unused_is_found() {
    named(&[
        "clock -> layer is in edges.txt, but nothing in clock imports from layer",
        "put there:\n    clock",
    ]);
    named(&["edges.txt has the room nowhere, which is not in src/"]);
}

#[test]
fn a_room_without_a_level_is_found() {
    named(&["edges.txt gives the room planted no level", "    planted -> clock"]);
}

#[test]
fn a_circle_of_files_is_found() {
    named(&[
        "2 files import each other in a circle",
        "store/two/a.rs -> store/two/b.rs (B) -> store/two/a.rs (A)",
    ]);
    let three = "store/three/a.rs -> store/three/b.rs (B) -> store/three/c.rs (C) -> store/three/a.rs (A)";
    named(&["3 files import each other in a circle", three]);
    named(&["store/three/mod.rs:1 imports `*` of store/three/c.rs"]);
    named(&["store/folder/a.rs -> store/folder/mod.rs (Folder) -> store/folder/a.rs (A)"]);
    named(&["key/with_store.rs -> store/with_key.rs (Store) -> key/with_store.rs (Key)"]);
}

#[test]
fn an_import_through_the_root_is_found() {
    for number in 0..THROUGH_THE_ROOT.len() {
        named(&[&format!("store/root{number}.rs:1 imports Keyring through the crate's root")]);
    }
}

#[test]
fn constructs_that_cannot_be_analysed_are_found() {
    for (number, (_, words)) in UNREADABLE.iter().enumerate() {
        named(&[&format!("store/unreadable{number}.rs"), words]);
    }
    named(&["store/stray.rs belongs to no module"]);
}

#[test]
fn rooms_that_use_forbidden_crates_are_found() {
    for (number, (_, words)) in STRANGERS.iter().enumerate() {
        named(&[&format!("store/strangers{number}.rs:1 {words}")]);
    }
    named(&["render.rs:", "names http::Request: render never sees the request"]);
}

#[test]
fn evidence_made_elsewhere_is_found() {
    for (home, maker) in evidence::MAKERS {
        for (number, (_, shown)) in EVIDENCE.iter().enumerate() {
            let shown = shown.replace("MAKER", maker);
            named(&[&format!("store/{maker}{number}.rs:1 names {shown}, which only ")]);
        }
        named(&[home, "the list of what makes evidence is out of date"]);
    }
}

#[test]
fn c12_01_sql_that_is_put_together_is_found() {
    for (number, (_, words)) in SQL.iter().enumerate() {
        named(&[&format!("store/sql{number}.rs:1 in `planted`: {words}")]);
    }
    named(&["clock.rs:", " names rusqlite::Connection: only stores ask databases"]);
    unnamed("store/good_sql");
}
