//! What a document says about the schemes of a layer. What it says about the routes of other packages is tested together
//! with these.

use http::Method;
use serde_json::{Value, json};
use tower_api_key::Deprecation;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::MemoryStore;
use tower_api_key::{ApiKeyAuth, AuthError, Endpoints, Timestamp};
use tower_api_key_openapi::AuthDoc;
use utoipa::Modify as _;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{OpenApi, OpenApiVersion, Response, ResponseBuilder};

fn deprecation() -> Deprecation {
    let since = Deprecation::new(Timestamp::from_secs(1_767_225_600)).unwrap();
    since.sunset(Timestamp::from_secs(4_102_444_800)).unwrap().link("https://example.com/migration").unwrap()
}

/// A document with the operations `POST /v1` and `POST /v10`.
fn two_operations() -> OpenApi {
    let mut document = OpenApi::default();
    for path in ["/v1", "/v10"] {
        let operation = OperationBuilder::new().response("200", Response::new("What was seen.")).build();
        document.paths.paths.insert(path.to_owned(), PathItem::new(HttpMethod::Post, operation));
    }
    document
}

/// The same document, after a layer was described in it.
fn described(auth: &AuthDoc, version: OpenApiVersion) -> Value {
    let mut document = two_operations();
    document.openapi = version;
    auth.modify(&mut document);
    serde_json::to_value(&document).unwrap()
}

/// The value, or what it refers to.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(name) => document.pointer(&name[1..]).unwrap_or_else(|| panic!("{name} is not there")),
        None => value,
    }
}

#[test]
fn a_body_scheme_alone_makes_the_body_required() {
    let store = MemoryStore::new();
    let auth = ApiKeyAuth::new(store, JsonBody::named("key", "user", "project", "api").unwrap());
    let document = described(&AuthDoc::of(&auth.description()), OpenApiVersion::Version31);
    let operation = &document["paths"]["/v1"]["post"];
    assert_eq!(operation["security"], json!([{}]));
    assert_eq!(operation["requestBody"]["required"], true);
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(resolve(&document, schema)["required"], json!(["key", "user"]));
    assert!(document["components"].get("securitySchemes").is_none());
}

#[test]
fn c17_a3_an_optional_key_is_documented_as_optional() {
    let store = MemoryStore::new();
    let endpoints = || Endpoints::new().optional(Method::POST, "/v1").write(Method::POST, "/v10");
    let heads = ApiKeyAuth::new(store.clone(), Bearer::default()).or(ApiKeyHeader::default());
    let bodies = heads.clone().or(JsonBody::default());
    let body = ApiKeyAuth::new(store, JsonBody::default());
    let written = |auth: AuthDoc| described(&auth, OpenApiVersion::Version31);
    let heads = written(AuthDoc::of(&heads.endpoints(endpoints()).unwrap().description()));
    let bodies = written(AuthDoc::of(&bodies.endpoints(endpoints()).unwrap().description()));
    let body = written(AuthDoc::of(&body.endpoints(endpoints()).unwrap().description()));
    let security = |document: &Value, path: &str| document["paths"][path]["post"]["security"].clone();
    let (bearer, header) = (json!({"bearer": []}), json!({"api-key-header": []}));
    assert_eq!(security(&heads, "/v1"), json!([{}, bearer, header]));
    assert_eq!(security(&heads, "/v10"), json!([bearer, header]));
    // `{}` stands for the key in the body as well as for no key, and appears once.
    assert_eq!(security(&bodies, "/v1"), json!([{}, bearer, header]));
    assert_eq!(security(&bodies, "/v10"), json!([bearer, header, {}]));
    assert_eq!(security(&body, "/v1"), json!([{}]));
    let operation = |path: &str| &body["paths"][path]["post"];
    let schema = |path: &str| {
        resolve(&body, &operation(path)["requestBody"]["content"]["application/json"]["schema"]).clone()
    };
    assert_ne!(operation("/v1")["requestBody"]["required"], true);
    assert_eq!(schema("/v1").get("required"), None);
    assert_eq!(operation("/v10")["requestBody"]["required"], true);
    assert_eq!(schema("/v10")["required"], json!(["apiKey", "userId"]));
    for document in [&heads, &bodies, &body] {
        let operation = &document["paths"]["/v1"]["post"];
        let said = operation["description"].as_str().unwrap();
        assert!(said.starts_with("Takes an API key (") && said.contains(") or none."), "{said}");
        assert!(operation["responses"]["401"].is_object(), "{document:?}");
    }
}

#[test]
fn deprecated_schemes_are_said_to_be_deprecated() {
    let store = MemoryStore::new();
    let auth = ApiKeyAuth::new(store, Bearer::default().deprecated(deprecation()));
    let auth = AuthDoc::of(&auth.description()).under("/v1");
    let document = described(&auth, OpenApiVersion::Version31);
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!(
        scheme["description"],
        "An API key; deprecated since Thu, 01 Jan 2026 00:00:00 GMT, ends Fri, 01 Jan 2100 00:00:00 GMT: \
         https://example.com/migration."
    );
    // OpenAPI 3.1 allows no other member here.
    assert!(scheme.get("deprecated").is_none());
    let headers = &document["paths"]["/v1"]["post"]["responses"]["200"]["headers"];
    assert!(headers.get("Deprecation").is_some() && headers.get("Sunset").is_some());
    let newer = described(&auth, OpenApiVersion::Version32);
    assert_eq!(newer["components"]["securitySchemes"]["bearer"]["deprecated"], true);
    // Other paths are not affected.
    assert!(document["paths"]["/v10"]["post"].get("security").is_none());
}

#[test]
fn two_layers_in_one_document_keep_their_own_words() {
    let store = MemoryStore::new();
    let one = ApiKeyAuth::new(store.clone(), ApiKeyHeader::default()).description();
    let one = AuthDoc::of(&one).under("/v1");
    let named = ApiKeyHeader::named("X-Token", "X-Team", "api").unwrap();
    let other = ApiKeyAuth::new(store, named).require_https().description();
    let other = AuthDoc::of(&other).under("/v10");
    let mut document = two_operations();
    one.modify(&mut document);
    other.modify(&mut document);
    let document = serde_json::to_value(&document).unwrap();
    assert_eq!(document["paths"]["/v1"]["post"]["security"], json!([{"api-key-header": []}]));
    assert_eq!(document["paths"]["/v10"]["post"]["security"], json!([{"api-key-header-2": []}]));
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["api-key-header-2"]["name"], "X-Token");
    let forbidden = |path: &str| {
        let response = resolve(&document, &document["paths"][path]["post"]["responses"]["403"]);
        response["description"].as_str().unwrap().contains("https_required")
    };
    assert!(!forbidden("/v1") && forbidden("/v10"));
}

#[test]
fn an_answer_of_the_application_stays_beside_the_layers() {
    let store = MemoryStore::new();
    let render = |_: &AuthError| http::Response::new(String::new());
    let schema = Object::with_type(Type::String);
    let auth = ApiKeyAuth::new(store, Bearer::default()).render_errors(render);
    let mut document = OpenApi::default();
    let theirs = ResponseBuilder::new().description("Not for you.").build();
    let operation = OperationBuilder::new().response("403", theirs).description(Some("Does it.")).build();
    document.paths.paths.insert("/".to_owned(), PathItem::new(HttpMethod::Get, operation));
    AuthDoc::of(&auth.description()).refusals("text/plain", schema.into()).modify(&mut document);
    let document = serde_json::to_value(&document).unwrap();
    let operation = &document["paths"]["/"]["get"];
    assert!(operation["description"].as_str().unwrap().starts_with("Does it.\n\nNeeds an API key"));
    let response = &operation["responses"]["403"];
    assert!(response["description"].as_str().unwrap().starts_with("Not for you.\n\n"));
    let content = &response["content"]["text/plain"]["schema"];
    assert_eq!(resolve(&document, content)["type"], "string");
}
