//! Programs as child processes, and plain HTTP to them over a socket.

pub mod curl;
pub mod demo;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use self::curl::Curl;

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of an example as cargo places it: in `target/debug/examples/`, beside this test's `target/debug/deps/`.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push("examples");
    path.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let shown = path.display();
    const BUILD: &str = "run `cargo build --workspace --examples`, or `cargo test --workspace`";
    assert!(path.exists(), "{shown} is not built: {BUILD}");
    // `cargo test -p conformance --test server` builds only this test, and not the examples.
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let packages: &[&str] = match name {
        "server" => &["email", "manage", "openapi", "portal", "postgres", "sqlite"],
        "cluster" => &["postgres"],
        _ => &[],
    };
    let mut sources =
        vec![root.join("src"), root.join("examples").join(name), root.join(format!("examples/{name}.rs"))];
    sources.extend(packages.iter().map(|package| root.join("crates").join(package).join("src")));
    let changed = sources.iter().filter_map(|path| last_change(path)).max().unwrap();
    let built = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert!(built >= changed, "{shown} is out of date: {BUILD}");
    path
}

/// When a Rust file, or the newest one in a folder, was last changed.
fn last_change(path: &Path) -> Option<SystemTime> {
    if path.is_dir() && path.ends_with("tests") {
        return None;
    }
    if path.is_dir() {
        return std::fs::read_dir(path)
            .unwrap()
            .filter_map(|entry| last_change(&entry.unwrap().path()))
            .max();
    }
    // Unit tests are not part of an example.
    let rust = path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs");
    if rust { std::fs::metadata(path).ok()?.modified().ok() } else { None }
}

/// A request that an example prints, below the expected response: `# 403 Forbidden, because ..`.
pub struct Announced {
    pub status: u16,
    pub message: String,
    pub curl: Curl,
}

/// A running example. It is killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Starts an example on a free port.
    pub fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(example(name));
        command.env("ADDR", "127.0.0.1:0").env_remove("FIXTURE").env_remove("DB");
        Self::spawn(command.envs(environment.iter().copied()))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line of its output; `None` after it has ended.
    pub fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the program says nothing"),
        }
    }

    /// Its output up to the line with this beginning, including that line.
    pub fn lines_to(&self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().unwrap_or_else(|| panic!("ended without {start:?} after {lines:#?}"));
            let last = line.starts_with(start);
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// The requests that an example prints when it starts: at least two, a good one and a bad one.
    pub fn announced(&self) -> Vec<Announced> {
        Announced::all_of(&self.lines_to("Stop with Ctrl-C."))
    }

    /// SIGKILL: the program cannot react to it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    #[cfg(unix)]
    pub fn tell_to_stop(&self) {
        // The shell's own `kill`, because not every machine has a program with that name.
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end; returns whether it succeeded.
    pub fn ended_well(mut self) -> bool {
        while self.line().is_some() {}
        self.child.wait().unwrap().success()
    }
}

impl Announced {
    pub fn all_of(lines: &[String]) -> Vec<Self> {
        assert!(lines[0].starts_with("Listening on http://127.0.0.1:"), "{lines:#?}");
        let text = lines[..lines.len() - 1].join("\n");
        let all: Vec<_> = text.split("\n# ").skip(1).map(Self::of).collect();
        assert!(all.len() >= 2, "{text}");
        all
    }

    fn of(entry: &str) -> Self {
        let (comment, command) = entry.split_once('\n').unwrap();
        let announced = comment.split_once(',').map_or(comment, |(announced, _)| announced);
        let (status, message) = announced.split_once(' ').unwrap_or((announced, ""));
        let (status, message) = (status.parse().unwrap(), message.to_owned());
        Self { status, message, curl: Curl::parse(command) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request, as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// `127.0.0.1:3000`
    pub host: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, host: &str, path: &str) -> Self {
        let (method, host, path) = (method.to_owned(), host.to_owned(), path.to_owned());
        Self { method, host, path, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("Content-Type", "application/json")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.host);
        for (name, value) in &self.headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method == "POST" {
            bytes += &format!("Content-Length: {}\r\n", self.body.len());
        }
        bytes += "Connection: close\r\n\r\n";
        [bytes.as_bytes(), &self.body].concat()
    }

    /// Sends it without waiting for the response.
    pub fn begin(&self) -> std::io::Result<Pending> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.bytes())?;
        Ok(Pending(stream))
    }

    pub fn send(&self) -> Answer {
        self.begin().unwrap().answer().unwrap_or_else(|| panic!("{} {}: no answer", self.method, self.path))
    }
}

/// A request that was sent.
pub struct Pending(TcpStream);

impl Pending {
    /// The response; `None` if there was none, or only a part of it.
    pub fn answer(mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        // A killed server resets the connection; the response before that may be complete.
        let _ = self.0.read_to_end(&mut bytes);
        Answer::parse(&bytes)
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: HashMap<String, Vec<String>>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut body = bytes[end + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let mut headers: HashMap<String, Vec<String>> = HashMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        match headers.get("content-length") {
            Some(length) if length[0].parse::<usize>().unwrap() != body.len() => return None,
            Some(_) => {}
            None if headers.contains_key("transfer-encoding") => body = dechunked(&body)?,
            None => {}
        }
        Some(Self { status, headers, body })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get(name).into_iter().flatten().map(String::as_str).collect()
    }

    /// Status and message, as in the tables of the documents.
    pub fn verdict(&self) -> (u16, String) {
        let message = self.json()["message"].as_str().map(str::to_owned);
        (self.status, message.unwrap_or_default())
    }
}

fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        let chunk = rest.get(end + 2..end + 2 + size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}
