//! The program `tower-api-key`, as an operator's shell sees it: stdout, stderr and exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tower_api_key::restriction::Facts;
use tower_api_key::store::{Cached, KeyLedger as _, PostgresOptions};
use tower_api_key::{
    Credentials, DigestRing, Endpoint, KeyId, Pepper, PostgresStore, Principal, SlowHashes, SqliteStore,
    Verifier,
};

struct Shell {
    folder: tempfile::TempDir,
    /// Instead of the file in the folder.
    database: Option<String>,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}{}", self.stdout, self.stderr))
    }

    /// The one line that is a secret.
    fn secret(&self) -> &str {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        let secret = self.stdout.trim_end();
        assert!(!self.stderr.contains(secret), "a secret on stderr");
        secret
    }
}

impl Shell {
    /// With account A of alice, project p1, and bob, who reads it.
    fn new() -> Self {
        let shell = Self::empty();
        shell.run(&["account", "create", "A", "--owner", "alice"]).ok();
        shell.run(&["project", "create", "A", "p1", "--name", "Project 1"]).ok();
        shell.run(&["member", "set", "A", "bob", "--role", "readonly", "--project", "p1"]).ok();
        shell
    }

    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("keys.db")
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tower-api-key"))
            .args(args)
            .env(
                "TOWER_API_KEY_DATABASE",
                self.database.as_deref().map_or(self.database().into(), OsString::from),
            )
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read leaves a broken pipe.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What a service on the same file says of a key.
    async fn verify(&self, secret: &str) -> Option<Principal> {
        self.verify_by(secret, DigestRing::default()).await
    }

    async fn verify_by(&self, secret: &str, ring: DigestRing) -> Option<Principal> {
        let store = SqliteStore::open(self.database()).await.unwrap();
        let verifier = Verifier::new(store).digests(ring).accept_foreign_keys();
        let facts = Facts::new().address([192, 0, 2, 7]);
        verifier.verify_with(&Credentials::new(secret), Endpoint::READ, &facts).await.ok()
    }

    fn ids(&self, owner: &str) -> Vec<String> {
        let listed = self.run(&["list", "--owner", owner, "--all", "--json"]).ok().json();
        listed.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_key_is_made_shown_once_found_by_the_service_rotated_and_revoked() {
    let shell = Shell::new();
    let made = shell.run(&[
        "create",
        "--owner",
        "alice",
        "--name",
        "CI",
        "--project",
        "p1",
        "--expires",
        "90d",
        "--scope",
        "a",
        "--scope",
        "b",
        "--metadata",
        "team=x",
        "--limits",
        "12/min",
        "--restrictions",
        r#"{"ip":{"allow":["192.0.2.0/24"]}}"#,
    ]);
    let made = made.ok();
    let secret = made.secret();
    let who = shell.verify(secret).await.unwrap();
    assert_eq!(
        (who.user_id().as_str(), who.key_name(), who.project().unwrap().as_str()),
        ("alice", "CI", "p1")
    );
    assert!(who.has_scope("a") && who.has_scope("b") && who.expires_at().is_some());
    assert_eq!(who.metadata()["team"], "x");

    let id = who.key_id().as_str();
    let shown = shell.run(&["show", id]).ok();
    let listed = shell.run(&["list", "--owner", "alice"]).ok();
    for told in [&shown, &listed] {
        assert!(told.stdout.contains(id) && told.stderr.is_empty());
        assert!(!told.stdout.contains(secret), "a secret is shown once");
    }
    let json = shell.run(&["show", id, "--json"]).ok().json();
    assert_eq!(json["limits"], "12/min");
    assert_eq!(json["restrictions"]["ip"]["allow"], json!(["192.0.2.0/24"]));
    assert_eq!(json["history"][0]["by"], "operator");
    assert_eq!(json["history"][0]["event"], "issued");

    let rotated = shell.run(&["rotate", id, "--grace", "7d"]).ok();
    assert!(shell.verify(secret).await.is_some() && shell.verify(rotated.secret()).await.is_some());
    let again = shell.run(&["rotate", id]);
    assert_eq!((again.code, &*again.stdout), (1, ""));
    assert!(again.stderr.contains("issue a new one"), "{}", again.stderr);

    // As often as one likes.
    for _ in 0..2 {
        let revoked = shell.run(&["revoke", id]).ok();
        assert_eq!((&*revoked.stdout, revoked.stderr), ("", format!("revoked {id}\n")));
        assert!(shell.verify(secret).await.is_none());
    }
    assert!(shell.verify(rotated.secret()).await.is_some());
    assert_eq!(shell.run(&["list", "--owner", "alice", "--json"]).ok().json().as_array().unwrap().len(), 1);
    assert_eq!(shell.ids("alice").len(), 2);
    // The trail says who it was.
    let store = SqliteStore::open(shell.database()).await.unwrap();
    let history = store.history(&KeyId::new(id).unwrap(), 10).await.unwrap();
    assert!(history.len() == 3 && history.iter().all(|entry| entry.by == "operator"), "{history:?}");
}

#[test]
fn c13_json_holds_the_secret_once_and_nothing_else_ever_does() {
    let shell = Shell::new();
    let made = shell.run(&["create", "--owner", "alice", "--name", "CI", "--json"]).ok();
    let secret = made.json()["key"].as_str().unwrap().to_owned();
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert!(!made.stderr.contains(&secret));
    // In the place of an id, somebody pastes the secret.
    for args in [
        &["show", &secret] as &[_],
        &["rotate", &secret],
        &["revoke", &id, &secret],
        &["amend", &secret, "--no-limits"],
        &["explain", &secret],
    ] {
        let ran = shell.run(args);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{args:?}");
        assert!(ran.stderr.contains("not its id") && !ran.stderr.contains(&secret), "{}", ran.stderr);
    }
    // Nothing was revoked beside it.
    assert_eq!(shell.run(&["show", &id, "--json"]).ok().json()["state"], "active");
    let foreign = shell.run(&["revoke", "legacy-secret", &id]);
    assert_eq!(foreign.code, 1);
    assert!(foreign.stderr.contains(&format!("revoked {id}")) && !foreign.stderr.contains("legacy-secret"));
}

/// The address of a database holds a password.
#[test]
fn c13_an_address_of_a_database_is_not_repeated() {
    let shell = Shell::empty();
    let password = "c13-canary";
    let address = format!("postgres://keys:{password}@127.0.0.1:1/app");
    for (address, code, says) in [
        (&*address, 3, "the store failed"),
        (&format!("{address}?port=no"), 2, "connection string"),
        (&format!("{address}?sslmode=require"), 2, "TLS"),
        (&address.replace("postgres", "mysql"), 2, "SQLite"),
    ] {
        let ran = shell.run(&["list", "--owner", "alice", "--database", address]);
        assert_eq!((ran.code, &*ran.stdout), (code, ""), "{says}: {}", ran.stderr);
        assert!(ran.stderr.contains(says) && !ran.stderr.contains(password), "{}", ran.stderr);
    }
    let help = Command::new(env!("CARGO_BIN_EXE_tower-api-key"))
        .args(["list", "--help"])
        .env("TOWER_API_KEY_DATABASE", &address)
        .output()
        .unwrap();
    let shown = String::from_utf8(help.stdout).unwrap();
    assert!(shown.contains("TOWER_API_KEY_DATABASE") && !shown.contains(password), "{shown}");
}

#[test]
fn errors_name_the_fix_and_have_their_codes() {
    let empty = Shell::empty();
    let ran = empty.run(&["list", "--owner", "alice"]);
    assert_eq!((ran.code, &*ran.stdout), (2, ""));
    assert!(ran.stderr.contains("--database") && ran.stderr.contains("account create"), "{}", ran.stderr);
    assert!(!empty.database().exists(), "an empty database was made");

    let shell = Shell::new();
    for (args, code, fix) in [
        (&["create", "--owner", "nobody", "--name", "x"] as &[_], 1, "member --help"),
        (&["create", "--owner", "alice", "--name", "x", "--project", "p9"], 1, "project --help"),
        (&["create", "--owner", "alice", "--name", ""], 1, "1 to 64 characters"),
        (&["create", "--owner", "alice", "--name", "x", "--expires", "soon"], 2, "90d"),
        (
            &["create", "--owner", "alice", "--name", "x", "--expires", "2001-01-01T00:00:00Z"],
            1,
            "in the future",
        ),
        (&["create", "--owner", "alice", "--name", "x", "--limits", "12"], 2, "12/min"),
        (&["create", "--owner", "alice", "--name", "x", "--environment", "prod"], 2, "live or test"),
        (
            &["create", "--owner", "alice", "--name", "x", "--restrictions", r#"{"ip":{"allow":["x"]}}"#],
            2,
            "192.0.2",
        ),
        (&["create", "--owner", "alice"], 2, "--name"),
        (&["show", "key_none"], 1, "tower-api-key list"),
        (&["rotate", "key_none", "--grace", "1y"], 2, "7d"),
        (&["amend", "key_none"], 2, "--name"),
        (&["account", "create", "A", "--owner", "carol"], 1, "exists"),
        (&["--database", "mysql://x:hunter2@y", "list", "--owner", "alice"], 2, "postgres://"),
        (&["--database", "postgres://x:hunter2@y:port", "list", "--owner", "alice"], 2, "connection string"),
        (&["--database", "postgres://127.0.0.1:1/x", "list", "--owner", "alice"], 3, "the store failed"),
        (&["--accept-slow", "ab", "list", "--owner", "alice"], 2, "such as 8"),
        (&["--pepper", "2027", "list", "--owner", "alice"], 2, "--pepper 2027="),
    ] {
        let ran = shell.run(args);
        assert_eq!((ran.code, &*ran.stdout), (code, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(fix) && !ran.stderr.contains("hunter2"), "{args:?}: {}", ran.stderr);
    }
    std::fs::write(shell.path("text"), "this is no database, and it is long enough to be seen as none")
        .unwrap();
    let ran = shell.run(&["--database", "text", "list", "--owner", "alice"]);
    assert_eq!((ran.code, &*ran.stdout), (3, ""), "{}", ran.stderr);
}

#[tokio::test]
async fn a_key_is_amended_and_explained() {
    let shell = Shell::new();
    let made = shell.run(&["create", "--owner", "bob", "--name", "CI", "--limits", "12/min"]).ok();
    let id = shell.ids("bob").remove(0);
    let network = r#"{"ip":{"allow":["10.0.0.0/8"]}}"#;
    let args = ["amend", &id, "--name", "Office", "--restrictions", network, "--no-limits", "--json"];
    let amended = shell.run(&args).ok().json();
    assert_eq!((&amended["name"], &amended["limits"]), (&json!("Office"), &Value::Null));
    assert!(shell.verify(made.secret()).await.is_none(), "192.0.2.7 is outside");

    let explained = shell.run(&["explain", &id, "--address", "192.0.2.7", "--method", "POST"]).ok();
    assert!(
        explained.stdout.contains("NO    ip           it is 192.0.2.7, allowed: 10.0.0.0/8"),
        "{}",
        explained.stdout
    );
    assert!(explained.stdout.contains("no    role         READONLY may not write"), "{}", explained.stdout);
    let inside = ["explain", &id, "--address", "10.0.0.1", "--method", "POST", "--route", "/status"];
    let json = shell.run(&[&inside[..], &["--json"]].concat()).ok().json();
    assert_eq!((&json["accepted"], &json["decided_by"]), (&json!(false), &json!("role")));
    let json = shell.run(&[&inside[..], &["--class", "read", "--json"]].concat()).ok().json();
    assert_eq!(json["accepted"], true, "{json}");
    let ran = shell.run(&["explain", &id, "--scheme", "cookie"]);
    assert!(ran.code == 2 && ran.stderr.contains("bearer, api-key-header, json-body"), "{}", ran.stderr);
}

fn sha256_hex(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn keys_are_imported_in_bulk_and_what_was_refused_is_told_by_line() {
    let shell = Shell::new();
    let lines = [
        json!({"id": "old_1", "owner": "alice", "name": "One", "sha256": sha256_hex("legacy-one"), "scopes": ["a"]}),
        json!({"id": "old_2", "owner": "bob", "name": "Two", "key": "legacy-two", "project": "p1", "limits": "12/min"}),
        json!({"id": "old_3", "owner": "nobody", "name": "Three", "key": "legacy-three"}),
        json!({"id": "old_4", "owner": "alice", "name": "Four", "sha512": "00"}),
    ];
    let file: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ran = shell.run_with(&["import", "-", "--json"], &file);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains("legacy") && !ran.stderr.contains('#'), "{}", ran.stderr);
    let report = ran.json();
    assert_eq!((&report["imported"], &report["already_there"]), (&json!(2), &json!(0)));
    let mut refused: Vec<_> =
        report["refused"].as_array().unwrap().iter().map(|key| key["line"].as_u64()).collect();
    refused.sort();
    assert_eq!(refused, [Some(3), Some(4)]);
    assert!(shell.verify("legacy-one").await.unwrap().has_scope("a"));
    assert_eq!(shell.verify("legacy-two").await.unwrap().project().unwrap().as_str(), "p1");
    assert!(shell.verify("legacy-three").await.is_none());

    // Repeated, it changes nothing.
    let again = shell
        .run_with(&["import", "-"], &lines[..2].iter().map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(again.ok().stdout, "imported 0, already there 2, refused 0\n");

    let csv = "id,owner,name,key,scopes,expires_at,restrictions\n\
               csv_1,alice,One,legacy-csv,a b,2999-01-01T00:00:00Z,\"{\"\"ip\"\":{\"\"allow\"\":[\"\"192.0.2.7\"\"]}}\"\n\
               csv_2,alice,Two,legacy-csv-2,,,\n";
    std::fs::write(shell.path("old.csv"), csv).unwrap();
    assert_eq!(shell.run(&["import", "old.csv"]).ok().stdout, "imported 2, already there 0, refused 0\n");
    let who = shell.verify("legacy-csv").await.unwrap();
    assert!(who.has_scope("b") && who.expires_at().is_some() && !who.restrictions().is_none());
}

#[test]
fn c13_what_is_no_import_is_refused_as_a_whole_and_never_repeated() {
    let shell = Shell::new();
    let good = json!({"id": "old_1", "owner": "alice", "name": "One", "key": "legacy-one"}).to_string();
    for (line, says) in [
        ("legacy-two", "line 2 is no JSON object"),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "legacy-two", "expiry": "never"}"#,
            "another name",
        ),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "legacy-two", "sha256": "legacy-two"}"#,
            "name one of",
        ),
        (r#"{"id": "old_2", "owner": "alice", "name": "x", "key": ["legacy-two"]}"#, "key is a string"),
        (r#"{"id": "old_2", "owner": "alice", "name": "x", "hmac": "legacy-two"}"#, "pepper beside hmac"),
        (r#"{"id": "old_2", "owner": "alice", "name": "x", "slow": "legacy-two"}"#, "start beside slow"),
        (r#"{"id": "legacy two", "owner": "alice", "name": "x", "key": "k"}"#, "id is 1 to 128"),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "k", "expires_at": "legacy-two"}"#,
            "expires_at is a time",
        ),
    ] {
        let ran = shell.run_with(&["import", "-"], &format!("{good}\n{line}\n"));
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{line}");
        assert!(ran.stderr.contains("line 2") && ran.stderr.contains(says), "{line}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("nothing was imported") && !ran.stderr.contains("legacy"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(shell.ids("alice"), [""; 0]);
}

#[tokio::test]
async fn c7_07_with_the_services_pepper_its_keys_are_made() {
    let shell = Shell::new();
    let secret = "0123456789abcdef0123456789abcdef";
    std::fs::write(shell.path("pepper"), format!("{secret}\n")).unwrap();
    let made = shell.run(&["--pepper", "2027=pepper", "create", "--owner", "alice", "--name", "CI"]).ok();
    let ring = DigestRing::peppered(Pepper::new("2027", secret).unwrap()).unwrap();
    assert!(shell.verify_by(made.secret(), ring).await.is_some());
    assert!(shell.verify(made.secret()).await.is_none());
    assert_eq!(shell.run(&["show", &shell.ids("alice")[0], "--json"]).ok().json()["digest"], "hmac:2027");
}

#[tokio::test]
async fn keys_with_a_slow_hash_are_found_by_their_start() {
    let shell = Shell::new();
    let line = |id: &str, start: &str| {
        let hash = bcrypt::hash(format!("{start}.legacy"), 4).unwrap();
        json!({"id": id, "owner": "alice", "name": "Old", "start": start, "slow": hash}).to_string()
    };
    let import = ["import", "-", "--accept-slow", "."];
    let told = shell.run_with(&import, &line("old_1", "abc")).ok().stdout;
    assert_eq!(told, "imported 1, already there 0, refused 0\n");
    let ring = DigestRing::sha256().accept_slow(SlowHashes::until('.'));
    assert!(shell.verify_by("abc.legacy", ring.clone()).await.is_some());
    assert!(shell.verify_by("abc.other", ring).await.is_none());
    // Not without the option, and not with a start that it would not find.
    assert_eq!(shell.run_with(&["import", "-"], &line("old_2", "abd")).code, 1);
    assert_eq!(shell.run_with(&["import", "-", "--accept-slow", "8"], &line("old_2", "abd")).code, 1);
    let told = shell.run_with(&["import", "-", "--accept-slow", "3"], &line("old_2", "abd")).ok().stdout;
    assert_eq!(told, "imported 1, already there 0, refused 0\n");
}

/// A schema of a PostgreSQL server that goes with it.
struct Schema(&'static str);

impl Schema {
    fn server() -> String {
        let server = std::env::var("TOWER_API_KEY_POSTGRES");
        server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
    }

    fn new() -> Self {
        Self(format!("test_cli_{}", std::process::id()).leak())
    }

    async fn open(&self) -> PostgresStore {
        let options = PostgresOptions::new(&Self::server()).unwrap();
        options.schema(self.0).unwrap().existing().connect().await.unwrap()
    }

    async fn drop(self) {
        let (client, connection) =
            tokio_postgres::connect(&Self::server(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.0)).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn what_a_service_on_postgresql_reads_is_managed_alike() {
    let (schema, mut shell) = (Schema::new(), Shell::empty());
    shell.database = Some(Schema::server());
    let run = |args: &[&str]| shell.run(&[&["--schema", schema.0], args].concat());
    // A name that is mistyped makes no store.
    let none = run(&["list", "--owner", "alice"]);
    assert!(none.code == 2 && none.stderr.contains("account create"), "{}", none.stderr);
    run(&["account", "create", "A", "--owner", "alice"]).ok();
    run(&["project", "create", "A", "p1"]).ok();
    run(&["member", "set", "A", "bob", "--role", "readonly", "--project", "p1"]).ok();

    // A service that answers from memory, and yet never by what was before a change.
    let service = Cached::start(schema.open().await);
    let verifier = Verifier::new(service.clone());
    let works = async |secret: &str| verifier.verify(&Credentials::new(secret), Endpoint::READ).await.is_ok();
    let made = run(&["create", "--owner", "bob", "--name", "CI", "--limits", "12/min"]).ok();
    let id = run(&["list", "--owner", "bob", "--json"]).ok().json()[0]["id"].as_str().unwrap().to_owned();
    assert!(works(made.secret()).await && works(made.secret()).await);
    run(&["account", "suspend", "A"]).ok();
    assert!(!works(made.secret()).await);
    run(&["account", "resume", "A"]).ok();
    assert!(works(made.secret()).await);
    let rotated = run(&["rotate", &id]).ok();
    assert!(!works(made.secret()).await && works(rotated.secret()).await);
    let explained = run(&["explain", &id, "--json"]).ok().json();
    assert_eq!(explained["accepted"], false, "{explained}");
    let line = json!({"id": "old_1", "owner": "bob", "name": "Old", "key": "legacy-one"}).to_string();
    let import = ["--schema", schema.0, "import", "-"];
    assert_eq!(shell.run_with(&import, &line).ok().stdout, "imported 1, already there 0, refused 0\n");
    assert_eq!(shell.run_with(&import, &line).ok().stdout, "imported 0, already there 1, refused 0\n");
    let shown = run(&["show", &id, "--json"]).ok().json();
    assert!(shown["history"].as_array().unwrap().iter().all(|entry| entry["by"] == "operator"), "{shown}");
    run(&["member", "remove", "A", "bob"]).ok();
    assert!(!works(rotated.secret()).await);
    service.shutdown().await;
    schema.drop().await;
}

#[tokio::test]
async fn people_and_projects_are_managed_as_far_as_keys_need_it() {
    let shell = Shell::new();
    let made = shell.run(&["create", "--owner", "bob", "--name", "CI"]).ok();
    shell.run(&["account", "suspend", "A"]).ok();
    assert!(shell.verify(made.secret()).await.is_none());
    shell.run(&["account", "resume", "A"]).ok();
    assert!(shell.verify(made.secret()).await.is_some());
    let removed = shell.run(&["member", "remove", "A", "bob", "--json"]).ok();
    assert_eq!(removed.json()["done"], "removed");
    assert_eq!(shell.run(&["list", "--owner", "bob", "--json"]).ok().json(), json!([]));
    shell.run(&["project", "delete", "A", "p1"]).ok();
    assert_eq!(shell.run(&["project", "delete", "A", "p1"]).code, 1);
    assert!(Path::new(&shell.database()).exists());
}
