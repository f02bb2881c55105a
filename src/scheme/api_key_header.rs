//! [`ApiKeyHeader`]: reads the key from `X-API-Key`, and the project from `X-Project-ID`.
//!
//! # Format
//!
//! ```text
//! X-API-Key: sk_live_...
//! X-Project-ID: p1
//! ```
//!
//! At most one line of each, of visible ASCII, not trimmed. User-level keys must name a project, except at
//! endpoints that declare it optional (R45); project-level keys need not, and may only name their own (R46).

use std::borrow::Cow;

use http::HeaderName;

use super::header_value::{header_name, project, single, visible};
use super::{HeaderScheme, MalformedCredential};
use crate::config_error::ConfigError;
use crate::credentials::{Credentials, Head};
use crate::deprecation::Deprecation;
use crate::scheme_info::{Challenge, Messages, SchemeInfo};

const KEY: HeaderName = HeaderName::from_static("x-api-key");
const PROJECT: HeaderName = HeaderName::from_static("x-project-id");

/// Reads `X-API-Key` and `X-Project-ID` (R44 to R47).
#[derive(Clone, Debug)]
pub struct ApiKeyHeader {
    key: HeaderName,
    project: HeaderName,
    info: SchemeInfo,
}

impl Default for ApiKeyHeader {
    /// Uses `X-API-Key`, `X-Project-ID`, and the realm `api`.
    fn default() -> Self {
        let challenge = Challenge::from_static(r#"ApiKey realm="api", in="header", name="X-API-Key""#);
        let words = words("X-Project-ID header is required".into());
        Self { key: KEY, project: PROJECT, info: info(challenge, words, KEY, PROJECT) }
    }
}

fn info(challenge: Challenge, words: Messages, key: HeaderName, project: HeaderName) -> SchemeInfo {
    let info = SchemeInfo::new("api-key-header", challenge).words(words);
    info.secret_header(key).header(project).require_project()
}

fn words(project_required: Cow<'static, str>) -> Messages {
    Messages {
        unauthorized: "Invalid API key".into(),
        forbidden: "Insufficient permissions".into(),
        project_required,
        ..Messages::default()
    }
}

impl ApiKeyHeader {
    /// Uses other header names and another realm. The challenge and the error messages use these names as given.
    ///
    /// # Errors
    ///
    /// [`ConfigError::HeaderName`] if a name cannot be used or both are the same, [`ConfigError::Challenge`] if the
    /// realm is not visible ASCII and spaces.
    pub fn named(key: &str, project: &str, realm: &str) -> Result<Self, ConfigError> {
        let (key_name, project_name) = (header_name(key)?, header_name(project)?);
        if key_name == project_name {
            return Err(ConfigError::HeaderName(project.to_owned()));
        }
        let challenge = Challenge::new("ApiKey", realm)?.param("in", "header")?.param("name", key)?;
        let words = words(format!("{project} header is required").into());
        let info = info(challenge, words, key_name.clone(), project_name.clone());
        Ok(Self { key: key_name, project: project_name, info })
    }

    /// Announces the scheme's deprecation in every response to a request that uses it, and refuses such requests
    /// after its sunset; see [`Deprecation`].
    #[must_use]
    pub fn deprecated(self, deprecation: Deprecation) -> Self {
        Self { info: self.info.deprecated(deprecation), ..self }
    }

    /// User-level keys need not name a project. The default is that they must, unless the endpoint declares it optional.
    #[must_use]
    pub fn project_optional(self) -> Self {
        Self { info: self.info.project_optional(), ..self }
    }
}

impl HeaderScheme for ApiKeyHeader {
    fn read<'r>(&self, head: Head<'r>) -> Result<Option<Credentials<'r>>, MalformedCredential> {
        let Some(key) = single(head.headers, &self.key)? else { return Ok(None) };
        let project = project(head, &self.project)?;
        let key = visible(key).ok_or(MalformedCredential::Malformed)?;
        Ok(Some(Credentials::new(key).select_project(project)))
    }

    fn describe(&self) -> &SchemeInfo {
        &self.info
    }
}
