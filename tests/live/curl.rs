//! Reads `curl` command lines as a shell and curl would, as far as the documents and the examples use them.

use super::Request;

/// The request that a command line makes.
#[derive(Clone, Debug)]
pub struct Curl {
    pub request: Request,
    pub http2: bool,
}

impl Curl {
    pub fn parse(line: &str) -> Self {
        let (piped, line) = match line.split_once(" | ") {
            Some((left, right)) => match right.strip_prefix("gzip | ") {
                Some(right) => (Some(gzip(&printf(left))), right),
                None => (Some(printf(left)), right),
            },
            None => (None, line),
        };
        let mut words = words(line).into_iter();
        assert_eq!(words.next().as_deref(), Some("curl"), "{line}");
        let (mut method, mut url, mut http2) = (None, None, false);
        let (mut headers, mut body) = (Vec::new(), None);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value: {line}"));
            match word.as_str() {
                "-i" | "-s" => {}
                "-X" => method = Some(value()),
                "-o" => drop(value()),
                "-H" => {
                    let header = value();
                    let (name, value) = header.split_once(':').unwrap();
                    headers.push((name.to_owned(), value.trim().to_owned()));
                }
                "-d" | "--data-binary" => match value().as_str() {
                    "@-" => body.clone_from(&piped),
                    text => body = Some(text.as_bytes().to_vec()),
                },
                "--http2-prior-knowledge" => http2 = true,
                option if option.starts_with('-') => panic!("{option} is not known here: {line}"),
                _ => url = Some(word),
            }
        }
        let url = url.unwrap_or_else(|| panic!("no URL: {line}"));
        let rest = url.split_once("://").unwrap_or_else(|| panic!("no scheme: {line}")).1;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if body.is_some() && !has_type {
            headers.push(("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        }
        let by_default = if body.is_some() { "POST" } else { "GET" };
        let mut request = Request::new(method.as_deref().unwrap_or(by_default), host, &format!("/{path}"));
        request.headers = headers;
        request.body = body.unwrap_or_default();
        Self { request, http2 }
    }
}

/// A shell's words: quotes, and lines that go on after a backslash.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (Some(_), other) => word.get_or_insert_default().push(other),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '\\') => match characters.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (None, other) => word.get_or_insert_default().push(other),
        }
    }
    assert_eq!(quote, None, "an open quote: {line}");
    words.extend(word);
    words
}

/// What `printf '...'` prints: text and bytes in octal.
fn printf(line: &str) -> Vec<u8> {
    let words = words(line);
    let [printf, format] = words.as_slice() else { panic!("{line}") };
    assert_eq!(printf, "printf");
    let mut bytes = Vec::new();
    let mut rest = format.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.iter().take(3).take_while(|digit| (b'0'..b'8').contains(digit)).count();
        bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..digits]).unwrap(), 8).unwrap());
        rest = &after[digits..];
    }
    bytes
}

/// What `gzip` would make of it if it did not compress (RFC 1952, with one stored block of RFC 1951).
fn gzip(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let block = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text].concat();
    let tail = [crc32fast::hash(text).to_le_bytes(), u32::from(length).to_le_bytes()].concat();
    [&head[..], &block, &tail].concat()
}

#[test]
fn command_lines_are_read_as_a_shell_reads_them() {
    let curl = Curl::parse(
        "curl -X PUT 'http://h:1/a?b' -H \"A: b \\\"c\\\"\" \\\n  -H 'X-D:e'  -d '{\"f\":\n \"g\"}'",
    );
    let request = curl.request;
    assert_eq!(
        (request.method.as_str(), request.host.as_str(), request.path.as_str()),
        ("PUT", "h:1", "/a?b")
    );
    assert_eq!(request.headers[0], ("A".to_owned(), "b \"c\"".to_owned()));
    assert_eq!(request.headers[1], ("X-D".to_owned(), "e".to_owned()));
    assert_eq!(request.headers[2].1, "application/x-www-form-urlencoded");
    assert_eq!(request.body, b"{\"f\":\n \"g\"}");
    let curl =
        Curl::parse(r"printf '\0\0\0\0\5world' | curl --http2-prior-knowledge http://h/x --data-binary @-");
    assert!(curl.http2);
    assert_eq!(curl.request.body, b"\0\0\0\0\x05world");
    assert_eq!(curl.request.method, "POST");
}
