//! C1: several credentials, duplicates, conflicts. A request must have exactly one credential, in one place, on one
//! line.

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::json;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{ApiKeyAuth, Endpoints};

use super::kit::{Ask, Site, endpoints, routes};
use test_kit::{World, send};

const CONFLICT: &str = "400/conflicting_credentials";

fn credentials(key: &str, user: &str, project: &str) -> String {
    json!({"apiKey": key, "userId": user, "projectId": project}).to_string()
}

#[tokio::test]
async fn c1_01_the_same_bearer_line_twice() {
    let world = World::new().await;
    for site in [Site::bearer(&world), Site::heads(&world), Site::all(&world)] {
        let ask = Ask::get("/sites").bearer(&world.own).bearer(&world.own);
        let seen = site.expect_offline("C1-01", &ask, CONFLICT).await;
        assert_eq!(
            seen.answer.header("www-authenticate"),
            [r#"Bearer realm="api", error="invalid_request""#]
        );
        assert_eq!(seen.answer.json()["message"], "More than one credential was sent");
        let thrice = ask.bearer(&world.own);
        site.expect_offline("C1-01", &thrice, CONFLICT).await;
    }
}

#[tokio::test]
async fn c1_02_two_bearer_lines_of_which_one_is_valid() {
    let world = World::new().await;
    for site in [Site::bearer(&world), Site::heads(&world), Site::all(&world)] {
        for (first, second) in [(&world.revoked, &world.own), (&world.own, &world.revoked)] {
            let ask = Ask::get("/sites").bearer(first).bearer(second);
            site.expect_offline("C1-02", &ask, CONFLICT).await;
        }
        // A line with another authentication scheme does not hide a credential either, in any order and at any
        // distance.
        let basic = |ask: Ask| ask.header("authorization", "Basic dTpw");
        let lines = [
            basic(Ask::get("/sites")).bearer(&world.own),
            basic(Ask::get("/sites").bearer(&world.own)),
            basic(basic(Ask::get("/sites"))).bearer(&world.own),
            Ask::get("/sites").bearer(&world.own).header("authorization", ""),
            basic(Ask::get("/sites")).header("authorization", "bearer"),
        ];
        for ask in lines {
            site.expect_offline("C1-02", &ask, CONFLICT).await;
        }
    }
}

#[tokio::test]
async fn c1_03_the_same_key_header_twice() {
    let world = World::new().await;
    for site in [Site::header(&world), Site::heads(&world), Site::all(&world)] {
        for (first, second) in
            [(&world.own, &world.own), (&world.revoked, &world.own), (&world.own, &world.b)]
        {
            let ask = Ask::get("/projects").api_key(first).api_key(second);
            site.expect_offline("C1-03", &ask, CONFLICT).await;
        }
        let ask = Ask::get("/projects").api_key(&world.own).header("x-api-key", "");
        site.expect_offline("C1-03", &ask, CONFLICT).await;
    }
}

#[tokio::test]
async fn c1_04_two_keys_on_one_line() {
    let world = World::new().await;
    let keys = [world.revoked.expose_secret(), world.own.expose_secret()];
    for (first, second) in [(keys[0], keys[1]), (keys[1], keys[0]), (keys[1], keys[1])] {
        for separator in [", ", ",", " ", ";"] {
            let line = format!("{first}{separator}{second}");
            let ask = Ask::get("/projects").header("x-api-key", &line);
            Site::header(&world).expect_offline("C1-04", &ask, "401/invalid_api_key").await;
            let ask = Ask::get("/sites").header("authorization", format!("Bearer {line}"));
            Site::bearer(&world).expect_offline("C1-04", &ask, "401/invalid_api_key").await;
            let ask = Ask::get("/sites")
                .header("authorization", format!("Bearer {first}{separator}Bearer {second}"));
            Site::bearer(&world).expect_offline("C1-04", &ask, "401/invalid_api_key").await;
        }
    }
}

#[tokio::test]
async fn c1_05_two_equal_header_credentials() {
    let world = World::new().await;
    for site in [Site::heads(&world), Site::all(&world)] {
        let ask = Ask::get("/projects").bearer(&world.own).api_key(&world.own);
        site.expect_offline("C1-05", &ask, CONFLICT).await;
    }
}

#[tokio::test]
async fn c1_06_garbage_beside_a_valid_bearer() {
    let world = World::new().await;
    for site in [Site::heads(&world), Site::all(&world)] {
        for garbage in ["garbage", "", "null", "a b", "\u{ef}"] {
            let ask = Ask::get("/projects").bearer(&world.own).header("x-api-key", garbage);
            site.expect_offline("C1-06", &ask, CONFLICT).await;
        }
        let ask = Ask::get("/projects").bearer(&world.own).api_key(&world.own).api_key(&world.own);
        site.expect_offline("C1-06", &ask, CONFLICT).await;
    }
}

#[tokio::test]
async fn c1_07_invalid_bearer_beside_valid_header() {
    let world = World::new().await;
    for site in [Site::heads(&world), Site::all(&world)] {
        for value in ["Bearer", "Bearer x", "Bearer a b", "Bearer\tx", "bearer ,", "BEARER \u{ef}"] {
            let ask = Ask::get("/projects").header("authorization", value).api_key(&world.own);
            site.expect_offline("C1-07", &ask, CONFLICT).await;
        }
        for key in [&world.revoked, &world.expired, &world.b] {
            let ask = Ask::get("/projects").bearer(key).api_key(&world.own);
            site.expect_offline("C1-07", &ask, CONFLICT).await;
        }
    }
}

/// Decision 1: one header credential decides, and the body is not read.
#[tokio::test]
async fn c1_08_a_header_credential_decides_whatever_the_body_holds() {
    let world = World::new().await;
    let site = Site::all(&world);
    let bodies = [
        credentials(world.b.expose_secret(), "u_b", "q1"),
        credentials(world.own.expose_secret(), "u_own", "p2"),
        credentials("garbage", "u_b", "q1"),
        r#"{"apiKey":1,"apiKey":2}"#.to_owned(),
        "not json".to_owned(),
    ];
    for body in &bodies {
        let ask = Ask::json("/upload", body).api_key(&world.own).project("p1");
        let seen = site.expect("C1-08", &ask, "200:h").await;
        assert_eq!((seen.user().as_str(), seen.project().as_str()), ("u_own", "p1"), "C1-08: {body}");
        let seen = site.expect("C1-08", &Ask::json("/upload", body).bearer(&world.own), "200:h").await;
        assert_eq!((seen.user().as_str(), seen.project().as_str()), ("u_own", "none"), "C1-08: {body}");
    }
    // This also holds for an invalid one: the body is not tried instead.
    let body = credentials(world.own.expose_secret(), "u_own", "p1");
    for key in [&world.revoked, &world.expired, &world.stray] {
        let ask = Ask::json("/upload", &body).api_key(key).project("p1");
        site.expect("C1-08", &ask, "401/invalid_api_key").await;
    }
    let ask = Ask::json("/upload", &body).header("x-api-key", "garbage");
    site.expect_offline("C1-08", &ask, "401/invalid_api_key").await;
    let ask = Ask::json("/upload", &body).header("authorization", "Bearer");
    site.expect_offline("C1-08", &ask, "401/invalid_api_key").await;
}

/// The body is not even polled: the handler gets the stream unchanged, whatever its size and speed.
#[tokio::test]
async fn c1_09_a_header_credential_leaves_the_body_a_stream() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll};

    struct Polled(Arc<AtomicUsize>);

    impl http_body::Body for Polled {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            self.0.fetch_add(1, SeqCst);
            Poll::Pending
        }
    }

    async fn untouched() -> &'static str {
        r#"{"handler":true}"#
    }

    let world = World::new().await;
    for all in [false, true] {
        for store_warm in [false, true] {
            let store = test_kit::Counted::new(&world, store_warm);
            let routes = Router::new().fallback(untouched);
            let heads = ApiKeyAuth::new(store, Bearer::default()).or(ApiKeyHeader::default());
            let app = if all { routes.layer(heads.or(JsonBody::default())) } else { routes.layer(heads) };
            let polled = Arc::default();
            let with = |name: &str, value: &str| {
                Request::post("/upload")
                    .header("content-type", "application/json")
                    .header("x-project-id", "p1")
                    .header(name, value)
                    .body(Body::new(Polled(Arc::clone(&polled))))
                    .unwrap()
            };
            let key = world.own.expose_secret();
            assert_eq!(
                send(&app, with("x-api-key", key)).await.verdict(),
                "200:h",
                "all: {all:?}, store_warm: {store_warm:?}"
            );
            assert_eq!(
                send(&app, with("authorization", &format!("Bearer {key}"))).await.verdict(),
                "200:h",
                "all: {all:?}, store_warm: {store_warm:?}"
            );
            let revoked = world.revoked.expose_secret();
            assert_eq!(
                send(&app, with("x-api-key", revoked)).await.verdict(),
                "401/invalid_api_key",
                "all: {all:?}, store_warm: {store_warm:?}"
            );
            assert_eq!(polled.load(SeqCst), 0, "C1-09: the body was polled");
        }
    }
}

#[tokio::test]
async fn c1_10_the_project_of_the_body_is_not_read_beside_a_header_credential() {
    let world = World::new().await;
    let site = Site::all(&world);
    for body_project in ["p2", "q1", "", "../p1"] {
        let ask = Ask::json("/upload", json!({"projectId": body_project})).api_key(&world.full);
        let seen = site.expect("C1-10", &ask.clone().project("p1"), "200:h").await;
        assert_eq!(seen.project(), "p1", "{body_project:?}");
        site.expect("C1-10", &ask, "400/project_required").await;
    }
    // The header's project does not count for the body scheme.
    let body = json!({"apiKey": world.full.expose_secret(), "userId": "u_full", "projectId": "p2"});
    let seen = site.expect("C1-10", &Ask::json("/upload", body).project("p1"), "200:h").await;
    assert_eq!(seen.project(), "p2");
}

#[tokio::test]
async fn c1_11_a_project_header_that_is_repeated_or_empty() {
    let world = World::new().await;
    let header = Site::header(&world);
    let bearer = Site::bearer(&world);
    let both = |ask: Ask| [(&header, ask.clone().api_key(&world.own)), (&bearer, ask.bearer(&world.own))];
    for (site, ask) in both(Ask::get("/sites").project("p1").project("p1")) {
        site.expect_offline("C1-11", &ask, CONFLICT).await;
    }
    for (site, ask) in both(Ask::get("/projects").project("p1").project("p2")) {
        site.expect_offline("C1-11", &ask, CONFLICT).await;
    }
    // This is checked before the key.
    let twice = Ask::get("/sites").project("p1").project("p1");
    header.expect_offline("C1-11", &twice.clone().header("x-api-key", "garbage"), CONFLICT).await;
    bearer.expect_offline("C1-11", &twice.header("authorization", "Bearer"), CONFLICT).await;
    for value in ["p1, p2", "p1,p1", "", " ", "   ", " p1", "p1 ", "\t"] {
        for path in ["/sites", "/projects"] {
            for (site, ask) in both(Ask::get(path).project(value)) {
                site.expect("C1-11", &ask, "400/invalid_project").await;
            }
        }
        // With a project-level key, a malformed project is refused, too.
        let ask = Ask::get("/sites").project(value).api_key(&world.p1);
        header.expect("C1-11", &ask, "400/invalid_project").await;
    }
}

#[tokio::test]
async fn c1_12_bearer_reads_a_project_only_when_told_to() {
    let world = World::new().await;
    let told = Site::bearer(&world);
    let untold = Site::new(&world, |store, routes| routes.layer(ApiKeyAuth::new(store, Bearer::default())));
    let with = |project: &str| Ask::get("/sites").bearer(&world.full).project(project);
    assert_eq!(told.expect("C1-12", &with("p1"), "200:h").await.project(), "p1");
    told.expect("C1-12", &with("p3"), "403/forbidden").await;
    told.expect("C1-12", &with("q1"), "403/forbidden").await;
    told.expect("C1-12", &Ask::get("/sites").bearer(&world.full), "200:h").await;
    for project in ["p1", "p3", "q1", "", "a b"] {
        let seen = untold.expect("C1-12", &with(project), "200:h").await;
        assert_eq!(seen.project(), "none", "C1-12: {project} was read");
    }
    let twice = with("p1").project("p2");
    untold.expect("C1-12", &twice, "200:h").await;
}

/// Decision 2: other authentication schemes are ignored.
#[tokio::test]
async fn c1_13_another_authentication_scheme_does_not_count() {
    let world = World::new().await;
    for value in
        ["Basic dTpw", "Digest username=\"u\"", "Negotiate x", "BearerK", "Bearerish x", "", "Bear er"]
    {
        for site in [Site::heads(&world), Site::all(&world)] {
            let foreign = Ask::get("/projects").header("authorization", value);
            let seen = site.expect_offline("C1-13", &foreign, "401/missing_api_key").await;
            // The credential was not for us, so the challenge reports no error.
            assert_eq!(seen.answer.header("www-authenticate")[0], r#"Bearer realm="api""#, "{value:?}");
            site.expect("C1-13", &foreign.api_key(&world.own), "200:h").await;
        }
        let site = Site::header(&world);
        let ask = Ask::get("/projects").header("authorization", value).api_key(&world.own);
        site.expect("C1-13", &ask, "200:h").await;
    }
}

#[tokio::test]
async fn c1_14_another_kind_of_token_is_not_a_key() {
    let world = World::new().await;
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1X293biJ9.";
    for site in [Site::bearer(&world), Site::heads(&world), Site::all(&world)] {
        let ask = Ask::get("/sites").header("authorization", format!("Bearer {jwt}"));
        let seen = site.expect_offline("C1-14", &ask, "401/invalid_api_key").await;
        assert_eq!(seen.answer.header("www-authenticate")[0], r#"Bearer realm="api", error="invalid_token""#);
    }
}

#[tokio::test]
async fn c1_15_places_that_never_hold_a_credential() {
    let world = World::new().await;
    let key = world.own.expose_secret();
    let anywhere = [
        Ask::get(&format!("/projects?api_key={key}")),
        Ask::get(&format!("/projects?apiKey={key}&userId=u_own")),
        Ask::get(&format!("/projects?access_token={key}")),
        Ask::get(&format!("/projects?key={key}")),
        Ask::get(&format!("/projects/{key}")),
        Ask::get("/projects").header("cookie", format!("apiKey={key}; api_key={key}; x-api-key={key}")),
        Ask::get("/projects").header("proxy-authorization", format!("Bearer {key}")),
        Ask::get("/projects").header("sec-websocket-protocol", format!("bearer, {key}")),
        Ask::get("/projects").header("authentication", format!("Bearer {key}")),
        Ask::get("/projects").header("x-authorization", format!("Bearer {key}")),
        Ask::get("/projects").header("x-forwarded-authorization", format!("Bearer {key}")),
        Ask::get("/projects").header("api-key", key),
        Ask::get("/projects").header("authorization", key),
        Ask::get("/projects").header("authorization", format!("ApiKey {key}")),
        Ask::new("POST", "/projects")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("apiKey={key}&access_token={key}&userId=u_own&projectId=p1")),
    ];
    for ask in &anywhere {
        for site in [Site::bearer(&world), Site::header(&world), Site::heads(&world), Site::all(&world)] {
            site.expect_offline("C1-15", ask, "401/missing_api_key").await;
        }
    }
}

#[tokio::test]
async fn c1_16_another_spelling_of_the_name_is_another_header() {
    let world = World::new().await;
    let site = Site::header(&world);
    let key = world.own.expose_secret();
    for name in ["X_API_Key", "XAPIKey", "X-API-Keys", "X-API-Key-", "-X-API-Key", "X-APIKey", "X.API.Key"] {
        let ask = Ask::get("/projects").header(name, key);
        site.expect_offline("C1-16", &ask, "401/missing_api_key").await;
    }
    for name in ["x-api-key", "X-API-Key", "X-API-KEY", "x-Api-kEY"] {
        site.expect("C1-16", &Ask::get("/projects").header(name, key), "200:h").await;
    }
    // `X_Project_ID` is not the project header either.
    let ask = Ask::get("/sites").api_key(&world.own).header("X_Project_ID", "p1");
    site.expect("C1-16", &ask, "400/project_required").await;
}

#[tokio::test]
async fn c1_18_the_connection_header_is_ignored() {
    let world = World::new().await;
    let ask = Ask::get("/projects").header("connection", "X-API-Key, Authorization").api_key(&world.own);
    Site::header(&world).expect("C1-18", &ask, "200:h").await;
}

#[tokio::test]
async fn c1_19_a_public_route_has_no_principal_whatever_is_sent() {
    let world = World::new().await;
    let asks = [
        Ask::get("/health"),
        Ask::get("/health").bearer(&world.own),
        Ask::get("/health").header("authorization", "Bearer garbage"),
        Ask::get("/health").bearer(&world.revoked).bearer(&world.own),
        Ask::get("/health").api_key(&world.own).bearer(&world.own),
        Ask::get("/health").api_key(&world.expired).project("a b"),
    ];
    for ask in &asks {
        for site in [Site::bearer(&world), Site::header(&world), Site::all(&world)] {
            let seen = site.expect_offline("C1-19", ask, "200:h").await;
            assert_eq!(seen.user(), "nobody", "C1-19: {ask:?}");
            assert!(seen.answer.header("cache-control").is_empty(), "C1-19: nothing was authenticated");
        }
    }
    // Only the declared method is public.
    for method in ["POST", "DELETE", "OPTIONS", "get"] {
        Site::all(&world).expect_offline("C1-19", &Ask::new(method, "/health"), "401/missing_api_key").await;
    }
}

#[tokio::test]
async fn c1_20_identity_headers_of_a_client_have_no_effect() {
    let world = World::new().await;
    let forged = |ask: Ask| {
        [
            "x-user-id",
            "x-auth-principal",
            "x-middleware-subrequest",
            "x-authenticated-user",
            "x-forwarded-user",
            "x_user_id",
            "x-principal",
            "x-role",
            "x-admin",
            "remote-user",
            "x-original-url",
            "x-api-key-id",
        ]
        .into_iter()
        .fold(ask, |ask, name| ask.header(name, "u_own"))
    };
    for site in [Site::bearer(&world), Site::header(&world), Site::all(&world)] {
        site.expect_offline("C1-20", &forged(Ask::get("/projects")), "401/missing_api_key").await;
    }
    let seen =
        Site::header(&world).expect("C1-20", &forged(Ask::get("/projects").api_key(&world.b)), "200:h").await;
    assert_eq!(seen.user(), "u_b");
    let ask = forged(Ask::new("POST", "/upload").bearer(&world.ro));
    Site::bearer(&world).expect("C1-20", &ask, "403/read_only").await;
}

/// Decision 3: each layer decides for itself, and none trusts an outer one.
#[tokio::test]
async fn c1_21_two_layers_decide_twice() {
    let (world, other) = (World::new().await, World::new().await);
    let twice = |inner: &World, outer: &World| {
        let auth =
            |world: &World| ApiKeyAuth::new(world.store.clone(), Bearer::default()).or(JsonBody::default());
        routes().layer(auth(inner)).layer(auth(outer))
    };
    let ask = || Ask::get("/sites").bearer(&world.own).request();
    assert_eq!(send(&twice(&world, &world), ask()).await.verdict(), "200:h");
    assert_eq!(send(&twice(&other, &world), ask()).await.verdict(), "401/invalid_api_key");
    assert_eq!(send(&twice(&world, &other), ask()).await.verdict(), "401/invalid_api_key");
    // Both layers read the body, and it stays complete.
    let body = credentials(world.own.expose_secret(), "u_own", "p1");
    let answer = send(&twice(&world, &world), Ask::json("/upload", &body).request()).await;
    assert_eq!((answer.verdict().as_str(), answer.json()["body"].as_str()), ("200:h", Some(body.as_str())));
    let answer = send(&twice(&other, &world), Ask::json("/upload", &body).request()).await;
    assert_eq!(answer.verdict(), "401/invalid_api_key");
    // If the outer layer redacts the key, the inner layer finds none.
    let redacting = ApiKeyAuth::new(world.store.clone(), JsonBody::default().redact_key());
    let plain = ApiKeyAuth::new(world.store.clone(), JsonBody::default());
    let app = routes().layer(plain).layer(redacting);
    assert_eq!(send(&app, Ask::json("/upload", &body).request()).await.verdict(), "401/invalid_api_key");

    // A public endpoint of the outer layer is not public in the inner one.
    let outer = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .endpoints(Endpoints::new().public(http::Method::GET, "/sites"))
        .unwrap();
    let app = routes().layer(ApiKeyAuth::new(world.store.clone(), Bearer::default())).layer(outer);
    assert_eq!(send(&app, Ask::get("/sites").request()).await.verdict(), "401/missing_api_key");
}

#[tokio::test]
async fn c1_22_host_and_authority_decide_nothing() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).endpoints(endpoints()).unwrap();
    let app = routes().layer(auth);
    for uri in ["http://evil/projects", "/projects"] {
        let request =
            Request::get(uri).header("host", "/health").header("x-api-key", world.own.expose_secret());
        let answer = send(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.verdict(), "200:h", "C1-22: {uri}");
        let request = Request::get(uri).header("host", "health").body(Body::empty()).unwrap();
        assert_eq!(send(&app, request).await.verdict(), "401/missing_api_key", "C1-22: {uri}");
    }
}
