//! C3-29: the scanner, the strict reader and `serde_json::Value` on the same texts.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::*;

const NAMES: [&str; 3] = ["apiKey", "userId", "projectId"];

/// Reads a text with both readers and with `Value`, and returns whether the scanner accepted it.
fn compare(text: &[u8], names: &MemberNames) -> bool {
    let shown = || String::from_utf8_lossy(text).into_owned();
    let strict = json_strict::read(text, names).ok();
    let scanned = scan(text, names);
    let found = |fields: &Fields<'_>| {
        let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        ([&fields.key, &fields.user, &fields.project].map(owned), fields.names_key)
    };
    if let Some(scanned) = &scanned {
        assert_eq!(Some(found(scanned)), strict.as_ref().map(found), "the strict reader on {}", shown());
    }
    if let Some(strict) = &strict {
        let value: Value =
            serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", shown()));
        let (strings, names_key) = found(strict);
        let said = NAMES.map(|name| value.get(name).and_then(Value::as_str).map(str::to_owned));
        assert_eq!((said, value.get(NAMES[0]).is_some()), (strings, names_key), "`Value` on {}", shown());
    }
    scanned.is_some()
}

/// An object with the three credentials and these members.
fn with(members: &str) -> String {
    format!(r#"{{"apiKey":"k","userId":"u","projectId":"p",{members}}}"#)
}

#[test]
fn c3_29_plain_texts_are_left_to_nobody() {
    let digits = "9".repeat(200);
    let texts = [
        "{}".to_owned(),
        " \t\r\n{ \n} \n".to_owned(),
        r#"{"apiKey":null,"userId":"","projectId":"ä🔑"}"#.to_owned(),
        r#"{"a":1,"projectId":"p","b":{"apiKey":"x","apiKey":1},"userId":"u","apiKey":"k"}"#.to_owned(),
        r#"{"apiKe":1,"apiKeys":2,"":3,"xapiKey":4,"user":5,"projectId":null}"#.to_owned(),
        with(r#""a": [ ] , "b": { } , "c": [ [ ] , { "d" : [ 1 , 2 ] } ]"#),
        with(
            r#""a":"\"\\\/\b\f\n\r\t\u0000\u00e4\ud83d\udd11\uFFFF","b":"long enough for two steps \\ äöü""#,
        ),
        with(
            r#""a":[0,-0,1,-1,10,0.5,-0.05,1e5,1E+10,1e-99,0e0,12.5e99,18446744073709551616,true,false,null]"#,
        ),
        with(&format!(r#""a":{digits},"b":0.{}"#, &digits[2..])),
        with(&format!(r#""a":{}{}"#, "[".repeat(63), "]".repeat(63))),
        with(&format!(r#""a":{}1{}"#, r#"{"b":[0,"#.repeat(31), "]}".repeat(31))),
        with(&format!(r#""{0}":"{0}""#, "-".repeat(100_000))),
    ];
    for text in texts {
        assert!(compare(text.as_bytes(), &MemberNames::documented()), "not scanned: {text}");
    }
}

#[test]
fn c3_29_what_is_not_plain_is_left_to_the_strict_reader() {
    let digits = "9".repeat(201);
    let values = [
        // Accepted, but not for the scanner to say.
        r#"{"a\u0062":1}"#,
        r#"{"$ne":1}"#,
        "1e100",
        "1e-400",
        &digits,
        &format!("{}{}", "[".repeat(64), "]".repeat(64)),
        r#"{"$serde_json::private::Number":"1"}"#,
        // Refused by all.
        "1e999",
        "-1e999",
        "01",
        "-",
        "-01",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "1.e1",
        "0x1",
        "tru",
        "truE",
        "trues",
        "nul",
        "NaN",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{1:2}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":1]"#,
        r#"{"a":1"#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800\n\udc00""#,
        r#""\ud800xudc00""#,
        "\"a\tb\"",
        "\"a\0\"",
        "\"0123456789\u{1f}\"",
        "\"",
        r#""\"#,
        "1\u{feff}",
        "\u{a0}1",
        "\u{b}1",
        "1;",
        "",
    ];
    let mut texts: Vec<Vec<u8>> =
        values.iter().map(|value| with(&format!(r#""x":{value}"#)).into()).collect();
    let doubles = [
        r#""apiKey":"k""#,
        r#""userId":null"#,
        r#""ApiKey":1"#,
        r#""project_id":1"#,
        r#""u\u0073erId":1"#,
        r#""x\u0073":1"#,
        "\"api\u{212a}ey\":1",
        r#""$serde_json::private::RawValue":"1""#,
    ];
    texts.extend(doubles.iter().map(|double| with(double).into_bytes()));
    for (name, value) in
        NAMES.iter().flat_map(|name| ["1", "[]", "{}", "true", r#""\u0041""#].map(|value| (name, value)))
    {
        texts.push(format!(r#"{{"{name}":{value}}}"#).into());
    }
    let invalid: [&[u8]; 6] =
        [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"];
    for bytes in invalid {
        texts.push([br#"{"x":""#, bytes, br#""}"#].concat());
        texts.push([br#"{""#, bytes, br#"":1}"#].concat());
        texts.push([br#"{"x":{""#, bytes, br#"":1}}"#].concat());
        texts.push([br#"{"apiKey":""#, bytes, br#""}"#].concat());
        texts.push([b"{}", bytes].concat());
    }
    let whole =
        ["", " ", "{", "[]", "null", "\"k\"", "1", "{}{}", "{},", "{} x", "\u{feff}{}", "{}\0", "{,}", "}"];
    texts.extend(whole.map(|text| text.as_bytes().to_vec()));
    for text in texts {
        assert!(!compare(&text, &MemberNames::documented()), "scanned: {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn c3_29_every_beginning_and_every_byte_of_a_text() {
    let text = with(r#""a":[-1.5e3,{"b":"\ud83d\udd11 ä","c":[true,null]},[[],{}]] , "d" : "0123456789""#);
    let names = MemberNames::documented();
    assert!(compare(text.as_bytes(), &names));
    for at in 0..text.len() {
        assert!(!compare(&text.as_bytes()[..at], &names));
        for byte in 0..=u8::MAX {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = byte;
            compare(&bytes, &names);
            bytes.insert(at, byte);
            compare(&bytes, &names);
        }
    }
}

#[test]
fn c3_29_names_that_need_escapes() {
    let names = MemberNames::new(["a\"", "b\\", "c\n"]).unwrap();
    let text = br#"{"a\"":"k","b\\":"u","c\n":"p"}"#;
    assert!(scan(text, &names).is_none());
    assert_eq!(read(text, &names).unwrap().key.as_deref(), Some("k"));
}

/// Mostly what is plain, so that whole texts are.
fn mostly(
    plain: &'static [&'static str],
    other: &'static [&'static str],
) -> impl Strategy<Value = &'static str> {
    prop_oneof![30 => select(plain), 1 => select(other)]
}

/// A name as it is written in a text: of a credential, nearly, or of something else.
fn written() -> impl Strategy<Value = &'static str> {
    mostly(
        &[
            "apiKey",
            "userId",
            "projectId",
            "a",
            "",
            "apiKe",
            "apiKeyX",
            "user",
            "projectIds",
            "ä",
            "longer than eight",
        ],
        &[
            "api_key",
            "USERID",
            r"\u0061piKey",
            r"x\n",
            "api\u{212a}ey",
            "$serde_json::private::Number",
            "$ne",
        ],
    )
}

fn space() -> impl Strategy<Value = &'static str> {
    mostly(&["", "", "", " ", "\t\r\n"], &["\u{b}", "\u{a0}"])
}

fn string() -> impl Strategy<Value = String> {
    let piece = mostly(
        &[
            "a",
            "sk_live_",
            r"\n",
            r"\\",
            r#"\""#,
            r"\u0041",
            r"\ud83d\udd11",
            "ä",
            "🔑",
            "\u{7f}",
            "eight or more",
            "{",
            "]",
            ",",
        ],
        &[r"\ud800", r"\uDC00", "\u{1f}", "\0", r"\x", "\""],
    );
    vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn value() -> impl Strategy<Value = String> {
    let deep =
        (prop_oneof![2 => 60..67_usize, 1 => 124..129_usize], any::<bool>()).prop_map(|(depth, arrays)| {
            let (open, close) = if arrays { ("[", "]") } else { (r#"{"a":"#, "}") };
            format!("{}0{}", open.repeat(depth), close.repeat(depth))
        });
    let leaf = prop_oneof![
        12 => string(),
        12 => "-?(0|[1-9][0-9]{0,3})([.][0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        1 => "-?[0-9]{195,205}([.][0-9]{0,3})?([eE][+-]?[0-9]{0,4})?",
        1 => any::<f64>().prop_map(|number| format!("{number:e}")),
        12 => mostly(&["true", "false", "null", "[]", "{}"], &["nul", "1e999", "", "NaN", "01", "-"]).prop_map(str::to_owned),
        1 => deep,
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = vec((inner.clone(), space()), 0..4);
        let list = list.prop_map(|values| {
            let values: Vec<_> =
                values.iter().map(|(value, space)| format!("{space}{value}{space}")).collect();
            format!("[{}]", values.join(","))
        });
        prop_oneof![list, object(inner, 0..4)]
    })
}

fn object(
    value: impl Strategy<Value = String>,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = String> {
    vec((written(), space(), value, space()), size).prop_map(|members| {
        let members: Vec<_> = members
            .iter()
            .map(|(name, one, value, other)| format!("{one}\"{name}\"{other}:{one}{value}{other}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// What a change puts into a text.
const PIECES: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b",",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b" ",
    b"\0",
    b"\x1f",
    b"\xff",
    b"\xc3",
    b"\x80",
    b"0",
    b"-",
    b".",
    b"e",
    b"\\u",
    b"\"apiKey\":\"k\",",
    b"\"a\":1,",
    b"null",
    b"d800",
    b"\xef\xbb\xbf",
];

/// Puts a piece, a byte or a part of the text itself into it, or takes something out.
fn change(text: &[u8], (at, other, what, byte): (Index, Index, u8, u8)) -> Vec<u8> {
    let at = at.index(text.len() + 1);
    let end = text.len().min(at + other.index(12));
    let (head, tail) = text.split_at(at);
    let behind = &text[end..];
    match what % 6 {
        0 => [head, other.get::<&[u8]>(&PIECES), tail].concat(),
        1 => [head, other.get::<&[u8]>(&PIECES), behind].concat(),
        2 => [head, &[byte], text.get(at + 1..).unwrap_or_default()].concat(),
        3 => [head, behind].concat(),
        4 => [&text[..end], tail].concat(),
        _ => [head, &text[other.index(text.len() + 1)..]].concat(),
    }
}

/// Mostly right objects, and 64 changed copies of each, 256 times or as often as `PROPTEST_CASES` says.
#[test]
fn c3_29_the_scanner_agrees_with_the_strict_reader_and_with_value() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let other = select(&["a", "", "apiKe", "users", "ä", "api_key"][..]);
    let text = prop_oneof![
        2 => (other, value(), string()).prop_map(|(name, value, key)| {
            format!(r#"{{"projectId":"p","{name}":{value},"apiKey":{key},"userId":null}}"#)
        }),
        1 => object(value(), 0..6),
    ];
    let one = || (any::<Index>(), any::<Index>(), any::<u8>(), any::<u8>());
    let changes = vec((one(), one()), 32);
    let (all, scanned, names) = (Cell::new(0_u64), Cell::new(0_u64), MemberNames::documented());
    let see = |text: &[u8]| {
        all.set(all.get() + 1);
        scanned.set(scanned.get() + u64::from(compare(text, &names)));
    };
    let run = TestRunner::new(config).run(&(text, changes), |(text, changes)| {
        see(text.as_bytes());
        for pair in changes {
            let once = change(text.as_bytes(), pair.0);
            see(&once);
            see(&change(&once, pair.1));
        }
        Ok(())
    });
    run.unwrap();
    println!("{} texts, {} of them scanned", all.get(), scanned.get());
    // It did not run into a wall of what is not plain.
    assert!(scanned.get() * 50 > all.get(), "{} of {}", scanned.get(), all.get());
}
