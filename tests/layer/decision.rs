//! Requests through each scheme, end to end.

use axum::Router;
use axum::routing::any;
use http::Method;
use serde_json::json;
use test_kit::{World, bearer, echo, get, post_json, project, send, user};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, HeaderScheme, JsonBody};
use tower_api_key::store::Accounts as _;
use tower_api_key::{ApiKeyAuth, AuthError, AuthErrorKind, Endpoints, KeyLevel, Timestamp};

fn endpoints() -> Endpoints {
    Endpoints::new()
        .project_optional(Method::GET, "/projects")
        .read(Method::POST, "/status")
        .public(Method::GET, "/health")
}

fn routes() -> Router {
    ["/projects", "/status", "/upload", "/health", "/sites"]
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, any(echo)))
        .fallback(echo)
}

#[tokio::test]
async fn one_principal_through_three_schemes() {
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default())
        .endpoints(endpoints())
        .unwrap();
    let app = routes().layer(auth);
    let key = world.own.expose_secret();

    let answer = send(&app, get("/sites", &[("authorization", &bearer(&world.own))])).await;
    assert_eq!(answer.verdict(), "200:h");
    assert_eq!(answer.json()["principal"]["scheme"], "bearer");
    assert_eq!(answer.header("cache-control"), ["private, no-store"]);
    assert_eq!(answer.header("vary"), ["authorization, x-api-key, x-project-id"]);

    let answer = send(&app, get("/sites", &[("x-api-key", key), ("x-project-id", "p1")])).await;
    assert_eq!(answer.verdict(), "200:h");
    assert_eq!(answer.json()["principal"]["project"], "p1");

    let body = json!({"apiKey": key, "userId": "u_own", "projectId": "p1", "more": [1, 2]});
    let answer = send(&app, post_json("/upload", &body)).await;
    assert_eq!(answer.verdict(), "200:h");
    assert_eq!(answer.json()["body"], body.to_string());

    let answer = send(&app, get("/sites", &[])).await;
    assert_eq!(answer.verdict(), "401/missing_api_key");
    assert_eq!(answer.json()["message"], "Missing or invalid API key");
    assert_eq!(answer.header("www-authenticate").len(), 3);
    assert_eq!(answer.header("www-authenticate")[0], r#"Bearer realm="api""#);
    assert_eq!(send(&app, get("/health", &[])).await.verdict(), "200:h");
    assert_eq!(send(&app, get("/nowhere", &[])).await.verdict(), "401/missing_api_key");
}

/// `None` as a scheme finds nothing and has no challenge; `Some` and a box act as their content. Neither schemes nor
/// renderers need `Clone`.
#[tokio::test]
async fn a_scheme_may_be_optional_or_boxed() {
    let world = World::new().await;
    let boxed: Box<dyn HeaderScheme> = Box::new(ApiKeyHeader::default());
    let auth = |bearer: Option<Bearer>, body: Option<JsonBody>, boxed: Option<Box<dyn HeaderScheme>>| {
        let auth = ApiKeyAuth::new(world.store.clone(), bearer).or(body).or(boxed);
        let kept = auth.clone(); // so that the builder cannot move the schemes out of it
        let auth = auth.endpoints(endpoints()).unwrap();
        drop(kept);
        auth
    };
    let key = world.own.expose_secret();
    let body = json!({"apiKey": key, "userId": "u_own", "projectId": "p1"});
    let requests = || {
        [
            get("/sites", &[("authorization", &bearer(&world.own))]),
            post_json("/upload", &body),
            get("/sites", &[("x-api-key", key), ("x-project-id", "p1")]),
        ]
    };
    let none = "401/missing_api_key";
    for (app, verdicts, challenges) in [
        (auth(Some(Bearer::default()), Some(JsonBody::default()), Some(boxed)), ["200:h"; 3], 3),
        (auth(Some(Bearer::default()), None, None), ["200:h", none, none], 1),
        (auth(None, Some(JsonBody::default()), None), [none, "200:h", none], 1),
        (auth(None, None, None), [none; 3], 0),
    ] {
        assert_eq!(app.description().schemes().len(), challenges);
        let app = routes().layer(app);
        for (request, verdict) in requests().into_iter().zip(verdicts) {
            assert_eq!(send(&app, request).await.verdict(), verdict);
        }
        let answer = send(&app, get("/sites", &[])).await;
        assert_eq!((answer.verdict().as_str(), answer.header("www-authenticate").len()), (none, challenges));
    }
}

/// If two things are wrong, the error is about the one that is checked first, and says nothing about the other.
#[tokio::test]
async fn the_first_failing_question_answers() {
    let world = World::new().await;
    let both = world
        .key("u_own", |key| {
            key.revoked_at = Some(Timestamp::from_secs(2));
            key.expires_at = Some(Timestamp::from_secs(2));
        })
        .await;
    // A key of a person who may only read, for their own project.
    let ro_p1 = world.key("u_ro", |key| key.level = KeyLevel::Project(project("p1"))).await;
    let app = routes().layer(ApiKeyAuth::new(world.store.clone(), JsonBody::default()));
    let kind = async |key: &str, user: Option<&str>, project: Option<&str>| {
        let body = json!({"apiKey": key, "userId": user, "projectId": project});
        let answer = send(&app, post_json("/upload", &body)).await;
        answer.extensions.get::<AuthError>().map(AuthError::kind)
    };
    let (own, ro, p1) = (world.own.expose_secret(), world.ro.expose_secret(), world.p1.expose_secret());
    let (both, ro_p1) = (both.expose_secret(), ro_p1.expose_secret());
    for (key, user, project, expected) in [
        // The key is checked before the user, and the user before the project.
        ("sk_live_x", Some("u_b"), Some("?"), AuthErrorKind::MalformedKey),
        (both, Some("u_b"), Some("?"), AuthErrorKind::RevokedKey),
        (world.revoked.expose_secret(), Some("u_b"), Some("?"), AuthErrorKind::RevokedKey),
        (world.expired.expose_secret(), Some("u_b"), Some("?"), AuthErrorKind::ExpiredKey),
        (own, Some("u_b"), Some("?"), AuthErrorKind::UserMismatch),
        (own, None, Some("?"), AuthErrorKind::UserMismatch),
        (own, Some("u_b"), None, AuthErrorKind::UserMismatch),
        (p1, Some("u_b"), Some("p2"), AuthErrorKind::UserMismatch),
        (p1, Some("u_b"), Some("?"), AuthErrorKind::UserMismatch),
        // The project is checked before the rights.
        (ro, Some("u_ro"), Some("?"), AuthErrorKind::InvalidProject),
        (ro, Some("u_ro"), None, AuthErrorKind::ProjectRequired),
        (ro_p1, Some("u_ro"), Some("p2"), AuthErrorKind::ProjectMismatch),
        (ro, Some("u_ro"), Some("p2"), AuthErrorKind::Forbidden),
        (ro, Some("u_ro"), Some("p1"), AuthErrorKind::ReadOnly),
    ] {
        assert_eq!(kind(key, user, project).await, Some(expected), "{user:?} and {project:?}");
    }
    // A suspended account is reported before wrong claims.
    world.store.suspend_account("A", true).await.unwrap();
    for (user, project) in [("u_own", "p1"), ("u_b", "p1"), ("u_own", "?"), ("u_b", "?")] {
        let kind = kind(own, Some(user), Some(project)).await;
        assert_eq!(kind, Some(AuthErrorKind::OwnerDisabled), "{user} and {project}");
    }
    // So is an owner whom no account knows any more.
    world.store.suspend_account("A", false).await.unwrap();
    world.store.remove_member("A", &user("u_ro"), Timestamp::from_secs(3)).await.unwrap();
    let gone = kind(ro, Some("u_own"), Some("?")).await;
    assert_eq!(gone, Some(AuthErrorKind::RevokedKey));
}
