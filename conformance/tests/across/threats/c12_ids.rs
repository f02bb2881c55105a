//! C12: SQL injection and tricks with identifiers, through requests. A client's text reaches a store only as a digest
//! or as a valid id.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use serde_json::json;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Accounts as _, Directory, KeyStore, MemoryStore, Project, StoreError};
use tower_api_key::{AccountStatus, ApiKeyAuth, KeyDigest, KeyLevel, KeyRecord, ProjectId, UserId, Verifier};

use super::kit::{Ask, Site, endpoints};
use test_kit::{World, echo, project, send, user};
use tower_api_key::store::ProjectDirectory as _;

/// Records the calls that it gets.
#[derive(Clone)]
struct Asked {
    store: MemoryStore,
    about: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl KeyStore for Asked {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.store.find(digest).await
    }
}

#[async_trait]
impl Directory for Asked {
    async fn account_status(
        &self,
        user: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let texts = [Some(user.as_str()), project.map(ProjectId::as_str)];
        self.about.lock().unwrap().extend(texts.into_iter().flatten().map(str::to_owned));
        self.store.account_status(user, project).await
    }
}

/// Texts with a meaning for some database, driver or shell.
fn tricks() -> Vec<String> {
    let cores = [
        "' OR '1'='1",
        "' OR 1=1--",
        "\" OR \"\"=\"",
        "') OR ('1'='1",
        "1; DROP TABLE api_keys",
        "'; DROP TABLE keys;--",
        "' UNION SELECT NULL,NULL--",
        "' AND SLEEP(5)--",
        "'||(SELECT 1)||'",
        "$1",
        "?",
        "?1",
        ":id",
        "@p1",
        "%s",
        "%_",
        "%",
        "_",
        "\\'",
        "\\",
        "\"; DROP",
        "/*",
        "*/",
        "--",
        "#",
        ";",
        "'",
        "\"",
        "`",
        "$$",
        "E'\\x27'",
        "0x27",
        "CHAR(39)",
        "NULL",
        "TRUE",
        "1",
        "01",
        "1.0",
        "1e0",
        "-1",
        "1 OR 1=1",
        "{{7*7}}",
        "${7*7}",
        "<script>",
        "`id`",
        "$(id)",
        "|id",
        "&&id",
        "../../etc/passwd",
        "..\\..\\",
        "*",
        "*)(uid=*",
        "a' COLLATE NOCASE--",
        "\u{1f511}",
        "\u{ff07}",
        "\u{2019}",
    ];
    let frames: [(&str, &str); 10] = [
        ("", ""),
        ("u_own", ""),
        ("", "u_own"),
        ("p1", ""),
        ("", "p1"),
        ("'", "'"),
        ("(", ")"),
        (" ", " "),
        ("\u{0}", ""),
        ("", "\u{0}"),
    ];
    let all: Vec<String> = cores
        .iter()
        .flat_map(|core| frames.iter().map(move |(before, after)| format!("{before}{core}{after}")))
        .collect();
    assert!(all.len() >= 500);
    all
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte))
}

#[tokio::test]
async fn c12_01_injected_texts_are_texts() {
    let world = World::new().await;
    let about = Arc::<Mutex<Vec<String>>>::default();
    let store = Asked { store: world.store.clone(), about: Arc::clone(&about) };
    let bearer = Bearer::default().project_header("X-Project-ID").unwrap();
    let auth = ApiKeyAuth::new(store.clone(), bearer).or(ApiKeyHeader::default()).or(JsonBody::default());
    let app = Router::new().fallback(echo).layer(auth.endpoints(endpoints()).unwrap());
    let foreign =
        ApiKeyAuth::with_verifier(Verifier::new(store).accept_foreign_keys(), ApiKeyHeader::default());
    let foreign = Router::new().fallback(echo).layer(foreign);
    let key = world.own.expose_secret();
    for trick in tricks() {
        let project = if is_id(&trick) { "403/forbidden" } else { "400/invalid_project" };
        let mut asks = vec![
            (json!({"apiKey": trick, "userId": "u_own", "projectId": "p1"}), "401/invalid_api_key"),
            (json!({"apiKey": key, "userId": trick, "projectId": "p1"}), "401/invalid_user"),
            (json!({"apiKey": key, "userId": "u_own", "projectId": trick}), project),
        ]
        .into_iter()
        .map(|(body, verdict)| (Ask::json("/x", body), verdict))
        .collect::<Vec<_>>();
        if !trick.contains('\0') {
            asks.extend([
                (Ask::get("/x").header("x-api-key", &trick), "401/invalid_api_key"),
                (Ask::get("/x").header("authorization", format!("Bearer {trick}")), "401/invalid_api_key"),
                (Ask::get("/x").api_key(&world.own).header("x-project-id", &trick), project),
                (Ask::get("/x").bearer(&world.own).header("x-project-id", &trick), project),
            ]);
            let ask = Ask::get("/x").header("x-api-key", &trick);
            let answer = send(&foreign, ask.request()).await;
            assert_eq!(answer.verdict(), "401/invalid_api_key", "C12-01: {trick:?} as a foreign key");
        }
        for (ask, verdict) in asks {
            about.lock().unwrap().clear();
            let answer = send(&app, ask.request()).await;
            assert_eq!(answer.verdict(), verdict, "C12-01: {trick:?} in {ask:?}");
            for text in about.lock().unwrap().iter() {
                assert!(is_id(text), "C12-01: the store was asked about {text:?}");
                assert!(text == "u_own" || text == "p1" || *text == trick, "C12-01: asked about {text:?}");
            }
            // The response does not repeat the text either.
            let shown = String::from_utf8_lossy(&answer.body);
            assert!(trick.len() < 4 || !shown.contains(&trick), "C12-01: {trick:?} stands in {shown}");
        }
    }
}

#[tokio::test]
async fn c12_02_long_texts_do_not_reach_the_store() {
    let world = World::new().await;
    let site = Site::header(&world);
    let body = Site::body(&world);
    let key = world.own.expose_secret();
    for length in [129, 256, 32_767, 65_536, 900_000] {
        let long = "p".repeat(length);
        let ask = json!({"apiKey": key, "userId": "u_own", "projectId": long});
        body.expect("C12-02", &Ask::json("/upload", ask), "400/invalid_project").await;
        let ask = json!({"apiKey": key, "userId": long, "projectId": "p1"});
        body.expect("C12-02", &Ask::json("/upload", ask), "401/invalid_user").await;
        let ask = json!({"apiKey": long, "userId": "u_own", "projectId": "p1"});
        body.expect_offline("C12-02", &Ask::json("/upload", ask), "401/invalid_api_key").await;
        let ask = Ask::get("/sites").api_key(&world.own).project(&long);
        site.expect("C12-02", &ask, "400/invalid_project").await;
    }
    site.expect("C12-02", &Ask::get("/sites").api_key(&world.own).project(&"p".repeat(128)), "403/forbidden")
        .await;
    assert!(UserId::new("u".repeat(128)).is_ok() && UserId::new("u".repeat(129)).is_err());
}

#[tokio::test]
async fn c12_04_ids_that_look_like_numbers_are_texts() {
    let world = World::new().await;
    let account = Project::new(project("1"), "one");
    world.store.create_project("A", &account).await.unwrap();
    let site = Site::header(&world);
    let seen = site.expect("C12-04", &Ask::get("/sites").api_key(&world.own).project("1"), "200:h").await;
    assert_eq!(seen.project(), "1");
    for other in ["01", "1.0", "1e0", "0", "-1", "1.", "10"] {
        site.expect("C12-04", &Ask::get("/sites").api_key(&world.own).project(other), "403/forbidden").await;
    }
}

#[tokio::test]
async fn c12_05_ids_in_other_spellings_of_unicode() {
    let world = World::new().await;
    let (header, body) = (Site::header(&world), Site::body(&world));
    let key = world.own.expose_secret();
    for text in [
        "\u{ff50}1",
        "p\u{ff11}",
        "p1\u{200d}",
        "p1\u{feff}",
        "p1\u{301}",
        "p1 ",
        " p1",
        "p1\u{a0}",
        "\u{440}1",
    ] {
        let ask = Ask::get("/sites").api_key(&world.own).header("x-project-id", text);
        header.expect("C12-05", &ask, "400/invalid_project").await;
        let ask = json!({"apiKey": key, "userId": "u_own", "projectId": text});
        body.expect("C12-05", &Ask::json("/upload", ask), "400/invalid_project").await;
    }
    let ask = json!({"apiKey": key, "userId": "u_own", "projectId": "p1\0"});
    body.expect("C12-05", &Ask::json("/upload", ask), "400/invalid_project").await;
    header.expect("C12-05", &Ask::get("/sites").api_key(&world.own).project("P1"), "403/forbidden").await;
}

#[tokio::test]
async fn c12_06_words_like_all_and_me_have_no_meaning() {
    let world = World::new().await;
    let (header, body) = (Site::header(&world), Site::body(&world));
    for word in [
        "all",
        "null",
        "undefined",
        "me",
        "self",
        "0",
        "-1",
        "any",
        "none",
        "default",
        "admin",
        "root",
        "A",
        "-",
    ] {
        let ask = Ask::get("/sites").api_key(&world.own).project(word);
        header.expect("C12-06", &ask, "403/forbidden").await;
        let ask = json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": word});
        body.expect("C12-06", &Ask::json("/upload", ask), "403/forbidden").await;
        let ask = json!({"apiKey": world.own.expose_secret(), "userId": word, "projectId": "p1"});
        body.expect("C12-06", &Ask::json("/upload", ask), "401/invalid_user").await;
    }
    for word in ["*", "%", "", "[]", "p*", "p_"] {
        let verdict = if is_id(word) { "403/forbidden" } else { "400/invalid_project" };
        let ask = Ask::get("/sites").api_key(&world.own).project(word);
        header.expect("C12-06", &ask, verdict).await;
    }
}

#[tokio::test]
async fn c12_07_projects_of_one_name_in_two_accounts() {
    let world = World::new().await;
    let same = Project::new(project("p1"), "another p1");
    world.store.create_project("B", &same).await.unwrap();
    let site = Site::header(&world);
    // Each owner reaches their own project, although the request does not say which: the principal's user decides.
    for (key, owner) in [(&world.own, "u_own"), (&world.b, "u_b")] {
        let seen = site.expect("C12-07", &Ask::get("/sites").api_key(key).project("p1"), "200:h").await;
        assert_eq!((seen.user().as_str(), seen.project().as_str()), (owner, "p1"), "{key:?}, {owner:?}");
    }
    // Deleting one project ends access only to that one.
    world.store.delete_project("A", &project("p1")).await.unwrap();
    site.expect("C12-07", &Ask::get("/sites").api_key(&world.own).project("p1"), "403/forbidden").await;
    site.expect("C12-07", &Ask::get("/sites").api_key(&world.full).project("p1"), "403/forbidden").await;
    site.expect("C12-07", &Ask::get("/sites").api_key(&world.b).project("p1"), "200:h").await;
    // A project-level key belongs to its owner's account.
    let key = world.key("u_own", |key| key.level = KeyLevel::Project(project("q1"))).await;
    site.expect("C12-07", &Ask::get("/sites").api_key(&key), "403/forbidden").await;
    let key = world.key("u_b", |key| key.level = KeyLevel::Project(project("p2"))).await;
    site.expect("C12-07", &Ask::get("/sites").api_key(&key), "403/forbidden").await;
    assert_eq!(world.store.projects(&user("u_b")).await.unwrap().len(), 2);
}
