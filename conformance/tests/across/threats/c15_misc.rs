//! C15: whose rights a key has, and how the layer changes responses.

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::IntoResponse as _;
use axum::routing::{any, get};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Accounts as _, Member, MemberRole, Project};
use tower_api_key::{ApiKeyAuth, AuthError, Principal, Timestamp};

use super::kit::{Ask, Site, endpoints};
use test_kit::{Answer, World, echo, member, project, send, user};

const INVALID: &str = "401/invalid_api_key";
const FORBIDDEN: &str = "403/forbidden";

#[tokio::test]
async fn c15_04_a_key_of_a_deleted_project() {
    let world = World::new().await;
    let site = Site::header(&world);
    let ask = || Ask::get("/sites").api_key(&world.p1);
    site.expect("C15-04", &ask(), "200:h").await;
    world.store.delete_project("A", &project("p1")).await.unwrap();
    // Neither a 401, nor access to the account instead.
    site.expect("C15-04", &ask(), FORBIDDEN).await;
    site.expect("C15-04", &ask().project("p1"), FORBIDDEN).await;
    site.expect("C15-04", &ask().project("p2"), "403/project_mismatch").await;
    // A project with that name in another account is another project.
    let moved = Project::new(project("p1"), "moved");
    world.store.create_project("B", &moved).await.unwrap();
    site.expect("C15-04", &ask(), FORBIDDEN).await;
    // An account cannot use the name again.
    assert!(world.store.create_project("A", &moved).await.is_err());
}

#[tokio::test]
async fn c15_04_rights_are_the_owners_current_ones() {
    let world = World::new().await;
    let site = Site::bearer(&world);
    let write = |project: &str| Ask::new("POST", "/upload").bearer(&world.full).project(project);
    site.expect("C15-04", &write("p1"), "200:h").await;
    site.expect("C15-04", &write("p2"), "200:h").await;
    // After removal from one project, the key still works for the other.
    world.store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p2"])).await.unwrap();
    site.expect("C15-04", &write("p1"), FORBIDDEN).await;
    site.expect("C15-04", &write("p2"), "200:h").await;
    // After a demotion, reads still work.
    world.store.set_member("A", &user("u_full"), &member(MemberRole::ReadOnly, &["p2"])).await.unwrap();
    site.expect("C15-04", &write("p2"), "403/read_only").await;
    site.expect("C15-04", &Ask::get("/sites").bearer(&world.full).project("p2"), "200:h").await;
    // Suspended, and resumed.
    world.store.suspend_account("A", true).await.unwrap();
    for key in [&world.own, &world.full, &world.ro, &world.p1, &world.test] {
        site.expect("C15-04", &Ask::get("/sites").bearer(key), INVALID).await;
    }
    site.expect("C15-04", &Ask::get("/sites").bearer(&world.b), "200:h").await;
    world.store.suspend_account("A", false).await.unwrap();
    site.expect("C15-04", &Ask::get("/sites").bearer(&world.full).project("p2"), "200:h").await;
    // If a person is removed and added again, the old key does not come back.
    world.store.remove_member("A", &user("u_full"), Timestamp::from_secs(10)).await.unwrap();
    site.expect("C15-04", &Ask::get("/sites").bearer(&world.full), INVALID).await;
    world.store.set_member("A", &user("u_full"), &member(MemberRole::Full, &["p2"])).await.unwrap();
    site.expect("C15-04", &Ask::get("/sites").bearer(&world.full), INVALID).await;
}

#[tokio::test]
async fn c15_05_the_keys_of_an_owner_who_gave_the_account_away() {
    let world = World::new().await;
    let site = Site::bearer(&world);
    let role = async |ask: &Ask| {
        site.expect("C15-05", ask, "200:h").await.answer.json()["principal"]["role"].to_string()
    };
    let ask = |method: &str, key, project: &str| Ask::new(method, "/sites").bearer(key).project(project);
    assert_eq!(role(&ask("POST", &world.own, "p3")).await, "\"Owner\"");
    assert_eq!(role(&ask("POST", &world.full, "p1")).await, "\"Full\"");
    let left: Member = member(MemberRole::ReadOnly, &["p2"]);
    world.store.transfer_account("A", &user("u_full"), &left).await.unwrap();
    site.expect("C15-05", &ask("GET", &world.own, "p3"), FORBIDDEN).await;
    site.expect("C15-05", &ask("POST", &world.own, "p2"), "403/read_only").await;
    assert_eq!(role(&ask("GET", &world.own, "p2")).await, "\"ReadOnly\"");
    site.expect("C15-05", &Ask::get("/sites").bearer(&world.p1), FORBIDDEN).await;
    assert_eq!(role(&ask("POST", &world.full, "p3")).await, "\"Owner\"");
}

/// A project-level key never has more rights than its project, even if its owner owns the account.
#[tokio::test]
async fn c15_05_a_project_level_key_decides_nothing_about_the_account() {
    let world = World::new().await;
    let site = Site::new(&world, |store, routes| {
        let endpoints = endpoints().manage(http::Method::POST, "/upload").manage(http::Method::GET, "/usr");
        routes.layer(ApiKeyAuth::new(store, Bearer::default()).endpoints(endpoints).unwrap())
    });
    for (method, path) in [("POST", "/upload"), ("GET", "/usr")] {
        site.expect("C15-05", &Ask::new(method, path).bearer(&world.own), "200:h").await;
        site.expect("C15-05", &Ask::new(method, path).bearer(&world.full), "200:h").await;
        site.expect("C15-05", &Ask::new(method, path).bearer(&world.ro), "403/read_only").await;
        site.expect("C15-05", &Ask::new(method, path).bearer(&world.p1), FORBIDDEN).await;
    }
    let seen = site.expect("C15-05", &Ask::new("POST", "/sites").bearer(&world.p1), "200:h").await;
    let principal = seen.answer.json()["principal"].clone();
    assert_eq!((&principal["role"], &principal["level"]), (&json!("Full"), &json!("PROJECT")));
}

fn plain(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

#[tokio::test]
async fn c15_10_refusals_by_a_handler_are_not_changed() {
    let world = World::new().await;
    for status in [400, 401, 403, 404, 413, 429, 500, 503] {
        let app = Router::new().fallback(move || async move {
            plain(status, &[("www-authenticate", "Custom realm=\"x\""), ("x-own", "1")], "own words")
        });
        let app = app.layer(ApiKeyAuth::new(world.store.clone(), Bearer::default()));
        let answer = send(&app, Ask::get("/x").bearer(&world.own).request()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_slice()),
            (status, &b"own words"[..]),
            "{status:?}"
        );
        assert_eq!(answer.header("www-authenticate"), ["Custom realm=\"x\""], "C15-10: {status}");
        assert!(answer.header("retry-after").is_empty(), "{status:?}");
        assert!(answer.extensions.get::<AuthError>().is_none(), "C15-10: {status} was counted as ours");
    }
}

/// The request's values of the headers in `Vary`.
type Varied = Vec<(String, Option<String>)>;

/// A shared cache within the rules of RFC 9111. It stores responses to GET unless forbidden, including those to
/// requests with keys in headers that it does not know. It reuses them for requests with the same values of the
/// headers in `Vary`.
#[derive(Default)]
struct Cache {
    stored: HashMap<String, (Varied, Vec<u8>)>,
}

impl Cache {
    fn directives(headers: &HeaderMap) -> Vec<String> {
        let lines = headers.get_all("cache-control").iter().map(|value| value.to_str().unwrap().to_owned());
        lines.flat_map(|line| line.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>()).collect()
    }

    async fn send(&mut self, app: &Router, ask: &Ask) -> (Vec<u8>, bool) {
        let request = ask.request();
        let value = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let target = request.uri().to_string();
        if let Some((varied, body)) = self.stored.get(&target)
            && varied.iter().all(|(name, stored)| value(name) == *stored)
        {
            return (body.clone(), true);
        }
        let keyed = request.headers().contains_key("authorization");
        let names_of = |answer: &Answer| -> Vec<String> {
            let lines = answer.headers.get_all("vary").iter();
            lines
                .flat_map(|line| line.to_str().unwrap().split(", ").map(str::to_owned).collect::<Vec<_>>())
                .collect()
        };
        let given: HashMap<String, String> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let answer = send(app, request).await;
        let directives = Self::directives(&answer.headers);
        let forbidden = directives.iter().any(|one| one == "no-store" || one == "private")
            || keyed && !directives.iter().any(|one| one == "public");
        if !forbidden {
            let varied =
                names_of(&answer).into_iter().map(|name| (name.clone(), given.get(&name).cloned())).collect();
            self.stored.insert(target, (varied, answer.body.clone()));
        }
        (answer.body, false)
    }
}

#[tokio::test]
async fn c15_11_a_shared_cache_does_not_mix_up_users() {
    async fn whoami(who: axum::Extension<Principal>) -> String {
        who.user_id().to_string()
    }
    async fn public(who: axum::Extension<Principal>) -> Response<Body> {
        let mut response = who.user_id().to_string().into_response();
        response.headers_mut().insert("cache-control", "public, max-age=60".parse().unwrap());
        response.headers_mut().append("vary", "accept-encoding".parse().unwrap());
        response
    }
    let world = World::new().await;
    let routes = || Router::new().route("/sites", get(whoami)).route("/public", get(public));
    let header = || ApiKeyHeader::default().project_optional();
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).or(header()).or(JsonBody::default());
    let app = routes().layer(auth);
    for path in ["/sites", "/public"] {
        let mut cache = Cache::default();
        for _ in 0..2 {
            for (key, owner) in [(&world.own, "u_own"), (&world.b, "u_b"), (&world.full, "u_full")] {
                let (body, hit) = cache.send(&app, &Ask::get(path).api_key(key)).await;
                assert_eq!(body, owner.as_bytes(), "C15-11: {path}");
                assert!(!hit || path == "/public", "C15-11: {path} came from the cache");
                let (body, _) = cache.send(&app, &Ask::get(path).bearer(key)).await;
                assert_eq!(body, owner.as_bytes(), "C15-11: {path}");
            }
            // Refusals are never stored.
            let (body, hit) = cache.send(&app, &Ask::get(path).api_key(&world.revoked)).await;
            assert!(!hit && String::from_utf8(body).unwrap().contains("invalid_api_key"), "{path:?}");
            let (_, hit) = cache.send(&app, &Ask::get(path)).await;
            assert!(!hit, "C15-11: a refusal came from the cache");
        }
    }
    // Without these headers the cache does mix up users; otherwise this test would prove nothing.
    let stripped = routes().layer(ApiKeyAuth::new(world.store.clone(), header())).layer(
        axum::middleware::map_response(async |mut response: Response<Body>| {
            response.headers_mut().remove("cache-control");
            response.headers_mut().remove("vary");
            response
        }),
    );
    let mut cache = Cache::default();
    cache.send(&stripped, &Ask::get("/sites").api_key(&world.own)).await;
    let (body, hit) = cache.send(&stripped, &Ask::get("/sites").api_key(&world.b)).await;
    assert_eq!((body.as_slice(), hit), (&b"u_own"[..], true));
}

#[tokio::test]
async fn c15_12_answers_of_every_kind_get_the_headers_and_keep_their_bodies() {
    let world = World::new().await;
    async fn kind(Path(status): Path<u16>) -> Response<Body> {
        let body = if matches!(status, 204 | 304) { "" } else { "the body" };
        plain(status, &[("etag", "\"x\""), ("vary", "accept"), ("content-range", "bytes 0-7/9")], body)
    }
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).or(ApiKeyHeader::default());
    let app = Router::new().route("/{status}", any(kind)).layer(auth);
    for status in [200, 201, 202, 204, 206, 301, 304, 404, 418, 500] {
        for method in ["GET", "HEAD", "POST"] {
            let ask = Ask::new(method, &format!("/{status}")).bearer(&world.own);
            let answer = send(&app, ask.request()).await;
            assert_eq!(answer.status.as_u16(), status, "{method:?}");
            assert_eq!(answer.header("cache-control"), ["private, no-store"], "C15-12: {method} {status}");
            let vary = answer.header("vary");
            assert_eq!(
                vary,
                ["accept", "authorization, x-api-key, x-project-id"],
                "C15-12: {method} {status}"
            );
            assert_eq!(answer.header("etag"), ["\"x\""], "{method:?}");
            let empty = method == "HEAD" || matches!(status, 204 | 304);
            assert_eq!(answer.body, if empty { &b""[..] } else { b"the body" }, "C15-12: {method} {status}");
        }
    }
    // `Cache-Control` of the handler is not changed.
    for own in ["public, max-age=60", "no-cache", "max-age=0"] {
        let app = Router::new()
            .fallback(move || async move { plain(200, &[("cache-control", own)], "") })
            .layer(ApiKeyAuth::new(world.store.clone(), Bearer::default()));
        let answer = send(&app, Ask::get("/x").bearer(&world.own).request()).await;
        assert_eq!(
            (answer.header("cache-control"), answer.header("vary")),
            (vec![own], vec!["authorization"]),
            "own: {own:?}"
        );
    }
}

/// The exact words of each scheme (REQUIREMENTS A.7), and its challenge.
#[tokio::test]
async fn c15_00_each_scheme_refuses_in_its_own_words() {
    let world = World::new().await;
    let own = world.own.expose_secret();
    let ro = world.ro.expose_secret();
    let body =
        |key: &str, user: &str, project: &str| json!({"apiKey": key, "userId": user, "projectId": project});
    let denied = "API key doesn't have permission for this resource";
    let bearer = |error: &str| vec![format!("Bearer realm=\"api\", error=\"{error}\"")];
    let (plain, header, json) = (
        vec!["Bearer realm=\"api\"".to_owned()],
        vec!["ApiKey realm=\"api\", in=\"header\", name=\"X-API-Key\"".to_owned()],
        vec!["ApiKey realm=\"api\", in=\"body\", name=\"apiKey\"".to_owned()],
    );
    let cases = [
        (Site::bearer(&world), Ask::get("/sites"), "Missing or invalid API key", plain),
        (
            Site::bearer(&world),
            Ask::get("/sites").bearer(&world.revoked),
            "Missing or invalid API key",
            bearer("invalid_token"),
        ),
        (
            Site::bearer(&world),
            Ask::new("POST", "/sites").bearer(&world.ro),
            denied,
            bearer("insufficient_scope"),
        ),
        (
            Site::bearer(&world),
            Ask::get("/sites").bearer(&world.own).project(""),
            "X-Project-ID header is required",
            bearer("invalid_request"),
        ),
        (Site::header(&world), Ask::get("/sites"), "Invalid API key", header.clone()),
        (Site::header(&world), Ask::get("/sites").api_key(&world.revoked), "Invalid API key", header),
        (
            Site::header(&world),
            Ask::get("/sites").api_key(&world.ro).project("p2"),
            "Insufficient permissions",
            vec![],
        ),
        (
            Site::header(&world),
            Ask::get("/sites").api_key(&world.own),
            "X-Project-ID header is required",
            vec![],
        ),
        (Site::body(&world), Ask::json("/upload", "{}"), "Unauthorized: Invalid API Key", json.clone()),
        (
            Site::body(&world),
            Ask::json("/upload", body("x", "u_own", "p1")),
            "Unauthorized: Invalid API Key",
            json.clone(),
        ),
        (Site::body(&world), Ask::json("/upload", body(own, "u_b", "p1")), "Invalid User", json),
        (Site::body(&world), Ask::json("/upload", body(ro, "u_ro", "p1")), "Forbidden", vec![]),
        (Site::body(&world), Ask::json("/upload", body(own, "u_own", "q1")), "Forbidden", vec![]),
        (Site::body(&world), Ask::json("/upload", body(own, "u_own", "")), "projectId is required", vec![]),
    ];
    for (site, ask, message, challenges) in cases {
        let answer = site.see("C15", &ask).await.answer;
        assert_eq!(answer.json()["message"], message, "{ask:?}");
        assert_eq!(answer.json()["title"], message, "{ask:?}");
        assert_eq!(answer.header("www-authenticate"), challenges, "{ask:?}");
    }
    // The well-known challenge comes first, whatever the order of the schemes. The words are those of the first
    // scheme.
    let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default())
        .or(ApiKeyHeader::default())
        .or(Bearer::default());
    let app = Router::new().fallback(echo).layer(auth);
    let answer = send(&app, Ask::get("/x").request()).await;
    assert_eq!(answer.json()["message"], "Unauthorized: Invalid API Key");
    let challenges = answer.header("www-authenticate");
    assert_eq!((challenges.len(), challenges[0]), (3, "Bearer realm=\"api\""));
}

/// An invalid configuration is an error of the builder.
#[test]
fn c15_00_wrong_configuration_is_found_at_start() {
    use std::time::Duration;
    use tower_api_key::{ConfigError, KeyFormat};

    let taken = [
        "authorization",
        "Authorization",
        "proxy-authorization",
        "cookie",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "expect",
        "upgrade",
        "",
        "a b",
        "x:y",
        "\u{e4}",
        "x\r\ny",
    ];
    for name in taken {
        assert!(Bearer::default().project_header(name).is_err(), "{name:?}");
        assert!(ApiKeyHeader::named(name, "x-p", "api").is_err(), "{name:?}");
        assert!(ApiKeyHeader::named("x-k", name, "api").is_err(), "{name:?}");
    }
    assert_eq!(
        ApiKeyHeader::named("X-K", "x-k", "api").map(drop),
        Err(ConfigError::HeaderName("x-k".to_owned()))
    );
    assert_eq!(ApiKeyHeader::named("X-K", "X-P", "api").map(drop), Ok(()));
    for realm in ["\u{e4}", "a\r\nb", "\t", "\0"] {
        assert_eq!(Bearer::default().realm(realm).map(drop), Err(ConfigError::Challenge), "{realm:?}");
        assert_eq!(
            ApiKeyHeader::named("X-K", "X-P", realm).map(drop),
            Err(ConfigError::Challenge),
            "{realm:?}"
        );
        assert_eq!(JsonBody::named("k", "u", "p", realm).map(drop), Err(ConfigError::Challenge), "{realm:?}");
    }
    for [key, user, project] in [
        ["", "u", "p"],
        ["k", "", "p"],
        ["k", "u", ""],
        ["k", "k", "p"],
        ["k", "u", "U"],
        ["a_b", "u", "AB"],
        ["_", "u", "p"],
    ] {
        let named = JsonBody::named(key, user, project, "api").map(drop);
        assert_eq!(named, Err(ConfigError::FieldName), "{key:?} {user:?} {project:?}");
    }
    assert!(JsonBody::default().read_deadline(Duration::ZERO).is_err());
    for prefix in ["", "1a", "_a", "a_", "a-b", "elevenchars", "\u{e4}", "a b"] {
        assert!(KeyFormat::new(prefix).is_err(), "{prefix:?}");
    }
    assert!(KeyFormat::new("a_1").is_ok() && KeyFormat::new("tenletters").is_ok());
}

/// With custom names, the default names are not accepted.
#[tokio::test]
async fn c15_00_other_names() {
    let world = World::new().await;
    let auth =
        ApiKeyAuth::new(world.store.clone(), JsonBody::named("token", "who", "where", "a \"b\"").unwrap())
            .or(ApiKeyHeader::named("X-Device", "X-Place", "api").unwrap());
    let app = Router::new().fallback(echo).layer(auth);
    let own = world.own.expose_secret();
    let verdict = async |ask: Ask| send(&app, ask.request()).await.verdict();
    assert_eq!(verdict(Ask::json("/x", json!({"token": own, "who": "u_own", "where": "p1"}))).await, "200:h");
    assert_eq!(
        verdict(Ask::json("/x", json!({"apiKey": own, "userId": "u_own", "projectId": "p1"}))).await,
        "401/missing_api_key"
    );
    assert_eq!(verdict(Ask::json("/x", json!({"token": own, "Token": 1}))).await, "400/malformed_body");
    assert_eq!(verdict(Ask::get("/x").header("x-device", own).header("x-place", "p1")).await, "200:h");
    assert_eq!(verdict(Ask::get("/x").api_key(&world.own).project("p1")).await, "401/missing_api_key");
    let answer = send(&app, Ask::get("/x").header("x-device", own).request()).await;
    assert_eq!(answer.json()["message"], "X-Place header is required");
    let answer = send(&app, Ask::json("/x", json!({"token": own, "who": "u_own"})).request()).await;
    assert_eq!(answer.json()["message"], "where is required");
    let answer = send(&app, Ask::get("/x").request()).await;
    assert_eq!(answer.header("www-authenticate")[0], r#"ApiKey realm="a \"b\"", in="body", name="token""#);
    assert_eq!(answer.header("vary"), ["x-device, x-place"]);
}

#[tokio::test]
async fn c15_13_grpc_is_refused_in_its_own_words() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default());
    let app = Router::new().fallback(echo).layer(auth);
    let grpc = |kind: &str| Ask::new("POST", "/pkg.Service/Method").header("content-type", kind);
    for kind in
        ["application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc; x=y"]
    {
        let cases = [
            (grpc(kind), "16"),
            (grpc(kind).header("authorization", "Bearer garbage"), "16"),
            (grpc(kind).bearer(&world.revoked), "16"),
            (grpc(kind).bearer(&world.ro), "7"),
            (grpc(kind).api_key(&world.own), "3"),
            (grpc(kind).api_key(&world.own).bearer(&world.own), "3"),
        ];
        for (ask, status) in cases {
            let mut request = ask.request();
            *request.version_mut() = http::Version::HTTP_2;
            let answer = send(&app, request).await;
            let at = format!("C15-13: {ask:?}");
            assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, vec![status]), "{at}");
            assert_eq!(answer.header("content-type"), ["application/grpc"], "{at}");
            assert!(answer.body.is_empty(), "{at}");
            assert_eq!(answer.header("cache-control"), ["no-store"], "{at}");
            assert!(answer.header("www-authenticate").is_empty(), "{at}");
            let message = answer.header("grpc-message")[0];
            assert!(!message.is_empty() && message.is_ascii(), "{at}");
            assert!(answer.extensions.get::<AuthError>().is_some_and(AuthError::is_grpc), "{at}");
        }
        // The body is gRPC's, so it is not read.
        let body =
            json!({"apiKey": world.own.expose_secret(), "userId": "u_own", "projectId": "p1"}).to_string();
        let mut request = grpc(kind).body(body).request();
        *request.version_mut() = http::Version::HTTP_2;
        assert_eq!(send(&app, request).await.header("grpc-status"), ["16"], "{kind:?}");
        assert_eq!(send(&app, grpc(kind).bearer(&world.own).request()).await.verdict(), "200:h", "{kind:?}");
    }
    // Other content types with the same beginning are not gRPC.
    let answer =
        send(&app, Ask::new("POST", "/x").header("content-type", "application/graphql").request()).await;
    assert_eq!(answer.verdict(), "401/missing_api_key");
}
