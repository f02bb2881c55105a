//! A key never gives more rights than it has (R40, C11-02, C11-04, C11-08).

use std::collections::BTreeSet;
use std::num::NonZero;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use serde_json::json;
use tower_api_key::scheme::ApiKeyHeader;
use tower_api_key::store::{
    Accounts as _, Directory, KeyStore as _, MemberRole, MemoryStore, Project, StoreError,
};
use tower_api_key::{
    AccountStatus, ApiKey, ApiKeyAuth, Environment, Grace, KeyDigest, KeyLevel, KeyPolicy, KeyRecord,
    Keyring, ProjectId, Role, Timestamp, UserId,
};
use tower_api_key_manage as manage;

use crate::{AT, app, call, create, path_of, record, rows, world};
use test_kit::{World, member, project, request, send, user};
use tower_api_key::store::ProjectDirectory;

const PROJECTS: [&str; 5] = ["p1", "p2", "p3", "q1", "nowhere"];
const ENDS: [Option<&str>; 3] = [None, Some("2090-01-01T00:00:00Z"), Some("2080-01-01T00:00:00Z")];

fn seconds(end: &str) -> i64 {
    if end.starts_with("2090") { 3_786_912_000 } else { 3_471_292_800 }
}

/// The rights of a key, enumerated: project, environment, period, scope.
type Rights = BTreeSet<(String, Environment, usize, String)>;

/// All rights of a key of `owner` with this level, environment and end.
fn rights(
    owner: &str,
    level: Option<&str>,
    environment: Environment,
    end: Option<&str>,
    scopes: &BTreeSet<String>,
) -> Rights {
    let own: &[&str] = match owner {
        "u_own" => &["p1", "p2", "p3", "the account"],
        "u_full" => &["p1", "p2", "the account"],
        "u_ro" => &["p1", "the account"],
        _ => &[],
    };
    let places: Vec<&str> = match level {
        None => own.to_vec(),
        // The requested project, even if the owner has no access to it.
        Some(project) => vec![project],
    };
    // The periods in which it works: before 2080, before 2090, and after.
    let moments = match end {
        None => 3,
        Some(end) if end.starts_with("2090") => 2,
        Some(_) => 1,
    };
    let mut rights = Rights::new();
    for place in places {
        for moment in 0..moments {
            for scope in scopes.iter().map(String::as_str).chain([""]) {
                rights.insert((place.to_owned(), environment, moment, scope.to_owned()));
            }
        }
    }
    rights
}

/// Owner, project of a project-level key, environment, end, scopes.
type Issuer =
    (&'static str, Option<&'static str>, Environment, Option<&'static str>, &'static [&'static str]);

#[tokio::test]
async fn c11_02_new_rights_are_within_the_issuers_over_the_whole_cross_product() {
    let (world, app) = world().await;
    let scopes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let issuers: [Issuer; 12] = [
        ("u_own", None, Environment::Live, None, &[]),
        ("u_own", None, Environment::Live, ENDS[1], &[]),
        ("u_own", None, Environment::Live, ENDS[2], &["a"]),
        ("u_own", None, Environment::Live, None, &["a", "b"]),
        ("u_own", None, Environment::Test, None, &[]),
        ("u_own", None, Environment::Test, ENDS[2], &[]),
        ("u_own", Some("p1"), Environment::Live, None, &[]),
        ("u_own", Some("p1"), Environment::Test, ENDS[1], &["a"]),
        ("u_full", None, Environment::Live, None, &[]),
        ("u_full", Some("p1"), Environment::Live, None, &[]),
        ("u_ro", None, Environment::Live, None, &[]),
        ("u_ro", Some("p1"), Environment::Live, ENDS[1], &[]),
    ];
    let (mut made, mut refused) = (0, 0);
    for (owner, level, environment, end, names) in issuers {
        let issuer = world
            .key(owner, |key| {
                key.level = level.map_or(KeyLevel::User, |id| KeyLevel::Project(project(id)));
                key.environment = environment;
                key.expires_at = end.map(|end| Timestamp::from_secs(seconds(end)));
                key.scopes = scopes(names);
                key.metadata = [("tier".to_owned(), "free".to_owned())].into();
            })
            .await;
        let held = rights(owner, level, environment, end, &scopes(names));
        let manages = level.is_none() && owner != "u_ro";
        for asked_level in [None].into_iter().chain(PROJECTS.map(Some)) {
            for asked_environment in [None, Some(Environment::Live), Some(Environment::Test)] {
                for asked_end in ENDS {
                    let mut body =
                        json!({"name": "asked", "expires_at": asked_end, "project_id": asked_level});
                    body["level"] = if asked_level.is_some() { "PROJECT" } else { "USER" }.into();
                    body["environment"] = asked_environment.map(Environment::as_str).into();
                    let wanted = rights(
                        owner,
                        asked_level,
                        asked_environment.unwrap_or(environment),
                        asked_end,
                        &scopes(names),
                    );
                    let before = rows(&world).await;
                    let answer = create(&app, &issuer, &body).await;
                    let what = format!("{owner} {level:?} {environment:?} {end:?} {names:?} asks {body}");
                    if manages && wanted.is_subset(&held) {
                        assert_eq!(answer.status, 201, "{what}: {}", answer.verdict());
                        let json = answer.json();
                        let digest = KeyDigest::of(json["data"]["key"].as_str().unwrap());
                        let got = world.store.find(&digest).await.unwrap().unwrap();
                        check_is_what_was_asked(&got, owner, &wanted, &scopes(names));
                        // The new key is revoked, so that it does not affect the next case.
                        Keyring::new(world.store.clone()).revoke(&got.id).await.unwrap();
                        made += 1;
                    } else {
                        // The check for READONLY comes before the check of the level.
                        let code = if owner == "u_ro" { "read_only" } else { "forbidden" };
                        assert_eq!(answer.verdict(), format!("403/{code}"), "{what}");
                        assert_eq!(rows(&world).await, before, "{what}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert_eq!(made + refused, 12 * 6 * 3 * 3);
    assert!(made > 50 && refused > 400, "{made} {refused}");
}

fn check_is_what_was_asked(got: &KeyRecord, owner: &str, wanted: &Rights, scopes: &BTreeSet<String>) {
    assert_eq!((got.owner.as_str(), &got.scopes), (owner, scopes));
    assert_eq!(got.metadata["tier"], "free");
    let end =
        got.expires_at.map(|end| if end == Timestamp::from_secs(seconds("2090")) { "2090" } else { "2080" });
    let level = got.level.project().map(ProjectId::as_str);
    assert_eq!(rights(owner, level, got.environment, end, &got.scopes), *wanted);
}

#[tokio::test]
async fn c11_02_the_owners_current_rights_count() {
    let (world, app) = world().await;
    let p2 = json!({"name": "x", "level": "PROJECT", "project_id": "p2"});
    assert_eq!(create(&app, &world.full, &p2).await.status, 201);
    world.store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p1"])).await.unwrap();
    assert_eq!(create(&app, &world.full, &p2).await.verdict(), "403/forbidden");
    world.store.set_member("A", &user("u_full"), &member(MemberRole::ReadOnly, &["p1"])).await.unwrap();
    assert_eq!(create(&app, &world.full, &json!({"name": "x"})).await.verdict(), "403/read_only");
}

#[tokio::test]
async fn c11_02_the_routes_check_rights_independently_of_declarations() {
    let world = World::new().await;
    let keyring = Keyring::new(world.store.clone());
    let auth = ApiKeyAuth::new(world.store.clone(), tower_api_key::scheme::Bearer::default());
    // An application that declares all these routes as reads.
    let endpoints = tower_api_key::Endpoints::new()
        .read(http::Method::POST, AT)
        .read(http::Method::DELETE, format!("{AT}/{{id}}"))
        .read(http::Method::POST, format!("{AT}/{{id}}/rotate"));
    let app = Router::new().nest(AT, manage::api_keys(keyring)).layer(auth.endpoints(endpoints).unwrap());
    let before = rows(&world).await;
    for (key, code) in [(&world.ro, "403/read_only"), (&world.p1, "403/forbidden")] {
        let path = path_of(&world, key).await;
        assert_eq!(create(&app, key, &json!({"name": "x"})).await.verdict(), code, "{key:?}, {code:?}");
        assert_eq!(call(&app, "DELETE", &path, key).await.verdict(), code, "{key:?}, {code:?}");
        assert_eq!(
            call(&app, "POST", &format!("{path}/rotate"), key).await.verdict(),
            code,
            "{key:?}, {code:?}"
        );
    }
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn c11_02_a_key_with_more_rights_is_neither_rotated_nor_revoked() {
    let (world, app) = world().await;
    let end = |secs: i64| Some(Timestamp::from_secs(secs));
    let key = async |scopes: &[&str], expires_at: Option<Timestamp>| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        world.key("u_full", |key| (key.scopes, key.expires_at) = (scopes, expires_at)).await
    };
    let late = 4_000_000_000;
    let callers = [(key(&["a"], None).await, None), (key(&["a"], end(late)).await, Some(late))];
    for (caller, own_end) in callers {
        for scopes in [&[][..], &["a"], &["b"], &["a", "b"]] {
            for target_end in [None, Some(late - 1), Some(late), Some(late + 1)] {
                let covered = scopes.iter().all(|scope| *scope == "a")
                    && own_end.is_none_or(|own| target_end.is_some_and(|end| end <= own));
                let target = key(scopes, target_end.and_then(end)).await;
                let path = path_of(&world, &target).await;
                let rotated = call(&app, "POST", &format!("{path}/rotate"), &caller).await;
                let other = key(scopes, target_end.and_then(end)).await;
                let revoked = call(&app, "DELETE", &path_of(&world, &other).await, &caller).await;
                let what = format!("{own_end:?} {scopes:?} {target_end:?}");
                if covered {
                    assert_eq!((rotated.status.as_u16(), revoked.status.as_u16()), (201, 200), "{what}");
                } else {
                    let verdicts = (rotated.verdict(), revoked.verdict());
                    assert_eq!(verdicts, ("403/forbidden".into(), "403/forbidden".into()), "{what}");
                    assert_eq!(call(&app, "GET", "/validate", &target).await.status, 200, "{what}");
                    assert_eq!(call(&app, "GET", "/validate", &other).await.status, 200, "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn c11_04_keys_of_others_are_unknown_ones_for_every_pair() {
    let (world, app) = world().await;
    let all = [
        (&world.own, "u_own", Environment::Live),
        (&world.full, "u_full", Environment::Live),
        (&world.ro, "u_ro", Environment::Live),
        (&world.p1, "u_own", Environment::Live),
        (&world.test, "u_own", Environment::Test),
        (&world.b, "u_b", Environment::Live),
        (&world.stray, "u_nobody", Environment::Live),
    ];
    let unknown = call(&app, "DELETE", &format!("{AT}/key_unknown"), &world.own).await;
    let before = rows(&world).await;
    let mut pairs = 0;
    for (caller, of, environment) in all {
        for (target, owner, other) in all {
            if (of, environment) == (owner, other) {
                continue;
            }
            pairs += 1;
            let path = path_of(&world, target).await;
            for (method, path) in [("DELETE", path.clone()), ("POST", format!("{path}/rotate"))] {
                let answer = call(&app, method, &path, caller).await;
                let nobody = call(&app, method, &path.replace("key_", "key_not_"), caller).await;
                assert_eq!((answer.status, &answer.body), (nobody.status, &nobody.body), "{of} {owner}");
                match of {
                    "u_ro" => assert_eq!(answer.verdict(), "403/read_only", "{method:?}, {path:?}"),
                    "u_nobody" => assert_eq!(answer.verdict(), "401/invalid_api_key", "{method:?}, {path:?}"),
                    _ if std::ptr::eq(caller, &world.p1) => {
                        assert_eq!(answer.verdict(), "403/forbidden", "{method:?}, {path:?}")
                    }
                    _ => assert_eq!(
                        (answer.status.as_u16(), &answer.body),
                        (404, &unknown.body),
                        "{method:?}, {path:?}"
                    ),
                }
            }
        }
    }
    assert_eq!((pairs, rows(&world).await), (40, before));
}

#[tokio::test]
async fn c11_08_which_keys_each_kind_of_key_may_list() {
    let (world, app) = world().await;
    let ids = async |key: &ApiKey| {
        let answer = call(&app, "GET", AT, key).await;
        assert_eq!(answer.status, 200);
        let json = answer.json();
        json["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let id = async |key: &ApiKey| record(&world, key).await.id.to_string();
    assert_eq!(ids(&world.own).await, [id(&world.own).await, id(&world.p1).await]);
    assert_eq!(ids(&world.test).await, [id(&world.test).await]);
    assert_eq!(ids(&world.ro).await, [id(&world.ro).await]);
    assert_eq!(ids(&world.b).await, [id(&world.b).await]);
    assert_eq!(call(&app, "GET", AT, &world.p1).await.verdict(), "403/forbidden");
    assert_eq!(call(&app, "GET", AT, &world.revoked).await.verdict(), "401/invalid_api_key");
}

#[tokio::test]
async fn r30_where_issuing_replaces_it_replaces_only_what_the_caller_covers() {
    let world = World::new().await;
    let keyring = Keyring::new(world.store.clone()).policy(KeyPolicy::Single { grace: true });
    let app = app(&world, keyring.clone());
    let answer = create(&app, &world.b, &json!({"name": "next"})).await;
    assert_eq!(answer.status, 201);
    assert_eq!(call(&app, "GET", AT, &world.b).await.verdict(), "401/invalid_api_key", "it replaced itself");

    // In the grace period of a rotation, a key may not end its successor, which lives longer.
    let full = record(&world, &world.full).await.id;
    let successor = keyring.rotate(&full, Grace::For(Duration::from_secs(600))).await.unwrap();
    let end = call(&app, "GET", "/validate", &world.full).await.json()["data"]["expiry"].clone();
    assert!(end.is_string());
    let answer = create(&app, &world.full, &json!({"name": "x", "expires_at": end})).await;
    assert_eq!(answer.verdict(), "403/forbidden");
    assert_eq!(call(&app, "GET", "/validate", successor.key()).await.status, 200);
    assert_eq!(create(&app, successor.key(), &json!({"name": "x"})).await.status, 201);
}

#[tokio::test]
async fn c11_09_too_many_keys_are_a_409() {
    let world = World::new().await;
    let keyring =
        Keyring::new(world.store.clone()).policy(KeyPolicy::Multiple { max: NonZero::new(2).unwrap() });
    let app = app(&world, keyring);
    assert_eq!(create(&app, &world.full, &json!({"name": "x"})).await.status, 201);
    assert_eq!(create(&app, &world.full, &json!({"name": "x"})).await.verdict(), "409/too_many_keys");
}

/// This person owns p1, and may only read in the account.
struct Uneven(MemoryStore);

#[async_trait]
impl Directory for Uneven {
    async fn account_status(
        &self,
        _: &UserId,
        project: Option<&ProjectId>,
    ) -> Result<AccountStatus, StoreError> {
        let role = if project.is_some() { Role::Full } else { Role::ReadOnly };
        Ok(AccountStatus::Active { role: Some(role) })
    }
}

#[async_trait]
impl ProjectDirectory for Uneven {
    async fn projects(&self, user: &UserId) -> Result<Vec<Project>, StoreError> {
        self.0.projects(user).await
    }
}

#[tokio::test]
async fn c11_02_a_role_on_a_project_is_not_a_role_in_the_account() {
    let world = World::new().await;
    let directory = std::sync::Arc::new(Uneven(world.store.clone()));
    let keyring = Keyring::new((world.store.clone(), directory.clone()));
    let auth = ApiKeyAuth::new((world.store.clone(), directory), ApiKeyHeader::default());
    let app = Router::new().nest(AT, manage::api_keys(keyring)).layer(auth);
    let headers = [
        ("x-api-key", world.own.expose_secret()),
        ("x-project-id", "p1"),
        ("content-type", "application/json"),
    ];
    let answer = send(&app, request("POST", AT, &headers, r#"{"name":"x"}"#)).await;
    assert_eq!(answer.verdict(), "403/read_only");
    assert_eq!(answer.json()["message"], "Insufficient permissions");
}
