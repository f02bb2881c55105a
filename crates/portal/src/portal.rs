//! [`Portal`]: what its host says of it, and what its pages share.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tower_api_key::body_budget::Budget;
use tower_api_key::store::ProjectDirectory;
use tower_api_key::{ConfigError, Keyring};

use super::csrf_token::CsrfTokens;
use super::curl::Curl;
use super::drafts::Drafts;
use super::session::PortalSession;

/// The portal: see [the crate](crate).
#[must_use = "a portal is nothing before it is a router"]
pub struct Portal {
    pub(crate) keyring: Keyring,
    pub(crate) projects: Box<dyn ProjectDirectory>,
    pub(crate) session: Box<dyn PortalSession>,
    pub(crate) title: String,
    pub(crate) account_at: Option<String>,
    pub(crate) curl: Vec<Curl>,
    pub(crate) public_origin: Option<String>,
    pub(crate) tickets: CsrfTokens,
    pub(crate) drafts: Drafts,
    pub(crate) nobodys: Semaphore,
    pub(crate) budget: Budget,
}

/// Three lists of a hundred entries of 512 characters, each character in up to three bytes; the fourth is short.
pub(crate) const MAX_FORM_LEN: usize = 512 * 1024;
/// For the forms of all people together.
const CAP: usize = 16 << 20;
/// How many forms of people who are not signed in are read at once.
const NOBODYS: usize = 64;

/// What every handler has.
pub(crate) type Shared = Arc<Portal>;

impl Portal {
    /// Pages on the keys of a keyring, for the people whom a session knows. `projects` tells which projects somebody can choose
    /// for a key.
    pub fn new(keyring: Keyring, projects: impl ProjectDirectory, session: impl PortalSession) -> Self {
        Self {
            keyring,
            projects: Box::new(projects),
            session: Box::new(session),
            title: "API keys".to_owned(),
            account_at: None,
            curl: Vec::new(),
            public_origin: None,
            tickets: CsrfTokens::default(),
            drafts: Drafts::default(),
            nobodys: Semaphore::new(NOBODYS),
            budget: Budget::new(CAP, MAX_FORM_LEN),
        }
    }

    /// What stands at the top of every page: the name of your API. The default is `API keys`.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Where people find their account, and can sign out: their name becomes a link to it.
    pub fn account_at(mut self, address: impl Into<String>) -> Self {
        self.account_at = Some(address.into());
        self
    }

    /// Shows this command line under a new key: add one for each scheme that your API reads.
    pub fn curl(mut self, line: Curl) -> Self {
        self.curl.push(line);
        self
    }

    /// The origin at which browsers see the portal, such as `https://keys.example.com`; by default what `Host` says,
    /// and either scheme.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Link`] if that is no origin: a scheme, a host, and a port if it is not the scheme's own.
    pub fn public_origin(mut self, origin: impl Into<String>) -> Result<Self, ConfigError> {
        let origin = origin.into();
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(ConfigError::Link(origin));
        }
        self.public_origin = Some(origin.to_ascii_lowercase());
        Ok(self)
    }
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("keyring", &self.keyring)
            .field("title", &self.title)
            .field("public_origin", &self.public_origin)
            .finish_non_exhaustive()
    }
}
