//! c17_b3: no text from outside causes a panic.

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use serde_json::json;
use tokio::runtime::Runtime;
use tower_api_key::keyring::ImportedDigest;
use tower_api_key::limit::{Limit, Limits};
use tower_api_key::restriction::{
    EndpointRule, Network, ReferrerRule, RequestContext, Restrictions, SchemeRule,
};
use tower_api_key::{ConfigError, DigestMethod, KeyFormat, ProjectId, Timestamp};
use tower_api_key_manage::PublicKeyList;

use super::*;

#[tokio::test]
async fn c17_b3_a_route_with_26_parameters_is_refused_by_all_interfaces() {
    let site = Site::new().await;
    let many = many_parameters();
    let restrictions = json!({"endpoints": {"allow": [many]}});
    let refused = site.create(&json!({"name": "CI", "restrictions": restrictions})).await;
    assert_eq!(refused.verdict(), "422/invalid_restrictions");
    assert!(text(&refused).contains("at most 25 parameters"), "{}", text(&refused));
    let refused = site.patch(&site.id, &json!({"restrictions": restrictions})).await;
    assert_eq!(refused.verdict(), "422/invalid_restrictions");
    let list = [("endpoints_mode", "observe"), ("endpoints", &*many)];
    let restrict = format!("/keys/{}/restrictions", site.id);
    for (path, fields) in [("/new", [NEW.as_slice(), &list].concat()), (&*restrict, list.to_vec())] {
        let refused = site.submit(path, &fields).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert!(text(&refused).contains("at most 25 parameters"), "{path}");
    }
    let written = restrictions.to_string();
    let line = json!({"id": "old", "owner": "alice", "name": "CI", "key": "k", "restrictions": restrictions});
    for (args, stdin) in [
        (vec!["create", "--owner", "alice", "--name", "CI", "--restrictions", &written], String::new()),
        (vec!["amend", site.id.as_str(), "--restrictions", &written], String::new()),
        (vec!["import", "-"], line.to_string()),
    ] {
        let (code, out, err) = site.shell(&args, &stdin);
        assert!(code == 2 && err.contains("at most 25 parameters"), "{:?}: {code} {out} {err}", args.first());
    }
    let route = many.strip_prefix("GET ").unwrap();
    let (code, _, err) = site.shell(&["explain", site.id.as_str(), "--route", route, "--class", "read"], "");
    assert!(code == 2 && err.contains("at most 25 parameters"), "{code} {err}");
    // Also at start.
    let of = |endpoints| {
        ApiKeyAuth::new(tower_api_key::store::MemoryStore::new(), Bearer::default())
            .endpoints(endpoints)
            .map(drop)
    };
    for endpoints in [
        Endpoints::new().read(Method::GET, route),
        Endpoints::new().public(Method::GET, route).by_path(),
        manage::declare(Endpoints::new(), route),
    ] {
        let refused = of(endpoints);
        assert!(matches!(refused, Err(ConfigError::Pattern { .. })), "{refused:?}");
    }
}

/// Parts of valid texts of all interfaces, so that random texts get past the first checks.
const PIECES: &[&str] = &[
    "",
    " ",
    ",",
    ", ",
    "/",
    "//",
    ":",
    "|",
    "+",
    "=",
    "-",
    ".",
    "..",
    "*",
    "\\",
    "\"",
    "'",
    "\0",
    "\n",
    "\r\n",
    "\u{feff}",
    "\u{200d}",
    "\u{fe0f}",
    "é",
    "\u{1f511}",
    "%",
    "%2e",
    "%2F",
    "%zz",
    "{",
    "}",
    "{{",
    "}}",
    "{*",
    "{a}",
    "{*a}",
    "[",
    "]",
    "[]",
    "{}",
    "null",
    "true",
    "0",
    "1",
    "12",
    "00",
    "4294967296",
    "99999999999999999999",
    "1e9",
    "-1",
    "/min",
    "/s",
    "/30d",
    "/366d",
    "a=",
    "burst=",
    "GET ",
    "GET /",
    "POST /v1/users/{id}",
    "HEAD",
    "PATCH",
    "https://",
    "http://",
    "*.",
    "example.com",
    ":443",
    ":0",
    ":99999",
    "@",
    "#",
    "?",
    "192.0.2.0",
    "/24",
    "/33",
    "2001:db8::",
    "::",
    "::ffff:",
    "/128",
    "%eth0",
    "bearer",
    "sk_live_",
    "key_",
    "2025-01-01T00:00:00Z",
    "9999-",
    "-12-31",
    "T",
    "t",
    "23:59:60",
    ".5",
    "Z",
    "z",
    "+24:00",
    "+01:00",
    "[UTC]",
    "ip",
    "referrer",
    "endpoints",
    "schemes",
    "\"ip\":",
    "\"allow\":",
    "{\"ip\":{\"allow\":[",
    "\"mode\":\"observe\"",
    "]}}",
    "\"name\":",
    "\"limits\":",
    "\"expires_at\":",
    "\"restrictions\":",
    "name",
    "value",
    "ticket",
    "proof",
    "endpoints_mode",
    "enforce",
    "ip_mode",
    "&",
    "user",
    "sha256$$",
    "$",
    "$2b$12$",
    "$argon2id$v=19$m=1,t=1,p=1$",
    "pbkdf2_sha256$",
];

fn texts() -> impl Strategy<Value = String> {
    let pieces = vec(select(PIECES), 0..14).prop_map(|pieces| pieces.concat());
    prop_oneof![4 => pieces, 1 => "\\PC{0,60}", 1 => vec(any::<char>(), 0..40).prop_map(|text| text.into_iter().collect())]
}

/// A parser must not panic, and parsing its output must give the same value.
fn read_twice<T>(text: &str)
where
    T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug,
{
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        let again = written.parse::<T>();
        assert!(again.as_ref().is_ok_and(|again| *again == read), "{text:?} is written {written:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c17_b3_no_text_makes_a_parser_panic(text in texts(), other in texts()) {
        read_twice::<EndpointRule>(&text);
        read_twice::<EndpointRule>(&format!("GET /{text}"));
        read_twice::<Network>(&text);
        read_twice::<ReferrerRule>(&text);
        read_twice::<ReferrerRule>(&format!("https://{text}"));
        read_twice::<SchemeRule>(&text);
        read_twice::<Restrictions>(&text);
        read_twice::<Restrictions>(&json!({"referrer": {"allow": [text, other]}}).to_string());
        read_twice::<Limit>(&text);
        read_twice::<Limits>(&text);
        read_twice::<UserId>(&text);
        read_twice::<ProjectId>(&text);
        read_twice::<KeyId>(&text);
        read_twice::<tower_api_key::KeyEvent>(&text);
        read_twice::<tower_api_key::UsageChannel>(&text);
        let _ = text.parse::<DigestMethod>();
        let _ = text.parse::<Timestamp>();
        let _ = PublicKeyList::from_json(&text);
        let _ = KeyFormat::new(&text).map(|format| format.environment_of(&other));
    }

    #[test]
    fn c17_b3_no_request_makes_a_restriction_panic(rule in texts(), page in texts(), path in texts()) {
        let restrictions = [
            json!({"referrer": {"allow": [rule], "origin": true}}),
            json!({"endpoints": {"allow": [format!("GET /{rule}")]}}),
        ];
        for restrictions in restrictions {
            let Ok(restrictions) = restrictions.to_string().parse::<Restrictions>() else { continue };
            let (method, path) = (Method::GET, format!("/{path}"));
            let facts = RequestContext::new().referrer(&page).origin(&page).endpoint(&method, &path);
            let _ = restrictions.judge(&facts);
        }
    }

    #[test]
    fn c17_b3_no_declaration_panics_at_start(patterns in vec((texts(), any::<bool>()), 1..6)) {
        let endpoints = patterns.iter().fold(Endpoints::new(), |endpoints, (pattern, public)| {
            let pattern = format!("/{pattern}");
            if *public { endpoints.public(Method::GET, pattern) } else { endpoints.write(Method::POST, pattern) }
        });
        let store = tower_api_key::store::MemoryStore::new();
        drop(ApiKeyAuth::new(store, Bearer::default()).endpoints(endpoints.by_path()));
    }
}

/// The parsers for keys of other services.
fn digests(text: &str, other: &str) -> [ImportedDigest; 6] {
    [
        ImportedDigest::sha256(text),
        ImportedDigest::sha512(text),
        ImportedDigest::sanctum(other, text),
        ImportedDigest::hmac(other, text),
        ImportedDigest::plaintext(text.to_owned()),
        ImportedDigest::slow(other, text),
    ]
}

/// Every request gets a response, and never one that reports an internal error.
fn sound(answer: &Answer) -> Result<(), TestCaseError> {
    prop_assert!(!answer.status.is_server_error(), "{} {}", answer.status, text(answer));
    Ok(())
}

/// Values for bodies and forms.
const MEMBERS: &[&str] = &[
    "name",
    "level",
    "project_id",
    "environment",
    "expires_at",
    "restrictions",
    "limits",
    "user_id",
    "path",
];
const FIELDS: &[&str] = &[
    "name",
    "level",
    "project_id",
    "environment",
    "expires",
    "expires_on",
    "ip",
    "ip_mode",
    "endpoints",
    "endpoints_mode",
    "referrer",
    "referrer_mode",
    "schemes",
    "limits",
    "grace",
    "ticket",
    "proof",
];

#[test]
fn c17_b3_no_request_makes_a_route_or_a_page_panic() {
    let runtime = Runtime::new().unwrap();
    let site = runtime.block_on(Site::new());
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let drawn = (vec((select(MEMBERS), texts()), 0..4), vec((select(FIELDS), texts()), 0..5), texts());
    proptest!(config, |((members, fields, raw) in drawn)| {
        let body: serde_json::Map<String, Value> =
            members.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let with_name = {
            let mut body = body.clone();
            body.entry("name").or_insert_with(|| json!("CI"));
            Value::Object(body)
        };
        let form: Vec<(String, String)> =
            fields.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        let query: String = encoded(&[("cursor".to_owned(), raw.clone()), ("limit".to_owned(), raw.clone())]);
        let search = encoded(&[("q".to_owned(), raw.clone()), ("state".to_owned(), "all".to_owned())]);
        let id = site.id.clone();
        runtime.block_on(async {
            let mut made = site.create(&with_name).await;
            sound(&made)?;
            if made.status == StatusCode::CREATED {
                // Makes room for the next key.
                let id = KeyId::new(made.json()["data"]["id"].as_str().unwrap()).unwrap();
                site.keyring.revoke(&id).await.unwrap();
            }
            for (method, path, body) in [
                ("POST", "", raw.clone()),
                ("PATCH", &*format!("/{id}"), json!({"restrictions": raw}).to_string()),
                ("PATCH", &format!("/{id}"), raw.clone()),
                ("POST", &format!("/{id}/explain"), Value::Object(body.clone()).to_string()),
                ("GET", &format!("?{query}"), String::new()),
                ("GET", &format!("/{}", encoded(&[(raw.clone(), String::new())])), String::new()),
            ] {
                made = site.call(method, path, &body).await;
                sound(&made)?;
            }
            for path in ["/new", &*format!("/keys/{id}/restrictions"), &format!("/keys/{id}/settings")] {
                sound(&site.post(path, &encoded(&form)).await)?;
                sound(&site.post(path, &raw).await)?;
                let borrowed: Vec<(&str, &str)> =
                    form.iter().map(|(name, value)| (&**name, &**value)).collect();
                sound(&site.submit(path, &borrowed).await)?;
            }
            sound(&site.page(&format!("?{search}")).await)?;
            sound(&site.page(&format!("/keys/{}", encoded(&[(raw.clone(), String::new())]))).await)?;
            let body = json!({"apiKey": raw}).to_string();
            let headers = [("content-type", "application/json")];
            sound(&send(&site.app, request("POST", "/self-revoke", &headers, body)).await)?;
            // An import with the same text in all fields.
            for digest in digests(&raw, &raw) {
                let new = NewKey::user_level(site.owner.clone(), raw.clone()).metadata(raw.clone(), raw.clone());
                let key = tower_api_key::keyring::ImportedKey::new(id.clone(), new, digest);
                let _ = format!("{:?}", site.keyring.import([key]).await);
            }
            Ok::<(), TestCaseError>(())
        })?;
    });
}
