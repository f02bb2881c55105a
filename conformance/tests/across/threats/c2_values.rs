//! C2: the syntax of header values.

use serde_json::json;
use tower_api_key::{ApiKeyAuth, Environment, KeyFormat, Verifier};

use super::kit::{Ask, Site};
use test_kit::World;

const INVALID: &str = "401/invalid_api_key";

/// Sends the same text as a key through each of the three schemes.
fn asks(text: &[u8]) -> Vec<(&'static str, Ask)> {
    let bearer = [b"Bearer ", text].concat();
    let mut asks = vec![
        ("bearer", Ask::get("/projects").header("authorization", bearer)),
        ("header", Ask::get("/projects").header("x-api-key", text)),
    ];
    if let Ok(text) = str::from_utf8(text) {
        asks.push((
            "body",
            Ask::json("/upload", json!({"apiKey": text, "userId": "u_own", "projectId": "p1"})),
        ));
    }
    asks
}

struct Sites {
    bearer: Site,
    header: Site,
    body: Site,
}

impl Sites {
    fn new(world: &World) -> Self {
        Self { bearer: Site::bearer(world), header: Site::header(world), body: Site::body(world) }
    }

    fn of(&self, scheme: &str) -> &Site {
        match scheme {
            "bearer" => &self.bearer,
            "header" => &self.header,
            _ => &self.body,
        }
    }

    /// Expects that all of them refuse this text without calling a store.
    async fn refuse(&self, row: &str, text: impl AsRef<[u8]>) {
        for (scheme, ask) in asks(text.as_ref()) {
            self.of(scheme).expect_offline(row, &ask, INVALID).await;
        }
    }
}

#[tokio::test]
async fn c2_00_the_unchanged_key_is_accepted() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for (scheme, ask) in asks(world.own.expose_secret().as_bytes()) {
        let seen = sites.of(scheme).expect("C2", &ask, "200:h").await;
        assert_eq!((seen.user().as_str(), seen.calls), ("u_own", 2), "{scheme}");
    }
}

#[tokio::test]
async fn c2_01_the_scheme_in_any_case_and_several_spaces() {
    let world = World::new().await;
    let site = Site::bearer(&world);
    for start in ["bearer ", "BEARER ", "BeArEr ", "Bearer  ", "Bearer       "] {
        let ask = Ask::get("/sites").header("authorization", format!("{start}{}", world.own.expose_secret()));
        site.expect("C2-01", &ask, "200:h").await;
    }
}

#[tokio::test]
async fn c2_02_bearer_must_be_followed_by_one_token() {
    let world = World::new().await;
    let site = Site::bearer(&world);
    let key = world.own.expose_secret();
    let malformed = [
        format!("Bearer\t{key}"),
        format!("Bearer \t{key}"),
        format!("Bearer {key}\t"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer    ".to_owned(),
        "Bearer\t".to_owned(),
        format!("Bearer {key} x"),
        format!("Bearer {key} "),
        format!("Bearer {key},"),
        format!("Bearer ,{key}"),
        format!("Bearer \"{key}\""),
        format!("Bearer key={key}"),
        format!("Bearer {key}="),
        format!("Bearer ={key}"),
        format!("Bearer {key}=="),
        format!("Bearer {key};"),
        format!("Bearer <{key}>"),
        format!("Bearer Bearer {key}"),
        format!("Bearer\u{a0}{key}"),
    ];
    for value in &malformed[..19] {
        let seen =
            site.expect_offline("C2-02", &Ask::get("/sites").header("authorization", value), INVALID).await;
        assert_eq!(
            seen.answer.header("www-authenticate"),
            [r#"Bearer realm="api", error="invalid_token""#],
            "C2-02: {value:?}"
        );
    }
    // Without a space after `Bearer`, it is a longer name, and so another scheme.
    for value in [&malformed[19], &format!("Bearer{key}"), &format!("Bearer:{key}"), &format!("Bearer={key}")]
    {
        let ask = Ask::get("/sites").header("authorization", value);
        site.expect_offline("C2-02", &ask, "401/missing_api_key").await;
    }
    // HTTP/2 does not trim values. Because other readers do, this counts as a malformed credential.
    let ask = Ask::get("/sites").header("authorization", format!(" Bearer {key}"));
    site.expect_offline("C2-02", &ask, INVALID).await;
}

#[tokio::test]
async fn c2_03_empty_values_and_null_texts() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for text in
        ["", "\"\"", "''", "null", "undefined", "None", "nil", "NaN", "[object Object]", "0", "false", "{}"]
    {
        sites.refuse("C2-03", text).await;
    }
}

#[tokio::test]
async fn c2_04_bytes_that_are_no_ascii() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    for extra in ["\u{a0}", "\u{200b}", "\u{ef}", "\u{feff}", "\u{1f511}", "\u{212a}", "\u{202e}"] {
        sites.refuse("C2-04", format!("{key}{extra}")).await;
        sites.refuse("C2-04", format!("{extra}{key}")).await;
        sites.refuse("C2-04", format!("{}{extra}{}", &key[..20], &key[20..])).await;
    }
    for raw in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\x80", b"\xfe\xff"] {
        sites.refuse("C2-04", [key.as_bytes(), raw].concat()).await;
        sites.refuse("C2-04", [raw, key.as_bytes()].concat()).await;
        // In place of a character: a lossy conversion must not turn this into a key.
        sites.refuse("C2-04", [&key.as_bytes()[..46], raw].concat()).await;
    }
}

#[tokio::test]
async fn c2_05_nothing_is_trimmed() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    for text in
        [format!(" {key} "), format!("{key} "), format!("\t{key}"), format!("{key}\t"), format!(" \t{key}")]
    {
        sites
            .header
            .expect_offline("C2-05", &Ask::get("/projects").header("x-api-key", &text), INVALID)
            .await;
        let body = json!({"apiKey": text, "userId": "u_own", "projectId": "p1"});
        sites.body.expect_offline("C2-05", &Ask::json("/upload", body), INVALID).await;
    }
    for text in [format!("{key}\n"), format!("{key}\r\n"), format!("\n{key}"), format!("{key}\u{b}")] {
        let body = json!({"apiKey": text, "userId": "u_own", "projectId": "p1"});
        sites.body.expect_offline("C2-05", &Ask::json("/upload", body), INVALID).await;
    }
}

#[tokio::test]
async fn c2_06_long_keys_are_refused_unhashed() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    for length in [48, 512, 513, 20_000, 60_000] {
        sites.refuse("C2-06", "a".repeat(length)).await;
        let padded: String = key.chars().chain(std::iter::repeat('0')).take(length).collect();
        sites.refuse("C2-06", &padded).await;
    }

    // If foreign keys are accepted, look-ups are limited to 512 bytes; one byte more, and the store is not called.
    let foreign = Site::new(&world, |store, routes| {
        let verifier = Verifier::new(store).accept_foreign_keys();
        routes.layer(ApiKeyAuth::with_verifier(verifier, tower_api_key::scheme::ApiKeyHeader::default()))
    });
    for (length, calls) in [(1, 1), (40, 1), (511, 1), (512, 1), (513, 0), (514, 0), (20_000, 0)] {
        let ask = Ask::get("/projects").header("x-api-key", "k".repeat(length));
        let seen = foreign.expect("C2-06", &ask, INVALID).await;
        assert_eq!(seen.calls, calls, "C2-06: a foreign key of {length} bytes");
    }
    let ask = Ask::get("/projects").header("x-api-key", "");
    foreign.expect_offline("C2-06", &ask, INVALID).await;
    let foreign = Site::new(&world, |store, routes| {
        let verifier = Verifier::new(store).accept_foreign_keys();
        routes.layer(ApiKeyAuth::with_verifier(verifier, tower_api_key::scheme::JsonBody::default()))
    });
    for (length, calls) in [(0, 0), (1, 1), (512, 1), (513, 0)] {
        let body = json!({"apiKey": "k".repeat(length), "userId": "u_own", "projectId": "p1"});
        let seen = foreign.expect("C2-06", &Ask::json("/upload", body), INVALID).await;
        assert_eq!(seen.calls, calls, "C2-06: a foreign key of {length} bytes in a body");
    }
}

/// Replaces the character at `at` by another one of base62.
fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn c2_07_a_wrong_checksum() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    for at in 8..key.len() {
        sites.refuse("C2-07", changed(key, at)).await;
    }
    // Two changes that might cancel each other out in a weaker checksum.
    sites.refuse("C2-07", changed(&changed(key, 10), 46)).await;
}

#[tokio::test]
async fn c2_08_another_spelling_of_a_key() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    let spellings = [
        key.to_uppercase(),
        key.to_lowercase(),
        key.replacen("sk", "SK", 1),
        key.replacen("live", "LIVE", 1),
        key.replacen('_', "%5F", 1),
        key.replacen('_', "-", 1),
        key.replace('_', ""),
        format!("secret-token:{key}"),
        format!("{key}?"),
        format!("{key}/"),
    ];
    for spelling in &spellings {
        // It is possible, but very unlikely, that a key has no lower-case letters.
        if spelling != key {
            sites.refuse("C2-08", spelling).await;
        }
    }
    let nul = json!({"apiKey": format!("{key}\0"), "userId": "u_own", "projectId": "p1"});
    sites.body.expect_offline("C2-08", &Ask::json("/upload", nul), INVALID).await;
}

/// All prefixes, deletions, insertions and transpositions of a valid key.
#[tokio::test]
async fn c2_09_every_near_miss_of_a_valid_key() {
    let world = World::new().await;
    let site = Site::header(&world);
    let key = world.own.expose_secret();
    let mut misses: Vec<String> = (0..key.len()).map(|end| key[..end].to_owned()).collect();
    misses.extend((1..key.len()).map(|start| key[start..].to_owned()));
    misses.extend((0..key.len()).map(|at| [&key[..at], &key[at + 1..]].concat()));
    for at in 0..=key.len() {
        for inserted in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-" {
            misses.push(format!("{}{}{}", &key[..at], char::from(*inserted), &key[at..]));
        }
    }
    for at in 1..key.len() {
        let mut bytes = key.as_bytes().to_vec();
        bytes.swap(at - 1, at);
        misses.push(String::from_utf8(bytes).unwrap());
    }
    misses.retain(|miss| miss != key);
    assert!(misses.len() > 3000);
    for miss in &misses {
        let ask = Ask::get("/projects").header("x-api-key", miss);
        site.expect_offline("C2-09", &ask, INVALID).await;
    }
}

/// Appends the right checksum, which anybody can compute.
fn with_checksum(body: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = !0_u32;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let mut number = !crc;
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    format!("{body}{}", str::from_utf8(&digits).unwrap())
}

#[tokio::test]
async fn c2_10_the_random_part_of_a_key_in_another_environment() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let key = world.own.expose_secret();
    // The checksum is not secret: this implementation computes it correctly.
    assert_eq!(with_checksum(&key[..41]), key);
    let forged = with_checksum(&format!("sk_test_{}", &key[8..41]));
    assert_eq!(KeyFormat::default().environment_of(&forged), Some(Environment::Test));
    for (scheme, ask) in asks(forged.as_bytes()) {
        let seen = sites.of(scheme).expect("C2-10", &ask, INVALID).await;
        assert_eq!(seen.calls, 1, "C2-10: the store was to be asked once");
    }
    // Another prefix, another random part and another length are refused, too.
    for body in
        [format!("pk_live_{}", &key[8..41]), format!("sk_live_{}", &key[9..41]), format!("{}0", &key[..41])]
    {
        sites.refuse("C2-10", with_checksum(&body)).await;
    }
    // So are characters that issued keys do not have.
    for body in
        ["-".repeat(33), format!("{}_", "0".repeat(32)), format!("{}\u{e4}", "0".repeat(31)), " ".repeat(33)]
    {
        let forged = with_checksum(&format!("sk_live_{body}"));
        assert_eq!(KeyFormat::default().environment_of(&forged), None, "C2-10: {forged:?}");
        sites.refuse("C2-10", forged).await;
    }
    // At every position.
    for place in 0..33 {
        for other in ["-", "_", "/", "@", "[", "{", " "] {
            let mut body = key[8..41].to_owned();
            body.replace_range(place..=place, other);
            let forged = with_checksum(&format!("sk_live_{body}"));
            assert_eq!(KeyFormat::default().environment_of(&forged), None, "C2-10: {other:?} at {place}");
        }
    }
    // So is the prefix in another case, even with the right checksum.
    for prefix in ["SK_LIVE_", "SK_live_", "Sk_live_", "sk_LIVE_", "sk_Live_", "SK_TEST_", "sk_Test_"] {
        let forged = with_checksum(&format!("{prefix}{}", &key[8..41]));
        assert_eq!(KeyFormat::default().environment_of(&forged), None, "C2-10: {prefix:?}");
        sites.refuse("C2-10", forged).await;
    }
    for text in ["", "sk_live_", "sk_test_", &"0".repeat(47), &key[..41]] {
        assert_eq!(KeyFormat::default().environment_of(text), None, "C2-10: {text:?}");
    }
    let random = with_checksum(&format!("sk_live_{}", "0".repeat(33)));
    for (scheme, ask) in asks(random.as_bytes()) {
        sites.of(scheme).expect("C2-10", &ask, INVALID).await;
    }
}

#[tokio::test]
async fn c2_12_invalid_and_unknown_projects() {
    let world = World::new().await;
    let header = Site::header(&world);
    let bearer = Site::bearer(&world);
    let body = Site::body(&world);
    let long = "p".repeat(129);
    let longer = "p".repeat(300);
    let malformed = [
        "\u{ef}", &long, &longer, "../p1", "p1%00", "p1 ", "p1/", "p1,p2", "p1;", "{p1}", "p1\\", "'p1'",
        "*", "p1\u{0}",
    ];
    for value in malformed {
        let body_ask = json!({"apiKey": world.full.expose_secret(), "userId": "u_full", "projectId": value});
        body.expect("C2-12", &Ask::json("/upload", body_ask), "400/invalid_project").await;
        if value.contains('\0') {
            continue;
        }
        let ask = Ask::get("/sites").project(value);
        header.expect("C2-12", &ask.clone().api_key(&world.full), "400/invalid_project").await;
        bearer.expect("C2-12", &ask.bearer(&world.full), "400/invalid_project").await;
    }
    let unknown = ["P1", "p1.", "p11", "p", "-", "p1:", "p3", "q1", &long[..128]];
    for value in unknown {
        let ask = Ask::get("/sites").project(value);
        header.expect("C2-12", &ask.clone().api_key(&world.full), "403/forbidden").await;
        bearer.expect("C2-12", &ask.clone().bearer(&world.full), "403/forbidden").await;
        let body_ask = json!({"apiKey": world.full.expose_secret(), "userId": "u_full", "projectId": value});
        body.expect("C2-12", &Ask::json("/upload", body_ask), "403/forbidden").await;
        // With a project-level key, only its own project may be named.
        header.expect("C2-12", &ask.api_key(&world.p1), "403/project_mismatch").await;
    }
    header.expect("C2-12", &Ask::get("/sites").project("p1").api_key(&world.p1), "200:h").await;
    let seen = header.expect("C2-12", &Ask::get("/sites").api_key(&world.p1), "200:h").await;
    assert_eq!(seen.project(), "p1");
}
