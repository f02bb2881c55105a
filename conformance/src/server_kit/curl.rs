//! Parses `curl` command lines like a shell and curl, for the forms that the documents and examples use.

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

/// Splits into words like a shell: quotes, and lines that continue after a backslash.
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

/// The output of `printf '...'`: text, and bytes in octal.
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

/// What `gzip` would write without compression (RFC 1952, with one stored block of RFC 1951).
fn gzip(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let block = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text].concat();
    let tail = [crc32fast::hash(text).to_le_bytes(), u32::from(length).to_le_bytes()].concat();
    [&head[..], &block, &tail].concat()
}

#[cfg(test)]
/// Tests for the shell and curl syntax that documents and examples use.
const LINES: [&str; 5] = [
    "curl -X PUT 'http://h:1/a?b' -H \"A: b \\\"c\\\"\" \\\n  -H 'X-D:e'  -d '{\"f\":\n \"g\"}'",
    r"curl http://h/a\ b -H 'Authorization: Bearer it'\''s' -i -s",
    r#"curl -X POST http://h -H "Content-Type: application/json" -d '{"a": "ü\n", "b": ""}'"#,
    r"printf '\0\0\0\0\5world\12' | curl http://h/x --data-binary @-",
    r#"printf 'some {"text": 1}' | gzip | curl http://h/x -H 'Content-Encoding: gzip' --data-binary @-"#,
];

#[cfg(unix)]
#[test]
fn command_lines_are_read_as_the_shell_reads_them() {
    for line in LINES {
        // A script instead of curl prints the number of words, each word, and its stdin.
        let script = format!(
            r#"curl() {{ printf '%s\0' "$#" "$@"; case "$*" in *@-*) cat;; esac; }}
            {line}"#
        );
        let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(shell.status.success() && shell.stderr.is_empty(), "{line}: {shell:?}");
        let count_end = shell.stdout.iter().position(|byte| *byte == 0).unwrap();
        let count: usize = std::str::from_utf8(&shell.stdout[..count_end]).unwrap().parse().unwrap();
        let mut parts = shell.stdout[count_end + 1..].splitn(count + 1, |byte| *byte == 0);
        let read: Vec<String> =
            parts.by_ref().take(count).map(|word| String::from_utf8(word.to_vec()).unwrap()).collect();
        let piped = parts.next().unwrap();
        let after_pipes = line.rsplit(" | ").next().unwrap();
        assert_eq!(words(after_pipes)[1..], read, "{line}");
        if after_pipes.contains("@-") {
            let body = Curl::parse(line).request.body;
            if line.contains("| gzip |") {
                // The real `gzip` compresses and this one does not, so the decompressed data is compared.
                assert_eq!(gunzip(&body), gunzip(piped), "{line}");
            } else {
                assert_eq!(body, piped, "{line}");
            }
        }
    }
}

#[cfg(all(test, unix))]
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let mut gzip =
        Command::new("gzip").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Compares with what the real curl sends, if it is installed.
#[cfg(unix)]
#[test]
fn command_lines_send_what_curl_sends() {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    if !Command::new("curl").arg("--version").output().is_ok_and(|curl| curl.status.success()) {
        eprintln!("there is no curl here to compare with");
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    // Headers that curl adds by itself.
    const OWN: [&str; 4] = ["host", "user-agent", "accept", "content-length"];
    for line in LINES {
        // The shell removes the backslash, and the rest is not a URL.
        let line = line
            .replace(r"/a\ b", "/a")
            .replace("http://h:1", "http://h")
            .replace("http://h", &format!("http://{host}"));
        let quiet = line.replacen("curl ", "curl --noproxy '*' --max-time 20 ", 1);
        let curl =
            Command::new("sh").args(["-c", &quiet]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut curl = curl.unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        let mut sent = Vec::new();
        let (head, length) = loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            sent.push(byte[0]);
            if sent.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8(std::mem::take(&mut sent)).unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                break (head.clone(), length.map_or(0, |length| length.parse().unwrap()));
            }
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        drop(stream);
        assert!(curl.wait().unwrap().success(), "{line}");

        let request = Curl::parse(&line).request;
        let (first, headers) = head.trim_end().split_once("\r\n").unwrap();
        assert_eq!(first, format!("{} {} HTTP/1.1", request.method, request.path), "{line}");
        let lines = headers.split("\r\n").map(|line| line.split_once(':').unwrap());
        let lines = lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let mut headers: Vec<_> =
            lines.filter(|(name, _)| !OWN.contains(&&*name.to_ascii_lowercase())).collect();
        let mut expected = request.headers;
        headers.sort();
        expected.sort();
        assert_eq!(headers, expected, "{line}");
        assert_eq!(request.host, host, "{line}");
        if line.contains("| gzip |") {
            assert_eq!(gunzip(&request.body), gunzip(&body), "{line}");
        } else {
            assert_eq!(request.body, body, "{line}");
        }
    }
}

#[test]
fn http2_without_tls_is_what_curl_calls_prior_knowledge() {
    let curl = |option: &str| Curl::parse(&format!("curl {option} http://h/x -d a"));
    assert!(curl("--http2-prior-knowledge").http2 && !curl("-i").http2);
}
