//! What a request costs a whole server over HTTP: `cargo bench -p benches --bench http`.
//!
//! Each subject is a process of its own with one thread and 100,000 keys: bare axum, axum with the hand-written minimal
//! layer, axum with this crate's layer, nginx with a `map` of plain keys, and HAProxy with a map of plain keys. The last
//! two run if they are installed. They do not hash keys: they hold the keys themselves.
//!
//! The subjects take turns, so that other work of the machine affects all alike. The table shows, for each of them, the
//! CPU time per request as the kernel accounts it (`/proc/PID/schedstat`; the median of the turns), and its ratio to the
//! minimal layer's.
//!
//! `-- --count` prints the instructions per request instead, in user space and as callgrind counts them, for the
//! subjects that are Rust programs. Needs Linux, and valgrind for `--count`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark"
)]
#![allow(unreachable_pub, dead_code, reason = "the shared files are those of another benchmark")]

#[path = "../request/others.rs"]
mod others;
mod subjects;
#[path = "../request/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::subjects::{Running, Subject};

const KEYS: usize = 100_000;
const CONNECTIONS: usize = 16;
/// How many turns each subject has, and the requests of a turn.
const TURNS: usize = 11;
const REQUESTS: usize = 20_000;
/// The requests that callgrind counts, which makes a server about fifty times slower.
const COUNTED: usize = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--serve", subject, keys] = arguments[..] {
        return subjects::serve(subject, Path::new(keys));
    }
    // Without `--bench`, this is `cargo test`: a few requests show that each subject answers as it should.
    let (keys, turns, requests) =
        if arguments.contains(&"--bench") { (KEYS, TURNS, REQUESTS) } else { (10, 1, 32) };
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..keys).map(|_| world::fresh()).collect();
    fs::write(folder.path().join("keys"), texts.join("\n")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if arguments.contains(&"--count") {
        runtime.block_on(count(folder.path(), &texts));
    } else {
        runtime.block_on(compare(folder.path(), &texts, turns, requests));
    }
}

/// The CPU time of each subject per request.
async fn compare(folder: &Path, keys: &[String], turns: usize, requests: usize) {
    let mut running: Vec<(Subject, Running, Vec<f64>)> = Vec::new();
    for subject in Subject::ALL {
        match subject.start(folder, keys, false) {
            Some(process) => running.push((subject, process, Vec::new())),
            None => println!("{} is not installed.", subject.name()),
        }
    }
    for turn in 0..=turns {
        for (_, process, samples) in &mut running {
            let before = process.cpu();
            load(process.port, keys, requests, turn).await;
            // The first turn only warms up.
            if turn > 0 {
                samples.push((process.cpu() - before).as_nanos() as f64 / requests as f64 / 1e3);
            }
        }
    }
    let medians: Vec<f64> = running.iter_mut().map(|(_, _, samples)| median(samples)).collect();
    let minimal = running.iter().position(|(subject, ..)| *subject == Subject::Minimal).unwrap();
    println!("\n| over HTTP, {} keys | CPU per request, us | ratio |\n|---|--:|--:|", keys.len());
    for ((subject, ..), cpu) in running.iter().zip(&medians) {
        println!("| {} | {cpu:.2} | {:.2} |", subject.name(), cpu / medians[minimal]);
    }
}

/// The instructions of each Rust subject per request, in user space.
async fn count(folder: &Path, keys: &[String]) {
    let mut counts = Vec::new();
    for subject in Subject::ALL.into_iter().filter(|subject| subject.is_rust()) {
        let process = subject.start(folder, keys, true).unwrap();
        load(process.port, keys, COUNTED, 0).await;
        process.callgrind("on");
        load(process.port, keys, COUNTED, 1).await;
        process.callgrind("off");
        counts.push((subject, process.counted() as f64 / COUNTED as f64));
    }
    let minimal = counts.iter().find(|(subject, _)| *subject == Subject::Minimal).unwrap().1;
    println!("\n| over HTTP, {} keys | instructions per request | ratio |\n|---|--:|--:|", keys.len());
    for (subject, count) in &counts {
        println!("| {} | {count:.0} | {:.3} |", subject.name(), count / minimal);
    }
}

/// Sends requests on several connections, each with another key, and checks that each is answered with 200.
async fn load(port: u16, keys: &[String], requests: usize, turn: usize) {
    let connection = |number: usize| async move {
        let mut stream = connect(port).await;
        let mut buffer = Vec::new();
        for request in 0..requests / CONNECTIONS {
            let place = (turn * requests + number * requests / CONNECTIONS + request).wrapping_mul(7919);
            let key = &keys[place % keys.len()];
            let head = format!(
                "GET / HTTP/1.1\r\nhost: api.example.com\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n\
                 authorization: Bearer {key}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            answer(&mut stream, &mut buffer).await;
        }
    };
    let connections: Vec<_> = (0..CONNECTIONS).map(connection).collect();
    join(connections).await;
}

/// Waits for all of them on this thread.
async fn join(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for place in &mut futures {
            if place.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *place = None;
            }
        }
        if futures.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

async fn connect(port: u16) -> TcpStream {
    // A server that has just been started may not listen yet.
    for _ in 0..1_000 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            stream.set_nodelay(true).unwrap();
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing listens on port {port}");
}

/// Reads one answer to its end.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "the server closed the connection");
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.expect("an answer says its length").parse().unwrap();
        if buffer.len() == end + 4 + length {
            return;
        }
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() / 2]
}
