//! The example server with its demo data.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::curl::Curl;
use super::{Answer, Program, Request};

/// A running server with demo data, in its own directory.
pub struct Demo {
    pub directory: TempDir,
    pub program: Program,
    pub host: String,
    pub fixture: Value,
    /// The output until it was ready.
    pub lines: Vec<String>,
}

impl Demo {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With additional environment variables.
    pub fn start_with(more: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let (program, lines) = Self::run_with(&directory, more);
        let fixture: Value =
            serde_json::from_slice(&std::fs::read(directory.path().join("fixture.json")).unwrap()).unwrap();
        let host = fixture["address"].as_str().unwrap().to_owned();
        assert!(lines[0].contains(&host), "{}", lines[0]);
        Self { directory, program, host, fixture, lines }
    }

    pub fn run(directory: &TempDir) -> (Program, Vec<String>) {
        Self::run_with(directory, &[])
    }

    fn run_with(directory: &TempDir, more: &[(&str, &str)]) -> (Program, Vec<String>) {
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (file, fixture) = (path("keys.db"), path("fixture.json"));
        let environment = [&[("DB", &*file), ("FIXTURE", &*fixture)], more].concat();
        let program = Program::start("server", &environment);
        let lines = program.lines_to("Stop with Ctrl-C.");
        (program, lines)
    }

    /// Kills it, and starts it on the same file. The fixture stays the same; the address changes.
    pub fn restart(&mut self) {
        self.program.kill();
        (self.program, self.lines) = Self::run(&self.directory);
        let listening = self.lines[0].strip_prefix("Listening on http://").unwrap();
        self.host = listening.split(',').next().unwrap().to_owned();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn key(&self, name: &str) -> &str {
        self.fixture["keys"][name].as_str().unwrap_or_else(|| panic!("no key {name}"))
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, &self.host, path)
    }

    /// Through the scheme of the first documents.
    pub fn body(&self, path: &str, key: &str, user: &str, project: &str) -> Answer {
        let body = json!({"apiKey": key, "userId": user, "projectId": project});
        self.request("POST", &format!("/pixelStripeApi/projects/{path}")).json(&body).send()
    }

    /// Through the scheme of the header document.
    pub fn header(&self, path: &str, key: &str, project: Option<&str>) -> Answer {
        let request = self.request("GET", &format!("/api/v1{path}")).header("X-API-Key", key);
        match project {
            Some(project) => request.header("X-Project-ID", project),
            None => request,
        }
        .send()
    }

    /// Through the scheme of the bearer document.
    pub fn bearer(&self, method: &str, path: &str, key: &str) -> Answer {
        self.request(method, path).bearer(key).send()
    }

    pub fn create(&self, caller: &str, body: &Value) -> Answer {
        self.request("POST", "/v1/api-keys").bearer(caller).json(body).send()
    }

    /// Sends the request of a document's command line to this server.
    pub fn curl(&self, command: &str, replace: &[(&str, &str)]) -> Answer {
        let mut command = command.to_owned();
        for host in ["https://api.streampixel.io", "https://api.example.com"] {
            command = command.replace(host, &format!("http://{}", self.host));
        }
        for (placeholder, value) in replace {
            assert!(command.contains(placeholder), "{placeholder}");
            command = command.replace(placeholder, value);
        }
        Curl::parse(&command).request.send()
    }
}
