//! The program `tower-api-key` as a shell sees it: stdout, stderr and exit code.

mod tls;

use std::ffi::OsString;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_api_key::restriction::RequestContext;
use tower_api_key::store::{AuditLog as _, Cached};
use tower_api_key::{
    ApiKeys, Credentials, Digests, Endpoint, KeyId, Pepper, Principal, SlowHashes, Verifier,
};
use tower_api_key_postgres::{PostgresOptions, PostgresStore};
use tower_api_key_sqlite::SqliteStore;

struct Shell {
    folder: tempfile::TempDir,
    /// A database to use instead of the file in the folder.
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

    /// The secret, alone on one line of stdout.
    fn secret(&self) -> &str {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        let secret = self.stdout.trim_end();
        assert!(!self.stderr.contains(secret), "a secret on stderr");
        secret
    }
}

impl Shell {
    /// With account A, owned by alice, project p1, and bob, who may read it.
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

    /// Kills a program that does not end, because that is an error.
    fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_tower-api-key"))
            .args(args)
            .env(
                "TOWER_API_KEY_DATABASE",
                self.database.as_deref().map_or(self.database().into(), OsString::from),
            )
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .unwrap();
        // If the program does not read its stdin, the pipe is broken.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let until = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                None => {
                    child.kill().unwrap();
                    panic!("{args:?} does not end");
                }
            }
        };
        let text = |file: &mut std::fs::File| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        Ran { code: status.code().unwrap(), stdout: text(&mut stdout), stderr: text(&mut stderr) }
    }

    /// What a service that uses the same file knows about a key.
    async fn verify(&self, secret: &str) -> Option<Principal> {
        self.verify_by(secret, Digests::default()).await
    }

    async fn verify_by(&self, secret: &str, ring: Digests) -> Option<Principal> {
        let store = SqliteStore::open(self.database()).await.unwrap();
        let verifier = ApiKeys::new(store).digests(ring).verifier().accept_foreign_keys();
        let facts = RequestContext::new().address([192, 0, 2, 7]);
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

    // Revoking can be repeated.
    for _ in 0..2 {
        let revoked = shell.run(&["revoke", id]).ok();
        assert_eq!((&*revoked.stdout, revoked.stderr), ("", format!("revoked {id}\n")));
        assert!(shell.verify(secret).await.is_none());
    }
    assert!(shell.verify(rotated.secret()).await.is_some());
    assert_eq!(shell.run(&["list", "--owner", "alice", "--json"]).ok().json().as_array().unwrap().len(), 1);
    assert_eq!(shell.ids("alice").len(), 2);
    // The audit log says who revoked it.
    let store = SqliteStore::open(shell.database()).await.unwrap();
    let history = store.history(&KeyId::new(id).unwrap(), 10).await.unwrap();
    assert!(history.len() == 3 && history.iter().all(|entry| entry.by == "operator"), "{history:?}");
}

#[test]
fn c13_only_one_json_output_has_the_secret() {
    let shell = Shell::new();
    let made = shell.run(&["create", "--owner", "alice", "--name", "CI", "--json"]).ok();
    let secret = made.json()["key"].as_str().unwrap().to_owned();
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert!(!made.stderr.contains(&secret));
    // Somebody pastes the secret instead of the id.
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
    // No key was revoked by mistake.
    assert_eq!(shell.run(&["show", &id, "--json"]).ok().json()["state"], "active");
    let foreign = shell.run(&["revoke", "legacy-secret", &id]);
    assert_eq!(foreign.code, 1);
    assert!(foreign.stderr.contains(&format!("revoked {id}")) && !foreign.stderr.contains("legacy-secret"));
}

/// The URL of a database may contain a password.
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
fn errors_name_the_fix_and_have_exit_codes() {
    let empty = Shell::empty();
    let ran = empty.run(&["list", "--owner", "alice"]);
    assert_eq!((ran.code, &*ran.stdout), (2, ""));
    assert!(ran.stderr.contains("--database") && ran.stderr.contains("account create"), "{}", ran.stderr);
    assert!(!empty.database().exists(), "an empty database was made");

    let shell = Shell::new();
    for (args, code, fix) in [
        (&["create", "--owner", "nobody", "--name", "x"] as &[_], 1, "member set --help"),
        (&["create", "--owner", "alice", "--name", "x", "--project", "p9"], 1, "project list A"),
        (&["create", "--owner", "alice", "--name", ""], 2, "1 to 64 characters"),
        (&["create", "--owner", "alice", "--name", "x", "--expires", "soon"], 2, "90d"),
        (
            &["create", "--owner", "alice", "--name", "x", "--expires", "2001-01-01T00:00:00Z"],
            2,
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
        (&["account", "create", "A", "--owner", "carol"], 1, "account A exists"),
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
    let updated = shell.run(&args).ok().json();
    assert_eq!((&updated["name"], &updated["limits"]), (&json!("Office"), &Value::Null));
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
async fn keys_are_imported_in_bulk_and_refusals_have_line_numbers() {
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

    // A second import changes nothing.
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
fn c13_an_invalid_import_is_refused_as_a_whole_and_not_quoted() {
    let shell = Shell::new();
    let good = json!({"id": "old_1", "owner": "alice", "name": "One", "key": "legacy-one"}).to_string();
    for (line, says) in [
        ("legacy-two", "line 2: this is not a JSON object"),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "legacy-two", "expiry": "never"}"#,
            r#"a key has no member "expiry": did you mean "expires_at""#,
        ),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "k", "legacy-two-is-the-name-of-something": 1}"#,
            "a member whose name",
        ),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "legacy-two", "sha256": "legacy-two"}"#,
            "exactly one of",
        ),
        (r#"{"id": "old_2", "owner": "alice", "name": "x", "key": ["legacy-two"]}"#, "key must be a string"),
        (r#"{"id": "old_2", "owner": "alice", "name": "x", "hmac": "legacy-two"}"#, "pepper only with hmac"),
        (r#"{"id": "old_2", "owner": "alice", "name": "x", "slow": "legacy-two"}"#, "start only with slow"),
        (r#"{"id": "legacy two", "owner": "alice", "name": "x", "key": "k"}"#, "id must be 1 to 128"),
        (
            r#"{"id": "old_2", "owner": "alice", "name": "x", "key": "k", "expires_at": "legacy-two"}"#,
            "expires_at must be a time",
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
    let ring = Digests::peppered(Pepper::new("2027", secret).unwrap()).unwrap();
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
    let ring = Digests::sha256().accept_slow(SlowHashes::until('.'));
    assert!(shell.verify_by("abc.legacy", ring.clone()).await.is_some());
    assert!(shell.verify_by("abc.other", ring).await.is_none());
    // Without the option, and with a start that would not find the key.
    assert_eq!(shell.run_with(&["import", "-"], &line("old_2", "abd")).code, 1);
    assert_eq!(shell.run_with(&["import", "-", "--accept-slow", "8"], &line("old_2", "abd")).code, 1);
    let told = shell.run_with(&["import", "-", "--accept-slow", "3"], &line("old_2", "abd")).ok().stdout;
    assert_eq!(told, "imported 1, already there 0, refused 0\n");
}

/// A schema of a PostgreSQL server; it is dropped at the end.
struct Schema(&'static str);

impl Schema {
    fn server() -> String {
        let server = std::env::var("TOWER_API_KEY_POSTGRES");
        server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
    }

    fn new(what: &str) -> Self {
        Self(format!("test_cli_{what}_{}", std::process::id()).leak())
    }

    async fn open(&self) -> PostgresStore {
        let options = PostgresOptions::new(&Self::server()).unwrap();
        options.schema(self.0).unwrap().existing().connect().await.unwrap()
    }

    /// A connection of its own.
    async fn vandal(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&Self::server(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn drop(self) {
        self.vandal().await.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.0)).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn a_postgresql_store_is_managed_in_the_same_way() {
    let (schema, mut shell) = (Schema::new("service"), Shell::empty());
    shell.database = Some(Schema::server());
    let run = |args: &[&str]| shell.run(&[&["--schema", schema.0], args].concat());
    // A mistyped name does not create a store.
    let none = run(&["list", "--owner", "alice"]);
    assert!(none.code == 2 && none.stderr.contains("account create"), "{}", none.stderr);
    run(&["account", "create", "A", "--owner", "alice"]).ok();
    run(&["project", "create", "A", "p1"]).ok();
    run(&["member", "set", "A", "bob", "--role", "readonly", "--project", "p1"]).ok();

    // A service that answers from memory, but never from the state before a change.
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
    run(&["member", "set", "A", "carol", "--role", "full", "--project", "p1"]).ok();
    let accounts = run(&["account", "list", "--json"]).ok().json();
    assert_eq!(accounts, json!([{"account": "A", "owner": "alice", "suspended": false}]));
    let projects = run(&["project", "list", "A", "--json"]).ok().json();
    assert_eq!(projects, json!([{"account": "A", "project": "p1", "name": "p1"}]));
    let members = run(&["member", "list", "A"]).ok().stdout;
    assert_eq!(members, "USER   ROLE   PROJECTS\nalice  OWNER  (all)\ncarol  FULL   p1\n");
    let all = run(&["list", "--all-owners", "--all", "--json"]).ok().json();
    assert!(
        all.as_array().unwrap().len() == 3 && all.as_array().unwrap().iter().all(|key| key["owner"] == "bob")
    );
    let taken = run(&["account", "create", "A", "--owner", "dave"]);
    assert!(taken.code == 1 && taken.stderr.contains("account A exists"), "{}", taken.stderr);
    service.shutdown().await;
    schema.drop().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f3_a_change_with_unknown_outcome_is_not_reported_as_refused() {
    let (schema, mut shell) = (Schema::new("unknown"), Shell::empty());
    shell.database = Some(Schema::server());
    let run = |args: &[&str]| shell.run(&[&["--schema", schema.0], args].concat());
    run(&["account", "create", "A", "--owner", "alice"]).ok();
    run(&["create", "--owner", "alice", "--name", "CI"]).ok();
    let id = run(&["list", "--owner", "alice", "--json"]).ok().json()[0]["id"].as_str().unwrap().to_owned();
    let vandal = schema.vandal().await;
    vandal.batch_execute(&format!("BEGIN; LOCK TABLE {}.keys IN SHARE MODE", schema.0)).await.unwrap();
    for args in [
        &["create", "--owner", "alice", "--name", "Another"] as &[_],
        &["amend", &id, "--name", "Another"],
        &["rotate", &id],
        &["revoke", &id],
    ] {
        let ran = run(args);
        assert!(ran.code == 3 && ran.stdout.is_empty(), "{args:?}: {} {}", ran.code, ran.stderr);
    }
    vandal.batch_execute("ROLLBACK").await.unwrap();
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
    assert!(shell.verify(made.secret()).await.is_none());
    // The key has ended, and does not come back when the person does.
    assert_eq!(shell.run(&["list", "--owner", "bob", "--json"]).ok().json(), json!([]));
    assert_eq!(shell.run(&["list", "--owner", "bob", "--all", "--json"]).ok().json()[0]["state"], "revoked");
    let again = shell.run(&["member", "remove", "A", "bob"]);
    assert_eq!((again.code, &*again.stderr), (1, "error: bob is no member of account A\n"));
    shell.run(&["member", "set", "A", "bob", "--role", "full", "--project", "p1"]).ok();
    assert!(shell.verify(made.secret()).await.is_none());
    let another = shell.run(&["create", "--owner", "bob", "--name", "CI", "--project", "p1"]).ok();
    assert!(shell.verify(another.secret()).await.is_some());

    shell.run(&["project", "delete", "A", "p1"]).ok();
    assert!(shell.verify(another.secret()).await.is_none());
    assert_eq!(shell.run(&["project", "delete", "A", "p1"]).code, 1);
    let members = shell.run(&["member", "list", "A", "--json"]).ok().json();
    assert_eq!(
        members,
        json!([
            {"account": "A", "user": "alice", "role": "OWNER", "projects": []},
            {"account": "A", "user": "bob", "role": "FULL", "projects": []},
        ])
    );
}

/// A mistyped name and an empty file are not taken for an empty store.
#[test]
fn c17_f3_an_empty_file_is_reported_as_no_store() {
    let shell = Shell::empty();
    std::fs::write(shell.database(), "").unwrap();
    for args in [
        &["list", "--owner", "alice"] as &[_],
        &["list", "--all-owners"],
        &["show", "key_1"],
        &["explain", "key_1"],
        &["create", "--owner", "alice", "--name", "CI"],
        &["revoke", "key_1"],
        &["account", "list"],
        &["account", "suspend", "A"],
        &["member", "list", "A"],
    ] {
        let ran = shell.run(args);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{args:?}");
        assert!(
            ran.stderr.contains("there is no store in") && ran.stderr.contains("account create"),
            "{args:?}: {}",
            ran.stderr
        );
        assert_eq!(std::fs::read(shell.database()).unwrap(), b"", "{args:?} has made one");
    }
    shell.run(&["account", "create", "A", "--owner", "alice"]).ok();
    shell.run(&["list", "--all-owners"]).ok();
}

#[test]
fn c17_f3_reading_waits_for_no_other_program() {
    let shell = Shell::new();
    shell.run(&["create", "--owner", "alice", "--name", "CI"]).ok();
    let id = shell.ids("alice").remove(0);
    let other = rusqlite::Connection::open(shell.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE accounts SET suspended = 1").unwrap();
    for args in [
        &["list", "--owner", "alice"] as &[_],
        &["list", "--all-owners"],
        &["show", &id],
        &["explain", &id],
        &["account", "list"],
        &["project", "list", "A"],
        &["member", "list", "A"],
    ] {
        let ran = shell.run(args).ok();
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(shell.run(&["revoke", &id]).code, 3, "the lock is there");
    other.execute_batch("ROLLBACK").unwrap();
    shell.run(&["revoke", &id]).ok();
}

#[tokio::test]
async fn c17_f3_after_a_command_all_data_is_in_the_file() {
    let shell = Shell::empty();
    // With and without a service that has the file open.
    let mut service = None;
    for round in 0..2 {
        let account = format!("A{round}");
        let owner = format!("alice{round}");
        let calls: [&[&str]; 4] = [
            &["account", "create", &account, "--owner", &owner],
            &["create", "--owner", &owner, "--name", "CI"],
            &["project", "create", &account, "p1"],
            &["member", "set", &account, &format!("bob{round}"), "--role", "full", "--project", "p1"],
        ];
        for call in calls {
            let ran = shell.run(call).ok();
            assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
            std::fs::copy(shell.database(), shell.path("copy.db")).unwrap();
            for args in [
                &["list", "--all-owners", "--all"] as &[_],
                &["account", "list"],
                &["project", "list", &account],
                &["member", "list", &account],
            ] {
                let copy = shell.run(&[args, &["--database", "copy.db"]].concat());
                assert_eq!(copy.stdout, shell.run(args).stdout, "after {call:?}, {args:?}: {}", copy.stderr);
            }
            for left in ["copy.db", "copy.db-wal", "copy.db-shm"] {
                drop(std::fs::remove_file(shell.path(left)));
            }
        }
        service = Some(SqliteStore::open(shell.database()).await.unwrap());
    }
    drop(service);
}

#[test]
fn c17_f3_data_outside_of_the_file_is_reported() {
    let shell = Shell::new();
    let other = rusqlite::Connection::open(shell.database()).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM keys").unwrap();
    let made = shell.run(&["project", "create", "A", "p2"]).ok();
    assert!(made.stderr.contains("note:") && made.stderr.contains("VACUUM INTO"), "{}", made.stderr);
    other.execute_batch("COMMIT").unwrap();
    let made = shell.run(&["project", "create", "A", "p3"]).ok();
    assert_eq!(made.stderr, "made project p3 of account A\n");
}

/// `tower-api-key list | head`, after `head` has ended.
#[test]
fn c17_f3_a_closed_pipe_is_an_error_only_if_a_secret_is_lost() {
    let shell = Shell::new();
    shell.run(&["create", "--owner", "alice", "--name", "CI"]).ok();
    let id = shell.ids("alice").remove(0);
    let into_nothing = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_tower-api-key"))
            .args(args)
            .env("TOWER_API_KEY_DATABASE", shell.database())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for args in [
        &["list", "--owner", "alice"] as &[_],
        &["list", "--all-owners", "--json"],
        &["show", &id],
        &["explain", &id],
        &["account", "list"],
        &["completions", "bash"],
        &["--help"],
    ] {
        assert_eq!(into_nothing(args), (0, String::new()), "{args:?}");
    }
    let (code, said) = into_nothing(&["create", "--owner", "alice", "--name", "Lost"]);
    let made = shell.ids("alice").into_iter().find(|made| *made != id).unwrap();
    assert!(code == 3 && said.contains(&made) && said.contains("its secret is lost"), "{code}: {said}");
    // A closed stderr is not an error either.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_tower-api-key"))
        .args(["revoke", &made])
        .env("TOWER_API_KEY_DATABASE", shell.database())
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Invalid arguments are reported whether or not the database exists.
#[test]
fn c17_f3_arguments_are_checked_before_the_database_is_opened() {
    let shell = Shell::empty();
    std::fs::write(shell.path("bad.jsonl"), "nothing").unwrap();
    for (args, says) in [
        (&["create", "--owner", "a b", "--name", "x"] as &[_], "an id is"),
        (&["create", "--owner", "alice", "--name", ""], "1 to 64 characters"),
        (&["create", "--owner", "alice", "--name", "x", "--project", "a b"], "an id is"),
        (&["create", "--owner", "alice", "--name", "x", "--expires", "soon"], "90d"),
        (
            &["create", "--owner", "alice", "--name", "x", "--expires", "2001-01-01T00:00:00Z"],
            "in the future",
        ),
        (&["create", "--owner", "alice", "--name", "x", "--limits", "12"], "12/min"),
        (&["create", "--owner", "alice", "--name", "x", "--environment", "prod"], "live or test"),
        (&["create", "--owner", "alice", "--name", "x", "--scope", "a b"], "64 scopes"),
        (&["create", "--owner", "alice", "--name", "x", "--metadata", "a"], "NAME=VALUE"),
        (&["create", "--owner", "alice", "--name", "x", "--restrictions", "{"], "restrictions"),
        (&["list", "--owner", "a b"], "an id is"),
        (&["list"], "--owner"),
        (&["list", "--owner", "alice", "--all-owners"], "--all-owners"),
        (&["list", "--owner", "alice", "--environment", "prod"], "live or test"),
        (&["show", "a b"], "not a key's id"),
        (&["rotate", "key_1", "--grace", "1y"], "7d"),
        (&["revoke", "key_1", "a b"], "not a key's id"),
        (&["amend", "key_1"], "--name"),
        (&["amend", "key_1", "--name", ""], "1 to 64 characters"),
        (&["amend", "key_1", "--limits", "12"], "12/min"),
        (&["import", "bad.jsonl"], "line 1"),
        (&["import", "nowhere.jsonl"], "cannot read"),
        (&["explain", "key_1", "--method", "A B"], "--method"),
        (&["account", "create", "a b", "--owner", "alice"], "the id of an account"),
        (&["account", "suspend", "a b"], "the id of an account"),
        (&["project", "create", "A", "a b"], "an id is"),
        (&["member", "set", "A", "a b", "--role", "full"], "an id is"),
        (&["member", "set", "A", "bob", "--role", "full", "--project", "a b"], "an id is"),
        (&["--key-prefix", "9", "list", "--owner", "alice"], "prefix"),
        (&["--max-keys", "0", "list", "--owner", "alice"], "--max-keys"),
        (&["--pepper", "2027=nowhere", "list", "--owner", "alice"], "cannot read"),
        (&["--no-directory", "account", "list"], "--no-directory"),
        (&["--database", "postgres://127.0.0.1:1/x", "--schema", "A", "list", "--owner", "alice"], "schema"),
        (&["--database", "postgres://127.0.0.1:1/x", "show", "a b"], "not a key's id"),
    ] {
        let ran = shell.run(args);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("there is no database"), "{args:?}: {}", ran.stderr);
    }
    assert!(!shell.database().exists());
}

#[test]
fn c17_f3_everybody_and_everything_is_listed() {
    let shell = Shell::new();
    shell.run(&["account", "create", "B", "--owner", "carol"]).ok();
    shell.run(&["project", "create", "A", "p2", "--name", "\u{1b}[31mred"]).ok();
    shell.run(&["account", "suspend", "B"]).ok();
    assert_eq!(
        shell.run(&["account", "list"]).ok().stdout,
        "ACCOUNT  OWNER  STATE\nA        alice  active\nB        carol  suspended\n"
    );
    let accounts = shell.run(&["account", "list", "--json"]).ok().json();
    assert_eq!(accounts[1], json!({"account": "B", "owner": "carol", "suspended": true}));
    // Control characters are not written to a terminal.
    let projects = shell.run(&["project", "list", "A"]).ok().stdout;
    assert_eq!(projects, "PROJECT  NAME\np1       Project 1\np2       \u{fffd}[31mred\n");
    let projects = shell.run(&["project", "list", "A", "--json"]).ok().json();
    assert_eq!(projects[1], json!({"account": "A", "project": "p2", "name": "\u{1b}[31mred"}));
    assert_eq!(shell.run(&["project", "list", "B"]).ok().stdout, "PROJECT  NAME\n");
    let members = shell.run(&["member", "list", "A"]).ok().stdout;
    assert_eq!(members, "USER   ROLE      PROJECTS\nalice  OWNER     (all)\nbob    READONLY  p1\n");
    for args in [["project", "list", "C"], ["member", "list", "C"]] {
        let ran = shell.run(&args);
        assert_eq!((ran.code, &*ran.stdout), (1, ""), "{args:?}");
        assert!(ran.stderr.contains("there is no account C"), "{}", ran.stderr);
    }

    shell.run(&["account", "resume", "B"]).ok();
    for owner in ["carol", "bob", "alice", "bob"] {
        shell.run(&["create", "--owner", owner, "--name", "CI"]).ok();
    }
    // A removed person still has ended keys.
    shell.run(&["member", "remove", "A", "bob"]).ok();
    let owners = |args: &[&str]| -> Vec<String> {
        let listed = shell.run(&[&["list", "--all-owners", "--json"], args].concat()).ok().json();
        listed.as_array().unwrap().iter().map(|key| key["owner"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(owners(&[]), ["alice", "carol"]);
    assert_eq!(owners(&["--all"]), ["alice", "bob", "bob", "carol"]);
    assert_eq!(owners(&["--all", "--environment", "test"]), [""; 0]);
    let table = shell.run(&["list", "--all-owners"]).ok().stdout;
    assert!(
        table.lines().next().unwrap().contains("OWNER") && table.lines().nth(2).unwrap().contains("carol")
    );
}

#[test]
fn c17_f3_completions_are_written_without_a_database() {
    let shell = Shell::empty();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shell.run(&["completions", name]).ok();
        for word in ["tower-api-key", "all-owners", "revoke", "suspend"] {
            assert!(script.stdout.contains(word), "{name}: {word}");
        }
        assert!(script.stderr.is_empty() && !shell.database().exists(), "{name:?}");
    }
    assert_eq!(shell.run(&["completions", "tcsh"]).code, 2);
}

#[test]
fn c17_f3_errors_name_what_prevents_a_change() {
    let shell = Shell::new();
    shell.run(&["account", "create", "B", "--owner", "carol"]).ok();
    for (args, says) in [
        (&["account", "create", "A", "--owner", "dave"] as &[_], "account A exists"),
        (&["account", "create", "A", "--owner", "alice"], "account A exists"),
        (&["account", "create", "C", "--owner", "alice"], "alice belongs to account A"),
        (&["account", "create", "C", "--owner", "bob"], "bob belongs to account A"),
        (&["account", "suspend", "C"], "there is no account C"),
        (&["account", "resume", "C"], "there is no account C"),
        (&["project", "create", "C", "p1"], "there is no account C"),
        (&["project", "create", "A", "p1"], "account A has or had a project p1"),
        (&["project", "delete", "A", "p9"], "account A has no project p9"),
        (&["project", "delete", "C", "p1"], "there is no account C"),
        (&["member", "set", "C", "dave", "--role", "full"], "there is no account C"),
        (
            &["member", "set", "A", "dave", "--role", "full", "--project", "p1", "--project", "p9"],
            "account A has no project p9",
        ),
        (&["member", "set", "A", "alice", "--role", "full"], "alice is the owner of account A"),
        (&["member", "set", "B", "bob", "--role", "full"], "bob belongs to account A"),
        (&["member", "remove", "A", "alice"], "alice is the owner of account A"),
        (&["member", "remove", "A", "carol"], "carol is no member of account A"),
        (&["member", "remove", "C", "carol"], "there is no account C"),
        (&["create", "--owner", "dave", "--name", "x"], "dave belongs to no account"),
        (
            &["create", "--owner", "bob", "--name", "x", "--project", "p9"],
            "bob has no access to a project p9 of account A",
        ),
    ] {
        let ran = shell.run(args);
        assert_eq!((ran.code, &*ran.stdout), (1, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{args:?}: {}", ran.stderr);
    }
    shell.run(&["create", "--owner", "bob", "--name", "CI"]).ok();
    let id = shell.ids("bob").remove(0);
    shell.run(&["account", "suspend", "A"]).ok();
    for args in [&["create", "--owner", "bob", "--name", "x"] as &[_], &["rotate", &id]] {
        let ran = shell.run(args);
        assert!(
            ran.code == 1 && ran.stderr.contains("account A of bob is suspended"),
            "{args:?}: {}",
            ran.stderr
        );
    }
}

/// For a service with another directory, or without one, the store has no accounts.
#[tokio::test]
async fn c17_f3_keys_of_a_service_with_another_directory_are_managed_with_no_directory() {
    let shell = Shell::empty();
    drop(SqliteStore::open(shell.database()).await.unwrap());
    let refused = shell.run(&["create", "--owner", "dora", "--name", "CI"]);
    assert!(refused.code == 1 && refused.stderr.contains("--no-directory"), "{}", refused.stderr);
    let made = shell.run(&["--no-directory", "create", "--owner", "dora", "--name", "CI"]).ok();
    let of_project =
        shell.run(&["--no-directory", "create", "--owner", "dora", "--name", "P", "--project", "p1"]).ok();
    let store = SqliteStore::open(shell.database()).await.unwrap();
    let verifier = Verifier::new(tower_api_key::store::NoProjects(store));
    assert!(verifier.verify(&Credentials::new(made.secret()), Endpoint::READ).await.is_ok());

    let ids = shell.ids("dora");
    let explained = shell.run(&["explain", &ids[0], "--json"]).ok();
    assert_eq!(explained.json()["accepted"], false);
    assert!(
        explained.stderr.contains("dora belongs to no account")
            && explained.stderr.contains("--no-directory")
    );
    for id in &ids {
        let explained = shell.run(&["explain", id, "--no-directory", "--json"]).ok();
        assert_eq!((&explained.json()["accepted"], &*explained.stderr), (&json!(true), ""), "{id}");
    }
    shell.run(&["rotate", &ids[1], "--no-directory"]).ok();
    assert_ne!(of_project.secret(), made.secret());
    shell.run(&["revoke", &ids[0]]).ok();
    let line = json!({"id": "old_1", "owner": "dora", "name": "Old", "key": "legacy-one"}).to_string();
    let refused = shell.run_with(&["import", "-"], &line);
    assert!(refused.code == 1 && refused.stderr.contains("--no-directory"), "{}", refused.stderr);
    shell.run_with(&["import", "-", "--no-directory"], &line).ok();
    let all = shell.run(&["list", "--all-owners", "--json"]).ok().json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    for what in [["account", "list"].as_slice(), &["project", "list", "A"], &["member", "list", "A"]] {
        let ran = shell.run(&[&["--no-directory"], what].concat());
        assert!(ran.code == 2 && ran.stderr.contains("--no-directory"), "{}", ran.stderr);
    }
}

#[test]
fn c17_f3_a_user_has_as_many_keys_as_the_service_allows() {
    let shell = Shell::new();
    for _ in 0..2 {
        shell.run(&["--max-keys", "2", "create", "--owner", "alice", "--name", "CI"]).ok();
    }
    let refused = shell.run(&["--max-keys", "2", "create", "--owner", "alice", "--name", "CI"]);
    assert!(refused.code == 1 && refused.stderr.contains("--max-keys"), "{}", refused.stderr);
    shell.run(&["create", "--owner", "alice", "--name", "CI", "--max-keys", "3"]).ok();
    assert_eq!(shell.ids("alice").len(), 3);
}

/// A restriction that is silently dropped would be a restriction that the key no longer has.
#[test]
fn c17_d2_duplicates_are_refused() {
    let shell = Shell::new();
    let key = r#""id": "k", "owner": "alice", "name": "x", "key": "legacy-one""#;
    let (closed, open) = (r#"{"ip":{"allow":["192.0.2.7"]}}"#, r#"{"ip":{"allow":["0.0.0.0/0"]}}"#);
    for line in [
        format!(r#"{{{key}, "restrictions": {closed}, "restrictions": {{}}}}"#),
        format!(r#"{{{key}, "restrictions": {closed}, "restrictions": null}}"#),
        format!(
            r#"{{{key}, "restrictions": {{"ip":{{"allow":["192.0.2.7"]}},"ip":{{"allow":["0.0.0.0/0"]}}}}}}"#
        ),
        format!(r#"{{{key}, "metadata": {{"a": "1", "a": "2"}}}}"#),
        format!(r#"{{{key}, "restrictions": {open}, "\u0072estrictions": {closed}}}"#),
        format!(r#"{{{key}, "id": "k"}}"#),
    ] {
        let ran = shell.run_with(&["import", "-"], &format!("\n{line}\n"));
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{line}");
        assert!(
            ran.stderr.contains("line 2: a member occurs twice") && !ran.stderr.contains("legacy"),
            "{}",
            ran.stderr
        );
    }
    let twice = "id,owner,name,key,restrictions,restrictions\nk,alice,x,legacy-one,,{}\n";
    let inside = "id,owner,name,key,restrictions\nk,alice,x,legacy-one,\"{\"\"ip\"\":{\"\"allow\"\":[]},\"\"ip\"\":{\"\"allow\"\":[]}}\"\n";
    for (file, says) in [
        (twice, "line 1: the column restrictions occurs twice"),
        (inside, "line 2: restrictions must be a JSON object"),
    ] {
        let ran = shell.run_with(&["import", "-", "--format", "csv"], file);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{file}");
        assert!(ran.stderr.contains(says) && !ran.stderr.contains("legacy"), "{}", ran.stderr);
    }
    assert_eq!(shell.ids("alice"), [""; 0]);
}

#[test]
fn c17_d2_the_error_says_what_another_kind_of_file_is() {
    let shell = Shell::new();
    let key = r#"{"id": "k", "owner": "alice", "name": "x", "key": "legacy-one"}"#;
    for (format, file, says) in [
        ("jsonl", format!("[{key}]"), "line 1: this is a JSON array"),
        ("jsonl", format!("\n[\n{key}\n]"), "line 2: this is a JSON array"),
        ("jsonl", "{\n\"id\": \"k\"\n}".to_owned(), "line 1: the object does not end in this line"),
        ("jsonl", "id,owner,name,key\nk,alice,x,legacy-one\n".to_owned(), "--format csv"),
        ("jsonl", "legacy-one".to_owned(), "line 1: this is not a JSON object"),
        ("jsonl", format!("{key} {key}"), "line 1: this is not a JSON object"),
        ("jsonl", r#"{"legacy-one": "alice"}"#.to_owned(), "line 1: it has none of a key's members"),
        ("jsonl", key.replace("owner", "user"), r#"line 1: a key has no member "user""#),
        ("jsonl", key.replace("}", r#", "expiresAt": "x"}"#), r#"did you mean "expires_at""#),
        ("csv", key.to_owned(), "line 1: these are JSON objects: use --format jsonl"),
        ("csv", format!("[{key}]"), "line 1: this is a JSON array"),
        (
            "csv",
            "id;owner;name;key\nk;alice;x;legacy-one\n".to_owned(),
            "line 1: the columns are separated by semicolons",
        ),
        (
            "csv",
            "id\towner\tname\tkey\nk\talice\tx\tlegacy-one\n".to_owned(),
            "line 1: the columns are separated by tabs",
        ),
        ("csv", "k,alice,x,legacy-one\n".to_owned(), "line 1: this is not a header"),
        ("csv", "legacy-one\n".to_owned(), "line 1: this is not a header"),
        (
            "csv",
            "id,Owner,name,key\nk,alice,x,legacy-one\n".to_owned(),
            r#"line 1: a key has no member "Owner": did you mean "owner""#,
        ),
        (
            "csv",
            "id,owner,name,key,expiry\nk,alice,x,legacy-one,\n".to_owned(),
            r#"line 1: a key has no member "expiry": did you mean "expires_at""#,
        ),
        (
            "csv",
            "id,owner,name,key,colour\nk,alice,x,legacy-one,\n".to_owned(),
            r#"line 1: a key has no member "colour": docs/cli.md"#,
        ),
        ("csv", "id,owner,name,key\nk,alice,x\n".to_owned(), "line 2: it has 3 fields, but the header has 4"),
        (
            "csv",
            "id,owner,name,key,\nk,alice,x,,legacy-one\n".to_owned(),
            "line 2: there is a value in a column without a name",
        ),
        // Line numbers are those of the file, for all kinds of line ends, and inside quotes.
        (
            "csv",
            "id,owner,name,key\r\na,alice,\"x\r\ny\",one\r\n\r\nb,alice,x\r\n".to_owned(),
            "line 5: it has 3 fields",
        ),
        (
            "csv",
            "id,owner,name,key\r\na,alice,x,one\r\nb b,alice,x,legacy-one\r\n".to_owned(),
            "line 3: id must be 1 to 128",
        ),
        ("jsonl", format!("{key}\r\n\r\n{{\r\n"), "line 3: the object does not end"),
    ] {
        let ran = shell.run_with(&["import", "-", "--format", format], &file);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{file:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(says) && ran.stderr.contains("nothing was imported"),
            "{file:?}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("legacy"), "{}", ran.stderr);
    }
    assert_eq!(shell.ids("alice"), [""; 0]);
}

#[tokio::test]
async fn c17_d2_leftovers_of_editors_and_spreadsheets_are_accepted() {
    let shell = Shell::new();
    let line = |id: &str| format!(r#"{{"id": "{id}", "owner": "alice", "name": "x", "key": "legacy-{id}"}}"#);
    let json = format!("\u{feff}{}\r\n  \r\n\r\n{}", line("a"), line("b"));
    assert_eq!(
        shell.run_with(&["import", "-"], &json).ok().stdout,
        "imported 2, already there 0, refused 0\n"
    );
    let csv = "\u{feff}id,owner,name,key,\r\n\r\nc,alice,x,legacy-c,\r\n,,,,\r\n , ,,,\r\n,\r\nd,alice,x,legacy-d,\r\n,,,,,,\r\n";
    let ran = shell.run_with(&["import", "-", "--format", "csv"], csv).ok();
    assert_eq!(ran.stdout, "imported 2, already there 0, refused 0\n");
    for id in ["a", "b", "c", "d"] {
        assert!(shell.verify(&format!("legacy-{id}")).await.is_some(), "{id}");
    }
    // As PostgreSQL and other programs write a digest.
    let digests = ["\\\\x", "sha256:", "sha256$"].iter().enumerate().map(|(at, word)| {
        let hash = sha256_hex(&format!("digested-{at}"));
        format!(r#"{{"id": "digest_{at}", "owner": "alice", "name": "x", "sha256": "{word}{hash}"}}"#)
    });
    let digests: Vec<_> = digests.collect();
    shell.run_with(&["import", "-"], &digests.join("\n")).ok();
    for at in 0..3 {
        assert!(shell.verify(&format!("digested-{at}")).await.is_some(), "{at}");
    }
    assert_eq!(shell.run_with(&["import", "-"], "").ok().stdout, "imported 0, already there 0, refused 0\n");
}

#[test]
fn c17_d2_a_key_that_fits_in_no_header_is_refused_with_its_line() {
    let shell = Shell::new();
    let texts = [
        "good",
        " legacy",
        "leg acy",
        "legacy\t",
        "\"legacy\"",
        "Bearer legacy",
        "\u{feff}legacy",
        "leg\u{200b}acy",
        "fine",
    ];
    let lines = texts.iter().enumerate().map(|(at, text)| {
        json!({"id": format!("k{at}"), "owner": "alice", "name": "x", "key": text}).to_string()
    });
    let ran = shell.run_with(&["import", "-", "--json"], &lines.collect::<Vec<_>>().join("\r\n"));
    assert_eq!(ran.code, 1);
    let refused: Vec<_> =
        ran.json()["refused"].as_array().unwrap().iter().map(|key| key["line"].as_u64().unwrap()).collect();
    assert_eq!(refused, [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(ran.json()["imported"], 2);
    assert!(!ran.stdout.contains("legacy") && !ran.stderr.contains("legacy"));
}

/// Regression: another key with an existing id was reported as "already there", and its client got 401 after the
/// move.
#[tokio::test]
async fn c17_d2_a_second_key_with_an_existing_id_is_reported() {
    let shell = Shell::new();
    let line = |key: &str| json!({"id": "k", "owner": "alice", "name": "x", "key": key}).to_string();
    shell.run_with(&["import", "-"], &line("legacy-one")).ok();
    let ran = shell.run_with(&["import", "-"], &format!("{}\n{}", line("legacy-one"), line("legacy-two")));
    assert_eq!(
        (ran.code, &*ran.stdout),
        (1, "imported 0, already there 1, refused 1\n  line 2, k: another key has that id\n")
    );
    assert!(!ran.stderr.contains("--accept"), "{}", ran.stderr);
}

#[test]
fn c17_d2_an_option_is_advised_only_where_it_helps() {
    let shell = Shell::new();
    let hash = sha256_hex("x");
    let key = |more: &str| format!(r#"{{"id": "k", "owner": "alice", "name": "x", {more}}}"#);
    for (line, advised) in [
        (key(&format!(r#""sha512": "{hash}{hash}""#)), Some("--accept sha512")),
        (key(&format!(r#""sanctum": "{hash}", "sanctum_id": "1""#)), Some("--accept sanctum")),
        (key(&format!(r#""hmac": "{hash}", "pepper": "old""#)), Some("--pepper old=FILE")),
        (
            key(r#""slow": "$2b$04$abcdefghijklmnopqrstuuMJyC5sbFuVJlhwGD0LcR1lYJ3MvVP2y", "start": "a""#),
            Some("--accept-slow"),
        ),
        (key(r#""sha256": "00""#), None),
        (key(r#""key": "a b""#), None),
        (key(r#""key": "k", "expires_at": "1960-01-01T00:00:00Z""#), None),
    ] {
        let ran = shell.run_with(&["import", "-"], &line);
        assert_eq!(ran.code, 1, "{line}: {}", ran.stderr);
        match advised {
            Some(option) => assert!(ran.stderr.contains(option), "{line}: {}", ran.stderr),
            None => assert!(
                !ran.stderr.contains("--accept") && !ran.stderr.contains("--pepper"),
                "{line}: {}",
                ran.stderr
            ),
        }
        for other in ["--accept sha512", "--accept sanctum", "--accept-slow", "--pepper"] {
            let fits = advised.is_some_and(|option| option.starts_with(other));
            assert_eq!(ran.stderr.contains(other), fits, "{line}: {}", ran.stderr);
        }
    }
}

/// If a row cannot be parsed, the error contains the id of its key.
#[test]
fn c17_f4_a_damaged_row_is_named() {
    let shell = Shell::new();
    shell.run(&["create", "--owner", "alice", "--name", "CI"]).ok();
    let id = shell.ids("alice").remove(0);
    let vandal = rusqlite::Connection::open(shell.database()).unwrap();
    vandal.execute_batch("UPDATE keys SET limits = '0/min', restrictions = '{}'").unwrap();
    for args in [&["show", &id] as &[_], &["list", "--owner", "alice"], &["explain", &id]] {
        let ran = shell.run(args);
        assert_eq!((ran.code, &*ran.stdout), (3, ""), "{args:?}");
        assert!(
            ran.stderr.contains(&format!("key {id}: its limits do not parse")),
            "{args:?}: {}",
            ran.stderr
        );
    }
    // The key can still be revoked.
    shell.run(&["revoke", &id]).ok();
}

/// Each option of `explain` is used: a forgotten one would explain another request.
#[tokio::test]
async fn c17_g_every_option_of_explain_reaches_the_question() {
    let shell = Shell::new();
    let key = |restrictions: &str| {
        let made = ["create", "--owner", "alice", "--name", "CI", "--json", "--restrictions", restrictions];
        shell.run(&made).ok().json()["id"].as_str().unwrap().to_owned()
    };
    let referrer = key(r#"{"referrer":{"allow":["https://good.example"],"origin":true}}"#);
    let (network, endpoint) =
        (key(r#"{"ip":{"allow":["10.0.0.0/8"]}}"#), key(r#"{"endpoints":{"allow":["POST /a"]}}"#));
    let (scheme, any) = (key(r#"{"schemes":{"allow":["api-key-header"]}}"#), key("{}"));
    let post = ["--method", "POST", "--route", "/a"];
    for (id, more, decided_by) in [
        (&referrer, &[] as &[&str], json!("referrer")),
        (&referrer, &["--referrer", "https://good.example/x"], Value::Null),
        (&referrer, &["--referrer", "https://bad.example/x"], json!("referrer")),
        (&referrer, &["--origin", "https://good.example"], Value::Null),
        (&referrer, &["--origin", "https://bad.example"], json!("referrer")),
        (&network, &["--address", "10.0.0.1"], Value::Null),
        (&network, &["--address", "192.0.2.7"], json!("ip")),
        (&endpoint, &post, Value::Null),
        (&endpoint, &["--method", "GET", "--route", "/a"], json!("endpoint")),
        (&endpoint, &["--method", "POST", "--route", "/b"], json!("endpoint")),
        (&scheme, &[], json!("scheme")),
        (&scheme, &["--scheme", "api-key-header", "--project", "p1"], Value::Null),
        (&any, &["--scheme", "api-key-header"], json!("project")),
        (&any, &["--project", "p1"], Value::Null),
        (&any, &["--project", "p9"], json!("access")),
        (&any, &["--scheme", "json-body", "--user", "alice", "--project", "p1"], Value::Null),
        (&any, &["--scheme", "json-body", "--user", "bob", "--project", "p1"], json!("user")),
    ] {
        let said = shell.run(&[&["explain", id, "--json"], more].concat()).ok().json();
        assert_eq!(said["decided_by"], decided_by, "{more:?}: {said}");
        assert_eq!(said["accepted"], decided_by.is_null(), "{more:?}");
    }
}
