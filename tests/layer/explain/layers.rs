//! Explanations of whole layers: the route that the router matched, and the declarations for it.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Method, Request};
use serde_json::json;
use tower_api_key::client_addr::{PeerAddr, Proto};
use tower_api_key::explain::{Check, Explainer, Question};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::KeyStore as _;
use tower_api_key::{ApiKey, ApiKeyAuth, AuthError, AuthErrorKind, Endpoints};

use test_kit::{World, bearer};

const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::HEAD, Method::DELETE];
/// The route in the router, and a path that it matches.
const PLACES: [(&str, &str); 8] = [
    ("/users/{id}", "/users/7"),
    ("/keys/{id}/rotate", "/keys/7/rotate"),
    ("/status", "/status"),
    ("/health", "/health"),
    ("/prices", "/prices"),
    // Not declared, but a declared endpoint might mean it.
    ("/v1/users/{id}", "/v1/users/7"),
    ("/files/{*rest}", "/files/7"),
    ("/else", "/else"),
];
const SCHEMES: [&str; 3] = ["bearer", "api-key-header", "json-body"];

fn endpoints() -> Endpoints {
    Endpoints::new()
        .read(Method::POST, "/status")
        .write(Method::GET, "/users/{user}")
        .project_optional(Method::GET, "/users/{user}")
        .manage(Method::POST, "/keys/{id}/rotate")
        .write(Method::GET, "/files/{name}/run")
        .optional(Method::GET, "/prices")
        .optional(Method::POST, "/prices")
        .public(Method::GET, "/health")
}

struct Visit<'v> {
    method: &'v Method,
    path: &'v str,
    scheme: &'v str,
    project: Option<&'v str>,
    address: Option<&'v str>,
    in_clear: bool,
}

fn request(visit: &Visit<'_>, key: &ApiKey) -> Request<Body> {
    let mut request = Request::builder().method(visit.method.clone()).uri(visit.path);
    let mut body = Body::empty();
    match visit.scheme {
        "bearer" => request = request.header("authorization", bearer(key)),
        "api-key-header" => request = request.header("x-api-key", key.expose_secret()),
        _ => {
            request = request.header("content-type", "application/json");
            let fields =
                json!({"apiKey": key.expose_secret(), "userId": "u_own", "projectId": visit.project});
            body = fields.to_string().into();
        }
    }
    if let Some(project) = visit.project.filter(|_| visit.scheme != "json-body") {
        request = request.header("x-project-id", project);
    }
    let mut request = request.body(body).unwrap();
    if let Some(address) = visit.address {
        request.extensions_mut().insert(PeerAddr(address.parse::<IpAddr>().unwrap()));
    }
    if !visit.in_clear {
        request.extensions_mut().insert(Proto::Https);
    }
    request
}

async fn answer(app: &Router, visit: &Visit<'_>, key: &ApiKey) -> Option<AuthErrorKind> {
    let response = tower::ServiceExt::oneshot(app.clone(), request(visit, key)).await.unwrap();
    response.extensions().get::<AuthError>().map(AuthError::kind)
}

fn question(visit: &Visit<'_>) -> Question {
    let mut question = Question::new(visit.method.clone()).scheme(visit.scheme);
    if visit.scheme == "json-body" {
        question = question.user("u_own");
    }
    if let Some(project) = visit.project {
        question = question.project(project);
    }
    if let Some(address) = visit.address {
        question = question.address(address.parse::<IpAddr>().unwrap());
    }
    if visit.in_clear { question.in_clear() } else { question }
}

#[tokio::test]
async fn c4_c5_c6_an_explanation_agrees_with_its_layer_at_every_endpoint() {
    let world = World::new().await;
    let restricted =
        |text: &'static str| world.key("u_own", move |key| key.restrictions = text.parse().unwrap());
    let keys = [
        &world.own,
        &world.full,
        &world.ro,
        &world.p1,
        &world.revoked,
        &world.stray,
        &restricted(r#"{"ip":{"allow":["192.0.2.0/24"]}}"#).await,
        &restricted(r#"{"endpoints":{"allow":["GET /users/{any}","POST /status"]}}"#).await,
    ];
    let (mut seen, mut asked) = (std::collections::BTreeMap::new(), 0);
    for (https, by_path) in [(false, false), (true, false), (false, true)] {
        let endpoints = if by_path { endpoints().by_path() } else { endpoints() };
        let auth =
            ApiKeyAuth::new(world.store.clone(), Bearer::default().project_header("X-Project-ID").unwrap())
                .or(ApiKeyHeader::default())
                .or(JsonBody::default())
                .endpoints(endpoints)
                .unwrap();
        let auth = if https { auth.require_https() } else { auth };
        let explainer: Explainer = auth.explainer();
        let mut app = Router::new();
        for (route, _) in PLACES {
            app = app.route(route, any(async || "in"));
        }
        let inside = app.clone().layer(auth.clone());
        // A layer around the router runs before a route is matched.
        let around = Router::new().fallback_service(tower::Layer::layer(&auth, app));
        for (key, (route, path), scheme) in keys
            .iter()
            .flat_map(|key| PLACES.map(|place| SCHEMES.map(|scheme| (*key, place, scheme))))
            .flatten()
        {
            let record = world.store.find(&key.digest()).await.unwrap().unwrap();
            for (method, project) in METHODS.iter().flat_map(|method| {
                [None, Some("p1"), Some("p3"), Some("no id")].map(|project| (method, project))
            }) {
                // Bodies are read only for some methods.
                if scheme == "json-body" && *method != Method::POST {
                    continue;
                }
                for (address, in_clear) in
                    [(None, false), (Some("192.0.2.7"), true), (Some("198.51.100.1"), false)]
                {
                    let visit = Visit { method, path, scheme, project, address, in_clear };
                    let explanation =
                        explainer.explain(&record, &question(&visit).route(route)).await.unwrap();
                    let got = answer(&inside, &visit, key).await;
                    let at = format!(
                        "{method} {path} by {scheme} with {project:?} from {address:?}\n{explanation}"
                    );
                    assert_eq!(explanation.error().map(AuthError::kind), got, "{at}");
                    *seen.entry(format!("{got:?}")).or_insert(0) += 1;
                    asked += 1;
                    if !by_path {
                        let unrouted =
                            explainer.explain(&record, &question(&visit).path(path)).await.unwrap();
                        let got = answer(&around, &visit, key).await;
                        assert_eq!(unrouted.error().map(AuthError::kind), got, "around the router: {at}");
                    }
                }
            }
        }
    }
    assert!(asked > 5_000, "{asked}");
    assert!(seen.len() >= 10, "{seen:?}");
}

#[tokio::test]
async fn c4_paths_count_only_where_the_layer_compares_them() {
    let world = World::new().await;
    let record = world.store.find(&world.ro.digest()).await.unwrap().unwrap();
    for (by_path, accepted) in [(true, true), (false, false)] {
        let endpoints = if by_path { endpoints().by_path() } else { endpoints() };
        let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints).unwrap();
        let question = Question::new(Method::POST).path("/status");
        let explanation = auth.explainer().explain(&record, &question).await.unwrap();
        assert_eq!(explanation.is_accepted(), accepted, "{explanation}");
        let odd = Question::new(Method::POST).path("/status/");
        assert!(
            !auth.explainer().explain(&record, &odd).await.unwrap().is_accepted(),
            "by_path: {by_path:?}, accepted: {accepted:?}"
        );
    }
}

#[tokio::test]
async fn a_public_endpoint_looks_at_no_key_and_an_unknown_scheme_is_named() {
    let world = World::new().await;
    let record = world.store.find(&world.revoked.digest()).await.unwrap().unwrap();
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(JsonBody::default())
        .require_https()
        .endpoints(endpoints())
        .unwrap();
    let explainer = auth.explainer();
    let public =
        explainer.explain(&record, &Question::new(Method::GET).route("/health").in_clear()).await.unwrap();
    assert!(public.is_public() && public.is_accepted() && public.decided_by().is_none());
    assert!(public.to_string().contains("the endpoint is public"), "{public}");

    let error = explainer.explain(&record, &Question::new(Method::GET).scheme("cookie")).await.unwrap_err();
    assert_eq!(error.to_string(), "the layer has no such scheme: name one of bearer, json-body");

    let in_clear = explainer.explain(&record, &Question::new(Method::GET).in_clear()).await.unwrap();
    assert_eq!(in_clear.decided_by().unwrap().check(), Check::Https);
    assert_eq!(in_clear.error().unwrap().kind(), AuthErrorKind::InsecureTransport);
}

/// Where no router has looked at a request and the layer compares paths, so do the restrictions of a key, and so does what
/// is said about it.
#[tokio::test]
async fn c17_g_an_explanation_compares_paths_where_its_layer_does() {
    let world = World::new().await;
    let restricted = world
        .key("u_own", |key| {
            key.restrictions =
                r#"{"endpoints":{"allow":["GET /users/{any}","POST /status","GET /else"]}}"#.parse().unwrap();
        })
        .await;
    let mut seen = std::collections::BTreeSet::new();
    for (by_path, key) in [true, false].into_iter().flat_map(|by| [(by, &restricted), (by, &world.ro)]) {
        let endpoints = if by_path { endpoints().by_path() } else { endpoints() };
        let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default()).endpoints(endpoints).unwrap();
        let app = tower::Layer::layer(&auth, Router::new().fallback(async || "in"));
        let record = world.store.find(&key.digest()).await.unwrap().unwrap();
        for path in ["/users/7", "/users/7/", "/status", "/%73tatus", "/health", "/prices", "/else", "/no"] {
            for method in &METHODS {
                let visit =
                    Visit { method, path, scheme: "bearer", project: None, address: None, in_clear: false };
                let asked = question(&visit).path(path);
                let explanation = auth.explainer().explain(&record, &asked).await.unwrap();
                let response = tower::ServiceExt::oneshot(app.clone(), request(&visit, key)).await.unwrap();
                let got = response.extensions().get::<AuthError>().map(AuthError::kind);
                let said = explanation.error().map(AuthError::kind);
                assert_eq!(said, got, "{method} {path}, by path: {by_path}\n{explanation}");
                seen.insert(format!("{by_path} {got:?}"));
            }
        }
    }
    // Both verdicts of both are among them.
    for expected in ["true None", "true Some(Restricted)", "true Some(ReadOnly)", "false Some(Restricted)"] {
        assert!(seen.contains(expected), "{seen:?}");
    }
}
