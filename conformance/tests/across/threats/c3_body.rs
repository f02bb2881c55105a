//! C3: the key in the body. If the layer accepts a body, `serde_json::Value` accepts it too, and both read the same
//! three strings. A body that two parsers could read differently is refused.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::{Layer as _, ServiceExt as _};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{ApiKeyAuth, AuthError, AuthErrorKind};
use tower_http::decompression::RequestDecompressionLayer;

use super::kit::{Ask, Site, endpoints};
use test_kit::Counted;
use test_kit::{World, answer, echo, send};

const INVALID: &str = "401/invalid_api_key";
const MISSING: &str = "401/missing_api_key";
const MALFORMED: &str = "400/malformed_body";
const MEDIA: &str = "415/unsupported_media_type";

/// The three members of a user who may write to p1, as the inside of an object.
fn members(world: &World) -> String {
    let key = world.own.expose_secret();
    format!(r#""apiKey":"{key}","userId":"u_own","projectId":"p1""#)
}

/// An object with the three members and `more` after them.
fn with(world: &World, more: &str) -> String {
    format!("{{{},{more}}}", members(world))
}

fn upload(body: impl Into<Vec<u8>>) -> Ask {
    Ask::new("POST", "/upload").header("content-type", "application/json").body(body)
}

struct Sites {
    alone: Site,
    all: Site,
}

impl Sites {
    fn new(world: &World) -> Self {
        Self { alone: Site::body(world), all: Site::all(world) }
    }

    /// The body scheme gives the same result alone and with other schemes.
    async fn expect(&self, row: &str, ask: &Ask, verdict: &str) {
        for site in [&self.alone, &self.all] {
            let seen = site.expect(row, ask, verdict).await;
            if verdict == "200:h" {
                assert_eq!((seen.user().as_str(), seen.calls), ("u_own", 2), "{row}");
            } else {
                assert_eq!(seen.calls, 0, "{row}: a store was asked about {ask:?}");
            }
        }
    }
}

#[tokio::test]
async fn c3_01_duplicate_credentials() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let (key, other) = (world.own.expose_secret(), world.b.expose_secret());
    sites.expect("C3-01", &upload(format!("{{{}}}", members(&world))), "200:h").await;
    for (name, values) in
        [("apiKey", [key, other]), ("userId", ["u_own", "u_b"]), ("projectId", ["p1", "p2"])]
    {
        for value in [json!(values[0]), json!(values[1]), Value::Null, json!("")] {
            let after = with(&world, &format!(r#""{name}":{value}"#));
            sites.expect("C3-01", &upload(after), MALFORMED).await;
            let before = format!(r#"{{"{name}":{value},"x":1,{}}}"#, members(&world));
            sites.expect("C3-01", &upload(before), MALFORMED).await;
        }
        let nulls = format!(r#"{{"{name}":null,"{name}":null}}"#);
        sites.expect("C3-01", &upload(nulls), MALFORMED).await;
    }
}

#[tokio::test]
async fn c3_02_a_name_that_is_spelled_with_escapes() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    for name in [r"api\u004bey", r"\u0061piKey", r"\u0061\u0070\u0069\u004B\u0065\u0079"] {
        sites.expect("C3-02", &upload(with(&world, &format!(r#""{name}":"{key}""#))), MALFORMED).await;
        let only = format!(r#"{{"{name}":"{key}","userId":"u_own","projectId":"p1"}}"#);
        sites.expect("C3-02", &upload(only), "200:h").await;
    }
    // The value may be written with escapes, too.
    let escaped: String = key.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let body = format!(r#"{{"apiKey":"{escaped}","userId":"u\u005fown","projectId":"\u00701"}}"#);
    sites.expect("C3-02", &upload(body), "200:h").await;
}

#[tokio::test]
async fn c3_03_a_name_that_another_parser_would_accept() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let doubles = [
        "ApiKey",
        "APIKEY",
        "apikey",
        "api_key",
        "api-key",
        "API_KEY",
        "api\u{212a}ey",
        r"api\u212aey",
        "_apiKey",
        "userid",
        "u\u{17f}erId",
        r"u\u017ferId",
        "user_id",
        "USERID",
        "project_id",
        "ProjectID",
        "project-id",
    ];
    for double in doubles {
        for value in [r#""x""#, "null", "1", "{}"] {
            sites.expect("C3-03", &upload(with(&world, &format!(r#""{double}":{value}"#))), MALFORMED).await;
            let before = format!(r#"{{"{double}":{value},{}}}"#, members(&world));
            sites.expect("C3-03", &upload(before), MALFORMED).await;
        }
    }
    // Without the real names, they are ordinary members.
    let body = json!({"api_key": world.own.expose_secret(), "user_id": "u_own", "project_id": "p1"});
    sites.expect("C3-03", &upload(body.to_string()), MISSING).await;
    // These names are not similar enough.
    for name in ["apiKeys", "apiKey ", "xapiKey", "apikey2", "user", "project", "apiKe", "", "api key"] {
        sites.expect("C3-03", &upload(with(&world, &format!(r#""{name}":1"#))), "200:h").await;
    }
}

#[tokio::test]
async fn c3_04_other_members_may_be_duplicated() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for more in [r#""a":1,"a":2"#, r#""o":{"apiKey":"x","apiKey":"y"}"#, r#""a":{"b":1,"b":1}"#] {
        sites.expect("C3-04", &upload(with(&world, more)), "200:h").await;
    }
}

#[tokio::test]
async fn c3_05_what_is_not_an_object() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    let bodies = [
        json!([key, "u_own", "p1"]),
        json!(key),
        Value::Null,
        json!(1),
        json!(true),
        json!([]),
        json!([{"apiKey": key, "userId": "u_own", "projectId": "p1"}]),
    ];
    for body in bodies {
        sites.expect("C3-05", &upload(body.to_string()), MALFORMED).await;
    }
}

#[tokio::test]
async fn c3_06_nothing_in_the_body() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for body in
        ["", "{}", " {} ", r#"{"apiKey":null}"#, r#"{"apiKey":null,"userId":"u_own","projectId":"p1"}"#]
    {
        sites.expect("C3-06", &upload(body), MISSING).await;
    }
    sites.expect("C3-06", &upload(r#"{"apiKey":"","userId":"u_own","projectId":"p1"}"#), INVALID).await;
    sites.expect("C3-06", &upload(" "), MALFORMED).await;
    // The key is valid, but no user is named.
    let key = world.own.expose_secret();
    for user in ["", r#","userId":null"#] {
        let body = format!(r#"{{"apiKey":"{key}","projectId":"p1"{user}}}"#);
        sites.alone.expect("C3-06", &upload(body), "401/invalid_user").await;
    }
    for project in ["", r#","projectId":null"#] {
        let body = format!(r#"{{"apiKey":"{key}","userId":"u_own"{project}}}"#);
        let seen = sites.alone.expect("C3-06", &upload(body), "400/project_required").await;
        assert_eq!(seen.answer.json()["message"], "projectId is required", "{project:?}");
    }
}

#[tokio::test]
async fn c3_07_values_of_another_type() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    let wrong = [
        "123",
        "0",
        "-1",
        "1.5",
        "true",
        "false",
        "[]",
        r#"["K"]"#,
        "{}",
        r#"{"$ne":null}"#,
        r#"{"$gt":""}"#,
    ];
    let listed = format!(r#"["{key}"]"#);
    for value in wrong.into_iter().chain([listed.as_str()]) {
        for body in [
            format!(r#"{{"apiKey":{value},"userId":"u_own","projectId":"p1"}}"#),
            format!(r#"{{"apiKey":"{key}","userId":{value},"projectId":"p1"}}"#),
            format!(r#"{{"apiKey":"{key}","userId":"u_own","projectId":{value}}}"#),
        ] {
            sites.expect("C3-07", &upload(body), MALFORMED).await;
        }
    }
}

#[tokio::test]
async fn c3_08_only_the_top_level_counts() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let inner = format!("{{{}}}", members(&world));
    for body in [
        format!(r#"{{"user":{inner}}}"#),
        format!(r#"{{"a":[{inner}]}}"#),
        format!(r#"{{"":{inner},"b":1}}"#),
    ] {
        sites.expect("C3-08", &upload(body), MISSING).await;
    }
    let other = json!({"apiKey": world.b.expose_secret(), "userId": "u_b", "projectId": "q1"});
    sites.expect("C3-08", &upload(with(&world, &format!(r#""apiKeyOf":{other}"#))), "200:h").await;
}

#[tokio::test]
async fn c3_09_depth() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let nested = |open: &str, close: &str, depth: usize| {
        with(&world, &format!(r#""x":{}1{}"#, open.repeat(depth), close.repeat(depth)))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let levels = if open.len() > 6 { 2 } else { 1 };
        // The scanner's limit, and that of the strict reader.
        let near = (60..68).chain(124..130);
        for depth in near.chain([10, 120, 200, 1500, 100_000]).map(|depth| depth / levels) {
            let body = nested(open, close, depth);
            // Exactly the same limit as the handler's.
            let verdict = if serde_json::from_str::<Value>(&body).is_ok() { "200:h" } else { MALFORMED };
            sites.expect("C3-09", &upload(body), verdict).await;
        }
    }
    sites.expect("C3-09", &upload(nested("[", "]", 126)), "200:h").await;
    sites.expect("C3-09", &upload(nested("[", "]", 127)), MALFORMED).await;
    for body in [
        with(&world, &format!(r#""x":{}"#, "[".repeat(100_000))),
        "[".repeat(100_000),
        "{\"a\":".repeat(50_000),
    ] {
        sites.expect("C3-09", &upload(body), MALFORMED).await;
    }
}

#[tokio::test]
async fn c3_10_text_that_is_no_text() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let start = format!("{{{},\"x\":", members(&world));
    let bad: [&[u8]; 12] = [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
        b"\\ud800",
        b"\\udc00",
        b"\\ud800\\u0041",
        b"\0",
        b"\n",
        b"\\x41",
        b"\\u12g4",
    ];
    for bad in bad {
        let body = [start.as_bytes(), b"\"", bad, b"\"}"].concat();
        sites.expect("C3-10", &upload(body), MALFORMED).await;
        let name = [start.as_bytes(), b"{\"", bad, b"\":1}}"].concat();
        sites.expect("C3-10", &upload(name), MALFORMED).await;
        let top = [&start.as_bytes()[..start.len() - 4], b"\"", bad, b"\":1}"].concat();
        sites.expect("C3-10", &upload(top), MALFORMED).await;
        let key = [b"{\"apiKey\":\"", bad, b"\",\"userId\":\"u\",\"projectId\":\"p1\"}"].concat();
        sites.expect("C3-10", &upload(key), MALFORMED).await;
    }
    let fine = [start.as_bytes(), "\"\\ud83d\\udd11 \u{1f511} \\u0000\"}".as_bytes()].concat();
    sites.expect("C3-10", &upload(fine), "200:h").await;
}

#[tokio::test]
async fn c3_11_numbers_and_almost_valid_json() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let digits = "9".repeat(400);
    let values = [
        "1e99",
        "1e100",
        "1e-100",
        &digits[..199],
        &digits[..200],
        "1e400",
        "-1e400",
        "1e-400",
        "-0",
        "-0.0",
        &digits,
        "1E400",
        "1e308",
        "0.1e-999",
        "01",
        "-01",
        "+1",
        ".5",
        "5.",
        "NaN",
        "Infinity",
        "-Infinity",
        "0x1",
        "1_000",
        "tru",
        "True",
        "nul",
        "undefined",
        "'a'",
        "[1,,2]",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "/*c*/1",
        "1//c\n",
        "18446744073709551616",
        "-9223372036854775809",
        "1e",
        "1e+",
        "\"\t\"",
        "",
        "1 2",
        "[}",
        "\u{feff}1",
    ];
    let mut accepted = 0;
    for value in values {
        let body = with(&world, &format!(r#""x":{value}"#));
        let fine = serde_json::from_str::<Value>(&body).is_ok();
        accepted += usize::from(fine);
        sites.expect("C3-11", &upload(body), if fine { "200:h" } else { MALFORMED }).await;
    }
    assert!((10..25).contains(&accepted), "{accepted} were accepted");
    sites.expect("C3-11", &upload(with(&world, r#""x":1,"#)), MALFORMED).await;
}

/// Names that serde_json uses internally. It reacts to them if another crate switches on certain features (axum's
/// `json` switches on one). The result must be the same with and without these features.
#[tokio::test]
async fn c3_11_names_that_the_parser_uses_itself() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let (number, raw) = ("$serde_json::private::Number", "$serde_json::private::RawValue");
    let nested = [
        (number, r#""1""#, "200:h"),
        (number, r#""-1.5e3""#, "200:h"),
        (number, r#""abc""#, MALFORMED),
        (number, r#""""#, MALFORMED),
        (number, "1", MALFORMED),
        (number, "null", MALFORMED),
        (number, r#""1","b":1"#, MALFORMED),
        (raw, r#""1""#, MALFORMED),
        (raw, r#""[1""#, MALFORMED),
        (raw, r#""{\"apiKey\":1}""#, MALFORMED),
        (raw, "1", MALFORMED),
    ];
    for (token, value, verdict) in nested {
        for text in [format!(r#""x":{{"{token}":{value}}}"#), format!(r#""x":[{{"{token}":{value}}}]"#)] {
            let body = with(&world, &text);
            sites.expect("C3-11", &upload(body.clone()), verdict).await;
            assert!(verdict == MALFORMED || serde_json::from_str::<Value>(&body).is_ok(), "C3-11: {body}");
        }
        // They are not allowed in the object with the credentials.
        for top in [
            format!(r#"{{"{token}":{value},{}}}"#, members(&world)),
            with(&world, &format!(r#""{token}":{value}"#)),
        ] {
            sites.expect("C3-11", &upload(top), MALFORMED).await;
        }
    }
}

#[tokio::test]
async fn c3_12_other_encodings() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let text = format!("{{{}}}", members(&world));
    let wide = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    for bodies in [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
        [b"\xff\xfe", &*wide(u16::to_le_bytes)].concat(),
        [b"\xfe\xff", &*wide(u16::to_be_bytes)].concat(),
    ] {
        sites.expect("C3-12", &upload(bodies), MALFORMED).await;
    }
    let typed = |kind: &str| Ask::new("POST", "/upload").header("content-type", kind).body(text.clone());
    for kind in [
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/json;charset=iso-8859-1",
        "application/json; CHARSET=\"utf-16\"",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; charset=utf-16; charset=utf-8",
        "application/json; charset=utf-7",
        "application/json; charset=utf-8-",
        "application/json; charset=utf_8",
        "application/json; charset=utf8mb4",
        "application/json; charset=utf8; charset=utf-16",
        "application/json; x=1; charset=utf-32",
        "application/vnd.api+json; charset=utf-16",
    ] {
        sites.expect("C3-12", &typed(kind), MEDIA).await;
    }
    // The parameter must be found, however it is separated.
    for kind in [
        "application/json;\tcharset=utf-16",
        "application/json; charset\t=utf-16",
        "application/json; charset =utf-16",
        "application/json; charset= utf-16",
        "application/json; charset=",
        "application/json; charset=\"utf-16",
        "application/json; charset=\"utf\\-8\"",
        "application/json; x=\"y; charset=utf-16",
        "application/json; x=\"a\\\"; y=\"; charset=utf-16\"",
        "application/json;\t charset=utf-16",
    ] {
        sites.alone.expect_offline("C3-12", &typed(kind), MEDIA).await;
    }
}

#[tokio::test]
async fn c3_13_more_than_one_document() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let text = format!("{{{}}}", members(&world));
    let other = json!({"apiKey": world.b.expose_secret(), "userId": "u_b", "projectId": "q1"}).to_string();
    for more in
        [other.as_str(), "garbage", ",", "}", "\0", "{}", "\n{}", "null", " 1", "\u{a0}", "\u{feff}", "//"]
    {
        sites.expect("C3-13", &upload(format!("{text}{more}")), MALFORMED).await;
    }
    for space in [" ", "\n", "\r\n\t ", "\n\n\n"] {
        sites.expect("C3-13", &upload(format!("{text}{space}")), "200:h").await;
        sites.expect("C3-13", &upload(format!("{space}{text}")), "200:h").await;
    }
    for space in ["\u{b}", "\u{c}", "\u{85}", "\u{2028}"] {
        sites.expect("C3-13", &upload(format!("{space}{text}")), MALFORMED).await;
    }
}

#[tokio::test]
async fn c3_14_ids_are_compared_byte_by_byte() {
    let world = World::new().await;
    let site = Site::body(&world);
    let body =
        |key: &str, user: &str| upload(json!({"apiKey": key, "userId": user, "projectId": "p1"}).to_string());
    let key = world.own.expose_secret();
    let long = "u".repeat(200);
    let users = [
        "u_own\0",
        "\0u_own",
        "u_own ",
        " u_own",
        "U_OWN",
        "u_Own",
        "u_owna\u{301}",
        "u_ow\u{144}",
        "\u{ff55}_own",
        "u_own\u{200d}",
        &long,
        "",
        "u_ow",
        "u_own1",
        "u_b",
        "u_full",
        "nobody",
        "null",
        "*",
        "%",
        "u_own' OR '1'='1",
    ];
    let mut answers = Vec::new();
    for user in users {
        let seen = site.expect("C3-14", &body(key, user), "401/invalid_user").await;
        assert_eq!(seen.answer.json()["message"], "Invalid User");
        answers.push((seen.calls, format!("{:?}", seen.answer.headers), seen.answer.body));
    }
    // Another user, an unknown user and an invalid id get the same response.
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    for text in [format!("{key}\0"), format!("{key}\u{200b}"), format!("\0{key}")] {
        site.expect_offline("C3-14", &body(&text, "u_own"), INVALID).await;
    }
    // Without a valid key, the response reveals nothing about users.
    for key in [&world.revoked, &world.expired, &world.stray] {
        for user in ["u_own", "u_b", "nobody", "\0", ""] {
            let seen = site.expect("C3-14", &body(key.expose_secret(), user), INVALID).await;
            assert_eq!(seen.answer.json()["message"], "Unauthorized: Invalid API Key", "{key:?}, {user:?}");
        }
    }
}

#[tokio::test]
async fn c3_15_other_content_types() {
    let world = World::new().await;
    let (alone, all) = (Site::body(&world), Site::all(&world));
    let text = format!("{{{}}}", members(&world));
    let form = format!("apiKey={}&userId=u_own&projectId=p1", world.own.expose_secret());
    let kinds = [
        "text/plain",
        "text/json",
        "text/plain; charset=utf-8",
        "application/json\tx",
        "application/json\t",
        "application/json, text/plain",
        "text/plain, application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "json",
        "application/",
        "application/jsonp",
        "application/json-seq",
        "application/x-json",
        "application/+json",
        "application/json+",
        "application/xml",
        "application/ json",
        "application /json",
        "application/json/x",
        "application/json x",
        "*/*",
        "application/*",
        "\"application/json\"",
        "application/json; x",
        "application/json;=",
    ];
    for kind in kinds {
        for body in [&text, &form] {
            let ask = Ask::new("POST", "/upload").header("content-type", kind).body(body.as_str());
            alone.expect_offline("C3-15", &ask, MEDIA).await;
            all.expect_offline("C3-15", &ask, MISSING).await;
        }
    }
    // Two content types on one line are refused, wherever the line might be split.
    for kind in [
        "application/json; x=y, text/plain",
        "application/json;x=\"a\", text/plain",
        "application/json; a=b c",
        "application/json; a=b c=d",
        "application/json; a=b,c",
        "application/json; a b=c",
        "application/json; a@=b",
        "application/json; a=\"b\"c",
        "application/a b+json",
        "application/a,b+json",
        "application/a/b+json",
    ] {
        let ask = Ask::new("POST", "/upload").header("content-type", kind).body(text.as_str());
        alone.expect_offline("C3-15", &ask, MEDIA).await;
    }
    let ask =
        Ask::new("POST", "/upload").header("content-type", b"application/json; x=\xff").body(text.as_str());
    alone.expect_offline("C3-15", &ask, MEDIA).await;
    let ask = Ask::new("POST", "/upload").body(text.as_str());
    alone.expect_offline("C3-15", &ask, MEDIA).await;
    all.expect_offline("C3-15", &ask, MISSING).await;
}

#[tokio::test]
async fn c3_16_two_content_types() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let text = format!("{{{}}}", members(&world));
    for (first, second) in [
        ("application/json", "text/plain"),
        ("text/plain", "application/json"),
        ("application/json", "application/json"),
    ] {
        let ask = Ask::new("POST", "/upload").header("content-type", first).header("content-type", second);
        for site in [&sites.alone, &sites.all] {
            let seen = site.see("C3-16", &ask.clone().body(text.as_str())).await;
            assert_eq!((seen.answer.status.as_u16(), seen.calls), (400, 0), "C3-16: {first} and {second}");
        }
    }
}

#[tokio::test]
async fn c3_17_what_axum_takes_for_json() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let text = format!("{{{}}}", members(&world));
    let kinds = [
        "application/json",
        "APPLICATION/JSON",
        "Application/Json",
        "application/vnd.api+json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json; charset=\"utf-8\"",
        "application/problem+json",
        "application/json; profile=x",
        "application/json; charset=utf-8; v=1",
        "application/vnd.x.v1+json; v=\"a b\"",
        // C17-C2: another name for UTF-8, and a subset of it.
        "application/json; charset=utf8",
        "application/json;charset=\"UTF8\"",
        "application/json; charset=us-ascii",
        "application/problem+json; charset=US-ASCII; v=1",
    ];
    let plain = Router::new().fallback(async |Json(value): Json<Value>| value["userId"].to_string());
    for kind in kinds {
        let ask = Ask::new("POST", "/upload").header("content-type", kind).body(text.as_str());
        sites.expect("C3-17", &ask, "200:h").await;
        assert_eq!(send(&plain, ask.request()).await.body, b"\"u_own\"", "C3-17: axum refuses {kind}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Stored blocks of a deflate stream: valid gzip without compression.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(60_000).peekable();
    while let Some(chunk) = chunks.next() {
        out.push(u8::from(chunks.peek().is_none()));
        let length = u16::try_from(chunk.len()).unwrap();
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    let crc = bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    });
    out.extend((!crc).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}

#[tokio::test]
async fn c3_18_codings() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let text = format!("{{{}}}", members(&world));
    for coding in
        ["gzip", "br", "deflate", "GZIP", "gzip, gzip", "identity, gzip", "gzip,identity", "x", "identity x"]
    {
        for body in [gzip(text.as_bytes()), text.clone().into_bytes()] {
            sites.expect("C3-18", &upload(body).header("content-encoding", coding), MEDIA).await;
        }
    }
    let lines =
        upload(text.clone()).header("content-encoding", "identity").header("content-encoding", "gzip");
    sites.expect("C3-18", &lines, MEDIA).await;
    // The content is not sniffed.
    sites.expect("C3-18", &upload(gzip(text.as_bytes())), MALFORMED).await;

    // C17-C2: an explicit `identity` is accepted.
    for coding in ["identity", "", "Identity", "identity, identity", " , identity"] {
        let coded = |body: Vec<u8>| upload(body).header("content-encoding", coding);
        sites.expect("C17-C2", &coded(text.clone().into_bytes()), "200:h").await;
        sites.expect("C17-C2", &coded(gzip(text.as_bytes())), MALFORMED).await;
    }

    // If a layer outside decompresses, the limit applies to the decompressed size.
    let scheme = JsonBody::default().limit(NonZero::new(1000).unwrap());
    let auth = ApiKeyAuth::new(world.store.clone(), scheme);
    let guarded = Router::new().fallback(echo).layer(auth);
    let whole = |request: Request<tower_http::decompression::DecompressionBody<Body>>| request.map(Body::new);
    let app = RequestDecompressionLayer::new().layer(tower::util::MapRequest::new(guarded, whole));
    for (padding, verdict) in
        [(0, "200:h"), (800, "200:h"), (1000, "413/body_too_large"), (200_000, "413/body_too_large")]
    {
        let body = with(&world, &format!(r#""x":"{}""#, "y".repeat(padding)));
        assert_eq!(body.len() > 1000, verdict != "200:h", "{padding:?}");
        let ask = upload(gzip(body.as_bytes())).header("content-encoding", "gzip");
        let response = app.clone().oneshot(ask.request()).await.unwrap();
        let answered = answer(response).await;
        assert_eq!(answered.verdict(), verdict, "C3-18: {padding}");
    }
}

/// A body that counts how often it was polled, and may claim another length.
struct Watch {
    frames: std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>,
    polls: Arc<AtomicUsize>,
    hint: Option<u64>,
    /// Whether it ends after the frames, or leaves its reader waiting.
    ends: bool,
}

impl http_body::Body for Watch {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.polls.fetch_add(1, SeqCst);
        match self.frames.next() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn watched(frames: Vec<Result<Frame<Bytes>, &'static str>>, ends: bool) -> (Body, Arc<AtomicUsize>) {
    let polls = Arc::<AtomicUsize>::default();
    let body = Watch { frames: frames.into_iter(), polls: Arc::clone(&polls), hint: None, ends };
    (Body::new(body), polls)
}

fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(bytes.into()))
}

fn post(body: Body) -> Request<Body> {
    Request::post("/upload").header("content-type", "application/json").body(body).unwrap()
}

fn app(world: &World, scheme: JsonBody) -> Router {
    Router::new().fallback(echo).layer(ApiKeyAuth::new(world.store.clone(), scheme))
}

#[tokio::test]
async fn c3_19_a_declared_length_above_the_limit_is_not_read() {
    let world = World::new().await;
    // A short body is read although it is refused, so that the connection stays open (C17-C1).
    for (length, too_long, read) in [
        ("1000", false, true),
        ("1001", true, true),
        ("65536", true, true),
        ("65537", true, false),
        ("18446744073709551615", true, false),
    ] {
        let app = app(&world, JsonBody::default().limit(NonZero::new(1000).unwrap()));
        let (body, polls) = watched(vec![data("{}")], true);
        let mut request = post(body);
        request.headers_mut().insert("content-length", length.parse().unwrap());
        let answered = send(&app, request).await;
        let verdict = if too_long { "413/body_too_large" } else { MISSING };
        assert_eq!(answered.verdict(), verdict, "C3-19: {length}");
        assert_eq!(polls.load(SeqCst) > 0, read, "C3-19: {length}");
        assert_eq!(answered.header("connection").is_empty(), read, "C3-19: {length}");
    }
    // The body's own size hint counts, too.
    let polls = Arc::<AtomicUsize>::default();
    let frames = vec![data("{}")].into_iter();
    let body = Watch { frames, polls: Arc::clone(&polls), hint: Some(1001), ends: true };
    let app = app(&world, JsonBody::default().limit(NonZero::new(1000).unwrap()));
    assert_eq!(send(&app, post(Body::new(body))).await.verdict(), "413/body_too_large");
    assert_eq!(polls.load(SeqCst), 0);
}

#[tokio::test]
async fn c3_20_the_limit_is_exact_however_the_body_comes() {
    let world = World::new().await;
    let whole = with(&world, r#""x":"""#);
    for limit in [whole.len() + 50, whole.len() + 1, whole.len()] {
        for length in [limit - 1, limit, limit + 1] {
            if length < whole.len() {
                continue;
            }
            let text = with(&world, &format!(r#""x":"{}""#, "y".repeat(length - whole.len())));
            assert_eq!(text.len(), length, "{limit:?}, {length:?}");
            for chunk in [1, 7, 64, length] {
                let app = app(&world, JsonBody::default().limit(NonZero::new(limit).unwrap()));
                let frames = text.as_bytes().chunks(chunk).map(|chunk| data(chunk.to_vec())).collect();
                let answered = send(&app, post(watched(frames, true).0)).await;
                let verdict = if length > limit { "413/body_too_large" } else { "200:h" };
                assert_eq!(answered.verdict(), verdict, "C3-20: {length} bytes by {chunk}, limit {limit}");
                if length <= limit {
                    assert_eq!(answered.json()["body"], text, "{limit:?}, {length:?}, {chunk:?}");
                }
            }
        }
    }
    // Reading stops at the limit; the rest is not read.
    let app = app(&world, JsonBody::default().limit(NonZero::new(100).unwrap()));
    let frames = (0..1000).map(|_| data(vec![b' '; 10])).collect();
    let (body, polls) = watched(frames, true);
    assert_eq!(send(&app, post(body)).await.verdict(), "413/body_too_large");
    assert_eq!(polls.load(SeqCst), 11);
    // The default limit is one mebibyte.
    let app = self::app(&world, JsonBody::default());
    for (length, status) in [(1 << 20, 200), ((1 << 20) + 1, 413)] {
        let text = with(&world, &format!(r#""x":"{}""#, "y".repeat(length - whole.len())));
        assert_eq!(send(&app, post(Body::from(text))).await.status, status, "C3-20: {length}");
    }
}

#[tokio::test(start_paused = true)]
async fn c3_23_a_slow_body_is_given_up_at_the_deadline() {
    let world = World::new().await;
    let app = app(&world, JsonBody::default().read_deadline(Duration::from_secs(7)).unwrap());
    // Nothing at all, and one byte per second: the deadline is for the whole body.
    let silent = watched(Vec::new(), false).0;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let trickle = tokio::spawn(async move {
        while sender.send(Bytes::from_static(b" ")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let slow = Body::new(Trickle(receiver));
    for body in [silent, slow] {
        let start = tokio::time::Instant::now();
        let answered = send(&app, post(body)).await;
        assert_eq!(answered.verdict(), "408/body_timeout");
        assert_eq!(answered.json()["message"], "Request body timed out");
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(8), "C3-23: it took {took:?}");
    }
    trickle.abort();
    // The default is ten seconds.
    let app = self::app(&world, JsonBody::default());
    let start = tokio::time::Instant::now();
    assert_eq!(send(&app, post(watched(Vec::new(), false).0)).await.status, 408);
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// A body that comes through a channel.
struct Trickle(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test(start_paused = true)]
async fn c3_24_all_bodies_together_have_a_cap() {
    let world = World::new().await;
    let scheme =
        || JsonBody::default().limit(NonZero::new(1000).unwrap()).buffer_cap(NonZero::new(3000).unwrap());
    let auth = ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).or(scheme());
    let app = Router::new().fallback(echo).layer(auth.clone());
    // Three bodies that hang after 900 bytes use 2700 of 3000 bytes.
    let hang = |app: &Router| {
        let body = watched(vec![data(vec![b' '; 900])], false).0;
        let request = post(body);
        let app = app.clone();
        tokio::spawn(async move { answer(app.oneshot(request).await.unwrap()).await })
    };
    let slow: Vec<_> = (0..3).map(|_| hang(&app)).collect();
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    // There is no memory for a fourth: with a declared length it is not read at all, otherwise reading stops.
    let (body, polls) = watched(vec![data(vec![b' '; 900])], false);
    let mut declared = post(body);
    declared.headers_mut().insert("content-length", "900".parse().unwrap());
    let answered = send(&app, declared).await;
    assert_eq!(answered.verdict(), "503/auth_unavailable");
    assert_eq!(answered.header("retry-after"), ["1"]);
    assert_eq!(answered.extensions.get::<AuthError>().unwrap().kind(), AuthErrorKind::Overloaded);
    assert_eq!(polls.load(SeqCst), 0);
    let answered = send(&app, post(watched(vec![data(vec![b' '; 900])], false).0)).await;
    assert_eq!(answered.verdict(), "503/auth_unavailable");
    // If there is no memory for a single byte, nothing is read.
    let last = {
        let (app, request) = (app.clone(), post(watched(vec![data(vec![b' '; 300])], false).0));
        tokio::spawn(async move { answer(app.oneshot(request).await.unwrap()).await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (body, polls) = watched(vec![data("{}")], true);
    assert_eq!(send(&app, post(body)).await.verdict(), "503/auth_unavailable");
    assert_eq!(polls.load(SeqCst), 0);
    last.abort();
    assert!(last.await.is_err());
    // A small body still fits, and other schemes need no memory. Clones of the layer share the limit.
    let small = format!("{{{}}}", members(&world));
    assert_eq!(send(&app, post(Body::from(small.clone()))).await.verdict(), "200:h");
    let header = Ask::get("/x").api_key(&world.own).project("p1");
    assert_eq!(send(&app, header.request()).await.verdict(), "200:h");
    let twin = Router::new().fallback(echo).layer(auth);
    let answered = send(&twin, post(watched(vec![data(vec![b' '; 900])], false).0)).await;
    assert_eq!(answered.verdict(), "503/auth_unavailable");
    // After the slow bodies have timed out, all memory is free.
    for slow in slow {
        assert_eq!(slow.await.unwrap().verdict(), "408/body_timeout");
    }
    let text = with(&world, &format!(r#""x":"{}""#, "y".repeat(800)));
    for _ in 0..10 {
        assert_eq!(send(&app, post(Body::from(text.clone()))).await.verdict(), "200:h");
    }
}

/// The default is 64 MiB: a body that declares more is not read.
#[tokio::test]
async fn c3_24_the_cap_that_is_there_by_default() {
    let world = World::new().await;
    let app = app(&world, JsonBody::default().limit(NonZero::new(usize::MAX).unwrap()));
    for (length, verdict) in [(64_usize << 20, MISSING), ((64 << 20) + 1, "503/auth_unavailable")] {
        let (body, polls) = watched(vec![data("{}")], true);
        let mut request = post(body);
        request.headers_mut().insert("content-length", length.into());
        assert_eq!(send(&app, request).await.verdict(), verdict, "C3-24: {length}");
        assert_eq!(polls.load(SeqCst) == 0, verdict != MISSING, "C3-24: {length}");
    }
}

/// Bytes count as long as they exist, including those in a body that a handler has not read yet.
#[tokio::test]
async fn c3_24_a_body_counts_while_a_handler_holds_it() {
    let world = World::new().await;
    let text = format!("{{{}}}", members(&world));
    let held = Arc::<std::sync::Mutex<Vec<Request<Body>>>>::default();
    let keep = Arc::clone(&held);
    let handler = move |request: Request<Body>| {
        keep.lock().unwrap().push(request);
        async { r#"{"handler":true}"# }
    };
    let scheme = JsonBody::default().buffer_cap(NonZero::new(text.len() * 2).unwrap());
    let app = Router::new().fallback(handler).layer(ApiKeyAuth::new(world.store.clone(), scheme));
    let verdict = async || send(&app, post(Body::from(text.clone()))).await.verdict();
    assert_eq!(
        [verdict().await, verdict().await, verdict().await],
        ["200:h", "200:h", "503/auth_unavailable"]
    );
    held.lock().unwrap().pop();
    assert_eq!([verdict().await, verdict().await], ["200:h", "503/auth_unavailable"]);
}

#[tokio::test]
async fn c3_25_a_body_that_breaks_off() {
    let world = World::new().await;
    let store = Counted::new(&world, false);
    let calls = Arc::clone(&store.calls);
    let app = Router::new().fallback(echo).layer(ApiKeyAuth::new(store, JsonBody::default()));
    let text = Bytes::from(format!("{{{}}}", members(&world)));
    let cut = text.slice(..text.len() - 1);
    for frames in [
        vec![Err("gone")],
        vec![data(cut.clone()), Err("gone")],
        // Complete JSON does not mean that the body is complete.
        vec![data(text.clone()), Err("gone")],
        vec![data(text), Ok(Frame::trailers(HeaderMap::new())), Err("gone")],
        vec![data(cut)],
    ] {
        let answered = send(&app, post(watched(frames, true).0)).await;
        assert_eq!(answered.verdict(), MALFORMED);
    }
    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test]
async fn c3_27_methods_whose_bodies_are_not_read() {
    let world = World::new().await;
    let text = format!("{{{}}}", members(&world));
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "post", "Put"] {
        let app = app(&world, JsonBody::default());
        let (body, polls) = watched(vec![data(text.clone())], true);
        let mut request = post(body);
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        let answered = send(&app, request).await;
        let kind = answered.extensions.get::<AuthError>().map(AuthError::kind);
        assert_eq!(kind, Some(AuthErrorKind::MissingCredentials), "C3-27: {method}");
        assert_eq!(polls.load(SeqCst), 0, "C3-27: {method}");
    }
    for method in ["POST", "PUT", "PATCH"] {
        let app = app(&world, JsonBody::default());
        let mut request = post(Body::from(text.clone()));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(send(&app, request).await.verdict(), "200:h", "C3-27: {method}");
    }
    let app = app(&world, JsonBody::default().also_method(Method::DELETE));
    let mut request = post(Body::from(text));
    *request.method_mut() = Method::DELETE;
    assert_eq!(send(&app, request).await.verdict(), "200:h");
}

#[tokio::test]
async fn c3_28_trailers_reach_the_handler() {
    async fn shown(request: Request<Body>) -> Json<Value> {
        let mut body = request.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        // Servers and clients use this to decide whether to continue.
        assert!(!http_body::Body::is_end_stream(&body), "C3-28: the trailers would be forgotten");
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let trailers: Vec<_> = trailers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        Json(json!({"handler": true, "trailers": trailers, "body": String::from_utf8_lossy(&first)}))
    }
    let world = World::new().await;
    let app = Router::new().fallback(shown).layer(ApiKeyAuth::new(world.store.clone(), JsonBody::default()));
    let text = format!("{{{}}}", members(&world));
    let mut trailers = HeaderMap::new();
    trailers.append("x-checksum", "abc".parse().unwrap());
    trailers.append("x-checksum", "def".parse().unwrap());
    for chunk in [1, 30, 1000] {
        let mut frames: Vec<_> = text.as_bytes().chunks(chunk).map(|chunk| data(chunk.to_vec())).collect();
        frames.push(Ok(Frame::trailers(trailers.clone())));
        let answered = send(&app, post(watched(frames, true).0)).await;
        let json = answered.json();
        assert_eq!(json["body"], text, "{chunk:?}");
        assert_eq!(json["trailers"], json!(["x-checksum: \"abc\"", "x-checksum: \"def\""]), "{chunk:?}");
    }
    // Trailers are never credentials.
    let mut keys = HeaderMap::new();
    keys.insert("x-api-key", world.own.expose_secret().parse().unwrap());
    keys.insert("authorization", format!("Bearer {}", world.own.expose_secret()).parse().unwrap());
    let auth = ApiKeyAuth::new(world.store.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(JsonBody::default());
    let app = Router::new().fallback(shown).layer(auth);
    let frames = vec![data("{}"), Ok(Frame::trailers(keys))];
    assert_eq!(send(&app, post(watched(frames, true).0)).await.verdict(), MISSING);
}

/// I7: the handler gets the request unchanged, with its exact size. (The property test in `random` does the same with
/// random bodies.)
#[tokio::test]
async fn c3_29_the_handler_sees_what_was_sent() {
    async fn shown(request: Request<Body>) -> Json<Value> {
        let hint = http_body::Body::size_hint(request.body());
        let headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let uri = request.uri().to_string();
        let version = format!("{:?}", request.version());
        let method = request.method().to_string();
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Json(json!({
            "handler": true, "exact": hint.exact(), "length": length, "headers": headers, "uri": uri,
            "version": version, "method": method,
        }))
    }
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), JsonBody::default()).endpoints(endpoints()).unwrap();
    let app = Router::new().fallback(shown).layer(auth);
    let text = with(&world, r#""x":"\u00e4 \ud83d\udd11""#);
    let request = || {
        let frames = text.as_bytes().chunks(9).map(|chunk| data(chunk.to_vec())).collect();
        let mut request = post(watched(frames, true).0);
        *request.uri_mut() = "/a%20b/c?x=y&x=z".parse().unwrap();
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.append("x-twice", "1".parse().unwrap());
        headers.append("x-twice", "2".parse().unwrap());
        headers.insert("content-length", text.len().into());
        headers.insert("x-raw", http::HeaderValue::from_bytes(b"\xff").unwrap());
        request
    };
    let with_layer = send(&app, request()).await.json();
    let without = send(&Router::new().fallback(shown), request()).await.json();
    assert_eq!(with_layer["exact"], text.len());
    for part in ["length", "headers", "uri", "version", "method"] {
        assert_eq!(with_layer[part], without[part], "C3-29: {part}");
    }
}

#[tokio::test]
async fn c3_30_a_flood_of_empty_frames() {
    let world = World::new().await;
    let app = app(&world, JsonBody::default());
    let text = format!("{{{}}}", members(&world));
    let flood = |count: usize| {
        let mut frames: Vec<_> = (0..count).map(|_| data(Bytes::new())).collect();
        frames.push(data(text.clone()));
        frames
    };
    for (count, verdict) in [(10, "200:h"), (1024, "200:h"), (1025, MALFORMED)] {
        let answered = send(&app, post(watched(flood(count), true).0)).await;
        assert_eq!(answered.verdict(), verdict, "C3-30: {count} frames");
    }
    let (body, polls) = watched(flood(100_000), true);
    assert_eq!(send(&app, post(body)).await.verdict(), MALFORMED);
    assert_eq!(polls.load(SeqCst), 1025, "C3-30: so many frames were read");
}

/// The work is linear in the size of the body. No time is measured: it takes a few milliseconds, or minutes if the
/// work is quadratic.
#[tokio::test]
async fn c3_31_large_and_odd_objects() {
    let world = World::new().await;
    let site = Site::body(&world);
    let keys: Vec<String> = (0..90_000).map(|at| format!(r#""{at}":1"#)).collect();
    let bodies = [
        with(&world, &keys.join(",")),
        with(&world, &format!(r#""{}":1"#, "k".repeat(1_000_000))),
        with(&world, &format!(r#""x":"{}""#, "v".repeat(1_000_000))),
        with(&world, &format!(r#""x":"{}""#, "\\\\".repeat(500_000))),
        with(&world, &format!(r#""x":[{}1]"#, "1,".repeat(500_000))),
        with(&world, &format!(r#""{}":1"#, "_".repeat(1_000_000))),
        format!("{}{{{}}}", " ".repeat(1_000_000), members(&world)),
    ];
    for body in bodies {
        assert!(body.len() < 1 << 20);
        site.expect("C3-31", &upload(body), "200:h").await;
    }
}

#[tokio::test]
async fn c3_33_nothing_of_the_body_is_quoted() {
    let world = World::new().await;
    let site = Site::body(&world);
    let key = world.own.expose_secret();
    let bodies = [
        format!(r#"{{"apiKey":{{"x":"{key}"}}}}"#),
        format!(r#"{{"{key}":1"#),
        format!(r#"{{"apiKey":"{key}","apiKey":"{key}"}}"#),
        format!(r#"{{"apiKey":["{key}"]}}"#),
        format!(r#"{{"apiKey":"{key}"#),
        format!(r#""{key}""#),
        format!(r#"{{"{key}":{key}}}"#),
        format!(r#"{{"apiKey":"{key}","userId":{{"{key}":"{key}"}}}}"#),
    ];
    for body in bodies {
        // The test site looks for every secret in the response, the error and the error's source.
        let seen = site.expect_offline("C3-33", &upload(body), MALFORMED).await;
        let error = seen.answer.extensions.get::<AuthError>().unwrap();
        assert!(std::error::Error::source(error).is_none());
        assert_eq!(seen.answer.json()["message"], "Malformed request body");
    }
}

/// A handler may do anything with the body; with `redact_key`, there is no key in it.
#[tokio::test]
async fn c3_34_a_handler_behind_redact_key_cannot_show_the_key() {
    let world = World::new().await;
    let key = world.own.expose_secret();
    let app = app(&world, JsonBody::default().redact_key());
    let text = with(&world, r#""x":"y""#);
    let expected = text.replace(key, &"*".repeat(key.len()));
    for chunk in [1, 17, 1000] {
        let frames = text.as_bytes().chunks(chunk).map(|chunk| data(chunk.to_vec())).collect();
        let answered = send(&app, post(watched(frames, true).0)).await;
        assert_eq!(
            (answered.verdict().as_str(), answered.json()["body"].as_str()),
            ("200:h", Some(expected.as_str())),
            "{chunk:?}"
        );
    }
    // The sender's own copy of the bytes is not changed.
    let shared = Bytes::from(text.clone());
    let answered = send(&app, post(Body::from(shared.clone()))).await;
    assert_eq!(answered.json()["body"], expected);
    assert_eq!(shared, text);
    // A key with escapes cannot be replaced in place.
    let escaped = text.replacen("sk_", r"\u0073k_", 1);
    assert_eq!(send(&app, post(Body::from(escaped))).await.verdict(), MALFORMED);
    // Other members are not redacted; only the credential is.
    let other = with(&world, r#""note":"apiKey""#);
    let answered = send(&app, post(Body::from(other))).await;
    assert_eq!(answered.verdict(), "200:h");
}

/// The scheme only reads JSON bodies without a header credential; all other uploads are streamed.
#[tokio::test]
async fn c3_35_an_upload_with_a_header_credential_is_a_stream() {
    async fn first_frame(request: Request<Body>) -> Json<Value> {
        let mut body = request.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        Json(json!({"handler": true, "first": first.len()}))
    }
    let world = World::new().await;
    let auth = ApiKeyAuth::new(world.store.clone(), ApiKeyHeader::default()).or(JsonBody::default());
    let app = Router::new().fallback(first_frame).layer(auth);
    for kind in ["multipart/form-data; boundary=x", "application/json"] {
        // One frame, and then never anything more: the handler gets the first frame.
        let (body, polls) = watched(vec![data(vec![0; 10_000])], false);
        let mut request = post(body);
        let headers = request.headers_mut();
        headers.insert("content-type", kind.parse().unwrap());
        headers.insert("content-length", "1000000000".parse().unwrap());
        headers.insert("x-api-key", world.own.expose_secret().parse().unwrap());
        headers.insert("x-project-id", "p1".parse().unwrap());
        let answered = send(&app, request).await;
        assert_eq!(answered.json()["first"], 10_000, "{kind:?}");
        assert_eq!(polls.load(SeqCst), 1, "{kind:?}");
    }
}
