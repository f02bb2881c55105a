//! [`Bearer`]: reads the key from `Authorization: Bearer`.
//!
//! # Format
//!
//! ```text
//! Authorization: Bearer sk_live_...
//! X-Project-ID: p1                    (only if `project_header` is set)
//! ```
//!
//! RFC 9110 section 11.4 and RFC 6750: the scheme's name in any case, one or more spaces, one token68 and nothing else,
//! on exactly one line. Another authentication scheme (`Basic`, `Digest`) counts as no credential.

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::header_value::{header_name, project};
use super::{HeaderScheme, MalformedCredential};
use crate::ascii;
use crate::config_error::ConfigError;
use crate::credentials::{Credentials, Head};
use crate::deprecation::Deprecation;
use crate::scheme_info::{Challenge, Messages, SchemeInfo};

/// Reads `Authorization: Bearer sk_live_...` (R52).
///
/// This scheme never requires a project. It reads one only if [`project_header`](Self::project_header) names the
/// header.
#[derive(Clone, Debug)]
pub struct Bearer {
    info: SchemeInfo,
    project: Option<HeaderName>,
    pipes: bool,
}

impl Default for Bearer {
    /// Uses the realm `api`.
    fn default() -> Self {
        Self { info: info(Challenge::api_bearer()), project: None, pipes: false }
    }
}

fn info(challenge: Challenge) -> SchemeInfo {
    SchemeInfo::new("bearer", challenge).secret_header(AUTHORIZATION)
}

impl Bearer {
    /// Sets the realm.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Challenge`] if it is not visible ASCII and spaces.
    pub fn realm(self, realm: &str) -> Result<Self, ConfigError> {
        Ok(Self { info: self.info.challenged(Challenge::bearer(realm)?), ..self })
    }

    /// Also reads the project from this header, usually `X-Project-ID`. A request may omit it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::HeaderName`] if the name cannot be used.
    pub fn project_header(self, name: &str) -> Result<Self, ConfigError> {
        let header = header_name(name)?;
        let project_required = format!("{name} header is required").into();
        let words = Messages { project_required, ..Messages::default() };
        Ok(Self { info: self.info.header(header.clone()).words(words), project: Some(header), ..self })
    }

    /// Also accepts tokens with a `|`, which token68 does not allow. Laravel Sanctum's tokens are `id|secret`, and
    /// its clients send them nevertheless. For [imported keys](crate::importing).
    #[must_use]
    pub fn accept_pipes(self) -> Self {
        Self { pipes: true, ..self }
    }

    /// Announces the scheme's deprecation in every response to a request that uses it, and refuses such requests
    /// after its sunset; see [`Deprecation`].
    #[must_use]
    pub fn deprecated(self, deprecation: Deprecation) -> Self {
        Self { info: self.info.deprecated(deprecation), ..self }
    }
}

impl HeaderScheme for Bearer {
    fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential> {
        let mut lines = head.headers.get_all(AUTHORIZATION).iter();
        let Some(first) = lines.next() else { return Ok(None) };
        let token = |line| token(line, self.pipes);
        let found = token(first);
        // Repeated lines are refused if any of them is a Bearer line, so that their order cannot hide one.
        if let Some(second) = lines.next() {
            let ours = found.is_some() || token(second).is_some() || lines.any(|line| token(line).is_some());
            return if ours { Err(MalformedCredential::Repeated) } else { Ok(None) };
        }
        let Some(found) = found else { return Ok(None) };
        // Repeated lines are reported before their content is judged.
        let project = self.project.as_ref().map(|name| project(head, name)).transpose()?;
        let credentials = Credentials::new(found?);
        Ok(Some(match project {
            None => credentials,
            Some(project) => credentials.select_project(project),
        }))
    }

    fn describe(&self) -> &SchemeInfo {
        &self.info
    }
}

/// Returns the token of a `Bearer` line; `None` if the line is of another authentication scheme.
fn token(line: &HeaderValue, pipes: bool) -> Option<Result<&str, MalformedCredential>> {
    // HTTP/2 does not trim values. A proxy that does would see a credential here, so it must be recognized here too.
    let text = line.as_bytes().trim_ascii_start();
    let trimmed = text.len() < line.len();
    let (scheme, rest) = text.split_at_checked("bearer".len())?;
    // Tries the most common spelling first.
    if scheme != b"Bearer" && !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    // A longer name is another scheme.
    if rest.first().is_some_and(|byte| *byte != b' ' && *byte != b'\t') {
        return None;
    }
    let token = without_leading_spaces(rest);
    let well_formed = !trimmed && token.len() < rest.len() && is_token68(token, pipes);
    let found = if well_formed { str::from_utf8(token).ok() } else { None };
    Some(found.ok_or(MalformedCredential::Malformed))
}

fn without_leading_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Whether this is a token68 (RFC 9110 section 11.2), with pipes if `pipes`.
fn is_token68(token: &[u8], pipes: bool) -> bool {
    let unpadded = token.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let Some(text) = token.get(..unpadded).filter(|text| !text.is_empty()) else { return false };
    ascii::all(text, |byte| {
        let punctuation = (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~') | (byte == b'+');
        byte.is_ascii_alphanumeric() | punctuation | (byte == b'/') | (pipes & (byte == b'|'))
    })
}
