//! [`Curl`]: example command lines for a new key.

use tower_api_key::keyring::IssuedKey;

/// An example command line for a new key and one scheme of the API.
///
/// ```
/// use tower_api_key_portal::Curl;
///
/// let line = Curl::json_body("https://api.example.com/projects/status").titled("Upload");
/// # let _ = line;
/// ```
#[derive(Clone, Debug)]
pub struct Curl {
    title: String,
    url: String,
    scheme: Scheme,
}

#[derive(Clone, Copy, Debug)]
enum Scheme {
    Bearer,
    ApiKeyHeader,
    JsonBody,
}

impl Curl {
    /// `Authorization: Bearer`, with a `GET` of this URL.
    #[must_use]
    pub fn bearer(url: impl Into<String>) -> Self {
        Self { title: "Bearer token".to_owned(), url: url.into(), scheme: Scheme::Bearer }
    }

    /// `X-API-Key`, with a `GET` of this URL, and the key's project or a placeholder in `X-Project-ID`.
    #[must_use]
    pub fn api_key_header(url: impl Into<String>) -> Self {
        Self { title: "X-API-Key header".to_owned(), url: url.into(), scheme: Scheme::ApiKeyHeader }
    }

    /// `apiKey`, `userId` and `projectId` in a JSON body, with a `POST` to this URL.
    #[must_use]
    pub fn json_body(url: impl Into<String>) -> Self {
        Self { title: "JSON body".to_owned(), url: url.into(), scheme: Scheme::JsonBody }
    }

    /// Sets the title above the line, instead of the scheme's name.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// The command line. It contains the secret, so only the page that shows the key may use it.
    pub(super) fn line(&self, issued: &IssuedKey) -> String {
        let key = issued.key().expose_secret();
        // Ids and keys contain no quotes; the URL comes from the host.
        let url = shell_quoted(&self.url);
        let project = issued.record().level.project();
        let named = project.map_or("YOUR_PROJECT_ID", |project| project.as_str());
        match self.scheme {
            Scheme::Bearer => format!("curl {url} \\\n  -H 'Authorization: Bearer {key}'"),
            // A project-level key already says which project it is for (R46).
            Scheme::ApiKeyHeader if project.is_some() => format!("curl {url} \\\n  -H 'X-API-Key: {key}'"),
            Scheme::ApiKeyHeader => {
                format!("curl {url} \\\n  -H 'X-API-Key: {key}' \\\n  -H 'X-Project-ID: {named}'")
            }
            Scheme::JsonBody => {
                let user = issued.record().owner.as_str();
                format!(
                    "curl -X POST {url} \\\n  -H 'Content-Type: application/json' \\\n  \
                     -d '{{\"apiKey\": \"{key}\", \"userId\": \"{user}\", \"projectId\": \"{named}\"}}'"
                )
            }
        }
    }
}

fn shell_quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@%+=,".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
