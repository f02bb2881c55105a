//! Sends arbitrary bodies and headers through the layer, and compares the result with that of a slow and simple
//! reader. The property tests beside it and the fuzz targets in `fuzz/` use it.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody, Or};
use tower_api_key::store::{Directory, KeyStore, StoreError};
use tower_api_key::{
    AccountStatus, ApiKeyAuth, Endpoints, Environment, KeyDigest, KeyFormat, KeyId, KeyRecord, Principal,
    ProjectId, Role, Timestamp, UserId, Verifier,
};

/// A store that knows every key; all belong to one owner with all rights. It records the last key that was looked up.
#[derive(Clone)]
struct Everything {
    owner: Arc<Mutex<UserId>>,
    asked: Arc<Mutex<Option<[u8; 32]>>>,
}

#[async_trait]
impl KeyStore for Everything {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        *self.asked.lock().unwrap() = Some(*digest.as_bytes());
        let owner = self.owner.lock().unwrap().clone();
        let id = KeyId::new("k").unwrap();
        Ok(Some(Arc::new(KeyRecord::new(id, *digest, owner, Timestamp::from_secs(1)))))
    }
}

#[async_trait]
impl Directory for Everything {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        Ok(AccountStatus::Active { role: Some(Role::Owner) })
    }
}

/// What the handler saw.
#[derive(Clone, Debug)]
struct Seen {
    /// Whether there was a principal.
    somebody: bool,
    project: Option<String>,
    body: Bytes,
    exact: Option<u64>,
    trailers: Option<HeaderMap>,
}

type Boxed = UnsyncBoxBody<Bytes, Infallible>;

/// The result of a request: the error code, or what the handler saw.
type Outcome = Result<Seen, String>;

/// Everything that is needed to run an input, created once.
pub(crate) struct Rig {
    runtime: tokio::runtime::Runtime,
    store: Everything,
    plain: ApiKeyAuth<JsonBody>,
    redacting: ApiKeyAuth<JsonBody>,
    /// With endpoints where a key is optional.
    optional: ApiKeyAuth<JsonBody>,
    /// Each for keys of our own format, and for foreign keys.
    bearer: [ApiKeyAuth<Bearer>; 2],
    header: [ApiKeyAuth<ApiKeyHeader>; 2],
    both: [ApiKeyAuth<Or<Bearer, ApiKeyHeader>>; 2],
    keys: [String; 2],
}

impl Default for Rig {
    fn default() -> Self {
        let store = Everything { owner: Arc::new(Mutex::new(user("someone"))), asked: Arc::default() };
        let body = |redact: bool| {
            let verifier = Verifier::new(store.clone()).accept_foreign_keys();
            let scheme = JsonBody::default();
            ApiKeyAuth::with_verifier(verifier, if redact { scheme.redact_key() } else { scheme })
        };
        let verifier = |foreign| {
            let plain = Verifier::new(store.clone());
            if foreign { plain.accept_foreign_keys() } else { plain }
        };
        let scheme = || Bearer::default().project_header("X-Project-ID").unwrap();
        let key =
            |environment| KeyFormat::default().generate(environment).unwrap().expose_secret().to_owned();
        // All records of this store are for the live environment.
        let (valid, other) = (key(Environment::Live), key(Environment::Live));
        let wrong = other[..46].to_owned() + if other.ends_with('a') { "b" } else { "a" };
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            plain: body(false),
            redacting: body(true),
            optional: body(false).endpoints(Endpoints::new().optional(Method::POST, "/x").by_path()).unwrap(),
            bearer: [false, true].map(|foreign| ApiKeyAuth::with_verifier(verifier(foreign), scheme())),
            header: [false, true]
                .map(|foreign| ApiKeyAuth::with_verifier(verifier(foreign), ApiKeyHeader::default())),
            both: [false, true].map(|foreign| {
                ApiKeyAuth::with_verifier(verifier(foreign), scheme()).or(ApiKeyHeader::default())
            }),
            keys: [valid, wrong],
            store,
        }
    }
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte))
}

fn word(word: &str) -> Outcome {
    Err(word.to_owned())
}

/// Sends a request with a body of these frames through a layer. It is a macro because each layer has its own type.
macro_rules! through {
    ($rig:expr, $auth:expr, $request:expr) => {{
        let seen = Arc::new(Mutex::new(None));
        let inside = Arc::clone(&seen);
        let handler = tower::service_fn(move |request: Request<Boxed>| {
            let inside = Arc::clone(&inside);
            async move {
                let who = request.extensions().get::<Principal>();
                let somebody = who.is_some();
                let project = who.and_then(Principal::project).map(|project| project.to_string());
                let exact = http_body::Body::size_hint(request.body()).exact();
                let collected = request.into_body().collect().await.unwrap();
                let trailers = collected.trailers().cloned();
                let body = collected.to_bytes();
                *inside.lock().unwrap() = Some(Seen { somebody, project, body, exact, trailers });
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        let service = $auth.layer(handler);
        let response = $rig.runtime.block_on(service.oneshot($request)).unwrap();
        let seen = seen.lock().unwrap().take();
        match (seen, response.extensions().get::<tower_api_key::AuthError>()) {
            (Some(seen), None) => Ok(seen),
            (None, Some(error)) => {
                assert_ne!(response.status().as_u16(), 500);
                Err(error.public_code().to_owned())
            }
            other => panic!("neither accepted nor refused: {other:?}"),
        }
    }};
}

/// The members of an object in order, including duplicates.
struct Members(Vec<(String, Value)>);

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some(member) = members.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

/// The three strings as a simple reader finds them; `None` if two readers could disagree, or one would refuse.
fn read(text: &[u8]) -> Option<[Option<String>; 3]> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let Members(members) = deserializer.deserialize_map(Members(Vec::new())).ok()?;
    let fold = |name: &str| {
        let name = name.replace(['_', '-'], "").replace('\u{212a}', "k").replace('\u{17f}', "s");
        name.to_ascii_lowercase()
    };
    let mut found = [None, None, None];
    for (slot, name) in found.iter_mut().zip(["apiKey", "userId", "projectId"]) {
        let exact: Vec<&Value> =
            members.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect();
        let similar = members.iter().filter(|(other, _)| fold(other) == fold(name)).count();
        match exact.as_slice() {
            [] => {}
            [Value::Null] if similar == 1 => {}
            [Value::String(text)] if similar == 1 => *slot = Some(text.clone()),
            _ => return None,
        }
        // The handler's `Value` has the same strings.
        assert_eq!(value.get(name).and_then(Value::as_str), slot.as_deref());
    }
    Some(found)
}

impl Rig {
    /// Runs one body, split into frames as `cuts` says, perhaps with trailers.
    pub(crate) fn json_body(&self, text: &[u8], cuts: &[u8]) -> bool {
        let expected = read(text);
        let [key, claimed, project] = expected.clone().unwrap_or_default();
        let owner = claimed.as_deref().filter(|claimed| is_id(claimed)).unwrap_or("someone");
        *self.store.owner.lock().unwrap() = user(owner);
        *self.store.asked.lock().unwrap() = None;
        let verdict = match (&expected, &key, &claimed, &project) {
            _ if text.is_empty() => "missing_api_key",
            (None, ..) => "malformed_body",
            (_, None, ..) => "missing_api_key",
            (_, Some(key), ..) if !(1..=512).contains(&key.len()) || key.contains('\0') => "invalid_api_key",
            (.., claimed, _) if claimed.as_deref() != Some(owner) => "invalid_user",
            (.., None) => "project_required",
            (.., Some(project)) if !is_id(project) => "invalid_project",
            _ => "",
        };
        let trailers = cuts.first().is_some_and(|first| first % 4 == 1);
        let outcome: Outcome = through!(self, self.plain, request(text, cuts, trailers));
        // Names that the parser reserves are refused, even where `Value` accepts them.
        let private = unescaped(text).contains("$serde_json::private::");
        let refused_for_that = private && matches!(&outcome, Err(word) if word == "malformed_body");
        let shown = String::from_utf8_lossy(text);
        match &outcome {
            Err(word) => {
                assert!(refused_for_that || word == verdict, "{word}, and not {verdict:?}, for {shown}")
            }
            Ok(seen) => {
                assert_eq!(verdict, "", "accepted: {shown}");
                assert!(seen.somebody, "without a principal: {shown}");
                assert_eq!(seen.body, text, "other bytes for {shown}");
                assert_eq!(seen.exact, Some(text.len() as u64), "another size for {shown}");
                assert_eq!(seen.project, project, "another project for {shown}");
                assert_eq!(seen.trailers.is_some(), trailers, "other trailers for {shown}");
            }
        }
        let asked = *self.store.asked.lock().unwrap();
        let refused_at_once = matches!(
            outcome.as_ref().err().map(String::as_str),
            Some("malformed_body" | "missing_api_key" | "invalid_api_key")
        );
        let digest = key.as_deref().filter(|_| !refused_at_once).map(|key| *KeyDigest::of(key).as_bytes());
        assert_eq!(asked, digest, "another key for {shown}");

        // With an optional key: the same result, except that a request without a key is accepted without a principal.
        let optional: Outcome = through!(self, self.optional, request(text, cuts, trailers));
        let named = serde_json::from_slice::<Value>(text).is_ok_and(|value| value.get("apiKey").is_some());
        match (&outcome, &optional) {
            (Err(word), Ok(seen)) => {
                let nobody = !seen.somebody && word == "missing_api_key" && !named;
                assert!(nobody, "let in where a key is optional: {shown}");
                assert_eq!(seen.body, text, "other bytes for {shown}");
                assert_eq!(seen.trailers.is_some(), trailers, "other trailers for {shown}");
            }
            (Err(word), Err(other)) => {
                assert!(word == other && (named || word != "missing_api_key"), "{word}, {other}: {shown}");
            }
            (Ok(_), Ok(seen)) => assert!(seen.somebody, "nobody, with a good key: {shown}"),
            (Ok(_), Err(word)) => panic!("{word}, where a key is optional, for {shown}"),
        }

        // With redaction: the same result, and the same bytes except for the key.
        let redacted: Outcome = through!(self, self.redacting, request(text, cuts, trailers));
        match (&outcome, &redacted) {
            (Ok(_), Ok(seen)) => {
                let key = key.unwrap_or_default();
                let stars = b"*".repeat(key.len());
                let hidden = (0..=text.len() - key.len()).any(|at| {
                    let end = at + key.len();
                    text[at..end] == *key.as_bytes()
                        && seen.body[at..end] == *stars
                        && seen.body[..at] == text[..at]
                        && seen.body[end..] == text[end..]
                });
                assert!(hidden && seen.body.len() == text.len(), "wrongly redacted: {shown}");
            }
            (_, Err(word)) if word == "malformed_body" && text.contains(&b'\\') => {}
            (Err(one), Err(other)) => assert_eq!(one, other, "redacting changes the verdict on {shown}"),
            other => panic!("redacting changes the outcome on {shown}: {other:?}"),
        }
        outcome.is_ok()
    }
}

/// The text without `\u00..` escapes.
fn unescaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut parts = text.split("\\u00");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        text.extend(digits.map(char::from));
        text + digits.and(part.get(2..)).unwrap_or(part)
    })
}

/// Frames of the sizes in `cuts`, repeated; 0 is an empty frame.
fn request(text: &[u8], cuts: &[u8], trailers: bool) -> Request<Boxed> {
    let mut frames = Vec::new();
    let mut rest = text;
    let mut sizes = cuts.iter().map(|size| usize::from(*size)).chain(std::iter::repeat(usize::MAX));
    let mut empty = 0;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).min(rest.len());
        empty += usize::from(size == 0);
        let size = if empty > 100 { rest.len() } else { size };
        let (frame, after) = rest.split_at(size);
        frames.push(http_body::Frame::data(Bytes::copy_from_slice(frame)));
        rest = after;
    }
    if trailers {
        let mut map = HeaderMap::new();
        map.insert("x-trailer", HeaderValue::from_static("1"));
        frames.push(http_body::Frame::trailers(map));
    }
    let body = UnsyncBoxBody::new(Frames(frames.into_iter()));
    Request::post("/x").header("content-type", "application/json").body(body).unwrap()
}

struct Frames(std::vec::IntoIter<http_body::Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

/// The header lines of an input, one per line; the first character selects the header. `\x01` in a value stands for a
/// valid key, `\x02` for one with a wrong checksum.
fn lines(input: &[u8], keys: &[String; 2]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some((first, rest)) = line.split_first() else { continue };
        let name = match first {
            b'a' => "authorization",
            b'k' => "x-api-key",
            b'p' => "x-project-id",
            _ => "x-other",
        };
        let value: Vec<u8> = rest
            .iter()
            .flat_map(|byte| match byte {
                1 => keys[0].as_bytes().to_vec(),
                2 => keys[1].as_bytes().to_vec(),
                other => vec![*other],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// What a scheme finds, by a simple reading of the rules.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Nothing,
    Repeated,
    Malformed,
    Key(String),
}

fn values<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

fn bearer(headers: &HeaderMap) -> Found {
    let lines = values(headers, "authorization");
    let ours = |line: &&[u8]| {
        let text = String::from_utf8_lossy(line.trim_ascii_start()).to_ascii_lowercase();
        text == "bearer" || text.starts_with("bearer ") || text.starts_with("bearer\t")
    };
    match lines.as_slice() {
        lines if !lines.iter().any(ours) => Found::Nothing,
        [line] if line.trim_ascii_start() != *line => Found::Malformed,
        [line] => {
            let token = String::from_utf8_lossy(line)[6..].trim_start_matches(' ').to_owned();
            let stem = token.trim_end_matches('=');
            let alphabet = |letter: char| letter.is_ascii_alphanumeric() || "-._~+/".contains(letter);
            if stem.is_empty() || !stem.chars().all(alphabet) { Found::Malformed } else { Found::Key(token) }
        }
        _ => Found::Repeated,
    }
}

fn api_key(headers: &HeaderMap) -> Found {
    match values(headers, "x-api-key").as_slice() {
        [] => Found::Nothing,
        [line] if !line.is_empty() && line.iter().all(|byte| (0x21..=0x7e).contains(byte)) => {
            Found::Key(String::from_utf8_lossy(line).into_owned())
        }
        [_] => Found::Malformed,
        _ => Found::Repeated,
    }
}

/// The format of a key, spelled out.
fn is_key(text: &str) -> bool {
    const ALPHABET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some(rest) = text.strip_prefix("sk_live_").or(text.strip_prefix("sk_test_")) else { return false };
    if rest.len() != 39 || !rest.chars().all(|letter| ALPHABET.contains(letter)) {
        return false;
    }
    let (body, checksum) = text.split_at(text.len() - 6);
    let said = checksum.chars().fold(0_u64, |sum, letter| sum * 62 + ALPHABET.find(letter).unwrap() as u64);
    let mut crc = !0_u32;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    said == u64::from(!crc)
}

impl Rig {
    /// Runs some header lines, through each scheme and both, with keys of our own format and with foreign keys.
    pub(crate) fn headers(&self, input: &[u8]) -> bool {
        let headers = lines(input, &self.keys);
        *self.store.owner.lock().unwrap() = user("someone");
        let mut accepted = false;
        for foreign in [false, true] {
            for (with_bearer, with_header) in [(true, false), (false, true), (true, true)] {
                let expected = expected(&headers, foreign, with_bearer, with_header);
                let at = usize::from(foreign);
                let mut request = Request::new(Full::<Bytes>::default().boxed_unsync());
                *request.headers_mut() = headers.clone();
                let outcome: Outcome = match (with_bearer, with_header) {
                    (true, false) => through!(self, self.bearer[at], request),
                    (false, _) => through!(self, self.header[at], request),
                    (true, true) => through!(self, self.both[at], request),
                };
                let outcome = outcome.map(|seen| seen.project);
                assert_eq!(
                    outcome, expected,
                    "foreign {foreign}, bearer {with_bearer}, header {with_header}: {headers:?}"
                );
                accepted |= outcome.is_ok();
            }
        }
        accepted
    }
}

fn expected(
    headers: &HeaderMap,
    foreign: bool,
    with_bearer: bool,
    with_header: bool,
) -> Result<Option<String>, String> {
    let bearer = if with_bearer { bearer(headers) } else { Found::Nothing };
    let api_key = if with_header { api_key(headers) } else { Found::Nothing };
    let refuse = |code: &str| word(code).map(|seen| seen.project);
    let by_header = bearer == Found::Nothing;
    let found = match (bearer, api_key) {
        (Found::Nothing, Found::Nothing) => return refuse("missing_api_key"),
        (found, Found::Nothing) | (Found::Nothing, found) => found,
        _ => return refuse("conflicting_credentials"),
    };
    let projects = values(headers, "x-project-id");
    if found == Found::Repeated || projects.len() > 1 {
        return refuse("conflicting_credentials");
    }
    match found {
        Found::Key(key) if is_key(&key) => {
            // The records of this store are for the live environment.
            if key.starts_with("sk_test_") {
                return refuse("auth_unavailable");
            }
        }
        Found::Key(key) if foreign && (1..=512).contains(&key.len()) => {}
        _ => return refuse("invalid_api_key"),
    }
    match projects.first().map(|project| String::from_utf8_lossy(project).into_owned()) {
        None if by_header => refuse("project_required"),
        None => Ok(None),
        Some(project) if is_id(&project) => Ok(Some(project)),
        Some(_) => refuse("invalid_project"),
    }
}

/// Bodies that some JSON parser got wrong.
pub(crate) const BODIES: [&[u8]; 49] = [
    br#"{"apiKey":"k","userId":"u","projectId":"p"}"#,
    br#" { "projectId" : "p" , "x" : [1, 2.5e3, -0, true, null, {"a":"b"}] , "userId":"u", "apiKey":"k" } "#,
    br#"{"apiKey":"k","apiKey":"l","userId":"u","projectId":"p"}"#,
    br#"{"apiKey":"k","api\u004bey":"l","userId":"u","projectId":"p"}"#,
    br#"{"\u0061piKey":"k","userId":"u","projectId":"p"}"#,
    br#"{"apiKey":null,"apiKey":"k","userId":"u","projectId":"p"}"#,
    br#"{"apiKey":"k","userId":"u","projectId":null,"projectId":"p"}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p"}garbage"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p"}{"apiKey":"l","userId":"v","projectId":"q"}"#,
    b"{\"apiKey\":\"k\",\"userId\":\"u\",\"projectId\":\"p\"}\0",
    br#"{"apiKey":"k","userId":"u","projectId":"p""#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":[1,,2]}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":tru}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":01}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":NaN}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p"/*c*/}"#,
    b"{\"apiKey\":\"k\",\"userId\":\"u\",\"projectId\":\"p\",\"x\":\"\x01\"}",
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":"\q"}"#,
    b"{\"apiKey\":\"k\",\"userId\":\"u\",\"projectId\":\"p\",\"x\":\"\xff\"}",
    b"{\"apiKey\":\"k\",\"userId\":\"u\",\"projectId\":\"p\",\"x\":\"\xc0\x80\"}",
    b"{\"apiKey\":\"k\",\"userId\":\"u\",\"projectId\":\"p\",\"\xed\xa0\x80\":1}",
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":"\ud800"}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":"\udc00\ud800"}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":"\ud83d\udd11"}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":1e999}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":-1e999}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":123456789012345678901234567890}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"#,
    br#"["k","u","p"]"#,
    br#"[{"apiKey":"k","userId":"u","projectId":"p"}]"#,
    br#""k""#,
    br#"null"#,
    br#"1"#,
    b"\xef\xbb\xbf{\"apiKey\":\"k\",\"userId\":\"u\",\"projectId\":\"p\"}",
    b"\xff\xfe{\0\"\0a\0p\0i\0K\0e\0y\0\"\0:\0\"\0k\0\"\0}\0",
    br#"{"apiKey":1,"userId":"u","projectId":"p"}"#,
    br#"{"apiKey":["k"],"userId":"u","projectId":"p"}"#,
    br#"{"apiKey":{"$ne":null},"userId":"u","projectId":"p"}"#,
    br#"{"apiKey":"k","userId":true,"projectId":{}}"#,
    br#"{"apiKey":"k","ApiKey":"l","userId":"u","projectId":"p"}"#,
    br#"{"apiKey":"k","api_key":"l","userId":"u","projectId":"p"}"#,
    "{\"apiKey\":\"k\",\"api\u{212a}ey\":\"l\",\"userId\":\"u\",\"projectId\":\"p\"}".as_bytes(),
    "{\"apiKey\":\"k\",\"u\u{17f}erId\":\"v\",\"userId\":\"u\",\"projectId\":\"p\"}".as_bytes(),
    br#"{"user":{"apiKey":"k","userId":"u","projectId":"p"}}"#,
    br#"{"apiKey":"k\u0000","userId":"u","projectId":"p "}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","$serde_json::private::Number":"1"}"#,
    br#"{"apiKey":"k","userId":"u","projectId":"p","x":{"$serde_json::private::RawValue":"[1"}}"#,
    br#"{"apiKey":"\u006b","userId":"\u0075","projectId":"\u0070","a":{"apiKey":"x","apiKey":"y"}}"#,
    b"{}",
];

/// Header lines that some parser got wrong; see [`lines`].
pub(crate) const LINES: [&[u8]; 24] = [
    b"aBearer \x01",
    b"aBearer \x01\npp1",
    b"k\x01\npp1",
    b"k\x01",
    b"k\x02\npp1",
    b"abearer   \x01",
    b"aBEARER\t\x01",
    b"aBearer \x01 x",
    b"aBearer \x01,\x01",
    b"aBearer \x01\naBearer \x01",
    b"aBasic dTpw\naBearer \x01",
    b"aBasic dTpw\nk\x01\npp1",
    b"aBearer\nk\x01\npp1",
    b"aBearer x\npp1\npp2",
    b"k\x01\nk\x01\npp1",
    b"k\x01\xff\npp1",
    b"k \x01 \npp1",
    b"k\npp1",
    b"k\x01\np",
    b"k\x01\npp1,p2",
    b"kimported=key\npp:1@a.b-c_d",
    b"aBearer imported+key/x==",
    b"aBearer ==",
    b"aBearer\xa0\x01",
];
