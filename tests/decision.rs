//! The way of a request, end to end, through each scheme.

mod common;

use axum::Router;
use axum::routing::any;
use common::{World, bearer, echo, get, post_json, send};
use http::Method;
use serde_json::json;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{ApiKeyAuth, Endpoints};

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
