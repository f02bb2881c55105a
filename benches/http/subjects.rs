//! The servers that are compared, each a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tower_api_key::ApiKeyAuth;
use tower_api_key::scheme::Bearer;

use crate::others::Minimal;
use crate::world::World;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Bare,
    Minimal,
    Ours,
    Nginx,
    Haproxy,
}

/// A server that runs, until this is dropped.
pub struct Running {
    pub port: u16,
    process: Child,
    counts: PathBuf,
}

impl Subject {
    pub const ALL: [Self; 5] = [Self::Bare, Self::Minimal, Self::Ours, Self::Nginx, Self::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare axum",
            Self::Minimal => "axum, hand-written minimal layer",
            Self::Ours => "axum, **`Bearer`**",
            Self::Nginx => "nginx, `map` of plain keys",
            Self::Haproxy => "HAProxy, map of plain keys",
        }
    }

    pub fn is_rust(self) -> bool {
        matches!(self, Self::Bare | Self::Minimal | Self::Ours)
    }

    /// Starts the server; `None` if it is not installed.
    pub fn start(self, folder: &Path, keys: &[String], counted: bool) -> Option<Running> {
        let counts = folder.join("callgrind.out");
        let (command, port) = match self {
            Self::Nginx => nginx(folder, keys),
            Self::Haproxy => haproxy(folder, keys),
            Self::Bare | Self::Minimal | Self::Ours => (self.itself(folder, counted.then_some(&*counts)), 0),
        };
        let mut command = command;
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        if self.is_rust() {
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        }
        let port = if port == 0 { line.trim().parse().unwrap() } else { port };
        Some(Running { port, process, counts })
    }

    /// This program again, as a server.
    fn itself(self, folder: &Path, counts: Option<&Path>) -> Command {
        let program = std::env::current_exe().unwrap();
        let mut command = match counts {
            None => Command::new(program),
            Some(counts) => {
                let mut valgrind = Command::new("valgrind");
                valgrind.args(["--tool=callgrind", "--quiet", "--instr-atstart=no"]);
                valgrind.arg(format!("--callgrind-out-file={}", counts.display())).arg(program);
                valgrind
            }
        };
        command.arg("--serve").arg(self.name()).arg(folder.join("keys"));
        command
    }
}

impl Running {
    /// The CPU time that the process has taken so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let of_task = |task: std::io::Result<fs::DirEntry>| {
            let times = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            times.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        Duration::from_nanos(tasks.map(of_task).sum())
    }

    /// Turns counting `on` or `off`.
    pub fn callgrind(&self, switch: &str) {
        let mut control = Command::new("callgrind_control");
        control.args(["-i", switch]).arg(self.process.id().to_string()).stdout(Stdio::null());
        assert!(control.status().unwrap().success(), "callgrind_control failed");
    }

    /// Ends the process, and returns how many instructions were counted.
    pub fn counted(mut self) -> u64 {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
        let counts = fs::read_to_string(&self.counts).unwrap();
        let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        total.expect("callgrind writes a total").parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until the standard input ends.
pub fn serve(name: &str, keys: &Path) {
    let keys = fs::read_to_string(keys).unwrap().lines().map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let app = Router::new().route("/", get(|| async { "ok" }));
    let app = match Subject::ALL.into_iter().find(|subject| subject.name() == name) {
        Some(Subject::Bare) => app,
        Some(Subject::Minimal) => app.layer(Minimal(World::of(keys).table)),
        Some(Subject::Ours) => app.layer(ApiKeyAuth::new(World::of(keys).store, Bearer::default())),
        _ => panic!("{name} is not served by this program"),
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        axum::serve(listener, app).await.unwrap();
    });
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn nginx(folder: &Path, keys: &[String]) -> (Command, u16) {
    let (port, folder) = (free_port(), folder.display());
    let map: String = keys.iter().map(|key| format!("\"Bearer {key}\" 1;\n")).collect();
    fs::write(format!("{folder}/nginx.map"), map).unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    let config = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 512; }}
        http {{
            access_log off; keepalive_requests 1000000; {temporary}
            map_hash_max_size 262144; map_hash_bucket_size 128;
            map $http_authorization $known {{ default 0; include {folder}/nginx.map; }}
            server {{
                listen 127.0.0.1:{port};
                location / {{ if ($known = 0) {{ return 401; }} return 200 \"ok\"; }}
            }}
        }}"
    );
    let path = format!("{folder}/nginx.conf");
    fs::write(&path, config).unwrap();
    // Debian installs it where only root's PATH leads.
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let mut command = Command::new(program);
    command.args(["-c", &path, "-e", &format!("{folder}/nginx.log")]).stderr(Stdio::null());
    (command, port)
}

fn haproxy(folder: &Path, keys: &[String]) -> (Command, u16) {
    let (port, folder) = (free_port(), folder.display());
    let map: String = keys.iter().map(|key| format!("{key} 1\n")).collect();
    fs::write(format!("{folder}/haproxy.map"), map).unwrap();
    let config = format!(
        "global
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend api
    bind 127.0.0.1:{port}
    http-request deny deny_status 401 unless {{ req.hdr(authorization),word(2,\" \"),map_str({folder}/haproxy.map) -m found }}
    http-request return status 200 content-type text/plain string ok
"
    );
    let path = format!("{folder}/haproxy.cfg");
    fs::write(&path, config).unwrap();
    let program = if Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" };
    let mut command = Command::new(program);
    command.args(["-db", "-q", "-f", &path]);
    (command, port)
}
