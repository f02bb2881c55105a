//! [`Curl`]: example command lines for a new key.

use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use tower_api_key::IssuedKey;
use tower_api_key::scheme_info::{SchemeInfo, spelled};

/// An example command line for a new key and one scheme of a layer.
#[derive(Debug)]
pub(crate) struct Curl {
    method: Method,
    url: String,
    scheme: SchemeInfo,
}

impl Curl {
    pub(crate) fn new(method: Method, url: String, scheme: SchemeInfo) -> Self {
        Self { method, url, scheme }
    }

    /// How the key is sent, for people.
    pub(crate) fn title(&self) -> String {
        match self.scheme.secret_headers().first() {
            _ if self.scheme.reads_bodies() => "JSON body".to_owned(),
            Some(header) if self.is_bearer(header) => "Bearer token".to_owned(),
            Some(header) => format!("{} header", spelled(header)),
            None => self.scheme.name().to_owned(),
        }
    }

    fn is_bearer(&self, header: &HeaderName) -> bool {
        *header == AUTHORIZATION && self.scheme.challenge().is_bearer()
    }

    /// The command line. It contains the secret, so only the page that shows the key may use it.
    pub(crate) fn line(&self, issued: &IssuedKey) -> String {
        let key = issued.key().expose_secret();
        let project = issued.record().level.project();
        let named = project.map_or("YOUR_PROJECT_ID", |project| project.as_str());
        let mut line = "curl".to_owned();
        if self.method != Method::GET {
            line = format!("{line} -X {}", self.method);
        }
        line = format!("{line} {}", shell_quoted(&self.url));
        let mut add = |option, text: &str| line = format!("{line} \\\n  {option} {}", shell_quoted(text));
        for header in self.scheme.secret_headers() {
            let scheme = if self.is_bearer(header) { "Bearer " } else { "" };
            add("-H", &format!("{}: {scheme}{key}", spelled(header)));
        }
        // A project-level key already says which project it is for (R46).
        if project.is_none() && self.scheme.needs_project() {
            for header in self.scheme.other_headers() {
                add("-H", &format!("{}: {named}", spelled(header)));
            }
        }
        if self.scheme.reads_bodies() {
            let values = [key, issued.record().owner.as_str(), named];
            let members = self.scheme.body_members().iter().zip(values);
            let members: Vec<_> = members.map(|(name, value)| format!("{name:?}: {value:?}")).collect();
            add("-H", "Content-Type: application/json");
            add("-d", &format!("{{{}}}", members.join(", ")));
        }
        line
    }
}

fn shell_quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@%+=,".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
