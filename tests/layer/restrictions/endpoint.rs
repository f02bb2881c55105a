//! C4-10, C4-11: restrictions by endpoint.

use tower_api_key::restriction::Restrictions;

use super::{Around, Sites, Visit, restricted};
use test_kit::World;

const USERS: &str = r#"{"endpoints":{"allow":["GET /v1/users/{id}"]}}"#;

#[tokio::test]
async fn c4_10_the_route_counts_and_not_the_text_of_the_path() {
    let world = World::new().await;
    let key = restricted(&world, USERS).await;
    let sites = Sites::new(&world);
    for (method, path) in [
        ("GET", "/v1/users/x"),
        ("GET", "/v1/users/.."),
        ("GET", "/v1/users/a%2fb"),
        ("GET", "/v1/users/x?y=/v1/charges"),
        ("HEAD", "/v1/users/x"),
    ] {
        sites.lets_in("C4-10", &Visit::new(method, path), &key).await;
    }
    for (method, path) in [
        ("GET", "/v1/users/x/keys"),
        ("GET", "/v1/users/x/"),
        ("GET", "/v1/users/"),
        ("GET", "/v1//users/x"),
        ("GET", "/V1/users/x"),
        ("GET", "/v1/charges"),
        ("GET", "/v1/charges/../users/x"),
        ("GET", "/nowhere"),
        ("POST", "/v1/users/x"),
        ("DELETE", "/v1/users/x"),
        ("PUT", "/v1/users/x"),
    ] {
        sites.restricts("C4-10", &Visit::new(method, path), &key, "endpoint").await;
    }
    let overridden = Visit::new("POST", "/v1/users/x").header("x-http-method-override", "GET");
    sites.restricts("C4-10", &overridden, &key, "endpoint").await;
    // The same route with another name for its parameter.
    let renamed = restricted(&world, r#"{"endpoints":{"allow":["GET /v1/users/{user}"]}}"#).await;
    sites.lets_in("C4-10", &Visit::new("GET", "/v1/users/x"), &renamed).await;
    // Allowing HEAD does not allow GET.
    let head = restricted(&world, r#"{"endpoints":{"allow":["HEAD /v1/users/{id}"]}}"#).await;
    sites.lets_in("C4-10", &Visit::new("HEAD", "/v1/users/x"), &head).await;
    sites.restricts("C4-10", &Visit::new("GET", "/v1/users/x"), &head, "endpoint").await;
}

#[tokio::test]
async fn c4_10_without_a_router_paths_count_only_with_by_path() {
    let world = World::new().await;
    let key = restricted(&world, USERS).await;
    let any = restricted(&world, r#"{"endpoints":{"allow":["GET /{*rest}","GET /"]}}"#).await;
    let sites = Sites::around(&world, Around::Plain);
    for path in ["/v1/users/x", "/"] {
        sites.restricts("C4-10 plain", &Visit::new("GET", path), &key, "endpoint").await;
        sites.restricts("C4-10 plain", &Visit::new("GET", path), &any, "endpoint").await;
        sites.lets_in("C4-10 plain", &Visit::new("GET", path), &world.own).await;
    }
    let sites = Sites::around(&world, Around::PlainByPath);
    for (method, path) in [("GET", "/v1/users/x"), ("HEAD", "/v1/users/x")] {
        sites.lets_in("C4-10 by path", &Visit::new(method, path), &key).await;
    }
    // A path with two spellings may mean another endpoint to the inner router.
    for (method, path) in [
        ("GET", "/v1/users/.."),
        ("GET", "/v1/users/a%2fb"),
        ("GET", "/v1/users/%78"),
        ("GET", "/v1/users/x;y"),
        ("GET", "/v1/users/x/"),
        ("GET", "/v1/users//x"),
        ("GET", "/v1/users/x/keys"),
        ("POST", "/v1/users/x"),
    ] {
        sites.restricts("C4-10 by path", &Visit::new(method, path), &key, "endpoint").await;
    }
}

#[test]
fn c4_11_a_regular_expression_is_not_an_endpoint() {
    for endpoint in [
        "GET /v1/.*",
        "GET /v1/users/[0-9]+",
        "GET /v1/users/*",
        "GET *",
        "* /v1/users/{id}",
        "",
        " ",
        "GET",
        "GET ",
        "/v1/users/{id}",
        "GET  /v1/users/{id}",
        "get /v1/users/{id}",
        "GET,POST /v1/users/{id}",
        "GET v1/users/{id}",
        "GET /v1/users/{id",
        "GET /v1/(a|b)",
        "GET /v1/users$",
        "^GET /v1/users",
    ] {
        let text = serde_json::json!({"endpoints": {"allow": [endpoint]}}).to_string();
        let error = text.parse::<Restrictions>().expect_err(endpoint);
        assert!(!error.reason().is_empty(), "{endpoint:?}");
        assert_eq!(error.entry(), endpoint, "{endpoint:?}");
    }
    let twice = r#"{"endpoints":{"allow":["GET /a","GET /a"]}}"#.parse::<Restrictions>();
    assert!(twice.unwrap_err().reason().contains("twice"));
}
