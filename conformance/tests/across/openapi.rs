//! The document and the layer agree: every response that occurs is in the document, in the documented form.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::{MethodRouter, any, get};
use http::{Method, Request};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use test_kit::{Answer, Call, Hook, Hooked, World, bearer, echo, post_json, project, request, send, user};
use tower_api_key::client_addr::{ClientAddr, PeerAddr};
use tower_api_key::limit::{KeyThrottle, Limit};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::StoreError;
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    ApiKeyAuth, ApiKeys, Deprecation, Endpoints, Grace, Keyring, NewKey, Timestamp, Verifier,
};
use tower_api_key_manage as manage;
use tower_api_key_manage::{Leaks, PublicKey};
use tower_api_key_openapi::{self as openapi, AuthDoc};
use utoipa::Modify as _;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{OpenApi, OpenApiBuilder, Paths, Required, Response};

const AT: &str = "/v1/api-keys";
const SELF_REVOKE: &str = "/v1/api-keys/self-revoke";
const LEAKS: &str = "/leaks";

/// Fails when told to.
#[derive(Clone, Default)]
struct Down(Arc<AtomicBool>);

#[async_trait]
impl Hook for Down {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        if self.0.load(Ordering::SeqCst) { Err(StoreError::Overloaded) } else { Ok(()) }
    }
}

type Store = Hooked<Down>;

fn endpoints() -> Endpoints {
    let endpoints = Endpoints::new()
        .public(Method::GET, "/health")
        .project_optional(Method::GET, "/validate")
        .project_optional(Method::GET, "/projects")
        .read(Method::POST, "/status")
        .public(Method::POST, SELF_REVOKE)
        .public(Method::POST, LEAKS)
        .public_subtree(Method::GET, "/files/{*rest}");
    manage::declare(endpoints, AT)
}

fn deprecation() -> Deprecation {
    let since = Deprecation::new(Timestamp::from_secs(1_767_225_600)).unwrap();
    since.sunset(Timestamp::from_secs(4_102_444_800)).unwrap().link("https://example.com/migration").unwrap()
}

fn layer(store: Store) -> ApiKeyAuth<impl tower_api_key::scheme::Scheme<Body> + Clone> {
    ApiKeyAuth::new(store, Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default().limit(NonZero::new(4096).unwrap()).deprecated(deprecation()))
        .endpoints(endpoints())
        .unwrap()
}

fn operations(paths: &[(&str, &[HttpMethod])]) -> OpenApi {
    let mut all = Paths::new();
    for (path, methods) in paths {
        for method in *methods {
            let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let text = Object::with_type(Type::String);
            let parameter = |name| {
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(text.clone()))
            };
            let operation = OperationBuilder::new().response("200", Response::new("What was seen."));
            let operation =
                names.fold(operation, |operation, name| operation.parameter(parameter(name))).build();
            all.add_path_operation(*path, vec![method.clone()], operation);
        }
    }
    OpenApiBuilder::new().paths(all).build()
}

fn document(auth: &AuthDoc) -> Value {
    use HttpMethod::{Get, Post};
    let own: [(&str, &[HttpMethod]); 4] =
        [("/health", &[Get]), ("/status", &[Get, Post]), ("/sites", &[Get, Post]), ("/files/{rest}", &[Get])];
    let mut document = operations(&own);
    document.info.title = "A test".to_owned();
    document.info.version = "1".to_owned();
    document.merge(openapi::api_keys(AT));
    document.merge(openapi::explain(AT));
    document.merge(openapi::leaks(LEAKS));
    document.merge(openapi::self_revoke(SELF_REVOKE));
    document.merge(openapi::validate("/validate"));
    document.merge(openapi::projects("/projects"));
    auth.modify(&mut document);
    let document = serde_json::to_value(&document).unwrap();
    // To check the document with an external validator:
    // `OPENAPI_OUT=file cargo test -p conformance --test across openapi`.
    if let Some(file) = std::env::var_os("OPENAPI_OUT") {
        std::fs::write(file, document.to_string()).unwrap();
    }
    document
}

fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(name) => {
            let found = document.pointer(name.strip_prefix('#').unwrap());
            resolve(document, found.unwrap_or_else(|| panic!("{name} is not there")))
        }
        None => value,
    }
}

/// The part of JSON Schema that is used here; unknown keywords fail.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(document, schema);
    let wrong = |why: &str| Err(format!("{value} is not {why} of {schema}"));
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    for (word, says) in schema.as_object().unwrap() {
        let branches = || says.as_array().unwrap().iter().map(|schema| fits(document, schema, value));
        match &**word {
            "type" => {
                let kinds = says.as_array().cloned().unwrap_or_else(|| vec![says.clone()]);
                if !kinds.iter().any(|kind| is(kind.as_str().unwrap())) {
                    return wrong("the type");
                }
            }
            "enum" if !says.as_array().unwrap().contains(value) => return wrong("the enum"),
            "required" => {
                for name in says.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        return wrong(&format!("{name}"));
                    }
                }
            }
            "properties" => {
                for (name, schema) in says.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |value| fits(document, schema, value))?;
                }
            }
            "additionalProperties" => {
                assert_eq!(*says, json!(false));
                let known = schema["properties"].as_object().unwrap();
                if value
                    .as_object()
                    .is_some_and(|members| members.keys().any(|name| !known.contains_key(name)))
                {
                    return wrong("without other members");
                }
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| fits(document, says, item))?;
            }
            "allOf" => branches().collect::<Result<(), _>>()?,
            "anyOf" => {
                let all: Vec<_> = branches().collect();
                if all.iter().all(Result::is_err) {
                    return Err(format!("all: {all:?}"));
                }
            }
            "enum" | "description" | "format" | "examples" | "writeOnly" | "default" | "minimum"
            | "maximum" => {}
            other => panic!("{other} is not known here"),
        }
    }
    Ok(())
}

/// Headers that clients act on: if a response has one, it must be documented.
const HEADERS: [&str; 7] =
    ["www-authenticate", "retry-after", "ratelimit", "ratelimit-policy", "deprecation", "sunset", "link"];

/// Checks that a response is documented for the operation, and returns its status.
fn is_documented(document: &Value, path: &str, method: &str, answer: &Answer) -> String {
    let at = format!("{method} {path}: {}", answer.verdict());
    let operation = &document["paths"][path][method.to_ascii_lowercase()];
    assert!(operation.is_object(), "{at}: no such operation");
    let status = answer.status.as_str();
    let response = resolve(document, &operation["responses"][status]);
    assert!(response.is_object(), "{at} is not documented");
    let documented: BTreeSet<String> = response["headers"]
        .as_object()
        .map(|headers| headers.keys().map(|name| name.to_ascii_lowercase()).collect())
        .unwrap_or_default();
    for name in HEADERS {
        let there = answer.headers.contains_key(name);
        assert!(!there || documented.contains(name), "{at} has a {name} that is not documented");
    }
    if let Some(content) = response["content"].as_object() {
        let kind = answer.header("content-type")[0];
        let schema = &content.get(kind).unwrap_or_else(|| panic!("{at}: {kind}"))["schema"];
        fits(document, schema, &answer.json()).unwrap_or_else(|why| panic!("{at}: {why}"));
    }
    status.to_owned()
}

struct Driven {
    app: Router,
    document: Value,
    seen: BTreeSet<(String, String, String)>,
    /// The scanner's webhook.
    signer: SigningKey,
}

impl Driven {
    async fn send(&mut self, path: &str, request: Request<Body>, verdict: &str) -> Answer {
        let method = request.method().to_string();
        let answer = send(&self.app, request).await;
        assert_eq!(answer.verdict(), verdict, "{method} {path}");
        let status = is_documented(&self.document, path, &method, &answer);
        self.seen.insert((path.to_owned(), method, status));
        answer
    }
}

fn self_revoke(world: &World, store: &Store) -> MethodRouter {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let throttle = KeyThrottle::default().self_revokes("1/min".parse().unwrap());
    let verifier = ApiKeys::new(store.clone()).clock(clock).verifier().throttle(throttle);
    manage::self_revoke(Keyring::new(world.store.clone()), verifier, ClientAddr::peer())
}

async fn driven() -> (World, Store, Driven) {
    let world = World::new().await;
    let store = Store::new(&world.store, Down::default());
    let auth = layer(store.clone());
    let document = document(&AuthDoc::of(&auth.description()));
    let keyring = Keyring::new(world.store.clone());
    let signer = SigningKey::generate();
    let public = signer.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let public = PublicKey::from_pem(&public).unwrap();
    let scanner = move |identifier: &str| (identifier == "k1").then(|| public.clone());
    let leaks =
        Leaks::new(keyring.clone(), Verifier::new(store.clone()), scanner).limit(NonZero::new(4096).unwrap());
    let leaks = leaks.failures("1/d".parse().unwrap());
    let keys = manage::api_keys(keyring.clone()).merge(manage::explain(keyring, auth.explainer()));
    let app = Router::new()
        .route(SELF_REVOKE, self_revoke(&world, &store))
        .route(LEAKS, leaks.route())
        .nest(AT, keys)
        .route("/validate", manage::validate())
        .route("/projects", manage::projects(world.store.clone()))
        .route("/sites", any(echo))
        .route("/status", any(echo))
        .route("/health", get(echo))
        .layer(auth);
    (world, store, Driven { app, document, seen: BTreeSet::new(), signer })
}

#[tokio::test]
async fn every_answer_of_the_layer_is_in_the_document() {
    let (world, store, mut driven) = driven().await;
    let own = bearer(&world.own);
    let as_own = |method: &str, path: &str| request(method, path, &[("authorization", &own)], "");
    let in_body = |key: &str, more: Value| {
        let mut body = json!({"apiKey": key, "userId": "u_own", "projectId": "p1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post_json("/sites", body)
    };
    let own_key = world.own.expose_secret();
    driven.send("/health", test_kit::get("/health", &[]), "200:h").await;
    driven.send("/sites", as_own("GET", "/sites"), "200:h").await;
    driven.send("/sites", in_body(own_key, json!({})), "200:h").await;
    // 400
    driven.send("/sites", test_kit::get("/sites", &[("x-api-key", own_key)]), "400/project_required").await;
    let both = [("authorization", &*own), ("x-api-key", own_key)];
    driven.send("/sites", test_kit::get("/sites", &both), "400/conflicting_credentials").await;
    let bad_project = [("x-api-key", own_key), ("x-project-id", "p 1")];
    driven.send("/sites", test_kit::get("/sites", &bad_project), "400/invalid_project").await;
    driven.send("/sites", post_json("/sites", "{"), "400/malformed_body").await;
    // 401
    let ended = [&world.revoked, &world.expired, &world.stray];
    for key in ended {
        let headers = [("authorization", &*bearer(key))];
        driven.send("/sites", test_kit::get("/sites", &headers), "401/invalid_api_key").await;
    }
    driven.send("/sites", test_kit::get("/sites", &[]), "401/missing_api_key").await;
    driven.send("/sites", in_body("garbage", json!({})), "401/invalid_api_key").await;
    driven.send("/sites", in_body(own_key, json!({"userId": "u_b"})), "401/invalid_user").await;
    // 403
    let at_p2 = [("x-api-key", world.p1.expose_secret()), ("x-project-id", "p2")];
    driven.send("/sites", test_kit::get("/sites", &at_p2), "403/project_mismatch").await;
    let foreign = [("x-api-key", own_key), ("x-project-id", "q1")];
    driven.send("/sites", test_kit::get("/sites", &foreign), "403/forbidden").await;
    let headers = [("x-api-key", world.ro.expose_secret()), ("x-project-id", "p1")];
    driven.send("/sites", request("POST", "/sites", &headers, ""), "403/read_only").await;
    driven.send("/status", request("POST", "/status", &headers, ""), "200:h").await;
    let elsewhere = json!({"ip": {"allow": ["192.0.2.1"]}}).to_string().parse().unwrap();
    let restricted = world.key("u_own", |key| key.restrictions = elsewhere).await;
    let headers = [("authorization", &*bearer(&restricted))];
    driven.send("/sites", test_kit::get("/sites", &headers), "403/restricted").await;
    // Bodies
    let long = in_body(own_key, json!({"more": "x".repeat(5000)}));
    driven.send("/sites", long, "413/body_too_large").await;
    let latin = request("POST", "/sites", &[("content-type", "application/json; charset=latin1")], "{}");
    driven.send("/sites", latin, "415/unsupported_media_type").await;
    // 429
    let limit: Limit = "1/min".parse().unwrap();
    let limited = world.key("u_own", |key| key.limits = Some(limit.into())).await;
    let headers = [("authorization", &*bearer(&limited))];
    let answer = driven.send("/sites", test_kit::get("/sites", &headers), "200:h").await;
    assert!(!answer.header("ratelimit").is_empty());
    let answer = driven.send("/sites", test_kit::get("/sites", &headers), "429/rate_limited").await;
    assert!(!answer.header("retry-after").is_empty());
    // A key in its grace period says when it ends, whatever its scheme.
    let keyring = Keyring::new(world.store.clone());
    let old = keyring.issue(NewKey::user_level(user("u_own"), "a")).await.unwrap();
    drop(keyring.rotate(old.id(), Grace::For(Duration::from_secs(600))).await.unwrap());
    let headers = [("authorization", &*bearer(old.key()))];
    let answer = driven.send("/sites", test_kit::get("/sites", &headers), "200:h").await;
    assert!(!answer.header("deprecation").is_empty());
    // 503
    store.hook.0.store(true, Ordering::SeqCst);
    driven.send("/sites", as_own("GET", "/sites"), "503/auth_unavailable").await;
    store.hook.0.store(false, Ordering::SeqCst);

    // Nothing is documented that never occurs: all responses were seen, except for a body that comes too slowly.
    for (path, method, expected) in
        [("/sites", "GET", "200 400 401 403 429 503"), ("/sites", "POST", "200 400 401 403 413 415")]
    {
        let documented = driven.document["paths"][path][method.to_ascii_lowercase()]["responses"].as_object();
        let documented: BTreeSet<&str> = documented.unwrap().keys().map(String::as_str).collect();
        let seen = driven.seen.iter().filter(|(p, m, _)| p == path && m == method);
        let seen: BTreeSet<&str> = seen.map(|(_, _, status)| &**status).collect();
        assert_eq!(seen, expected.split(' ').collect(), "{path:?}, {method:?}");
        let unseen: Vec<&&str> = documented.difference(&seen).collect();
        assert!(unseen.iter().all(|status| ["408", "429", "503"].contains(status)), "{unseen:?}");
    }
}

#[tokio::test]
async fn every_answer_of_the_routes_of_manage_is_in_the_document() {
    let (world, _, mut driven) = driven().await;
    let one = format!("{AT}/{{id}}");
    let rotate = format!("{AT}/{{id}}/rotate");
    let usage = format!("{AT}/{{id}}/usage");
    let own = bearer(&world.own);
    let call = |method: &str, path: &str| request(method, path, &[("authorization", &own)], "");
    let create = |body: &str| {
        let headers = [("authorization", &*own), ("content-type", "application/json")];
        request("POST", AT, &headers, body.to_owned())
    };
    driven.send(AT, call("GET", &format!("{AT}?limit=1")), "200/-").await;
    driven.send(AT, call("GET", &format!("{AT}?limit=0")), "400/invalid_query").await;
    let p1 = request("GET", AT, &[("authorization", &bearer(&world.p1))], "");
    driven.send(AT, p1, "403/forbidden").await;
    let body = json!({"name": "CI", "level": "PROJECT", "project_id": "p1", "expires_at": "2100-01-01T00:00:00Z",
        "restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}, "environment": null});
    let schema =
        &driven.document["paths"][AT]["post"]["requestBody"]["content"]["application/json"]["schema"];
    // A key in the body is not possible here, because unknown members are refused.
    let own_part = &schema["allOf"].as_array().map_or_else(|| schema.clone(), |parts| parts[0].clone());
    fits(&driven.document, own_part, &body).unwrap();
    let issued = driven.send(AT, create(&body.to_string()), "201/-").await.json();
    for (body, verdict) in [
        ("{", "400/malformed_body"),
        ("{}", "422/invalid_name"),
        (r#"{"name": "a", "owner": "u_b"}"#, "422/unknown_field"),
        (r#"{"name": "a", "restrictions": {"x": 1}}"#, "422/invalid_restrictions"),
        (r#"{"name": "a", "environment": "test"}"#, "403/forbidden"),
    ] {
        driven.send(AT, create(body), verdict).await;
    }
    driven.send(AT, create(&format!(r#"{{"name": "{}"}}"#, "x".repeat(20_000))), "413/body_too_large").await;
    driven.send(AT, call("POST", AT), "415/unsupported_media_type").await;
    let id = issued["data"]["id"].as_str().unwrap();
    let change = |body: &str| {
        let headers = [("authorization", &*own), ("content-type", "application/json")];
        request("PATCH", &format!("{AT}/{id}"), &headers, body.to_owned())
    };
    for (body, verdict) in [
        (r#"{"name": "b", "limits": "12/min"}"#, "200/-"),
        (r#"{"limits": "often"}"#, "422/invalid_limits"),
        (r#"{"level": "USER"}"#, "422/unknown_field"),
        ("[", "400/malformed_body"),
    ] {
        driven.send(&one, change(body), verdict).await;
    }
    driven.send(&usage, call("GET", &format!("{AT}/{id}/usage")), "200/-").await;
    driven.send(&usage, call("GET", &format!("{AT}/key_none/usage")), "404/key_not_found").await;
    let explain = format!("{AT}/{{id}}/explain");
    let ask = |id: &str, body: &str| {
        let headers = [("authorization", &*own), ("content-type", "application/json")];
        request("POST", &format!("{AT}/{id}/explain"), &headers, body.to_owned())
    };
    let question = json!({"method": "POST", "route": "/sites", "scheme": "bearer", "project_id": "p1", "user_id": "u_own",
        "address": "198.51.100.1", "referrer": "https://a.example/", "origin": null, "proto": "https"});
    let schema = &driven.document["paths"][&explain]["post"]["requestBody"]["content"]["application/json"];
    let schema = &schema["schema"];
    let own_part = &schema["allOf"].as_array().map_or_else(|| schema.clone(), |parts| parts[0].clone());
    fits(&driven.document, own_part, &question).unwrap();
    for (body, verdict) in [
        (&*question.to_string(), "200/-"),
        ("{}", "200/-"),
        ("[", "400/malformed_body"),
        (r#"{"address": "home"}"#, "422/invalid_address"),
        (r#"{"key": "a"}"#, "422/unknown_field"),
    ] {
        driven.send(&explain, ask(id, body), verdict).await;
    }
    driven
        .send(&explain, ask(id, &format!(r#"{{"route": "{}"}}"#, "x".repeat(20_000))), "413/body_too_large")
        .await;
    driven.send(&explain, ask("key_none", "{}"), "404/key_not_found").await;
    driven.send(&explain, call("POST", &format!("{AT}/{id}/explain")), "415/unsupported_media_type").await;
    driven.send(&one, call("GET", &format!("{AT}/{id}")), "200/-").await;
    driven.send(&one, call("GET", &format!("{AT}/key_none")), "404/key_not_found").await;
    let with_grace = |body: &str| {
        let headers = [("authorization", &*own), ("content-type", "application/json")];
        request("POST", &format!("{AT}/{id}/rotate"), &headers, body.to_owned())
    };
    let schema =
        &driven.document["paths"][&rotate]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let own_part = &schema["allOf"].as_array().map_or_else(|| schema.clone(), |parts| parts[0].clone());
    for grace in [json!({"grace": "7d"}), json!({"grace": null}), json!({})] {
        fits(&driven.document, own_part, &grace).unwrap();
    }
    fits(&driven.document, own_part, &json!({"grace": 7})).unwrap_err();
    for (body, verdict) in [
        ("not json", "400/malformed_body"),
        (r#"{"grace": "91d"}"#, "422/invalid_grace"),
        (r#"{"name": "a"}"#, "422/unknown_field"),
    ] {
        driven.send(&rotate, with_grace(body), verdict).await;
    }
    let long = with_grace(&format!(r#"{{"grace": "{}"}}"#, "x".repeat(20_000)));
    driven.send(&rotate, long, "413/body_too_large").await;
    let plain = request("POST", &format!("{AT}/{id}/rotate"), &[("authorization", &own)], "7d");
    driven.send(&rotate, plain, "415/unsupported_media_type").await;
    driven.send(&rotate, call("POST", &format!("{AT}/{id}/rotate")), "201/-").await;
    driven.send(&rotate, call("POST", &format!("{AT}/{id}/rotate")), "409/key_ended").await;
    driven.send(&rotate, call("POST", &format!("{AT}/key_none/rotate")), "404/key_not_found").await;
    driven.send(&one, call("DELETE", &format!("{AT}/{id}")), "200/-").await;
    driven.send(&one, call("DELETE", &format!("{AT}/key_none")), "404/key_not_found").await;
    driven.send("/validate", call("GET", "/validate"), "200/-").await;
    driven.send("/projects", call("GET", "/projects"), "200/-").await;
    driven.send("/projects", test_kit::get("/projects", &[]), "401/missing_api_key").await;

    let keyring = Keyring::new(world.store.clone());
    let mut taken = 0;
    while keyring.issue(NewKey::project_level(user("u_own"), "filler", project("p1"))).await.is_ok() {
        taken += 1;
    }
    assert!(taken > 50);
    driven.send(AT, create(r#"{"name": "a"}"#), "409/too_many_keys").await;
}

#[tokio::test]
async fn every_answer_of_self_revoke_is_in_the_document() {
    let (world, store, mut driven) = driven().await;
    let json = [("content-type", "application/json")];
    let key = world.own.expose_secret();
    let by_body = || post_json(SELF_REVOKE, json!({"apiKey": key}));
    let from_somewhere = |mut request: Request<Body>| {
        request.extensions_mut().insert(PeerAddr([192, 0, 2, 1].into()));
        request
    };
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
    let latin = [("content-type", "application/json; charset=latin1")];
    let long = post_json(SELF_REVOKE, json!({"apiKey": "x".repeat(20_000)}));
    for (request, verdict) in [
        (from_somewhere(by_body()), "200/-"),
        (from_somewhere(by_body()), "429/rate_limited"),
        (request("POST", SELF_REVOKE, &[], ""), "401/missing_api_key"),
        (request("POST", SELF_REVOKE, &twice, ""), "400/conflicting_credentials"),
        (request("POST", SELF_REVOKE, &json, "["), "400/malformed_body"),
        (post_json(SELF_REVOKE, json!({"apiKey": "garbage"})), "400/not_a_key"),
        (request("POST", SELF_REVOKE, &latin, "{}"), "415/unsupported_media_type"),
        (long, "413/body_too_large"),
    ] {
        driven.send(SELF_REVOKE, request, verdict).await;
    }
    store.hook.0.store(true, Ordering::SeqCst);
    driven.send(SELF_REVOKE, by_body(), "503/auth_unavailable").await;
    assert_eq!(driven.document["paths"][SELF_REVOKE]["post"]["security"], json!([]));
}

#[tokio::test]
async fn every_answer_of_the_webhook_for_leaks_is_in_the_document() {
    let (world, store, mut driven) = driven().await;
    let signer = driven.signer.clone();
    let report = |body: &str, identifier: &str| {
        let signature: DerSignature = signer.sign(body.as_bytes());
        let signature = data_encoding::BASE64.encode(signature.as_bytes());
        let headers = [
            ("content-type", "application/json"),
            ("github-public-key-identifier", identifier),
            ("github-public-key-signature", &*signature),
        ];
        request("POST", LEAKS, &headers, body.to_owned())
    };
    let found = json!([
        {"token": world.own.expose_secret(), "type": "acme", "url": "https://example.com/", "source": "commit"},
        {"token": "sk_live_unknown"},
    ]);
    let operation = &driven.document["paths"][LEAKS]["post"];
    assert_eq!(operation["security"], json!([]), "scanners have no key");
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    fits(&driven.document, schema, &found).unwrap();
    let found = found.to_string();
    let answer = driven.send(LEAKS, report(&found, "k1"), "200/-").await;
    assert_eq!(answer.json()[0]["label"], "true_positive");
    driven.send(LEAKS, report(&found, "k2"), "401/invalid_signature").await;
    driven.send(LEAKS, report("{}", "k1"), "400/malformed_body").await;
    driven.send(LEAKS, report(&"x".repeat(5000), "k1"), "413/body_too_large").await;
    let forged = || {
        let mut request = report(&found, "k2");
        request.extensions_mut().insert(PeerAddr([192, 0, 2, 1].into()));
        request
    };
    driven.send(LEAKS, forged(), "401/invalid_signature").await;
    driven.send(LEAKS, forged(), "429/rate_limited").await;
    store.hook.0.store(true, Ordering::SeqCst);
    driven.send(LEAKS, report(&found, "k1"), "503/auth_unavailable").await;
}

#[tokio::test]
async fn any_scheme_will_do_and_public_operations_need_none() {
    let (_, _, driven) = driven().await;
    let document = &driven.document;
    let operation = |path: &str, method: &str| &document["paths"][path][method];
    assert_eq!(operation("/health", "get")["security"], json!([]));
    assert!(operation("/health", "get")["responses"].get("401").is_none());
    assert_eq!(operation("/files/{rest}", "get")["security"], json!([]));
    let heads = json!([{"bearer": []}, {"api-key-header": []}]);
    assert_eq!(operation("/sites", "get")["security"], heads);
    let all = json!([{"bearer": []}, {"api-key-header": []}, {}]);
    assert_eq!(operation("/sites", "post")["security"], all);

    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"], json!({"type": "http", "scheme": "bearer", "description": "An API key."}));
    let header = json!({"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."});
    assert_eq!(schemes["api-key-header"], header);
    assert_eq!(schemes.as_object().unwrap().len(), 2);

    let parameter = &operation("/sites", "get")["parameters"][0];
    assert_eq!((&parameter["name"], &parameter["in"]), (&json!("X-Project-ID"), &json!("header")));
    assert_eq!(parameter["required"], json!(false));
    let body = &operation("/sites", "post")["requestBody"]["content"]["application/json"]["schema"];
    let body = resolve(document, body);
    assert_eq!(
        body["properties"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["apiKey", "projectId", "userId"]
    );
    assert!(body["description"].as_str().unwrap().contains("deprecated since Thu, 01 Jan 2026"));
    assert!(operation("/sites", "get").get("requestBody").is_none());

    let said = |path: &str, method: &str| operation(path, method)["description"].as_str().unwrap();
    assert!(said("/status", "post").contains("reads"));
    assert!(said("/sites", "post").contains("writes"));
    assert!(said(AT, "post").contains("manages keys"));
    assert!(said(AT, "post").contains("The project is optional"));
    assert!(!said("/sites", "get").contains("project is optional"));
    assert!(
        said("/sites", "post").contains("`apiKey`, `userId`, `projectId` in the JSON body, deprecated since")
    );
}

#[tokio::test]
async fn references_resolve_and_ids_are_unique() {
    let (_, _, driven) = driven().await;
    let document = &driven.document;
    let (mut ids, mut refs, mut todo) = (BTreeSet::new(), 0, vec![document]);
    while let Some(value) = todo.pop() {
        if let Value::Object(members) = value {
            if let Some(name) = members.get("$ref") {
                refs += 1;
                assert!(document.pointer(&name.as_str().unwrap()[1..]).is_some(), "{name}");
            }
            if let Some(id) = members.get("operationId") {
                assert!(ids.insert(id.to_string()), "{id} twice");
            }
            todo.extend(members.values());
        }
        todo.extend(value.as_array().into_iter().flatten());
    }
    assert!(refs > 30 && ids.len() == 12);
    for (path, item) in document["paths"].as_object().unwrap() {
        let templates: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        for operation in item.as_object().unwrap().values() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!resolve(document, response)["description"].as_str().unwrap().is_empty(), "{status}");
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, templates.len(), "{path}");
        }
    }
}
